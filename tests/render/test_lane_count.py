"""On a CPU the number of lanes is a rule of the latents' size."""

from __future__ import annotations

import pytest

from sdbatch.render.lane_count import cpu_lanes


@pytest.mark.parametrize(
    ("cells", "lanes"), [((8, 8), 16), ((16, 16), 16), ((32, 32), 4), ((64, 64), 2), ((128, 96), 2)]
)
def test_lanes_fall_with_the_size_and_hold_a_guided_row(cells, lanes):
    assert cpu_lanes(cells) == lanes
