"""Logs: complete up to a cap, stored in time, never in anybody's way."""

import json
import threading
import time

import pytest

from sdbatch.engine.log_file import LogFile
from sdbatch.errors import InputError, StorageError
from sdbatch.storage import layout
from tests.storage.stores import DictStore

SESSION = "0123456789ab"


class BrokenStore(DictStore):
    """Refuses to write while it is told to; counts what it was asked."""

    broken = True

    def __init__(self):
        super().__init__()
        self.puts = 0

    def put(self, key, data):
        self.puts += 1
        if self.broken:
            raise StorageError("the bucket is away")
        super().put(key, data)


def make(store=None, **options):
    store = DictStore() if store is None else store
    return store, LogFile(store, "main", SESSION, "w0", **options)


def lines(store):
    return [json.loads(text) for piece in pieces(store) for text in piece.splitlines()]


def pieces(store):
    found = sorted((layout.parse_log(key)[2], body) for key, body in store.objects.items())
    return [body for _, body in found]


def test_a_line_holds_what_was_said_and_nothing_empty():
    store, log = make()
    log.say("row_failed", "no memory", "warning", shard=3, row=71, attempt=2, worker=None)
    log.close()

    (line,) = lines(store)
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "warning", "event": "row_failed", "message": "no memory",
        "shard": 3, "row": 71, "attempt": 2,
    }  # fmt: skip
    assert list(store.objects) == [layout.log_key("main", SESSION, "w0", 0)]


def test_whatever_is_said_becomes_one_line_of_ascii_without_secrets():
    store, log = make()
    log.say("a\nb", "two\nlines é \ud800 token=geheim1", x={"k": {1, 2}}, y=float("nan"), z=b"\xff")
    log.close()

    (piece,) = pieces(store)
    assert piece.isascii()
    assert piece.count(b"\n") == 1
    assert b"geheim1" not in piece
    assert lines(store)[0]["y"] == "nan"


def test_a_monstrous_line_is_cut_and_says_so():
    store, log = make()
    log.say("big", "m" * 10**6)
    log.say("bigger", "short", **{f"fact{i}": "x" * 10_000 for i in range(20)})
    log.close()

    big, bigger = lines(store)
    assert len(big["message"]) < 20_000
    assert bigger["cut"] is True
    assert bigger["message"] == "short"


def test_full_pieces_are_followed_by_the_next_and_none_is_larger_than_allowed():
    store, log = make(piece_bytes=2_000)
    for number in range(200):
        log.say("tick", "t" * 50, number=number)
    log.close()

    assert [line["number"] for line in lines(store)] == list(range(200))
    assert len(pieces(store)) > 5
    assert max(len(piece) for piece in pieces(store)) <= 2_000
    assert log.lost == log.left_out == 0


def test_beyond_the_cap_the_last_line_counts_what_is_left_out_and_goes_on_counting():
    store, log = make(piece_bytes=2_000, writer_bytes=10_000)
    for _ in range(500):
        log.say("tick", "t" * 50)
    log.flush()
    first = lines(store)[-1]
    for _ in range(100):
        log.say("tick", "t" * 50)
    log.close()
    last = lines(store)[-1]

    assert (first["event"], last["event"]) == ("log_full", "log_full")
    assert first["lines"] + 100 == last["lines"] == log.left_out
    assert len([line for line in lines(store) if line["event"] == "tick"]) + log.left_out == 600
    assert sum(map(len, pieces(store))) <= 10_000
    assert log.lost == 0


def test_a_full_log_still_has_room_for_what_is_worse():
    store, log = make(piece_bytes=2_000, writer_bytes=10_000)
    for level in ("info", "warning"):
        for _ in range(500):
            log.say(level, "t" * 50, level)
    log.say("run_ended", "all workers died", "error")
    log.close()
    events = [line["event"] for line in lines(store)]

    assert events[-2] == "run_ended"
    assert 5 <= events.count("warning") < events.count("info")
    assert sum(map(len, pieces(store))) <= 10_000


def test_lines_are_stored_while_the_process_lives_the_first_and_errors_at_once(monkeypatch):
    monkeypatch.setattr("sdbatch.engine.log_file.HURRY_S", 0.02)
    store, log = make(every_s=0.05)
    slow_store, slow = make(every_s=3600.0)
    log.say("first")
    slow.say("first")
    wait_for(lambda: store.objects and slow_store.objects)
    log.say("tick")
    slow.say("crash", "last words", "error")
    wait_for(lambda: len(lines(store)) == len(lines(slow_store)) == 2)

    assert [line["event"] for line in lines(store)] == ["first", "tick"]
    assert [line["event"] for line in lines(slow_store)] == ["first", "crash"]
    log.close()
    slow.close()


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_store_that_fails_loses_lines_and_raises_nothing():
    store, log = make(BrokenStore())
    for _ in range(3):
        log.say("tick")
    log.flush()
    log.close()
    log.close()
    log.say("too late")

    assert log.lost == 4
    assert store.objects == {}


def test_a_store_that_comes_back_gets_everything():
    store, log = make(BrokenStore(), piece_bytes=300)
    for number in range(20):
        log.say("tick", number=number)
    log.flush()
    store.broken = False
    log.say("tick", number=20)
    log.close()

    assert [line["number"] for line in lines(store)] == list(range(21))
    assert log.lost == 0


def test_what_was_stored_before_is_not_counted_as_lost():
    store, log = make(BrokenStore())
    store.broken = False
    log.say("tick")
    log.flush()
    store.broken = True
    log.say("tick")
    log.close()

    assert log.lost == 1
    assert len(lines(store)) == 1


def test_nothing_is_written_again_when_nothing_was_said():
    store, log = make(BrokenStore())
    store.broken = False
    log.say("tick")
    for _ in range(5):
        log.flush()
    log.close()

    assert store.puts == 1


def test_threads_may_all_speak_at_once():
    store, log = make(every_s=0.01, piece_bytes=4_000)

    def speak(name):
        for number in range(200):
            log.say("tick", name=name, number=number)

    threads = [threading.Thread(target=speak, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()

    said = [(line["name"], line["number"]) for line in lines(store)]
    assert sorted(said) == [(name, number) for name in range(6) for number in range(200)]
    assert max(len(piece) for piece in pieces(store)) <= 4_000


def test_closing_does_not_wait_for_a_store_that_hangs(monkeypatch):
    monkeypatch.setattr("sdbatch.engine.log_file.CLOSE_S", 0.1)
    release = threading.Event()

    class HangingStore(DictStore):
        def put(self, key, data):
            release.wait(20)

    _, log = make(HangingStore(), every_s=0.01)
    log.say("tick")
    time.sleep(0.1)
    started = time.monotonic()
    log.close()

    assert time.monotonic() - started < 5
    assert log.lost == 1
    release.set()


def test_a_name_that_is_no_key_is_refused_when_the_log_is_opened():
    with pytest.raises(InputError):
        LogFile(DictStore(), "main", SESSION, "W 0/..")


SECRET = "Zx9Qw3rT7yLp0sKd"


@pytest.mark.parametrize(
    "text",
    [
        "token={}",
        '"aws_secret_access_key": "{}"',
        "s3://user:{}@host/bucket/key",
        "https://a/b?X-Amz-Signature={}&x=1",
        "headers={{'Authorization': 'Bearer {}'}}",
        "hf_{}AbCdEfGhIj",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi{}In0.{}",
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_a_secret_is_in_no_line_wherever_it_was_said(text):
    store, log = make()
    said = f"failed: {text.format(SECRET, SECRET)} (see above)"
    log.say("x", said, fact=said, deep=[{"inner": (said, ValueError(said))}])
    log.close()

    assert SECRET.encode() not in b"".join(pieces(store))
    assert lines(store)[0]["message"].startswith("failed: ")
