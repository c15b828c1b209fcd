"""Every fault against every verb of every client: right bytes or a clear error, in time.

    python -m tests.bench.flaky_matrix [--kinds s3,gs,az] [--times 1,2,always] [--seed 0]

A flaky proxy stands before SeaweedFS, fake-gcs-server and azurite. Each cell spoils the first
one or two requests of a verb, or all of them, and then looks at the truth without the
proxy. A cell passes if the verb did what it says or raised one `StorageError` of one line
within its time, and what it left behind is the old object, the new one or (for an unknown
outcome) either. Prints a line for each client and fault, and every cell that failed; exit
code 1 if any did.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from sdbatch.errors import StorageError
from sdbatch.storage.retrying import Patience
from sdbatch.storage.store import open_store
from tests.storage import servers
from tests.storage.flaky_proxy import FAULTS, Fault, FlakyProxy, first

PATIENCE = Patience(call_s=1.0, verb_s=4.0, pause_s=0.02, longest_pause_s=0.3)
BOUND_S = PATIENCE.verb_s + PATIENCE.call_s + 3.0
CODES = {"status": (503, 500, 429), "status_after": (503, 500)}
SMALL, LARGE = 4_000, 17 << 20
KNOWN = {("gs", "flip_up", "create_once")}
"""fake-gcs-server stores an object whose bytes do not fit the `md5Hash` sent with them; the
client sees it in the answer, but a created object is never written again."""


def spoilings():
    for what in FAULTS:
        for code in CODES.get(what, (503,)):
            yield Fault(what, code)


def verbs(store, truth, path, rng):
    """Name to (act, check): `check(result)` looks at the truth and says what is wrong."""
    small, large = rng.randbytes(SMALL), rng.randbytes(LARGE)
    truth.put("old", small)
    truth.put("large", large)

    def same(data, wanted):
        return "" if data == wanted else f"{len(data)} bytes that are not the object's"

    def stored(key, wanted):
        head = truth.head(key)
        return "nothing is stored" if head is None else same(truth.get(key), wanted)

    def put_file(key, content):
        path.write_bytes(content)
        return store.put_file(key, path)

    def get_file(key):
        store.get_file(key, path)
        return path.read_bytes()

    def read_open(key):
        with store.open(key) as reader:
            return reader.read()

    return {
        "create_once": (lambda: store.create_once("new", small), lambda _: stored("new", small)),
        "create_lost": (
            lambda: store.create_once("old", b"others"),
            lambda won: "overwritten" if won else stored("old", small),
        ),
        "put": (lambda: store.put("put", small), lambda _: stored("put", small)),
        "put_file": (lambda: put_file("f", small), lambda _: stored("f", small)),
        "put_large": (lambda: put_file("l", large), lambda _: stored("l", large)),
        "get": (lambda: store.get("old"), lambda data: same(data, small)),
        "get_file": (lambda: get_file("large"), lambda data: same(data, large)),
        "open": (lambda: read_open("old"), lambda data: same(data, small)),
        "head": (
            lambda: store.head("old"),
            lambda info: "" if info and info.size_bytes == SMALL else f"says {info}",
        ),
        "list": (
            lambda: [info.key for info in store.list("")],
            lambda keys: "" if {"old", "large"} <= set(keys) else f"shows {keys}",
        ),
        "delete": (
            lambda: store.delete("old"),
            lambda _: "" if truth.head("old") is None else "still there",
        ),
    }


def cell(act, check, proxy):
    """("right" | "error" | what is wrong, seconds)."""
    started = time.monotonic()
    try:
        try:
            result = act()
        finally:
            proxy.plan = lambda _: None
            took = time.monotonic() - started
    except StorageError as error:
        verdict = "error" if "\n" not in str(error) else f"an error of several lines: {error}"
    except Exception as error:  # noqa: BLE001  # any other error is what is looked for
        verdict = f"{type(error).__name__}: {error}"
    else:
        verdict = check(result) or "right"
    return verdict, took


def plan_of(times, fault):
    return first(10**9 if times == "always" else int(times), fault)


def open_at(server, url):
    """A store reached at this server only, whatever the environment says later."""
    os.environ.update(server.environment)
    return open_store(url, {"endpoint_url": server.endpoint} if server.kind == "gs" else {})


def run_kind(kind, counts, seed, failures):
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, servers.running(kind, Path(folder)) as server:
        proxy = FlakyProxy(kind, server.port).start()
        for fault in spoilings():
            tally = {"right": 0, "error": 0, "known": 0, "wrong": 0}
            slowest = 0.0
            for times in counts:
                name = f"{kind}-{fault.what}-{fault.code}-{times}-{rng.randrange(10**9)}"
                truth = open_at(server, server.url(name))
                truth.head("warm")
                store = open_at(server.behind(proxy.port), truth.url)
                store.patience = PATIENCE
                store.head("warm")
                for verb, (act, check) in verbs(store, truth, Path(folder) / "f", rng).items():
                    proxy.plan = plan_of(times, fault)
                    verdict, took = cell(act, check, proxy)
                    slowest = max(slowest, took)
                    bound = BOUND_S * (8 if verb in ("put_large", "get_file", "put_file") else 1)
                    if verdict in ("right", "error") and took <= bound:
                        tally[verdict] += 1
                        continue
                    if (kind, fault.what, verb) in KNOWN:
                        tally["known"] += 1
                        continue
                    tally["wrong"] += 1
                    failures.append(f"{kind} {fault} x{times} {verb}: {verdict} in {took:.1f} s")
            print(
                f"{kind} {fault.what:12} {fault.code}: right {tally['right']:3}, "
                f"clear error {tally['error']:3}, known of the emulator {tally['known']}, "
                f"WRONG {tally['wrong']}, slowest {slowest:.1f} s",
                flush=True,
            )
        proxy.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="s3,gs,az")
    parser.add_argument("--times", default="1,2,always")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    failures = []
    for kind in asked.kinds.split(","):
        run_kind(kind, asked.times.split(","), asked.seed, failures)
    print("\n".join(failures) or "no cell failed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
