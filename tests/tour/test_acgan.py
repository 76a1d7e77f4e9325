import json

import acgan
import cgan
import common
import keras
import numpy as np
import pytest
import tensorflow as tf

from gankit.data.arrays import Data
from gankit.training.batches import Draws
from parts import moved, read_csv, values

SHAPE = (8, 8, 1)


def tiny_models(n_classes=3, seed=0):
    keras.utils.set_random_seed(seed)
    return (
        acgan.define_generator(5, n_classes, image_shape=SHAPE, width=0.05),
        acgan.define_discriminator(SHAPE, n_classes, width=0.05),
    )


def linear_discriminator(n_classes=3, seed=2):
    """A d whose answers can be worked by hand: two heads on the pixels."""
    keras.utils.set_random_seed(seed)
    in_image = keras.Input(shape=SHAPE)
    pixels = keras.layers.Flatten()(in_image)
    heads = [
        keras.layers.Dense(n, kernel_initializer=keras.initializers.RandomNormal())
        for n in (1, n_classes)
    ]
    model = keras.Model(in_image, [head(pixels) for head in heads])
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    return model


def draw_batch(n=6, seed=3):
    y = np.arange(30) % 3
    X = np.random.default_rng(0).integers(0, 256, (30, *SHAPE), np.uint8)
    return acgan.define_draw([X, y], 5, n, 3)(Draws(seed, tf.constant(0), 3))


def four_terms(d_model, X_real, y_real, X_fake, y_fake):
    """Of a linear d: the losses by hand, float64, in the order of HISTORY."""
    found = {}
    for X, y, real, name in ((X_real, y_real, 1, "r"), (X_fake, y_fake, 0, "f")):
        pixels = np.float64(X).reshape(len(X), -1)
        w, b, w_class, b_class = map(np.float64, values(d_model.trainable_variables))
        source = 1 / (1 + np.exp(-(pixels @ w + b)))
        found["d", name] = -np.log(source if real else 1 - source).mean()
        odds = np.exp(pixels @ w_class + b_class)
        classes = odds / odds.sum(axis=1, keepdims=True)
        found["c", name] = -(np.float64(y) * np.log(classes)).sum(axis=1).mean()
    return [found[key] for key in (("d", "r"), ("d", "f"), ("c", "r"), ("c", "f"))]


@pytest.mark.statement("ACGAN-1")
def test_the_generator_is_that_of_cgan():
    found = []
    for script in (acgan, cgan):
        keras.utils.set_random_seed(1)
        g_model = script.define_generator(5, 3, image_shape=SHAPE, width=0.05)
        found.append((g_model, g_model.get_config()["layers"]))
    (g_model, layers), (other, others) = found
    kinds = [[layer["class_name"] for layer in these] for these in (layers, others)]
    assert kinds[0] == kinds[1]
    for a, b in zip(g_model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert acgan.define_generator().count_params() == 822_785


@pytest.mark.statement("ACGAN-2")
def test_the_class_is_found_by_the_networks_of_the_source():
    d_model = acgan.define_discriminator()
    assert d_model.count_params() == 201_675
    source, classes = (
        layer for layer in d_model.layers if isinstance(layer, keras.layers.Dense)
    )
    assert source.input is classes.input
    assert (source.units, classes.units) == (1, 10)
    rates = [
        layer.rate
        for layer in d_model.layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert rates == [0.5, 0.5]


@pytest.mark.statement("ACGAN-3")
def test_of_an_image_alone_come_source_and_class():
    _, d_model = tiny_models()
    assert d_model.input_shape == (None, *SHAPE)
    source, logits = d_model(np.zeros((4, *SHAPE), np.float32))
    assert source.shape == (4, 1) and logits.shape == (4, 3)
    classes = keras.ops.softmax(logits)
    np.testing.assert_allclose(np.sum(classes, axis=1), 1, rtol=1e-6)


def test_the_losses_are_those_of_a_computation_by_hand():
    g_model, d_model = tiny_models()[0], linear_discriminator()
    d_model.optimizer.learning_rate = 0.0
    X_real, y_real, z, y_fake = batch = draw_batch()
    X_fake = g_model([z, y_fake], training=True)
    terms = four_terms(d_model, X_real, y_real, X_fake, y_fake)
    source = np.float64(d_model(X_fake)[0])
    g_terms = [np.log1p(np.exp(-source)).mean(), terms[3]]
    figures = acgan.define_train_step(g_model, d_model)(0, *batch)
    np.testing.assert_allclose(figures, [*terms, *g_terms], rtol=1e-5)


@pytest.mark.parametrize("class_loss, n_terms", [("both", 4), ("real", 3)])
def test_d_minimises_the_sum_of_its_terms(class_loss, n_terms):
    g_model, d_model = tiny_models()[0], linear_discriminator()
    X_real, y_real, z, y_fake = batch = draw_batch()
    X_fake = g_model([z, y_fake], training=True)
    before = values(d_model.trainable_variables)
    acgan.define_train_step(g_model, d_model, class_loss)(0, *batch)
    after = values(d_model.trainable_variables)
    # gradient descent at 0.1: what moved is the gradient, here by central differences
    for i, place in ((0, (9, 0)), (1, (0,)), (2, (20, 1)), (2, (33, 2)), (3, (1,))):
        ends = []
        for h in (1e-2, -1e-2):
            changed = [np.array(value) for value in before]
            changed[i][place] += h
            d_model.set_weights(changed)
            terms = four_terms(d_model, X_real, y_real, X_fake, y_fake)
            ends.append(sum(terms[:n_terms]))
        slope = (ends[0] - ends[1]) / 2e-2
        moved_by = (after[i][place] - before[i][place]) / -0.1
        assert moved_by == pytest.approx(slope, rel=5e-3, abs=2e-4)


def test_g_learns_to_be_taken_for_the_class_asked_for():
    g_model, d_model = tiny_models()[0], linear_discriminator()
    # the source says nothing, so that g follows the class alone
    source = d_model.trainable_variables[0]
    source.assign(np.zeros(source.shape))
    d_model.optimizer.learning_rate = 0.0
    batch = draw_batch()
    train_step = acgan.define_train_step(g_model, d_model)
    losses = [float(train_step(i, *batch)[5]) for i in range(6)]
    assert losses[-1] < losses[0] - 1e-3
    # and to be taken for a real one, likewise
    g_model, d_model = tiny_models()[0], linear_discriminator()
    classes = d_model.trainable_variables[2]
    classes.assign(np.zeros(classes.shape))
    d_model.optimizer.learning_rate = 0.0
    train_step = acgan.define_train_step(g_model, d_model)
    losses = [float(train_step(i, *batch)[4]) for i in range(6)]
    assert losses[-1] < losses[0] - 1e-3


def test_permuted_labels_raise_the_class_loss():
    g_model, d_model = tiny_models()[0], linear_discriminator()
    d_model.optimizer.learning_rate = 0.0
    # the first three pixels say the class
    kernel = np.zeros(d_model.trainable_variables[2].shape, np.float32)
    kernel[:3] = 4 * np.eye(3)
    d_model.trainable_variables[2].assign(kernel)
    _, y, z, y_fake = draw_batch()
    X = np.zeros((6, 64), np.float32)
    X[:, :3] = y
    X = tf.constant(X.reshape(6, *SHAPE))
    train_step = acgan.define_train_step(g_model, d_model)
    right = np.array(train_step(0, X, y, z, y_fake))
    permuted = np.array(train_step(0, X, np.roll(y, 1, axis=1), z, y_fake))
    assert right[2] < 0.1 and permuted[2] > 3
    # the source doesn't look at labels
    assert permuted[0] == right[0]


@pytest.mark.parametrize("still", [0, 1])
def test_each_update_moves_its_own_network(still):
    models = tiny_models()
    models[still].optimizer.learning_rate = 0.0
    before = [values(model.trainable_variables) for model in models]
    acgan.define_train_step(*models)(0, *draw_batch())
    for i, model in enumerate(models):
        found = moved(before[i], model.trainable_variables)
        assert not any(found) if i == still else all(found)


def test_no_two_passes_share_their_masks(monkeypatch, tmp_path):
    y = np.arange(30) % 3
    X = np.random.default_rng(0).integers(0, 256, (30, *SHAPE), np.uint8)
    settings = acgan.Settings(seed=1, batch=6, steps=2, threads=1, measured=2)
    run = common.GanRun(
        "acgan", settings, data=Data([X, y], None, 3, None), by_class=True
    )
    compiled = []
    monkeypatch.setattr(run, "make", lambda steps, *_, **__: compiled.append(steps))
    monkeypatch.setattr(run, "conclude", lambda *_: tmp_path)
    models = tiny_models()
    assert acgan.train(*models, [X, y], 5, 2, 6, run=run) == tmp_path
    (steps,) = compiled
    generators = [
        layer.seed_generator
        for layer in models[1].layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    made = []
    for step in range(2):
        figures = np.array(steps(step, 1))
        assert figures.shape == (1, len(acgan.HISTORY)) and np.isfinite(figures).all()
        # real, generated, and generated once more for g: the state is where they end
        made += [int(np.array(generator.state)[1]) for generator in generators]
    assert made == [3, 6, 9, 12]


def test_dropout_is_for_training_alone():
    _, d_model = tiny_models()
    X = np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32)
    still = [np.array(d_model(X)[1]) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    first, second = (np.array(d_model(X, training=True)[1]) for _ in range(2))
    assert not np.array_equal(first, second)


def test_in_bfloat16_both_answers_are_float32(precision):
    precision("mixed_bfloat16")
    _, d_model = tiny_models()
    source, classes = d_model(np.zeros((2, *SHAPE), np.float32))
    assert source.dtype == classes.dtype == tf.float32


def test_a_run_records_its_losses_and_measures_classes(small_data, tmp_path, capsys):
    options = ("--data", small_data, "--judge", common.metrics.SHIPPED_JUDGE)
    options += ("--steps", 2, "--batch", 20, "--width", 0.05, "--latent-dim", 4)
    options += ("--measured", 40, "--seed", 1, "--threads", 1, "--verbose", 0)
    options += ("--precision", "float32", "--class-loss", "real")
    assert acgan.main([*map(str, (*options, "--out", tmp_path / "run"))]) == 0
    row = read_csv(tmp_path / "run" / "history.csv")[-1]
    assert list(row) == ["step", *acgan.HISTORY]
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    names = {"agreement", "nearest_neighbour_error", "ssim", "worst_ssim_excess"}
    assert names <= {name for name, value in figures.items() if value is not None}
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["options"]["class_loss"] == "real"


def test_the_class_losses_that_there_are(capsys):
    with pytest.raises(SystemExit):
        acgan.main(["--class-loss", "fake"])
    assert "both" in capsys.readouterr().err
