"""Real processes are killed, stopped and drained; every row of what comes out is looked at."""

import hashlib
import os
import random
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sdbatch import api
from tests.engine.kills import (
    ROOT,
    Driver,
    LiveCluster,
    committed,
    demand_whole,
    faults,
    wait_for,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
QUICK_WATCHDOG = "import sdbatch.engine.watchdog as w; w.SILENT_S = 3.0; w.PATIENCE = 2.0"
QUICK_LEASE = "import sdbatch.storage.lease as l; l.HEARTBEAT_S = l.LOOK_S = 0.5; l.STALE_S = 3.0"


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """Where the workers of these tests spool, and nobody else."""
    return tmp_path_factory.mktemp("disk")


@pytest.fixture(scope="module")
def cluster(disk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("TMPDIR", str(disk))
        patch.setenv("RAY_TMPDIR", "/tmp")  # its sockets need a short name
        live = LiveCluster(3)
        yield live
        live.close()


@pytest.fixture(autouse=True)
def nothing_is_left(cluster, disk):
    """However they ended: workers are gone in seconds, and their folders with them."""
    yield
    wait_for(lambda: not cluster.actors(), "end of all workers", 20)
    wait_for(lambda: not list(disk.glob("sdbatch-spool-*")), "end of all spools", 20)


@pytest.fixture
def job(manifest, tmp_path, cluster):
    """Starts drivers of one job of so many rows on the live cluster; all log to one file."""

    def make(rows, ms, shard_size, *more):
        args = [manifest(rows), tmp_path / "out", "--model", f"fake:ms={ms}", "--size", "64x64",
                "--shard-size", shard_size, "--address", cluster.address,
                "--set", "checkpoint_every_s=1", *more]  # fmt: skip
        return tmp_path / "out", lambda prologue="pass": Driver(
            tmp_path / "log", *args, prologue=prologue
        )

    return make


@pytest.fixture
def again(tmp_path, cluster):
    """Starts `retry` or `repair` of the job's dataset on the live cluster."""

    def start(verb, *more):
        where = ("--address", cluster.address, "--workers", "2")
        return Driver(tmp_path / "log", tmp_path / "out", *where, *more, verb=verb)

    return start


def revised(out):
    """Shards of which a later revision stands than the first."""
    return {name.split(".")[0] for name in committed(out) if ".r" in name}


def standing(out):
    """Data file to its sha256."""
    files = api.open_dataset(out).files()
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in map(Path, files)}


def pictures(out):
    """Key to the hash of the pixels, of everything in `data/`."""
    columns = ["key", "pixel_sha256"]
    tables = [pq.read_table(path, columns=columns) for path in api.open_dataset(out).files()]
    return {row["key"]: row["pixel_sha256"] for one in tables for row in one.to_pylist()}


def more_commits(out, count=1):
    before = len(committed(out))
    wait_for(lambda: len(committed(out)) >= before + count, f"{count} more commits")


def test_twelve_kills_lose_double_and_misplace_nothing(job, cluster):
    """Six actors, three nodes of a live cluster, three drivers: one dataset survives them all."""
    rows, chance = 1200, random.Random(7)
    out, start = job(rows, ms=60, shard_size=20)
    killed = {"actor": 0, "node": 0, "driver": 0}
    for _ in range(3):
        with start() as driver:
            for what in ("actor", "node", "actor"):
                more_commits(out)
                assert driver.process.poll() is None, driver.said
                if what == "actor":
                    wait_for(cluster.actors, "workers")
                    chance.choice(cluster.actors()).kill()
                else:
                    cluster.kill_node(chance.choice(cluster.nodes))
                    cluster.add()
                killed[what] += 1
            more_commits(out)
            driver.kill()
            killed["driver"] += 1
    done_then = len(committed(out))
    with start() as driver:
        assert driver.end(120) == 0, driver.said

    assert killed == {"actor": 6, "node": 3, "driver": 3}
    assert 12 <= done_then < 60
    assert driver.said.count("resuming: ") == 3
    demand_whole(out, rows)


def test_a_drained_driver_leaves_parts_and_the_same_line_goes_on_from_them(job):
    out, start = job(400, ms=40, shard_size=100)
    with start() as driver:
        more_commits(out, 1)
        driver.signal(signal.SIGTERM)
        assert driver.end(40) == 75, driver.said
    parts = list((out / "__sdbatch/main/parts").rglob("*.parquet"))
    with start() as driver:
        assert driver.end(90) == 0, driver.said

    assert parts
    demand_whole(out, 400)


def test_a_worker_that_hangs_is_ended_and_its_shard_drawn_by_another(job, cluster):
    out, start = job(240, ms=40, shard_size=20)
    with start(QUICK_WATCHDOG) as driver:
        more_commits(out, 2)
        hung = cluster.actors()[0]
        os.kill(hung.pid, signal.SIGSTOP)
        assert driver.end(90) == 0, driver.said

    assert "is ended: silent for" in driver.said
    demand_whole(out, 240)
    wait_for(lambda: not hung.is_running(), "end of the process that hung", 20)


def test_workers_leave_a_draining_node_in_order(job, cluster):
    out, start = job(360, ms=40, shard_size=60)
    with start() as driver:
        more_commits(out)
        leaving = next(node for node in cluster.nodes if cluster.actors(node))
        cluster.drain_node(leaving, 60)
        wait_for(lambda: not cluster.actors(leaving), "empty node", 30)
        cluster.kill_node(leaving)
        cluster.add()
        assert driver.end(90) == 0, driver.said

    assert "is drained: its node is about to leave" in driver.said
    assert " died: " not in driver.said
    demand_whole(out, 360)


def test_a_driver_that_slept_past_its_lease_and_its_successor_make_one_dataset(job, cluster):
    """The actors of the sleeping driver go on writing: zombies, and harmless."""
    out, start = job(600, ms=40, shard_size=20)
    with start(QUICK_LEASE) as sleeper:
        more_commits(out, 2)
        sleeper.signal(signal.SIGSTOP)
        with start(QUICK_LEASE) as successor:
            more_commits(out, 1)
            wait_for(lambda: "waiting up to 3 s" in successor.said, "wait for the lease")
            wait_for(lambda: "resuming: " in successor.said, "takeover")
            sleeper.signal(signal.SIGCONT)
            ends = {sleeper.end(90), successor.end(90)}

    assert ends in ({0, 5}, {5, 0}, {0}), successor.said
    demand_whole(out, 600)


def test_a_retry_whose_workers_and_driver_are_killed_draws_what_failed_and_nothing_else(
    job, again, cluster
):
    out, start = job(400, "20,fail=0.05", shard_size=20)
    with start() as driver:
        assert driver.end(120) == 4, driver.said
    before, drawn = standing(out), pictures(out)
    failed = 400 - len(drawn)

    with again("retry", "--reseed", "1") as driver:
        wait_for(lambda: revised(out), "first revision")
        wait_for(cluster.actors, "workers")[0].kill()
        wait_for(lambda: len(revised(out)) >= 3, "more revisions")
        driver.kill()
    with again("retry", "--reseed", "1") as driver:
        end = driver.end(120)

    now, after = standing(out), pictures(out)
    left = api.open_dataset(out).errors().num_rows
    assert failed > 8
    assert end == (4 if left else 0), driver.said
    assert left < failed / 2
    assert len(after) == 400 - left
    assert {key: after[key] for key in drawn} == drawn
    changed = set(before) - set(now)
    assert len(changed) == len(revised(out)) < 20  # every other shard keeps its bytes
    assert all(now[name] == before[name] for name in set(before) - changed)
    assert faults(out, 400)[1:] == (set(), set())
    assert api.open_dataset(out).verify(3).exit_code == 0


def test_a_repair_whose_worker_is_killed_gives_back_every_picture(job, again, cluster):
    out, start = job(240, ms=40, shard_size=20)
    with start() as driver:
        assert driver.end(120) == 0, driver.said
    before, drawn = standing(out), pictures(out)
    rotten = sorted(before)[::2]
    for name in rotten:
        content = bytearray(Path(name).read_bytes())
        content[len(content) // 2] ^= 1
        Path(name).write_bytes(content)
    with again("repair") as driver:
        wait_for(cluster.actors, "workers")
        wait_for(lambda: revised(out), "first revision")
        wait_for(cluster.actors, "workers")[0].kill()
        assert driver.end(120) == 0, driver.said

    now = standing(out)
    assert len(revised(out)) == len(rotten) == 6
    assert all(now[name] == before[name] for name in set(before) - set(rotten))
    assert pictures(out) == drawn
    demand_whole(out, 240)


def drew(out, shard_id):
    """Workers that say they opened this shard."""
    lines = api.open_dataset(out).logs(shard=shard_id)
    return {line.writer for line in lines if line.body["event"] == "shard_opened"}


def test_a_node_that_joins_is_drawn_on_and_the_idle_help_the_slowest(job, cluster):
    for node in cluster.nodes[1:]:
        cluster.kill_node(node)
    wait_for(cluster.knows_its_nodes, "word of their death")
    out, start = job(800, ms=100, shard_size=200)
    with start() as driver:
        wait_for(cluster.actors, "first worker")
        wait_for((out / "__sdbatch/main/job.json").exists, "plan")
        alone = len(cluster.actors())
        cluster.add()
        cluster.add()
        wait_for(lambda: len(cluster.actors()) == 3, "workers on the new nodes")
        assert driver.end(150) == 0, driver.said

    assert alone == 1
    assert max(len(drew(out, shard_id)) for shard_id in range(4)) >= 2
    demand_whole(out, 800)
