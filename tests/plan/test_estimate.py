import numpy as np

from sdbatch.manifest.shape import RowShape
from sdbatch.plan.estimate import estimate, image_bytes
from sdbatch.plan.sharding import cut_shards

SHAPE = RowShape(
    3,
    ((64, 64), (128, 64)),
    np.array([0, 1, 0], np.int32),
    np.array([1, 2, 3], np.int16),
    1,
    None,
    9,
)


def test_bytes_add_up_over_sizes():
    whole = estimate(SHAPE, cut_shards(SHAPE))

    assert (whole.rows, whole.images, whole.shards) == (3, 6, 2)
    assert whole.size_bytes == 4 * image_bytes(64, 64) + 2 * image_bytes(128, 64)
    assert whole.files == 2 * 3 + 8


def test_time_is_unknown_until_it_was_measured():
    shards = cut_shards(SHAPE)

    assert estimate(SHAPE, shards).seconds is None
    assert estimate(SHAPE, shards, seconds_per_image=2.0, workers=4).seconds == 3.0
