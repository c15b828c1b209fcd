"""Which engine runs a plan, and with how much: nothing here changes a pixel."""

from __future__ import annotations

import importlib.util
import re
import socket
import sys
from dataclasses import dataclass, field

from sdbatch.engine.run_terms import Limits
from sdbatch.errors import EngineError, InputError, JobError

CONNECT_S = 5.0
_ADDRESS = re.compile(r"auto|[\w.\-\[\]:]+:\d+")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a plan: nothing here changes a pixel.

    Attributes:
        engine: `auto`, `ray` or `inline`.
        address: A running Ray cluster; None starts one on this machine.
        workers: Processes to have at most; None takes what there is room for.
        wait_s: How long to go on with fewer workers than `limits.min_workers`.
        dashboard: Start Ray's dashboard with a local cluster.
        canary: End the run when most of its first pictures are none.
        single_driver: No second driver will ever be started: the store is not probed.
        limits: When it ends early, and what it may do at its tail.
    """

    engine: str = "auto"
    address: str | None = None
    workers: int | None = None
    wait_s: float = 1800.0
    dashboard: bool = False
    canary: bool = True
    single_driver: bool = False
    limits: Limits = field(default_factory=Limits)


def choose_engine(options: RunOptions, private_store: bool) -> str:
    """`ray` or `inline`: one device needs no cluster where Ray is a guest.

    Raises:
        InputError: What was asked for cannot work here.
    """
    has_ray = importlib.util.find_spec("ray") is not None
    if options.address and ("://" in options.address or not _ADDRESS.fullmatch(options.address)):
        raise JobError(
            f"--address {options.address}: write auto or HOST:PORT, on a machine of the cluster "
            "(Ray Client, ray://, cannot stream the events of actors)"
        )
    if private_store and (options.engine == "ray" or options.address):
        raise InputError("memory:// is seen by one process only: use --engine inline")
    several = max(options.workers or 1, options.limits.min_workers) > 1
    if options.engine == "inline" and several:
        raise InputError("--engine inline draws with one worker: leave out --workers or use ray")
    if options.engine == "inline" and options.address:
        raise InputError("--address names a Ray cluster: leave out --engine inline")
    if (options.engine == "ray" or options.address) and not has_ray:
        raise InputError("--engine ray: Ray is not installed, pip install ray, or use inline")
    if options.engine != "auto" or options.address:
        return "ray" if options.address else options.engine
    return "ray" if has_ray and not private_store and (_on_linux() or several) else "inline"


def demand_reachable(address: str | None) -> None:
    """Find out in seconds that nothing answers at HOST:PORT: Ray itself asks for minutes.

    Raises:
        EngineError: Nothing answers there.
    """
    if not address or address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EngineError(
            f"--address {address}: nothing answers there ({reason}): is the cluster up, and "
            "is this the port of its head (6379 unless set otherwise)?"
        ) from error


def _on_linux() -> bool:
    return sys.platform.startswith("linux")
