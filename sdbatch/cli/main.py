"""The door: finds the command, runs it, and alone turns errors into exit codes.

Commands are imported when they are called, so that help answers at once and the
commands that only look at storage never load torch or Ray.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from types import FrameType
from typing import Any

import click

from sdbatch.cli.exit_codes import EXIT_CODES
from sdbatch.cli.lazy import LazyGroup
from sdbatch.credentials import redact
from sdbatch.errors import SdbatchError

COMMANDS = {
    "render": ("Draw", "Draw a manifest of prompts into a dataset; run it again to resume."),
    "stop": ("Draw", "Ask a running render to end in order, from any machine."),
    "retry": ("Draw", "Draw the failed pictures of a dataset again; all others stay."),
    "plan": ("Draw", "Say what a run would do, and draw nothing."),
    "preview": ("Draw", "Draw a few rows of a manifest onto one sheet, and time the rest."),
    "status": ("Look", "Counts, rate, finish time and failures of a run, from storage alone."),
    "errors": ("Look", "What failed and why, in groups, and the command that draws it again."),
    "logs": ("Look", "What the driver and the workers wrote down, by shard, row or worker."),
    "report": ("Look", "One page about a dataset: pictures, numbers, failures and times."),
    "grid": ("Look", "Pictures of a dataset side by side, over two of its columns."),
    "files": (
        "Look",
        "The files of a dataset that are committed so far, for readers during a run.",
    ),
    "bench": ("Look", "Measure a model on this machine: pictures, memory, arithmetic."),
    "manifest": ("Look", "Check, look at and rearrange manifests; what they may ask for."),
    "models": ("Look", "Fetch models before they are needed; which lie here, and where."),
    "score": ("Look", "Let CLIP, SigLIP, aesthetic or safety models judge a dataset's pictures."),
    "replay": ("Look", "Draw pictures of a dataset again and compare them, pixel by pixel."),
    "trace": ("Look", "Show one row from noise to picture, as a strip to look at."),
    "export": ("Keep", "Write a dataset in another form, chosen by rows; later only what is new."),
    "push": ("Keep", "Bring a dataset to the Hugging Face Hub; later only what is new."),
    "verify": ("Keep", "Check a dataset against its records, from counts to single pixels."),
    "repair": ("Keep", "Make damaged shards whole again; what is proven intact stays."),
    "gc": ("Keep", "Delete files of a finished run that no record names."),
}
"""Command to (group, one line); the module of the same name holds it."""

EXAMPLES = """\
\b
Examples:
  sdbatch render --prompt "a small red circle on a blue background" out/first
  sdbatch render manifests/shapes.parquet out/shapes
  sdbatch status out/shapes
"""


@click.command(
    cls=LazyGroup,
    held=COMMANDS,
    prefix="sdbatch.cli.",
    help=EXAMPLES,
    epilog=EXIT_CODES,
    no_args_is_help=True,
)
@click.version_option(version("sdbatch"), prog_name="sdbatch", message="%(prog)s %(version)s")
@click.pass_context
def sdbatch(ctx: click.Context) -> None:
    """Turn manifests of prompts into datasets of pictures."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code of `EXIT_CODES`."""
    given = sys.argv[1:] if argv is None else argv
    before = _hear_sigterm()
    try:
        code = sdbatch.main(args=argv, prog_name="sdbatch", standalone_mode=False)
    except SdbatchError as error:
        code = error.exit_code
        _complain(str(error), code, given)
    except click.ClickException as error:
        code = error.exit_code
        line = " ".join(error.format_message().split())
        _complain(line, code, given)
        if "--json" in given:
            click.echo(json.dumps({"exit_code": code, "reason": redact(line)}))
    except (click.Abort, KeyboardInterrupt):
        code = 75
        _complain("interrupted", code, given)
    except BrokenPipeError:  # the reader of a pipe has gone: nobody is left to tell
        sys.stderr.close()
        code = 0
    except Exception:  # noqa: BLE001  # a fault of ours: shown whole, but for secrets
        code = 1
        click.echo(redact(traceback.format_exc()), err=True)
    code = code if isinstance(code, int) else 0
    if before is not None:
        # A process that is about to end leaves with its code whoever tells it to go once more.
        last = partial(_leave, code) if argv is None else before
        signal.signal(signal.SIGTERM, last)
    sys.exit(code)


def _hear_sigterm() -> Any:
    """End by SIGTERM as by Ctrl-C, scratch folders removed; a run sets handlers of its own.

    Returns the handler that stood before; None outside the main thread, where none can be set.
    """
    if threading.current_thread() is not threading.main_thread():
        return None

    def interrupt(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough: nothing may break the clearing up
        raise KeyboardInterrupt

    return signal.signal(signal.SIGTERM, interrupt)


def _leave(code: int, number: int, _: FrameType | None) -> None:  # noqa: ARG001  # a handler
    os._exit(code)


def _complain(line: str, code: int, given: Sequence[str]) -> None:
    """One line on stderr, in the format that was asked for, secrets out."""
    line = redact(line)
    asked = "--log-format=json" in given or ("--log-format", "json") in pairwise(given)
    if not asked:
        click.echo(f"sdbatch: {line}", err=True)
        return
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    said = {"at": at, "level": "error", "event": "error", "message": line, "exit_code": code}
    click.echo(json.dumps(said), err=True)


if __name__ == "__main__":
    main()
