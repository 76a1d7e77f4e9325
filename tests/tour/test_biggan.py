import json

import biggan
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from gankit.training.batches import Draws
from parts import fails, moved, values

SHAPE = (8, 8, 1)
SPECTRAL = ("SpectralConv2D", "SpectralDense", "SpectralEmbedding")


def tiny_models(n_classes=3, seed=0, latent_dim=8, width=0.1, **options):
    """average, g_model and d_model; average's weights are others than g_model's."""
    keras.utils.set_random_seed(seed)
    settings = biggan.Settings(width=width, latent_dim=latent_dim, **options)
    return biggan.define_models(settings, SHAPE, n_classes)


def spectral_layer(name, seed=1):
    """A built layer of each kind, and a batch that it takes."""
    keras.utils.set_random_seed(seed)
    convolution, dense, embed = biggan.spectral_layers()
    layer, shape = {
        "SpectralConv2D": (convolution(6, 3, padding="same"), (2, 5, 5, 4)),
        "SpectralDense": (dense(7), (2, 5)),
        "SpectralEmbedding": (embed(4), (2, 9)),
    }[name]
    assert type(layer).__name__ == name
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer(x)
    return layer, x


def matrix_of(layer):
    kernel = np.float64(layer.raw_kernel)
    return kernel.reshape(-1, kernel.shape[-1])


def spectral_layers_of(model):
    return [layer for layer in model.layers if type(layer).__name__ in SPECTRAL]


def draw_batch(n=6, seed=3, latent_dim=8):
    y = np.arange(30) % 3
    X = np.random.default_rng(0).integers(0, 256, (30, *SHAPE), np.uint8)
    draw = biggan.define_draw([X, y], latent_dim, n, 3)
    return draw(Draws(seed, tf.constant(0), 3))


def points(n, latent_dim=8, seed=0):
    rng = np.random.default_rng(seed)
    z = tf.constant(rng.normal(size=(n, latent_dim)), tf.float32)
    return z, tf.one_hot(np.arange(n) % 3, 3)


# ---------------------------------------------------------------- spectral layers


@pytest.mark.parametrize("name", SPECTRAL)
def test_sigma_is_the_largest_singular_value(name):
    layer, _ = spectral_layer(name)
    largest = np.linalg.svd(matrix_of(layer), compute_uv=False)[0]
    estimates = [float(layer.sigma())]
    for _ in range(50):
        layer.iterate()
        estimates.append(float(layer.sigma()))
        assert np.linalg.norm(layer.u) == pytest.approx(1, abs=1e-5)
    assert estimates[-1] == pytest.approx(largest, rel=1e-4)
    # it comes nearer from below
    assert estimates[0] < estimates[1] <= estimates[5] + 1e-6 < largest + 1e-5


@pytest.mark.parametrize("name", SPECTRAL)
def test_one_iteration_is_one_step_of_the_power_method(name):
    layer, _ = spectral_layer(name)
    matrix, u = matrix_of(layer), np.float64(layer.u)
    v = matrix @ u / np.linalg.norm(matrix @ u)
    u = matrix.T @ v / np.linalg.norm(matrix.T @ v)
    layer.iterate()
    np.testing.assert_allclose(layer.u, u, rtol=1e-4, atol=1e-6)
    v = matrix @ u / np.linalg.norm(matrix @ u)
    assert float(layer.sigma()) == pytest.approx(v @ matrix @ u, rel=1e-5)


@pytest.mark.parametrize("name", SPECTRAL)
def test_the_kernel_is_divided_by_sigma(name):
    layer, x = spectral_layer(name)
    plain = type(layer).__mro__[2 if name != "SpectralEmbedding" else 3]
    plain = plain.from_config({**layer.get_config(), "name": "plain"})
    plain.build(x.shape)
    kernel = np.array(layer.raw_kernel) / float(layer.sigma())
    bias = [np.ones(kernel.shape[-1], np.float32)] if layer.use_bias else []
    plain.set_weights([kernel, *bias])
    if bias:
        layer.bias.assign(bias[0])
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SPECTRAL)
def test_the_gradient_flows_through_sigma(name):
    layer, x = spectral_layer(name)
    target = np.random.default_rng(1).normal(size=layer(x).shape)

    def loss():
        return tf.reduce_sum(layer(x) * np.float32(target))

    with tf.GradientTape() as tape:
        value = loss()
    gradient = np.float64(tape.gradient(value, layer.raw_kernel.value))
    kernel = np.float64(layer.raw_kernel)
    # a longer kernel is the same once divided: there is no slope along the kernel
    size = np.linalg.norm(gradient) * np.linalg.norm(kernel)
    assert size > 1 and abs(np.sum(gradient * kernel)) < 1e-5 * size
    # and where it is steepest the slope is that of differences
    way, ends = gradient / np.linalg.norm(gradient), []
    for h in (1e-2, -1e-2):
        layer.raw_kernel.assign(kernel + h * way)
        ends.append(float(loss()))
    slope = (ends[0] - ends[1]) / 2e-2
    assert slope == pytest.approx(np.linalg.norm(gradient), rel=1e-2)


@pytest.mark.parametrize("which", [1, 2])
def test_a_forward_pass_moves_no_kernel_and_no_u(which):
    """As that of keras.layers.SpectralNormalization does, in training."""
    model = tiny_models()[which]
    z, y = points(6)
    X = tf.random.stateless_normal((6, *SHAPE), (0, 0))
    still = [v for v in model.variables if not v.name.startswith("moving_")]
    before = values(still)
    for _ in range(2):
        model([z if which == 1 else X, y], training=True)
    assert len(before) > 20 and not any(moved(before, still))


def test_u_moves_in_its_own_networks_updates_alone():
    models = tiny_models()
    rng = np.random.default_rng(0)
    for model in models[1:]:
        model.optimizer.learning_rate = 0.0  # kernels stay
        for layer in spectral_layers_of(model):
            # the singular values of those at the start are equal: u would stay, too
            layer.raw_kernel.assign(rng.normal(size=layer.raw_kernel.shape))
    expected = []
    for model, times in ((models[1], 1), (models[2], biggan.N_UPDATES)):
        for layer in spectral_layers_of(model):
            matrix, u = matrix_of(layer), np.float64(layer.u)
            for _ in range(times):
                u = matrix.T @ matrix @ u
                u /= np.linalg.norm(u)
            expected.append((layer.u, u))
    biggan.define_train_step(*models)(0, *draw_batch())
    assert len(expected) > 30
    for found, u in expected:
        np.testing.assert_allclose(found, u, rtol=1e-3, atol=1e-5)


def test_in_bfloat16_the_kernel_is_divided_in_float32(precision):
    precision("mixed_bfloat16")
    layer, x = spectral_layer("SpectralDense")
    assert layer.sigma().dtype == tf.float32 and layer(x).dtype == tf.bfloat16
    largest = np.linalg.svd(matrix_of(layer), compute_uv=False)[0]
    for _ in range(50):
        layer.iterate()
    assert float(layer.sigma()) == pytest.approx(largest, rel=1e-4)
    _, g_model, d_model = tiny_models()
    z, y = points(3)
    images = g_model([z, y], training=True)
    assert images.dtype == d_model([images, y]).dtype == tf.float32


# ---------------------------------------------------------------- networks


@pytest.mark.statement("BIG-1")
def test_scaling_up_changes_sizes_alone(mnist):
    found = [
        [
            (type(layer).__name__, layer.get_config().get("kernel_size"))
            for model in biggan.define_models(
                biggan.Settings(width=width), (32, 32, 1), 10
            )
            for layer in model.layers
        ]
        for width in (0.25, 0.5)
    ]
    assert found[0] == found[1]
    sizes = [
        [len(part) for part in biggan.define_draw(mnist[0], 4, n, 10)(Draws(1, 0, 3))]
        for n in (4, 8)
    ]
    assert np.divide(*sizes).tolist() == [0.5] * 4


@pytest.mark.statement("BIG-2")
def test_twice_the_width_is_nearly_four_times_the_parameters():
    counts = []
    for width in (1.0, 2.0):
        g_model = biggan.define_generator(width=width)
        d_model = biggan.define_discriminator(width=width)
        counts.append(
            [
                sum(np.prod(v.shape) for v in model.trainable_variables)
                for model in (g_model, d_model)
            ]
        )
    assert counts[0] == [165_569, 149_041]
    assert all(2 < more / few <= 4 for few, more in zip(*counts, strict=True))


@pytest.mark.statement("BIG-3")
def test_the_generator_is_made_of_the_practices_that_it_names():
    _, g_model, d_model = tiny_models(g_rate=3e-5)
    kinds = [[type(layer).__name__ for layer in m.layers] for m in (g_model, d_model)]
    g_kinds, d_kinds = kinds
    # three residual blocks of three convolutions, and the last one
    assert g_kinds.count("SpectralConv2D") == 10 and "Conv2D" not in g_kinds
    # the first layer, and gain and offset of two norms a block; the class's embedding
    assert g_kinds.count("SpectralDense") == 13 and g_kinds.count("Dense") == 1
    assert g_kinds.count("BatchNormalization") == 7
    # four residual blocks, three with a shortcut that changes the maps
    assert d_kinds.count("SpectralConv2D") == 11 and "Conv2D" not in d_kinds
    assert "BatchNormalization" not in d_kinds
    assert d_kinds.count("SpectralEmbedding") == 1
    for model, rate in ((g_model, 3e-5), (d_model, 2e-4)):
        optimizer = model.optimizer
        assert float(optimizer.learning_rate) == pytest.approx(rate)
        assert (optimizer.beta_1, optimizer.beta_2) == (0, 0.999)
        for layer in spectral_layers_of(model):
            matrix = matrix_of(layer)
            gram = matrix @ matrix.T if np.less(*matrix.shape) else matrix.T @ matrix
            np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


def test_the_rate_of_a_run_stays_what_it_was(tmp_path):
    """An older run had the paper's, and its settings don't say so."""
    assert biggan.Settings().g_rate == 2e-4
    options = biggan.Settings().options
    del options["g_rate"]
    (tmp_path / "settings.json").write_text(json.dumps({"options": options}))
    assert biggan.Settings.resumed(tmp_path).g_rate == 5e-5


def test_gain_and_offset_follow_from_the_condition():
    keras.utils.set_random_seed(0)
    _, dense, _ = biggan.spectral_layers()
    in_maps, in_condition = keras.Input((4, 4, 3)), keras.Input((2,))
    model = keras.Model(
        [in_maps, in_condition],
        biggan.define_class_norm(in_maps, in_condition, dense, "norm"),
    )
    rng = np.random.default_rng(0)
    maps = rng.normal(3, 2, (5, 4, 4, 3)).astype(np.float32)
    condition = rng.normal(size=(5, 2)).astype(np.float32)
    standard = (maps - maps.mean((0, 1, 2))) / maps.std((0, 1, 2))
    gain, offset = (layer(condition) for layer in spectral_layers_of(model))
    expected = standard * (1 + gain[:, None, None]) + offset[:, None, None]
    found = model([maps, condition], training=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    # without a condition, a gain of 1
    found = model([maps, 0 * condition], training=True)
    np.testing.assert_allclose(found, standard, rtol=1e-3, atol=1e-4)


def test_all_norms_share_one_embedding_and_have_parts_of_z():
    _, g_model, _ = tiny_models()
    (embedding,) = (
        layer for layer in g_model.layers if type(layer) is keras.layers.Dense
    )
    norms = [
        layer.input
        for layer in spectral_layers_of(g_model)
        if layer.input.shape[1] != 2
    ]
    norms = [tensor for tensor in norms if len(tensor.shape) == 2]
    assert len(norms) == 12 and embedding.units + 2 == norms[0].shape[1]
    conditions = keras.Model(g_model.inputs, [norms[0], norms[4], norms[8]])
    z, y = points(3)
    found = conditions([z, y])
    for condition, part in zip(found, (z[:, 2:4], z[:, 4:6], z[:, 6:]), strict=True):
        np.testing.assert_array_equal(condition[:, : embedding.units], embedding(y))
        np.testing.assert_array_equal(condition[:, embedding.units :], part)
    # the first quarter is the picture's start
    for place in range(8):
        z_other = np.array(z)
        z_other[:, place] += 1
        other = g_model([tf.constant(z_other), y])
        assert not np.allclose(g_model([z, y]), other, atol=1e-7)


def test_a_latent_point_of_any_size_is_shared_out():
    for latent_dim in (4, 7):
        keras.utils.set_random_seed(0)
        g_model = biggan.define_generator(latent_dim, 3, image_shape=SHAPE, width=0.1)
        z, y = points(2, latent_dim)
        assert g_model([z, y]).shape == (2, *SHAPE)


def test_the_class_enters_the_discriminator_by_projection():
    *_, d_model = tiny_models()
    (embed,) = (
        layer for layer in d_model.layers if type(layer).__name__ == "SpectralEmbedding"
    )
    X = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    (dot,) = (layer for layer in d_model.layers if type(layer).__name__ == "Dot")
    features = keras.Model(d_model.inputs, dot.input[1])
    first, second = (np.eye(3, dtype=np.float32)[[k] * 3] for k in (0, 2))
    difference = d_model([X, first]) - d_model([X, second])
    h = features([X, first])
    rows = np.array(embed.raw_kernel) / float(embed.sigma())
    expected = np.array(h) @ (rows[0] - rows[2])
    np.testing.assert_allclose(difference[:, 0], expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected).max() > 1e-3


# ---------------------------------------------------------------- losses and updates


def test_the_hinge_loss_by_hand():
    real, fake = (np.float32(x)[:, None] for x in ([2.0, 0.5, -1.0], [-3.0, 0.0, 1.0]))
    d_loss_real, d_loss_fake = biggan.hinge_d_loss(real, fake)
    assert float(d_loss_real) == pytest.approx((0 + 0.5 + 2) / 3)
    assert float(d_loss_fake) == pytest.approx((0 + 1 + 2) / 3)
    assert float(biggan.hinge_g_loss(fake)) == pytest.approx(2 / 3)


@pytest.mark.parametrize("shape", [(3, 3, 2, 5), (3, 8)])
def test_the_penalty_is_of_the_angles_of_filters(shape):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=shape)
    matrix = kernel.reshape(-1, shape[-1])
    gram = matrix.T @ matrix
    expected = np.sum((gram * (1 - np.eye(len(gram)))) ** 2)
    found = biggan.orthogonal_penalty(tf.constant(kernel))
    assert float(found) == pytest.approx(expected, rel=1e-9) and expected > 1
    # orthogonal filters have none, whatever their length
    square = np.linalg.qr(rng.normal(size=(18, 18)))[0][:, :5] * rng.uniform(1, 9, 5)
    found = biggan.orthogonal_penalty(tf.constant(square.reshape(3, 3, 2, 5)))
    assert abs(float(found)) < 1e-9


def test_the_penalty_is_of_all_spectral_kernels_of_the_generator():
    models = tiny_models()
    expected = biggan.PENALTY * sum(
        float(biggan.orthogonal_penalty(layer.raw_kernel))
        for layer in spectral_layers_of(models[1])
    )
    figures = biggan.define_train_step(*models)(0, *draw_batch())
    assert float(figures[3]) == pytest.approx(expected, rel=1e-4) and expected > 1e-5


@pytest.mark.parametrize("still", [1, 2])
def test_each_update_moves_its_own_network(still):
    models = tiny_models()
    models[still].optimizer.learning_rate = 0.0
    before = [values(model.trainable_variables) for model in models]
    biggan.define_train_step(*models)(0, *draw_batch())
    for i in (1, 2):
        found = moved(before[i], models[i].trainable_variables)
        # d's last offset stays while all answers are within the margin
        expected = 0 if i == still else len(found) - (i == 2)
        assert sum(found) >= expected and any(found) == (expected > 0)
    assert int(models[1].optimizer.iterations) == 1
    assert int(models[2].optimizer.iterations) == biggan.N_UPDATES == 2


def test_the_losses_fall_for_the_network_that_learns():
    models = tiny_models()
    train_step = tf.function(biggan.define_train_step(*models))
    batch = draw_batch()
    for learns, columns in ((2, [0, 1]), (1, [2])):
        for i in (1, 2):
            models[i].optimizer.learning_rate.assign(2e-3 if i == learns else 0.0)
        made = [np.array(train_step(tf.constant(0), *batch)) for _ in range(12)]
        losses = np.array(made)[:, columns].sum(axis=1)
        assert losses[-1] < losses[0] - 1e-2, learns


def test_each_update_of_d_has_images_of_its_own():
    X_real, y_real, z, y_fake = draw_batch(n=6)
    assert X_real.shape == (12, *SHAPE) and y_real.shape == (12, 3)
    assert z.shape == (18, 8) and y_fake.shape == (18, 3)
    seen = []
    models = tiny_models()
    call = models[2].call

    def note(inputs, *others, **more):
        seen.append([np.array(part) for part in inputs])
        return call(inputs, *others, **more)

    models[2].call = note
    biggan.define_train_step(*models)(0, X_real, y_real, z, y_fake)
    assert [len(images) for images, _ in seen] == [12, 12, 6]
    for i in range(2):
        part = slice(6 * i, 6 * i + 6)
        np.testing.assert_array_equal(seen[i][0][:6], X_real[part])
        labels = np.concatenate([y_real[part], y_fake[part]])
        np.testing.assert_array_equal(seen[i][1], labels)
    np.testing.assert_array_equal(seen[2][1], y_fake[12:])


def test_the_average_follows_from_its_start_on():
    models = average, g_model, _ = tiny_models()
    before = values(average.variables)
    assert any(moved(before, g_model.variables))
    train_step = biggan.define_train_step(*models)
    train_step(biggan.START, *draw_batch())
    for old, kept, new in zip(
        before, average.variables, g_model.variables, strict=True
    ):
        if kept.trainable:
            expected = biggan.DECAY * old + (1 - biggan.DECAY) * np.array(new)
            np.testing.assert_allclose(kept, expected, rtol=1e-4, atol=1e-7)
        else:
            np.testing.assert_array_equal(kept, new)
    # before, it is a copy
    train_step(biggan.START - 1, *draw_batch())
    assert not any(moved(values(average.variables), g_model.variables))


# ---------------------------------------------------------------- sampling


@pytest.mark.statement("BIG-4")
@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.5, 1.0, 2.0, 100.0])
def test_truncated_points_are_normal_ones_within_the_range(threshold):
    z = biggan.truncated_normal(np.random.default_rng(0), (200, 500), threshold)
    assert z.dtype == np.float32 and np.abs(z).max() <= np.float32(threshold)
    density = stats.norm.pdf(threshold)
    variance = 1 - 2 * threshold * density / (2 * stats.norm.cdf(threshold) - 1)
    if threshold > 0.01:  # else the formula has no digits
        assert z.var() == pytest.approx(variance, rel=0.02)
    # as drawing again gives them
    drawn = np.random.default_rng(1).normal(size=10**6)
    if threshold >= 0.1:
        again = drawn[np.abs(drawn) <= threshold]
        assert stats.ks_2samp(z.ravel()[:50_000], again[:50_000]).pvalue > 0.01


@pytest.mark.statement("BIG-4")
def test_training_never_truncates():
    z = np.array(
        biggan.define_draw([np.zeros((4, 8, 8, 1), np.uint8), [0] * 4], 8, 2000, 1)(
            Draws(1, tf.constant(0), 3)
        )[2]
    )
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.01 and np.abs(z).max() > 3.5
    z = biggan.truncated_normal(np.random.default_rng(0), (4000, 8))
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.01 and np.abs(z).max() > 3.5


@pytest.fixture(scope="module")
def sampled():
    """A generator and its sample(), with statistics of three batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(biggan, "N_STANDING", 3)
        average = tiny_models(width=0.25)[0]
        yield average, biggan.define_sample(average, 8)


def test_standing_statistics_are_the_means_of_those_of_batches(sampled):
    average, sample = sampled
    kernels = values(average.trainable_variables)
    sample(1, np.random.default_rng(4), np.array([1]), truncation=0.7)
    assert not any(moved(kernels, average.trainable_variables))
    norms = [x for x in average.layers if type(x).__name__ == "BatchNormalization"]
    found = [[np.array(n.moving_mean), np.array(n.moving_variance)] for n in norms]
    into = keras.Model(average.inputs, [norm.input for norm in norms])
    rng, moments = np.random.default_rng(0), []
    for _ in range(3):
        z = biggan.truncated_normal(rng, (64, 8), 0.7)
        y = np.eye(3, dtype=np.float32)[rng.integers(3, size=64)]
        maps = [np.float64(x) for x in into([z, y], training=True)]
        moments.append([[x.mean((0, 1, 2)), x.var((0, 1, 2))] for x in maps])
    for i in (0, -1):
        mean, variance = np.mean([of_batch[i] for of_batch in moments], axis=0)
        np.testing.assert_allclose(found[i][0], mean, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(found[i][1], variance, rtol=1e-3)


def test_an_image_is_the_same_whatever_was_sampled_before(sampled):
    _, sample = sampled
    labels = np.array([0, 1, 2, 0])
    first = sample(4, np.random.default_rng(1), labels)
    sample(9, np.random.default_rng(5), np.arange(9) % 3, truncation=0.1)
    again = sample(4, np.random.default_rng(1), labels)
    np.testing.assert_array_equal(first, again)
    others = sample(4, np.random.default_rng(1), np.array([0, 2, 2, 0]))
    np.testing.assert_array_equal(first[[0, 2, 3]], others[[0, 2, 3]])
    assert first.std() > 0 and not np.array_equal(first[1], others[1])


def test_truncation_leaves_less_variety(sampled):
    _, sample = sampled
    spreads = [
        sample(30, np.random.default_rng(0), np.zeros(30, int), truncation=threshold)
        .std(axis=0)
        .mean()
        for threshold in (None, 0.5, 0.05)
    ]
    assert spreads[0] > spreads[1] > spreads[2]


@pytest.mark.parametrize(
    ("policy", "suffix"), [("float32", "keras"), ("mixed_bfloat16", "h5")]
)
def test_the_saved_generator_is_of_keras_own_layers(
    policy, suffix, tmp_path, precision, monkeypatch
):
    monkeypatch.setattr(biggan, "N_STANDING", 2)
    precision(policy)
    keras.utils.set_random_seed(0)
    average = biggan.define_generator(8, 3, image_shape=SHAPE, width=0.1)
    biggan.iterate(average)
    plain = biggan.define_plain(average, 8, 0.1)
    path = tmp_path / f"g_model.{suffix}"
    keras.Model(plain.input, plain.output).save(path)
    loaded = keras.saving.load_model(path, safe_mode=True)
    for layer in loaded.layers:
        assert type(layer) in vars(keras.layers).values(), layer
    z, y = points(6)
    np.testing.assert_array_equal(loaded([z, y]), average([z, y]))


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--sample", "runs", "--truncation", 0), "--truncation 0: must be from 0.001"),
        (("--sample", "runs", "--truncation", -1), "--truncation -1: must be from"),
        (("--sample", "runs", "--truncation", "nan"), "--truncation nan: must be"),
        (("--truncation", 0.5), "--truncation: is for --sample RUN"),
        (("--latent-dim", 3), "--latent-dim 3: must be"),
    ],
)
def test_bad_input_of_its_own_options(options, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert problem in fails(biggan, capsys, *options)
    assert not list(tmp_path.iterdir())
