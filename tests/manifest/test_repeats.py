import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.manifest.repeats import Repeats


def digest(value):
    return value.to_bytes(8, "little") + bytes(8)


@settings(deadline=None, max_examples=40)
@given(values=st.lists(st.integers(0, 300), max_size=60), batch=st.integers(1, 25))
def test_repeats_are_found_across_batches_and_partitions(values, batch):
    with Repeats() as repeats:
        for start in range(0, len(values), batch):
            part = values[start : start + batch]
            repeats.add([digest(value) for value in part], np.arange(start, start + len(part)))
        found = {
            (int(row), int(first), int(number))
            for triple in repeats.found()
            for row, first, number in zip(*triple, strict=True)
        }

    assert found == {
        (row, values.index(value), values[:row].count(value))
        for row, value in enumerate(values)
        if value in values[:row]
    }


def test_hashes_that_differ_in_one_half_are_different():
    with Repeats() as repeats:
        repeats.add([bytes(16), bytes(8) + b"12345678", b"\0" * 15 + b"x"], np.arange(3))

        assert all(rows.size == 0 for rows, _, _ in repeats.found())


def test_nothing_lies_in_the_temporary_folder_that_a_killed_process_could_leave(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with Repeats() as repeats:
        repeats.add([bytes(16)], np.arange(1))
        during = list(tmp_path.iterdir())
        found = [rows.size for rows, _, _ in repeats.found()]

    assert during == []
    assert found == [0]
