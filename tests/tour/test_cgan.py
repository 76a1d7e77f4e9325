import json

import cgan
import common
import keras
import numpy as np
import pytest
import tensorflow as tf

from gankit.training.batches import Draws
from parts import moved, values

SHAPE = (8, 8, 1)


def tiny_models(n_classes=3, seed=0):
    keras.utils.set_random_seed(seed)
    return (
        cgan.define_generator(5, n_classes, image_shape=SHAPE, width=0.05),
        cgan.define_discriminator(SHAPE, n_classes, width=0.05),
    )


def labelled(n=30, n_classes=3):
    """Images of one level each, which tells their label: 10 times it."""
    y = np.arange(n) % n_classes
    return [np.broadcast_to(np.uint8(10 * y)[:, None, None, None], (n, *SHAPE)), y]


def draw_batch(dataset, n=6, seed=3):
    draw = cgan.define_draw(dataset, 5, n, 3)
    return draw(Draws(seed, tf.constant(0), 3))


def one_hot(*labels, n_classes=3):
    return np.eye(n_classes, dtype=np.float32)[list(labels)]


@pytest.mark.statement("CGAN-3")
def test_the_labels_are_an_input_layer_of_both():
    g_model, d_model = cgan.define_generator(), cgan.define_discriminator()
    assert (g_model.count_params(), d_model.count_params()) == (822_785, 148_593)
    assert g_model.input_shape == [(None, 100), (None, 10)]
    assert d_model.input_shape == [(None, 28, 28, 1), (None, 10)]
    # in d a channel of the image
    to_map = next(
        layer for layer in d_model.layers if isinstance(layer, keras.layers.Dense)
    )
    assert to_map.count_params() == 8624
    first = next(
        layer for layer in d_model.layers if isinstance(layer, keras.layers.Conv2D)
    )
    assert first.input.shape == (None, 28, 28, 2)


@pytest.mark.statement("CGAN-1")
def test_both_answers_depend_on_the_label():
    g_model, d_model = tiny_models()
    z, X = np.zeros((2, 5), np.float32), np.zeros((2, *SHAPE), np.float32)
    for model, given in ((g_model, z), (d_model, X)):
        a, b = np.array(model([given, one_hot(0, 2)]))
        assert np.abs(a - b).max() > 1e-7


def test_both_learn_what_the_label_means():
    g_model, d_model = tiny_models()
    y = tf.constant(one_hot(0, 1, 2, 0))
    z = tf.constant(np.random.default_rng(0).uniform(-1, 1, (4, 5)), tf.float32)
    with tf.GradientTape() as tape:
        answer = d_model([g_model([z, y], training=True), y], training=True)
        loss = tf.reduce_sum(answer**2)
    of_g, of_d = (
        next(layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
        for model in (g_model, d_model)
    )
    g_gradient, d_gradient = tape.gradient(loss, [of_g.kernel.value, of_d.kernel.value])
    # the last rows are the labels', the first the latent point's
    for rows in (g_gradient[:5], g_gradient[5:], d_gradient):
        assert (np.abs(rows).max(axis=1) > 0).all()


@pytest.mark.statement("CGAN-2")
def test_y_may_be_any_vector():
    g_model, _ = tiny_models()
    z = np.zeros((3, 5), np.float32)
    images = g_model([z, np.float32([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]])])
    a, between, b = np.array(images)
    assert not np.allclose(a, between, atol=1e-7)
    assert not np.allclose(b, between, atol=1e-7)


def test_real_images_have_their_labels_and_others_drawn_ones():
    X_real, y_real, z, y_fake = map(np.array, draw_batch(labelled(), n=200))
    np.testing.assert_array_equal(y_real.sum(axis=1), 1)
    levels = np.rint(127.5 * (X_real[:, 0, 0, 0] + 1))
    np.testing.assert_array_equal(levels, 10 * y_real.argmax(axis=1))
    np.testing.assert_array_equal(y_fake.sum(axis=1), 1)
    # 67 of each are expected, with a standard deviation of 6.7
    assert (np.abs(y_fake.sum(axis=0) - 200 / 3) < 30).all()
    assert np.mean(y_fake.argmax(axis=1) == y_real.argmax(axis=1)) < 0.5
    assert z.shape == (200, 5) and -1 <= z.min() < -0.9 and 0.9 < z.max() <= 1


def test_labels_are_drawn_of_all_classes_not_of_those_that_there_are():
    X, y = labelled()
    *_, y_fake = draw_batch([X, np.zeros_like(y)], n=100)
    assert (np.array(y_fake).sum(axis=0) > 10).all()


def test_other_labels_give_other_losses():
    X_real, y_real, z, y_fake = draw_batch(labelled())
    found = []
    for real, fake in (
        (y_real, y_fake),
        (y_real[:, ::-1], y_fake),
        (y_real, 1 - y_fake),
    ):
        train_step = cgan.define_train_step(*tiny_models())
        found.append(np.array(train_step(0, X_real, real, z, fake)))
    as_is, real, fake = found
    # d moves between its losses and g's
    assert real[0] != as_is[0] and real[1] == as_is[1]
    assert fake[0] == as_is[0] and fake[1] != as_is[1] and fake[2] != as_is[2]


def test_a_step_is_an_update_of_each_by_plain_calls():
    batch = draw_batch(labelled())
    X_real, y_real, z, y_fake = batch
    (g_model, d_model), (g_plain, d_plain) = tiny_models(), tiny_models()
    figures = cgan.define_train_step(g_model, d_model)(0, *batch)

    def cross_entropy(target, logits):
        return tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(
                target * tf.ones_like(logits), logits
            )
        )

    X_fake = g_plain([z, y_fake], training=True)
    g_plain.set_weights(tiny_models()[0].get_weights())
    with tf.GradientTape() as tape:
        real = cross_entropy(1.0, d_plain([X_real, y_real], training=True))
        fake = cross_entropy(0.0, d_plain([X_fake, y_fake], training=True))
        loss = real + fake
    weights = d_plain.trainable_variables
    d_plain.optimizer.apply(tape.gradient(loss, weights), weights)
    with tf.GradientTape() as tape:
        X_fake = g_plain([z, y_fake], training=True)
        g_loss = cross_entropy(1.0, d_plain([X_fake, y_fake], training=True))
    weights = g_plain.trainable_variables
    g_plain.optimizer.apply(tape.gradient(g_loss, weights), weights)

    np.testing.assert_allclose(figures, [real, fake, g_loss], atol=1e-6)
    for model, plain in ((g_model, g_plain), (d_model, d_plain)):
        for a, b in zip(model.variables, plain.variables, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("still", [0, 1])
def test_each_update_moves_its_own_network(still):
    models = tiny_models()
    models[still].optimizer.learning_rate = 0.0
    before = [values(model.trainable_variables) for model in models]
    cgan.define_train_step(*models)(0, *draw_batch(labelled()))
    for i, model in enumerate(models):
        found = moved(before[i], model.trainable_variables)
        assert not any(found) if i == still else all(found)


def test_samples_are_of_the_classes_asked_for():
    g_model, _ = tiny_models()
    sample = cgan.define_sample(g_model, 5)
    images = sample(4, np.random.default_rng(7), np.array([2, 0, 0, 1]))
    z = np.random.default_rng(7).uniform(-1, 1, (4, 5)).astype(np.float32)
    expected = g_model.predict([z, one_hot(2, 0, 0, 1)], verbose=0)
    np.testing.assert_array_equal(images, common.to_bytes(expected))


def test_in_bfloat16_images_and_logits_are_float32(precision):
    precision("mixed_bfloat16")
    g_model, d_model = tiny_models()
    y = tf.constant(one_hot(0, 1))
    images = g_model([tf.zeros((2, 5)), y])
    assert images.dtype == d_model([images, y]).dtype == tf.float32


def test_a_run_measures_classes_and_its_file_can_be_asked(small_data, tmp_path):
    options = ("--data", small_data, "--judge", common.metrics.SHIPPED_JUDGE)
    options += ("--steps", 2, "--batch", 20, "--width", 0.05, "--latent-dim", 4)
    options += ("--measured", 40, "--seed", 1, "--threads", 1, "--verbose", 0)
    options += ("--precision", "float32", "--out", tmp_path / "run")
    assert cgan.main([*map(str, options)]) == 0
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    names = {"agreement", "nearest_neighbour_error", "log_likelihood", "ssim"}
    assert names <= {name for name, value in figures.items() if value is not None}
    g_model = keras.saving.load_model(tmp_path / "run" / "g_model_0002.keras")
    asked = [np.zeros((3, 4), np.float32), one_hot(9, 3, 0, n_classes=10)]
    assert g_model.predict(asked, verbose=0).shape == (3, 28, 28, 1)

    out = tmp_path / "samples"
    options = ("--sample", tmp_path / "run", "--classes", 7, 3, "--n", 5, "--seed", 4)
    assert cgan.main([*map(str, (*options, "--threads", 1, "--out", out))]) == 0
    with np.load(out / "samples.npz") as arrays:
        assert arrays["y_train"].tolist() == [3, 3, 7, 7, 7]
        drawn = arrays["x_train"]
    sample = cgan.define_sample(g_model, 4)
    again = sample(5, np.random.default_rng(4), np.array([3, 3, 7, 7, 7]))
    np.testing.assert_array_equal(drawn, again)
