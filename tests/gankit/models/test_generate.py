import numpy as np

from gankit.models import generate
from helpers import generate_latent_points


def test_the_walk():
    points = generate_latent_points(50, 4, np.random.default_rng(0))
    way = generate.walk_between(points, 32)
    np.testing.assert_allclose(way[::8], points, rtol=1e-5)
    # no step is much longer than another on the same arc, the last one closes the loop
    steps = np.linalg.norm(np.roll(way, -1, axis=0) - way, axis=1).reshape(4, 8)
    assert (steps.max(axis=1) < 1.3 * steps.min(axis=1)).all()
    # and none comes near the origin, where the straight line leads
    lengths = np.linalg.norm(way, axis=1)
    assert lengths.min() > 0.9 * np.linalg.norm(points, axis=1).min()
    for odd in (np.ones((2, 3)), np.zeros((2, 3)), np.eye(3)[:2] * [[1], [1e-30]]):
        assert np.isfinite(generate.walk_between(odd, 5)).all()
    half_way = generate.walk_between(np.array([[2.0, 0], [4.0, 0]]), 4)
    np.testing.assert_allclose(half_way, [[2, 0], [3, 0], [4, 0], [3, 0]])


def test_batches_are_bounded():
    class Model:
        def __init__(self, *shape):
            self.output_shape, self.batches = (None, *shape), []

        def predict_on_batch(self, points):
            self.batches.append(len(points))
            first = points[:, 0].astype(np.float16)
            return np.broadcast_to(
                first[:, np.newaxis, np.newaxis, np.newaxis],
                (len(points), *self.output_shape[1:]),
            )

    points = np.arange(1001.0)[:, np.newaxis] * [1, 0]
    small, large = Model(28, 28, 1), Model(512, 512, 3)
    images = generate.generate(small, points)
    assert images.shape == (1001, 28, 28, 1) and images.dtype == np.float32
    np.testing.assert_array_equal(images[:, 3, 3, 0], points[:, 0])
    assert small.batches == [500, 500, 1]
    generate.generate(large, points[:3])
    assert large.batches == [1, 1, 1]
