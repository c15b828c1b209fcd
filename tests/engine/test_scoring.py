"""Pictures pass the scorers one by one or together, in any number, and none stays behind."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.engine import scoring as scoring_module
from sdbatch.engine.commit_shard import Ledger
from sdbatch.engine.scoring import Scoring
from sdbatch.model_specs import ScorerSpec
from sdbatch.records import RenderRow
from sdbatch.render.judges.fake_scorer import fake_score
from sdbatch.render.judges.scorers import Panel, load_panel
from sdbatch.render.protocol import Counters
from sdbatch.results import RenderedImage, RowFailure


def image(number):
    row = RenderRow(number, 0, "", f"picture {number}", "", 0, 8, 8, 1, 1.0, "DDIMScheduler")
    return RenderedImage(row, np.full((8, 8, 3), number + 1, np.uint8), 1, False, 1.0)


def failure(number):
    return RowFailure(image(number).row, "Error", "no picture")


class Bench:
    """A scoring between a list of results and a list of what came of them."""

    def __init__(self, panel):
        self.out, self.faults, self.fatal = [], [], []
        self.ledger = Ledger(SimpleNamespace(counters=Counters()), 0.0)
        self.scoring = Scoring(
            panel, self.out.append, self.ledger,
            lambda one, why: self.faults.append((one.row.row_index, why)), self.fatal.append,
        )  # fmt: skip


def fake_panel(options="", batch_size=4):
    spec = ScorerSpec("clip", "fake", "fake", f"fake:{options}", "r")
    return load_panel([spec], batch_size=batch_size)


@settings(max_examples=30, deadline=None)
@given(
    kinds=st.lists(st.booleans(), max_size=20),
    batch_size=st.integers(1, 5),
    scored=st.booleans(),
)
def test_whatever_comes_in_comes_out_once_with_its_score(kinds, batch_size, scored):
    bench = Bench(fake_panel(batch_size=batch_size) if scored else None)
    for number, drawn in enumerate(kinds):
        bench.scoring.put(image(number) if drawn else failure(number))
    bench.scoring.close()
    assert sorted(one.row.row_index for one in bench.out) == list(range(len(kinds)))
    for one in bench.out:
        if isinstance(one, RenderedImage) and scored:
            assert one.scores == {"clip_score": fake_score(one.pixels, one.row.prompt)}
        elif isinstance(one, RenderedImage):
            assert not one.scores
    assert not bench.fatal
    assert (bench.ledger.take().get("score", 0) > 0) == (scored and any(kinds))


def test_a_single_picture_waits_for_others_only_a_moment():
    bench = Bench(fake_panel(batch_size=64))
    bench.scoring.put(image(0))
    until = time.monotonic() + 10
    while not bench.out and time.monotonic() < until:
        time.sleep(0.01)
    assert len(bench.out) == 1
    bench.scoring.close()


def test_the_renderer_does_not_wait_for_a_slow_scorer():
    bench = Bench(fake_panel("ms=50"))
    began = time.monotonic()
    for number in range(8):
        bench.scoring.put(image(number))
    assert time.monotonic() - began < 0.2
    bench.scoring.close()
    assert len(bench.out) == 8


def test_faults_are_told_with_their_picture():
    bench = Bench(fake_panel("fail=0.5"))
    for number in range(20):
        bench.scoring.put(image(number))
    bench.scoring.close()
    assert len(bench.out) == 20
    lost = sorted(one.row.row_index for one in bench.out if one.scores["clip_score"] is None)
    assert lost == sorted(number for number, _ in bench.faults)
    assert 0 < len(lost) < 20


def test_what_waits_is_dropped_when_nobody_can_wait():
    bench = Bench(fake_panel("ms=200"))
    for number in range(40):
        bench.scoring.put(image(number))
    began = time.monotonic()
    bench.scoring.close(drop=True)
    assert time.monotonic() - began < 5
    assert len(bench.out) <= 8


class Dying:
    name, columns, revision = "clip", ("clip_score",), "r"

    def score(self, pictures, prompts):
        raise MemoryError("the device is gone")


@pytest.mark.parametrize("closes", [True, False])
def test_a_device_that_fails_is_told_once_and_nothing_hangs(closes):
    bench = Bench(Panel([Dying()], 2, fatal=(MemoryError,)))
    if closes:  # as a desk does when it hears of it, from the very thread
        bench.scoring._on_fatal = lambda error: (bench.fatal.append(error), bench.scoring.close())
    for number in range(9):
        bench.scoring.put(image(number))
    done = threading.Thread(target=bench.scoring.close)
    done.start()
    done.join(timeout=10)
    assert not done.is_alive()
    assert len(bench.fatal) == 1
    assert bench.out == []
    assert scoring_module.LINGER_S < 1
