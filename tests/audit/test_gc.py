"""gc removes what nobody can ever name, and nothing else."""

from __future__ import annotations

import pytest

from sdbatch.audit.gc import collect_orphans
from sdbatch.audit.verify import verify
from sdbatch.errors import DamagedError, InputError
from sdbatch.records import Redo
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.lease import DriverLease, Epoch, newest_epoch
from sdbatch.storage.process_identity import this_process
from sdbatch.storage.store import open_store
from tests.audit.tiny_dataset import PLAN, memory_store, write_dataset

LEFT_OVER = [
    layout.data_key("data", 1, 3, "ffffffff"),
    layout.data_key("filtered", 0, 3, "ffffffff"),
    layout.part_key("main", 1, "ffffffff", 0, "json"),
    layout.part_key("main", 1, "ffffffff", 0, "parquet"),
    layout.token_key("abc-w0"),
]
NOT_OURS = [
    "data/notes.txt",
    "README.md",
    layout.data_key("data", 0, 1, "ffffffff", "n2"),
    layout.part_key("n2", 0, "ffffffff", 0, "json"),
]


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return open_store(tmp_path / "out") if request.param == "local" else memory_store()


def test_before_success_nothing_is_deleted(store):
    write_dataset(store, success=False)
    store.put(LEFT_OVER[0], b"x")

    with pytest.raises(InputError, match="not finished"):
        collect_orphans(store)
    assert store.head(LEFT_OVER[0])


def test_a_folder_without_a_run_is_refused_as_such(store):
    store.put("data/notes.txt", b"x")

    with pytest.raises(InputError, match="holds no run 'main', name the output"):
        collect_orphans(store)


def test_the_newest_three_leases_stay_with_their_heartbeats(store):
    write_dataset(store)
    for epoch in range(1, 7):
        store.put(layout.lease_key("main", epoch), b"{}")
        store.put(layout.heartbeat_key("main", epoch), b"{}")
    old = [key("main", n) for key in (layout.lease_key, layout.heartbeat_key) for n in (1, 2, 3)]

    assert collect_orphans(store) == sorted(old)
    assert collect_orphans(store) == []
    assert newest_epoch(store).number == 6


def test_a_driver_that_takes_an_epoch_that_gc_removed_gives_way_at_once(store):
    write_dataset(store)
    slept = DriverLease(store, "main", Epoch(1, "a", this_process(), ""), lambda line: None)
    for epoch in range(2, 6):
        store.put(layout.lease_key("main", epoch), b"{}")
    slept.start()
    slept.release()

    assert slept.lost


def test_a_rotted_commit_record_is_named_without_internals_and_with_its_repair(store):
    write_dataset(store)
    key = layout.commit_key("main", 1)
    store.put(key, store.get(key).replace(b"finished_at", b"finisied_at"))

    with pytest.raises(DamagedError) as caught:
        collect_orphans(store)
    reason = f"it is no commit record, mend it with: sdbatch repair {store.url}"
    assert str(caught.value) == f"{store.join(key)}: damaged, {reason}"


def test_only_what_no_record_names_is_deleted(store):
    write_dataset(store)
    for key in (*LEFT_OVER, *NOT_OURS):
        store.put(key, b"x")

    assert collect_orphans(store, dry_run=True) == sorted(LEFT_OVER)
    assert all(store.head(key) for key in LEFT_OVER)
    assert collect_orphans(store) == sorted(LEFT_OVER)
    assert collect_orphans(store) == []
    assert all(store.head(key) for key in NOT_OURS)
    assert verify(store, level=3).exit_code == 0


def test_while_a_rework_is_open_nothing_is_deleted_and_its_command_is_named(store):
    write_dataset(store)
    folder = RunFolder(store)
    folder.begin_rework(Redo("failed"), {1: 1}, PLAN)
    store.put(LEFT_OVER[0], b"x")

    with pytest.raises(InputError, match="finish it with sdbatch retry"):
        collect_orphans(store)
    assert store.head(LEFT_OVER[0])


def test_a_rework_that_begins_while_gc_reads_loses_nothing(store):
    write_dataset(store)
    late = layout.data_key("data", 1, 3, "eeeeeeee")
    listing = store.list

    def begins_meanwhile(prefix):
        if "commits" in prefix:
            store.list = listing
            RunFolder(store).begin_rework(Redo("failed"), {1: 1}, PLAN)
            store.put(late, b"x")
        return listing(prefix)

    store.list = begins_meanwhile
    with pytest.raises(InputError, match="retry"):
        collect_orphans(store)
    assert store.head(late)


def test_parts_of_revisions_old_copies_and_unheeded_stops_go_and_logs_stay(store):
    write_dataset(store)
    part = layout.part_key("main", 1, "ffffffff", 0, "json", revision=2)
    for number in range(4):
        store.put(layout.compaction_key("main", number), b"x")
    for epoch in (1, 2):
        store.put(layout.lease_key("main", epoch), b"{}")
        store.put(layout.stop_key("main", epoch), b"")
    log = layout.log_key("main", "0a1b2c3d4e5f", "w0", 0)
    for key in (part, log):
        store.put(key, b"x")

    old = [layout.compaction_key("main", number) for number in (0, 1)]
    assert collect_orphans(store) == sorted([part, *old, layout.stop_key("main", 1)])
    assert store.head(log)


def test_half_written_files_of_dead_writers_go_too(tmp_path):
    store = open_store(tmp_path)
    write_dataset(store)
    write_dataset(store, "n2", success=False)
    half = tmp_path / "data" / ".train-00001.ffff.tmp"
    other = tmp_path / "data" / "run=n2" / ".train-00001.ffff.tmp"
    for path in (half, other):
        path.write_bytes(b"half")
    collect_orphans(store)

    assert not half.exists()
    assert other.exists()


def test_a_lost_commit_record_takes_no_file_with_it(store):
    write_dataset(store)
    store.put(LEFT_OVER[0], b"x")
    store.delete(layout.commit_key("main", 1))

    for dry_run in (True, False):
        with pytest.raises(DamagedError, match="2 commit records stand") as caught:
            collect_orphans(store, dry_run=dry_run)
        assert "\n" not in str(caught.value)
    assert all(store.head(file["key"]) for file in RunFolder(store).success()["files"])
    assert store.head(LEFT_OVER[0])


def test_files_that_only_the_success_record_names_are_kept(store):
    write_dataset(store)
    second = layout.commit_key("main", 1)
    lost = RunFolder(store).read_record(second).files
    # a record that stands again, for other files than the success record knows
    store.put(second, store.get(second).replace(b"-0a1b2c3d", b"-ffffffff"))

    assert collect_orphans(store) == []
    assert len(lost) > 1
    assert all(store.head(file.key) for _, file in lost)


@pytest.mark.parametrize("body", [b"{}", b'{"files": [], "num_shards": null}', b'{"files": 3}'])
def test_a_success_record_without_files_deletes_nothing(store, body):
    write_dataset(store)
    store.put(LEFT_OVER[0], b"x")
    store.put(layout.success_key("main", 1), body)

    with pytest.raises(DamagedError, match="nothing was deleted"):
        collect_orphans(store)
    assert store.head(LEFT_OVER[0])


def test_temporary_files_in_the_state_folder_go_once_the_run_is_finished(tmp_path):
    store = open_store(tmp_path)
    write_dataset(store, success=False)
    write_dataset(store, "n2")
    state = tmp_path / "__sdbatch"
    ours = [
        state / "main" / ".plan-abababababababab.parquet.0f.tmp",
        state / "main" / "commits" / "000" / ".00001.json.0f.tmp",
    ]
    others = [state / "n2" / ".plan-0f.tmp", state / ".plan-0f.tmp", tmp_path / ".mine.tmp"]
    for path in (*ours, *others):
        path.write_bytes(b"half")

    with pytest.raises(InputError):
        collect_orphans(store)
    assert all(path.exists() for path in ours)
    RunFolder(store).create_success(PLAN, 3)
    collect_orphans(store, dry_run=True)
    assert all(path.exists() for path in ours)
    collect_orphans(store)
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in others)
    assert verify(store, level=3).exit_code == 0
