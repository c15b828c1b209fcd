"""Sources on other machines are read like local ones, and named as they were given."""

import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image, PngImagePlugin

from sdbatch.cli.manifest_build import command as build
from sdbatch.cli.manifest_import import command as import_command
from sdbatch.errors import ManifestError
from sdbatch.manifest.importers.kinds import read_source
from sdbatch.manifest.local_copy import local_copy
from sdbatch.manifest.template_files import names_remote_file

TEXT = "a fox\nSteps: 9, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 8x8"


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    store.rm("/src", recursive=True) if store.exists("/src") else None
    return store


@pytest.fixture
def server(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    (tmp_path / "www").mkdir()
    handler = partial(Quiet, directory=tmp_path / "www")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield tmp_path / "www", f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def rows(source, folder, *how):
    read = read_source(source, str(folder), *how)
    return pa.concat_tables(read).to_pylist()


def png(text):
    info, sink = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(sink, "PNG", pnginfo=info)
    return sink.getvalue()


def test_a_file_of_a_store_is_imported_by_its_name(memory, tmp_path):
    memory.pipe("/src/info.txt", TEXT.encode())

    (row,) = rows("memory://src/info.txt", tmp_path)
    assert (row["prompt"], row["seed"]) == ("a fox", 5)


def test_a_folder_of_pictures_is_imported_and_points_where_they_lie(memory, tmp_path):
    memory.pipe("/src/pictures/sub/a.png", png(TEXT))
    memory.pipe("/src/pictures/b.png", png(TEXT))

    found = rows("memory://src/pictures", tmp_path)
    assert [row["source_file"] for row in found] == ["b.png", "sub/a.png"]
    tasks = rows("memory://src/pictures/", tmp_path, "image2image")
    assert [row["image"] for row in tasks] == [
        "memory://src/pictures/b.png",
        "memory://src/pictures/sub/a.png",
    ]


def test_a_file_of_a_server_is_imported(server, tmp_path):
    folder, url = server
    (folder / "kohya.txt").write_text("a fox --w 64 --h 32\n")

    assert rows(f"{url}/kohya.txt", tmp_path)[0]["width"] == 64
    with pytest.raises(ManifestError, match=rf"{url}/none\.txt: no such file"):
        rows(f"{url}/none.txt", tmp_path)


def test_errors_name_the_url_and_nothing_is_left(memory, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    memory.pipe("/src/bad.jsonl", b"{")

    with pytest.raises(ManifestError) as caught:
        rows("memory://src/bad.jsonl", tmp_path, "geneval")
    assert str(caught.value).startswith("memory://src/bad.jsonl, line 1: is no JSON object")
    assert str(tmp_path) not in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("sdbatch-copy-")]


def test_names_that_lead_out_of_a_folder_are_not_followed(memory, tmp_path):
    memory.store["/src/out/../../evil.txt"] = memory.open("/src/out/x.txt", "wb")
    memory.pipe("/src/out/x.txt", b"x")

    with local_copy("memory://src/out") as copy:
        assert copy.path.endswith("/out")
    del memory.store["/src/out/../../evil.txt"]


def test_local_sources_stay_where_they_are(tmp_path):
    with local_copy(str(tmp_path)) as copy, local_copy(f"file://{tmp_path}") as same:
        assert copy.path == same.path == str(tmp_path)


@pytest.mark.parametrize("text", ["a fox at http://host/{a|b}", "http://host a fox", "{a|b}"])
def test_a_template_is_no_url(text):
    assert not names_remote_file(text)


def test_the_commands_take_urls(memory, tmp_path):
    memory.pipe("/src/t.txt", b"a __animal__\n")
    memory.pipe("/src/words/animal.txt", b"fox\nowl\n")
    memory.pipe("/src/k.txt", b"a fox --w 64 --h 32\n")
    made, imported = str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")
    built = CliRunner().invoke(
        build, ["memory://src/t.txt", made, "--wildcards", "memory://src/words"],
        standalone_mode=False, catch_exceptions=False,
    )  # fmt: skip
    read = CliRunner().invoke(
        import_command, ["memory://src/k.txt", imported], standalone_mode=False,
        catch_exceptions=False,
    )  # fmt: skip

    assert "2 rows" in built.output
    assert "1 rows from kohya" in read.output
