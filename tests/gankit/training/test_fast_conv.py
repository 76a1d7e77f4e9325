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


@pytest.mark.parametrize(
    ("shape", "kernel", "strides"),
    [
        ((2, 14, 14, 64), (4, 4), (2, 2)),
        ((3, 5, 7, 4), (6, 6), (2, 3)),
        ((1, 3, 4, 2), (2, 6), (2, 2)),
        ((2, 3, 4, 1), (4, 4), (1, 4)),
    ],
)
def test_the_transposed_convolution_is_the_plain_one_and_so_are_its_gradients(
    shape, kernel, strides
):
    rng = np.random.default_rng(0)
    n, h, w, c = shape
    shape_out = (n, h * strides[0], w * strides[1], 1)
    x = tf.constant(rng.standard_normal(shape))
    k = tf.constant(rng.standard_normal((*kernel, 1, c)))
    weights = rng.standard_normal(shape_out)

    @tf.function
    def output_and_gradients(convolve):
        with tf.GradientTape() as outer:
            outer.watch([x, k])
            with tf.GradientTape() as tape:
                tape.watch([x, k])
                y = convolve(x, k)
                loss = tf.reduce_sum(tf.tanh(y / 10) * weights)
            gradients = tape.gradient(loss, [x, k])
            penalty = tf.add_n([tf.reduce_sum(g**2) for g in gradients])
        return y, *gradients, *outer.gradient(penalty, [x, k])

    fast = output_and_gradients(
        lambda x, k: fast_conv.convolve_transposed_to_one_map(x, k, strides)
    )
    plain = output_and_gradients(
        lambda x, k: tf.nn.conv2d_transpose(x, k, shape_out, strides, "SAME")
    )
    for ours, reference in zip(fast, plain, strict=True):
        assert ours.shape == reference.shape
        np.testing.assert_allclose(ours, reference, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("mixed_bfloat16", 0.02)]
)
@pytest.mark.parametrize("use_bias", [True, False])
def test_only_the_computation_of_a_transposed_layer_changes(
    tmp_path, dtype, tolerance, use_bias
):
    model = keras.Sequential(
        [
            keras.Input((7, 7, 3)),
            layers.Conv2DTranspose(8, 4, strides=2, padding="same", dtype=dtype),
            layers.Conv2DTranspose(
                1,
                4,
                strides=2,
                padding="same",
                activation="tanh",
                use_bias=use_bias,
                bias_initializer="ones",
                dtype=dtype,
            ),
        ]
    )
    x = np.random.default_rng(0).standard_normal((2, 7, 7, 3)).astype("float32")
    before = model(x)
    fast_conv.accelerate(model)
    assert ["call" in vars(layer) for layer in model.layers] == [False, True]
    after = model(x)
    assert after.dtype == before.dtype
    np.testing.assert_allclose(np.float32(after), np.float32(before), atol=tolerance)
    assert model.compute_output_shape((2, 7, 7, 3)) == (2, 28, 28, 1)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    for other in (reloaded, keras.models.clone_model(model)):
        assert type(other.layers[1]) is layers.Conv2DTranspose
        assert "call" not in vars(other.layers[1])
    np.testing.assert_array_equal(np.float32(reloaded(x)), np.float32(before))


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
            layers.Conv2DTranspose(1, 4, strides=2),
            layers.Conv2DTranspose(1, 3, padding="same", strides=2),
            layers.Conv2DTranspose(2, 4, padding="same", strides=2),
            layers.Conv2DTranspose(1, 4, padding="same", strides=2, output_padding=0),
        ]
    )
    fast_conv.accelerate(model)
    changed = {"convolution_op", "call"}
    assert not any(changed & set(vars(layer)) for layer in model.layers)
