import numpy as np
import pytest

from gankit.backend import keras, layers, tf
from gankit.training.batches import Draws, Steps
from tour_scripts import load_script

SHAPE = (8, 8, 1)
N_BATCH, LATENT = 4, 3


@pytest.fixture(scope="module")
def wgan_gp():
    return load_script("wgan_gp")


@pytest.fixture
def critic(wgan_gp):
    keras.utils.set_random_seed(1)
    return wgan_gp.define_critic(SHAPE, width=0.05)


def random_images(n=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE), np.uint8)


def random_batch(n=N_BATCH, seed=0):
    """Real images, generated ones, and how far from the real ones."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1, 1, (2, n, *SHAPE)).astype(np.float32)
    return (
        *map(tf.constant, images),
        tf.constant(rng.random((n, 1, 1, 1), np.float32)),
    )


def linear_critic(norm):
    """A critic whose gradient has this norm at every image."""
    in_image = keras.Input(shape=SHAPE)
    out_layer = layers.Dense(1)(layers.Flatten()(in_image))
    critic = keras.Model(in_image, out_layer)
    kernel = np.random.default_rng(0).normal(size=(64, 1)).astype(np.float32)
    critic.set_weights([norm * kernel / np.linalg.norm(kernel), np.float32([7])])
    return critic


def penalty_and_gradients(wgan_gp, critic, batch):
    with tf.GradientTape() as tape:
        penalty = wgan_gp.gradient_penalty(critic, *batch)
    weights = critic.trainable_variables
    gradients = tape.gradient(penalty, weights)
    # None for the last bias, which moves no slope
    return penalty, [
        np.zeros(weight.shape) if gradient is None else gradient.numpy()
        for weight, gradient in zip(weights, gradients, strict=True)
    ]


def test_the_critic_is_wgans_without_normalisation(wgan_gp):
    critic = wgan_gp.define_critic()
    kinds = {type(layer) for layer in critic.layers}
    assert layers.BatchNormalization not in kinds
    # two weights and two statistics a map less, a bias more
    assert critic.count_params() == 138_945 - 4 * 128 + 128
    assert wgan_gp.define_generator().count_params() == 760_065


def test_the_optimizers_are_those_of_algorithm_1(wgan_gp, critic):
    optimizer = critic.optimizer
    assert type(optimizer) is keras.optimizers.Adam
    assert float(optimizer.learning_rate) == pytest.approx(1e-4)
    assert (optimizer.beta_1, optimizer.beta_2) == (0.0, 0.9)
    assert (wgan_gp.N_CRITIC, wgan_gp.PENALTY) == (5, 10)
    assert wgan_gp.Settings().batch == 64


@pytest.mark.parametrize("norm", [0.0, 0.5, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic(wgan_gp, norm):
    critic = linear_critic(norm)
    penalty, gradients = penalty_and_gradients(wgan_gp, critic, random_batch())
    assert float(penalty) == pytest.approx((norm - 1) ** 2, abs=1e-5)
    kernel = np.array(critic.trainable_variables[0])
    wanted = 2 * (norm - 1) * kernel / max(norm, 1e-6)
    np.testing.assert_allclose(gradients[0], wanted, atol=1e-4)
    assert not np.any(gradients[1])


def test_the_slope_is_taken_between_the_images(wgan_gp):
    """Of the critic sum(x^2) / 2 the gradient is the image itself."""
    in_image = keras.Input(shape=SHAPE)
    squares = layers.Multiply()([in_image, in_image])
    critic = keras.Model(in_image, 32 * layers.GlobalAveragePooling2D()(squares))
    X_real, X_fake, alpha = random_batch()
    between = (1 - alpha) * X_real + alpha * X_fake
    slopes = np.linalg.norm(np.reshape(between, (N_BATCH, -1)), axis=1)
    found = wgan_gp.gradient_penalty(critic, X_real, X_fake, alpha)
    assert float(found) == pytest.approx(np.mean((slopes - 1) ** 2), rel=1e-5)
    ends = [
        wgan_gp.gradient_penalty(critic, X_real, X_fake, tf.fill(alpha.shape, end))
        for end in (0.0, 1.0)
    ]
    for end, X in zip(ends, (X_real, X_fake), strict=True):
        slopes = np.linalg.norm(np.reshape(X, (N_BATCH, -1)), axis=1)
        assert float(end) == pytest.approx(np.mean((slopes - 1) ** 2), rel=1e-5)


def test_the_penalty_beside_a_central_difference(wgan_gp):
    """Its gradient by the weights, where the critic has bends nowhere near."""
    keras.utils.set_random_seed(2)
    in_image = keras.Input(shape=SHAPE)
    x = layers.Conv2D(3, 4, strides=2, padding="same", activation="tanh")(in_image)
    critic = keras.Model(in_image, layers.Dense(1)(layers.Flatten()(x)))
    batch = random_batch()
    _, gradients = penalty_and_gradients(wgan_gp, critic, batch)
    for weight, gradient in zip(critic.trainable_variables, gradients, strict=True):
        start = weight.numpy()
        towards = np.random.default_rng(3).normal(size=start.shape).astype(np.float32)
        ends = []
        for sign in (1, -1):
            weight.assign(start + sign * 1e-2 * towards)
            ends.append(float(wgan_gp.gradient_penalty(critic, *batch)))
        weight.assign(start)
        slope = np.sum(towards * gradient)
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(slope, rel=2e-2, abs=2e-3)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_the_penalty_in_mixed_precision(wgan_gp, critic, precision):
    batch = random_batch(16)
    # as wide a critic's answers as those of one that is trained
    critic.set_weights([8 * weight for weight in critic.get_weights()])
    wanted, wanted_gradients = penalty_and_gradients(wgan_gp, critic, batch)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        mixed = wgan_gp.define_critic(SHAPE, width=0.05)
    finally:
        keras.config.set_dtype_policy(policy)
    mixed.set_weights(critic.get_weights())
    penalty, gradients = penalty_and_gradients(wgan_gp, mixed, batch)
    assert penalty.dtype == tf.float32
    assert float(penalty) == pytest.approx(float(wanted), rel=0.03)
    a, b = (
        np.concatenate([np.ravel(g) for g in found])
        for found in (gradients, wanted_gradients)
    )
    assert np.isfinite(a).all()
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99
    assert np.linalg.norm(a) == pytest.approx(np.linalg.norm(b), rel=0.05)


def test_each_image_has_a_place_of_its_own(wgan_gp):
    draw = wgan_gp.define_draw([random_images(1000), None], LATENT, N_BATCH)
    indices, z, z_g, alpha = draw(Draws(1, 0, 4))
    assert (indices.shape, z.shape) == ((5, N_BATCH), (5, N_BATCH, LATENT))
    assert alpha.shape == (5, N_BATCH, 1, 1, 1)
    assert len(np.unique(alpha)) == 5 * N_BATCH
    assert 0 <= np.min(alpha) < 0.3 and 0.7 < np.max(alpha) <= 1


def test_a_step_makes_five_updates_which_the_penalty_is_in(wgan_gp, critic):
    g_model = wgan_gp.define_generator(LATENT, image_shape=SHAPE, width=0.05)
    dataset = [random_images(), None]
    steps = Steps(
        wgan_gp.define_draw(dataset, LATENT, N_BATCH),
        wgan_gp.define_train_step(g_model, critic, dataset),
        [g_model, critic, g_model.optimizer, critic.optimizer],
        columns=wgan_gp.HISTORY,
        seed=1,
        draws=4,
        passes=1,
        jit=False,
        n_parts=1,
    )
    # a slope far too steep, and a rate that shows what the penalty does to it
    critic.set_weights([20 * weight for weight in critic.get_weights()])
    critic.optimizer.learning_rate.assign(1e-2)
    figures = steps(0, 12).numpy()
    assert int(critic.optimizer.iterations) == 12 * 5
    assert int(g_model.optimizer.iterations) == 12
    assert np.abs(critic.layers[-1].kernel).max() > 0.01  # nothing is clipped
    penalties = figures[:, wgan_gp.HISTORY.index("penalty")]
    assert penalties[-1] < penalties[0] / 2
