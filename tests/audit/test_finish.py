"""The last steps of a dataset, also when another driver has just begun a retry of it."""

from sdbatch import api
from sdbatch.audit.finish import finish
from sdbatch.engine.publish import CARD_KEY
from sdbatch.records import Redo
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import open_store


def test_a_retry_that_another_driver_begins_meanwhile_keeps_all_files_and_is_said(
    tmp_path, manifest
):
    out = tmp_path / "out"
    summary = api.render(manifest(8), out, model="fake", engine="inline", shard_size=4)
    store, lines = open_store(out), []
    folder = RunFolder(store)
    orphan = "data/train-00000-of-00002-0a0b0c0d.parquet"
    store.put(orphan, b"of an attempt that may still win")
    store.delete(CARD_KEY)
    folder.begin_rework(Redo("damaged"), {0: 1}, summary.plan_id)

    done = finish(store, summary, collect=True, note=lines.append)

    assert store.head(orphan) is not None
    assert "nothing was collected" in lines[0]
    assert done.preview
    head = store.get(CARD_KEY).split(b"---")[1]
    assert b"0a0b0c0d" not in head  # files are listed one by one
    assert b"data/*.parquet" not in head
