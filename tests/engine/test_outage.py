"""A store that fails pauses all, is probed by one, and gives up in time."""

import itertools
import random

from sdbatch.engine.events import (
    CARE_PARTS,
    Assign,
    Drain,
    Finish,
    LeaseReturned,
    Pulse,
    StoreTrouble,
)
from sdbatch.engine.outage import HEARD_LATE_S
from sdbatch.engine.state import EngineState
from tests.engine.standin import make_shards, ready
from tests.engine.world import (
    World,
    assigned,
    bring_up,
    died,
    disk_full,
    done,
    failed,
    finish_of,
    make_state,
    make_terms,
    started,
    store_failed,
)


def broken(shards=8, **terms):
    """At 1010 s the first of two workers lost both its shards, 0 and 1, to a failing store.

    The second one still draws shards 2 and 3. The store was last known to work at 1000 s.
    """
    state = make_state(shards, now=1000.0, **terms)
    names, _ = bring_up(state, 1000.0)
    assert [sorted(view.leases) for view in state._pool.views.values()] == [[0, 1], [2, 3]]
    said = [one for shard in (0, 1) for one in state.handle(store_failed(names[0], shard), 1010.0)]
    assert assigned(said) == []
    return state, names


def leases_of(state, since, until):
    """(when, lease) of all that ticks give."""
    now, found = since, []
    while now < until:
        found += [(now, one) for one in state.tick(now) if isinstance(one, Assign)]
        now += 0.5
    return found


def fail_every_probe(state, since, until):
    """Each probe fails at once: when they came, the end if it came, and what people read."""
    now, probes, lines = since, [], []
    while now < until:
        now += 0.5
        lines += [line for line in [state.waiting_line(now)] if line]
        for command in state.tick(now):
            if isinstance(command, Assign):
                probes.append(now)
                event = store_failed(command.worker, command.lease.shard.shard_id)
                if (finish := finish_of(state.handle(event, now))) is not None:
                    return probes, finish, lines
    return probes, None, lines


def test_a_failing_store_pauses_leases_for_the_whole_pool():
    state, (_, two) = broken()
    said = [one for shard in (2, 3) for one in state.handle(LeaseReturned(two, shard), 1011.0)]

    assert assigned(said) == []
    assert leases_of(state, 1011.0, 1013.5) == []


def test_one_lease_at_a_time_probes_after_pauses_that_grow():
    state, _ = broken(shards=20)
    probes, finish, _ = fail_every_probe(state, 1010.0, 1300.0)
    gaps = [later - sooner for sooner, later in zip([1010.0, *probes], probes, strict=False)]

    assert finish is None
    assert 3.5 <= gaps[0] <= 5.5
    assert all(later >= 0.7 * sooner for sooner, later in itertools.pairwise(gaps))
    assert 45 <= gaps[-1] <= 61


def test_while_a_probe_is_out_nobody_else_gets_a_lease():
    state, (_, two) = broken()
    for shard in (2, 3):
        state.handle(LeaseReturned(two, shard), 1011.0)

    assert len(leases_of(state, 1011.0, 1200.0)) == 1


def test_a_probe_asks_for_parts_so_that_it_soon_hears_of_the_store():
    state, _ = broken()
    ((_, probe),) = leases_of(state, 1010.5, 1020.0)

    assert probe.lease.care == CARE_PARTS


def test_a_commit_ends_the_pause_and_all_go_on():
    state, (one, two) = broken()
    said = state.handle(done(two, 2), 1011.0)

    assert one in {worker for worker, _ in assigned(said)}
    assert state.waiting_line(1012.0) is None


def test_people_hear_when_the_store_works_again():
    state, (_, two) = broken()
    first = state.waiting_line(1011.0)
    state.handle(done(two, 2), 1131.0)

    assert first.startswith("the store fails")
    assert state.waiting_line(1131.5) == "the store works again after 2m11s"
    assert state.waiting_line(1132.0) is None


def test_a_stored_part_ends_the_pause_as_well():
    state, (one, two) = broken()
    said = state.handle(Pulse(two, {2: 1, 3: 0}, 1, "drawing", saved=1), 1011.0)
    said += state.tick(1011.5)

    assert one in {worker for worker, _ in assigned(said)}


def test_a_fault_of_one_shard_alone_counts_against_it_and_keeps_its_retries():
    state = make_state(1, workers=1, retries=2)
    (name,), _ = bring_up(state)
    now, tries = 0.0, 1
    while tries < 10 and state._ending is None:
        state.handle(store_failed(name, 0), now)
        ((now, _), *_) = leases_of(state, now, now + 120)
        tries += 1
        now += 1.0
        state.handle(Pulse(name, {0: tries}, 1, "drawing", saved=tries), now)

    assert state._ending == Finish(3, "shard 00000: bucket is gone")
    assert tries == 4


def test_an_outage_of_several_shards_counts_against_none():
    state, (_, two) = broken(retries=0)
    said = state.handle(done(two, 2), 1012.0)

    assert finish_of(said) is None
    assert {shard for _, shard in assigned(said)} >= {0, 1}


def test_after_ten_minutes_the_run_ends_with_3_and_says_so_meanwhile():
    state, (_, two) = broken(shards=20)
    for shard in (2, 3):
        state.handle(store_failed(two, shard), 1010.5)
    probes, finish, lines = fail_every_probe(state, 1010.5, 1800.0)

    assert 1600 <= probes[-1] <= 1665
    assert finish.exit_code == 3
    assert finish.reason.startswith("the store has failed for 10m")
    assert finish.reason.endswith("nothing was committed: bucket is gone")
    assert 19 <= len(lines) <= 23
    assert "the store fails, no shard is begun until it works again" in lines[0]


def test_a_worker_is_heard_late_so_the_time_counts_from_before_that():
    state = make_state(8, workers=1)
    (name,), _ = bring_up(state, 0.0)
    state.handle(done(name, 0), 10.0)
    early = state.handle(store_failed(name, 1), 10.0 + HEARD_LATE_S)
    late = state.handle(store_failed(name, 2), 10.0 + 600.0)

    assert finish_of(early) is None
    assert [type(one) for one in late] == [Drain, Finish]
    assert late[-1].exit_code == 3


def test_a_probe_whose_worker_dies_is_followed_by_another():
    state, (_, two) = broken()
    ((_, first),) = leases_of(state, 1010.5, 1020.0)
    for shard in (2, 3):
        state.handle(LeaseReturned(two, shard), 1020.0)
    state.handle(died(first.worker), 1020.0)

    assert [one.worker for _, one in leases_of(state, 1020.5, 1040.0)] == [two]


def test_an_error_that_is_not_the_stores_pauses_nobody():
    state = make_state(20)
    (one, _), _ = bring_up(state)

    assert assigned(state.handle(failed(one, 0), 1.0)) == [(one, 4)]


def test_an_outage_in_a_world_of_workers_ends_with_every_shard_committed():
    shards = make_shards(12, 8)
    state = EngineState(shards, make_terms(workers=3, retries=0), random.Random(3), 0.0)
    world = World(state, shards, random.Random(3), outages=((3.0, 240.0),))

    assert world.run() == Finish(0, "")
    assert world.now > 240
    assert state.tally.workers_lost == 0


def trouble(worker, failing_s, first=False, message="bucket is gone"):
    return StoreTrouble(worker, message, failing_s, first)


def test_people_hear_early_and_once_that_a_worker_waits_for_the_store():
    state = make_state(8, workers=1, now=1000.0)
    (name,), _ = bring_up(state, 1000.0)
    state.handle(trouble(name, 60.0, first=True), 1100.0)
    first = state.waiting_line(1100.5)
    state.handle(trouble(name, 140.0), 1180.0)

    assert first == "the store fails on w0: bucket is gone; waiting"
    assert state.waiting_line(1181.0) is None
    assert state.progress(1181.0).paused
    state.handle(done(name, 0), 1190.0)
    assert state.waiting_line(1191.0) == "the store works again after 2m30s"


def test_ten_minutes_count_from_the_first_call_that_failed():
    state = make_state(8, workers=1, now=1000.0)
    (name,), _ = bring_up(state, 1000.0)
    state.handle(trouble(name, 60.0, first=True), 1100.0)
    state.handle(store_failed(name, 0), 1400.0)
    early = state.handle(trouble(name, 590.0), 1630.0)
    late = state.handle(trouble(name, 605.0), 1645.0)

    assert finish_of(early) is None
    assert [one.within_s for one in late if isinstance(one, Drain)]
    assert state._ending.exit_code == 3
    assert state._ending.reason.startswith("the store has failed for 10m")


def test_while_the_store_is_full_a_stored_part_ends_no_pause_and_a_commit_does():
    state = make_state(8, now=1000.0)
    (one, two), _ = bring_up(state, 1000.0)
    full = "out: cannot write: No space left on device"
    state.handle(trouble(one, 1.0, first=True, message=full), 1010.0)
    state.waiting_line(1010.5)
    state.handle(Pulse(two, {2: 1, 3: 0}, 1, "drawing", saved=1), 1011.0)

    assert state.waiting_line(1011.5) is None
    assert state.progress(1011.5).paused
    state.handle(done(two, 2), 1012.0)
    assert state.waiting_line(1012.5).startswith("the store works again")
    assert not state.progress(1012.5).paused


def test_a_stored_part_between_two_failures_does_not_start_the_ten_minutes_again():
    state = make_state(8, workers=1, now=1000.0)
    (name,), _ = bring_up(state, 1000.0)
    state.handle(trouble(name, 0.0, first=True), 1000.0)
    state.handle(Pulse(name, {0: 1, 1: 0}, 1, "drawing", saved=1), 1400.0)
    state.handle(trouble(name, 5.0, first=True), 1605.0)

    assert state._ending.exit_code == 3


# -- disks -------------------------------------------------------------------------------


def test_a_full_disk_moves_the_shard_to_another_worker_without_blame():
    state = make_state(8, retries=0)
    (one, two), _ = bring_up(state)
    said = state.handle(disk_full(one, 0), 1.0)
    said += state.handle(done(two, 2), 2.0) + state.handle(done(two, 3), 2.5)

    assert (two, 0) in assigned(said)
    assert finish_of(said) is None
    assert "w2" in started(said + state.tick(5.0))


def test_the_disk_of_the_only_worker_full_ends_the_run_and_names_the_place():
    state = make_state(8, workers=1)
    (one,), _ = bring_up(state)
    end = state.handle(disk_full(one, 0), 1.5)

    assert finish_of(end) == Finish(3, "node n1, /tmp: no space left on device")


def test_full_disks_do_not_go_round_for_ever():
    state = make_state(20, retries=0)
    names, _ = bring_up(state)
    finish, now = None, 0.0
    for _ in range(20):
        now += 100.0
        for name in names:
            state.handle(Pulse(name, {}, 0, "drawing"), now)
        for name in started(state.tick(now)):
            names.append(name)
            state.handle(ready(name), now)
        worker = names.pop(0)
        shard = next(iter(state._pool.views[worker].leases))
        finish = finish_of(state.handle(disk_full(worker, shard), now + 1))
        if finish:
            break

    assert finish == Finish(3, "node n1, /tmp: no space left on device")
