"""A connection to Ray: a cluster started for one run on this machine, or one that runs already.

A cluster of ours lives in its own short folder, asks for a token of its own, shows no
dashboard unless asked, prints nothing and leaves nothing: no process, no folder, no
environment variable, no signal handler. When its driver is killed, the kernel and
`orphan_watch.py` end it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import ray
import ray._private.utils
import ray._private.worker
import ray.util.client

from sdbatch.engine.orphan_watch import orphan_watch
from sdbatch.engine.own_folder import own_folder
from sdbatch.errors import EngineError, JobError

PREFIX = "sdbatch-ray-"
LONGEST_BASE = 20  # Ray's socket names add 87 characters, the kernel takes 107
SHUTDOWN_S, FORCED_S = 20.0, 5.0
OBJECT_STORE_BYTES = 128 * 2**20  # leases and events only; Ray wants 75 MiB at least


@contextlib.contextmanager
def connection(
    address: str | None, num_cpus: int | None = None, dashboard: bool = False
) -> Iterator[None]:
    """Be connected to Ray inside the block.

    Args:
        address: `auto` or HOST:PORT of a running cluster. None starts one here, unless
            this process is connected already: that connection is used and left alone.
        num_cpus: CPUs that a cluster of ours offers; None counts them.
        dashboard: Whether a cluster of ours shows Ray's dashboard.

    Raises:
        JobError: The address, or the present connection, is one of Ray Client.
        EngineError: Ray cannot be started or reached.
    """
    _refuse_client(address)
    if ray.is_initialized():
        yield
        return
    with contextlib.ExitStack() as undo:
        undo.enter_context(_quiet())
        undo.enter_context(_environment(own_cluster=address is None))
        options: dict[str, Any] = {"address": address}
        folder: Path | None = None
        if address is None:
            folder = undo.enter_context(own_folder(PREFIX, _short_base()))
            watch = undo.enter_context(orphan_watch(folder))
            options = {
                "address": "local",
                "_temp_dir": str(folder),
                "_skip_env_hook": True,  # workers use this interpreter as it is
                "num_cpus": num_cpus,
                "include_dashboard": dashboard,
                "dashboard_host": "127.0.0.1",
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        undo.callback(_shutdown, folder)
        _init(address, options)
        if folder is not None:
            watch(_processes_of(folder))
        yield


def _shutdown(folder: Path | None) -> None:
    """Leave Ray, within bounds: it waits for minutes where its head no longer answers.

    Args:
        folder: Of a cluster of ours, which is ended by force then.
    """
    leaving = threading.Thread(target=ray.shutdown, name="leave-ray", daemon=True)
    leaving.start()
    leaving.join(SHUTDOWN_S)
    if leaving.is_alive():
        for pid in _processes_of(folder) if folder is not None else []:
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()
        leaving.join(FORCED_S)
    if leaving.is_alive():
        atexit.unregister(ray._private.worker.shutdown)  # it would wait once more


def _refuse_client(address: str | None) -> None:
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if (address is not None and "://" in address) or ray.util.client.ray.is_connected():
        raise JobError(
            f"address '{address or 'ray://'}': Ray Client cannot stream the events of actors; use "
            "`--address auto` or HOST:PORT on a machine of the cluster, or `ray job submit`"
        )


def _init(address: str | None, options: dict[str, Any]) -> None:
    try:
        with _sigterm_kept():
            ray.init(log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        line = " ".join(str(error).split())[:300]
        where = "cannot start Ray here" if address is None else f"cannot reach Ray at {address}"
        raise EngineError(f"{where}: {line}") from error


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """`ray.init` installs a SIGTERM handler that exits; the run's own one drains.

    Ray is kept from it from the start, for a signal may come while it connects. Should it
    find another way, at least the end restores ours. (A blocked signal would be inherited,
    blocked, by all of Ray's processes.)
    """
    utils: Any = ray._private.utils
    install = getattr(utils, "set_sigterm_handler", None)
    if install is not None:
        utils.set_sigterm_handler = lambda _handler: None
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        yield
    finally:
        if install is not None:
            utils.set_sigterm_handler = install
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's words in its session folder.

    It logs, and whatever the settings it prints the deaths of workers to stdout, where
    a summary in JSON may be expected; the engine reports them as events.
    """
    log, level = logging.getLogger("ray"), logging.getLogger("ray").level
    log.setLevel(logging.CRITICAL)
    printer = ray._private.worker.print_to_stdstream
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        log.setLevel(level)
        ray._private.worker.print_to_stdstream = printer


@contextlib.contextmanager
def _environment(own_cluster: bool) -> Iterator[None]:
    """What a cluster of ours and its workers inherit; whatever Ray itself sets goes as well."""
    before = {name: os.environ[name] for name in _ray_variables()}
    if own_cluster:
        os.environ["RAY_AUTH_MODE"] = "token"  # whatever else: nobody but us gives it orders
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        _reread_token()
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"  # the engine reads every error itself
    try:
        yield
    finally:
        for name in _ray_variables():
            del os.environ[name]
        os.environ.update(before)
        if own_cluster:
            _reread_token()


def _ray_variables() -> list[str]:
    return [name for name in os.environ if name.startswith("RAY_") or name == "PYTHONBREAKPOINT"]


def _processes_of(folder: Path) -> list[int]:
    """Process ids of the cluster that lives in `folder`, and of their children."""
    found: list[int] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in word for word in child.cmdline()):
                found += [child.pid, *(one.pid for one in child.children(recursive=True))]
    return found


def _reread_token() -> None:
    """Ray reads mode and token once in a process; a second cluster has another token."""
    with contextlib.suppress(ImportError, AttributeError):  # no promised interface
        raylet: Any = importlib.import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def _short_base() -> Path:
    """The folder for temporary files, or one short enough for Ray's socket names."""
    base = Path(tempfile.gettempdir())
    too_long = len(str(base)) > LONGEST_BASE and os.name == "posix"
    return Path("/tmp") if too_long else base
