"""What other programs wrote, with damaged bytes: rows or one clear error, whatever it is."""

import shutil

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbatch.errors import SdbatchError
from sdbatch.manifest.importers.kinds import READERS, read_source
from tests.manifest.damage import CORPUS, damaged, in_time

FILES = sorted((CORPUS / "importers").iterdir())


def kind_of(path):
    return path.stem if path.suffix not in (".png", ".jpg", ".webp") else "pictures"


def read(path, folder):
    """The words of the error; empty where there are rows."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        source = read_source(str(path), str(folder), kind_of(path))
        table = pa.concat_tables(source)
        table.validate(full=True)
    except SdbatchError as error:
        said = str(error)
    else:
        said = ""
        assert table.num_rows == source.num_rows > 0
    assert "\n" not in said, said
    return said


def test_every_form_is_in_the_corpus():
    assert {kind_of(path) for path in FILES} == {*READERS, "pictures"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_corpus_is_sound(path, tmp_path):
    assert read(path, tmp_path / "spool") == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(data=st.data())
def test_damaged_bytes_are_rows_or_one_clear_error(path, tmp_path, data):
    changed = tmp_path / path.name
    changed.write_bytes(data.draw(damaged(path.read_bytes())))
    with in_time():
        read(changed, tmp_path / "spool")
