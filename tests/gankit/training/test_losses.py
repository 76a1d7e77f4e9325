"""Each loss, and each course of a weight, on a case that was worked by hand."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from gankit.training import losses


def near(value, **tolerance):
    """Compare a float32 scalar with its value, to float32's digits."""
    return pytest.approx(value, **(tolerance or {"rel": 1e-5, "abs": 1e-6}))


def row(*exponentials):
    """The logits of one image, given their exponentials, whose sum is Z."""
    return [math.log(value) for value in exponentials]


@pytest.mark.parametrize(
    ("done", "value"),
    [
        # t = 0: exp(-5)
        (0.0, 0.006737947),
        # t = 1/2: exp(-5 / 4)
        (0.25, 0.2865048),
        # t = 4/5: exp(-5 / 25)
        (0.4, 0.8187308),
        (0.5, 1.0),
        (0.6, 1.0),
        (1.0, 1.0),
    ],
)
def test_the_ramp(done, value):
    assert float(losses.ramp_up(tf.constant(done), 0.5)) == near(value)


@pytest.mark.parametrize(
    ("done", "value"),
    # cosines of 0, 60, 90, 120 and 180 degrees
    [(0.0, 1.0), (1 / 3, 0.75), (0.5, 0.5), (2 / 3, 0.25), (1.0, 0.0)],
)
def test_the_half_cosine(done, value):
    assert float(losses.half_cosine(tf.constant(done))) == near(value)


def test_the_loss_of_real_images():
    # Z = 1 + 2 = 3 and 1/2 + 1/2 = 1: D = 3/4 and 1/2
    logits = tf.constant([row(1, 2), row(0.5, 0.5)])
    # (-log(3/4) - log(1/2)) / 2 = (0.2876821 + 0.6931472) / 2
    assert float(losses.real_loss(logits)) == near(0.4904146)


def test_the_loss_of_generated_images():
    # 1 - D = 1/4 and 1/2
    logits = tf.constant([row(1, 2), row(0.5, 0.5)])
    # (-log(1/4) - log(1/2)) / 2 = (1.3862944 + 0.6931472) / 2
    assert float(losses.generated_loss(logits)) == near(1.0397208)


def test_large_logits_do_not_overflow():
    # Z = 2 exp(200): 1 - D = 1 / (Z + 1), and -log of it is 200 + log(2)
    high, low = tf.fill((3, 2), 200.0), tf.fill((3, 2), -200.0)
    assert float(losses.generated_loss(high)) == near(200.6931472)
    assert float(losses.real_loss(high)) == near(0.0)
    # D = Z = 2 exp(-200)
    assert float(losses.real_loss(low)) == near(199.3068528)
    assert float(losses.generated_loss(low)) == near(0.0)


def test_the_consistency_loss():
    p = tf.constant([[0.5, 0.5], [1.0, 0.0]])
    p_teacher = tf.constant([[0.25, 0.75], [0.0, 1.0]])
    # (1/16 + 1/16 + 1 + 1) / 2
    assert float(losses.consistency_loss(p, p_teacher)) == near(1.0625)
    assert float(losses.consistency_loss(p, p)) == 0


@pytest.mark.parametrize(
    ("p", "value"),
    [
        # shares 1/4 each: log(4)
        ([[0.25] * 4], 1.3862944),
        # two sure answers, but shares 1/2 each: log(2)
        ([[1.0, 0.0], [0.0, 1.0]], 0.6931472),
        # shares 3/4 and 1/4: (log(4/3) + log(4)) / 2
        ([[1.0, 0.0], [0.5, 0.5]], 0.8369882),
        # shares 1 and 0, which counts as 1e-7: 7 log(10) / 2
        ([[1.0, 0.0]], 8.0590478),
    ],
)
def test_the_balance_loss(p, value):
    assert float(losses.balance_loss(tf.constant(p))) == near(value)


def test_the_energy_distance_of_numbers():
    generated = tf.constant([[10.0], [11.0], [14.0]])
    real = tf.constant([[0.0], [2.0]])
    # between: 10, 8, 11, 9, 14, 12, on average 32/3; within generated: 1, 4, 3, on
    # average 8/3; within real: 2. (2 * 32/3 - 8/3) / 2 - 1 = 25/3
    distance = float(losses.energy_distance(generated, real))
    # a distance of 0 counts as 1/1000
    assert distance == near(25 / 3, abs=0.01)


def test_the_energy_distance_of_vectors():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 3)), rng.normal(1, 2, size=(5, 3))

    def mean_distance(a, b, pairs):
        return np.mean([np.linalg.norm(a[i] - b[j]) for i, j in pairs])

    between = mean_distance(a, b, itertools.product(range(7), range(5)))
    within = [
        mean_distance(x, x, itertools.permutations(range(len(x)), 2)) for x in (a, b)
    ]
    expected = (2 * between - within[0]) / within[1] - 1
    a, b = a.astype("float32"), b.astype("float32")
    distance = losses.energy_distance(tf.constant(a), tf.constant(b))
    assert float(distance) == pytest.approx(expected, abs=2e-3)
    # images count as vectors
    images = [tf.constant(x[:, None, :, None]) for x in (a, b)]
    assert float(losses.energy_distance(*images)) == float(distance)
    one, two = (rng.normal(size=(500, 3)).astype("float32") for _ in range(2))
    assert abs(float(losses.energy_distance(one, two))) < 0.02
    # all at the other sample's mean
    same = np.repeat(two.mean(axis=0, keepdims=True), 500, axis=0)
    assert float(losses.energy_distance(same, two)) > 0.2


def test_the_energy_distance_of_equal_points_has_a_slope():
    points = tf.Variable(tf.ones((3, 2)))
    with tf.GradientTape() as tape:
        distance = losses.energy_distance(points, tf.constant([[1.0, 1.0], [0.0, 1.0]]))
    assert np.isfinite(tape.gradient(distance, points)).all()


def test_the_energy_distance_computes_in_float32():
    """In float16 the squares of 300 are infinite."""
    generated = tf.constant([[300.0], [600.0]], tf.float16)
    real = tf.constant([[0.0], [300.0]], tf.float16)
    # between: 300, 0, 600, 300, on average 300; within: 300 and 300
    distance = losses.energy_distance(generated, real)
    assert distance.dtype == tf.float32
    assert float(distance) == near(0.0, abs=1e-3)


def test_the_saturation_loss():
    pixels = tf.constant([[3.0, -4.0], [1.0, -2.5]])
    # too large by 1/2, 3/2, 0 and 0: (1/4 + 9/4) / 4
    assert float(losses.saturation_loss(pixels, 2.5)) == near(0.625)
    # 300 - 2.5, squared, is too large for float16
    half = tf.constant([300.0], tf.float16)
    assert float(losses.saturation_loss(half, 2.5)) == near(88506.25)


@pytest.mark.parametrize(
    ("decay", "kept", "bias"),
    # 2 + 3/4 (10 - 2) and 1 + 3/4 (-3 - 1)
    [(0.75, 8.0, -2.0), (0.0, 2.0, 1.0), (1.0, 10.0, -3.0)],
)
def test_the_running_average(decay, kept, bias):
    def dense(weight, bias):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.set_weights([np.array([[weight]]), np.array([bias])])
        return model

    average, model = dense(10.0, -3.0), dense(2.0, 1.0)
    losses.update_average(average, model, tf.constant(decay))
    assert [float(np.squeeze(w)) for w in average.get_weights()] == [kept, bias]
    assert [float(np.squeeze(w)) for w in model.get_weights()] == [2.0, 1.0]
