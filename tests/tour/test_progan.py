import json

import numpy as np
import pytest

from gankit.backend import keras, layers, tf
from gankit.training.batches import Draws, define_take
from parts import fails, final_state, moved, read_csv, values
from tour_scripts import load_script

SHAPE = (16, 16, 1)
N_BATCH, LATENT, WIDTH = 8, 3, 0.1


@pytest.fixture(scope="module")
def progan():
    return load_script("progan")


@pytest.fixture
def models(progan):
    """The average, the generator and the critics of 4, 8 and 16 pixels."""
    keras.utils.set_random_seed(1)
    settings = progan.Settings(width=WIDTH, latent_dim=LATENT)
    return progan.define_models(settings, SHAPE, 10)


def random_images(n=20, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def halved(images):
    n, height, width, channels = images.shape
    parts = images.reshape(n, height // 2, 2, width // 2, 2, channels)
    return parts.mean(axis=(2, 4))


def enlarged(images):
    return np.asarray(images).repeat(2, axis=1).repeat(2, axis=2)


def make_steps(progan, models, level, growth, n=1):
    """Make n training steps of a level at a growth that stays; return the figures."""
    dataset, grown_to = [random_images(), None], [tf.Variable(-1)]
    draw = progan.define_draw(dataset, LATENT, N_BATCH)
    train_step = progan.define_train_step(
        *(*models, define_take(dataset[0]), level, grown_to),
        lambda step: tf.constant(growth),
    )
    return [train_step(step, *draw(Draws(1, step, 4))) for step in range(n)]


# ---------------------------------------------------------------- sizes and growth


@pytest.mark.statement("PRO-1")
def test_the_networks_get_deeper(progan, models):
    _, g_model, critics = models
    generators = [progan.grown(g_model, level) for level in range(3)]
    for networks in (generators, critics):
        depths = [
            sum(weight.shape.rank == 4 for weight in network.trainable_variables)
            for network in networks
        ]
        assert depths[0] < depths[1] < depths[2]
    # nothing is new made for a size: the layers are there and wait
    ids = [{id(v) for v in network.variables} for network in generators]
    assert ids[0] < ids[1] < ids[2] <= {id(v) for v in g_model.variables}


@pytest.mark.statement("PRO-2")
def test_generator_and_critic_mirror_each_other(progan):
    settings = progan.Settings()
    _, g_model, critics = progan.define_models(settings, (32, 32, 1), 10)
    for level, size in enumerate((4, 8, 16, 32)):
        generator = progan.grown(g_model, level)
        assert generator.output_shape == critics[level].input_shape
        assert generator.output_shape == (None, size, size, 1)
        maps = [
            sorted(
                tuple(sorted(weight.shape[2:]))
                for weight in network.trainable_variables
                if weight.shape[:2] == (3, 3)
            )
            for network in (generator, critics[level])
        ]
        # the 4x4 convolutions: the critic has a map of deviations
        maps[0].remove((64, 64))
        maps[1].remove((64, 65))
        assert maps[0] == maps[1]
    # with the small sizes' ways from and to images, and three alphas
    assert g_model.count_params() == 212_017 + 65 + 65 + 33 + 3
    assert critics[-1].count_params() == 211_761 + 128 + 128 + 64 + 3


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((32, 32, 1), [4, 8, 16, 32]),
        ((128, 128, 3), [4, 8, 16, 32, 64, 128]),
        ((24, 24, 3), [3, 6, 12, 24]),
        ((40, 40, 1), [5, 10, 20, 40]),
        ((8, 8, 1), [4, 8]),
        ((12, 28, 1), [3, 6, 12]),
        ((48, 72, 1), [6, 12, 24, 48]),
    ],
)
def test_sizes_are_doubled(progan, shape, sizes):
    found = progan.list_sizes(shape)
    assert [height for height, _ in found] == sizes
    assert all(width * shape[0] == height * shape[1] for height, width in found)


@pytest.mark.statement("PRO-3")
@pytest.mark.parametrize("side", [8, 20, 28, 32, 36, 44, 100])
def test_training_starts_with_small_images(progan, side, tmp_path):
    data = tmp_path / "data.npz"
    np.savez(
        data,
        x_train=random_images(8, (side, side)),
        y_train=np.zeros(8, int),
    )
    loaded = progan.load_padded(progan.Settings(data=str(data), batch=8))
    height, width, _ = loaded.image_shape
    assert side <= height == width < 1.35 * side
    assert 3 <= progan.list_sizes(loaded.image_shape)[0][0] <= 6


def test_maps_are_counted_from_the_largest_size(progan):
    assert progan.count_maps(4) == [64, 64, 32, 16]
    assert progan.count_maps(6, 0.5) == [32, 32, 32, 32, 16, 8]
    assert progan.count_maps(2) == [32, 16]


def test_the_schedule(progan):
    """A part for the smallest size, two for each other, one more for the largest."""
    n_sizes, n_steps = 4, 80
    starts = progan.list_starts(n_steps, n_sizes)
    assert starts == [0, 10, 30, 50]
    found = [
        float(progan.growth_at(tf.constant(step / n_steps, tf.float32), n_sizes))
        for step in range(n_steps)
    ]
    for level, start in enumerate(starts[1:], 1):
        assert found[start] == pytest.approx(level - 1, abs=1e-5)
        assert level - 1 < found[start + 1] < found[start + 9] < level
        assert found[start + 10] == pytest.approx(level, abs=1e-5)
    assert set(found[:10]) == {0} and set(found[61:]) == {3}


@pytest.mark.parametrize("n_steps", [1, 2, 3, 7, 1001, 9_999_999])
def test_a_level_starts_where_it_begins_to_fade_in(progan, n_steps):
    for n_sizes in (2, 4, 6):
        starts = progan.list_starts(n_steps, n_sizes)
        assert starts == sorted(starts) and starts[-1] <= n_steps
        for level, start in enumerate(starts[1:], 1):
            begin = n_steps * (2 * level - 1) / (2 * n_sizes)
            assert start - 1 < begin <= start


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("n_inputs", [5, 500])
@pytest.mark.parametrize("gain", [1.0, 2**0.5])
def test_he_s_constant(progan, n_inputs, gain):
    keras.utils.set_random_seed(n_inputs)
    dense = progan.equalized(layers.Dense)(4000, gain=gain)
    assert np.std(dense(normal(40, n_inputs))) == pytest.approx(gain, rel=0.05)
    weights = dense.trainable_variables[0].numpy()
    assert weights.std() == pytest.approx(1, rel=0.05)
    conv = progan.equalized(layers.Conv2D)(400, 3, gain=gain)
    outputs = conv(normal(10, 12, 12, n_inputs // 5))
    assert np.std(outputs) == pytest.approx(gain, rel=0.05)


def test_a_step_of_adam_changes_all_outputs_alike(progan):
    changes = []
    for n_inputs in (4, 64, 1024):
        dense = progan.equalized(layers.Dense)(1)
        x = tf.ones((1, n_inputs))
        before = dense(x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(dense(x))
        weights = dense.trainable_variables[:1]
        optimizer = progan.define_optimizer()
        optimizer.apply(tape.gradient(loss, weights), weights)
        # of n_inputs weights that all move one way
        changes.append(abs(float(dense(x)[0, 0] - before[0, 0])) / n_inputs**0.5)
    np.testing.assert_allclose(changes, 1e-3 * 2**0.5, rtol=0.02)


def test_pixel_norm(progan):
    x = progan.pixel_norm(5 * normal(2, 4, 4, 7)).numpy()
    np.testing.assert_allclose((x**2).mean(axis=-1), 1, rtol=1e-5)
    assert not np.any(progan.pixel_norm(np.zeros((1, 2, 2, 3), np.float32)))


def test_the_deviation_of_a_group(progan):
    x = normal(8, 3, 5, 2)
    found = progan.minibatch_stddev(tf.constant(x)).numpy()
    np.testing.assert_array_equal(found[..., :2], x)
    for first in (0, 1):  # every second image is of the same group
        group = slice(first, None, 2)
        wanted = x[group].std(axis=0).mean()
        np.testing.assert_allclose(found[group, ..., 2], wanted, rtol=1e-5)
    equal = np.repeat(normal(1, 3, 5, 2), 4, axis=0)
    # the root of 1e-8, which keeps its slope finite
    np.testing.assert_allclose(progan.minibatch_stddev(equal)[..., 2], 1e-4, rtol=0.01)


def test_a_fade_has_both_ends_exactly(progan):
    before, after = uniform(2, 5, seed=1), uniform(2, 5, seed=2)
    blend = progan.fading()(1)
    assert np.array_equal(blend([before, after]), before)
    blend.alpha.assign(1)
    assert np.array_equal(blend([before, after]), after)
    blend.alpha.assign(0.25)
    np.testing.assert_allclose(
        blend([before, after]), 0.75 * before + 0.25 * after, rtol=1e-6
    )
    assert not blend.trainable_variables


def test_the_growth_sets_each_fade(progan, models):
    for growth, wanted in (
        (0, [0, 0]),
        (0.3, [0.3, 0]),
        (1, [1, 0]),
        (1.75, [1, 0.75]),
    ):
        progan.set_growth(models[:2] + (models[2][-1],), tf.constant(float(growth)))
        for model in (*models[:2], *models[2]):
            fades = [la for la in model.layers if isinstance(la, progan.fading())]
            found = {layer.level: float(layer.alpha) for layer in fades}
            assert found == pytest.approx(
                {level: wanted[level - 1] for level in found}, abs=1e-6
            )


# ---------------------------------------------------------------- fading


@pytest.mark.statement("PRO-4")
@pytest.mark.parametrize("level", [1, 2])
def test_at_first_a_new_size_changes_nothing(progan, models, level):
    _, g_model, critics = models
    progan.set_growth([g_model, critics[-1]], tf.constant(level - 1.0))
    z, size = normal(4, LATENT), 4 << level
    small, large = (progan.grown(g_model, i)(z) for i in (level - 1, level))
    np.testing.assert_array_equal(large, enlarged(small))
    # nor are there others where the full-grown one is sampled
    full = g_model(z)
    np.testing.assert_array_equal(
        full, np.kron(large, np.ones((1, 16 // size, 16 // size, 1)))
    )
    X = uniform(4, size, size, 1)
    np.testing.assert_allclose(
        critics[level](X), critics[level - 1](halved(X)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("level", [1, 2])
def test_in_the_end_the_old_way_to_and_from_images_is_cut(progan, models, level):
    _, g_model, critics = models
    progan.set_growth([g_model, critics[-1]], tf.constant(float(level)))
    generator, critic = progan.grown(g_model, level), critics[level]
    z = normal(4, LATENT)
    with tf.GradientTape() as tape:
        answer = tf.reduce_mean(critic(generator(z)))
    weights = [
        *generator.get_layer("image_0").trainable_variables,
        *critic.get_layer(f"from_image_{level - 1}").trainable_variables,
    ]
    assert all(not np.any(g) for g in tape.gradient(answer, weights))
    for weight in weights:
        weight.assign(weight + 1)
    assert np.array_equal(tf.reduce_mean(critic(generator(z))), answer)


def test_half_way_both_are_mixed(progan, models):
    _, g_model, critics = models
    z = normal(4, LATENT)
    made = {}
    for growth in (1.0, 1.25, 2.0):
        progan.set_growth([g_model], tf.constant(growth))
        made[growth] = np.array(progan.grown(g_model, 2)(z))
    wanted = 0.75 * made[1.0] + 0.25 * made[2.0]
    np.testing.assert_allclose(made[1.25], wanted, atol=1e-6)


def test_real_images_fade_too(progan, models, monkeypatch):
    """The critic's real images are as coarse as the generated ones."""
    seen = []
    penalty = progan.gradient_penalty

    def look(critic, X_real, X_fake, alpha):
        seen.append(np.array(X_real))
        return penalty(critic, X_real, X_fake, alpha)

    monkeypatch.setattr(progan, "gradient_penalty", look)
    dataset = [random_images(), None]
    batch = progan.define_draw(dataset, LATENT, N_BATCH)(Draws(1, 0, 4))
    X = dataset[0][batch[0].numpy()] / 127.5 - 1
    for level, growth, wanted in (
        (2, 2.0, X),
        (2, 1.25, 0.75 * enlarged(halved(X)) + 0.25 * X),
        (1, 1.0, halved(X)),
        (0, 0.0, halved(halved(X))),
    ):
        train_step = progan.define_train_step(
            *(*models, define_take(dataset[0]), level, [tf.Variable(level)]),
            lambda step, g=growth: g,
        )
        train_step(0, *batch)
        np.testing.assert_allclose(seen[-1], wanted, atol=1e-5)


# ---------------------------------------------------------------- training


@pytest.mark.statement("PRO-5")
@pytest.mark.parametrize("level", [0, 1, 2])
def test_old_layers_are_trained_with_the_new(progan, models, level):
    average, g_model, critics = models
    growth = max(0.0, level - 0.5)
    of_level = [
        progan.grown(g_model, level).trainable_variables,
        critics[level].trainable_variables,
        progan.grown(average, level).trainable_variables,
    ]
    names = {id(v) for variables in of_level for v in variables}
    others = [
        v
        for model in (average, g_model, critics[-1])
        for v in model.trainable_variables
        if id(v) not in names
    ]
    before, of_others = [values(v) for v in of_level], values(others)
    make_steps(progan, models, level, growth, n=2)
    skipped = {  # two sizes ago; their way to images is cut
        id(v)
        for model in (average, g_model)
        for v in model.get_layer("image_0").trainable_variables
        if level == 2
    } | {
        id(v)
        for v in critics[-1].get_layer("from_image_0").trainable_variables
        if level == 2
    }
    for start, variables in zip(before, of_level, strict=True):
        for variable, changed in zip(variables, moved(start, variables), strict=True):
            assert changed or id(variable) in skipped, variable.path
            assert not (changed and id(variable) in skipped), variable.path
    assert not any(moved(of_others, others))


def test_a_new_size_starts_the_optimizers_anew(progan, models):
    _, g_model, critics = models
    optimizers = [g_model.optimizer, critics[-1].optimizer]
    for level, n in ((0, 1), (1, 2)):
        make_steps(progan, models, level, float(level), n)
        for optimizer in optimizers:
            assert int(optimizer.iterations) == n
            assert float(optimizer.learning_rate) == pytest.approx(1e-3)
    make_steps(progan, models, 2, 1.5)
    for optimizer in optimizers:
        # what is remembered is of one step alone: its gradient, as beta_1 is 0, and
        # 1 - beta_2 = 0.01 of its square
        moments = zip(optimizer._momentums, optimizer._velocities, strict=True)
        for m, v in moments:
            np.testing.assert_allclose(
                v, 0.01 * np.array(m) ** 2, rtol=1e-3, atol=1e-20
            )


def test_adam_as_the_authors_have_it(progan, models):
    optimizer = models[1].optimizer
    assert type(optimizer) is keras.optimizers.Adam
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon) == (0, 0.99, 1e-8)
    assert (progan.PENALTY, progan.DRIFT, progan.AVERAGE) == (10, 0.001, 0.999)


def test_the_average_of_the_weights(progan, models):
    average, g_model, _ = models
    assert not any(moved(values(average.variables), g_model.variables))
    before = values(average.trainable_variables)
    make_steps(progan, models, 2, 2.0)
    for mean, start, weight in zip(
        average.trainable_variables, before, g_model.trainable_variables, strict=True
    ):
        wanted = 0.999 * start + 0.001 * np.array(weight)
        np.testing.assert_allclose(mean, wanted, rtol=1e-6, atol=1e-7)


def test_a_step_beside_its_formula(progan, models):
    """The figures of a step at full size, before any weight has moved."""
    _, g_model, critics = models
    dataset = [random_images(), None]
    batch = progan.define_draw(dataset, LATENT, N_BATCH)(Draws(1, 0, 4))
    progan.set_growth([g_model, critics[-1]], tf.constant(2.0))
    X_real = np.float32(dataset[0][batch[0].numpy()] / 127.5 - 1)
    X_fake = g_model(batch[1])
    real, fake = (np.mean(critics[-1](X)) for X in (X_real, X_fake))
    penalty = progan.gradient_penalty(critics[-1], X_real, X_fake, batch[3])
    train_step = progan.define_train_step(
        *(*models, define_take(dataset[0]), 2, [tf.Variable(-1)]),
        lambda step: tf.constant(2.0),
    )
    found = [float(figure) for figure in train_step(0, *batch)]
    np.testing.assert_allclose(
        [*found[:3], found[4]], [-real, fake, penalty, 2], rtol=1e-4, atol=1e-6
    )
    # g's loss is of the critic that has moved, and of a generator that has not
    assert found[3] != pytest.approx(-np.mean(critics[-1](X_fake)), abs=1e-9)


def test_the_drift_pulls_answers_to_real_images_back(progan, models):
    """The last bias, on which no difference of answers and no slope depends."""
    *_, critics = models
    bias = critics[-1].trainable_variables[-1]
    for start in (50.0, -50.0):
        bias.assign([start])
        make_steps(progan, models, 0, 0.0, n=2)
        assert abs(float(bias[0])) < abs(start) - 1.5e-3


def test_the_penalty_reaches_every_layer(progan, models):
    """Not so through an UpSampling2D that interpolates, whose curvature is None."""
    *_, critics = models
    critic = critics[-1]
    progan.set_growth([critic], tf.constant(1.5))
    X_real, X_fake = uniform(8, *SHAPE), uniform(8, *SHAPE, seed=1)
    with tf.GradientTape() as tape:
        alpha = tf.fill((8, 1, 1, 1), 0.3)
        penalty = progan.gradient_penalty(critic, X_real, X_fake, alpha)
    kernels = [v for v in critic.trainable_variables if v.shape.rank > 1]
    gradients = tape.gradient(penalty, kernels)
    for kernel, gradient in zip(kernels, gradients, strict=True):
        cut = "from_image_0" in kernel.path  # its fade has ended
        assert cut == (not np.any(gradient)), kernel.path


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_steps_in_mixed_precision(progan, precision):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        settings = progan.Settings(width=WIDTH, latent_dim=LATENT)
        models = progan.define_models(settings, SHAPE, 10)
        assert models[0](normal(2, LATENT)).dtype == tf.float32
        for level, growth in ((0, 0.0), (2, 1.5)):
            figures = make_steps(progan, models, level, growth, n=2)
            assert np.isfinite(figures).all()
    finally:
        keras.config.set_dtype_policy(policy)


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory):
    """Images that have two sizes, 4x4 and 8x8."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(path, x_train=random_images(40, (8, 8)), y_train=np.arange(40) % 2)
    return path


def options_of(data, out, *more):
    options = ("--data", data, "--batch", 8, "--width", WIDTH, "--latent-dim", 4)
    options += ("--seed", 5, "--threads", 1, "--precision", "float32", "--verbose", 0)
    options += ("--measured", 20, "--evaluate-every", 99)
    return [str(option) for option in (*options, "--out", out, *more)]


def growth_of(out):
    return [float(row["growth"]) for row in read_csv(out / "history.csv")]


@pytest.fixture(scope="module")
def finished(progan, tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    before = keras.config.dtype_policy()
    assert progan.main(options_of(tiny_data, out, "--steps", 8)) == 0
    keras.config.set_dtype_policy(before)
    return out


def test_a_run_that_is_resumed_inside_a_fade_has_equal_bits(
    progan, finished, tiny_data, tmp_path
):
    assert growth_of(finished) == [0, 0, 0, 0.5, 1, 1, 1, 1]
    cut = tmp_path / "cut"
    options = options_of(tiny_data, cut, "--steps", 8, "--max-steps", 3)
    assert progan.main(options) == 0
    assert not (cut / "figures.json").exists()
    assert progan.main(["--resume", str(cut), "--verbose", "0"]) == 0
    assert growth_of(cut) == growth_of(finished)
    state, wanted = final_state(cut), final_state(finished)
    # the sheet of where it was stopped is one more
    assert {name: state[name] for name in wanted} == wanted


def test_the_growth_of_a_run_is_not_stretched(progan, finished, capsys):
    line = fails(progan, capsys, "--resume", finished, "--steps", 9)
    assert "was started with steps 8, not 9" in line


def test_a_saved_generator_is_plain_and_draws_the_same(progan, finished):
    model = keras.saving.load_model(finished / "g_model_0008.keras", safe_mode=True)
    settings = progan.Settings(sample=str(finished))
    opened = load_script("sampling").open_run("progan", settings, progan.define_models)
    (average,) = opened.models
    z = normal(5, 4)
    assert np.std(average(z)) > 0.01
    # the pixels' norms have no epsilon there
    np.testing.assert_allclose(model(z), average(z), atol=1e-3)
    for layer in model._flatten_layers():
        assert type(layer).__module__.startswith("keras.src.")
        assert type(layer) is not layers.Lambda


def test_without_growth_all_layers_are_there_from_the_start(
    progan, tiny_data, tmp_path
):
    out = tmp_path / "out"
    options = options_of(tiny_data, out, "--no-growth", "--steps", 2)
    assert progan.main([*options, "--format", "h5"]) == 0
    assert growth_of(out) == [1, 1]
    assert json.loads((out / "settings.json").read_text())["options"]["no_growth"]
    assert keras.saving.load_model(out / "g_model_0002.h5").count_params() > 0


def test_minutes_are_shared_out_over_all_sizes(
    progan, tiny_data, tmp_path, monkeypatch, capsys
):
    """What is timed passes all sizes in the parts of a long run."""
    timed = []

    def fit(minutes, steps, *others):
        growth = steps(7, 20).numpy()[:, progan.HISTORY.index("growth")]
        timed.extend(growth.tolist())
        return 4

    monkeypatch.setattr(load_script("common"), "fit_to_minutes", fit)
    out = tmp_path / "out"
    assert progan.main(options_of(tiny_data, out, "--minutes", 0.5)) == 0
    wanted = [*[0.0] * 5, 0, 0.2, 0.4, 0.6, 0.8, *[1.0] * 10]
    assert timed == pytest.approx(wanted, abs=1e-6)
    assert "4 steps fit in 0.5 minutes" in capsys.readouterr().out
    assert growth_of(out) == [0, 0, 1, 1]


@pytest.mark.parametrize("batch", [2, 6, 30])
def test_a_batch_has_whole_groups(progan, capsys, tmp_path, monkeypatch, batch):
    monkeypatch.chdir(tmp_path)
    line = fails(progan, capsys, "--batch", batch)
    assert f"--batch {batch}: must be a multiple of 4" in line
    assert not list(tmp_path.iterdir())
