import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbatch.errors import InputError
from sdbatch.manifest.reader import open_manifest
from sdbatch.manifest.split import split_parts, split_shares


@pytest.fixture
def rows(write):
    def _rows(count):
        return open_manifest(write({"prompt": [f"p{i}" for i in range(count)]}))

    return _rows


def prompts(path):
    return pq.read_table(path)["prompt"].to_pylist()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20
)
@given(count=st.integers(1, 60), parts=st.integers(1, 60))
def test_parts_are_consecutive_and_of_equal_length(rows, tmp_path, count, parts):
    parts = min(parts, count)
    written = split_parts(rows(count), tmp_path / "out", parts, overwrite=True)

    assert max(written.values()) - min(written.values()) <= 1
    found = [prompt for name in sorted(written) for prompt in prompts(tmp_path / "out" / name)]
    assert found == [f"p{i}" for i in range(count)]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20
)
@given(count=st.integers(2, 300), share=st.floats(0.05, 0.95), seed=st.integers(0, 2**40))
def test_shares_are_exact_and_disjoint_and_keep_the_order(rows, tmp_path, count, share, seed):
    manifest = rows(count)
    shares = {"train": share, "val": 1 - share}
    written = split_shares(manifest, tmp_path / "out", shares, seed=seed, overwrite=True)
    train, val = (prompts(tmp_path / "out" / f"{name}.parquet") for name in shares)

    assert written == {"train.parquet": round(count * share), "val.parquet": len(val)}
    assert len(train) + len(val) == count
    assert sorted([*train, *val]) == sorted(f"p{i}" for i in range(count))
    assert train == sorted(train, key=lambda text: int(text[1:]))


def test_another_seed_chooses_other_rows(rows, tmp_path):
    manifest, shares = rows(200), {"train": 0.5, "val": 0.5}
    for seed in (1, 2):
        split_shares(manifest, tmp_path / str(seed), shares, seed=seed)

    first, second = (prompts(tmp_path / seed / "train.parquet") for seed in "12")
    assert len(first) == len(second) == 100
    assert first != second


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"train": 0.9}, "must be 1 together"),
        ({"train": 0.9, "val": 0.2}, "must be 1 together"),
        ({"train": 1.5, "val": -0.5}, "between 0 and 1"),
        ({"../x": 0.5, "val": 0.5}, "letters, digits"),
    ],
)
def test_shares_that_make_no_sense_are_refused(rows, tmp_path, shares, words):
    with pytest.raises(InputError, match=words):
        split_shares(rows(10), tmp_path / "out", shares)


def test_more_parts_than_rows_are_refused(rows, tmp_path):
    with pytest.raises(InputError, match="from 1 to 3"):
        split_parts(rows(3), tmp_path / "out", 4)


def test_nothing_is_written_beside_a_file_that_is_there(rows, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "val.parquet").write_bytes(b"mine")

    with pytest.raises(InputError, match="--overwrite"):
        split_shares(rows(10), tmp_path / "out", {"train": 0.5, "val": 0.5})

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["val.parquet"]
