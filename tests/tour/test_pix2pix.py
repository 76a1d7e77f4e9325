import json
import os
from functools import partial

import figures
import keras
import metrics
import numpy as np
import own_pictures
import pairs
import pytest
import tensorflow as tf
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from data_sets import save_image, write_folder
from gankit.training.batches import Draws, seed_generators
from parts import fails, moved, values
from tour_scripts import load_script

pix2pix = load_script("pix2pix")
SHAPE = (32, 32, 1)
N = 4


def tiny_models(seed=0, n_inputs=1, n_layers=1, shape=SHAPE):
    keras.utils.set_random_seed(seed)
    return (
        pix2pix.define_generator(shape, 1, width=0.05),
        pix2pix.define_discriminator(shape, n_inputs, n_layers, width=0.05),
    )


def random_images(n=20, seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def pairs_of(n=20):
    return [random_images(n), np.zeros(n, np.int64), random_images(n, 1)]


def draw_batch(seed=3):
    return pix2pix.define_draw(pairs_of(), N)(Draws(seed, tf.constant(0), 1))


def seed_dropout(model, seed=0):
    for i, generator in enumerate(seed_generators([model])):
        generator.state.assign([seed, i])


def of_kind(model, *names):
    return [layer for layer in model.layers if type(layer).__name__ in names]


def test_the_networks_have_the_authors_sizes():
    g_model, d_model = pix2pix.define_generator(), pix2pix.define_discriminator()
    assert (g_model.count_params(), d_model.count_params()) == (1_806_497, 35_105)
    assert g_model.output_shape == (None, *SHAPE)
    assert d_model.output_shape == (None, 14, 14, 1)
    # the paper's C64 to C512 at 256x256 pixels, a sixteenth as wide
    large = pix2pix.define_generator((256, 256, 3), 3, width=2 / 16)
    maps = [layer.filters for layer in of_kind(large, "Conv2D")]
    assert maps == [4, 8, 16, 32, 32, 32, 32, 32]
    maps = [layer.filters for layer in of_kind(large, "Conv2DTranspose")]
    assert maps == [32, 32, 32, 32, 16, 8, 4, 3]
    assert [pix2pix.count_levels((s, 96)) for s in (32, 96, 512)] == [5, 5, 5]
    assert pix2pix.count_levels((512, 512, 3)) == 8
    d_model = pix2pix.define_discriminator((256, 256, 3), 3, 3, width=2)
    assert d_model.output_shape == (None, 30, 30, 1)
    filters = [layer.filters for layer in of_kind(d_model, "Conv2D")]
    assert filters == [64, 128, 256, 512, 1]
    for layer in of_kind(g_model, "Conv2D", "Conv2DTranspose"):
        assert layer.kernel_size == (4, 4) and layer.strides == (2, 2)
    dropouts = of_kind(g_model, "Dropout")
    assert [layer.rate for layer in dropouts] == [0.5] * 3
    assert g_model.layers[-1].activation.__name__ == "tanh"


@pytest.mark.statement("PIX-1")
def test_an_image_goes_in_and_one_comes_out():
    g_model = pix2pix.define_generator((32, 64, 3), 1, width=0.05)
    assert g_model.input_shape == (None, 32, 64, 1)
    assert g_model.output_shape == (None, 32, 64, 3)
    for layer in of_kind(g_model, "Conv2D", "Conv2DTranspose"):
        layer.kernel.assign(10 * layer.kernel)  # else all is grey
    translator = pix2pix.define_translator(g_model)
    a, b = (random_images(2, seed, (32, 64, 1)) for seed in (0, 1))
    found = pix2pix.translate(translator, a)
    assert found.shape == (2, 32, 64, 3) and found.dtype == np.uint8
    assert not np.array_equal(found, pix2pix.translate(translator, b))


@pytest.mark.statement("PIX-2")
def test_each_skip_reaches_the_output():
    """With the decoder's way to a level cut, its encoder still has a gradient."""
    g_model, _ = tiny_models()
    joins = of_kind(g_model, "Concatenate")
    assert len(joins) == 4
    x = tf.constant(np.float32(random_images(2) / 127.5 - 1))
    for join in joins:
        decoded, skip = join.input
        assert decoded.shape == skip.shape
        cut = keras.Model(
            g_model.input,
            keras.Model([decoded, *others(joins, join)], g_model.output)(
                [keras.ops.zeros_like(decoded), *others(joins, join)]
            ),
        )
        encoder = [w for w in g_model.trainable_variables if w.path in before(skip)]
        with tf.GradientTape() as tape:
            out = tf.reduce_sum(tf.square(cut(x)))
        for gradient in tape.gradient(out, encoder):
            assert np.abs(gradient).max() > 0


def others(joins, join):
    """The skips of all joins from one on to the output."""
    return [other.input[1] for other in joins[joins.index(join) :]]


def before(tensor):
    """The paths of the weights that a tensor depends on."""
    model = tensor._keras_history.operation
    found, waiting = set(), [model]
    while waiting:
        layer = waiting.pop()
        found |= {weight.path for weight in layer.trainable_variables}
        for node in layer._inbound_nodes[:1]:
            waiting += [parent.operation for parent in node.parent_nodes]
    return found


@pytest.mark.statement("PIX-3")
@pytest.mark.parametrize(("n_layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_an_answer_sees_a_patch_of_the_image(n_layers, side):
    """Measured: where the gradient of one answer to the image is not 0."""
    shape = (96, 96, 1)
    _, d_model = tiny_models(n_layers=n_layers, shape=shape)
    inputs, X = tf.random.stateless_uniform((2, 1, *shape), (0, 0))
    with tf.GradientTape() as tape:
        tape.watch([inputs, X])
        answers = d_model([inputs, X], training=False)
        middle = answers.shape[1] // 2
        answer = answers[0, middle, middle, 0]
    for gradient in tape.gradient(answer, [inputs, X]):
        rows, columns = np.nonzero(np.abs(gradient[0, ..., 0]))
        assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == side
    assert pix2pix.receptive_field(n_layers) == side


@pytest.mark.parametrize(
    ("patch", "side", "n_layers"),
    [("auto", 32, 1), ("auto", 64, 2), ("auto", 96, 3), ("70", 32, 3), ("16", 96, 1)],
)
def test_the_patch_is_chosen_by_the_side(patch, side, n_layers):
    assert pix2pix.count_layers(patch, (side, 128, 3)) == n_layers


@pytest.mark.statement("PIX-4")
def test_the_discriminators_task_is_the_usual_one():
    """It moves by half of the cross-entropy of real pairs and generated ones."""
    ours, plain = tiny_models(), tiny_models()
    inputs, X_real = draw_batch()
    step = pix2pix.define_train_step(*ours)
    seed_dropout(ours[0])
    found = step(0, inputs, X_real)
    g_model, d_model = plain
    seed_dropout(g_model)
    fake = g_model(inputs, training=True)
    with tf.GradientTape() as tape:
        real_logits = d_model([inputs, X_real], training=True)
        fake_logits = d_model([inputs, fake], training=True)
        real_loss = tf.reduce_mean(tf.math.softplus(-real_logits))
        fake_loss = tf.reduce_mean(tf.math.softplus(fake_logits))
        loss = 0.5 * (real_loss + fake_loss)
    gradients = tape.gradient(loss, d_model.trainable_variables)
    assert np.allclose(found[:2], [real_loss, fake_loss], atol=1e-6)
    # half the loss moves the first moment by half as much; Adam's step is the same
    for gradient, moment in zip(gradients, ours[1].optimizer._momentums, strict=True):
        assert np.allclose(0.5 * gradient, moment, rtol=1e-3, atol=1e-7)


@pytest.mark.statement("PIX-5")
@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_the_generators_loss_has_a_distance(kind):
    X, X_real = np.float32([[0.5, -1]]), np.float32([[0, 1]])
    wanted = {"l1": (0.5 + 2) / 2, "l2": (0.25 + 4) / 2}[kind]
    assert float(pix2pix.distance_of(X, X_real, kind)) == wanted
    ours, plain = tiny_models(), tiny_models()
    inputs, X_real = draw_batch()
    step = pix2pix.define_train_step(*ours, distance=kind)
    seed_dropout(ours[0])
    *_, g_loss, far = step(0, inputs, X_real)
    g_model = plain[0]
    seed_dropout(g_model)
    with tf.GradientTape() as tape:
        fake = g_model(inputs, training=True)
        logits = ours[1]([inputs, fake], training=True)
        adversarial = tf.reduce_mean(tf.math.softplus(-logits))
        distance = tf.reduce_mean(tf.abs(fake - X_real) ** int(kind[1]))
        loss = adversarial + 100 * distance
    assert float(g_loss) == pytest.approx(float(adversarial), abs=1e-5)
    assert float(far) == pytest.approx(float(distance), abs=1e-6)
    gradients = tape.gradient(loss, g_model.trainable_variables)
    for gradient, moment in zip(gradients, ours[0].optimizer._momentums, strict=True):
        assert np.allclose(0.5 * gradient, moment, rtol=1e-3, atol=1e-5)


def test_the_weight_is_of_the_distance_alone():
    steps = {}
    for weight in (0.0, 100.0):
        models = tiny_models()
        seed_dropout(models[0])
        step = pix2pix.define_train_step(*models, distance_weight=weight)
        figures_ = step(0, *draw_batch())
        steps[weight] = np.array(figures_), values(models[0].trainable_variables)
    assert np.array_equal(steps[0.0][0], steps[100.0][0])
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(steps[0.0][1], steps[100.0][1], strict=True)
    )


@pytest.mark.parametrize("loss", ["l1", "gan", "cgan", "l1+gan", "l1+cgan"])
def test_what_each_loss_trains(loss):
    """d stays without an adversarial loss; without l1 the target does not matter."""
    settings = pix2pix.Settings(loss=loss, width=0.05)
    ends = []
    for scale in (1.0, -1.0):
        keras.utils.set_random_seed(0)
        g_model, d_model = pix2pix.define_models(settings, SHAPE, 1)
        step = pix2pix.define_train_step(g_model, d_model, loss)
        before = values(d_model.trainable_variables)
        seed_dropout(g_model)
        if loss in ("gan", "cgan"):  # else d's update brings the target in
            d_model.optimizer.learning_rate.assign(0.0)
        inputs, X_real = draw_batch()
        d_loss_real, d_loss_fake, g_loss, far = step(0, inputs, scale * X_real)
        assert float(far) > 0
        assert (float(d_loss_real) == float(g_loss) == 0) == (loss == "l1")
        if loss not in ("gan", "cgan"):
            assert any(moved(before, d_model.trainable_variables)) == (loss != "l1")
        ends.append(values(g_model.trainable_variables))
    same = all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))
    assert same == (loss in ("gan", "cgan"))
    assert len(d_model.inputs) == (2 if "cgan" in loss else 1)


def test_the_discriminator_tells_input_and_output_apart():
    _, d_model = tiny_models()
    inputs, X = draw_batch()
    assert not np.allclose(d_model([inputs, X]), d_model([X, inputs]))


@pytest.mark.parametrize("frozen", ["g", "d"])
def test_each_update_moves_its_own_weights(frozen, monkeypatch):
    models = tiny_models()
    real_update = pix2pix.update

    def update(network, *others):
        if network is not models[frozen == "d"]:
            real_update(network, *others)

    monkeypatch.setattr(pix2pix, "update", update)
    before = [values(model.trainable_variables) for model in models]
    pix2pix.define_train_step(*models)(0, *draw_batch())
    g_moved, d_moved = (
        moved(b, m.trainable_variables) for b, m in zip(before, models, strict=True)
    )
    assert (any(g_moved), any(d_moved)) == (frozen == "d", frozen == "g")


def test_a_batch_holds_pairs():
    X = random_images(50)
    inputs, outputs = pix2pix.define_draw([X, None, 255 - X], 30)(
        Draws(1, tf.constant(0), 1)
    )
    assert inputs.shape == (30, *SHAPE)
    assert np.allclose(inputs, -outputs, atol=1e-6)


def test_a_step_passes_dropout_once():
    """As train declares: with fewer passes counted, masks would repeat."""
    g_model, d_model = tiny_models()
    assert not seed_generators([d_model])
    seed_dropout(g_model)
    pix2pix.define_train_step(g_model, d_model)(0, *draw_batch())
    states = [generator.state.numpy()[1] for generator in seed_generators([g_model])]
    assert states == [i + 1 for i in range(3)]


def test_dropout_is_on_in_translation_and_follows_from_the_seed():
    g_model, _ = tiny_models()
    for layer in of_kind(g_model, "Conv2D", "Conv2DTranspose"):
        layer.kernel.assign(20 * layer.kernel)
    X = random_images(3)
    before = values(g_model.variables)
    translator = pix2pix.define_translator(g_model)
    one, again, other = (pix2pix.translate(translator, X, i) for i in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    # what is trained is untouched, moving statistics and the masks' states too
    assert not any(moved(before, g_model.variables))


def test_translation_takes_each_images_own_statistics():
    """As the network itself does in training with a batch of one, up to rounding."""
    g_model, _ = tiny_models()
    for layer in of_kind(g_model, "Dropout"):
        layer.rate = 0.0
    rng = np.random.default_rng(0)
    for layer in of_kind(g_model, "BatchNormalization"):
        layer.beta.assign(rng.normal(0, 0.5, layer.beta.shape))
    for layer in of_kind(g_model, "Conv2D", "Conv2DTranspose"):
        layer.kernel.assign(5 * layer.kernel)
    X = random_images(3)
    found = pix2pix.translate(pix2pix.define_translator(g_model), X)
    for image, translated in zip(X, found, strict=True):
        alone = g_model(np.float32(image[np.newaxis] / 127.5 - 1), training=True)
        wanted = np.rint(127.5 * (np.array(alone) + 1))
        assert np.abs(wanted[0] - translated).max() <= 1
    assert np.std(found) > 5


def test_samples_are_translations_of_inputs():
    g_model, _ = tiny_models()
    seen = []
    pairs = pairs_of(5)
    sample = pix2pix.define_sample(g_model, pairs)
    assert sample(7, np.random.default_rng(0), None).shape == (7, *SHAPE)
    images, in_a_row = pix2pix.draw_rows(g_model, pairs, np.random.default_rng(0))
    assert in_a_row == 10 and len(images) == 90
    rows = images.reshape(9, 10, *SHAPE)
    for block in range(3):
        for shown, truth in zip(rows[3 * block], rows[3 * block + 2], strict=True):
            place = [np.array_equal(truth, X) for X in pairs[0]].index(True)
            assert np.array_equal(shown, pairs[2][place])
            seen.append(place)
    assert sorted(seen) == sorted(list(range(5)) * 6)


def test_the_figures_of_translations():
    pairs = pairs_of(6)
    run = pix2pix.GanRun("pix2pix", pix2pix.Settings(measured=4))
    run.real, run.test, run.border = pairs[0], pairs, (2, 2)
    chosen = figures.some_of(pairs[0], 4)

    def translate(inputs):
        assert np.array_equal(inputs, pairs[2][chosen])
        return np.zeros_like(inputs)

    inner = pairs[0][chosen, 2:-2, 2:-2]
    found = figures.measure_translation(translate, run)
    assert found["l1"] == pytest.approx(100 * inner.mean() / 255)
    wanted = peak_signal_noise_ratio(inner, np.zeros_like(inner), data_range=255)
    assert found["psnr"] == pytest.approx(wanted)
    assert set(found) == {"l1", "psnr"}
    # nothing is wrong: no ratio
    assert figures.measure_translation(lambda _: pairs[0][chosen], run) == {"l1": 0}
    run.judge = metrics.load_judge()
    found = figures.measure_translation(translate, run)
    assert found["agreement"] in (0, 100)  # all are alike, and labels too
    run.test = [pairs[0], np.full(6, -1), pairs[2]]
    assert set(figures.measure_translation(translate, run)) == {"l1", "psnr"}
    run.test = None
    assert figures.measure_translation(translate, run) == {}


# --translate


TINY = ["--width", 0.05, "--threads", 1, "--precision", "float32", "--verbose", 0]
TINY += ["--batch", 4, "--steps", 1, "--measured", 6, "--seed", 1]


def run(*arguments):
    return pix2pix.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def edges_run(tmp_path_factory, precision_of_module):
    out = tmp_path_factory.mktemp("edges") / "run"
    data = write_folder(out.parent / "data", (32, 32, 3), n=3, tests=2)
    assert run(*TINY, "--data", data, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def precision_of_module():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def pictures(tmp_path):
    """A colour picture, one of another size, and a grey one."""
    rng = np.random.default_rng(0)
    shapes = {"a.png": (32, 32, 3), "b.png": (20, 45, 3), "c.png": (70, 33)}
    for name, shape in shapes.items():
        save_image(tmp_path / name, rng.integers(0, 256, shape, np.uint8))
    return [tmp_path / name for name in shapes]


def read(path):
    with Image.open(path) as image:
        return np.array(image)


def test_a_picture_is_translated_alone_as_among_others(edges_run, pictures, capsys):
    folder = pictures[0].parent
    sampled = ("--sample", edges_run, "--threads", 1, "--translate")
    capsys.readouterr()
    assert run(*sampled, *pictures) == 0
    lines = capsys.readouterr().out.splitlines()
    results = [path.with_name(f"{path.stem}-translated.png") for path in pictures]
    assert lines == [f"{path}: written" for path in results]
    assert [read(path).shape for path in results] == [
        (32, 32, 3),
        (20, 45, 3),
        (70, 33, 3),
    ]
    for path, result in zip(pictures, results, strict=True):
        alone = folder / f"alone {path.stem}"
        assert run(*sampled, path, "--out", alone) == 0
        assert (alone / result.name).read_bytes() == result.read_bytes()
        assert [file.name for file in alone.iterdir()] == [result.name]
    # another seed is another mask, of which three steps show little
    assert run(*sampled, pictures[0], "--seed", 0, "--out", folder / "0") == 0
    assert (folder / "0" / "a-translated.png").read_bytes() == results[0].read_bytes()


def test_edges_are_made_of_a_picture_or_given(edges_run, pictures, tmp_path):
    sampled = ("--sample", edges_run, "--threads", 1)
    path = pictures[1]
    assert run(*sampled, "--translate", path, "--edges", "--out", tmp_path / "1") == 0
    of_it = pairs.edges(read(path)[np.newaxis])[0, ..., 0]
    save_image(tmp_path / "2" / path.name, of_it)
    edges = tmp_path / "2" / path.name
    assert run(*sampled, "--translate", edges) == 0
    name = f"{path.stem}-translated.png"
    assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_pairs_are_trained_on_and_translated(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for i in range(4):
        for folder in "ab":
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            save_image(tmp_path / folder / f"{i}.png", pixels)
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "out"
    assert run(*TINY, "--pairs", a, b, "--out", out) == 0
    described = json.loads((out / "settings.json").read_text())
    assert described["options"]["pairs"] == [str(a), str(b)]
    assert "class_names" not in described and described["n_classes"] == 1
    # no judge knows them, and nobody asked for one
    assert json.loads((out / "figures.json").read_text())["judge_fid"] is None
    assert run("--sample", out, "--n", 4, "--out", tmp_path / "drawn") == 0
    with np.load(tmp_path / "drawn" / "samples.npz") as samples:
        assert samples["x_train"].shape == (4, 32, 32, 3)
    assert (tmp_path / "drawn" / "translated.png").is_file()
    sampled = ("--sample", out, "--translate", a / "0.png")
    assert run(*sampled, "--out", tmp_path / "translated") == 0
    assert read(tmp_path / "translated" / "0-translated.png").shape == (32, 32, 3)
    assert run(*sampled, "--edges") == 2
    assert "was trained on pairs, not on edges" in capsys.readouterr().err
    save_image(a / "0.png", np.zeros((32, 32, 3), np.uint8))
    assert run("--resume", out, "--steps", 2, "--verbose", 0) == 2
    assert "data_sha256" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--pairs", "a"), "--pairs a: takes two folders"),
        (("--pairs", "a", "b", "c"), "--pairs a b c: takes two folders"),
        (("--pairs", "a", "b"), "a: no such folder"),
        (("--side-by-side", "a"), "a: no such folder"),
        (("--pairs", "a", "b", "--data", "c"), "--data and --pairs: give one"),
        (("--pairs", "a", "b", "--side-by-side", "c"), "give one of them"),
        (("--direction", "BtoA"), "--direction: is for --pairs or --side-by-side"),
        (("--loss", "cgan", "--distance", "l2"), "--loss cgan has no distance"),
        (("--loss", "gan", "--distance-weight", 1), "--loss gan has no distance"),
        (("--loss", "l1", "--patch", "16"), "--loss l1 has no discriminator"),
        (("--distance-weight", -1), "--distance-weight -1.0: must be from 0"),
        (("--translate", "a.png"), "--translate: is for --sample RUN"),
        (("--edges", "--sample", "missing"), "--edges: is for --translate"),
        (("--sample", "missing", "--translate", "a", "--n", 5), "--n: is for samples"),
        (("--sample", "missing", "--translate", "a.png"), "missing"),
        (("--sample", "missing", "--loss", "l1"), "--loss: is for training"),
    ],
)
def test_bad_input_is_refused(options, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert problem in fails(pix2pix, capsys, *options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--loss", "--distance", "--patch", "--direction"])
def test_choices_that_are_none_are_refused(option, capsys):
    with pytest.raises(SystemExit) as end:
        run(option, "other")
    assert end.value.code == 2 and "invalid choice: 'other'" in capsys.readouterr().err


def test_pictures_that_cannot_be_translated(edges_run, tmp_path, capsys, monkeypatch):
    refuse = partial(fails, pix2pix, capsys, "--sample", edges_run, "--threads", 1)
    out = ("--out", tmp_path / "out", "--translate")
    capsys.readouterr()
    assert "no such file" in refuse(*out, tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("text")
    assert "not a PNG or JPEG" in refuse(*out, tmp_path / "text.png")
    os.remove(tmp_path / "text.png")
    save_image(tmp_path / "a.png", np.zeros((40, 8), np.uint8))
    monkeypatch.setattr(own_pictures, "LARGEST_TRANSLATED", 40 * 8 - 1)
    assert "a.png: has 8 x 40 pixels" in refuse(*out, tmp_path / "a.png")
    monkeypatch.undo()
    save_image(tmp_path / "a-translated.png", np.zeros((4, 4), np.uint8))
    assert "is there already" in refuse("--translate", tmp_path / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a-translated.png",
        "a.png",
    ]
