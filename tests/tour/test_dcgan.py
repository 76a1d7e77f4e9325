import copy

import dcgan
import figures
import keras
import numpy as np
import pytest
import tensorflow as tf

from gankit.training.batches import Draws
from parts import moved, values
from tour_scripts import load_script

SHAPE = (8, 8, 1)


def tiny_models(seed=0):
    keras.utils.set_random_seed(seed)
    g_model = dcgan.define_generator(5, image_shape=SHAPE, width=0.05)
    return g_model, dcgan.define_discriminator(SHAPE, width=0.05)


def draw_batch(n=6, seed=3):
    X = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)
    return dcgan.define_draw([X, None], 5, n)(Draws(seed, tf.constant(0), 2))


def of_kind(model, *names):
    return [layer for layer in model.layers if type(layer).__name__ in names]


@pytest.mark.statement("DCGAN-1")
def test_the_networks_are_convolutional():
    g_model, d_model = dcgan.define_generator(), dcgan.define_discriminator()
    assert (g_model.count_params(), d_model.count_params()) == (760_065, 138_945)
    assert g_model.output_shape == (None, 28, 28, 1) and d_model.output_shape[1:] == (
        1,
    )
    assert [layer.filters for layer in of_kind(g_model, "Conv2DTranspose")] == [64, 1]
    assert [layer.filters for layer in of_kind(d_model, "Conv2D")] == [64, 128]


@pytest.mark.statement("DCGAN-2")
def test_the_constraints_on_the_architecture():
    g_model, d_model = dcgan.define_generator(), dcgan.define_discriminator()
    for model in (g_model, d_model):
        kinds = [type(layer).__name__ for layer in model.layers]
        assert not [kind for kind in kinds if "Pool" in kind or "UpSampling" in kind]
        convolutions = of_kind(model, "Conv2D", "Conv2DTranspose")
        assert {layer.strides for layer in convolutions} == {(2, 2)}
        # none between the projection of z, or the last logit, and the convolutions
        assert kinds.count("Dense") == 1
        for layer in of_kind(model, "BatchNormalization"):
            assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)
    kinds = [type(layer).__name__ for layer in g_model.layers]
    assert kinds.count("BatchNormalization") == kinds.count("ReLU") == 2
    assert kinds[-2:] == ["Conv2DTranspose", "Activation"]
    assert g_model.layers[-1].activation.__name__ == "tanh"
    kinds = [type(layer).__name__ for layer in d_model.layers]
    assert kinds[1:3] == ["Conv2D", "LeakyReLU"]
    assert kinds.count("BatchNormalization") == 1
    slopes = [layer.negative_slope for layer in of_kind(d_model, "LeakyReLU")]
    assert np.allclose(slopes, 0.2) and len(slopes) == 2
    assert kinds[-1] == "Dense" and d_model.layers[-1].activation.__name__ == "linear"


@pytest.mark.parametrize("name", ["dcgan", "wgan", "wgan_gp"])
def test_the_generator_can_do_without_normalisation(name):
    """For the comparison of which training is stable (Arjovsky et al. 2017, 4.3)."""
    script = load_script(name)
    for given, n in (({}, 2), ({"generator_norm": "no"}, 0)):
        settings = script.Settings(width=0.1, latent_dim=4, **given)
        g_model, d_model = script.define_models(settings, (28, 28, 1), 10)
        assert len(of_kind(g_model, "BatchNormalization")) == n
        assert len(of_kind(g_model, "ReLU")) == 2
        # d keeps what it has
        assert len(of_kind(d_model, "BatchNormalization")) == (name != "wgan_gp")


@pytest.mark.statement("DCGAN-2")
def test_the_constraints_on_training():
    keras.utils.set_random_seed(1)
    g_model, d_model = dcgan.define_generator(), dcgan.define_discriminator()
    for model in (g_model, d_model):
        optimizer = model.optimizer
        assert type(optimizer).__name__ == "Adam" and optimizer.beta_1 == 0.5
        assert float(optimizer.learning_rate) == pytest.approx(2e-4)
        for layer in model.layers:
            if hasattr(layer, "kernel") and layer.kernel.shape[-1] > 1:
                assert np.std(layer.kernel) == pytest.approx(0.02, rel=0.05)
                assert abs(np.mean(layer.kernel)) < 0.003
        for layer in of_kind(model, "BatchNormalization"):
            assert np.mean(layer.gamma) == pytest.approx(1, abs=0.01)
            assert np.std(layer.gamma) == pytest.approx(0.02, rel=0.35)
    # no two layers start alike
    first, second = dcgan.start_weights(), dcgan.start_weights()
    assert not np.array_equal(first((3, 3)), second((3, 3)))


@pytest.mark.statement("DCGAN-3")
def test_training_goes_on_where_the_generator_is_constant():
    g_model, d_model = tiny_models()
    g_model.layers[-2].set_weights(
        [np.zeros_like(w) for w in g_model.layers[-2].get_weights()]
    )
    step = dcgan.define_train_step(g_model, d_model)
    for _ in range(3):
        figures = step(0, *draw_batch())
        assert np.all(np.isfinite(figures))
    assert all(np.all(np.isfinite(w)) for w in values(g_model.variables))


def test_the_step_is_two_plain_updates_of_keras():
    ours, plain = tiny_models(), tiny_models()
    step = dcgan.define_train_step(*ours)
    g_model, d_model = plain
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    for number in range(2):
        X_real, z = draw_batch(seed=number)
        step(number, X_real, z)
        with tf.GradientTape() as d_tape, tf.GradientTape() as g_tape:
            fake = g_model(z, training=True)
            d_loss = loss(tf.ones((6, 1)), d_model(X_real, training=True))
            d_loss += loss(tf.zeros((6, 1)), d_model(fake, training=True))
        weights = d_model.trainable_variables
        d_model.optimizer.apply(d_tape.gradient(d_loss, weights), weights)
        with g_tape:
            g_loss = loss(tf.ones((6, 1)), d_model(fake, training=True))
        weights = g_model.trainable_variables
        g_model.optimizer.apply(g_tape.gradient(g_loss, weights), weights)
    for a, b in zip(ours, plain, strict=True):
        for x, y in zip(a.variables, b.variables, strict=True):
            assert np.allclose(x, y, atol=1e-6), x.path


@pytest.mark.parametrize("frozen", ["g", "d"])
def test_each_update_moves_its_own_weights(frozen, monkeypatch):
    g_model, d_model = tiny_models()
    real_update = dcgan.update

    def update(network, *others):
        if network is not (g_model if frozen == "g" else d_model):
            real_update(network, *others)

    monkeypatch.setattr(dcgan, "update", update)
    step = dcgan.define_train_step(g_model, d_model)
    models = (g_model, d_model)
    before = [copy.copy(values(m.trainable_variables)) for m in models]
    norms = of_kind(d_model, "BatchNormalization")
    statistics = values(layer.moving_mean for layer in norms)
    step(0, *draw_batch())
    g_moved, d_moved = (
        moved(b, m.trainable_variables) for b, m in zip(before, models, strict=True)
    )
    assert (any(g_moved), any(d_moved)) == (frozen == "d", frozen == "g")
    assert all(g_moved if frozen == "d" else d_moved)
    # d's moving statistics follow every batch that it sees in training, g's too
    now = values(layer.moving_mean for layer in norms)
    assert not np.array_equal(statistics, now)


def test_real_and_generated_images_are_batches_of_their_own():
    """What d says of real images does not depend on the generated ones."""
    losses = []
    for scale in (1.0, 100.0):
        g_model, d_model = tiny_models()
        X_real, z = draw_batch()
        found = dcgan.define_train_step(g_model, d_model)(0, X_real, scale * z)
        losses.append(np.array(found))
    assert losses[0][0] == losses[1][0] and losses[0][1] != losses[1][1]


def test_a_batch_holds_real_images_and_uniform_points():
    X = np.zeros((30, *SHAPE), np.uint8)
    X[15:] = 255
    X_real, z = dcgan.define_draw([X, None], 50, 400)(Draws(1, tf.constant(0), 2))
    assert (
        set(np.unique(X_real)) == {-1, 1} and 0.4 < (np.array(X_real) > 0).mean() < 0.6
    )
    assert np.min(z) >= -1 and np.max(z) <= 1
    assert np.var(z) == pytest.approx(1 / 3, abs=0.01)


def test_features_are_pooled_to_four_by_four():
    d_model = dcgan.define_discriminator((28, 28, 1), width=0.05)
    X = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    features = figures.pool_features(d_model, X)
    assert features.shape == (3, 16 * 3 + 16 * 6)
    first = keras.Model(d_model.input, d_model.layers[2].output)
    maps = np.array(first(X / np.float32(127.5) - 1))
    places = features[:, : 16 * 3].reshape(3, 4, 4, 3)
    # 14 pixels in windows of 4, the border shared out
    assert np.allclose(places[:, 1, 1], maps[:, 3:7, 3:7].max(axis=(1, 2)), atol=1e-5)


@pytest.mark.statement("DCGAN-4")
def test_later_models_stand_on_it():
    from diffs import LADDER

    children = {child for parent, child, _ in LADDER if parent == "dcgan"}
    assert {"cgan", "infogan", "wgan"} <= children
