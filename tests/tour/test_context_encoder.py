import json

import context_encoder
import figures
import keras
import metrics
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_sets import write_folder
from gankit.data.images import scale_images
from gankit.training.batches import Draws
from parts import fails, moved, values

SHAPE = (16, 16, 1)
by_holes = pytest.mark.parametrize("holes", context_encoder.HOLES)


def tiny_models(holes="centre", shape=SHAPE, seed=0):
    keras.utils.set_random_seed(seed)
    g_model = context_encoder.define_generator(shape, holes=holes, width=0.05)
    d_model = context_encoder.define_discriminator(g_model.output_shape[1:], width=0.05)
    return g_model, d_model


def draw_batch(g_model, n=6, seed=3):
    shape = g_model.input_shape[1:]
    X = np.random.default_rng(0).integers(0, 256, (20, *shape), np.uint8)
    draw = context_encoder.define_draw([X, None], g_model, n)
    return draw(Draws(seed, tf.constant(0), 2))


def of_kind(model, *names):
    return [layer for layer in model.layers if type(layer).__name__ in names]


@pytest.mark.statement("CTX-1")
def test_an_encoder_and_a_decoder():
    g_model = context_encoder.define_generator()
    d_model = context_encoder.define_discriminator()
    assert (g_model.count_params(), d_model.count_params()) == (2_397_217, 34_593)
    assert g_model.output_shape == (None, 16, 16, 1)
    encoder = of_kind(g_model, "Conv2D")
    assert [layer.output.shape[1:] for layer in encoder] == [
        (16, 16, 32),
        (8, 8, 64),
        (4, 4, 128),
    ]
    # the code's units see all of the image
    assert [layer.units for layer in of_kind(g_model, "Dense")] == [512, 4 * 4 * 128]
    decoder = of_kind(g_model, "Conv2DTranspose")
    assert [layer.output.shape[1:] for layer in decoder] == [(8, 8, 64), (16, 16, 1)]
    assert g_model.layers[-1].activation.__name__ == "tanh"
    assert [layer.filters for layer in of_kind(d_model, "Conv2D")] == [32, 64]


@by_holes
@pytest.mark.parametrize("shape", [(8, 8, 3), (24, 40, 1), (80, 96, 3)])
def test_images_of_other_sizes(shape, holes):
    g_model, d_model = tiny_models(holes, shape)
    halves = 2 if holes == "centre" else 1
    assert g_model.output_shape[1:] == (
        shape[0] // halves,
        shape[1] // halves,
        shape[2],
    )
    *_, last = of_kind(g_model, "Conv2D")
    assert min(last.output.shape[1:3]) <= 7
    assert d_model.output_shape == (None, 1)


@pytest.mark.parametrize(("side", "padded"), [(28, 32), (60, 64), (72, 80), (508, 512)])
def test_data_are_padded_to_sides_that_can_be_halved(side, padded, tmp_path):
    path = tmp_path / "data.npz"
    x = np.zeros((4, side, side), np.uint8)
    np.savez(path, x_train=x + 3, y_train=np.zeros(4, int))
    settings = context_encoder.Settings(data=str(path), batch=4)
    data = context_encoder.load(settings)
    assert data.image_shape == (padded, padded, 1)
    assert data.border == ((padded - side) // 2,) * 2
    levels = context_encoder.count_levels(data.image_shape, 3)
    assert padded % 2**levels == 0 and padded // 2**levels <= 7


def test_centre_holes_have_a_seam():
    g_model, _ = tiny_models(shape=(32, 32, 1))
    masks = context_encoder.draw_masks(g_model, np.full((3, 4), 0.7, np.float32))
    assert masks.shape == (3, 32, 32, 1)
    wanted = np.zeros((32, 32))
    wanted[9:23, 9:23] = 1
    assert all(np.array_equal(mask[..., 0], wanted) for mask in masks)
    assert context_encoder.find_edge(g_model) == (8, 8)


def test_random_holes_lie_in_the_image_and_differ():
    g_model, _ = tiny_models("random", (32, 40, 1))
    places = np.random.default_rng(0).random((300, 4), np.float32)
    almost = np.nextafter(np.float32(1), np.float32(0))
    places[:2] = [[0] * 4, [almost] * 4]
    masks = context_encoder.draw_masks(g_model, places).numpy()[..., 0]
    assert set(np.unique(masks)) == {0, 1}
    heights, widths = masks.max(axis=2).sum(axis=1), masks.max(axis=1).sum(axis=1)
    assert np.array_equal(masks.sum(axis=(1, 2)), heights * widths)  # they are blocks
    assert set(heights) == set(range(12, 17)) and set(widths) == set(range(15, 21))
    assert masks[0, 0, 0] == 1 and masks[0].sum() == 12 * 15
    assert masks[1, -1, -1] == 1 and masks[1].sum() == 16 * 20
    assert len({mask.tobytes() for mask in masks}) > 200


@pytest.mark.statement("CTX-2")
@by_holes
def test_what_is_in_the_hole_is_not_seen(holes):
    g_model, _ = tiny_models(holes)
    X, masks = draw_batch(g_model)
    with tf.GradientTape() as tape:
        tape.watch(X)
        prediction = g_model(context_encoder.hide(X, masks), training=True)
        total = tf.reduce_sum(tf.square(prediction))
    gradient = tape.gradient(total, X).numpy()
    hidden = masks.numpy() > 0
    assert not gradient[hidden].any()
    assert np.mean(gradient[~hidden] != 0) > 0.9


@pytest.mark.statement("CTX-2")
@by_holes
def test_the_rest_of_an_image_stays_as_it_is(holes, monkeypatch):
    g_model, _ = tiny_models(holes, (16, 24, 3))
    monkeypatch.setattr(context_encoder, "batch_size", lambda *size: 4)
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (10, 16, 24, 3), np.uint8)
    before = X.copy()
    masks = context_encoder.draw_masks(g_model, rng.random((10, 4), np.float32)).numpy()
    filled = context_encoder.fill_holes(g_model, X, masks)
    assert filled.dtype == np.uint8 and np.array_equal(X, before)
    hidden = np.broadcast_to(masks > 0, X.shape)
    assert np.array_equal(filled[~hidden], X[~hidden])
    assert np.mean(filled[hidden] != X[hidden]) > 0.9
    # what is filled is what the generator says
    context = context_encoder.hide(scale_images(X[9:]), masks[9:])
    says = np.rint(127.5 * (1 + g_model(context, training=False).numpy()[0]))
    row, column, channel = np.argwhere(hidden[9])[0]
    edge = context_encoder.find_edge(g_model)
    said = says[row - edge[0], column - edge[1], channel]
    assert abs(int(filled[9, row, column, channel]) - said) <= 1


@pytest.mark.statement("CTX-3")
def test_the_reconstruction_loss_by_hand():
    truth = np.zeros((1, 2, 2, 3), np.float32)
    prediction = np.float32([[[[1] * 3, [2] * 3], [[3] * 3, [0] * 3]]])
    loss = context_encoder.reconstruction_loss
    weights = np.float32([[[[10], [1]], [[1], [1]]]])
    assert float(loss(truth, prediction, weights)) == (10 + 4 + 9) / 4
    # a pixel that doesn't count is not of the mean
    weights = np.float32([[[[0], [1]], [[0], [1]]]])
    assert float(loss(truth, prediction, weights)) == 4 / 2


def joint_gradient(g_model, d_model, X, masks, adversarial):
    """The generator's gradient of the joint loss, written anew for a hole of SHAPE."""
    hidden = masks.numpy()
    with tf.GradientTape() as tape:
        out = g_model(X * (1 - masks), training=True)
        if out.shape[1] == 8:
            hole, truth, shown = hidden[:, 4:12, 4:12], X[:, 4:12, 4:12], out
            weights = np.where(hole > 0, 1, 10)
        else:
            truth, shown = X, X * (1 - hidden) + out * hidden
            weights = hidden * hidden.size / hidden.sum()
        error = tf.reduce_mean(weights * (truth - out) ** 2)
        logits = d_model(shown, training=True)
        loss = (1 - adversarial) * error
        if adversarial:
            loss += adversarial * tf.reduce_mean(tf.math.softplus(-logits))
    return loss, tape.gradient(loss, g_model.trainable_variables), logits


@pytest.mark.statement("CTX-1", "CTX-3")
@by_holes
@pytest.mark.parametrize("adversarial", [0, 0.25])
def test_a_step_by_plain_keras(holes, adversarial):
    (g_model, d_model), (g_other, d_other) = tiny_models(holes), tiny_models(holes)
    X, masks = draw_batch(g_model)
    step = context_encoder.define_train_step(g_model, d_model, adversarial)
    said = [float(figure) for figure in step(tf.constant(0), X, masks)]

    truth = X[:, 4:12, 4:12] if holes == "centre" else X
    out = g_other(X * (1 - masks), training=True)
    fake = out if holes == "centre" else X * (1 - masks) + out * masks
    with tf.GradientTape() as tape:
        real_loss = tf.reduce_mean(tf.math.softplus(-d_other(truth, training=True)))
        fake_loss = tf.reduce_mean(tf.math.softplus(d_other(fake, training=True)))
        d_loss = real_loss + fake_loss
    weights = d_other.trainable_variables
    d_other.optimizer.apply(tape.gradient(d_loss, weights), weights)
    before = values(g_other.non_trainable_variables)
    _, gradient, _ = joint_gradient(g_other, d_other, X, masks, adversarial)
    for variable, value in zip(g_other.non_trainable_variables, before, strict=True):
        variable.assign(value)  # the pass was made before
    weights = g_other.trainable_variables
    g_other.optimizer.apply(gradient, weights)
    assert np.allclose(said[:2], [real_loss, fake_loss], atol=1e-5)
    for ours, plain in ((d_model, d_other), (g_model, g_other)):
        pairs = zip(ours.trainable_variables, plain.trainable_variables, strict=True)
        for a, b in pairs:
            # Adam's first step is the rate's size, whatever rounding does to a slope
            assert np.mean(np.abs(np.array(a) - np.array(b)) < 1e-5) > 0.97, a.path


def test_each_update_moves_its_own_network_and_the_rates_differ():
    g_model, d_model = tiny_models()
    assert float(g_model.optimizer.learning_rate) == pytest.approx(2e-3)
    assert float(d_model.optimizer.learning_rate) == pytest.approx(2e-4)
    X, masks = draw_batch(g_model)
    for still, other in ((g_model, d_model), (d_model, g_model)):
        still.optimizer.learning_rate = 0.0
        other.optimizer.learning_rate = 1e-3
        before = values(still.trainable_variables), values(other.trainable_variables)
        step = context_encoder.define_train_step(g_model, d_model)
        step(tf.constant(0), X, masks)
        assert not any(moved(before[0], still.trainable_variables))
        assert all(moved(before[1], other.trainable_variables))


@pytest.mark.statement("CTX-4")
def test_of_two_contents_that_fit_reconstruction_takes_the_mean():
    """One context, two contents: at their mean the L2 loss holds still, and the
    adversarial one does not."""
    truth = np.concatenate([np.full((1, 8, 8, 1), v, np.float32) for v in (-1, 1)])
    weights = np.ones((2, 8, 8, 1), np.float32)
    _, d_model = tiny_models()

    def slopes(prediction):
        prediction = tf.constant(prediction, shape=(1, 8, 8, 1))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(prediction)
            both = tf.repeat(prediction, 2, axis=0)
            error = context_encoder.reconstruction_loss(truth, both, weights)
            logits = d_model(prediction, training=False)
            adversarial = tf.reduce_mean(tf.math.softplus(-logits))
        return [tape.gradient(loss, prediction) for loss in (error, adversarial)]

    error, adversarial = slopes(0.0)
    assert not np.any(error) and np.abs(adversarial).max() > 0
    error, _ = slopes(0.5)
    assert np.all(error > 0)  # back to the mean


def test_samples_are_images_of_the_data_with_holes_filled():
    g_model, _ = tiny_models("random")
    X = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)
    sample = context_encoder.define_sample(g_model, [X, None])
    drawn, again, other = (
        sample(12, np.random.default_rng(s), None) for s in (1, 1, 2)
    )
    assert drawn.shape == (12, *SHAPE) and drawn.dtype == np.uint8
    assert np.array_equal(drawn, again) and not np.array_equal(drawn, other)
    for image in drawn:  # half a hole of 8x8 at the most is other
        same = (image == X).mean(axis=(1, 2, 3))
        assert same.max() > 0.7
    images, in_a_row = context_encoder.draw_rows(
        g_model, [X, None], np.random.default_rng(0)
    )
    assert in_a_row == 10 and len(images) == 90
    hidden, filled, truth = images[:10], images[10:20], images[20:30]
    assert (hidden[hidden != truth] == 128).all()
    assert np.array_equal(filled[hidden == truth], truth[hidden == truth])
    assert not np.array_equal(filled, truth)


# its figure


class FakeRun:
    """What measure_filling asks a run."""

    judge = None

    def __init__(self, test):
        self.test = test

    def count_measured(self):
        return 10_000

    def rng_of(self, number):
        return np.random.default_rng(number)

    def inner(self, images):
        return images


class FakeJudge:
    """Takes an image for dark, 0, or light, 1, by its middle."""

    def answer(self, images):
        light = images[:, 4:12, 4:12].mean(axis=(1, 2, 3)) > 127
        return None, np.stack([~light, light], axis=1).astype(float)


def test_the_figures_of_filling():
    """The left half of an image tells its level, which is its class, and a texture."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = np.clip(rng.normal(60 + 140 * y, 20, (1, 16, 16, 40)), 0, 255)
    X = np.moveaxis(X, 3, 0)[:, 0, ..., np.newaxis].astype(np.uint8)
    g_model, _ = tiny_models()
    run = FakeRun([X[20:], y[20:]])
    run.judge = FakeJudge()

    def draw_masks(places):
        return context_encoder.draw_masks(g_model, places)

    def fill(images, hidden):
        return np.where(hidden, np.uint8(110), images)

    found = figures.measure_filling(fill, draw_masks, [X[:20], y[:20]], run)
    hole = X[20:, 5:11, 5:11].astype(float)
    difference = np.abs(hole - 110) / 255
    assert found["l1"] == pytest.approx(100 * difference.mean())
    assert found["l2"] == pytest.approx(100 * (difference**2).mean())
    assert found["psnr"] == pytest.approx(-10 * np.log10((difference**2).mean()))
    assert found["variation"] == 0
    # in the mean nothing is left of the level; around the hole all of it is
    assert found["mean_variation"] < 0.5 < 0.9 < found["nearest_variation"] < 1.1
    assert found["nearest_l1"] < 15 < 25 < found["mean_l1"]
    assert found["nearest_psnr"] > found["mean_psnr"]
    assert found["nearest_agreement"] == found["true_agreement"] == 100

    # without a judge, and where nothing is wrong
    run.judge = None
    found = figures.measure_filling(
        lambda images, hidden: images, draw_masks, [X[20:], y[20:]], run
    )
    assert found["l1"] == found["l2"] == found["nearest_l2"] == 0
    assert found["variation"] == 1
    assert not {"psnr", "agreement", "true_agreement"} & set(found)
    json.dumps(found, allow_nan=False)
    run.test = None
    assert figures.measure_filling(fill, draw_masks, [X, y], run) == {}


# pictures of one's own


@pytest.fixture(scope="module")
def colour_run(tmp_path_factory):
    """A run of a step on images of 20x24 in colour, which are padded to 24x24."""
    root = tmp_path_factory.mktemp("a run")
    data = write_folder(root / "data", (20, 24, 3), n=6, tests=3)
    made = context_encoder.main(
        [
            *("--data", str(data), "--out", str(root / "run"), "--width", "0.05"),
            *("--batch", "8", "--measured", "8", "--steps", "1", "--threads", "1"),
            *("--verbose", "0", "--seed", "1", "--precision", "float32"),
        ]
    )
    assert made == 0
    return root / "run"


def fill_options(run, *more):
    return [str(option) for option in ("--sample", run, "--threads", 1, *more)]


def test_a_hole_in_pictures_of_ones_own_is_filled(colour_run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    changed = pixels.copy()
    changed[20:28, 30:36] = 7  # what is in the hole does not count
    Image.fromarray(changed).save(tmp_path / "b.png")
    pictures = tmp_path / "a.png", tmp_path / "b.png"
    options = fill_options(colour_run, "--mask", "30,20,6,8", "--fill")
    assert context_encoder.main([*options, *map(str, pictures)]) == 0
    assert "a-filled.png" in capsys.readouterr().out
    filled = [np.asarray(Image.open(p.with_stem(f"{p.stem}-filled"))) for p in pictures]
    outside = np.ones(pixels.shape, bool)
    outside[20:28, 30:36] = False
    assert np.array_equal(filled[0][outside], pixels[outside])
    assert np.mean(filled[0][~outside] != pixels[~outside]) > 0.9
    assert np.array_equal(*filled)
    # alone as among others, and by a mask's picture
    mask = np.zeros((50, 70), np.uint8)
    mask[20:28, 30:36] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    options = fill_options(colour_run, "--mask", tmp_path / "mask.png", "--fill")
    options += [str(pictures[0]), "--out", str(tmp_path / "out")]
    assert context_encoder.main(options) == 0
    alone = np.asarray(Image.open(tmp_path / "out" / "a-filled.png"))
    assert np.array_equal(alone, filled[0])
    # what is there is not replaced
    capsys.readouterr()
    assert "is there already" in fails(context_encoder, capsys, *options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--fill", "a.png"), "--fill and --mask: belong together"),
        (("--mask", "1,1,4,4"), "--fill and --mask: belong together"),
        (("--fill", "a.png", "--mask", "1,1,4,4", "--n", 3), "--n and --seed: are for"),
        (("--fill", "a.png", "--mask", "1,1,4,4", "--seed", 3), "--n and --seed: are"),
        (("--fill", "a.png", "--mask", "1,1,11,4"), "fills up to 10x10"),
        (("--fill", "a.png", "--mask", "66,1,5,4"), "reaches out of a.png"),
        (("--fill", "a.png", "--mask", "1,1,0,4"), "hides nothing of a.png"),
        (("--fill", "a.png", "--mask", "1,1,4"), "must be x,y,w,h"),
        (("--fill", "a.png", "--mask=-1,1,4,4"), "must be x,y,w,h"),
        (("--fill", "a.png", "--mask", "none.png"), "none.png: no such file"),
        (("--fill", "none.png", "--mask", "1,1,4,4"), "none.png: no such file"),
        (("--fill", "a.png", "--mask", "b.png"), "b.png: has 9x8 pixels, and a.png"),
    ],
)
def test_bad_options_of_fill(
    options, problem, colour_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name, shape in (("a.png", (50, 70, 3)), ("b.png", (8, 9))):
        Image.fromarray(np.full(shape, 9, np.uint8)).save(tmp_path / name)
    arguments = fill_options(colour_run, "--out", "new", *options)
    assert problem in fails(context_encoder, capsys, *arguments)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


def test_fill_is_for_a_run(tmp_path, capsys):
    line = fails(context_encoder, capsys, "--fill", "a.png", "--mask", "1,1,4,4")
    assert "--fill: is for --sample RUN" in line
    for weight in ("-0.1", "1.1", "nan"):
        line = fails(context_encoder, capsys, f"--adversarial={weight}")
        assert "--adversarial" in line and "must be from 0 to 1" in line


def test_the_figures_of_a_run(colour_run):
    found = json.loads((colour_run / "figures.json").read_text())
    assert found["psnr"] > 0 and found["nearest_l1"] > 0 and found["mean_l2"] > 0
    assert "agreement" not in found
    assert metrics.N_MEASURED > found["step"] == 1
