import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gankit.training import fast_conv, fast_norm


def normalization(accelerated, dtype="float32", channels=5, **config):
    """Return a built layer whose weights are those of every other one."""
    layer = layers.BatchNormalization(momentum=0.9, dtype=dtype, **config)
    layer.build((None, 6, 4, channels))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.weights])
    if accelerated:
        fast_norm.accelerate_normalization(layer)
        assert "call" in vars(layer)
    return layer


def images(dtype="float32", shape=(8, 6, 4, 5)):
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(0.7, 3, shape), dtype)


def train_once(layer, x):
    """Return a training pass's output, gradients and the statistics after it."""
    weights = np.random.default_rng(2).standard_normal(x.shape)

    @tf.function
    def make_pass():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(
                tf.cast(y, "float32") * tf.constant(weights, "float32")
            )
        return y, *tape.gradient(loss, [x, *layer.trainable_variables])

    y, *gradients = make_pass()
    assert y.dtype == gradients[0].dtype == x.dtype
    return [np.float32(v) for v in (y, *gradients, *layer.non_trainable_variables)]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 2e-5), ("mixed_bfloat16", 0.02), ("mixed_float16", 0.003)],
)
@pytest.mark.parametrize(
    ("shape", "config"),
    [((8, 6, 4, 5), {}), ((1, 1, 2, 5), {}), ((1, 1, 1, 5), {})]
    + [((8, 6, 4, 5), {name: False}) for name in ("scale", "center")]
    + [((8, 6, 4, 5), {"scale": False, "center": False})],
)
def test_a_training_pass_is_that_of_keras(dtype, tolerance, shape, config):
    x = images(dtype.removeprefix("mixed_"), shape)
    fast = train_once(normalization(True, dtype, **config), x)
    plain = train_once(normalization(False, dtype, **config), x)
    assert len(fast) == 6 - len(config)
    for ours, reference in zip(fast, plain, strict=True):
        scale = max(1, np.abs(reference).max())
        np.testing.assert_allclose(ours, reference, atol=tolerance * scale)
    # the statistics are float32 whatever the inputs are
    for ours, reference in zip(fast[-2:], plain[-2:], strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-5)


def penalty_gradients(layer, x):
    """Return the gradients of a penalty on each of a pass's gradients, one by one."""
    sources = [x, *layer.trainable_variables]
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(tf.tanh(layer(x, training=True)) ** 3)
        penalties = [tf.reduce_sum(g**2) for g in inner.gradient(loss, sources)]
    return [g for penalty in penalties for g in outer.gradient(penalty, sources)]


@pytest.mark.parametrize("compiled", [True, False])
def test_gradients_of_gradients_are_those_of_keras(compiled):
    x = images()
    compute = tf.function(penalty_gradients) if compiled else penalty_gradients
    fast = compute(normalization(True), x)
    plain = compute(normalization(False), x)
    assert len(fast) == 9
    for ours, reference in zip(fast, plain, strict=True):
        scale = np.abs(reference).max()
        assert scale > 0.01
        np.testing.assert_allclose(ours, reference, atol=1e-4 * scale)


@pytest.mark.parametrize("case", ["inference", "frozen"])
def test_inference_is_left_bit_for_bit(case):
    x, found = images(), []
    for accelerated in (True, False):
        layer = normalization(accelerated)
        layer.trainable = case != "frozen"
        before = layer.get_weights()
        found.append(layer(x, training=case == "frozen").numpy())
        np.testing.assert_equal(layer.get_weights(), before)
    np.testing.assert_array_equal(*found)


def test_a_masked_pass_is_left_bit_for_bit():
    x = images()
    mask = tf.constant(np.random.default_rng(3).random(x.shape[:3]) < 0.5)
    fast, plain = (normalization(accelerated) for accelerated in (True, False))
    np.testing.assert_array_equal(
        fast(x, training=True, mask=mask), plain(x, training=True, mask=mask)
    )
    np.testing.assert_equal(fast.get_weights(), plain.get_weights())


def test_only_the_computation_changes(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6, 4, 3)),
            layers.Conv2D(5, 3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(4),
            layers.BatchNormalization(),
        ]
    )
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    fast_conv.accelerate(model)
    assert "call" in vars(model.layers[1])
    x = images(shape=(8, 6, 4, 3))
    np.testing.assert_allclose(
        model(x, training=True), plain(x, training=True), atol=1e-5
    )
    for ours, reference in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-7)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    for other in (reloaded, keras.models.clone_model(model)):
        assert not any("call" in vars(layer) for layer in other.layers)
        assert [type(layer) for layer in other.layers] == [
            type(layer) for layer in plain.layers
        ]
    np.testing.assert_array_equal(model(x), reloaded(x))


def test_layers_of_another_kind_are_left_alone():
    class Own(layers.BatchNormalization):
        pass

    for layer in (
        layers.BatchNormalization(axis=1),
        layers.BatchNormalization(renorm=True),
        layers.BatchNormalization(synchronized=True),
        layers.BatchNormalization(dtype="float64"),
        layers.BatchNormalization(dtype="bfloat16"),
        layers.LayerNormalization(),
        Own(),
    ):
        fast_norm.accelerate_normalization(layer)
        assert "call" not in vars(layer)


def normalization_of_instances(accelerated, dtype="float32", **config):
    config = {"groups": -1, "epsilon": 1e-5, "center": False, "scale": False, **config}
    layer = layers.GroupNormalization(dtype=dtype, **config)
    layer.build((None, 6, 4, 6))
    if accelerated:
        fast_norm.accelerate_normalization(layer)
    return layer


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 2e-5), ("mixed_bfloat16", 0.02), ("mixed_float16", 0.003)],
)
@pytest.mark.parametrize("n", [1, 3])
def test_instances_are_normalised_as_by_keras(dtype, tolerance, n):
    x = images(dtype.removeprefix("mixed_"), (n, 6, 4, 6))
    pair = [normalization_of_instances(fast, dtype) for fast in (True, False)]
    assert "call" in vars(pair[0])
    fast, plain = (train_once(layer, x) for layer in pair)
    assert len(fast) == 2
    for ours, reference in zip(fast, plain, strict=True):
        scale = max(1, np.abs(reference).max())
        np.testing.assert_allclose(ours, reference, atol=tolerance * scale)
    graph = tf.function(pair[0]).get_concrete_function(x).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert ("FusedBatchNormV3" in kinds) == (n == 1)


@pytest.mark.parametrize("config", [{"groups": 2}, {"scale": True}, {"center": True}])
def test_other_groups_are_left(config):
    assert "call" not in vars(normalization_of_instances(True, **config))
