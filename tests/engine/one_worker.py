"""One worker on its own, what it is given and what it says: for tests of worker and desk."""

import json

from sdbatch.engine.events import (
    Lease,
)
from sdbatch.engine.worker import Worker
from sdbatch.errors import (
    StorageError,
)
from sdbatch.model_specs import RenderSpec
from sdbatch.render.weights.model_facts import find_model
from sdbatch.storage.layout import logs_prefix
from sdbatch.storage.store import open_store


def ready_worker(job, model="fake"):
    worker = Worker("w0", job.spec.output, {}, 0.05)
    facts = find_model(model)
    spec = RenderSpec(model, facts.path, facts.revision, "auto", {}, 1)
    return worker, worker.load(spec, ((64, 64),), "t")


def lease(job, shard_id, **care):
    return Lease(job.shards[shard_id], attempt=1, **care)


def events_until(worker, job, count, kind):
    """Events up to the n-th of a kind, then drained to the end."""
    seen = []
    for event in worker.work(job.spec):
        seen.append(event)
        if sum(isinstance(e, kind) for e in seen) == count:
            worker.drain()
    return seen


class Down:
    """A store verb that fails so many times."""

    def __init__(self, real, times, error=None):
        self.real, self.left, self.error = real, times, error or StorageError("503 Slow Down")

    def __call__(self, *args, **options):
        if self.left:
            self.left -= 1
            raise self.error
        return self.real(*args, **options)


def log_events(job):
    store = open_store(job.spec.output)
    text = b"".join(store.get(info.key) for info in store.list(logs_prefix("main")))
    return [json.loads(line)["event"] for line in text.splitlines()]
