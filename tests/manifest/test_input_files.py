import fsspec
import pyarrow as pa
import pytest

from sdbatch.manifest.input_files import InputFiles


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b c.png"):
        (tmp_path / name).write_bytes(b"x")
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
        "rows, row 41, column 'image': /no/b.png: no such file, correct the path or remove the row"
    )
