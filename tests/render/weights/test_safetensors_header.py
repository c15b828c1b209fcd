"""Damaged files are refused in one line before anything is read of them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sdbatch.errors import ModelError
from sdbatch.render.weights.safetensors_header import MAX_HEADER_BYTES, read_header


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "it.safetensors"
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}, path, {"author": "me"})
    return path


def written(folder, header):
    """A file of this header and eight bytes of numbers."""
    path = folder / "written.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"\0" * 8)
    return path


def test_names_shapes_and_metadata_are_read(path):
    header = read_header("it", path)

    assert header.shape("a") == (2, 3)
    assert header.shape("c") == ()
    assert header.metadata == {"author": "me"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_numbers_are_read_in_every_floating_type(tmp_path, dtype):
    save_file({"x": torch.ones(3), "a": torch.tensor([[0.5, -2.0]], dtype=dtype)}, tmp_path / "f")

    assert np.array_equal(read_header("f", tmp_path / "f").numbers("a"), [[0.5, -2.0]])


def test_numbers_that_numpy_lacks_are_none(tmp_path):
    save_file({"a": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "f")

    assert read_header("f", tmp_path / "f").numbers("a") is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"just some words, no weights", "is no safetensors file"),
        (b"abc", "is no safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"PK\x03\x04" + b"\0" * 40, "is a pickle under another name"),
        ((10**6).to_bytes(8, "little") + b"{}", "is cut off: its header alone has 1,000,000"),
        ((2).to_bytes(8, "little") + b"[]", "has a damaged header"),
        ((2).to_bytes(8, "little") + b"{x", "has a damaged header"),
        ((2).to_bytes(8, "little") + b"{}", "holds no tensors"),
        (b"\xff" * 7 + b"\x7f" + b"{}", "is no safetensors file"),
        ((24).to_bytes(8, "little") + b'{"__metadata__":["what"]}'[:24], "has a damaged header"),
    ],
)
def test_what_is_no_safetensors_is_said_in_one_line(tmp_path, content, fault):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=fault) as caught:
        read_header("bad", path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offsets", [[4, 0], [-1, 4], ["a", 4], [0]])
def test_a_header_with_impossible_places_is_damaged(tmp_path, offsets):
    entry = {"a": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}

    with pytest.raises(ModelError, match="damaged header"):
        read_header("bad", written(tmp_path, json.dumps(entry)))


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}',
        '{"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}',
        '{"dtype": "F8_E4M3", "shape": [-8], "data_offsets": [0, 8]}',
        '{"dtype": "F32", "shape": [1e999], "data_offsets": [0, 8]}',
    ],
)
def test_a_shape_that_its_bytes_do_not_fit_is_damaged(tmp_path, entry):
    path = written(tmp_path, f'{{"a": {entry}}}')

    with pytest.raises(ModelError, match="damaged header"):
        read_header("bad", path)


def test_a_tensor_that_is_named_twice_is_damaged(tmp_path):
    entry = '{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'

    with pytest.raises(ModelError, match="damaged header"):
        read_header("bad", written(tmp_path, f'{{"a": {entry}, "a": {entry}}}'))
    assert read_header("good", written(tmp_path, f'{{"a": {entry}}}')).shape("a") == (2,)


def test_a_header_that_is_longer_than_the_library_takes_is_not_read(tmp_path):
    path = tmp_path / "long.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(2 * MAX_HEADER_BYTES)

    with pytest.raises(ModelError, match="is no safetensors file"):
        read_header("long", path)


def test_a_file_that_is_cut_off_is_refused_with_both_sizes(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])

    with pytest.raises(ModelError, match=f"it has {len(whole) - 5:,} of {len(whole):,} bytes"):
        read_header("it", path)


def test_a_directory_and_a_file_that_is_gone_are_refused(tmp_path):
    with pytest.raises(ModelError, match="directory"):
        read_header("it", tmp_path)
    with pytest.raises(ModelError, match="No such file"):
        read_header("it", tmp_path / "gone")
