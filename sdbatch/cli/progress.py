"""How a run shows itself: a bar on a terminal, a plain line every few seconds elsewhere.

With `--log-format json` the same lines come as JSON objects, for collectors of logs. All of
it goes to stderr, so that stdout stays free for `--json`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from sdbatch.cli.answer import answer
from sdbatch.credentials import redact
from sdbatch.engine.events import Progress
from sdbatch.engine.model_fetch import Fetching
from sdbatch.engine.run import Reporter
from sdbatch.render.weights.fetching import as_bytes

LOG_FORMATS = ("text", "json")
PLAIN_EVERY_S = 5.0
RATE_WINDOW_S = 30.0

log_format_option = click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    default="text",
    help="Lines on stderr for people, or one JSON object each for collectors.",
)


class Rate:
    """Pictures a second over the last half minute, from cumulative counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._points: list[tuple[float, int]] = []

    def add(self, done: int) -> float:
        """Take a count into account; returns pictures a second, 0 while unknown."""
        now = self._clock()
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[1][0] > RATE_WINDOW_S:
            self._points.pop(0)
        (first, before), (last, after) = self._points[0], self._points[-1]
        return (after - before) / (last - first) if last > first else 0.0


class FetchRate:
    """Bytes a second of a fetch, over the last half minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._rate, self._model = clock, Rate(clock), ""

    def add(self, fetching: Fetching) -> float:
        """Take a count into account; returns bytes a second, 0 while unknown."""
        if fetching.model != self._model:
            self._model, self._rate = fetching.model, Rate(self._clock)
        return self._rate.add(fetching.done_bytes)


def fetched_text(fetching: Fetching, rate: float) -> str:
    """`1.2 GB of 4.3 GB 28% 53.1 MB/s here 12:03:11`."""
    done, total = fetching.done_bytes, fetching.total_bytes
    share = 100 * done / max(total, 1)
    here = finish_time(total - done, rate)
    return f"{as_bytes(done)} of {as_bytes(total)} {share:.0f}% {as_bytes(int(rate))}/s here {here}"


class Count(MofNCompleteColumn):
    """Pictures as `3/20`, bytes as `1.2 GB/4.3 GB`."""

    def render(self, task: Task) -> Text:
        """The column of one task."""
        if not task.fields.get("bytes"):
            return super().render(task)
        done, total = as_bytes(int(task.completed)), as_bytes(int(task.total or 0))
        return Text(f"{done}/{total}", style="progress.download")


def finish_time(left: int, rate: float, now: datetime | None = None) -> str:
    """When the run will be done, as a local clock time; `-` while unknown."""
    if rate <= 0 or left == 0:
        return "-"
    end = (now or datetime.now(UTC).astimezone()) + timedelta(seconds=left / rate)
    days = (end.date() - (now or datetime.now(UTC).astimezone()).date()).days
    return f"{end:%H:%M:%S}" if days == 0 else f"{end:%a %H:%M}" if days < 7 else f"{end:%d %b}"


def end_of(progress: Progress, rate: float) -> str:
    """When the run will be done; `-` while the store fails and nothing is sure."""
    left = progress.images - progress.done - progress.finished
    return "-" if progress.paused else finish_time(left, rate)


def phases(progress: Progress) -> str:
    """What the workers are at, in a few words."""
    if progress.workers_up == 0:
        return "starting workers" if progress.done < progress.images else "closing"
    return f"{progress.workers_up}/{progress.workers_wanted} workers, {progress.in_flight} drawing"


class PlainReporter:
    """One log line every few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._rate = clock, Rate(clock)
        self._shown_at = float("-inf")
        self._shown = -1
        self._fetch, self._fetch_shown_at = FetchRate(clock), clock()

    def note(self, line: str) -> None:
        """Show one line."""
        click.echo(redact(line), err=True)

    def progress(self, progress: Progress) -> None:
        """Show where the run stands, when it is time and something has changed."""
        done = progress.done + progress.finished
        if progress.workers_up == 0:
            return  # start-up is no part of the rate
        rate = self._rate.add(done)
        now = self._clock()
        if done == self._shown:
            return
        if now - self._shown_at < PLAIN_EVERY_S and done < progress.images:
            return
        self._shown_at, self._shown = now, done
        share = 100 * done / max(progress.images, 1)
        click.echo(
            f"progress {done}/{progress.images} {share:.1f}% {rate:.1f} img/s "
            f"eta {end_of(progress, rate)} failed {progress.failed} "
            f"shards {progress.shards_done}/{progress.shards} {phases(progress)}",
            err=True,
        )

    def fetching(self, fetching: Fetching) -> None:
        """Show how far a model has come, every few seconds."""
        rate = self._fetch.add(fetching)
        now = self._clock()
        if now - self._fetch_shown_at < PLAIN_EVERY_S:
            return
        self._fetch_shown_at = now
        click.echo(f"fetching {fetching.model} {fetched_text(fetching, rate)}", err=True)


class JsonReporter:
    """The lines of `PlainReporter`, one JSON object each: {at, level, event, message, ...}."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._rate = clock, Rate(clock)
        self._shown_at, self._shown = float("-inf"), -1
        self._fetch, self._fetch_shown_at = FetchRate(clock), clock()

    def note(self, line: str) -> None:
        """Show one line."""
        json_line("note", line)

    def progress(self, progress: Progress) -> None:
        """Show where the run stands, when it is time and something has changed."""
        done = progress.done + progress.finished
        rate = self._rate.add(done) if progress.workers_up else 0.0
        now = self._clock()
        at_end = done == progress.images and self._shown != done
        if done == self._shown or (now - self._shown_at < PLAIN_EVERY_S and not at_end):
            return
        self._shown_at, self._shown = now, done
        json_line("progress", **asdict(progress), images_per_s=round(rate, 3))

    def fetching(self, fetching: Fetching) -> None:
        """Show how far a model has come, every few seconds."""
        rate = self._fetch.add(fetching)
        now = self._clock()
        if now - self._fetch_shown_at >= PLAIN_EVERY_S:
            self._fetch_shown_at = now
            json_line("fetching", **asdict(fetching), bytes_per_s=round(rate))


def json_line(event: str, message: str = "", level: str = "info", **facts: Any) -> None:
    """Write one JSON object to stderr."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    said = {"message": message} if message else {}
    body = {"at": at, "level": level, "event": event, **said, **facts}
    click.echo(answer(body), err=True)


class BarReporter:
    """A rich bar on stderr."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._rate = bar, Rate()
        self._task = bar.add_task("", total=None, rate="", eta="", failed="", phase="starting")
        self._fetch = FetchRate()
        self._fetch_task: TaskID | None = None

    def note(self, line: str) -> None:
        """Show one line above the bar."""
        self._bar.console.print(redact(line), highlight=False, markup=False, soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """Move the bar."""
        done = progress.done + progress.finished
        rate = self._rate.add(done) if progress.workers_up else 0.0
        self._bar.update(
            self._task,
            completed=done,
            total=progress.images,
            rate=f"{rate:.1f} img/s",
            eta=f"ends {end_of(progress, rate)}",
            failed=f"failed {progress.failed}",
            phase=phases(progress),
        )

    def fetching(self, fetching: Fetching) -> None:
        """Move a bar of bytes, which stands in for that of pictures meanwhile."""
        rate = self._fetch.add(fetching)
        over = fetching.done_bytes >= fetching.total_bytes
        if self._fetch_task is None and not over:
            self._bar.update(self._task, visible=False)
            self._fetch_task = self._bar.add_task(
                "", total=fetching.total_bytes, bytes=True, rate="", eta="", failed="", phase=""
            )
        if self._fetch_task is None:
            return
        self._bar.update(
            self._fetch_task,
            completed=fetching.done_bytes,
            total=fetching.total_bytes,
            rate=f"{as_bytes(int(rate))}/s",
            eta=f"here {finish_time(fetching.total_bytes - fetching.done_bytes, rate)}",
            phase=f"fetching {fetching.model}",
        )
        if over:
            self._bar.remove_task(self._fetch_task)
            self._bar.update(self._task, visible=True)
            self._fetch_task = None


class SilentReporter:
    """Shows nothing."""

    def note(self, line: str) -> None:
        """Drop the line."""

    def progress(self, progress: Progress) -> None:
        """Drop the progress."""


@contextmanager
def reporter(mode: str, log_format: str = "text") -> Iterator[Reporter]:
    """The display for `--progress` (`auto`, `rich`, `plain`, `none`) and `--log-format`."""
    if mode == "none":
        yield SilentReporter()
        return
    if log_format == "json":
        yield JsonReporter()
        return
    if mode == "plain" or (mode == "auto" and not _on_a_terminal()):
        yield PlainReporter()
        return
    columns = (
        BarColumn(bar_width=28),
        Count(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[eta]}"),
        TextColumn("{task.fields[failed]}"),
        TextColumn("{task.fields[phase]}", style="dim"),
    )
    with Bar(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        yield BarReporter(bar)


def _on_a_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
