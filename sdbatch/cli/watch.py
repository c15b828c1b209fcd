"""`sdbatch status --watch`: a run as it goes on, until it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from sdbatch.audit.status import Status
from sdbatch.audit.status_text import describe
from sdbatch.audit.watching import Watch
from sdbatch.cli.answer import answer
from sdbatch.credentials import redact

EVERY_S = 2.0


def watch(
    watched: Watch, as_json: bool = False, pause: Callable[[float], None] = time.sleep
) -> Status:
    """Show a run every few seconds until nobody works on it; returns how it stands then.

    A terminal shows one picture that changes; elsewhere every change is a line. An interrupt
    ends the watching, not the run.
    """
    if as_json or not sys.stdout.isatty():
        return _watch_lines(watched, as_json, pause)
    with Live(console=Console(), auto_refresh=False) as live:
        status = watched.look()
        try:
            while True:
                live.update(picture(status), refresh=True)
                if watched.ended:
                    return status
                pause(EVERY_S)
                status = watched.look()
        except KeyboardInterrupt:
            return status


def picture(status: Status) -> Group:
    """A status for a terminal: its lines, and a bar."""
    bar = ProgressBar(total=max(status.images, 1), completed=status.images_done, width=60)
    return Group(Text(redact(describe(status))), bar)


def line(status: Status) -> str:
    """A status in one line."""
    parts = [
        f"{status.state.replace('_', ' ')} {status.images_done:,}/{status.images:,} images",
        f"{status.shards_done:,}/{status.shards:,} shards",
        f"failed {status.failed:,}",
    ]
    if status.images_per_s and status.state == "running":
        parts.append(f"{status.images_per_s:.2f} images/s")
    if status.eta:
        parts.append(f"eta {status.eta}")
    if status.paused:
        parts.append(f"paused: {status.paused}")
    return ", ".join(parts)


def _watch_lines(watched: Watch, as_json: bool, pause: Callable[[float], None]) -> Status:
    shown: tuple[object, ...] = ()
    status = watched.look()
    try:
        while True:
            told = (status.state, status.images_done, status.failed, status.paused)
            if told != shown:
                text = answer(status.to_json()) if as_json else redact(line(status))
                click.echo(text)
                shown = told
            if watched.ended:
                break
            pause(EVERY_S)
            status = watched.look()
    except KeyboardInterrupt:
        return status
    if not as_json:
        click.echo(redact(describe(status)))
    return status
