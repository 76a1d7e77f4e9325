import csv
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import discriminators
import helpers
import sgan_mnist
from gankit import pictures
from gankit.data import images, labels, load
from gankit.models import classify
from gankit.training import batches, fast_conv, records
from gankit.training.run import LabelledRun
from gankit.training.settings import RunSettings
from parts import moved, values

DESIGNS = ("stacked", "shared", "multi-output")
LATENT_DIM = 6


def define_models(design="stacked", seed=0):
    keras.utils.set_random_seed(seed)
    d_model, c_model = sgan_mnist.define_discriminator(design=design)
    g_model = sgan_mnist.define_generator(LATENT_DIM)
    return g_model, d_model, c_model, sgan_mnist.define_gan(g_model, d_model)


@pytest.fixture(scope="module")
def dataset(small_data):
    x, y = load.load_arrays(small_data).train
    return [images.scale_images(x), y]


def supervised_of(dataset):
    chosen = labels.select_supervised_indices(
        dataset[1], 20, rng=np.random.default_rng(0)
    )
    return [dataset[0][chosen], dataset[1][chosen]]


def define_steps(models, dataset, n_batch=8, seed=7, jit=False, n_parts=1):
    run = LabelledRun("sgan_mnist", RunSettings(seed=seed))
    run.jit, run.n_parts = jit, n_parts
    run.supervised = supervised_of(dataset)
    g_model, d_model, c_model, gan_model = models
    return run.compile(
        sgan_mnist.define_draw(dataset, LATENT_DIM, n_batch, run),
        sgan_mnist.define_train_step(*models, run),
        [d_model, c_model, g_model]
        + [model.optimizer for model in (c_model, d_model, gan_model)],
        columns=sgan_mnist.HISTORY,
        draws=4,
        passes=4,
    )


def make_steps(steps, first, n):
    return steps(first, n).numpy()


# ---------------------------------------------------------------- models


def test_the_models():
    g_model, d_model, c_model, gan_model = define_models()
    assert sgan_mnist.define_generator(100).count_params() == 1_164_289
    assert g_model.output_shape == (None, 28, 28, 1)
    assert gan_model.input_shape == (None, LATENT_DIM)
    assert gan_model.output_shape == d_model.output_shape == (None, 1)
    assert c_model.output_shape == (None, 10)
    assert d_model.count_params() == c_model.count_params() == 316_938
    optimizers = [model.optimizer for model in (c_model, d_model, gan_model)]
    assert len(set(map(id, optimizers))) == 3
    assert all(isinstance(o, keras.optimizers.Adam) for o in optimizers)
    assert gan_model.loss == "binary_crossentropy"
    images = g_model.predict_on_batch(np.full((2, LATENT_DIM), 9.0, "float32"))
    assert np.abs(images).max() <= 1


@pytest.mark.parametrize("design", DESIGNS)
def test_by_hand_each_model_trains_its_own_weights(design, dataset):
    g_model, d_model, c_model, gan_model = define_models(design)
    X, y = dataset[0][:8], dataset[1][:8]
    z = helpers.generate_latent_points(LATENT_DIM, 8)
    ones = np.ones((8, 1))
    targets = [ones, np.full(8, 10)] if design == "multi-output" else ones
    everything = {id(v): v for m in (g_model, d_model, c_model) for v in m.weights}
    for model, own, batch in (
        (gan_model, g_model, (z, ones)),
        (c_model, c_model, (X, y)),
        (d_model, d_model, (X, targets)),
        (gan_model, g_model, (z, ones)),
    ):
        before = {key: np.array(v) for key, v in everything.items()}
        model.train_on_batch(*batch)
        changed = {
            key for key, v in everything.items() if not np.array_equal(before[key], v)
        }
        assert changed == {id(v) for v in own.trainable_weights}


def test_the_tutorial_with_its_api_names_mended_trains_no_classifier(dataset):
    """The fault that this collection exists to avoid."""
    d_model, c_model = discriminators.define_stacked_discriminators()
    g_model = sgan_mnist.define_generator(LATENT_DIM)
    d_model.trainable = False
    gan_model = keras.Sequential([g_model, d_model])
    gan_model.compile(loss="binary_crossentropy", optimizer=discriminators.adam())
    before, g_before = values(c_model.weights), values(g_model.weights)
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        for _ in range(2):
            c_model.train_on_batch(dataset[0][:8], dataset[1][:8])
            d_model.train_on_batch(dataset[0][:8], np.ones((8, 1)))
            z = helpers.generate_latent_points(LATENT_DIM, 8)
            gan_model.train_on_batch(z, np.ones((8, 1)))
    assert not any(moved(before, c_model.weights))
    assert all(moved(g_before, g_model.weights))


# ---------------------------------------------------------------- one step


@pytest.mark.parametrize("design", DESIGNS)
def test_which_weights_each_update_moves(design, dataset):
    models = g_model, d_model, c_model, gan_model = define_models(design)
    train_steps = define_steps(models, dataset)
    everything = {id(v): v for m in (g_model, d_model, c_model) for v in m.weights}
    updates = {
        "c": (c_model, c_model),
        "d": (d_model, d_model),
        "g": (gan_model, g_model),
    }
    for step, name in enumerate("cdgg"):
        # an update with a rate of 0 leaves every bit as it was
        for other, (model, _) in updates.items():
            model.optimizer.learning_rate = 0.0002 if other == name else 0.0
        before = {key: np.array(v) for key, v in everything.items()}
        make_steps(train_steps, step, 1)
        changed = {
            key for key, v in everything.items() if not np.array_equal(before[key], v)
        }
        assert changed == {id(v) for v in updates[name][1].trainable_weights}, name


@pytest.mark.parametrize(
    ("design", "variant"),
    [
        *((design, "plain") for design in DESIGNS),
        ("stacked", "parts"),
        ("multi-output", "parts"),
        ("stacked", "fast convolution"),
        ("stacked", "jit"),
    ],
)
def test_the_compiled_step_equals_four_separate_updates(design, variant, dataset):
    models = define_models(design)
    g_model, d_model, c_model, gan_model = references = define_models(design)
    if variant != "plain":
        # Adam divides each gradient by its size: with the default epsilon a rounding
        # error becomes a whole step where that size is next to nothing
        for model in (*models[1:], *references[1:]):
            model.optimizer.epsilon = 1e-2
    else:
        # as the compiled step does
        fast_conv.accelerate(g_model)
    for d in (models[1], d_model):
        for layer in d.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
    for model, reference in zip(models, references, strict=True):
        for v, r in zip(model.weights, reference.weights, strict=True):
            np.testing.assert_array_equal(v, r)
    # with seed 7 an activation lies so near the bend of the leaky ReLU that rounding
    # can carry it across
    n_batch, seed, n_steps = 8, 8, 4
    half = n_batch // 2
    n_parts = 3 if variant == "parts" else 1  # of 4 images, the first has 2
    train_steps = define_steps(
        models, dataset, n_batch, seed, jit=variant == "jit", n_parts=n_parts
    )
    figures = make_steps(train_steps, 0, n_steps)

    X_sup, y_sup = supervised_of(dataset)
    real, fake = np.ones((half, 1)), np.zeros((half, 1))
    if design == "multi-output":
        unknown = np.full(half, 10)
        real, fake = [real, unknown], [fake, unknown]
    for step in range(n_steps):
        seeds = [(seed, 4 * step + i) for i in range(4)]

        def draw(seed, n):
            return tf.random.stateless_uniform((half,), seed, 0, n, tf.int32).numpy()

        labelled, unlabelled = draw(seeds[0], 20), draw(seeds[1], len(dataset[0]))
        c_loss, c_acc = c_model.train_on_batch(X_sup[labelled], y_sup[labelled])
        d_loss1 = d_model.train_on_batch(dataset[0][unlabelled], real)
        z = tf.random.stateless_normal((half, LATENT_DIM), seeds[2])
        d_loss2 = d_model.train_on_batch(g_model.predict_on_batch(z), fake)
        z = tf.random.stateless_normal((n_batch, LATENT_DIM), seeds[3])
        g_loss = gan_model.train_on_batch(z, np.ones((n_batch, 1)))
        expected = [c_loss, c_acc, np.ravel(d_loss1)[0], np.ravel(d_loss2)[0], g_loss]
        np.testing.assert_allclose(figures[step], expected, rtol=2e-5)
    for model, reference in zip(models[:3], references[:3], strict=True):
        for v, r in zip(model.weights, reference.weights, strict=True):
            np.testing.assert_allclose(v, r, rtol=0, atol=1e-6)


def test_a_step_depends_on_seed_and_number_only(dataset):
    def weights_after(calls, seed=7):
        models = define_models()
        train_steps = define_steps(models, dataset, seed=seed)
        figures = np.concatenate([make_steps(train_steps, *call) for call in calls])
        return [figures, *values(models[0].weights), *values(models[1].weights)]

    one_call = weights_after([(0, 3)])
    three_calls = weights_after([(0, 1), (1, 1), (2, 1)])
    for a, b in zip(one_call, three_calls, strict=True):
        np.testing.assert_array_equal(a, b)
    other_seed = weights_after([(0, 3)], seed=8)
    assert all(moved(one_call, other_seed))
    other_steps = weights_after([(3, 3)])
    assert all(moved(one_call, other_steps))


def test_images_as_bytes_give_the_same_bits(small_data, dataset):
    results = []
    for data in (dataset, load.load_arrays(small_data).train):
        models = define_models()
        figures = make_steps(define_steps(models, data), 0, 2)
        results.append(
            [figures, *values(models[0].weights), *values(models[1].weights)]
        )
    assert not any(moved(*results))


def test_float16_scales_each_loss_and_skips_what_overflows(precision, dataset):
    precision("mixed_float16")
    models = g_model, d_model, c_model, gan_model = define_models()
    optimizers = [model.optimizer for model in (c_model, d_model, gan_model)]
    assert all(isinstance(o, keras.optimizers.LossScaleOptimizer) for o in optimizers)
    assert d_model.output.dtype == c_model.output.dtype == "float32"
    train_steps = define_steps(models, dataset)
    before = values(c_model.weights), values(g_model.weights)
    assert np.isfinite(make_steps(train_steps, 0, 1)).all()
    assert all(moved(before[0], c_model.weights))
    assert all(moved(before[1], g_model.weights))
    assert {float(o.dynamic_scale) for o in optimizers} == {2.0**15}
    before = values(g_model.weights), values(optimizers[2].inner_optimizer.variables)
    optimizers[2].dynamic_scale.assign(2.0**127)
    make_steps(train_steps, 1, 1)
    assert not any(moved(before[0], g_model.weights))
    assert not any(moved(before[1], optimizers[2].inner_optimizer.variables))
    assert float(optimizers[2].dynamic_scale) == 2.0**126


def test_a_generator_of_other_images():
    g_model = sgan_mnist.define_generator(LATENT_DIM, image_shape=(32, 20, 3))
    assert g_model.output_shape == (None, 32, 20, 3)


def test_dropout_follows_the_seed(dataset):
    """Without it two seeds whose batches are equal would train alike."""
    models = define_models()
    (dropout,) = (
        layer for layer in models[1].layers if isinstance(layer, keras.layers.Dropout)
    )
    for n_parts in (1, 2):
        make_steps(define_steps(models, dataset, seed=7, n_parts=n_parts), 5, 1)
        # four masks a part and step: step 5 has used the last of 24
        state = np.array(dropout.seed_generator.state).tolist()
        assert state == [batches.derive_seed(7), 24 * n_parts]
    assert batches.derive_seed(7) not in (7, batches.derive_seed(8))


def test_the_classifier_learns(dataset):
    models = define_models()
    X_sup, y_sup = supervised_of(dataset)
    make_steps(define_steps(models, dataset, n_batch=20), 0, 40)
    assert classify.measure_accuracy(models[2], X_sup, y_sup) > 60
    assert classify.measure_accuracy(models[2], *dataset) > 30


# ---------------------------------------------------------------- a run


def read_table(path):
    """The header and the rows of a table, lists of texts."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return header, rows


def test_the_printed_lines(tiny_run):
    run, printed = tiny_run
    head, steps, tail = printed.partition("steps=4\n")
    assert head == (
        "(200, 28, 28, 1) (200,)\n"
        "(100, 28, 28, 1) (100,)\n"
        "n_epochs=2, n_batch=100, 1/2=50, b/e=2, "
    )
    step = (
        r">{}, c\[\d\.\d{{3}},\d+\], d\[\d\.\d{{3}},\d\.\d{{3}}\], g\[\d\.\d{{3}}\]\n"
    )
    end = (
        r"Classifier Accuracy: \d+\.\d{{3}}%\n"
        r">Saved: generated_plot_{0}.png, g_model_{0}.keras, and c_model_{0}.keras\n"
    )
    pattern = (
        step.format(1)
        + step.format(2)
        + end.format("0002")
        + step.format(3)
        + step.format(4)
        + end.format("0004")
        + "The run is in .*\n"
    )
    assert re.fullmatch(pattern, tail), tail
    assert "d[0.0" in tail.splitlines()[0] and "g[0.095]" in tail.splitlines()[0]


def test_the_files_of_a_run(tiny_run, small_data):
    run, _ = tiny_run
    assert re.fullmatch(r"\d{8}-\d{6}-sgan_mnist", run.name)
    assert {path.name for path in run.iterdir()} == {
        "settings.json",
        "history.csv",
        "accuracy.csv",
        *(f"checkpoint-00000{step}.npz" for step in (2, 4)),
        "curves.png",
        "animation.gif",
        "finished",
        *(f"generated_plot_{step}.png" for step in ("0002", "0004")),
        *(f"g_model_{step}.keras" for step in ("0002", "0004")),
        *(f"c_model_{step}.keras" for step in ("0002", "0004")),
    }
    settings = json.loads((run / "settings.json").read_text())
    assert settings["seed"] == 3 and settings["options"]["batch"] == 100
    assert settings["versions"]["keras"] == keras.__version__
    _, y = load.load_arrays(small_data).train
    labelled = settings["labelled_images"]
    assert len(set(labelled)) == 100
    assert np.bincount(y[labelled]).tolist() == [10] * 10

    header, rows = read_table(run / "history.csv")
    assert header == ["step", *sgan_mnist.HISTORY]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert np.isfinite(np.array(rows, float)).all()


def test_the_recorded_accuracies_are_those_of_the_saved_models(tiny_run, small_data):
    run, printed = tiny_run
    header, rows = read_table(run / "accuracy.csv")
    assert header == ["epoch", "step", *LabelledRun.evaluations, "seconds"]
    assert [row[:2] for row in rows] == [["1", "2"], ["2", "4"]]
    c_model = keras.saving.load_model(run / "c_model_0004.keras")
    data = load.load_arrays(small_data)
    train, test = ((images.scale_images(x), y) for x, y in (data.train, data.test))
    labelled = json.loads((run / "settings.json").read_text())["labelled_images"]
    expected = [
        classify.measure_accuracy(c_model, *train),
        classify.measure_accuracy(c_model, *test),
        100
        - classify.measure_accuracy(c_model, train[0][labelled], train[1][labelled]),
    ]
    np.testing.assert_allclose(np.array(rows[-1][2:5], float), expected, atol=5e-4)
    assert f"Classifier Accuracy: {expected[0]:.3f}%" in printed


def test_the_sheet_is_the_saved_generators(tiny_run, tmp_path):
    run, _ = tiny_run
    sheet = np.asarray(Image.open(run / "generated_plot_0004.png"))
    assert sheet.shape == (560, 560)
    g_model = keras.saving.load_model(run / "g_model_0004.keras")
    # the labels are drawn first from the same generator
    rng = np.random.default_rng(3)
    for _ in range(10):
        rng.choice(np.arange(20), 10, replace=False)
    z = helpers.generate_latent_points(100, 100, rng)
    image = g_model.predict_on_batch(z)[12, ..., 0]
    shown = np.asarray(
        Image.open(run / "generated_plot_0004.png").resize((280, 280), Image.BOX)
    )[28:56, 56:84]
    assert np.abs(127.5 - 127.5 * image - shown).mean() < 8
    animation = Image.open(run / "animation.gif")
    assert animation.n_frames == 2


def test_a_sheet_is_grey_reversed_with_empty_cells_white(tmp_path):
    images = -np.ones((3, 28, 28, 1), np.float32)
    images[1] = 1
    pictures.save_sheet(images, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (112, 112)
    assert sheet[10, 10] == 255 and sheet[10, 80] == 0
    assert sheet[80, 10] == 255 and sheet[80, 80] == 255


def test_same_seed_same_bits(tiny_run, small_data, tmp_path):
    run, _ = tiny_run
    options = ["--data", small_data, "--batch", 100, "--epochs", 2, "--seed", 3]
    options += ["--out", tmp_path / "run"]
    assert sgan_mnist.main([str(option) for option in options]) == 0
    for name in ("history.csv", "generated_plot_0004.png"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes()
    for name in ("c_model_0004.keras", "g_model_0004.keras"):
        again = keras.saving.load_model(tmp_path / "run" / name).weights
        first = keras.saving.load_model(run / name).weights
        assert not any(moved(values(first), again))


@pytest.mark.parametrize("design", ["shared", "multi-output"])
def test_the_other_designs_run(design, small_data, tmp_path, capsys):
    options = ["--data", small_data, "--batch", 20, "--max-steps", 2, "--labels", 20]
    options += ["--discriminator", design, "--out", tmp_path / "run", "--verbose", 1]
    options += ["--format", "h5", "--latent-dim", 5]
    assert sgan_mnist.main([str(option) for option in options]) == 0
    printed = capsys.readouterr().out
    seed = json.loads((tmp_path / "run/settings.json").read_text())["seed"]
    assert f"\nseed={seed}\n" in printed
    assert "\r>1/2 [##########..........] c[" in printed and "0:00:00 left" in printed
    c_model = keras.saving.load_model(tmp_path / "run/c_model_0002.h5", compile=False)
    assert c_model.output_shape == (None, 11 if design == "multi-output" else 10)
    _, rows = read_table(tmp_path / "run" / "accuracy.csv")
    assert [row[:2] for row in rows] == [["0.2", "2"]]


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_saved_models_predict_the_same(suffix, dataset, tmp_path):
    g_model, _, c_model, _ = define_models()
    run = LabelledRun("sgan_mnist", RunSettings(out=str(tmp_path), format=suffix))
    sgan_mnist.summarize_performance(7, g_model, c_model, LATENT_DIM, dataset, run=run)
    z = helpers.generate_latent_points(LATENT_DIM, 5)
    for model, name, x in ((g_model, "g", z), (c_model, "c", dataset[0][:5])):
        path = tmp_path / f"{name}_model_0007.{suffix}"
        reloaded = keras.saving.load_model(path, compile=False)
        np.testing.assert_array_equal(
            reloaded.predict_on_batch(x), model.predict_on_batch(x)
        )


def test_a_loss_that_is_not_finite_stops_the_run(dataset, tmp_path):
    models = define_models()
    models[0].layers[-1].bias.assign([np.nan])
    with pytest.raises(records.DivergedError, match="step 1: d_loss_fake is nan"):
        run = LabelledRun("sgan_mnist", RunSettings(seed=1, out=str(tmp_path)))
        sgan_mnist.train(*models, dataset, LATENT_DIM, 1, 8, n_labels=20, run=run)
    _, rows = read_table(tmp_path / "history.csv")
    assert len(rows) == 1 and rows[0][4] == "nan"


def test_train_as_the_tutorial_calls_it(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = define_models()
    run = sgan_mnist.train(*models, dataset, LATENT_DIM, n_epochs=1, n_batch=200)
    assert (tmp_path / run / "c_model_0001.keras").exists()


def test_a_summary_as_the_tutorial_calls_it(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    g_model, _, c_model, _ = define_models()
    sgan_mnist.summarize_performance(0, g_model, c_model, LATENT_DIM, dataset, 4)
    names = "generated_plot_0000.png", "g_model_0000.keras", "c_model_0000.keras"
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    assert Image.open(names[0]).size == (112, 112)
    accuracy = classify.measure_accuracy(c_model, *dataset)
    assert capsys.readouterr().out == (
        f"Classifier Accuracy: {accuracy:.3f}%\n>Saved: {{}}, {{}}, and {{}}\n".format(
            *names
        )
    )


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "105"], "105 labels: can't be shared out evenly"),
        (["--labels", "0"], "0 labels: can't be shared out evenly"),
        (["--batch", "1"], "batch 1: must have 2 equal parts"),
        (["--batch", "7"], "batch 7: must have 2 equal parts"),
        (["--batch", "0"], "batch 0: must have 2 equal parts"),
        (["--batch", "202"], "batch 202: there are 200 images"),
        (["--epochs", "0"], "--epochs 0: must be 1 or more"),
        (["--latent-dim", "-1"], "--latent-dim -1: must be 1 or more"),
        (["--max-steps", "0"], "--max-steps 0: must be 1 or more"),
        (["--seed", "-1"], "--seed -1: must be from 0"),
        (["--data", "missing.npz"], "missing.npz: no such file"),
        (["--data", "broken.npz"], "broken.npz: can't be read"),
        (["--out", "full"], "full: holds files already"),
        (["--out", "broken.npz"], "broken.npz: can't be written"),
        (["--resume", "full"], "not the settings of a run"),
        (["--resume", "full", "--out", "x"], "leave out --out"),
        (["--epochs", "two"], "invalid int value"),
        (["--discriminator", "other"], "invalid choice"),
        (["--no-such-option"], "unrecognized arguments"),
    ],
)
def test_bad_input(options, message, small_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.npz").write_bytes(small_data.read_bytes()[:5000])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    if not {"--data", "--resume"}.intersection(options):
        options = [*options, "--data", str(small_data)]
    try:
        status = sgan_mnist.main(options)
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "full" / "file").read_text() == "kept"


def test_bad_input_is_told_before_tensorflow_starts(start, tmp_path):
    done = start("sgan_mnist.py", "--data", "gone.npz", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("sgan_mnist.py: gone.npz: no such file")
    assert done.stderr.count("\n") == 1
