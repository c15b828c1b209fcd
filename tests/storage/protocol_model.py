"""The protocol in small: a driver that draws three shards of bytes through the real records.

It renders, retries, repairs, gathers records and collects orphans as the engine does, on a
store that fails where it is told to. `Watch` holds what must be true at every moment.
Some rows fail when they are first drawn and succeed in a retry.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from contextlib import suppress

from sdbatch.audit.gc import collect_orphans, find_files
from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError, SdbatchError
from sdbatch.records import Redo
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.compactor import compact
from sdbatch.storage.parts import Parts
from sdbatch.storage.rework import read_rework, rework_numbers
from sdbatch.storage.success import success_numbers
from tests.storage.stores import DictStore, PowerCut, make_result

PLAN = "plan-a"
SHARDS = [[0, 1, 2], [3, 4], [5, 6, 7]]
ROWS = list(itertools.chain(*SHARDS))
FLAKY = {1, 6}
JOB = {"protocol": 1, "plan_id": PLAN, "num_shards": len(SHARDS)}
FAILED_AGAIN, DAMAGED = Redo("failed"), Redo("damaged")
EVERYTHING = ("render", "retry", "repair")


class Driver:
    """Does what its script says, each step as often as it takes."""

    def __init__(self, store, scratch, name, script=EVERYTHING, **ways):
        self.store, self.script = store, script
        self.reverse = ways.get("reverse", False)
        self.with_parts = ways.get("with_parts", True)
        self.with_copies = ways.get("with_copies", True)
        self.folder, self.parts = RunFolder(store), Parts(store)
        self.scratch = scratch / name
        self.attempts = (f"{ord(name[0]):02x}{number:06x}" for number in itertools.count())

    def run(self):
        self.begin()
        for step in self.script:
            getattr(self, step)()

    def begin(self):
        """Where a broken protocol does something first."""

    # -- commands ----------------------------------------------------------------------

    def render(self):
        self.folder.create_job(json.dumps(JOB).encode())
        for _ in range(4):
            todo = sorted(set(range(len(SHARDS))) - self.folder.committed(), reverse=self.reverse)
            if not todo:
                break
            for shard_id in todo:
                self.draw(shard_id)
                self.gather()
        if not self.finish_open():
            self.end()

    def retry(self):
        self.finish_open()
        records = self.folder.records()
        failed = {r.result.shard_id: r.revision + 1 for r in records if r.result.failed}
        if failed:
            self.announce(FAILED_AGAIN, failed)
            self.finish_open()

    def repair(self):
        self.finish_open()
        revisions = self.folder.next_revisions(range(len(SHARDS)))
        damaged = {s: r for s, r in revisions.items() if not self.is_sound(s)}
        if damaged:
            self.announce(DAMAGED, damaged)
            self.finish_open()

    def gc(self):
        with suppress(InputError):  # another one is at work: it refuses, and says so
            collect_orphans(self.store)

    # -- their parts -------------------------------------------------------------------

    def announce(self, redo, shards):
        self.folder.begin_rework(redo, shards, PLAN)

    def finish_open(self):
        """Go on with a rework that was begun; whether there was one."""
        rework = self.folder.open_rework()
        if rework is None:
            return False
        for _ in range(4):
            left = self.folder.rework_left(rework)
            if not left:
                break
            for shard_id in sorted(left, reverse=self.reverse):
                self.draw(shard_id, left[shard_id], rework.redo)
                self.gather()
        self.end()
        return True

    def end(self):
        self.folder.create_success(PLAN, len(SHARDS))
        self.gc()

    def gather(self):
        if self.with_copies:
            with suppress(SdbatchError):  # nothing waits for a copy
                compact(self.store)

    def draw(self, shard_id, revision=0, redo=None):
        attempt = self.attempt()
        try:
            rows = self.taken_over(shard_id, revision, redo) if redo else {}
            rows |= self.reuse(shard_id, revision)
            for row in SHARDS[shard_id]:
                if row not in rows:
                    failed = row in FLAKY and redo is None
                    rows[row] = "failed" if failed else f"picture {row}"
                    if self.with_parts:
                        self.save_part(shard_id, attempt, row, rows[row], revision)
            files = self.pack(shard_id, attempt, rows)
            self.publish(shard_id, attempt, files, revision)
            self.parts.drop(shard_id, revision)
        except SdbatchError:
            pass  # the attempt failed; the shard stays in the queue

    def attempt(self):
        return next(self.attempts)

    def taken_over(self, shard_id, revision, redo):
        """Rows that stand and are not to be drawn again; a rotten file holds none."""
        rows = {}
        try:
            record = self.folder.record(shard_id)
        except DamagedError:
            return rows
        for kind, file in record.files if record else ():
            body = self.read(file)
            if kind != "metadata" and body:
                rows |= {int(row): text for row, text in json.loads(body)["rows"].items()}
        redrawn = {row for row, text in rows.items() if text == "failed"}
        return {
            row: text for row, text in rows.items() if redo.kind != "failed" or row not in redrawn
        }

    def read(self, file):
        try:
            body = self.store.get(file.key)
        except ObjectNotFoundError:
            return b""
        return body if hashlib.sha256(body).hexdigest() == file.sha256 else b""

    def is_sound(self, shard_id):
        try:
            record = self.folder.record(shard_id)
        except DamagedError:
            return False
        return record is not None and all(self.read(file) for _, file in record.files)

    def reuse(self, shard_id, revision):
        rows = {}
        for part in self.parts.list(shard_id, revision) if self.with_parts else ():
            if self.parts.fetch(part, self.scratch):
                rows[part.images[0][0]] = self.scratch.read_text()
        return rows

    def save_part(self, shard_id, attempt, row, text, revision):
        self.scratch.write_text(text)
        self.parts.store(shard_id, attempt, row, self.scratch, [(row, 0)], revision)

    def pack(self, shard_id, attempt, rows):
        """Kind to (file, bytes); errors only when some failed."""
        failed = {row: rows[row] for row in sorted(rows) if rows[row] == "failed"}
        done = {row: rows[row] for row in sorted(rows) if rows[row] != "failed"}
        files = {}
        for kind, held in (("data", done), ("metadata", done), ("errors", failed)):
            if held or kind != "errors":
                # The attempt is in the bytes, as clocks and worker names are in real files.
                body = json.dumps({"by": next(self.attempts), "rows": held}).encode()
                key = layout.data_key(kind, shard_id, len(SHARDS), attempt)
                sha256 = hashlib.sha256(body).hexdigest()
                files[kind] = (DataFile(key, len(held), len(body), sha256), body)
        return files

    def publish(self, shard_id, attempt, files, revision):
        self.upload(files)
        self.commit(self.result(shard_id, attempt, files), revision)

    def upload(self, files):
        for file, body in files.values():
            self.store.put(file.key, body)

    def result(self, shard_id, attempt, files):
        errors = files["errors"][0] if "errors" in files else None
        return make_result(
            shard_id,
            attempt,
            data=files["data"][0],
            metadata=files["metadata"][0],
            errors_file=errors,
            num_rows=len(SHARDS[shard_id]),
            success=files["data"][0].num_rows,
            failed=errors.num_rows if errors else 0,
        )

    def commit(self, result, revision):
        self.folder.commit(result, PLAN, revision)


class Watch:
    """What must hold at every moment, whoever has died."""

    FOREVER = (
        layout.commits_prefix("main"),
        layout.successes_prefix("main"),
        layout.reworks_prefix("main"),
        layout.job_key("main"),
    )

    def __init__(self, objects):
        self.objects, self.seen, self.rotten = objects, {}, set()
        self.store = DictStore()
        self.store.objects = objects
        self.folder = RunFolder(self.store)
        self.looked_at = None

    def check(self):
        """Everything, unless nothing that counts was written since the last look."""
        state = {
            key: body for key, body in self.objects.items() if key.startswith(("data/", "__sdb"))
        }
        if state == self.looked_at:
            return
        self.looked_at = state
        self.check_records_last()
        self.check_rows()
        self.check_end()
        assert self.folder.standing() == self.folder.standing(certain=True), "a copy hides one"

    def check_records_last(self):
        for key, body in self.objects.items():
            if key.startswith(self.FOREVER):
                assert self.seen.setdefault(key, body) == body, f"{key} changed"
        assert self.seen.keys() <= self.objects.keys(), "a record is gone"

    def check_rows(self):
        rows = self.rows()
        for row, text in rows.items():
            assert text == f"picture {row}" or (row in FLAKY and text == "failed")

    def rows(self):
        """Row to what became of it, of all committed shards; checks every byte on the way."""
        rows = {}
        for key in self.folder.standing(certain=True).values():
            if key in self.rotten:
                continue
            record = self.folder.read_record(key)
            for kind, file in record.files:
                if file.key in self.rotten:
                    continue
                body = self.objects.get(file.key)
                assert body is not None, f"{file.key} is named and gone"
                assert hashlib.sha256(body).hexdigest() == file.sha256
                if kind != "metadata":
                    held = {int(row): text for row, text in json.loads(body)["rows"].items()}
                    assert rows.keys().isdisjoint(held), "a row stands twice"
                    rows |= held
        assert set(rows) <= set(ROWS)
        return rows

    def check_end(self):
        """Success records follow one another, and each rework is done before it is closed."""
        successes, begun = success_numbers(self.store, "main"), rework_numbers(self.store, "main")
        assert successes == list(range(len(successes)))
        assert begun == list(range(1, len(begun) + 1))
        assert len(successes) - 1 <= len(begun) <= len(successes)
        revisions = {
            shard_id: layout.parse_commit(key)[1]
            for shard_id, key in self.folder.standing(certain=True).items()
        }
        if successes:
            assert len(revisions) == len(SHARDS), "success before the last commit"
        for number in begun:
            rework = read_rework(self.store, "main", number)
            if number < len(successes):
                assert not rework.left(revisions), "an open rework was closed"
            if rework.redo == FAILED_AGAIN:
                self.check_retried(rework, revisions)
        if self.folder.finished():
            self.check_newest(successes[-1])

    def check_retried(self, rework, revisions):
        for shard_id, target in rework.shards.items():
            key = layout.commit_key("main", shard_id, target)
            if revisions[shard_id] >= target and key not in self.rotten:
                record = self.folder.read_record(key)
                assert record.result.failed == 0, "a failure was taken over into its retry"

    def check_newest(self, number):
        named = {file["key"] for file in self.folder.success(number)["files"]}
        keys = set(self.folder.standing(certain=True).values()) - self.rotten
        for key in keys:
            files = {file.key for _, file in self.folder.read_record(key).files}
            assert files <= named, "the success record does not name a standing file"

    def spoil(self, key, body):
        """The environment damages an object; `body` None loses it."""
        self.rotten.add(key)
        if body is None:
            del self.objects[key]
        else:
            self.objects[key] = body
            if key in self.seen:
                self.seen[key] = body

    def check_finish(self, tmp_path, kind=Driver):
        """One undisturbed run of everything completes the dataset, to the last file."""
        rendered = self.folder.success_number() is not None
        script = ("repair", "retry", "gc") if rendered else EVERYTHING
        kind(self.store, tmp_path, "resume", script).run()
        self.check()
        assert self.rows() == {row: f"picture {row}" for row in ROWS}
        assert self.folder.finished()
        standing = self.folder.records()
        named = {file.key for record in standing for _, file in record.files}
        assert set(find_files(self.store)) == named
        assert not list(self.store.list(layout.parts_prefix("main")))


def run_to_its_end(driver):
    """Run until it is done, dies or gives up; whether it was done."""
    try:
        driver.run()
    except (PowerCut, SdbatchError):
        return False
    return True


def state_after(tmp_path, *script):
    """Objects after an undisturbed run of a script."""
    store = DictStore()
    Driver(store, tmp_path, "early", script).run()
    return store.objects


def file_of(objects, shard_id, kind="data"):
    """Key of a standing file."""
    store = DictStore()
    store.objects = objects
    return dict(RunFolder(store).record(shard_id).files)[kind].key
