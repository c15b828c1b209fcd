"""How fast and how large PNG files are, against Pillow's default, for each kind of picture.

One thread, both encoders in turn on the same picture, best of some rounds each; metadata is
left out. Pictures are made here (`tests/dataset/kinds_of_pictures.py`), the embedded model's
own are enlarged, and photographs are taken from files named on the command line.

    python -m tests.bench.png --side 1024 --rounds 5 --photo grace_hopper.jpg
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from sdbatch.dataset.images import encode
from sdbatch.dataset.png_writer import write_png
from sdbatch.dataset.quality import quality_of
from sdbatch.output_specs import ImageSpec
from tests.dataset.kinds_of_pictures import KINDS


def pillow_default(pixels) -> bytes:
    """What `Image.save` writes when nothing is asked."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def milliseconds(work) -> tuple[float, object]:
    """Processor time of this thread."""
    started = time.thread_time()
    made = work()
    return 1e3 * (time.thread_time() - started), made


def compare(pixels, rounds: int) -> dict[str, float]:
    """Times, sizes and their ratios for one picture."""
    times: dict[str, list[float]] = {"pillow": [], "ours": [], "quality": []}
    sizes: dict[str, int] = {}
    image = Image.fromarray(pixels)
    for _ in range(rounds):
        for name, encoder in (("pillow", pillow_default), ("ours", write_png)):
            spent, data = milliseconds(lambda encoder=encoder: encoder(pixels))
            times[name].append(spent)
            sizes[name] = len(data)
        times["quality"].append(milliseconds(lambda: quality_of(image))[0])
    best = {name: min(spent) for name, spent in times.items()}
    return {
        "bytes_per_px": sizes["ours"] / (pixels.shape[0] * pixels.shape[1]),
        "pillow_ms": best["pillow"],
        "ours_ms": best["ours"],
        "faster": best["pillow"] / best["ours"],
        "larger": sizes["ours"] / sizes["pillow"],
        "quality_ms": best["quality"],
        "quality_share": best["quality"] / best["pillow"],
    }


def model_pictures(side: int) -> dict[str, np.ndarray]:
    """Pictures of the embedded model, as they are and enlarged."""
    from sdbatch import load_model

    drawn = next(load_model().stream([{"prompt": "a red circle", "seed": 7}])).pixels
    large = Image.fromarray(drawn).resize((side, side), Image.Resampling.LANCZOS)
    return {"model, as drawn": drawn, "model, enlarged": np.asarray(large)}


def main() -> None:
    """Print one line a picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photo", action="append", default=[], help="a photograph to measure")
    parser.add_argument("--model", action="store_true", help="pictures of the embedded model too")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    pictures = {name: make(said.side) for name, make in KINDS.items()}
    if said.model:
        pictures |= model_pictures(said.side)
    for path in said.photo:
        pictures[Path(path).name] = np.asarray(Image.open(path).convert("RGB"))
    encode(pictures["blank"], ImageSpec())  # libraries load
    found = {name: compare(np.ascontiguousarray(p), said.rounds) for name, p in pictures.items()}
    if said.json:
        print(json.dumps(found, indent=1))
        return
    print(
        f"{'picture':<20} {'pillow ms':>9} {'ours ms':>8} {'faster':>7} {'size':>6} {'quality':>8}"
    )
    for name, one in found.items():
        print(
            f"{name:<20} {one['pillow_ms']:9.1f} {one['ours_ms']:8.1f} {one['faster']:6.1f}x "
            f"{one['larger']:6.3f} {100 * one['quality_share']:7.1f}%"
        )


if __name__ == "__main__":
    main()
