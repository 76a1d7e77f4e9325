import numpy as np
import pytest
from PIL import Image

from gankit.backend import keras, layers, tf
from gankit.training.batches import Draws, define_take
from parts import fails, moved, read_csv, values
from tour_scripts import load_script

SHAPE = (16, 16, 1)
N_BATCH, LATENT, WIDTH, LAST = 8, 3, 0.1, 2


@pytest.fixture(scope="module")
def stylegan():
    return load_script("stylegan")


@pytest.fixture
def models(stylegan):
    """The average, the generator and the critics of 4, 8 and 16 pixels."""
    keras.utils.set_random_seed(1)
    settings = stylegan.Settings(width=WIDTH, latent_dim=LATENT)
    models = stylegan.define_models(settings, SHAPE, 10)
    stylegan.set_growth([*models[:2], models[2][-1]], tf.constant(float(LAST)))
    return models


@pytest.fixture
def g_model(models):
    return models[1]


def random_images(n=20, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def noise_for(stylegan, n, seed=0):
    noise = stylegan.draw_noise(n, np.random.default_rng(seed), SHAPE)
    return [tf.constant(part) for part in noise]


def factors_of(g_model):
    """The factors of the noise, a variable for each convolution."""
    return [
        layer.trainable_variables[0]
        for layer in g_model.layers
        if type(layer) is layers.Conv2D
    ]


def make_steps(stylegan, models, level, n=1, growth=LAST):
    """Make n training steps of a level at a growth that stays; return the figures."""
    dataset, grown_to = [random_images(), None], [tf.Variable(-1)]
    draw = stylegan.define_draw(dataset, LATENT, N_BATCH, level)
    take_real = define_take(dataset[0])
    train_step = stylegan.define_train_step(
        *models, take_real, level, grown_to, lambda step: tf.constant(float(growth))
    )
    return [train_step(step, *draw(Draws(1, step, 4))) for step in range(n)]


# ---------------------------------------------------------------- the generator


@pytest.mark.statement("STYLE-1", "STYLE-4")
def test_each_convolution_has_a_style_of_its_own(stylegan, g_model):
    """The style of a layer changes the images, and not those of coarser sizes."""
    images = [stylegan.synthesis_of(g_model, level) for level in range(3)]
    styles, noise = normal(2, 6, LATENT), noise_for(stylegan, 2)

    def paint(level, styles):
        of_level = noise[: 2 * (level + 1)]
        return np.array(images[level]([tf.constant(styles), *of_level]))

    before = [paint(level, styles) for level in range(3)]
    for layer in range(6):
        others = styles.copy()
        others[:, layer] += 1
        for level in range(3):
            changed = np.abs(paint(level, others) - before[level])
            assert (changed.max() > 1e-4) == (layer < 2 * (level + 1)), (layer, level)


@pytest.mark.statement("STYLE-2")
def test_the_generator_starts_from_a_learned_constant(stylegan, g_model):
    (start,) = (la for la in g_model.layers if isinstance(la, stylegan.starting()))
    assert np.array_equal(start.constant, np.ones((1, 4, 4, 6)))
    assert [w for w in start.trainable_variables] == [start.constant]
    # its answer is the same for any style
    out = start(tf.constant(normal(3, LATENT)))
    assert out.shape == (3, 4, 4, 6) and np.array_equal(out, np.ones((3, 4, 4, 6)))
    # which would have no gradient where all its pixels are normalised to the same
    start.constant.assign(normal(1, 4, 4, 6))
    with tf.GradientTape() as tape:
        noise = noise_for(stylegan, 2)
        images = g_model([tf.constant(normal(2, LATENT)), *noise])
        loss = tf.reduce_mean(images**2)
    assert np.abs(tape.gradient(loss, start.constant)).max() > 1e-6
    # nothing else goes in than the style and noise
    synthesis = stylegan.synthesis_of(g_model, LAST)
    assert [x.shape[1:] for x in synthesis.inputs] == [
        (6, LATENT),
        *[(size, size, 1) for size in (4, 4, 8, 8, 16, 16)],
    ]


@pytest.mark.statement("STYLE-3")
def test_the_code_passes_a_network_of_its_own(stylegan, g_model):
    mapping = stylegan.mapping_of(g_model)
    kernels = [v for v in mapping.trainable_variables if v.shape.rank == 2]
    assert len(kernels) == stylegan.N_MAPPING == 4
    z = normal(5, LATENT)
    # its length does not count
    np.testing.assert_allclose(mapping(z), mapping(3 * z), rtol=1e-3)
    w = np.array(mapping(z))
    assert not np.allclose(w / w[0], z / z[0], rtol=0.1)  # it is not linear
    models = stylegan.define_generator()
    assert len(stylegan.mapping_of(models).trainable_variables) == 8


def test_the_mapping_learns_a_hundred_times_slower(stylegan):
    changes = []
    for rate in (1.0, 0.01):
        keras.utils.set_random_seed(3)
        dense = stylegan.equalized(layers.Dense)(50, rate=rate)
        x = tf.constant(normal(20, 30))
        before = np.array(dense(x))
        # as strong as another at its start
        assert before.std() == pytest.approx(2**0.5, rel=0.1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(dense(x))
        weights = dense.trainable_variables
        optimizer = stylegan.define_optimizer()
        optimizer.apply(tape.gradient(loss, weights), weights)
        changes.append(np.array(dense(x)) - before)
        bias = np.array(weights[1])
        assert np.abs(bias).max() == pytest.approx(1e-3, rel=1e-3)
    np.testing.assert_allclose(changes[1], changes[0] / 100, rtol=0.02, atol=2e-6)


def test_a_style_sets_mean_and_deviation(stylegan):
    x = 5 + 3 * normal(2, 6, 7, 3)
    style = normal(2, 6, seed=1)
    found = np.array(stylegan.adapt([tf.constant(x), tf.constant(style)]))
    means, deviations = found.mean(axis=(1, 2)), found.std(axis=(1, 2))
    np.testing.assert_allclose(means, style[:, 3:], atol=1e-5)
    np.testing.assert_allclose(deviations, np.abs(style[:, :3] + 1), rtol=1e-4)
    # what the maps had before is gone
    again = stylegan.adapt([tf.constant(7 - 2 * x), tf.constant(style)])
    opposite = 2 * style[:, np.newaxis, np.newaxis, 3:] - found
    np.testing.assert_allclose(again, opposite, atol=1e-4)


@pytest.mark.statement("STYLE-5")
def test_noise_is_added_where_it_has_learned_a_factor(stylegan, g_model):
    z = tf.constant(normal(2, LATENT))
    one, other = noise_for(stylegan, 2), noise_for(stylegan, 2, seed=1)
    factors = factors_of(g_model)
    assert [factor.shape for factor in factors] == [
        (1, 1, 1, n) for n in (6, 6, 3, 3, 2, 2)
    ]
    assert np.array_equal(g_model([z, *one]), g_model([z, *other]))
    spectra = []
    for i in (2, 5):  # of 8x8, and of 16x16
        factors[i].assign(np.full(factors[i].shape, 0.3))
        changed = np.array(g_model([z, *one]) - g_model([z, *other]))[..., 0]
        assert np.abs(changed).max() > 1e-3
        factors[i].assign(np.zeros(factors[i].shape))
        power = np.abs(np.fft.fft2(changed - changed.mean(axis=(1, 2), keepdims=True)))
        frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(16)] * 2))
        spectra.append((power**2 * frequency).sum() / (power**2).sum())
    # noise of a size is detail of that size
    assert spectra[0] < spectra[1]


def test_the_blur_is_1_2_1(stylegan, g_model):
    blur = [
        layer
        for layer in g_model.layers
        if isinstance(layer, layers.ZeroPadding2D)
        or (isinstance(layer, layers.AveragePooling2D) and layer.strides == (1, 1))
    ]
    assert len(blur) == 2 * 3  # at 8x8 and 16x16
    x = np.zeros((1, 5, 5, 1), np.float32)
    x[0, 2, 2] = x[0, 0, 4] = 1
    for kind in (layers.ZeroPadding2D, layers.AveragePooling2D):
        for layer in [la for la in blur[:3] if isinstance(la, kind)]:
            x = type(layer).from_config(layer.get_config())(x)
    wanted = np.zeros((5, 5))
    wanted[1:4, 1:4] = np.outer([1, 2, 1], [1, 2, 1]) / 16
    wanted[:2, 3:] += np.outer([2, 1], [1, 2]) / 16
    np.testing.assert_allclose(x[0, ..., 0], wanted, atol=1e-7)
    # a bias before it would draw a frame: all are behind it, with the noise
    convolutions = [la for la in g_model.layers if isinstance(la, layers.Conv2D)]
    inner = [la for la in convolutions if la.kernel_size == (3, 3)]
    assert len(inner) == 5 and not any(layer.use_bias for layer in inner)
    assert sum(type(la) is layers.Conv2D and la.use_bias for la in convolutions) == 6


def test_the_parameters(stylegan):
    settings = stylegan.Settings()
    _, g_model, critics = stylegan.define_models(settings, (32, 32, 1), 10)
    sizes = {4: (64, 64), 8: (64, 64, 64), 16: (64, 32, 32), 32: (32, 16, 16)}
    convolutions = 64 * 64 * 9  # 4x4
    styled = [64, 64]
    for before, first, second in list(sizes.values())[1:]:
        convolutions += 9 * (before * first + first * second)
        styled += [first, second]
    wanted = {
        "mapping": 4 * (64 * 64 + 64),
        "constant": 16 * 64,
        "convolutions": convolutions,
        "styles": sum(2 * n * 65 for n in styled),
        "noise and bias": 2 * sum(styled),
        "images": 65 + 65 + 33 + 17,
        "fades, mean and psi": 3 + 64 + 1,
    }
    assert g_model.count_params() == sum(wanted.values())
    progan = load_script("progan")
    assert critics[-1].count_params() == progan.define_critics()[-1].count_params()


# ---------------------------------------------------------------- styles


def test_mixing_and_its_ends(stylegan):
    a, b = normal(3, LATENT), normal(3, LATENT, seed=1)
    styles = np.array(stylegan.mix(a, b, 2, 6))
    assert styles.shape == (3, 6, LATENT)
    for layer in range(6):
        assert np.array_equal(styles[:, layer], a if layer < 2 else b)
    for n_coarse, wanted in ((0, b), (6, a)):
        styles = np.array(stylegan.mix(a, b, n_coarse, 6))
        assert np.array_equal(styles, np.repeat(wanted[:, np.newaxis], 6, axis=1))


def test_nine_of_ten_batches_are_mixed(stylegan):
    rng = np.random.default_rng(0)
    found = [
        int(stylegan.choose_crossover(tf.constant(rng.random(2, np.float32)), 1))
        for _ in range(400)
    ]
    shares = np.bincount(found, minlength=5) / 400
    assert shares[0] == 0 and len(shares) == 5
    np.testing.assert_allclose(shares[1:], [0.3, 0.3, 0.3, 0.1], atol=0.07)


def test_truncation_and_its_ends(stylegan, models):
    average = models[0]
    sample = {
        psi: stylegan.define_sample(average, LATENT, psi)(
            4, np.random.default_rng(0), None
        )
        for psi in (0.0, 0.5, 1.0)
    }
    assert not np.array_equal(sample[0.5], sample[1.0])
    assert len(np.unique(sample[1.0], axis=0)) == 4
    # without noise all images of psi 0 are that of the mean
    assert len(np.unique(sample[0.0], axis=0)) == 1
    w, mean = normal(3, LATENT), normal(LATENT, seed=1)
    assert np.array_equal(stylegan.truncate(w, mean, 1.0), w)
    assert np.array_equal(stylegan.truncate(w, mean, 0.0), np.tile(mean, (3, 1)))
    np.testing.assert_allclose(
        stylegan.truncate(w, mean, 0.7), mean + 0.7 * (w - mean), atol=1e-6
    )
    # training does not see it
    average.get_layer("truncate").mean.assign(mean)
    average.get_layer("truncate").psi.assign(0.5)
    z = tf.constant(normal(2, LATENT))
    untouched = models[1]
    np.testing.assert_array_equal(
        stylegan.mapping_of(average)(z), stylegan.mapping_of(untouched)(z)
    )


def test_noise_can_be_left_out(stylegan, models):
    average = models[0]
    for factor in factors_of(average):
        factor.assign(np.full(factor.shape, 0.5))
    drawn = [
        stylegan.define_sample(average, LATENT, noisy=noisy)(
            3, np.random.default_rng(0), None
        )
        for noisy in (True, False)
    ]
    noise = [tf.zeros((3, *part.shape[1:])) for part in noise_for(stylegan, 1)]
    z = np.random.default_rng(0).standard_normal((3, LATENT), dtype=np.float32)
    images = average([tf.constant(z), *noise])
    wanted = load_script("common").to_bytes(np.array(images))
    assert np.array_equal(drawn[1], wanted) and not np.array_equal(drawn[0], wanted)


# ---------------------------------------------------------------- training


def test_the_losses(stylegan):
    answers = tf.constant([[0.0], [2.0], [-3.0]])
    sure = 1 / (1 + np.exp(-np.array(answers)))
    found = stylegan.logistic_loss(answers, real=True)
    assert float(found) == pytest.approx(-np.log(sure).mean(), rel=1e-5)
    found = stylegan.logistic_loss(answers, real=False)
    assert float(found) == pytest.approx(-np.log(1 - sure).mean(), rel=1e-5)
    # they stay finite where the critic is very sure
    huge = tf.constant([[1e4]])
    assert float(stylegan.logistic_loss(huge, real=False)) == pytest.approx(1e4)


@pytest.mark.parametrize("norm", [0.0, 0.5, 3.0])
def test_r1_of_a_linear_critic(stylegan, norm):
    in_image = keras.Input(shape=SHAPE)
    critic = keras.Model(in_image, layers.Dense(1)(layers.Flatten()(in_image)))
    kernel = normal(256, 1)
    critic.set_weights([norm * kernel / np.linalg.norm(kernel), np.float32([7])])
    X = tf.constant(normal(4, *SHAPE))
    with tf.GradientTape() as tape:
        penalty = stylegan.r1_penalty(critic, X, 10.0)
    assert float(penalty) == pytest.approx(10 / 2 * norm**2, rel=1e-5)
    kernel = critic.trainable_variables[0]
    np.testing.assert_allclose(
        tape.gradient(penalty, kernel), 10 * np.array(kernel), rtol=1e-4, atol=1e-6
    )


def test_the_penalty_reaches_every_layer(stylegan, models):
    critic = models[2][-1]
    stylegan.set_growth([critic], tf.constant(1.5))
    with tf.GradientTape() as tape:
        penalty = stylegan.r1_penalty(critic, tf.constant(normal(8, *SHAPE)), 10.0)
    kernels = [v for v in critic.trainable_variables if v.shape.rank > 1]
    for kernel, gradient in zip(kernels, tape.gradient(penalty, kernels), strict=True):
        cut = "from_image_0" in kernel.path  # its fade has ended
        assert cut == (not np.any(gradient)), kernel.path


def test_a_step_beside_its_formula(stylegan, models):
    """The figures of a step at full size, before any weight has moved."""
    _, g_model, critics = models
    dataset = [random_images(), None]
    draw = stylegan.define_draw(dataset, LATENT, N_BATCH, LAST)
    indices, z, chance, noise = batch = draw(Draws(1, 0, 4))
    assert z.shape == (2, 2, N_BATCH, LATENT) and chance.shape == (2, 2)
    assert noise.shape == (2, N_BATCH, 2 * (16 + 64 + 256))
    for factor in factors_of(g_model):
        factor.assign(np.full(factor.shape, 0.5))
    mapping, synthesis = stylegan.mapping_of(g_model), stylegan.synthesis_of(g_model, 2)
    crossover = stylegan.choose_crossover(chance[0], LAST)
    styles = stylegan.mix(mapping(z[0, 0]), mapping(z[0, 1]), crossover, 6)
    parts = np.split(noise[0], [16, 32, 96, 160, 416], axis=1)
    sizes = (4, 4, 8, 8, 16, 16)
    parts = [
        tf.reshape(part, (N_BATCH, size, size, 1))
        for part, size in zip(parts, sizes, strict=True)
    ]
    X_fake = synthesis([styles, *parts])
    X_real = tf.constant(np.float32(dataset[0][indices.numpy()] / 127.5 - 1))
    critic = critics[-1]
    wanted = (
        stylegan.logistic_loss(critic(X_real), real=True),
        stylegan.logistic_loss(critic(X_fake), real=False),
        stylegan.r1_penalty(critic, X_real, 7.0),
    )
    train_step = stylegan.define_train_step(
        *(*models, define_take(dataset[0]), LAST, [tf.Variable(-1)]),
        lambda step: tf.constant(2.0),
        gamma=7.0,
    )
    found = train_step(0, *batch)
    np.testing.assert_allclose(found[:3], wanted, rtol=1e-4, atol=1e-6)
    # g learned from other points, after the critic has moved
    assert float(found[3]) != pytest.approx(float(wanted[1]), rel=1e-3)


@pytest.mark.parametrize("level", [1, 2])
def test_all_parts_are_trained(stylegan, models, level):
    _, g_model, _ = models
    of_level = stylegan.grown(g_model, level).trainable_variables
    kernels = [v for v in of_level if "bias" not in v.name]
    skipped = {id(v) for v in g_model.get_layer("image_0").trainable_variables}
    before = values(kernels)
    make_steps(stylegan, models, level, n=2, growth=level - 0.5)
    for kernel, changed in zip(kernels, moved(before, kernels), strict=True):
        # the way to images of two sizes ago is cut
        assert changed == (level == 1 or id(kernel) not in skipped), kernel.path


def test_the_mean_of_w(stylegan, models):
    average, g_model, _ = models
    w_mean = average.get_layer("truncate").mean
    dataset = [random_images(), None]
    batch = stylegan.define_draw(dataset, LATENT, N_BATCH, LAST)(Draws(1, 0, 4))
    w = np.array(stylegan.mapping_of(g_model)(batch[1][0, 0]))
    start = np.float32([1, 2, 3])
    w_mean.assign(start)
    make_steps(stylegan, models, LAST)
    np.testing.assert_allclose(
        w_mean, 0.995 * start + 0.005 * w.mean(axis=0), rtol=1e-5
    )
    # it is kept with what is sampled, and no gradient moves it
    assert any(w_mean is v for v in average.non_trainable_variables)


def test_rates_as_the_authors_have_them(stylegan):
    optimizer = stylegan.define_optimizer()
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon) == (0, 0.99, 1e-8)
    assert (stylegan.Settings().penalty, stylegan.W_AVERAGE) == (10, 0.995)
    assert (stylegan.MIXED, stylegan.MAPPING_RATE) == (0.9, 0.01)


def test_the_average_of_the_weights(stylegan, models):
    """It forgets a half of what it was in 10,000 images."""
    average, g_model, _ = models
    assert not any(moved(values(average.variables), g_model.variables))
    before = values(average.trainable_variables)
    make_steps(stylegan, models, LAST)
    kept = 0.5 ** (N_BATCH / 10_000)
    for mean, start, weight in zip(
        average.trainable_variables, before, g_model.trainable_variables, strict=True
    ):
        wanted = kept * start + (1 - kept) * np.array(weight)
        np.testing.assert_allclose(mean, wanted, rtol=1e-6, atol=1e-7)
    assert any(moved(before, average.trainable_variables))


def test_a_new_size_starts_the_optimizers_anew(stylegan, models):
    _, g_model, critics = models
    for level, n in ((1, 1), (LAST, 2)):
        make_steps(stylegan, models, level, n, float(level))
        for optimizer in (g_model.optimizer, critics[-1].optimizer):
            assert int(optimizer.iterations) == n


def test_real_images_fade_too(stylegan, models, monkeypatch):
    """The critic's real images are as coarse as the generated ones."""
    seen = []

    def look(critic, X, gamma):
        seen.append(np.array(X))
        return tf.zeros(())

    monkeypatch.setattr(stylegan, "r1_penalty", look)
    dataset = [random_images(), None]
    batch = stylegan.define_draw(dataset, LATENT, N_BATCH, LAST)(Draws(1, 0, 4))
    X = dataset[0][batch[0].numpy()] / 127.5 - 1
    coarse = X.reshape(N_BATCH, 8, 2, 8, 2, 1).mean(axis=(2, 4))
    coarse = coarse.repeat(2, axis=1).repeat(2, axis=2)
    for growth, wanted in ((2.0, X), (1.25, 0.75 * coarse + 0.25 * X)):
        make_steps(stylegan, models, LAST, growth=growth)
        np.testing.assert_allclose(seen[-1], wanted, atol=1e-5)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_steps_in_mixed_precision(stylegan, precision):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        settings = stylegan.Settings(width=WIDTH, latent_dim=LATENT)
        models = stylegan.define_models(settings, SHAPE, 10)
        kind = stylegan.starting()
        (constant,) = (la.constant for la in models[1].layers if isinstance(la, kind))
        before = np.array(constant)
        figures = make_steps(stylegan, models, 1, n=2, growth=1)
        assert np.isfinite(figures).all()
        # neither rounding nor overflow stops the constant, which hardly varies
        assert int(models[1].optimizer.iterations) == 2
        if precision == "mixed_float16":
            assert int(models[1].optimizer.inner_optimizer.iterations) == 2
        assert np.any(np.array(constant) != before)
        images = stylegan.synthesis_of(models[1], 1)
        styles = tf.constant(normal(2, 6, LATENT))
        noise = noise_for(stylegan, 2)[:4]
        seen = np.array(images([styles, *noise]))
        constant.assign(constant + 1e-3 * normal(*constant.shape))
        assert np.abs(np.array(images([styles, *noise])) - seen).max() > 0.01
        # where small differences count
        exact = stylegan.in_float32(models[0], LATENT, WIDTH)
        assert exact.get_layer("styles").compute_dtype == "float32"
        assert not any(moved(values(exact.variables), models[0].variables))
        assert keras.config.dtype_policy().name == precision
    finally:
        keras.config.set_dtype_policy(policy)


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory):
    """Images of 8x8, which is the first size and the last."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(path, x_train=random_images(40, (8, 8)), y_train=np.arange(40) % 2)
    return path


def options_of(data, out, *more):
    options = ("--data", data, "--batch", 8, "--width", WIDTH, "--latent-dim", 4)
    options += ("--seed", 5, "--threads", 1, "--precision", "float32", "--verbose", 0)
    options += ("--measured", 20, "--evaluate-every", 99)
    return [str(option) for option in (*options, "--out", out, *more)]


@pytest.fixture(scope="module")
def finished(stylegan, tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    before = keras.config.dtype_policy()
    assert stylegan.main(options_of(tiny_data, out, "--steps", 4)) == 0
    keras.config.set_dtype_policy(before)
    return out


def opened(stylegan, folder):
    settings = stylegan.Settings(sample=str(folder))
    open_run = load_script("sampling").open_run
    return open_run("stylegan", settings, stylegan.define_models).models[0]


def test_training_starts_at_8x8(finished):
    growth = [float(row["growth"]) for row in read_csv(finished / "history.csv")]
    assert growth == [1, 1, 1, 1]


def test_the_penalty_is_weighed_as_told(stylegan, finished, tiny_data, tmp_path):
    out = tmp_path / "out"
    more = ("--steps", 4, "--max-steps", 1, "--penalty", 20)
    assert stylegan.main(options_of(tiny_data, out, *more)) == 0
    one, two = (
        float(read_csv(run / "history.csv")[0]["penalty"]) for run in (finished, out)
    )
    assert two == pytest.approx(2 * one, rel=1e-4) and one > 0


def test_a_saved_generator_is_plain_and_draws_the_same(stylegan, finished):
    model = keras.saving.load_model(finished / "g_model_0004.keras", safe_mode=True)
    average = opened(stylegan, finished)
    noise = stylegan.draw_noise(5, np.random.default_rng(0), (8, 8, 1))
    inputs = [tf.constant(x) for x in (normal(5, 4), *noise)]
    assert np.std(average(inputs)) > 0.01
    # after few steps the constant is nearly one, and its deviation nearly rounded away
    np.testing.assert_allclose(model(inputs), average(inputs), atol=0.1)
    for layer in model._flatten_layers():
        assert type(layer).__module__.startswith("keras.src.")
        assert type(layer) is not layers.Lambda


def test_a_plain_generator_with_noise_and_a_constant(stylegan, models):
    average = models[0]
    for variable in average.trainable_variables:
        variable.assign(variable + 0.1 * normal(*variable.shape))
    average.get_layer("truncate").mean.assign([5, 5, 5])
    plain = stylegan.define_plain(average)
    inputs = [tf.constant(normal(4, LATENT)), *noise_for(stylegan, 4)]
    np.testing.assert_allclose(plain(inputs), average(inputs), atol=2e-3)


def test_a_table_and_an_animation_are_drawn(stylegan, finished, tmp_path):
    options = ["--sample", finished, "--n", 4, "--seed", 1, "--mix", 7, 8, "--walk"]
    for name, psi in (("a", 1), ("b", 1), ("c", 0)):
        more = [*options, "--psi", psi, "--out", tmp_path / name]
        assert stylegan.main([str(option) for option in more]) == 0
    files = {path.name for path in (tmp_path / "a").iterdir()}
    assert files == {"samples.png", "samples.npz", "mix.png", "walk.gif"}
    with Image.open(tmp_path / "a" / "mix.png") as table:
        assert table.size == (2 * 9 * 8, 2 * 9 * 8)
    with Image.open(tmp_path / "a" / "walk.gif") as walk:
        assert walk.size == (4 * 4 * 8, 4 * 4 * 8) and walk.n_frames > 10
    for file in ("mix.png", "walk.gif", "samples.png"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b != c


def test_the_table_has_coarse_styles_by_row_and_fine_ones_by_column(stylegan, models):
    average, size = models[0], 16
    average.get_layer("truncate").mean.assign([1, 1, 1])
    settings = stylegan.Settings(sample="a run", mix=["7", "8"], psi=0.5)
    found = stylegan.draw_sheets(average, LATENT, np.random.default_rng(0), settings)
    images, in_a_row = found["mix.png"]
    assert set(found) == {"mix.png"} and images.shape == (81, size, size, 1)
    table = images.reshape(9, 9, size, size, 1)
    assert in_a_row == 9 and not table[0, 0].any()
    to_w, paint = stylegan.define_paint(average)
    w = [
        1 + 0.5 * (to_w(normal_of(seed).standard_normal((8, LATENT), np.float32)) - 1)
        for seed in (7, 8)
    ]
    noise = stylegan.draw_noise(1, np.random.default_rng(0), SHAPE)
    of_a, of_b = (
        paint(np.repeat(w[i][3:4, np.newaxis], 6, axis=1), noise)[0] for i in range(2)
    )
    assert np.array_equal(table[4, 0], of_a) and np.array_equal(table[0, 4], of_b)
    styles = np.repeat(w[1][3:4, np.newaxis], 6, axis=1)
    styles[:, :4] = w[0][5]
    assert np.array_equal(table[6, 4], paint(styles, noise)[0])


def normal_of(seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--psi", -1, "--sample", "run"), "--psi -1: must be from 0 to 2"),
        (("--psi", "nan", "--sample", "run"), "--psi nan: must be from 0 to 2"),
        (("--mix", 1, "--sample", "run"), "--mix 1: give two seeds"),
        (("--mix", 1, "b", "--sample", "run"), "--mix 1 b: give two seeds"),
        (("--mix", 1, 2**31, "--sample", "run"), "give two seeds"),
        (("--mix", 1, 2), "--mix: is for --sample RUN"),
        (("--psi", 0.5), "--psi: is for --sample RUN"),
        (("--walk",), "--walk: is for --sample RUN"),
    ],
)
def test_bad_options_are_refused(
    stylegan, options, problem, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert problem in fails(stylegan, capsys, *options)
    assert not list(tmp_path.iterdir())
