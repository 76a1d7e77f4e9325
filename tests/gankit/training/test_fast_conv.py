import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gankit.training import fast_conv


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [((2, 28, 28, 128), (7, 7)), ((3, 5, 9, 4), (3, 5)), ((1, 4, 4, 2), (1, 1))],
)
def test_output_and_gradients_are_those_of_the_plain_convolution(shape, kernel):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.standard_normal(shape))
    k = tf.constant(rng.standard_normal((*kernel, shape[-1], 1)))
    weights = rng.standard_normal((*shape[:-1], 1))

    def output_and_gradients(convolve):
        with tf.GradientTape() as tape:
            tape.watch([x, k])
            y = convolve(x, k)
            loss = tf.reduce_sum(y * weights)
        return y, *tape.gradient(loss, [x, k])

    fast = output_and_gradients(fast_conv.convolve_to_one_map)
    plain = output_and_gradients(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"))
    for ours, reference in zip(fast, plain, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-12, atol=1e-10)


def test_only_the_computation_changes(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, padding="same"),
            layers.Conv2D(1, 5, padding="same", activation="tanh"),
        ]
    )
    x = np.random.default_rng(0).standard_normal((2, 12, 12, 3)).astype("float32")
    before = model(x).numpy()
    fast_conv.accelerate(model)
    assert "convolution_op" not in vars(model.layers[0])
    assert "convolution_op" in vars(model.layers[1])
    np.testing.assert_allclose(model(x), before, atol=1e-6)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(reloaded.layers[1]) is layers.Conv2D
    np.testing.assert_allclose(reloaded(x), before, atol=1e-6)


def test_layers_of_another_kind_are_left_alone():
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(1, 3),
            layers.Conv2D(1, 4, padding="same"),
            layers.Conv2D(1, 3, padding="same", strides=2),
            layers.Conv2D(1, 3, padding="same", dilation_rate=2),
            layers.Conv2DTranspose(1, 3, padding="same"),
        ]
    )
    fast_conv.accelerate(model)
    assert not any("convolution_op" in vars(layer) for layer in model.layers)
