"""Two drivers at once: what one does never costs the other's work its place in the dataset."""

from __future__ import annotations

import pytest

from tests.storage.protocol_model import state_after
from tests.storage.turns import ROLES, Race, Switches

SEEDS = 1000


@pytest.mark.parametrize("role", range(len(ROLES)), ids=lambda n: "-".join(map("+".join, ROLES[n])))
def test_two_drivers_interleaved_at_every_call_make_one_dataset(role, tmp_path):
    race = Race(tmp_path)
    for seed in range(role, SEEDS, len(ROLES)):
        assert race.run(seed) is None, f"seed {seed}"


@pytest.mark.parametrize(
    ("stopped", "other"),
    [("gc", "retry"), ("render", "retry"), ("retry", "retry"), ("retry", "render")],
)
def test_a_command_stopped_at_any_call_for_any_part_of_another_breaks_nothing(
    stopped, other, tmp_path
):
    rendered = state_after(tmp_path, "render")
    switches = Switches(tmp_path, (stopped,), (other,), rendered)

    assert switches.first_failure() is None
