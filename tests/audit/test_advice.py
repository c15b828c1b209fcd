"""What is advised can be run, and never where it cannot help."""

import inspect
import shlex

import pytest

from sdbatch import errors
from sdbatch.audit.advice import _KINDS, advice_for
from sdbatch.cli.retry import command as retry


@pytest.mark.parametrize("error_type", [*_KINDS, "SomethingNew", "it's odd"])
def test_every_command_is_one_that_exists_with_its_flags(error_type):
    advice, command = advice_for(error_type, "out dir/night's")
    flags = {flag for param in retry.params for flag in param.opts}
    words = shlex.split(command)

    assert advice
    assert "{out}" not in advice
    assert words == [] or words[:3] == ["sdbatch", "retry", "out dir/night's"]
    assert {word for word in words if word.startswith("--")} <= flags
    if words:
        retry.make_context("retry", words[2:])


def test_what_the_seed_makes_fail_gets_another_seed_and_what_the_row_asks_for_no_retry():
    assert "--reseed" in advice_for("NonFiniteError", "o")[1]
    assert "--reseed" not in advice_for("DeviceMemoryError", "o")[1]
    assert advice_for("ManifestError", "o")[1] == ""


def test_our_own_errors_are_spelt_as_they_are_called():
    ours = {name for name, value in vars(errors).items() if inspect.isclass(value)}

    assert set(_KINDS) - ours == {"OutOfMemoryError", "MemoryError", "WorkerKilled"}
