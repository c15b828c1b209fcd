"""How long a driver waits for a long run's committed shards before its first lease.

A folder or a bucket of SeaweedFS is filled with commit records as a run leaves them; then
`RunFolder.committed()` is timed in a process of its own, without a compaction and with one, and
so is a reading of all records that believes nothing. Filling does not go through sdbatch.

python -m tests.bench.resume --shards 100000 --store local|s3 [--compact]

`--compact` also writes the compaction as a run does, by reading every record; without it one
is put together from the records that were filled in.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.compaction import Line, pack
from sdbatch.storage.compactor import compact
from sdbatch.storage.store import Store, open_store
from tests.storage import servers
from tests.storage.stores import DictStore, make_result

PLAN = "0123456789abcdef" * 4
CKPT = layout.compaction_key("main", 0)
GOALS = {"with": 10.0, "without": 60.0}
CHILD = """
import json, sys, time
from sdbatch.storage.store import open_store
from sdbatch.storage.commit import RunFolder
store = open_store(sys.argv[1])
store.head("warm")
started = time.monotonic()
if sys.argv[2] == "committed":
    found = len(RunFolder(store).committed())
else:
    found = sum(1 for _ in RunFolder(store).records(certain=True))
status = open("/proc/self/status").read()
print(json.dumps({"what": sys.argv[2], "shards": found,
                  "seconds": round(time.monotonic() - started, 2),
                  "peak_mb": int(status.split("VmHWM:")[1].split()[0]) // 1024}))
"""


def bodies(shards: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Keys and bytes of commit records that look like real ones."""
    scratch, rng = DictStore(), random.Random(seed)
    folder = RunFolder(scratch)
    for shard_id in range(shards):
        spent = {name: round(rng.uniform(0, 900), 4) for name in ("load", "denoise", "write")}
        sha256 = f"{rng.getrandbits(256):064x}"
        result = make_result(
            shard_id, f"{rng.getrandbits(32):08x}", shards, images_sha256=sha256,
            phase_seconds=spent, row_steps=rng.randrange(10**6), worker=f"w{rng.randrange(64)}",
        )  # fmt: skip
        folder.commit(result, PLAN)
        yield scratch.objects.popitem()


def fill(shards: int, seed: int, put: Callable[[str, bytes], None]) -> float:
    """Store the job and all records from many threads; returns the seconds it took."""
    started = time.monotonic()
    job = {"protocol": 1, "plan_id": PLAN, "num_shards": shards}
    put(layout.job_key("main"), json.dumps(job).encode())
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda item: put(*item), bodies(shards, seed)):
            pass
    return time.monotonic() - started


def local_put(root: Path) -> Callable[[str, bytes], None]:
    """Writes files as they are, without a flush to disk."""

    def put(key: str, data: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return put


def filer_put(port: int, folder: str) -> Callable[[str, bytes], None]:
    """Writes objects through SeaweedFS's filer, which is many times faster than its S3."""
    own = threading.local()

    def put(key: str, data: bytes) -> None:
        if not hasattr(own, "line"):
            own.line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        own.line.request("PUT", f"/buckets/{servers.BUCKET}/{folder}/{key}", data)
        reply = own.line.getresponse()
        reply.read()
        if reply.status >= 300:
            raise RuntimeError(f"{key}: {reply.status}")

    return put


@contextmanager
def seaweed(place: Path) -> Iterator[tuple[servers.Server, int]]:
    """A running server and the port of its filer."""
    client, name, command_of = servers.KINDS["s3"]
    ports: list[int] = []

    def remember(port: int, folder: Path) -> list[str] | None:
        command: list[str] | None = command_of(port, folder)
        ports.extend(int(flag.split("=")[1]) for flag in command or () if "-filer.port=" in flag)
        return command

    servers.KINDS["s3"] = (client, name, remember)
    try:
        with servers.running("s3", place) as server:
            yield server, ports[0]
    finally:
        servers.KINDS["s3"] = (client, name, command_of)


def gather(store: Store, shards: int, seed: int) -> None:
    """Put a compaction together from what was filled in and the marks that a listing shows."""
    groups = range(-(-shards // layout.GROUP))
    infos = store.list_many([layout.group_prefix("main", group) for group in groups])
    tags = {info.key: info.tag for info in infos}
    lines = (
        Line(shard_id, 0, tags[key], data)
        for shard_id, (key, data) in enumerate(bodies(shards, seed))
    )
    store.put(CKPT, pack(lines, PLAN, -1))


def ask(url: str, what: str) -> dict[str, float]:
    """Time one question in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, url, what], capture_output=True, text=True, check=True
    )
    print("  ", done.stdout.strip(), flush=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def measure(url: str, shards: int, seed: int, *, by_reading: bool) -> bool:
    """Print what each way takes; whether both goals are reached."""
    store = open_store(url)
    print("without a compaction:", flush=True)
    slow = ask(url, "committed")
    started = time.monotonic()
    if by_reading:
        compact(store)
    else:
        gather(store, shards, seed)
    facts = store.head(CKPT)
    size = facts.size_bytes / 1e6 if facts else 0.0
    print(f"compaction of {size:.1f} MB written in {time.monotonic() - started:.1f} s", flush=True)
    fast = ask(url, "committed")
    ask(url, "records")
    complete = fast["shards"] == slow["shards"] == shards
    return complete and fast["seconds"] <= GOALS["with"] and slow["seconds"] <= GOALS["without"]


def main() -> None:
    """Fill, measure and say whether the goals are reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--store", choices=("local", "s3"), default="local")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compact", action="store_true")
    args = parser.parse_args()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.store == "local":
            url, put = str(place / "out"), local_put(place / "out")
        else:
            server, filer = stack.enter_context(seaweed(place))
            os.environ |= server.environment
            url, put = server.url("resume"), filer_put(filer, "resume")
        took = fill(args.shards, args.seed, put)
        print(f"{args.shards:,} records filled in, {took:.0f} s", flush=True)
        reached = measure(url, args.shards, args.seed, by_reading=args.compact)
    print("goals reached" if reached else f"goals missed: {GOALS}")
    sys.exit(not reached)


if __name__ == "__main__":
    main()
