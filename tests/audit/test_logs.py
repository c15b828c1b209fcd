"""Logs read back: merged by time, filtered, bounded."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from sdbatch.audit.logs import read_logs
from sdbatch.engine.log_file import LogFile
from sdbatch.errors import InputError
from sdbatch.storage import layout
from tests.audit.tiny_dataset import memory_store, write_job

ONE, TWO = "aaaaaaaaaaaa", "0bbbbbbbbbbb"
START = datetime(2026, 3, 4, 22, 0, tzinfo=UTC)


@pytest.fixture
def store():
    return memory_store()


class Clock:
    """A clock that all writers of a test share; it moves when it is looked at."""

    def __init__(self, start=START):
        self.now = start

    def __call__(self):
        self.now += timedelta(seconds=1)
        return self.now


def write(store, session=ONE, start=START):
    """A night: the driver and two workers take turns."""
    clock = Clock(start)
    logs = {
        name: LogFile(store, "main", session, name, now=clock, piece_bytes=700)
        for name in ("driver", "w0", "w1")
    }
    for number in range(12):
        worker = f"w{number % 2}"
        logs["driver"].say("lease", "given", "debug", shard=number, worker=worker)
        logs[worker].say("shard_opened", shard=number, number=number)
        if number == 5:
            logs[worker].say("row_failed", "no memory", "warning", shard=5, row=55)
    logs["driver"].say("run_ended", "done", exit_code=0)
    for log in logs.values():
        log.close()


def test_writers_are_merged_by_time_and_nothing_is_lost(store):
    write(store)
    lines = list(read_logs(store, level="debug"))

    assert len(lines) == 12 + 12 + 1 + 1
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert {line.writer for line in lines} == {"driver", "w0", "w1"}
    assert lines[-1].body["event"] == "run_ended"
    assert len(list(store.list(layout.logs_prefix("main")))) > 3


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 14),
        ({"level": "warning"}, 1),
        ({"level": "debug", "shard": 5}, 3),
        ({"row": 55}, 1),
        ({"worker": "w1"}, 7),
        ({"worker": "w1", "level": "debug"}, 13),
        ({"worker": "driver", "level": "debug"}, 13),
        ({"shard": 99}, 0),
        ({"tail": 3}, 3),
    ],
)
def test_filters_narrow(store, wanted, count):
    write(store)
    lines = list(read_logs(store, **wanted))

    assert len(lines) == count
    if "tail" in wanted:
        assert lines[-1].body["event"] == "run_ended"


def test_the_latest_session_is_shown_unless_another_is_named(store):
    write(store, ONE)
    write(store, TWO, START + timedelta(days=1))

    assert {line.session for line in read_logs(store)} == {TWO}
    assert {line.session for line in read_logs(store, session=ONE)} == {ONE}
    both = list(read_logs(store, session="all"))
    assert [line.session for line in both] == [ONE] * 14 + [TWO] * 14
    with pytest.raises(InputError, match=f"there are {TWO}, {ONE}"):
        read_logs(store, session="nope")


def test_an_unknown_level_is_refused(store):
    with pytest.raises(InputError, match="one of debug, info, warning, error"):
        read_logs(store, level="loud")


def test_a_run_without_logs_is_empty_and_no_run_is_refused(store):
    with pytest.raises(InputError, match="holds no run"):
        read_logs(store)
    write_job(store)

    assert list(read_logs(store)) == []


def test_a_line_for_people_is_one_line_in_local_time_with_its_facts(store):
    write(store)
    (line,) = read_logs(store, level="warning")
    local = datetime.fromisoformat(line.at).astimezone().strftime("%d %b %H:%M:%S")

    assert line.describe() == (f"{local} warning w1     row_failed: no memory  [shard=5  row=55]")
    assert line.to_json() == {**line.body, "session": ONE, "writer": "w1"}


def test_a_traceback_stands_below_and_nothing_steers_the_terminal(store):
    log = LogFile(store, "main", ONE, "w0")
    log.say("row_failed", "a\x1b[2Jb\nc", "error", traceback="one\ntwo\x07", prompt="\x9b31m")
    log.close()
    (line,) = read_logs(store)
    shown = line.describe()

    assert shown.splitlines()[1:] == ["    one", "    two\\x07"]
    assert "a\\x1b[2Jb\\nc" in shown
    assert all(text.isprintable() for text in shown.splitlines())


def test_lines_that_are_no_json_are_told_and_the_others_shown(store):
    write_job(store)
    good = json.dumps({"at": "2026-01-01T00:00:00+00:00", "level": "info", "event": "x"})
    body = f"{good}\nnot json\n[1]\n{good}\n".encode()
    store.put(layout.log_key("main", ONE, "driver", 0), body)
    store.put(f"{layout.logs_prefix('main')}{ONE}/notes.txt", b"of somebody else")

    events = [line.body["event"] for line in read_logs(store)]
    assert sorted(events) == ["unreadable", "unreadable", "x", "x"]
    assert all(line.describe() for line in read_logs(store))


def test_pieces_are_read_one_at_a_time(store, monkeypatch):
    log = LogFile(store, "main", ONE, "w0", piece_bytes=1000)
    for number in range(200):
        log.say("tick", "t" * 100, number=number)
    log.close()
    asked = []
    get = type(store).get
    monkeypatch.setattr(type(store), "get", lambda self, key: asked.append(key) or get(self, key))

    lines = read_logs(store)
    next(lines)
    first = len(asked)
    rest = list(lines)

    assert first == 1
    assert len(asked) > 15
    assert [line.body["number"] for line in rest] == list(range(1, 200))
