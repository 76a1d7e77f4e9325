import json
import shutil

import captions
import common
import keras
import numpy as np
import pytest
import stackgan
import tensorflow as tf
from PIL import Image

from data_sets import save_image
from gankit.data.arrays import Data
from gankit.training import loop
from gankit.training.batches import Draws
from parts import fails, moved, read_csv, refused, values

SHAPE = (8, 8, 1)
WIDTH, N_TEXT, N_CODE = 0.05, 3, 6
NAMES = ["cat", "dog", "owl"]


def data_of(n=60, seed=0):
    """Images whose first pixel tells their number, of three classes."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 256, (n, *SHAPE), np.uint8)
    X[:, 2:6, 3:5] = rng.integers(0, 256, (n, 1, 1, 1))
    X[:, 0, 0, 0] = np.arange(n)
    return Data([X, np.arange(n) % 3], None, 3, NAMES)


def tiny(seed=0):
    """The captions of data_of, and models for them as train takes them."""
    keras.utils.set_random_seed(seed)
    found = captions.caption_classes(data_of(), "classes")
    settings = stackgan.Settings(width=WIDTH, latent_dim=4)
    return found, *stackgan.define_models(settings, SHAPE, 3, captions=found)


def draw_batch(found, n=8, step=0):
    draw = stackgan.define_draw(data_of().train, 4, n, N_CODE, found)
    return draw(Draws(3, tf.constant(step), 5))


def stages_of(g_model):
    return [g_model.get_layer(name) for name in ("text_encoder", "stage1", "stage2")]


def random(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.standard_normal(shape), tf.float32)


@pytest.mark.statement("STACK-1")
def test_a_stack_makes_images_from_text():
    found = captions.caption_classes(data_of(), "classes")
    g_model, (d1, d2), pairing = stackgan.define_models(
        stackgan.Settings(), (32, 32, 1), 3, captions=found
    )
    text_encoder, stage1, stage2 = stages_of(g_model)
    assert text_encoder.count_params() == 32 * found.n_words + 18_816
    assert [m.count_params() for m in (stage1, d1, stage2, d2)] == [
        319_265,
        55_457,
        332_689,
        191_137,
    ]
    assert g_model.count_params() == sum(
        model.count_params() for model in stages_of(g_model)
    )
    assert stage1.output_shape[0] == (None, 16, 16, 1)
    assert g_model.output_shape == (None, 32, 32, 1)
    assert pairing.output_shape == [(None, 64), (None, 64)]
    # all that is not text is the same: the text alone makes the difference
    tokens = tf.constant(found.read(["a dark cat", "a pale owl", "a dark cat"]))
    inputs = [tf.tile(random(1, size, seed=size), (3, 1)) for size in (100, 128, 128)]
    a, b, again = np.array(g_model([tokens, *inputs]))
    np.testing.assert_array_equal(a, again)
    assert not np.allclose(a, b, atol=1e-6)


@pytest.mark.statement("STACK-2")
def test_stage_1_makes_a_small_image_of_the_text():
    _, g_model, *_ = tiny()
    _, stage1, _ = stages_of(g_model)
    noise = tf.zeros((2, N_CODE))
    images, *_ = stage1([tf.zeros((2, 4)), 100 * random(2, N_TEXT), noise])
    assert images.shape == (2, 4, 4, 1)
    assert not np.allclose(images[0], images[1], atol=1e-7)


@pytest.mark.statement("STACK-3")
def test_stage_2_depends_on_stage_1s_image_and_again_on_the_text():
    _, g_model, *_ = tiny()
    *_, stage2 = stages_of(g_model)
    image, text, noise = random(1, 4, 4, 1), random(1, N_TEXT), random(1, N_CODE)
    as_it_is, *_ = stage2([image, text, noise])
    assert as_it_is.shape == (1, *SHAPE)
    for changed in ([10 * image, text, noise], [image, 100 * text, noise]):
        images, *_ = stage2(changed)
        assert not np.allclose(images, as_it_is, atol=1e-7)


@pytest.mark.statement("STACK-4")
def test_stage_2_is_trained_by_the_text_anew():
    """Its discriminator sees the text, and by it the text's own layers learn."""
    _, g_model, (_, d_model), _ = tiny()
    *_, stage2 = stages_of(g_model)
    image, text, noise = random(4, 4, 4, 1), random(4, N_TEXT), random(4, N_CODE)
    X = random(4, *SHAPE)
    logits = d_model([X, text])
    assert not np.allclose(logits, d_model([X, text[::-1]]), atol=1e-7)
    with tf.GradientTape() as tape:
        images, *_ = stage2([image, text, noise], training=True)
        loss = tf.reduce_sum(d_model([images, text], training=True) ** 2)
    kernels = [
        layer.kernel.value
        for model in stage2.layers
        if isinstance(model, keras.Model)
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense)
    ]
    assert len(kernels) == 2
    for gradient in tape.gradient(loss, kernels):
        assert np.abs(gradient).max() > 0


def test_what_a_text_stands_for_is_a_normal_distribution():
    model = stackgan.define_augmentation(N_TEXT, 5)
    text, noise = random(6, N_TEXT), random(6, 5, seed=1)
    c, mu, log_sigma = model([text, noise])
    np.testing.assert_allclose(c, mu + np.exp(log_sigma) * noise, atol=1e-6)
    np.testing.assert_array_equal(model([text, tf.zeros((6, 5))])[0], mu)
    # two layers of their own
    assert not np.allclose(mu, log_sigma)


@pytest.mark.parametrize(("mu", "log_sigma"), [(0.0, 0.0), (0.7, -0.4), (-1.2, 0.3)])
def test_the_divergence_is_the_integral(mu, log_sigma):
    x = np.linspace(-15, 15, 30_001)
    sigma = np.exp(log_sigma)
    log_p = -0.5 * ((x - mu) / sigma) ** 2 - log_sigma
    log_q = -0.5 * x**2
    p = np.exp(log_p) / np.sqrt(2 * np.pi)
    integral = np.trapezoid(p * (log_p - log_q), x)
    found = stackgan.divergence(tf.fill((3, 2), mu), tf.fill((3, 2), log_sigma))
    assert float(found) == pytest.approx(integral, abs=1e-6)


def test_wrong_images_never_fit_the_caption():
    found = captions.caption_classes(data_of(), "classes")
    data, seen = data_of().train[0], set()
    for step in range(40):
        X_real, X_wrong, tokens, fits, z, noise = map(
            np.array, draw_batch(found, step=step)
        )
        assert z.shape == (8, 4) and noise.shape == (8, 2, N_CODE)
        said = [found.wording.parse(text) for text in texts_of(found, tokens)]
        real, wrong = (
            np.rint(127.5 * (X[:, 0, 0, 0] + 1)).astype(int) for X in (X_real, X_wrong)
        )
        np.testing.assert_allclose(X_wrong, common.scale_images(data[wrong]))
        for i, asked in enumerate(np.array(said)):

            def fitting(numbers, asked=asked):
                of_image = found.values[found.group_of[numbers]]
                return ((asked < 0) | (asked == of_image)).all(axis=1)

            np.testing.assert_array_equal(fits[i], fitting(real))
            assert fits[i, i] and not fitting(wrong)[i]
        seen |= set(wrong)
    assert len(seen) == 60


def texts_of(found, tokens):
    words = np.array(["", "?", *found.words])
    return [" ".join(words[row[row > 0]]) for row in tokens]


def test_wrong_images_are_drawn_evenly(monkeypatch):
    """A caption of a class alone: each image of the others with the same chance."""
    monkeypatch.setattr(
        captions, "make_texts", lambda _, values: [[NAMES[v[0]]] for v in values]
    )
    found = captions.caption_classes(data_of(), "classes")
    counts = np.zeros(60)
    draw = stackgan.define_draw(data_of().train, 4, 50, N_CODE, found)
    for step in range(120):
        X_real, X_wrong, *_ = draw(Draws(0, tf.constant(step), 5))
        wrong = np.rint(127.5 * (np.array(X_wrong)[:, 0, 0, 0] + 1)).astype(int)
        np.add.at(counts, wrong, 1)
    # 100 of each are expected
    assert counts.min() > 60 and counts.max() < 140


def test_a_step_is_an_update_of_each_by_plain_calls():
    for stage in (1, 2):
        found, g_model, d_models, _ = tiny()
        _, g_plain, d_plains, _ = tiny()
        batch = draw_batch(found)
        text_encoder, *generators = stages_of(g_model)
        below = None if stage == 1 else generators[0]
        models = generators[stage - 1], d_models[stage - 1]
        figures = stackgan.define_train_step(*models, text_encoder, below)(0, *batch)

        X_real, X_wrong, tokens, _, z, noise = batch
        encoder, *generators = stages_of(g_plain)
        plain = generators[stage - 1], d_plains[stage - 1]
        text, given = encoder(tokens), z
        if stage == 2:
            given, *_ = generators[0]([z, text, noise[:, 0]], training=False)
        else:
            X_real, X_wrong = (
                tf.constant(np.array(X).reshape(8, 4, 2, 4, 2, 1).mean(axis=(2, 4)))
                for X in (X_real, X_wrong)
            )

        def losses(X, target, text=text, d=plain[1]):
            logits = d([X, text], training=True)
            return tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(
                    target * tf.ones_like(logits), logits
                )
            )

        g, d = plain
        before = values(g.variables)
        X_fake, *_ = g([given, text, noise[:, stage - 1]], training=True)
        for variable, value in zip(g.variables, before, strict=True):
            variable.assign(value)
        with tf.GradientTape() as tape:
            parts = [losses(X_real, 1.0), losses(X_wrong, 0.0), losses(X_fake, 0.0)]
            loss = parts[0] + 0.5 * parts[1] + 0.5 * parts[2]
        weights = d.trainable_variables
        d.optimizer.apply(tape.gradient(loss, weights), weights)
        with tf.GradientTape() as tape:
            X_fake, mu, log_sigma = g([given, text, noise[:, stage - 1]], training=True)
            g_loss = losses(X_fake, 1.0)
            kl = stackgan.divergence(mu, log_sigma)
            loss = g_loss + 2 * kl
        weights = g.trainable_variables
        g.optimizer.apply(tape.gradient(loss, weights), weights)

        expected = [0.0, *parts, g_loss, kl]
        np.testing.assert_allclose(figures, expected, atol=1e-6)
        for model, other in zip(models, plain, strict=True):
            for a, b in zip(model.variables, other.variables, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6)


def test_what_was_trained_before_stays():
    found, g_model, d_models, pairing = tiny()
    text_encoder, *generators = stages_of(g_model)
    trained = [pairing, *generators, *d_models]
    steps = [
        stackgan.define_text_step(pairing),
        stackgan.define_train_step(generators[0], d_models[0], text_encoder),
        stackgan.define_train_step(
            generators[1], d_models[1], text_encoder, generators[0]
        ),
    ]
    for step, moving in zip(steps, ([0], [1, 3], [2, 4]), strict=True):
        before = [values(model.variables) for model in trained]
        step(0, *draw_batch(found))
        for i, model in enumerate(trained):
            found_moved = moved(before[i], model.variables)
            assert any(found_moved) if i in moving else not any(found_moved)


def test_texts_and_images_that_fit_come_together():
    """The loss by hand, and that it falls."""
    found, _, _, pairing = tiny()
    batch = draw_batch(found)
    X_real, _, tokens, fits, *_ = map(np.array, batch)
    text, image = (np.array(code) for code in pairing([tokens, X_real]))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    logits, losses = text @ image.T / stackgan.TEMPERATURE, []
    for scores, targets in ((logits, fits), (logits.T, fits.T)):
        for row, fitting in zip(scores, targets, strict=True):
            likely = row - np.log(np.exp(row).sum())
            losses.append(-likely[fitting].mean())
    step = tf.function(stackgan.define_text_step(pairing))
    loss, *others = step(0, *batch)
    assert float(loss) == pytest.approx(np.mean(losses), abs=1e-5)
    assert set(map(float, others)) == {0.0}
    for _ in range(60):
        later, *_ = step(0, *batch)
    assert float(later) < 0.9 * float(loss)


@pytest.mark.parametrize(
    ("n_steps", "text_steps", "share", "starts"),
    [
        (9500, 500, 0.45, (0, 500, 4550)),
        (3, 500, 0.45, (0, 1, 2)),
        (2, 500, 0.45, (0, 0, 1)),
        (1, 500, 0.45, (0, 0, 0)),
        (30, 0, 0.0, (0, 0, 0)),
        (30, 500, 0.9, (0, 10, 28)),
    ],
)
def test_phases_share_the_steps(n_steps, text_steps, share, starts):
    assert stackgan.plan_phases(n_steps, text_steps, share) == starts


def test_stage_1s_images_are_means_of_four_pixels():
    X = random(2, *SHAPE)
    small = stackgan.shrink(X, (4, 4, 1))
    np.testing.assert_allclose(small[1, 3, 0], np.mean(X[1, 6:, :2]), atol=1e-6)
    assert stackgan.shrink(X, SHAPE) is X


def test_images_are_enlarged():
    images = np.uint8([[[[0], [100]], [[0], [100]]]])
    found = stackgan.enlarge(np.repeat(images, 501, axis=0))
    assert found.shape == (501, 4, 4, 1) and found.dtype == np.uint8
    assert found[500, 2, :, 0].tolist() == [0, 25, 75, 100]
    nearest = stackgan.enlarge(images, "nearest")
    assert nearest[0, 1, :, 0].tolist() == [0, 0, 100, 100]


def test_in_bfloat16_images_and_logits_are_float32(precision):
    precision("mixed_bfloat16")
    found, g_model, d_models, pairing = tiny()
    _, stage1, stage2 = stages_of(g_model)
    text = random(2, N_TEXT)
    low, *codes = stage1([tf.zeros((2, 4)), text, tf.zeros((2, N_CODE))])
    high, *more = stage2([low, text, tf.zeros((2, N_CODE))])
    logits = [
        d([images, text]) for d, images in zip(d_models, (low, high), strict=True)
    ]
    both = pairing([tf.constant(found.tokens[:2]), tf.zeros((2, *SHAPE))])
    for tensor in (low, high, *codes, *more, *logits, *both):
        assert tensor.dtype == tf.float32


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """An .npz file of tiny images of three classes."""
    path = tmp_path_factory.mktemp("data") / "data.npz"
    X, y = data_of().train
    np.savez(path, x_train=X, y_train=y, class_names=np.array(NAMES))
    return path


def options_of(data, out, *more):
    options = ("--data", data, "--out", out, "--seed", 5, "--threads", 1)
    options += ("--verbose", 0, "--width", WIDTH, "--latent-dim", 4, "--batch", 8)
    options += ("--measured", 20, "--precision", "float32", *more)
    return [str(option) for option in options]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The folder of a run of three steps, one a phase."""
    out = tmp_path_factory.mktemp("a run") / "run"
    assert stackgan.main(options_of(data, out, "--steps", 3)) == 0
    return out


def test_all_that_a_step_depends_on_is_saved(monkeypatch):
    """From the middle of each phase, what was saved there leads to equal bits."""
    found, *models = tiny()
    settings = stackgan.Settings(seed=5, width=WIDTH, measured=20)
    run, caught = common.GanRun("stackgan", settings, data=data_of()), []
    monkeypatch.setattr(run, "make", lambda steps, *_, **others: caught.append(steps))
    monkeypatch.setattr(run, "conclude", lambda *_: None)
    dataset = data_of().train
    stackgan.train(*models, dataset, 4, 6, 8, captions=found, run=run)
    (steps,) = caught
    kept, figures = {}, []
    for step in range(6):
        kept[step] = values(steps.state)
        figures.append(np.array(steps(step, 1)))
    last = values(steps.state)
    # samples are drawn from the first ones
    g_model, _, _ = models
    for a, b in zip(g_model.variables, steps.state, strict=False):
        assert a is b
    for middle in (1, 3, 5):
        for variable, value in zip(steps.state, kept[middle], strict=True):
            variable.assign(value)
        again = np.array(steps(middle, 6 - middle))
        np.testing.assert_array_equal(again, np.concatenate(figures[middle:]))
        assert not any(moved(last, steps.state))


def test_a_run_has_its_phases_figures_and_captions(finished):
    history = read_csv(finished / "history.csv")
    for i, row in enumerate(history):
        text_loss, *others = (float(row[name]) for name in stackgan.HISTORY)
        assert (text_loss > 0) == (i == 0)
        assert all(other > 0 for other in others) if i else not any(others)
    figures = json.loads((finished / "figures.json").read_text())
    # without a judge there is no class to be seen, nor a judge-FID
    for name in ("darkness", "breadth"):
        for stage in ("", "stage1_"):
            assert 0 <= figures[f"{stage}asked_{name}"] <= 100
    assert "asked_class" not in figures and "stage1_judge_fid" not in figures
    assert set(figures["parameters"]) == {"g", "text", "g1", "d1", "g2", "d2"}
    settings = json.loads((finished / "settings.json").read_text())
    assert settings["captions"]["kind"] == "classes"
    g_model = keras.saving.load_model(finished / "g_model_0003.keras")
    assert g_model.output_shape == (None, *SHAPE)


def draw(run, out, *more):
    options = ("--sample", run, "--out", out, "--seed", 4, "--threads", 1, *more)
    return stackgan.main([str(option) for option in options])


def test_a_caption_is_drawn_from_the_runs_folder_alone(finished, tmp_path, capsys):
    run = tmp_path / "moved"
    shutil.copytree(finished, run)
    settings = json.loads((run / "settings.json").read_text())
    settings["options"]["data"] = str(tmp_path / "gone.npz")
    (run / "settings.json").write_text(json.dumps(settings))
    drawn = []
    for name, text in (("a", "a dark CAT!"), ("b", "a dark cat")):
        assert draw(run, tmp_path / name, "--say", text, "--n", 12) == 0
        with np.load(tmp_path / name / "samples.npz") as samples:
            drawn.append(samples["x_train"])
            assert set(samples["y_train"]) == {-1}
    assert drawn[0].shape == (12, *SHAPE)
    np.testing.assert_array_equal(*drawn)
    with Image.open(tmp_path / "a" / "stages.png") as sheet:
        assert sheet.width % 10 == 0
    assert "12 images of step 3" in capsys.readouterr().out


def test_a_sheet_has_both_stages_side_by_side():
    found, g_model, *_ = tiny()
    sheets = stackgan.draw_stages(
        g_model,
        4,
        np.random.default_rng(0),
        captions=found,
        said="a dark cat",
        n=3,
        border=(0, 2),
    )
    images, in_a_row = sheets["stages.png"]
    assert images.shape == (6, 8, 4, 1) and in_a_row == 10
    sample = stackgan.define_sample(g_model, 4, captions=found, said="a dark cat")
    seed = np.random.default_rng(0).integers(2**31)
    low = sample(3, np.random.default_rng(seed), stage=1)
    high = sample(3, np.random.default_rng(seed))
    np.testing.assert_array_equal(images[1::2], high[:, :, 2:6])
    np.testing.assert_array_equal(images[::2, ::2, ::2], low[:, :, 1:3])
    # the second stage's input is the first's output
    tokens = tf.constant(found.read(["a dark cat"] * 3))
    rng = np.random.default_rng(seed)
    z = tf.constant(rng.standard_normal((3, 4), np.float32))
    noise, noise2 = tf.constant(rng.standard_normal((2, 3, N_CODE), np.float32))
    text_encoder, stage1, stage2 = stages_of(g_model)
    text = text_encoder(tokens)
    image, *_ = stage1([z, text, noise])
    image, *_ = stage2([image, text, noise2])
    np.testing.assert_array_equal(high, common.to_bytes(np.array(image)))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--say", "a purple cat"), "--say purple: no word of the captions; known are"),
        (("--say", "?!"), "--say: has 0 words; give from 1 to 16"),
        (("--say", "a cat " * 9), "--say: has 18 words; give from 1 to 16"),
        (("--say", ""), "--say '': holds an empty name"),
        (("--stage1-share", 0.5), "--stage1-share: is for training"),
    ],
)
def test_bad_input_beside_sample(options, problem, finished, tmp_path, capsys):
    more = ("--sample", finished, "--out", tmp_path / "out", *options)
    assert problem in fails(stackgan, capsys, *more)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--say", "a cat"), "--say: is for --sample RUN; leave it out without"),
        (("--text-steps", -1), "--text-steps -1: must be 0 or more"),
        (("--stage1-share", 1), "--stage1-share 1.0: must be from 0.0 to 0.9"),
        (("--captions", "files"), "no text lies beside a picture of --data"),
        (("--captions", "digits"), "--captions digits: the data have 3 classes"),
    ],
)
def test_bad_input_in_training(options, problem, data, tmp_path, capsys):
    assert problem in fails(
        stackgan,
        capsys,
        "--data",
        data,
        "--out",
        tmp_path / "out",
        "--batch",
        8,
        *options,
    )
    assert not (tmp_path / "out").exists()


def test_a_resumed_run_keeps_its_phases_and_captions(finished, tmp_path, capsys):
    line = fails(stackgan, capsys, "--resume", finished, "--steps", 12)
    assert "was started with steps 3, not 12" in line
    for option, value in (("--text-steps", 1), ("--stage1-share", 0.25)):
        line = fails(stackgan, capsys, "--resume", finished, option, value)
        assert "was started with" in line


def test_pictures_with_texts_are_trained_on(tmp_path):
    """Colour, sides that are no multiples of 8, no classes, test pictures."""
    folder, rng = tmp_path / "birds", np.random.default_rng(0)
    for i in range(12):
        path = folder / f"{i}.png"
        save_image(path, rng.integers(0, 256, (12, 20, 3), np.uint8))
        text = f"a {('red', 'blue', 'green')[i % 3]} bird\nit is number {i % 3}"
        path.with_suffix(".txt").write_text(text)
    out = tmp_path / "run"
    assert stackgan.main(options_of(folder, out, "--steps", 1)) == 0
    described = json.loads((out / "settings.json").read_text())
    assert described["image_shape"] == [16, 24, 3] and described["border"] == [2, 2]
    assert described["captions"]["counts"] == [4, 4, 4]
    # asked for no classes
    (row,) = read_csv(out / "measures.csv")
    assert "agreement" not in row and row["total_variation"] != ""
    # the texts are a part of the data: a green bird was red before
    (folder / "3.txt").write_text("a green bird")
    settings = stackgan.Settings.resumed(out)
    _, found = stackgan.load(settings)
    now = {**described, "captions": captions.shorten(found.plain)}
    line = refused(loop.check_same, out, described, now)
    assert "was started with another captions" in line
    assert described["captions"]["words"] == now["captions"]["words"]
    found = captions.read_captions(out)
    assert found.draw(5, rng, np.zeros(5, int)).max() < found.size.sum()
