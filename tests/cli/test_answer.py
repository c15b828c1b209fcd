"""No secret leaves by a command: neither for people, nor for machines, nor in a traceback."""

from __future__ import annotations

import json

import pytest

from sdbatch import api
from sdbatch.cli.answer import answer
from sdbatch.cli.main import main

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
OUT = f"s3://{KEY}:{SECRET}@pictures/x"
PARTS = (KEY, "wJalr", "K7MDENG", "bPxRfi", "pa/ss")


def run(*args):
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    return ended.value.code


@pytest.mark.parametrize(
    "args",
    [
        ["render", "m.parquet", OUT, "--json"],
        ["render", "m.parquet", OUT, "--log-format", "json"],
        ["render", f"{OUT}.parquet", "q1", "--json", "--model", "fake"],
        ["render", "https://user:pa/ss@127.0.0.1/x.parquet", "q3", "--model", "fake"],
        ["plan", f"{OUT}.parquet", "--model", "fake"],
        ["status", OUT],
        ["stop", OUT, "--json"],
        ["logs", OUT],
        ["errors", OUT],
        ["verify", OUT],
        ["gc", OUT],
        ["retry", OUT, "--json"],
        ["repair", OUT, "--json"],
    ],
    ids=lambda args: " ".join(args[:1]),
)
def test_a_url_with_a_secret_is_refused_in_one_line_that_does_not_repeat_it(
    args, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)

    assert run(*args) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert [part for part in PARTS if part in said.err + said.out] == []
    if "--json" in args and said.out:
        assert json.loads(said.out)["exit_code"] == 2
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_ours_shows_its_traceback_without_secrets(monkeypatch, capsys):
    def broken(*_args, **_options):
        raise RuntimeError(f"no idea what {OUT} is")

    monkeypatch.setattr(api, "stop", broken)

    assert run("stop", "out") == 1
    said = capsys.readouterr().err
    assert "RuntimeError: no idea what s3://" in said
    assert [part for part in PARTS if part in said] == []


def test_an_answer_is_one_line_of_json_without_secrets():
    line = answer({"reason": f'"token": "{SECRET}", {OUT}', "pictures": 3, "left": [None, OUT]})

    assert "\n" not in line
    assert json.loads(line)["pictures"] == 3
    assert [part for part in PARTS if part in line] == []
