"""`sdbatch trace` as a person meets it."""

import json

import pytest

from tests.cli.test_main import run


@pytest.mark.parametrize(
    ("args", "right"),
    [
        (["trace"], "Missing argument 'PROMPT_OR_KEY'"),
        (["trace", "a star", "--model", "fake"], "draws without latents"),
        (["trace", "a star", "--frames", "0"], "--frames"),
        (["trace", "a star", "--size", "big", "--model", "fake"], "512x768"),
        (["trace", "000000001_000"], "--from"),
        (["trace", "1", "--from", "nowhere"], "holds no run"),
        (["trace", "1", "--from", "nowhere", "--steps", "4"], "--steps: 1 is drawn as it was"),
    ],
    ids=" ".join,
)
def test_bad_input_gets_one_line_and_exit_2(args, right, tmp_path):
    done = run(*args, cwd=tmp_path)

    assert done.returncode == 2, done.stderr
    assert right in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.render
def test_a_strip_is_drawn_where_it_was_asked_for(tmp_path):
    done = run(
        "trace", "a red star", "--steps", "3", "--size", "32x32", "--seed", "7", "--out", "s.png",
        "--json", cwd=tmp_path,
    )  # fmt: skip

    body = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s.png").stat().st_size > 10_000
    assert body["row"]["seed"] == 7
    assert [frame["call"] for frame in body["frames"]] == [1, 2, 3]
