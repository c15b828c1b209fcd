"""What tests of the engine share."""

import pytest

from sdbatch import api
from sdbatch.engine import job_folder
from sdbatch.storage.layout import token_key
from sdbatch.storage.store import open_store


@pytest.fixture
def job(manifest, tmp_path):
    """A planned run of 4 shards of 10 rows that nobody has drawn yet."""
    out = tmp_path / "out"
    api.render(manifest(40), out, model="fake", engine="inline", size="64x64", shard_size=10)
    store = open_store(out)
    for folder in ("commits", "success"):
        for info in list(store.list(f"__sdbatch/main/{folder}/")):
            store.delete(info.key)
    stored = job_folder.read(store, "main")
    store.put(token_key("t"), b"driver")
    return stored
