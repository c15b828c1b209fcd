"""A manifest that is overwritten while it is being drawn ends the run, with exit code 2."""

import pytest

from sdbatch import api
from sdbatch.errors import InputError

INLINE = {"engine": "inline", "model": "fake:ms=10", "size": "64x64", "shard_size": 8}


class Overwriting:
    """A reporter that puts another manifest in place once some pictures are drawn."""

    def __init__(self, write):
        self.write, self.done = write, False

    def note(self, line):
        pass

    def progress(self, progress):
        if not self.done and progress.done + progress.finished >= 4:
            self.done = True
            self.write()


def test_rows_of_another_manifest_are_never_drawn_into_the_dataset(manifest, tmp_path):
    path, out = manifest(64), tmp_path / "out"
    report = Overwriting(lambda: manifest(64, mood=["other"] * 64))

    with pytest.raises(InputError, match="changed since the plan was made") as caught:
        api.render(path, out, report=report, **INLINE)

    assert report.done
    assert caught.value.exit_code == 2
    manifest(64)  # the old one put back: the run goes on
    summary = api.render(path, out, **INLINE)
    assert (summary.exit_code, summary.success) == (0, 64)
