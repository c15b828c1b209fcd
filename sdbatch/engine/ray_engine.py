"""A run on Ray: one actor per GPU, or per worker wanted where there are no GPUs.

`ray_cluster.py` connects, `ray_room.py` counts the room, `ray_crew.py` keeps the actors.
"""

from __future__ import annotations

import time
from dataclasses import replace

from sdbatch.engine.driver_loop import EngineInput, EngineResult, drive
from sdbatch.engine.ray_cluster import connection
from sdbatch.engine.ray_crew import RayCrew
from sdbatch.engine.ray_room import ClusterRoom
from sdbatch.engine.worker import Worker

PULSES_PER_S = 50  # from all workers together, about 2 % of a core


def run_on_ray(
    run: EngineInput,
    address: str | None,
    cpu_threads: int,
    worker_class: type = Worker,
    dashboard: bool = False,
) -> EngineResult:
    """Run on a cluster at `address`, or on one started here for this run alone.

    Args:
        run: What to run.
        address: `auto` or HOST:PORT; None for this machine.
        cpu_threads: CPUs that a worker takes.
        worker_class: `engine/worker.py`'s, unless a test brings its own.
        dashboard: Whether a cluster started here shows Ray's dashboard.

    Raises:
        JobError: The address is one of Ray Client.
        EngineError: Ray cannot be started or reached.
        SdbatchError: From one of the run's hooks.
    """
    began = time.monotonic()
    num_cpus = None if run.workers is None else run.workers * cpu_threads
    with connection(address, num_cpus, dashboard):
        room = ClusterRoom(run, address, cpu_threads)
        run = replace(run, pulse_s=max(run.pulse_s, room.workers / PULSES_PER_S))
        crew = RayCrew(run, worker_class, room, cpu_threads)
        return drive(run, crew, workers=room.workers, waits_for=room.waits_for, began=began)
