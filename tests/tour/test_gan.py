import gan
import keras
import numpy as np
import pytest
import tensorflow as tf

from gankit.training.batches import Draws, prepare_update
from parts import moved, values

SHAPE = (8, 8, 1)


def tiny_models(width=0.02):
    keras.utils.set_random_seed(0)
    g_model = gan.define_generator(5, image_shape=SHAPE, width=width)
    return g_model, gan.define_discriminator(SHAPE, width=width)


def draw_batch(n=6, seed=3):
    X = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)
    return gan.define_draw([X, None], 5, n)(Draws(seed, tf.constant(0), 2))


@pytest.mark.statement("GAN-4", "GAN-5")
def test_the_generator_is_the_authors_perceptron():
    g_model = gan.define_generator()
    kinds = [type(layer).__name__ for layer in g_model.layers]
    assert kinds == ["InputLayer", "Dense", "Dense", "Dense", "Activation", "Reshape"]
    activations = [layer.activation.__name__ for layer in g_model.layers[1:5]]
    assert activations == ["relu", "relu", "linear", "sigmoid"]
    assert g_model.count_params() == 2_503_984
    kernels = [layer.kernel for layer in g_model.layers if hasattr(layer, "kernel")]
    assert [kernel.shape[1] for kernel in kernels] == [1200, 1200, 784]
    assert all(0.0499 < np.abs(kernel).max() <= 0.05 for kernel in kernels)


@pytest.mark.statement("GAN-1")
def test_a_latent_point_becomes_an_image():
    g_model, _ = tiny_models(0.5)
    z = np.random.default_rng(0).normal(0, 30, (7, 5)).astype(np.float32)
    images = g_model.predict_on_batch(z)
    assert images.shape == (7, *SHAPE)
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.01
    assert not np.allclose(images[0], images[1])


@pytest.mark.statement("GAN-4", "GAN-6", "GAN-7")
def test_the_discriminator_has_maxout_units_and_dropout():
    d_model = gan.define_discriminator()
    assert d_model.count_params() == 1_231_441
    kinds = [type(layer).__name__ for layer in d_model.layers]
    hidden = ["Dense", "Reshape", "GlobalMaxPooling1D", "Dropout"]
    assert kinds == ["InputLayer", "Flatten", "Dropout", *hidden, *hidden, "Dense"]
    dropouts = [layer.rate for layer in d_model.layers if hasattr(layer, "rate")]
    assert dropouts == [0.2, 0.5, 0.5]
    kernels = [layer.kernel for layer in d_model.layers if hasattr(layer, "kernel")]
    assert all(np.abs(kernel).max() <= 0.005 for kernel in kernels)


@pytest.mark.statement("GAN-6")
def test_maxout_is_the_largest_of_affine_maps():
    x_in = keras.Input(shape=(3,))
    model = keras.Model(x_in, gan.define_maxout(x_in, 2, 5))
    kernel, bias = np.random.default_rng(0).normal(size=(4, 10)).reshape(-1), None
    kernel, bias = kernel[:30].reshape(3, 10), kernel[30:]
    model.layers[1].set_weights([kernel, bias])
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    maps = (x @ kernel + bias).reshape(4, 2, 5)
    assert np.allclose(model.predict_on_batch(x), maps.max(axis=2), atol=1e-5)


@pytest.mark.statement("GAN-2")
def test_the_discriminator_learns_to_tell_real_from_generated():
    _, d_model = tiny_models()
    real, fake = tf.ones((8, *SHAPE)), tf.zeros((8, *SHAPE))
    for _ in range(40):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.softplus(-d_model(real))) + tf.reduce_mean(
                tf.nn.softplus(d_model(fake))
            )
        prepare_update(d_model, d_model.optimizer, tape, loss)()
    assert np.all(np.array(d_model(real)) > 0) and np.all(np.array(d_model(fake)) < 0)


@pytest.mark.statement("GAN-7")
def test_dropout_is_for_training_and_each_pass_has_its_masks():
    _, d_model = tiny_models(0.2)
    X = tf.ones((4, *SHAPE))
    assert np.array_equal(d_model(X), d_model(X))
    first, second = (np.array(d_model(X, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.statement("GAN-3")
@pytest.mark.parametrize("frozen", ["g", "d"])
def test_each_update_moves_its_own_network(frozen, monkeypatch):
    g_model, d_model = tiny_models()
    train_step = gan.define_train_step(g_model, d_model)

    def prepare(network, optimizer, tape, loss):
        update = prepare_update(network, optimizer, tape, loss)
        still = network is (g_model if frozen == "g" else d_model)
        return (lambda: None) if still else update

    monkeypatch.setattr(gan, "prepare_update", prepare)
    before = values(g_model.variables), values(d_model.trainable_variables)
    train_step(0, *draw_batch())
    g_moved = moved(before[0], g_model.variables)
    d_moved = moved(before[1], d_model.trainable_variables)
    assert any(g_moved) == (frozen == "d") and any(d_moved) == (frozen == "g")
    assert frozen == "d" or all(d_moved)


def test_both_gradients_are_taken_before_either_network_moves(monkeypatch):
    """Frozen d or not, g makes the same first step; the batch serves both updates."""
    found = []
    for frozen in (False, True):
        g_model, d_model = tiny_models()
        for layer in d_model.layers:
            if hasattr(layer, "rate"):
                layer.rate = 0
        train_step = gan.define_train_step(g_model, d_model)

        def prepare(network, *others, frozen=frozen, d_model=d_model):
            update = prepare_update(network, *others)
            return (lambda: None) if frozen and network is d_model else update

        monkeypatch.setattr(gan, "prepare_update", prepare)
        train_step(0, *draw_batch())
        found.append(values(g_model.variables))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_a_step_is_gradient_descent_with_momentum():
    g_model, d_model = tiny_models()
    variables = d_model.trainable_variables
    d_model.optimizer.build(variables)
    rng = np.random.default_rng(0)
    weights = values(variables)
    velocities = [np.zeros_like(w) for w in weights]
    for step in range(3):
        gradients = [rng.normal(size=w.shape).astype(np.float32) for w in weights]
        d_model.optimizer.apply([tf.constant(g) for g in gradients], variables)
        rate, momentum = 0.1 / 1.000004**step, 0.5 + 0.2 * step / 150_000
        for v, w, g in zip(velocities, weights, gradients, strict=True):
            v *= momentum
            v -= rate * g
            w += v
    for expected, variable in zip(weights, variables, strict=True):
        assert np.allclose(expected, variable, rtol=1e-5, atol=1e-6)
    del g_model


@pytest.mark.parametrize(
    ("step", "rate", "momentum"),
    [
        (0, 0.1, 0.5),
        (150_000, 0.1 / 1.000004**150_000, 0.7),
        (75_000, 0.1 / 1.000004**75_000, 0.6),
        (300_000, 0.1 / 1.000004**300_000, 0.7),
        (10_000_000, 1e-6, 0.7),
    ],
)
def test_rate_and_momentum(step, rate, momentum):
    found = gan.rate_and_momentum(tf.constant(step))
    assert np.allclose(found, (rate, momentum), rtol=1e-4)


def test_the_losses_are_the_papers():
    g_model, d_model = tiny_models()
    X_real, z = draw_batch()
    for layer in d_model.layers:
        if hasattr(layer, "rate"):
            layer.rate = 0
    real, fake = (np.array(d_model(X)) for X in (X_real, g_model(z)))
    found = gan.define_train_step(g_model, d_model)(0, X_real, z)
    expected = (np.log1p(np.exp(-real)), np.log1p(np.exp(fake)))
    expected = (*map(np.mean, expected), np.mean(np.log1p(np.exp(-fake))))
    assert np.allclose(found, expected, rtol=1e-5)


def test_a_sure_discriminator_still_moves_the_generator():
    """-log D(G(z)), not log(1 - D(G(z))), whose gradient is D: 1e-4 of the other."""
    logit = tf.constant(np.log(1e-4 / (1 - 1e-4)), tf.float32)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logit)
        ours = loss(tf.ones((1, 1)), tf.reshape(logit, (1, 1)))
        other = -loss(tf.zeros((1, 1)), tf.reshape(logit, (1, 1)))
    assert float(tape.gradient(ours, logit)) == pytest.approx(-0.9999, rel=1e-3)
    assert float(tape.gradient(other, logit)) == pytest.approx(-1e-4, rel=1e-2)
    changes = []
    for bias in (0, -9.2):  # D is 1/2, and 1e-4
        g_model, d_model = tiny_models()
        d_model.layers[-1].bias.assign([bias])
        before = values(g_model.variables)
        gan.define_train_step(g_model, d_model)(0, *draw_batch())
        pairs = zip(before, values(g_model.variables), strict=True)
        changes.append(max(np.abs(b - v).max() for b, v in pairs))
    assert changes[1] == pytest.approx(2 * changes[0], rel=0.01)


def test_the_generator_starts_with_the_mean_image():
    g_model, _ = tiny_models()
    X = np.zeros((4, *SHAPE), np.uint8)
    X[:, 2] = 51
    X[:2, 4] = 255
    gan.start_at_marginals(g_model, X)
    image = np.array(g_model(tf.zeros((1, 5))))[0, ..., 0]
    assert np.allclose(image[2], 0.2, atol=1e-5) and np.allclose(image[4], 0.5)
    assert np.allclose(image[[0, 1, 3, 5]], 0, atol=1e-6)


@pytest.mark.statement("GAN-8")
def test_the_networks_for_colour_images():
    g_model = gan.define_cifar_generator(6, width=0.01)
    activations = [
        layer.activation.__name__
        for layer in g_model.layers
        if hasattr(layer, "activation")
    ]
    assert activations == ["relu", "sigmoid", "linear"]
    assert [layer.units for layer in g_model.layers[1:4]] == [80, 80, 3072]
    assert g_model.output_shape == (None, 32, 32, 3)
    settings = gan.Settings(width=0.01, latent_dim=6)
    g_model, d_model = gan.define_models(settings, (32, 32, 3), 10)
    assert g_model.layers[1].units == 80 and d_model.layers[3].units == 16 * 5
    X = np.full((4, 32, 32, 3), 51, np.uint8)
    gan.start_at_marginals(g_model, X)
    bias = g_model.get_layer("pixels").bias
    assert np.allclose(bias, 0.2)


def test_a_batch_holds_images_from_0_to_1_and_points_of_variance_1():
    X = np.zeros((50, *SHAPE), np.uint8)
    X[25:] = 255
    X_real, z = gan.define_draw([X, None], 40, 500)(Draws(1, tf.constant(0), 2))
    X_real, z = np.array(X_real), np.array(z)
    assert set(np.unique(X_real)) == {0, 1}
    assert 0.4 < X_real.mean() < 0.6
    assert abs(z.mean()) < 0.03 and abs(z.var() - 1) < 0.03
    assert z.min() >= -np.sqrt(3) and z.max() <= np.sqrt(3)
    sample = gan.define_sample(gan.define_generator(40, image_shape=SHAPE), 40)
    images = sample(12, np.random.default_rng(0), None)
    assert images.dtype == np.uint8 and images.shape == (12, *SHAPE)
