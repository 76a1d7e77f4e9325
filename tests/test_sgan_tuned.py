import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import sgan_tuned
from data_sets import write_folder
from gankit.data import images, load
from gankit.models import classify
from gankit.models.files import load_classifier
from gankit.training import augmentation, budget, losses
from gankit.training.batches import Draws
from gankit.training.checkpoints import checkpoint_paths, read_checked
from gankit.training.run import LabelledRun
from parts import (
    assert_nothing_is_left,
    final_state,
    moved,
    options_of,
    read_csv,
    values,
)

LATENT_DIM = 6


@pytest.fixture(scope="module")
def dataset(small_data):
    return load.load_arrays(small_data).train


class Game:
    """The networks and the steps that train them."""

    def __init__(self, dataset, without="schedule", n_batch=12, n_parts=1):
        keras.utils.set_random_seed(0)
        self.d, self.c = sgan_tuned.define_discriminator()
        self.g = sgan_tuned.define_generator(LATENT_DIM)
        self.gan = sgan_tuned.define_gan(self.g, self.d)
        self.average = keras.models.clone_model(self.c)
        self.average.set_weights(self.c.get_weights())
        # a large epsilon: else a rounding error of a tiny gradient is a whole step
        for model in (self.d, self.gan):
            model.compile(keras.optimizers.Adam(1e-3, epsilon=3e-3))
        self.optimizers = [self.d.optimizer, self.gan.optimizer]
        for layer in self.d.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        settings = sgan_tuned.Settings(seed=7, without=without)
        self.run = LabelledRun("sgan_tuned", settings)
        self.run.n_parts = n_parts
        self.run.supervised = [dataset[0][::10], dataset[1][::10]]
        models = self.g, self.d, self.c, self.gan
        self.make = self.run.compile(
            sgan_tuned.define_draw(dataset, LATENT_DIM, n_batch, self.run),
            sgan_tuned.define_train_step(*models, self.run, self.average),
            [self.d, self.average.variables, self.g, *self.optimizers],
            columns=sgan_tuned.HISTORY,
            draws=11,
        )
        self.run.plan(10)

    def step(self, first=0, n=1):
        return self.make(first, n).numpy()


# ---------------------------------------------------------------- models


def test_the_models():
    d_model, c_model = sgan_tuned.define_discriminator()
    g_model = sgan_tuned.define_generator(100)
    gan_model = sgan_tuned.define_gan(g_model, d_model)
    assert d_model.output_shape == (None, 1) and c_model.output_shape == (None, 10)
    assert list(map(id, d_model.weights)) == list(map(id, c_model.weights))
    assert g_model.output_shape == (None, 28, 28, 1)
    assert gan_model.input_shape == [(None, 100), (None, 8), (None,), (None, 6)]
    assert gan_model.output_shape == [(None, 10), (None, 7 * 7 * 64)]
    x = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype("float32")
    p = c_model.predict_on_batch(x)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    images = g_model.predict_on_batch(np.full((2, 100), 9.0, "float32"))
    assert np.abs(images).max() <= 1


def test_generated_images_are_changed_in_full_precision(precision):
    types = []

    def watch(*inputs):
        types.extend(x.dtype for x in inputs)
        return augmentation.augment(*inputs)

    watched = augmentation.DIGITS._replace(apply=watch)
    precision("mixed_bfloat16")
    d_model, _ = sgan_tuned.define_discriminator()
    g_model = sgan_tuned.define_generator(4)
    gan = sgan_tuned.define_gan(g_model, d_model, changes=watched)
    changes = augmentation.draw_changes(2, tf.constant([1, 2]))
    gan([tf.zeros((2, 4)), *changes])
    assert set(types) == {tf.float32}


# ---------------------------------------------------------------- one step


def reference_step(game, dataset, step, n_batch):
    """The step written plainly, with Keras's own losses and one model at a time."""
    seeds = [tf.constant([7, 11 * step + i]) for i in range(11)]
    X_sup, y_sup = (images.scale_images(game.run.supervised[0]), game.run.supervised[1])
    n_labelled, n_generated = n_batch // 2, n_batch // 4

    def draw(seed, n, size):
        return tf.random.stateless_uniform((n,), seed, 0, size, tf.int32).numpy()

    def augmented(X, seed, *strength):
        changes = augmentation.draw_changes(len(X), seed, *strength)
        return augmentation.augment(X, *changes)

    labelled = draw(seeds[0], n_labelled, len(X_sup))
    unlabelled = draw(seeds[1], n_batch, len(dataset[0]))
    X_real = images.scale_images(dataset[0][unlabelled])
    X_labelled, y = augmented(X_sup[labelled], seeds[2]), y_sup[labelled]
    p_teacher = game.average(
        augmented(X_real, seeds[3], sgan_tuned.WEAK, 0.0), training=False
    )
    X_student = augmented(X_real, seeds[4])
    z_fake, z_gan = (
        tf.random.stateless_normal((n_generated, LATENT_DIM), seed)
        for seed in seeds[5:9:2]
    )
    z_drawn = tf.random.stateless_normal((2 * n_batch, LATENT_DIM), seeds[9])
    compared = dataset[0][draw(seeds[10], 2 * n_batch, len(dataset[0]))]
    X_compared = images.scale_images(compared)
    X_fake = augmented(game.g(z_fake, training=True), seeds[6])
    binary = keras.losses.BinaryCrossentropy()
    ramp = np.exp(-5 * (1 - min(1, step / 10 / sgan_tuned.RAMP)) ** 2)
    with tf.GradientTape() as tape:
        p = game.c(X_labelled, training=True)
        c_loss = keras.losses.SparseCategoricalCrossentropy()(y, p)
        student = game.c(X_student, training=True)
        consistency = tf.reduce_mean(tf.reduce_sum((student - p_teacher) ** 2, 1))
        shares = tf.reduce_mean(student, axis=0)
        d_real = binary(tf.ones((n_batch, 1)), game.d(X_student, training=True))
        d_fake = binary(tf.zeros((n_generated, 1)), game.d(X_fake, training=True))
        loss = c_loss + sgan_tuned.CONSISTENCY * ramp * consistency
        loss += sgan_tuned.ADVERSARIAL * (d_real + d_fake) / 2
        # equal shares cost log(10)
        balance = sgan_tuned.BALANCE * (1 - ramp)
        loss += balance * keras.losses.CategoricalCrossentropy()(
            tf.fill((1, 10), 0.1), shares[None]
        )
    gradients = tape.gradient(loss, game.c.trainable_variables)
    maps = game.d.get_layer("maps_2").output
    trunk = keras.Model(game.d.inputs, keras.layers.Flatten()(maps))
    real = trunk(X_student, training=True)
    with tf.GradientTape() as tape:
        X_gan = augmented(game.g(z_gan, training=True), seeds[8])
        g_loss = losses.energy_distance(trunk(X_gan, training=True), real)
        X_drawn = game.g(z_drawn, training=True)
        g_loss += losses.energy_distance(X_drawn, X_compared)
        excess = tf.maximum(0, abs(tf.atanh(X_drawn)) - sgan_tuned.LARGEST)
        g_loss += sgan_tuned.SATURATION * tf.reduce_mean(tf.square(excess))
        answer = game.d(X_gan, training=True)
        g_loss += sgan_tuned.G_ADVERSARIAL * binary(tf.ones_like(answer), answer)
    g_gradients = tape.gradient(g_loss, game.g.trainable_variables)
    game.optimizers[0].apply(gradients, game.c.trainable_variables)
    game.optimizers[1].apply(g_gradients, game.g.trainable_variables)
    decay = min(sgan_tuned.DECAY, (step + 1) / (step + 10))
    for a, w in zip(game.average.weights, game.c.weights, strict=True):
        a.assign(decay * a + (1 - decay) * w)
    accuracy = np.mean(np.argmax(p, axis=1) == y)
    return [float(v) for v in (c_loss, accuracy, consistency, d_real, d_fake, g_loss)]


@pytest.mark.parametrize("n_parts", [1, 3])
def test_the_compiled_step_equals_a_plain_one(n_parts, dataset, monkeypatch):
    # pixels of an untrained generator are small
    monkeypatch.setattr(sgan_tuned, "LARGEST", 0.1)
    monkeypatch.setattr(sgan_tuned, "SATURATION", 10.0)
    game, plain = Game(dataset, n_parts=n_parts), Game(dataset)
    for step in range(3):
        (figures,) = game.step(step)
        expected = reference_step(plain, dataset, step, 12)
        np.testing.assert_allclose(figures, expected, rtol=2e-4, atol=1e-6)
    for model, reference in ((game.c, plain.c), (game.g, plain.g)):
        for v, r in zip(model.weights, reference.weights, strict=True):
            np.testing.assert_allclose(v, r, rtol=0, atol=2e-5)
    for v, r in zip(game.average.weights, plain.average.weights, strict=True):
        np.testing.assert_allclose(v, r, rtol=0, atol=2e-5)


def test_which_weights_each_optimizer_moves(dataset):
    for moving in (0, 1):
        game = Game(dataset)
        game.optimizers[1 - moving].learning_rate = 0.0
        d_before, g_before = values(game.d.weights), values(game.g.trainable_weights)
        game.step()
        assert set(moved(d_before, game.d.weights)) == {moving == 0}
        assert set(moved(g_before, game.g.trainable_weights)) == {moving == 1}


def test_the_schedule_spans_the_steps(dataset):
    game = Game(dataset, without=None)
    rates = []
    for step in (0, 5, 9):
        game.step(step)
        rates.append([float(o.learning_rate.numpy()) for o in game.optimizers])
    shape = np.array([0.5 * (1 + np.cos(np.pi * s / 10)) for s in (0, 5, 9)])
    expected = np.outer(shape, [sgan_tuned.RATE, sgan_tuned.G_RATE])
    np.testing.assert_allclose(rates, expected, rtol=1e-4)
    game.run.plan(18)
    game.step(9)
    assert float(game.optimizers[0].learning_rate.numpy()) == pytest.approx(
        sgan_tuned.RATE / 2
    )


def test_without_the_generator(dataset):
    game = Game(dataset, without="generator+schedule")
    before = values(game.g.weights)
    (figures,) = game.step()
    assert not any(moved(before, game.g.weights))
    assert figures[3:].tolist() == [0, 0, 0] and figures[2] > 0


def test_without_lines_no_image_gets_one(dataset, monkeypatch):
    (without,) = Game(dataset, without="lines+schedule").step()
    (usual,) = Game(dataset).step()
    without_lines = augmentation.DIGITS._replace(marked=0.0)
    monkeypatch.setattr("gankit.training.run.DIGITS", without_lines)
    (none,) = Game(dataset).step()
    np.testing.assert_array_equal(without, none)
    assert not np.allclose(usual, none)


def test_without_augmentation_no_image_is_changed(dataset):
    """Neither real ones nor generated ones."""
    run = LabelledRun("sgan_tuned", sgan_tuned.Settings(without="augmentation"))
    run.supervised = [dataset[0][::10], dataset[1][::10]]
    run._n_steps = 10
    draw = sgan_tuned.define_draw(dataset, LATENT_DIM, 12, run)
    X_labelled, _, X_real, X_teacher, *generated, _ = draw(Draws(7, 0, 11))
    known = {X.tobytes() for X in images.scale_images(dataset[0])}
    assert all(X.numpy().tobytes() in known for X in (*X_labelled, *X_real))
    np.testing.assert_array_equal(X_real, X_teacher)
    for z, maps, thickness, lines in generated:
        assert z.shape == (3, LATENT_DIM)
        np.testing.assert_array_equal(maps, [[1, 0, 0, 0, 1, 0, 0, 0]] * 3)
        assert not np.any(thickness) and not np.any(lines[:, 0])


def test_without_augmentation_and_averaging_the_teacher_is_the_student(dataset):
    game = Game(dataset, without="augmentation+averaging+schedule")
    (figures,) = game.step()
    # no dropout here: both see the same images with the same weights
    assert figures[2] == pytest.approx(0, abs=1e-9)
    for a, w in zip(game.average.weights, game.c.weights, strict=True):
        np.testing.assert_array_equal(a, w)


def test_consistency_moves_the_classifier_unless_left_out(dataset):
    """At the end of the ramp, with the labelled images the same."""
    ends = []
    for without in ("generator+schedule", "generator+schedule+consistency"):
        game = Game(dataset, without=without)
        game.step(9)
        ends.append(values(game.c.weights))
    assert any(moved(ends[0], ends[1]))


def test_balance_makes_the_shares_of_the_classes_more_equal(dataset):
    X = images.scale_images(dataset[0][:100])
    largest = []
    without = "generator+consistency+schedule"
    for more in ("", "+balance"):
        game = Game(dataset, without=without + more)
        # the untrained network answers with one class more than half of the time
        assert np.mean(game.c(X), axis=0).max() > 0.5
        # the first steps of many
        game.run.plan(1000)
        game.step(n=5)
        largest.append(np.mean(game.c(X), axis=0).max())
    balanced, unbalanced = largest
    assert balanced < unbalanced - 0.1


def test_a_step_depends_on_seed_and_number_only(dataset):
    one, two = Game(dataset, n_parts=2), Game(dataset, n_parts=2)
    figures = [*two.step(0), *two.step(1, 2)]
    np.testing.assert_array_equal(one.step(0, 3), figures)
    assert not any(moved(values(one.average.weights), two.average.weights))


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def short_run(small_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "a run"
    assert (
        sgan_tuned.main(options_of(small_data, out, "--epochs", 1, "--tensorboard"))
        == 0
    )
    return out


def test_a_run_fills_its_folder(short_run, small_data):
    rows = read_csv(short_run / "accuracy.csv")
    assert [row["step"] for row in rows] == ["4", "8", "10"]
    assert [row["train_accuracy"] != "" for row in rows] == [False, False, True]
    assert all(row["test_accuracy"] for row in rows)
    history = read_csv(short_run / "history.csv")
    assert tuple(history[0]) == ("step", *sgan_tuned.HISTORY) and len(history) == 10
    settings = json.loads((short_run / "settings.json").read_text())
    assert settings["n_steps"] == 10
    model = load_classifier(short_run / "c_model_0010.keras")
    x, y = load.load_arrays(small_data).test
    accuracy = classify.measure_accuracy(model, images.scale_images(x), y)
    assert f"{accuracy:.3f}" == rows[-1]["test_accuracy"]
    assert any((short_run / "tensorboard").iterdir())
    assert_nothing_is_left(short_run)


@pytest.mark.parametrize(("dtype", "threads"), [("mixed_bfloat16", 2)])
def test_resumed_is_uninterrupted(dtype, threads, small_data, tmp_path, precision):
    more = ["--precision", dtype, "--epochs", 1, "--threads", threads]
    more += ["--max-steps"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    resume = ["--resume", str(cut), "--verbose", "0", "--max-steps", "5"]
    assert sgan_tuned.main(options_of(small_data, whole, *more, 5)) == 0
    assert sgan_tuned.main(options_of(small_data, cut, *more, 3)) == 0
    assert sgan_tuned.main(resume) == 0
    (cut / "generated_plot_0003.png").unlink()
    assert final_state(cut) == final_state(whole)
    assert_nothing_is_left(cut)


def test_float16_scales_the_losses(small_data, tmp_path, precision):
    out = tmp_path / "run"
    more = ["--precision", "mixed_float16", "--max-steps", 1]
    assert sgan_tuned.main(options_of(small_data, out, *more)) == 0
    saved = read_checked(checkpoint_paths(out)[0])
    arrays = [saved[name] for name in saved if name.startswith("v")]
    # one scale an optimizer: Keras's first one, or half of it after an overflow
    scales = [array for array in arrays if array.shape == () and array >= 2**14]
    assert len(scales) == 2 and max(scales) <= 2**15


def test_a_budget_sets_the_steps(small_data, tmp_path):
    def n_steps(out):
        return json.loads((out / "settings.json").read_text())["n_steps"]

    # 24 epochs are 240 steps
    short, out = tmp_path / "short", tmp_path / "run"
    assert sgan_tuned.main(options_of(small_data, short, "--budget", 1e-6)) == 0
    assert n_steps(short) == 1
    more = ("--budget", 1, "--max-steps", 2)
    assert sgan_tuned.main(options_of(small_data, out, *more)) == 0
    fitted = n_steps(out)
    assert fitted > 2 and fitted != 240
    resume = ["--resume", str(out), "--verbose", "0", "--max-steps", "3"]
    assert sgan_tuned.main(resume) == 0
    assert n_steps(out) == fitted


def test_fitting_to_a_budget_leaves_no_trace(dataset):
    game = Game(dataset)
    before = values(game.make.state)
    assert len(before) > len(game.d.weights + game.average.weights + game.g.weights)
    arguments = game.make, game.average, dataset, None, 4
    assert budget.fit_to_budget(1e-9, *arguments) == 1
    assert not any(moved(before, game.make.state))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "0"], "--budget 0: must be more than 0"),
        (["--budget", "nan"], "--budget nan: must be more than 0"),
        (["--budget", "1", "--epochs", "2"], "leave out --epochs"),
        (["--labels", "15"], "15 labels: can't be shared out evenly"),
        (["--batch", "14"], "batch 14: must have 4 equal parts"),
        (["--batch", "4"], "give a multiple of 4 from 8 on"),
        (["--batch", "400"], "there are 200 images; give a smaller batch"),
        (["--without", "generator+luck"], "--without luck: not of generator, cons"),
        (["--without", ""], "--without '': holds an empty name; leave that out"),
    ],
)
def test_bad_options(options, message, small_data, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--data", str(small_data), "--out", str(out), *options]
    assert sgan_tuned.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_a_run_of_the_tutorials_script_is_not_resumed(tiny_run, capsys):
    run, _ = tiny_run
    before = {path: path.read_bytes() for path in run.iterdir()}
    assert sgan_tuned.main(["--resume", str(run)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_more_epochs_would_be_another_schedule(short_run, capsys):
    assert sgan_tuned.main(["--resume", str(short_run), "--epochs", "2"]) == 2
    assert "was started with epochs 1, not 2" in capsys.readouterr().err


# ---------------------------------------------------------------- changes of images


def test_a_run_on_other_things_than_digits(tmp_path, capsys):
    """Colours, general changes by themselves; and a resume has equal bits."""
    data = write_folder(tmp_path / "things", (12, 16, 3), n=8, tests=4)
    options = ["--data", data, "--labels", 6, "--batch", 8, "--epochs", 2, "--seed", 3]
    options += ["--threads", 1, "--verbose", 0]

    def start(*more):
        return sgan_tuned.main([str(option) for option in more])

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(*options, "--out", whole) == 0
    assert "Changes of images: general, not mirrored\n" in capsys.readouterr().out
    described = json.loads((whole / "settings.json").read_text(encoding="utf-8"))
    assert described["changes_of_images"] == "general, not mirrored"
    assert start(*options, "--out", cut, "--max-steps", 2) == 0
    assert start("--resume", cut, "--verbose", 0) == 0
    (cut / "generated_plot_0002.png").unlink()  # of the stop
    assert final_state(cut) == final_state(whole)
    none = tmp_path / "none"
    options += ["--changes", "none", "--max-steps", 1, "--out", none]
    assert start(*options) == 0
    first = [read_csv(run / "history.csv")[0] for run in (whole, none)]
    assert first[0]["c_loss"] != first[1]["c_loss"]


def test_how_the_changes_were_chosen_moves_no_bit(small_data, tmp_path):
    """Digits in a file are known by the shipped classifier, which is loaded for it."""
    states = []
    for kind in ("auto", "digits"):
        options = ["--data", small_data, "--labels", 20, "--seed", 3, "--threads", 1]
        options += ["--changes", kind, "--max-steps", 1, "--verbose", 0]
        options += ["--out", tmp_path / kind]
        assert sgan_tuned.main([str(option) for option in options]) == 0
        states.append(final_state(tmp_path / kind))
    assert states[0] == states[1]


def test_the_strength_is_that_of_the_step(dataset):
    """Weaker at the end, and no part erased."""
    run = LabelledRun("sgan_tuned", sgan_tuned.Settings())
    run.supervised = [dataset[0][::10], dataset[1][::10]]
    run.changes, run._n_steps = augmentation.define_general((28, 28, 1), False), 10
    asked = []

    def watch(n, seed, strength, marked):
        asked.append((float(strength), float(marked)))
        return augmentation.draw_general(n, seed, strength, marked)

    run.changes = run.changes._replace(draw=watch)
    draw = sgan_tuned.define_draw(dataset, LATENT_DIM, 12, run)
    for step, full in ((0, (1, 0.5)), (9, (0.5, 0))):
        asked.clear()
        draw(Draws(7, step, 11))
        weak = sgan_tuned.WEAK, 0.0
        np.testing.assert_allclose(asked, [full, weak, full, full, full], atol=1e-6)
