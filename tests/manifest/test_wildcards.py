"""Folders of wildcard files: names, values, and what is refused."""

import json

import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.templates import expand
from sdbatch.manifest.wildcards import WildcardFolder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "animals").mkdir()
    (tmp_path / "animals" / "dogs.txt").write_bytes(
        b"\xef\xbb\xbf pug \r\n\r\n# no\r\n2::husky\r\n"
    )
    (tmp_path / "colors.yaml").write_text("warm:\n  - red\n  - {a: [x]}\ncold: [blue, 'on', 7]\n")
    (tmp_path / "light.json").write_text(json.dumps(["dawn", "dusk"]))
    (tmp_path / "animals" / "cats.json").write_text(json.dumps({"big": {"wild": ["lion"]}}))
    (tmp_path / "notes.md").write_text("not a wildcard")
    return tmp_path


def values(folder, name):
    return [line.text for line in WildcardFolder(folder).lines(name)]


def test_names_are_paths_and_keys(folder):
    names = ["animals/big/wild", "animals/dogs", "cold", "light", "warm", "warm/a"]

    assert WildcardFolder(folder).names() == names


def test_values_come_in_the_order_of_their_file(folder):
    assert values(folder, "animals/dogs") == ["pug", "2::husky"]
    assert values(folder, "cold") == ["blue", "on", "7"]
    assert values(folder, "light") == ["dawn", "dusk"]


def test_templates_read_all_kinds_and_patterns(folder):
    made = expand("__light__ __animals/**__", wildcards=WildcardFolder(folder)).to_table()

    assert made["prompt"].to_pylist()[:3] == ["dawn lion", "dawn pug", "dawn husky"]


def test_an_error_in_a_file_names_file_line_and_column(folder):
    (folder / "bad.txt").write_text("fine\n  a {b\n")
    with pytest.raises(ManifestError, match=r"bad\.txt, line 2, column 3: '\{' is never closed"):
        expand("__bad__", wildcards=WildcardFolder(folder))

    (folder / "worse.yaml").write_text("k:\n  - fine\n  - a }\n")
    with pytest.raises(ManifestError, match=r"worse\.yaml, line 3, column 3"):
        expand("__k__", wildcards=WildcardFolder(folder))


def test_one_name_in_two_files_is_refused(folder):
    (folder / "cold.txt").write_text("ice\n")

    with pytest.raises(ManifestError, match="'cold' stands in"):
        WildcardFolder(folder)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.yaml", b"a: [1, 2"),
        ("a.yaml", b"\xff\xfe"),
        ("a.yaml", b"&a [*a]"),
        ("a.yaml", b"? [x]\n: [y]"),
        ("a.yaml", b"a: \x00"),
        ("a.json", b"{"),
        ("a.json", b"[" * 100_000),
        ("a.json", b'{"a":' * 50 + b"1" + b"}" * 50),
        ("a.txt", b"caf\xe9\n"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)

    with pytest.raises(ManifestError, match=name):
        expand("__a__", wildcards=WildcardFolder(tmp_path))


def test_a_bomb_of_anchors_ends_soon(tmp_path):
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))

    with pytest.raises(ManifestError, match="more than 1,000,000 values"):
        WildcardFolder(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="is no folder"):
        WildcardFolder(tmp_path / "gone")
