import figures
import numpy as np
import pytest

from gankit.backend import keras, layers, tf
from gankit.training.batches import Draws, Steps
from tour_scripts import load_script

SHAPE = (8, 8, 1)
N_BATCH, LATENT = 4, 3


@pytest.fixture(scope="module")
def wgan():
    return load_script("wgan")


@pytest.fixture
def models(wgan):
    keras.utils.set_random_seed(1)
    return (
        wgan.define_generator(LATENT, image_shape=SHAPE, width=0.05),
        wgan.define_critic(SHAPE, width=0.05),
    )


def random_images(n=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE), np.uint8)


def batch_of(wgan, n, seed=0):
    """What a step of n critic updates takes: indices, points, the generator's."""
    rng = np.random.default_rng(seed)
    return (
        tf.constant(rng.integers(0, 20, (n, N_BATCH)), tf.int32),
        tf.constant(rng.standard_normal((n, N_BATCH, LATENT)), tf.float32),
        tf.constant(rng.standard_normal((N_BATCH, LATENT)), tf.float32),
    )


def values_of(variables):
    return [variable.numpy() for variable in variables]


def same(before, after):
    return all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def compiled(wgan, models, jit=False):
    g_model, critic = models
    dataset = [random_images(), None]
    return Steps(
        wgan.define_draw(dataset, LATENT, N_BATCH),
        wgan.define_train_step(g_model, critic, dataset),
        [g_model, critic, g_model.optimizer, critic.optimizer],
        columns=wgan.HISTORY,
        seed=1,
        draws=3,
        passes=1,
        jit=jit,
        n_parts=1,
    )


def test_the_networks_are_those_of_dcgan(wgan):
    assert wgan.define_generator().count_params() == 760_065
    assert wgan.define_critic().count_params() == 138_945


@pytest.mark.statement("WGAN-2")
def test_the_critic_answers_with_any_number(wgan):
    critic = wgan.define_critic(SHAPE, width=0.05)
    assert critic.layers[-1].activation is keras.activations.linear
    for weight in critic.layers[-1].trainable_variables:
        weight.assign(tf.fill(weight.shape, -2.0))
    assert np.max(critic(np.ones((1, *SHAPE)))) < 0
    for weight in critic.layers[-1].trainable_variables:
        weight.assign(tf.fill(weight.shape, 2.0))
    assert np.min(critic(np.ones((1, *SHAPE)))) > 1


@pytest.mark.statement("WGAN-3")
def test_the_loss_is_a_difference_of_means(wgan):
    real, fake = np.float32([[1], [4]]), np.float32([[-3], [5]])
    y_true = np.float32([wgan.REAL, wgan.FAKE])[:, None, None]
    losses = [
        wgan.wasserstein_loss(*pair) for pair in zip(y_true, (real, fake), strict=True)
    ]
    assert sum(map(float, losses)) == np.mean(fake) - np.mean(real)


@pytest.mark.statement("WGAN-4")
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_the_gradient_does_not_saturate(wgan, size):
    answers = tf.constant([[size], [-size], [0.0], [3 * size]])
    with tf.GradientTape() as tape:
        tape.watch(answers)
        loss = wgan.wasserstein_loss(tf.fill((4, 1), wgan.REAL), answers)
    np.testing.assert_array_equal(tape.gradient(loss, answers), np.full((4, 1), -0.25))


def test_the_optimizers_are_torchs_rmsprop(models):
    for model in models:
        optimizer = model.optimizer
        assert type(optimizer) is keras.optimizers.RMSprop
        assert float(optimizer.learning_rate) == pytest.approx(5e-5)
        assert (optimizer.rho, optimizer.momentum) == (0.99, 0.0)
        # small gradients move weights as far as large ones: epsilon is none of them
        weight = model.trainable_variables[0]
        before = np.array(weight)
        optimizer.apply([tf.fill(weight.shape, 1e-6)], [weight])
        assert np.allclose(before - weight, 5e-5 / np.sqrt(0.01), rtol=0.02)


@pytest.mark.statement("WGAN-1")
def test_the_critic_is_updated_more_at_the_start_and_now_and_then(wgan):
    counts = {n: wgan.count_critic_updates(n) for n in range(1002)}
    many = {step for step, n in counts.items() if n == 100}
    assert many == {*range(25), 500, 1000}
    assert {n for step, n in counts.items() if step not in many} == {5}


def test_a_step_makes_as_many_updates_in_a_graph(wgan, models):
    steps = compiled(wgan, models)
    g_model, critic = models
    steps(23, 3).numpy()
    assert int(critic.optimizer.iterations) == 100 + 100 + 5
    assert int(g_model.optimizer.iterations) == 3
    steps(500, 1).numpy()
    assert int(critic.optimizer.iterations) == 305
    for weight in critic.trainable_variables:
        assert np.abs(weight).max() <= np.float32(0.01)


def test_each_update_has_images_and_points_of_its_own(wgan):
    draw = wgan.define_draw([random_images(1000), None], LATENT, N_BATCH)
    indices, z, z_g = draw(Draws(1, 30, 3))
    assert (indices.shape, z.shape) == ((5, N_BATCH), (5, N_BATCH, LATENT))
    assert len(np.unique(indices)) > 15
    points = np.concatenate([np.reshape(z, (-1, LATENT)), z_g])
    assert len(np.unique(points, axis=0)) == 6 * N_BATCH
    many = draw(Draws(1, 500, 3))[1]
    assert abs(np.mean(many)) < 0.15
    assert np.std(many) == pytest.approx(1, abs=0.1)


def test_xla_changes_rounding_alone(wgan, models):
    start = [values_of(model.variables) for model in models]
    plain = compiled(wgan, models)(30, 1).numpy()
    for model, values in zip(models, start, strict=True):
        model.set_weights(values)
        for variable in model.optimizer.variables:
            if variable.path.split("/")[-1] != "learning_rate":
                variable.assign(tf.zeros_like(variable))
    np.testing.assert_allclose(
        compiled(wgan, models, jit=True)(30, 1), plain, rtol=1e-3, atol=1e-6
    )


def test_clipping_leaves_moving_statistics(wgan, models):
    critic = models[1]
    for variable in critic.variables:
        variable.assign(tf.fill(variable.shape, 3.0))
    wgan.clip_weights(critic, 0.01)
    for weight in critic.trainable_variables:
        assert np.all(weight == np.float32(0.01))
    assert critic.non_trainable_variables
    for statistic in critic.non_trainable_variables:
        assert np.all(statistic == 3)


def test_normalisation_can_be_left_unclipped(wgan, models):
    critic = models[1]
    for variable in critic.variables:
        variable.assign(tf.fill(variable.shape, -3.0))
    wgan.clip_weights(critic, 0.01, clip_norm=False)
    for layer in critic.layers:
        kept = isinstance(layer, layers.BatchNormalization)
        for weight in layer.trainable_variables:
            assert np.all(weight == np.float32(-3 if kept else -0.01))


@pytest.mark.statement("WGAN-5")
def test_a_step_is_update_then_clip_then_the_generator(wgan, models):
    """One step of two critic updates, beside plain Keras and formulas of RMSprop."""
    for model in models:  # else rounding decides where gradients nearly vanish
        model.optimizer.epsilon = 1e-7
    g_model, critic = models
    X = random_images()
    indices, z, z_g = batch_of(wgan, 2)
    twins = [keras.models.clone_model(model) for model in models]
    for twin, model in zip(twins, models, strict=True):
        twin.set_weights(model.get_weights())
    g_twin, c_twin = twins

    def move(model, gradients, squares):
        for weight, gradient, square in zip(
            model.trainable_variables, gradients, squares, strict=True
        ):
            square *= 0.99
            square += 0.01 * np.square(gradient)
            weight.assign_sub(5e-5 * gradient / np.sqrt(square + 1e-7))

    squares = [np.zeros(w.shape, np.float32) for w in c_twin.trainable_variables]
    for i in range(2):
        X_real = np.float32(X[indices[i].numpy()]) / 127.5 - 1
        X_fake = g_twin(z[i], training=True)
        with tf.GradientTape() as tape:
            real = tf.reduce_mean(c_twin(X_real, training=True))
            fake = tf.reduce_mean(c_twin(X_fake, training=True))
            loss = fake - real
        move(c_twin, tape.gradient(loss, c_twin.trainable_variables), squares)
        for weight in c_twin.trainable_variables:
            weight.assign(np.clip(weight, -0.01, 0.01))
    with tf.GradientTape() as tape:
        g_loss = -tf.reduce_mean(c_twin(g_twin(z_g, training=True), training=True))
    squares = [np.zeros(w.shape, np.float32) for w in g_twin.trainable_variables]
    move(g_twin, tape.gradient(g_loss, g_twin.trainable_variables), squares)

    found = wgan.define_train_step(g_model, critic, [X, None])(0, indices, z, z_g)
    np.testing.assert_allclose(
        found, [-real, fake, g_loss, real - fake], rtol=1e-3, atol=1e-6
    )
    for model, twin in zip(models, twins, strict=True):
        for a, b in zip(model.variables, twin.variables, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)


def test_each_update_moves_one_network(wgan, models):
    g_model, critic = models
    step = wgan.define_train_step(g_model, critic, [random_images(), None])
    wgan.clip_weights(critic, wgan.LIMIT)  # before, so that only an update moves it
    for still, moving in ((g_model, critic), (critic, g_model)):
        still.optimizer.learning_rate.assign(0.0)
        moving.optimizer.learning_rate.assign(5e-5)
        before = [values_of(m.trainable_variables) for m in (still, moving)]
        step(0, *batch_of(wgan, 2))
        assert same(before[0], values_of(still.trainable_variables))
        assert not same(before[1], values_of(moving.trainable_variables))


def test_the_estimate_leaves_the_critic_as_it_was(wgan, models):
    critic = models[1]
    real, generated = random_images(), np.zeros((20, *SHAPE), np.uint8)
    before = values_of(critic.variables)
    estimate = wgan.measure_estimate(critic, real, generated, N_BATCH)
    assert same(before, values_of(critic.variables))
    wanted = [
        np.mean(critic(np.float32(real[i : i + 4]) / 127.5 - 1, training=True))
        - np.mean(critic(np.float32(generated[i : i + 4]) / 127.5 - 1, training=True))
        for i in range(0, 20, 4)
    ]
    assert estimate == pytest.approx(np.mean(wanted), abs=1e-6)
    # fewer images than a batch has
    assert np.isfinite(wgan.measure_estimate(critic, real[:3], generated[:3], 4))


def test_the_correlation_of_estimate_and_distance(tmp_path):
    rows = ["epoch,step,judge_fid,estimate", "1,2,9,0.3", "2,4,5,0.1", "3,6,4,0.2"]
    (tmp_path / "measures.csv").write_text("\n".join(rows))
    estimates = [9, 7, 1, 8, 1, 1]
    rows = ["step,estimate", *(f"{i},{e}" for i, e in enumerate(estimates, 1))]
    (tmp_path / "history.csv").write_text("\n".join(rows))
    found = figures.correlate(tmp_path, "estimate", ["estimate"])
    # ranks 3, 1, 2 beside 3, 2, 1; medians 8, 7.5, 4
    assert found["estimate_correlation"] == pytest.approx(0.5)
    assert found["training_correlation"] == pytest.approx(1)


@pytest.mark.parametrize("rows", [["1,2,9,0.3"], ["1,2,,0.3", "2,4,,0.1"]])
def test_no_correlation_of_too_little(tmp_path, rows):
    text = "\n".join(["epoch,step,judge_fid,estimate", *rows])
    (tmp_path / "measures.csv").write_text(text)
    (tmp_path / "history.csv").write_text("step,estimate\n1,2\n2,3\n3,4\n4,5\n")
    assert figures.correlate(tmp_path, "estimate", ["estimate"]) == {}


def test_longer_steps_count_in_the_minutes(wgan, monkeypatch):
    common = load_script("common")
    monkeypatch.setattr(common, "fit_to_minutes", lambda *_: 1000)
    settings = wgan.Settings(minutes=5.0, seed=1)
    run = common.GanRun("wgan", settings)
    run._n_steps = tf.Variable(1, dtype=tf.int64)

    def work(step):
        return (wgan.count_critic_updates(step) + 1) / 6

    n_steps = run.fit(5000, None, None, first=25, work=work)
    # 25 and one more steps take as long as 101 / 6
    assert n_steps == int(1000 - 26 * (101 / 6 - 1))
