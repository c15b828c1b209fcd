"""Patience with a store: which failures are worth another try, and for how long.

A client's error is first sorted into a `Fault` by the store that knows the client. What may
pass (busy, out of reach, torn) is tried again with growing, jittered pauses until the
verb's time is up; what will not pass is raised at once and says who must act. Verbs inside
a verb share its time, so a promise of a minute is a minute.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from fsspec.asyn import get_loop

from sdbatch.credentials import redact
from sdbatch.errors import StorageError, StoreAccessError

T = TypeVar("T")
CANCEL_S = 2.0  # what a cancelled call may take to let go before it is left behind


class Kind(Enum):
    """What a failed call means."""

    ABSENT = "no such object"
    EXISTS = "the precondition failed: an object stands there, or another one than expected"
    PASSING = "busy, out of reach or torn on the way: another try may do"
    RANGE = "no such bytes"
    ACCESS = "no credentials, no right or no bucket"
    REFUSED = "the store does not take this call"


@dataclass(frozen=True, slots=True)
class Fault:
    """A client's error, sorted.

    Attributes:
        reason: What happened and what would help, without secrets.
    """

    kind: Kind
    reason: str


class FaultError(Exception):
    """Carries a `Fault` that is not to be tried again, to whoever knows its meaning."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class TornError(Exception):
    """Bytes arrived that are not the object's: too few, or another checksum."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited.

    Attributes:
        call_s: The longest one call of a client may take.
        verb_s: The longest a whole verb may take, pauses and further tries included.
        pause_s: First pause; each further one is twice as long, up to `longest_pause_s`.
        torn_tries: How often torn bytes are moved before they count as damaged.
        calls: The most calls of a verb; 0 is as many as fit.
    """

    call_s: float = 20.0
    verb_s: float = 60.0
    pause_s: float = 0.25
    longest_pause_s: float = 8.0
    torn_tries: int = 4
    calls: int = 0


_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))
_process = {"end_by": float("inf")}


def end_by(at: float) -> None:
    """Let every verb of this process fail from then on (`time.monotonic()`); infinity lifts it.

    Whoever was asked to end does so in time, however many verbs are left: they share it.
    """
    _process["end_by"] = at


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let everything inside end within `seconds`, or sooner where that was said already."""
    token = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining_s() -> float:
    """Seconds left of the innermost limit and of the process; infinite without any."""
    return min(_deadline.get(), _process["end_by"]) - time.monotonic()


def wait_for(make: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
    """Run one asynchronous call on fsspec's loop and wait for it no longer than said.

    Raises:
        TimeoutError: It did not end in time, even if the loop itself stood still.
    """

    async def bounded() -> T:
        return await asyncio.wait_for(make(), timeout_s)

    future = asyncio.run_coroutine_threadsafe(bounded(), get_loop())
    try:
        return future.result(timeout_s + CANCEL_S)
    except (TimeoutError, concurrent.futures.TimeoutError) as error:
        raise TimeoutError(f"no answer within {timeout_s:.0f} s") from error
    finally:
        future.cancel()


def persist(
    where: str,
    doing: str,
    call: Callable[[float], T],
    sort: Callable[[Exception], Fault],
    patience: Patience,
) -> T:
    """Call until it succeeds, fails for good, or the time is up.

    Args:
        where: The object as messages show it.
        doing: What is being done to it, as in "cannot read".
        call: Does it once, within the seconds it is given.
        sort: Says what an error of the client means.

    Raises:
        FaultError: The fault is one the verb must judge: absent, exists, range.
        StoreAccessError: Somebody must act.
        StorageError: The time is up.
    """
    reason, started = "no time was left", time.monotonic()
    with time_limit(patience.verb_s):
        for number, pause in enumerate(pauses(patience), start=1):
            if (left := remaining_s()) <= 0:
                break
            try:
                return call(min(patience.call_s, left))
            except FaultError:
                raise
            except Exception as error:  # clients raise what they like
                fault = sort(error)
                if fault.kind is not Kind.PASSING:
                    raise final(where, doing, fault) from error
                reason = fault.reason
            if number == patience.calls:
                break
            time.sleep(max(min(pause, remaining_s()), 0.0))
    tried = f"given up after {time.monotonic() - started:.0f} s"
    raise StorageError(redact(f"{where}: cannot {doing}: {reason}; {tried}"))


def final(where: str, doing: str, fault: Fault) -> Exception:
    """What is raised for a fault that another try does not mend."""
    if fault.kind in (Kind.ABSENT, Kind.EXISTS, Kind.RANGE):
        return FaultError(fault)
    return StoreAccessError(redact(f"{where}: cannot {doing}: {fault.reason}"))


def by_status(status: int, code: str, message: str) -> Fault:
    """What an HTTP answer means; `code` is the store's own word for it."""
    said = " ".join(f"{code or status} {message}".split())[:300]
    if status in (408, 409, 425, 429) or status >= 500:
        return Fault(Kind.PASSING, said)
    if status == 404:
        return Fault(Kind.ABSENT, said)
    if status in (304, 412):
        return Fault(Kind.EXISTS, said)
    if status == 416:
        return Fault(Kind.RANGE, said)
    if status == 401:
        return Fault(Kind.ACCESS, f"{said}; give valid credentials to this machine")
    if status == 403:
        return Fault(
            Kind.ACCESS,
            f"{said}; give these credentials the right to list, read, write and delete there",
        )
    return Fault(Kind.REFUSED, said)


def pauses(patience: Patience) -> Iterator[float]:
    """Seconds to wait between tries, growing and jittered; they never end."""
    pause = patience.pause_s
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, patience.longest_pause_s)
