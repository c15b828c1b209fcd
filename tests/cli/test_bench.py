"""`sdbatch bench` at the door: figures on stdout, the way there on stderr."""

import json

import pytest

from sdbatch.cli.main import main

QUICK = ["--rows", "2", "--steps", "2", "--size", "32x32", "--batch-size", "4", "--rounds", "1"]


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["bench", *words])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.mark.render
def test_json_stands_alone_on_stdout(capsys):
    code, out, err = run(capsys, "--arch", "shapes", "--random-weights", "--json", *QUICK)

    assert code == 0
    assert json.loads(out)["lanes"] == 4
    assert "round 1 of 1" in err


@pytest.mark.render
def test_lines_say_what_was_measured(capsys):
    code, out, _ = run(capsys, "--dtype", "bfloat16", *QUICK)

    assert code == 0
    assert "shapes (its own weights), 32x32, 2 steps" in out
    assert "measured here" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arch", "flux", "--random-weights"], "its shapes do not ship"),
        (["--arch", "sd15"], "add --random-weights"),
        (["--model", "nosuch"], "neither known nor a diffusers folder"),
    ],
)
def test_what_cannot_be_measured_ends_with_one_line_and_code_2(capsys, words, said):
    code, out, err = run(capsys, *words)

    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
