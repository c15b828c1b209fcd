"""Random faults, round after round, and a look at every row of what comes out.

A round is one dataset of fake pictures that show whose they are. Its driver, on a live
cluster of Ray nodes or inline, meets one to three faults at random moments: a worker, a
node or the driver killed, a worker or the driver stopped for a while, a node drained, a
second driver, SIGTERM, or a disk that takes no writes for seconds. Then the same line is
run until it ends with 0, and every row is checked.

    python -m tests.bench.chaos --rounds 200 --seed 1

Prints `0 lost, 0 doubled, 0 misplaced`, or the seed and the rows of every round that broke
something. Disks that refuse writes need root and `chattr`; without, that fault is left out
and the last line says so.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch import api
from tests.engine.kills import Driver, LiveCluster, committed, faults

PROLOGUE = (
    "import sdbatch.storage.lease as l; l.HEARTBEAT_S = l.LOOK_S = 0.5; l.STALE_S = 3.0; "
    "import sdbatch.engine.watchdog as w; w.SILENT_S = 4.0; w.PATIENCE = 2.0"
)
ROWS, SHARD_SIZE, MS = 160, 20, 25
END_S, TRIES = 90.0, 12
GOES_ON = (3, 5, 75)  # resumable: the same line is run again


class Round:
    """One dataset and what befalls it.

    Args:
        seed: Decides everything that is chance here.
        cluster: Live nodes; None draws inline.
    """

    def __init__(self, seed: int, folder: Path, cluster: LiveCluster | None, disk: bool) -> None:
        self.chance = random.Random(seed)
        self.cluster, self.out, self.log = cluster, folder / "out", folder / "log"
        prompts = [f"picture number {number}" for number in range(ROWS)]
        pq.write_table(pa.table({"prompt": prompts}), folder / "rows.parquet")
        self._args = [
            folder / "rows.parquet", self.out, "--model", f"fake:ms={MS}", "--size", "64x64",
            "--shard-size", SHARD_SIZE, "--set", "checkpoint_every_s=0.3",
            *(["--address", cluster.address] if cluster else ["--engine", "inline"]),
        ]  # fmt: skip
        self.driver = self.start()
        kinds = [self.kill_driver, self.stop_driver, self.terminate, self.second_driver]
        if cluster:
            kinds += [self.kill_worker, self.kill_worker, self.stop_worker]
            kinds += [self.kill_node, self.drain_node]
        self._kinds = [*kinds, self.refuse_writes] if disk else kinds
        self.met: list[str] = []

    def start(self) -> Driver:
        """The same line, once more."""
        return Driver(self.log, *self._args, prologue=PROLOGUE)

    def run(self) -> tuple[set[int], set[int], set[int]]:
        """Meet the faults, run to the end, look at every row."""
        try:
            for _ in range(self.chance.randint(1, 3)):
                if not self._wait_for_work():
                    break
                fault = self.chance.choice(self._kinds)
                self.met.append(fault.__name__)
                fault()
            self._to_the_end()
        finally:
            self.driver.__exit__()
        return faults(self.out, ROWS)

    def _wait_for_work(self) -> bool:
        """A moment at which something is being drawn; False when the run is over."""
        deadline = time.monotonic() + 30
        done = len(committed(self.out))
        while len(committed(self.out)) == done and time.monotonic() < deadline:
            if self.driver.process.poll() is not None:
                return False
            time.sleep(0.02)
        time.sleep(self.chance.uniform(0, 0.5))
        return True

    def _to_the_end(self) -> None:
        for _ in range(TRIES):
            code = self.driver.end(END_S)
            if code == 0:
                return
            if code not in GOES_ON and code != -signal.SIGKILL:
                raise AssertionError(f"exit code {code}: {self.driver.said[-2000:]}")
            self.driver = self.start()
        raise AssertionError(f"not finished in {TRIES} runs: {self.driver.said[-2000:]}")

    # -- faults --------------------------------------------------------------------------

    def kill_driver(self) -> None:
        """SIGKILL, and the same line."""
        self.driver.kill()
        self.driver = self.start()

    def terminate(self) -> None:
        """SIGTERM: it drains."""
        self.driver.signal(signal.SIGTERM)

    def stop_driver(self) -> None:
        """It sleeps, perhaps past its lease; a successor may be there when it wakes."""
        self.driver.signal(signal.SIGSTOP)
        with self.start() as successor:
            time.sleep(self.chance.uniform(1.0, 9.0))
            self.driver.signal(signal.SIGCONT)
            self.driver.end(END_S)
            successor.end(END_S)
        self.driver = self.start()

    def second_driver(self) -> None:
        """It refuses, or finds nothing to do; the first one goes on."""
        with self.start() as second:
            second.end(END_S)

    def kill_worker(self) -> None:
        """SIGKILL of an actor."""
        if actors := self.cluster.actors():
            with contextlib.suppress(Exception):
                self.chance.choice(actors).kill()

    def stop_worker(self) -> None:
        """SIGSTOP of an actor: the watchdog's."""
        if actors := self.cluster.actors():
            with contextlib.suppress(Exception):
                self.chance.choice(actors).suspend()

    def kill_node(self) -> None:
        """SIGKILL of a raylet; another joins."""
        self.cluster.kill_node(self.chance.choice(self.cluster.nodes))
        self.cluster.add()

    def drain_node(self) -> None:
        """A spot notice; the node goes after a while, another joins."""
        node = self.chance.choice(self.cluster.nodes)
        self.cluster.drain_node(node, self.chance.choice([1, 30]))
        time.sleep(self.chance.uniform(0.5, 3.0))
        self.cluster.kill_node(node)
        self.cluster.add()

    def refuse_writes(self) -> None:
        """For some seconds nothing can be created in the folders of the dataset."""
        folders = [path for path in self.out.rglob("*") if path.is_dir()]
        try:
            _immutable(folders, on=True)
            time.sleep(self.chance.uniform(0.5, 4.0))
        finally:
            _immutable(folders, on=False)


def _immutable(folders: list[Path], on: bool) -> None:
    alive = [str(path) for path in folders if path.exists()]
    subprocess.run(["chattr", "+i" if on else "-i", *alive], check=False, capture_output=True)


def _can_refuse(folder: Path) -> bool:
    """Whether this system lets us make a folder that takes no writes."""
    probe = folder / "probe"
    probe.mkdir()
    if shutil.which("chattr") is None:
        return False
    _immutable([probe], on=True)
    try:
        (probe / "file").touch()
    except OSError:
        return True
    finally:
        _immutable([probe], on=False)
    return False


def main() -> int:
    """Run the rounds; exit code 1 when one of them broke something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="Begin no round after this.")
    parser.add_argument("--engine", choices=["ray", "inline"], default="ray")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="sdbatch-chaos-"))
    disk = _can_refuse(base)
    cluster = LiveCluster(3) if args.engine == "ray" else None
    totals, met, broken, rounds = [0, 0, 0], Counter(), 0, 0
    began = time.monotonic()
    try:
        for number in range(args.rounds):
            if args.minutes and time.monotonic() - began > 60 * args.minutes:
                break
            rounds += 1
            seed, started = args.seed * 1_000_003 + number, time.monotonic()
            folder = base / str(number)
            folder.mkdir()
            one = Round(seed, folder, cluster, disk)
            try:
                found = one.run()
                verified = api.open_dataset(one.out).verify(3).exit_code
            except (AssertionError, subprocess.TimeoutExpired) as error:
                found, verified = (set(), set(), set()), f"no end: {error}"
            met.update(one.met)
            seconds = time.monotonic() - started
            print(f"round {number}: {', '.join(one.met) or 'none'}: {seconds:.1f} s", flush=True)
            totals = [total + len(rows) for total, rows in zip(totals, found, strict=True)]
            if any(found) or verified != 0:
                broken += 1
                print(f"  BROKEN, seed {seed}: lost, doubled, misplaced {found}; {verified}")
                print(f"  kept: {folder}", flush=True)
            else:
                shutil.rmtree(folder)
    finally:
        if cluster:
            cluster.close()
    faults_met = ", ".join(f"{name} {count}" for name, count in sorted(met.items()))
    print(f"{rounds} rounds of {ROWS} rows, seed {args.seed}: {faults_met}")
    print("{} lost, {} doubled, {} misplaced".format(*totals))
    if not disk:
        print("left out: refuse_writes (needs root and chattr)")
    if not broken:
        shutil.rmtree(base)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
