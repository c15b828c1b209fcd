"""Behind a bad network: the right bytes or one clear error, in bounded time.

One class per client; the whole matrix of faults and verbs is `tests/bench/flaky_matrix.py`.
Times are those of `QUICK`: a call is given 1.5 s instead of 20, a verb 6 s instead of 60.
"""

from __future__ import annotations

import os
import time

import pytest

from sdbatch.errors import DamagedError, StorageError
from sdbatch.storage.retrying import Patience
from tests.storage.flaky_proxy import Fault, FlakyProxy, always, first

QUICK = Patience(call_s=1.5, verb_s=6.0, pause_s=0.02, longest_pause_s=0.3)
BOUND_S = QUICK.verb_s + QUICK.call_s + 3.0
PASSING = [
    Fault("status", 503),
    Fault("status", 500),
    Fault("status", 429),
    Fault("reset"),
    Fault("lost"),
    Fault("status_after", 503),
    Fault("truncate"),
]
pytestmark = [pytest.mark.stores, pytest.mark.timeout(120)]


def name_of(fault):
    return f"{fault.what}-{fault.code}" if "status" in fault.what else fault.what


class FlakyNetwork:
    """What every client must survive; a subclass says whose."""

    kind = ""

    @pytest.fixture
    def proxy(self, request, reach):
        server = request.getfixturevalue(f"{self.kind}_server")
        proxy = FlakyProxy(self.kind, server.port).start()
        reach(server.behind(proxy.port))
        yield proxy
        proxy.stop()
        assert any(fault for _, _, fault in proxy.seen), "nothing was spoilt"

    @pytest.fixture
    def server(self, proxy, request):
        return request.getfixturevalue(f"{self.kind}_server").behind(proxy.port)

    @pytest.fixture
    def store(self, server):
        store = server.open(patience=QUICK)
        store.put("warm", b"x")
        return store

    @pytest.mark.parametrize("fault", PASSING, ids=name_of)
    def test_a_record_is_created_exactly_once_whatever_is_lost(self, store, proxy, fault):
        proxy.plan = first(2, fault)
        assert store.create_once("record", b"ours" * 50)
        proxy.plan = first(2, fault)
        assert not store.create_once("record", b"theirs")

        proxy.plan = lambda _: None
        assert store.get("record") == b"ours" * 50

    @pytest.mark.parametrize("fault", PASSING, ids=name_of)
    def test_every_verb_outlives_two_failures(self, store, proxy, fault, tmp_path):
        (tmp_path / "source").write_bytes(b"picture" * 99)
        for call in (
            lambda: store.put_file("data/x", tmp_path / "source"),
            lambda: store.put("other", b"x"),
            lambda: store.get_file("data/x", tmp_path / "copy"),
            lambda: store.head("data/x"),
            lambda: list(store.list("")),
            lambda: store.delete("other"),
        ):
            proxy.plan = first(2, fault)
            call()
        proxy.plan = lambda _: None

        assert (tmp_path / "copy").read_bytes() == b"picture" * 99
        assert [info.key for info in store.list("")] == ["data/x", "warm"]

    @pytest.mark.parametrize("what", ["truncate", "shorten", "flip_down"])
    def test_a_spoilt_answer_is_asked_for_again(self, store, proxy, what):
        store.put("x", content := os.urandom(5000))
        proxy.plan = first(2, Fault(what), lambda request: request.method == "GET")

        assert store.get("x") == content

    @pytest.mark.parametrize("what", ["truncate", "shorten"])
    def test_half_a_listing_is_never_taken_for_a_whole_one(self, store, proxy, what):
        for number in range(6):
            store.put(f"d/{number}", b"x")
        proxy.plan = first(2, Fault(what), lambda request: request.method == "GET")

        assert len(list(store.list("d/"))) == 6

    @pytest.mark.parametrize("what", ["shorten", "flip_down"])
    def test_answers_that_stay_spoilt_are_damage_and_never_bytes(
        self, store, proxy, what, tmp_path
    ):
        store.put("x", os.urandom(5000))
        proxy.plan = always(Fault(what))

        for read in (store.get, lambda key: store.get_file(key, tmp_path / "copy")):
            with pytest.raises((DamagedError, StorageError)) as caught:
                read("x")
            assert "\n" not in str(caught.value)

    def test_a_byte_flipped_in_an_upload_never_stays(self, store, proxy, tmp_path):
        content = os.urandom(20_000)
        (tmp_path / "source").write_bytes(content)
        sends = ("PUT", "POST")
        proxy.plan = first(2, Fault("flip_up"), lambda request: request.method in sends)
        store.put_file("data/x", tmp_path / "source")
        proxy.plan = lambda _: None

        assert store.get("data/x") == content

    def test_a_store_that_never_answers_is_left_in_bounded_time(self, store, proxy):
        for plan in (always(Fault("hang")), always(Fault("status", 503))):
            proxy.plan, started = plan, time.monotonic()
            with pytest.raises(StorageError, match="given up after") as caught:
                store.get("warm")
            assert time.monotonic() - started < BOUND_S
            assert caught.value.retryable

    def test_an_unanswered_create_that_landed_is_found_to_be_ours(self, store, proxy):
        sends = ("PUT", "POST")
        proxy.plan = first(1, Fault("hang_after"), lambda request: request.method in sends)

        assert store.create_once("record", b"ours")

    def test_a_large_file_arrives_whole_though_every_third_request_fails(
        self, store, proxy, tmp_path
    ):
        store.chunk_bytes = 1 << 20
        content = os.urandom(12_000_000)
        (tmp_path / "source").write_bytes(content)
        count = [0]

        def every_third(_request):
            count[0] += 1
            return Fault("reset") if count[0] % 3 == 0 else None

        proxy.plan = every_third
        store.put_file("data/large", tmp_path / "source")
        store.get_file("data/large", tmp_path / "copy")

        assert (tmp_path / "copy").read_bytes() == content


class TestS3(FlakyNetwork):
    kind = "s3"

    def test_an_error_inside_a_good_answer_is_not_taken_for_success(self, store, proxy, tmp_path):
        content = os.urandom(17 << 20)
        (tmp_path / "source").write_bytes(content)
        completes = lambda request: "uploadId=" in request.path and request.method == "POST"  # noqa: E731
        proxy.plan = first(1, Fault("late_error"), completes)
        store.put_file("data/x", tmp_path / "source")
        proxy.plan = lambda _: None

        assert store.get("data/x") == content


class TestGoogle(FlakyNetwork):
    kind = "gs"


class TestAzure(FlakyNetwork):
    kind = "az"
