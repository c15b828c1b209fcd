import fsspec
import pyarrow as pa
import pytest

from sdbatch.errors import InputPictureError
from sdbatch.manifest.input_files import InputFiles

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b c.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "sub").mkdir()
    return tmp_path


def column(*values):
    return pa.chunked_array([pa.array(values, pa.string())])


@pytest.mark.parametrize("every_file", [False, True])
def test_files_that_are_not_there_are_marked(folder, every_file):
    values = [f"{folder}/{name}" for name in ("a.png", "x.png", "b c.png", "sub", "no/a.png")]
    marked = InputFiles(every_file=every_file).missing(column(*values, None, "", values[1]))

    assert marked.tolist() == [False, True, False, True, True, False, False, True]


def test_a_folder_is_listed_once_for_all_its_files(monkeypatch):
    memory = fsspec.filesystem("memory")
    for number in range(5):
        memory.pipe(f"/inputs/{number}.png", b"x")
    listed = []
    listing = type(memory).ls

    def ls(self, path, **how):
        listed.append(path)
        return listing(self, path, **how)

    monkeypatch.setattr(type(memory), "ls", ls)
    files = InputFiles()
    names = [f"memory://inputs/{number}.png" for number in range(8)]

    assert files.missing(column(*names)).tolist() == [False] * 5 + [True] * 3
    assert files.missing(column(*names)).sum() == 3
    assert len(listed) == 1


def test_a_folder_that_may_not_be_listed_is_asked_file_by_file(folder, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    def refuse(self, path, **how):
        raise PermissionError(path)

    monkeypatch.setattr(LocalFileSystem, "ls", refuse)

    values = column(f"{folder}/a.png", f"{folder}/x.png")
    assert InputFiles().missing(values).tolist() == [False, True]


def test_a_missing_file_is_a_problem_with_its_row(folder):
    (problem,) = InputFiles().faults("rows", "image", column(f"{folder}/a.png", "/no/b.png"), 40)

    assert str(problem) == (
        "rows, row 41, column 'image': '/no/b.png': "
        "no such file, correct the path or remove the row"
    )


def test_opened_files_must_begin_like_pictures(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 and so on")
    (tmp_path / "b.webp").write_bytes(b"RIFF....WEBPVP8 ")
    (tmp_path / "none.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"<html>")
    values = column(*(f"{tmp_path}/{name}" for name in ("a.jpg", "b.webp", "none.png", "text.png")))
    files = InputFiles(every_file=True)

    said = [(one.row, one.reason) for one in files.faults("rows", "image", values, 0)]

    assert said == [(2, "is an empty file"), (3, "is no PNG, JPEG or WebP picture")]


@pytest.mark.parametrize("value", ["a::b", "x\ny.png", "nosuchscheme://a/b.png"])
def test_what_is_no_path_is_a_problem_of_its_row(value):
    (problem,) = InputFiles().faults("rows", "image", column(value), 3)

    assert problem.row == 3
    assert "\n" not in problem.reason


def test_servers_are_asked_only_when_every_file_is_and_by_the_given_rules():
    asked = []

    def fetch(url):
        asked.append(url)
        if "gone" in url:
            raise InputPictureError(url, "answers 404")
        return PNG

    values = column("https://host/a.png", "https://host/gone.png")

    assert not InputFiles(fetch=fetch).missing(values).any()
    assert InputFiles(every_file=True, fetch=fetch).missing(values).tolist() == [False, True]
    assert asked == ["https://host/a.png", "https://host/gone.png"]
