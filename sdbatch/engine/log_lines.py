"""Which moments of a run become lines of the driver's log, and in which words.

`line_of` is a table: event or command in, line out. `RunLog` listens where the engine
speaks and keeps the log open from the engine's start to the run's end, whatever that is.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from sdbatch.dataset.columns import installed_version
from sdbatch.engine.driver_loop import EngineInput
from sdbatch.engine.events import (
    Abandon,
    Assign,
    Command,
    Drain,
    Event,
    Kill,
    LeaseReturned,
    ShardDone,
    ShardFailed,
    Share,
    StopRequested,
    WorkerDied,
    WorkerReady,
)
from sdbatch.engine.log_file import LogFile
from sdbatch.engine.summary import Summary
from sdbatch.errors import SdbatchError
from sdbatch.records import RunSpec
from sdbatch.storage.store import Store

WRITER = "driver"
_EVENT_NOTE = re.compile(r"(shard \d{5} failed on|w\d+ (died|failed|was taken away|is ended))\b")
"""Notes that repeat an event, which is written down with its facts."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log, before it has a time."""

    event: str
    message: str
    level: str = "info"
    facts: Mapping[str, Any] = field(default_factory=dict)


def line_of(said: Event | Command) -> Line | None:
    """The line for something that workers said or were told; None for what is too frequent."""
    match said:
        case WorkerReady():
            return _ready(said)
        case WorkerDied():
            return _died(said)
        case ShardDone():
            return _done(said)
        case ShardFailed():
            return _failed(said)
        case LeaseReturned(worker, shard):
            facts = {"worker": worker, "shard": shard}
            return Line("lease_returned", f"{worker} gives shard {shard:05d} back", "debug", facts)
        case StopRequested(reason):
            return Line("stop_requested", reason, "warning")
        case Assign(worker, lease):
            shard = lease.shard.shard_id
            facts = {"worker": worker, "shard": shard, "attempt": lease.attempt}
            facts |= {"care": lease.care} if lease.care else {}
            facts |= {"revision": lease.revision} if lease.revision else {}
            return Line("lease", f"shard {shard:05d} to {worker}", "debug", facts)
        case Drain(worker):
            return Line("drain", f"{worker} is drained", facts={"worker": worker})
        case Kill(worker, reason):
            return _ended(worker, reason)
        case Share(worker, shard) | Abandon(worker, shard):
            event, word = (
                type(said).__name__.lower(),
                "shares" if isinstance(said, Share) else "drops",
            )
            facts = {"worker": worker, "shard": shard}
            return Line(event, f"{worker} {word} shard {shard:05d}", "debug", facts)
        case _:
            return None


class RunLog:
    """The driver's log of one call of the engine; does nothing until there is one."""

    def __init__(self, store: Store, run: str) -> None:
        self._store, self._run = store, run
        self._log: LogFile | None = None
        self._attempts: dict[tuple[str, int], int] = {}  # of leases that are out

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._log is None:
            return
        if error is not None:
            code = error.exit_code if isinstance(error, SdbatchError) else 1
            facts = {"exit_code": code, "error_type": type(error).__name__}
            self._log.say("run_ended", str(error), "error", **facts)
        self._log.close()

    def listening(self, run: EngineInput) -> EngineInput:
        """The same input, with hooks that write down before they pass on; opens the log."""
        if self._log is not None:
            self._log.close()  # of an engine call before this one
        self._log = LogFile(self._store, self._run, run.token, WRITER)
        self._say(_started(run))

        def on_event(event: Event) -> None:
            self._tell(event)
            run.on_event(event)

        def on_command(command: Command) -> None:
            self._tell(command)
            run.on_command(command)

        def on_note(line: str) -> None:
            if not _EVENT_NOTE.match(line):
                self._say(Line("note", line))
            run.on_note(line)

        def settle(ready: WorkerReady) -> RunSpec:
            spec = run.settle(ready)
            self._say(_settled(spec, ready))
            return spec

        return replace(
            run, on_event=on_event, on_command=on_command, on_note=on_note, settle=settle
        )

    def ended(self, summary: Summary) -> Summary:
        """Write down how the run ended; gives the summary back."""
        failed = f", {summary.failed:,} failed" if summary.failed else ""
        done = f"{summary.done:,} of {summary.images:,} images done{failed}"
        message = f"{done}: {summary.reason}" if summary.reason else done
        names = ("success", "failed", "filtered", "exit_code", "seconds", "images_per_s", "workers")
        facts = {name: getattr(summary, name) for name in names}
        level = "info" if summary.exit_code == 0 else "warning"
        self._say(Line("run_ended", message, level, facts))
        return summary

    def _tell(self, said: Event | Command) -> None:
        line = line_of(said)
        if line is None:
            return
        facts = dict(line.facts)
        lease = (str(facts.get("worker")), facts.get("shard", -1))
        if isinstance(said, Assign):
            self._attempts[lease] = said.lease.attempt
        elif lease in self._attempts:
            facts["attempt"] = self._attempts.pop(lease)
        self._say(replace(line, facts=facts))

    def _say(self, line: Line) -> None:
        if self._log is not None:
            self._log.say(line.event, line.message, line.level, **line.facts)


def _started(run: EngineInput) -> Line:
    left = run.images_total - run.images_done
    message = f"{left:,} of {run.images_total:,} images in {len(run.shards):,} shards to draw"
    facts = {
        "output": run.output,
        "model": run.render.model,
        "model_revision": run.render.model_revision,
        "dtype": run.render.dtype,
        "workers": run.workers,
        "wait_s": run.wait_s,
        "retries": run.retries,
        "stop_after": run.stop_after,
        "images_done": run.images_done,
        "shards": run.shards_total,
        "shards_done": run.shards_done,
        "sdbatch_version": installed_version(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    return Line("run_started", message, facts=facts)


def _settled(spec: RunSpec, ready: WorkerReady) -> Line:
    facts = {
        "plan_id": spec.plan_id,
        "device": ready.env.device_name,
        "dtype": spec.render.dtype,
        "lanes": dict(spec.render.lanes),
        "steps": spec.defaults.num_inference_steps,
        "guidance_scale": spec.defaults.guidance_scale,
        "scheduler": spec.defaults.scheduler,
        "seed": spec.seed,
    }
    return Line("settled", f"plan {spec.plan_id[:12]} on {ready.env.device_name}", facts=facts)


def _ready(said: WorkerReady) -> Line:
    facts = {
        "worker": said.worker,
        "node": said.node,
        "device": said.env.device_name,
        "dtype": said.env.dtype,
        "load_s": round(said.load_seconds, 3),
        "notes": list(said.notes) or None,
    }
    return Line("worker_ready", f"{said.worker} on {said.node} is ready", facts=facts)


def _died(said: WorkerDied) -> Line:
    event = "worker_failed_to_start" if said.init_failed else "worker_died"
    facts = {"worker": said.worker, "preempted": said.preempted, "exit_code": said.exit_code}
    level = "info" if said.preempted else "warning"
    return Line(event, f"{said.worker}: {said.message}", level, facts)


def _ended(worker: str, reason: str) -> Line:
    if not reason:
        return Line("kill", f"{worker} is needed no longer", facts={"worker": worker})
    return Line("kill", f"{worker} is ended: {reason}", "warning", {"worker": worker})


def _done(said: ShardDone) -> Line:
    facts = {
        "shard": said.shard_id,
        "worker": said.worker,
        "success": said.success,
        "failed": said.failed,
        "filtered": said.filtered or None,
        "won": None if said.won else False,
    }
    by = "committed" if said.won else "committed already, by another attempt"
    failed = f", {said.failed:,} failed" if said.failed else ""
    message = f"shard {said.shard_id:05d} {by}: {said.success:,} success{failed}"
    return Line("shard_committed", message, facts=facts)


def _failed(said: ShardFailed) -> Line:
    facts = {
        "shard": said.shard_id if said.shard_id >= 0 else None,
        "worker": said.worker,
        "error_type": said.error_type,
        "exit_code": said.exit_code,
        "retryable": said.retryable,
        "worker_unfit": said.worker_unfit or None,
    }
    return Line("shard_failed", said.message, "warning", facts)
