"""A million rows from a template of five slots, from the command line to the closed file.

    python -m tests.bench.templates [--rows 1000000]

prints seconds and peak memory of `sdbatch manifest build`, as a grid and drawn at random
with seed 1, each in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEMPLATE = "a {red|green|blue|{dark|light} grey} __animal__ {at|by} __place__, number {1..%d}"
LIMIT_S = 15.0
RUN = """
import resource, sys
from sdbatch.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MB", file=sys.stderr)
"""


def main() -> None:
    """Build both manifests and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "animal.txt").write_text("\n".join(f"animal {n}" for n in range(10)))
        (folder / "place.txt").write_text("\n".join(f"the place {n}" for n in range(10)))
        template = TEMPLATE % max(rows // (5 * 10 * 2 * 10), 1)
        _measure("grid", template, folder, ["--limit", str(rows)])
        _measure("random", template, folder, ["--rows", str(rows), "--seed", "1"])


def _measure(mode: str, template: str, folder: Path, options: list[str]) -> None:
    out = folder / f"{mode}.parquet"
    asked = ["manifest", "build", template, str(out), "--wildcards", str(folder), "--mode", mode]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, *asked, *options], capture_output=True, text=True
    )
    took = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    verdict = "within" if took <= LIMIT_S else "OVER"
    memory = done.stderr.split("\n")[0]
    sys.stdout.write(f"{mode}: {done.stdout.strip().removeprefix(str(out))}\n")
    sys.stdout.write(f"  {took:.1f} s ({verdict} {LIMIT_S:.0f} s), {memory}\n")


if __name__ == "__main__":
    main()
