import dataclasses
import json

import domains
import figures
import keras
import numpy as np
import own_pictures
import pytest
import tensorflow as tf
from PIL import Image

from data_sets import save_image
from gankit.models.files import save_model
from gankit.training.batches import Draws
from gankit.training.run import digest_of
from parts import fails, moved, refused, values
from tour_scripts import load_script

SHAPE = (16, 16, 1)
PADDING = [(0, 0), (3, 3), (3, 3), (0, 0)]


@pytest.fixture(scope="module")
def cyclegan():
    return load_script("cyclegan")


def make_models(cyclegan, shape=SHAPE):
    keras.utils.set_random_seed(1)
    sizes = {"n_maps": 2, "width": 1.0}
    return [
        *(cyclegan.define_generator(shape, n_blocks=1, **sizes) for _ in range(2)),
        *(cyclegan.define_discriminator(shape, 1, **sizes) for _ in range(2)),
    ]


@pytest.fixture
def models(cyclegan):
    return make_models(cyclegan)


def images_in(shape, seed=0):
    values = np.random.default_rng(seed).uniform(-1, 1, shape)
    return tf.constant(values, tf.float32)


def batch_of(n=1, shape=SHAPE):
    """What a step takes: images of both domains, places for the buffers."""
    images = [images_in((n, *shape), seed) for seed in (1, 2)]
    return *images, tf.fill((n,), 99), tf.fill((n,), 99)


def define_step(cyclegan, models, done=0.0, **weights):
    shape = models[0].input_shape[1:]
    buffers = [cyclegan.define_buffer(shape) for _ in range(2)]
    step = cyclegan.define_train_step(*models, buffers, lambda _: done, **weights)
    return step, buffers


@pytest.fixture
def folders(tmp_path):
    """Two folders of pictures, grey ones of 20x24 and others in colour."""
    rng = np.random.default_rng(0)
    paths = tmp_path / "horses", tmp_path / "zebras"
    for path, shape, n in zip(paths, ((20, 24), (20, 24, 3)), (3, 5), strict=True):
        for i in range(n):
            save_image(path / f"{i}.png", rng.integers(0, 256, shape, np.uint8))
    return paths


# networks


@pytest.mark.parametrize(
    ("shape", "n_g", "n_d"),
    [((32, 32, 1), 269_377, 34_401), ((256, 256, 3), 11_378_179, 2_764_737)],
)
def test_the_networks_sizes(cyclegan, shape, n_g, n_d):
    """From 128 pixels on the authors'; theirs of 256x256 pixels in colour."""
    settings = cyclegan.Settings()
    counts = [m.count_params() for m in cyclegan.define_models(settings, shape, 1)]
    assert counts == [n_g, n_g, n_d, n_d]
    assert cyclegan.choose_sizes((128, 200, 3)) == (6, 64, 64)


@pytest.mark.statement("CYC-6")
def test_the_generator_is_johnsons(cyclegan):
    model = cyclegan.define_generator((32, 32, 3), n_blocks=2, n_maps=2)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert not [kind for kind in kinds if "Pooling" in kind or kind == "Dense"]
    convolutions = [layer for layer in model.layers if hasattr(layer, "kernel")]
    described = [(c.kernel_size[0], c.strides[0], c.filters) for c in convolutions]
    assert described == [
        *((7, 1, 2), (3, 2, 4), (3, 2, 8)),
        *[(3, 1, 8)] * 4,
        *((3, 2, 4), (3, 2, 2), (7, 1, 3)),
    ]
    assert all(c.padding == "valid" for c in convolutions)
    assert kinds.count("Add") == 2
    assert kinds.count("GroupNormalization") == len(convolutions) - 1
    assert model.layers[-1].activation is keras.activations.tanh
    # a block whose second convolution is 0 changes nothing
    paths = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    network = keras.Model(model.input, [paths[1].input[0], paths[1].output])
    convolutions[6].set_weights([0 * w for w in convolutions[6].get_weights()])
    before, after = network(images_in((1, 32, 32, 3)))
    np.testing.assert_array_equal(before, after)


def test_start_weights_are_the_papers(cyclegan):
    model = cyclegan.define_generator()
    for weight in model.trainable_variables:
        if weight.shape.rank == 1:
            assert not np.any(weight)
        else:
            assert np.std(weight) == pytest.approx(0.02, rel=0.1)


def test_padding_by_reflection(cyclegan):
    X = images_in((2, 8, 12, 3))
    found = cyclegan.reflect(X, 3)
    np.testing.assert_array_equal(found, np.pad(X, PADDING, mode="reflect"))


def test_what_is_halved_and_doubled_stays_in_its_place(cyclegan, monkeypatch):
    """As in Torch, whose strided layers have their middle on every second pixel."""
    monkeypatch.setattr(cyclegan, "normalize", lambda: keras.layers.Identity())
    model = cyclegan.define_generator((16, 16, 1), n_blocks=0, n_maps=1)
    for layer in model.layers:
        if hasattr(layer, "kernel"):  # takes the middle, of the first map
            kernel = np.zeros(layer.kernel.shape, np.float32)
            middle = layer.kernel_size[0] // 2
            kernel[middle, middle, 0, 0] = 1
            layer.kernel.assign(kernel)
    X = np.abs(images_in((1, 16, 16, 1)))
    kept = np.zeros_like(X)
    kept[:, ::4, ::4] = np.tanh(X)[:, ::4, ::4]
    np.testing.assert_allclose(model(X), kept, rtol=1e-5)


def test_an_image_is_computed_by_itself(cyclegan, models):
    X = images_in((3, *SHAPE))
    for model in models:
        alone = [model(X[i : i + 1], training=True)[0] for i in range(3)]
        np.testing.assert_allclose(model(X, training=True), alone, atol=2e-5)
        layer = next(x for x in model.layers if "normalization" in x.name)
        inside = keras.Model(model.input, layer.output)(50 * X)
        assert np.allclose(np.mean(inside, axis=(1, 2)), 0, atol=1e-4)
        assert np.allclose(np.var(inside, axis=(1, 2)), 1, atol=0.01)


@pytest.mark.statement("CYC-7")
@pytest.mark.parametrize(("side", "n_layers"), [(16, 1), (34, 2), (70, 3)])
def test_an_answer_sees_one_patch(cyclegan, side, n_layers, monkeypatch):
    # normalisation lets all pixels reach all answers
    monkeypatch.setattr(cyclegan, "normalize", lambda: keras.layers.Identity())
    assert cyclegan.PATCHES[side] == n_layers
    model = cyclegan.define_discriminator((128, 128, 1), n_layers, n_maps=1)
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(tf.ones_like(layer.kernel))
    X = tf.ones((1, 128, 128, 1))
    with tf.GradientTape() as tape:
        tape.watch(X)
        answers = model(X)
        middle = answers[0, answers.shape[1] // 2, answers.shape[2] // 2, 0]
    seen = np.abs(tape.gradient(middle, X)[0, ..., 0]) > 0
    assert [np.ptp(np.flatnonzero(seen.any(axis=a))) + 1 for a in (0, 1)] == [side] * 2


@pytest.mark.parametrize(
    ("shape", "patch", "n"),
    [((32, 32, 1), "auto", 14), ((32, 32, 1), "70", 2), ((64, 96, 3), "auto", 14)]
    + [((256, 256, 3), "auto", 30), ((72, 72, 1), "auto", 7)],
)
def test_how_many_patches_are_judged(cyclegan, shape, patch, n):
    n_layers = cyclegan.count_layers(patch, shape)
    model = cyclegan.define_discriminator(shape, n_layers, n_maps=1)
    assert model.output_shape[1] == n


# losses and updates


@pytest.mark.statement("CYC-7", "CYC-8", "CYC-5")
def test_the_loss_is_least_squares_averaged_over_patches(cyclegan):
    answers = tf.constant([[[[0.5], [2.0]], [[1.0], [-1.0]]]])
    by_patch = [cyclegan.least_squares(x, 1.0) for x in np.ravel(answers)]
    assert np.allclose(by_patch, [0.25, 1, 0, 4])
    assert float(cyclegan.least_squares(answers, 1.0)) == np.mean(by_patch)
    assert float(cyclegan.least_squares(answers, 0.0)) == 6.25 / 4


@pytest.mark.statement("CYC-10")
def test_the_rate_is_constant_and_then_falls(cyclegan, models):
    rates = [float(cyclegan.rate(epoch / 200)) for epoch in (0, 99, 100, 150, 200)]
    assert rates == pytest.approx([2e-4, 2e-4, 2e-4, 1e-4, 0], abs=1e-9)
    step, _ = define_step(cyclegan, models, done=0.75)
    step(tf.constant(0), *batch_of())
    for model in (models[0], models[2]):
        assert type(model.optimizer) is keras.optimizers.Adam
        assert model.optimizer.beta_1 == 0.5
        assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)
    assert cyclegan.Settings().batch == 1
    # 200 epochs
    assert cyclegan.Settings().steps == 200 * cyclegan.Settings().images


class Caught(Exception):
    """Holds what run.compile was given."""


def catch_compile(cyclegan, monkeypatch, dataset, n_batch):
    """What train compiles: draw, train_step, state, and the run."""
    run = cyclegan.GanRun("cyclegan", cyclegan.Settings(seed=1))
    run._n_steps = tf.Variable(1, dtype=tf.int64)

    def stop(*arguments, **others):
        raise Caught(*arguments)

    monkeypatch.setattr(run, "compile", stop)
    with pytest.raises(Caught) as caught:
        cyclegan.train(*make_models(cyclegan), dataset, 10, n_batch, run=run)
    return *caught.value.args, run


def test_the_rate_changes_from_epoch_to_epoch(cyclegan, monkeypatch):
    X = np.zeros((5, *SHAPE), np.uint8)
    _, train_step, state, run = catch_compile(cyclegan, monkeypatch, [X, None, X], 2)
    run._n_steps.assign(12)  # four epochs of three steps
    rates = []
    monkeypatch.setattr(cyclegan, "update", lambda *arguments: None)
    for i in range(12):
        train_step(tf.constant(i), *batch_of(2))
        rates.append(float(state[0].optimizer.learning_rate))
    expected = np.repeat([2e-4, 2e-4, 2e-4, 1e-4], 3)
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


@pytest.mark.statement("CYC-9")
def test_the_buffer_is_filled_and_then_gives_old_images(cyclegan):
    size, n = 50, 4050
    buffer = cyclegan.define_buffer((1, 1, 1))
    places = np.random.default_rng(0).integers(0, 2 * size, n).astype(np.int32)

    @tf.function
    def put():
        found = tf.TensorArray(tf.float32, n)
        for i in tf.range(n):
            image = tf.cast(tf.fill((1, 1, 1, 1), i), tf.float32)
            out = cyclegan.swap(buffer, image, i, tf.constant(places)[i : i + 1])
            found = found.write(i, out[0, 0, 0, 0])
        return found.stack()

    found = put().numpy().astype(int).tolist()
    assert found[:size] == list(range(size))
    later, own = np.array(found[size:]), np.arange(size, n)
    old = later[later != own]
    # half of them, up to four standard deviations
    assert abs(len(old) - (n - size) / 2) < 4 * np.sqrt((n - size) / 4)
    assert np.all(later <= own)
    # each is taken out: no image comes a second time, and what is inside never came
    assert len(np.unique(old[old >= size])) == np.count_nonzero(old >= size)
    inside = np.ravel(buffer).astype(int)
    assert len({*inside, *later}) == n and not {*inside} & {*later}


def test_several_images_go_through_the_buffer_one_by_one(cyclegan):
    buffer = cyclegan.define_buffer((1, 1, 1), size=2)
    images = tf.reshape(tf.range(1.0, 7.0), (6, 1, 1, 1))
    # two to fill it; 3 for 1; 4 stays out; 5 for 3, 6 for 5
    places = tf.constant([1, 3, 0, 2, 0, 0])
    found = cyclegan.swap(buffer, images, tf.constant(0), places)
    assert np.ravel(found).tolist() == [1, 2, 1, 4, 3, 5]
    assert np.ravel(buffer).tolist() == [6, 2]


def test_no_gradient_flows_through_the_buffer(cyclegan):
    buffer = cyclegan.define_buffer((1, 1, 1), size=2)
    images = tf.Variable(tf.ones((3, 1, 1, 1)))
    with tf.GradientTape() as tape:
        found = cyclegan.swap(buffer, images, tf.constant(0), tf.constant([0, 0, 0]))
    assert tape.gradient(found, images) is None


def test_discriminators_learn_from_the_buffers(cyclegan, monkeypatch):
    models = make_models(cyclegan)
    step, buffers = define_step(cyclegan, models)
    x, y, *_ = batch_of()
    for i, buffer in enumerate(buffers):
        buffer.assign(tf.fill(buffer.shape, 0.5 * i))
    places = tf.constant([7])
    fakes = [models[1](y), models[0](x)]
    losses = []
    for i, model in enumerate(models[2:]):
        real = model((x, y)[i])
        old = model(tf.fill((1, *SHAPE), 0.5 * i))
        losses.append((np.mean((real - 1) ** 2) + np.mean(old**2)) / 2)
    found = step(tf.constant(50), x, y, places, places)
    np.testing.assert_allclose(found[:2], losses, rtol=1e-4)
    for buffer, fake in zip(buffers, fakes, strict=True):
        np.testing.assert_allclose(buffer[7], fake[0], atol=1e-5)
        assert len(np.unique(np.delete(buffer, 7, axis=0))) == 1


def test_the_buffers_are_part_of_a_checkpoint(cyclegan, monkeypatch):
    X, Y = (np.zeros((n, *SHAPE), np.uint8) for n in (5, 7))
    draw, train_step, state, _ = catch_compile(cyclegan, monkeypatch, [X, None, Y], 2)
    lists = [item for item in state if isinstance(item, list)]
    kept = [variable for variables in lists for variable in variables]
    assert [tuple(variable.shape) for variable in kept] == [(50, *SHAPE)] * 2
    train_step(tf.constant(0), *draw(Draws(1, 0, 4)))
    for variable in kept:
        assert [bool(np.any(image)) for image in variable] == [True] * 2 + [False] * 48
    # and generators come first, so that samples find them
    assert [m.output_shape[1:] for m in state[:2]] == [SHAPE] * 2


def adam(weight, gradient):
    """What the first step of Adam makes of a weight."""
    m, v = 0.5 * gradient, 0.001 * np.square(gradient)
    rate = 2e-4 * np.sqrt(0.001) / 0.5
    return weight - rate * m / (np.sqrt(v) + 1e-7)


@pytest.mark.statement("CYC-2", "CYC-3")
@pytest.mark.parametrize(("weight", "identity"), [(10.0, 0.0), (3.0, 0.5)])
def test_a_step_is_that_of_plain_keras(cyclegan, models, weight, identity):
    twins = [keras.models.clone_model(model) for model in models]
    for twin, model in zip(twins, models, strict=True):
        twin.set_weights(model.get_weights())
    g, f, dx, dy = twins
    x, y, *places = batch_of()
    with tf.GradientTape(persistent=True) as tape:
        g_loss = tf.reduce_mean((dy(g(x)) - 1) ** 2)
        f_loss = tf.reduce_mean((dx(f(y)) - 1) ** 2)
        forward = tf.reduce_mean(tf.abs(f(g(x)) - x))
        backward = tf.reduce_mean(tf.abs(g(f(y)) - y))
        kept = tf.reduce_mean(tf.abs(g(y) - y)) + tf.reduce_mean(tf.abs(f(x) - x))
        loss = g_loss + f_loss
        loss += weight * (forward + backward + identity * kept)
        d_losses = [
            (tf.reduce_mean((d(real) - 1) ** 2) + tf.reduce_mean(d(fake) ** 2)) / 2
            for d, real, fake in ((dx, x, f(y)), (dy, y, g(x)))
        ]
    wanted = []
    for twin, its_loss in zip(twins, [loss, loss, *d_losses], strict=True):
        gradients = tape.gradient(its_loss, twin.trainable_variables)
        wanted.append(
            [
                (adam(np.array(w), gradient), np.abs(gradient) > 1e-5)
                for w, gradient in zip(twin.trainable_variables, gradients, strict=True)
            ]
        )
    step, _ = define_step(cyclegan, models, cycle_weight=weight, identity=identity)
    found = step(tf.constant(0), x, y, *places)
    figures = [*d_losses, g_loss, f_loss, forward, backward]
    np.testing.assert_allclose(found, figures, rtol=1e-4)
    for model, moves in zip(models, wanted, strict=True):
        assert any(np.any(clear) for _, clear in moves)
        for w, (value, clear) in zip(model.trainable_variables, moves, strict=True):
            # rounding decides where gradients vanish, as those of biases do
            np.testing.assert_allclose(np.array(w)[clear], value[clear], atol=3e-6)


@pytest.mark.statement("CYC-2")
def test_each_update_moves_its_two_networks(cyclegan, models, monkeypatch):
    update = cyclegan.update
    before = [values(model.trainable_variables) for model in models]
    found = []

    def watch(*arguments):
        update(*arguments)
        found.append(
            [
                any(moved(values, model.trainable_variables))
                for values, model in zip(before, models, strict=True)
            ]
        )
        before[:] = [values(model.trainable_variables) for model in models]

    monkeypatch.setattr(cyclegan, "update", watch)
    step, _ = define_step(cyclegan, models)
    step(tf.constant(0), *batch_of())
    assert found == [[True, True, False, False], [False, False, True, True]]


@pytest.mark.statement("CYC-4")
def test_without_weight_the_cycle_has_no_gradient(cyclegan, models):
    x, y, *places = batch_of()
    g, f, dx, dy = models
    with tf.GradientTape() as tape:
        loss = cyclegan.least_squares(dy(g(x)), 1.0)
    gradients = tape.gradient(loss, g.trainable_variables)
    wanted = [adam(np.array(w), d) for w, d in zip(g.weights, gradients, strict=True)]
    clear = [np.abs(gradient) > 1e-6 for gradient in gradients]
    step, _ = define_step(cyclegan, models, cycle_weight=0.0)
    *_, forward, backward = step(tf.constant(0), x, y, *places)
    for w, value, where in zip(g.weights, wanted, clear, strict=True):
        np.testing.assert_allclose(np.array(w)[where], value[where], atol=3e-6)
    # but is still told
    assert forward > 0 and backward > 0


@pytest.mark.statement("CYC-1")
def test_images_of_the_domains_are_drawn_by_themselves(cyclegan):
    X, Y = (np.full((n, *SHAPE), 0, np.uint8) for n in (20, 30))
    for images in (X, Y):
        images[...] = np.arange(len(images))[:, None, None, None]
    draw = cyclegan.define_draw([X, None, Y], 4)
    pairs, places = set(), []
    for step in range(100):
        x, y, *drawn = draw(Draws(1, step, 4))
        levels = [np.rint(127.5 * (z[:, 0, 0, 0] + 1)).astype(int) for z in (x, y)]
        pairs |= {*zip(*map(np.ndarray.tolist, levels), strict=True)}
        places += [drawn]
    numbers = [{pair[i] for pair in pairs} for i in (0, 1)]
    assert numbers == [{*range(20)}, {*range(30)}] and len(pairs) > 250
    places = np.array(places)
    assert places.min() >= 0 and places.max() == 99
    assert not np.array_equal(places[:, 0], places[:, 1])


def test_a_step_at_the_authors_size(cyclegan):
    """Their network of nine blocks for 256x256 pixels, with as few maps as can be."""
    settings = cyclegan.Settings(width=0.01)
    models = cyclegan.define_models(settings, (256, 256, 3), 1)
    assert sum(isinstance(x, keras.layers.Add) for x in models[0].layers) == 9
    assert models[2].output_shape == (None, 30, 30, 1)
    step, _ = define_step(cyclegan, models)
    assert np.all(np.isfinite(step(tf.constant(0), *batch_of(shape=(256, 256, 3)))))


# domains


def test_outlines_and_hues():
    X = np.zeros((2, 6, 6, 1), np.uint8)
    X[0, 2:4, 2:4] = 200
    ring = np.zeros((6, 6), np.uint8)
    ring[1:5, 1:5] = 200
    ring[2:4, 2:4] = 0
    found = domains.outlines(X)
    np.testing.assert_array_equal(found[0, ..., 0], ring)
    assert not found[1].any()
    white = np.full((400, 1, 1, 1), 255, np.uint8)
    painted = domains.paint(white, np.random.default_rng(0))[:, 0, 0]
    assert np.all(painted.max(axis=1) == 255) and np.all(painted.min(axis=1) == 0)
    assert len(np.unique(painted, axis=0)) > 300
    np.testing.assert_allclose(painted.mean(axis=0), 127.5, atol=15)
    grey = domains.paint(white[:, :, :, :] // 2, np.random.default_rng(0))[:, 0, 0]
    np.testing.assert_allclose(grey, painted / 2, atol=1)


@pytest.mark.statement("CYC-1")
@pytest.mark.parametrize("colour", [False, True])
def test_domains_of_images_are_unpaired(cyclegan, small_data, colour):
    settings = cyclegan.Settings(data=str(small_data), images=60, colour=colour)
    data = domains.load_domains(settings, 8)
    X, y, Y = data.train
    channels = 3 if colour else 1
    assert X.shape == Y.shape == (60, 32, 32, channels) and data.border == (2, 2)
    with np.load(small_data) as arrays:
        images, labels = arrays["x_train"], arrays["y_train"]
        tests = arrays["x_test"]

    def find(image, images):
        same = (images == image).all(axis=(1, 2))
        return np.flatnonzero(same)

    value = [part[:, 2:-2, 2:-2].max(axis=3) for part in (X, Y)]
    drawn = domains.outlines(images[..., None])[..., 0]
    chosen = [find(image, images) for image in value[0]]
    others = [find(image, drawn) for image in value[1]]
    assert all(len(found) for found in chosen + others)
    assert not {*np.concatenate(chosen)} & {*np.concatenate(others)}
    assert all(
        labels[found[0]] == label for found, label in zip(chosen, y, strict=True)
    )
    # tests are pairs
    X, _, Y = data.test
    np.testing.assert_array_equal(X[:, 2:-2, 2:-2].max(axis=3), tests)
    wanted = domains.outlines(tests[..., None])[..., 0]
    np.testing.assert_array_equal(Y[:, 2:-2, 2:-2].max(axis=3), wanted)
    # the same for all seeds
    again = domains.load_domains(dataclasses.replace(settings, seed=7), 8)
    np.testing.assert_array_equal(again.train[2], data.train[2])


@pytest.mark.statement("CYC-5")
def test_two_folders_of_ones_own(cyclegan, folders, tmp_path, capsys):
    x, y = folders
    out = tmp_path / "out"
    options = ["--x", x, "--y", y, "--batch", 2, "--width", 0.05, "--seed", 1]
    options += ["--measured", 8, "--steps", 2, "--threads", 1, "--verbose", 0]
    options = [str(option) for option in (*options, "--out", out)]
    assert cyclegan.main(options) == 0
    assert "No judge of these images" in capsys.readouterr().err
    described = json.loads((out / "settings.json").read_text())
    # padded to multiples of 8; one folder has colours, so both have
    assert described["image_shape"] == [24, 24, 3] and described["border"] == [2, 0]
    assert described["options"]["x"] == str(x.resolve())
    for to, n in (("x", 5), ("y", 3)):
        drawn = tmp_path / f"to {to}"
        more = ["--n", "9", "--to", to, "--out", str(drawn), "--seed", "3"]
        assert cyclegan.main(["--sample", str(out), *more]) == 0
        with np.load(drawn / "samples.npz") as samples:
            assert samples["x_train"].shape == (9, 20, 24, 3)
            # each input is translated once before one is translated again
            assert len(np.unique(samples["x_train"][:n], axis=0)) == n
        assert (drawn / "translated.png").is_file()
    # both domains must be as they were for a resume
    data = domains.load_domains(cyclegan.Settings(x=str(x), y=str(y)), 8)
    assert described["data_sha256"] == digest_of(data.train)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--x", "horses"), "--x horses: is one domain; name the other with --y"),
        (("--y", "zebras"), "--y zebras: is one domain; name the other with --x"),
        (("--x", "horses", "--y", "missing"), "missing: no such folder"),
        (("--x", "horses", "--y", "horses", "--batch", 4), "batch 4: there are 3 imag"),
        (("--x", "horses", "--y", "zebras", "--images", 9), "--images: does not go"),
        (("--x", "horses", "--y", "zebras", "--colour"), "--colour: does not go"),
        (("--x", "horses", "--y", "zebras", "--data", "a"), "--data: does not go"),
        (("--x", "horses", "--y", "wide"), "wide: its pictures are 20x40, and those"),
        (("--x", "horses", "--y", "zebras", "--image-size", 9), "--image-size 9: must"),
        (("--batch", 0), "batch 0: must"),
        (("--cycle-weight", -1), "--cycle-weight -1.0: must be from 0"),
        (("--identity", "nan"), "--identity nan: must be from 0"),
        (("--to", "y"), "--to: is for --sample RUN"),
        (("--translate", "horses"), "--translate: is for --sample RUN"),
        (("--translate", "horses", "--sample", "missing"), "missing"),
        (("--sample", "a", "--x", "horses", "--y", "zebras"), "--x: is for training"),
        (("--sample", "missing", "--translate", "a", "--n", 5), "--n: is for samples"),
    ],
)
def test_bad_input(cyclegan, folders, tmp_path, monkeypatch, capsys, options, problem):
    save_image(tmp_path / "wide" / "0.png", np.zeros((20, 40), np.uint8))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert problem in fails(cyclegan, capsys, *options)
    assert sorted(tmp_path.rglob("*")) == before


def test_formats_that_hold_no_padding_are_refused(cyclegan):
    assert "must be one of keras" in refused(lambda: cyclegan.Settings(format="h5"))


def test_colours_are_for_grey_images(cyclegan, tmp_path, capsys):
    data = tmp_path / "data.npz"
    for n, problem in ((4, "--colour: is for grey images"), (1, "has one image")):
        x = np.zeros((n, 16, 16, 3), np.uint8)
        np.savez(data, x_train=x, y_train=np.zeros(n, np.int64))
        assert problem in fails(cyclegan, capsys, "--data", data, "--colour")


# samples, pictures of one's own, figures


def marked(models, shape=SHAPE):
    """Generators whose answers tell them apart: G inverts, F keeps an image."""

    def define(factor):
        in_image = keras.Input(shape)
        out = keras.layers.Rescaling(factor, dtype="float32")(in_image)
        return keras.Model(in_image, out)

    return define(-1.0), define(1.0)


def test_samples_and_sheets_go_both_ways(cyclegan):
    g, f = marked(SHAPE)
    X, Y = np.full((3, *SHAPE), 10, np.uint8), np.full((4, *SHAPE), 250, np.uint8)
    Y[1] = 200
    dataset = [X, None, Y]
    rng = np.random.default_rng(0)
    back = cyclegan.define_sample(g, f, dataset)(8, rng, None)
    assert np.unique(back).tolist() == [200, 250]
    assert np.count_nonzero(back[:, 0, 0, 0] == 200) == 2
    there = cyclegan.define_sample(g, f, dataset, to="y")(2, rng, None)
    assert there.shape == (2, *SHAPE) and np.all(there == 245)
    images, in_a_row = cyclegan.draw_rows(g, f, [X, None, Y[:1]], rng)
    assert in_a_row == 6 and len(images) % 6 == 0
    assert images[:6, 0, 0, 0].tolist() == [10, 245, 245, 250, 250, 5]


@pytest.fixture(scope="module")
def trained(cyclegan, small_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("a run") / "out"
    options = ["--data", small_data, "--batch", 2, "--width", 0.05, "--seed", 1]
    options += ["--measured", 20, "--steps", 1, "--threads", 1, "--verbose", 0]
    assert cyclegan.main([str(option) for option in (*options, "--out", out)]) == 0
    return out


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_pictures_of_any_size_are_translated(cyclegan, trained, tmp_path, capsys):
    rng = np.random.default_rng(0)
    sizes = {"a": (28, 28), "b": (3, 101), "c": (50, 30, 3)}
    for name, shape in sizes.items():
        save_image(
            tmp_path / "in" / f"{name}.png", rng.integers(0, 256, shape, np.uint8)
        )
    run = ["--sample", str(trained), "--threads", "1", "--translate"]
    assert cyclegan.main([*run, str(tmp_path / "in"), "--to", "y"]) == 0
    written = [tmp_path / "in" / f"{name}-to-y.png" for name in sizes]
    lines = [f"{path}: written" for path in written]
    assert capsys.readouterr().out.splitlines() == lines
    for path, shape in zip(written, sizes.values(), strict=True):
        # as the run has it: grey
        assert read(path).shape == shape[:2]
    # alone and among others, the same; the other domain is another picture
    alone = [*run, str(tmp_path / "in" / "a.png"), "--out", str(tmp_path / "alone")]
    assert cyclegan.main([*alone, "--to", "y"]) == 0
    assert cyclegan.main(alone) == 0
    there, back = (read(tmp_path / "alone" / f"a-to-{to}.png") for to in "yx")
    np.testing.assert_array_equal(there, read(written[0]))
    assert not np.array_equal(there, back)
    # a training image's size: as the run's own network computes it
    for name, picture in (("g", there), ("f", back)):
        path = trained / f"{name}_model_0001.keras"
        model = keras.saving.load_model(path, safe_mode=True)
        padded = np.pad(read(tmp_path / "in" / "a.png"), 2, mode="edge")
        answer = model(np.float32(padded)[None, ..., None] / 127.5 - 1)
        wanted = np.rint(127.5 * (answer.numpy() + 1))[0, 2:-2, 2:-2, 0]
        np.testing.assert_allclose(picture, wanted, atol=1)


def test_pictures_that_are_not_translated(
    cyclegan, trained, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "in"
    save_image(folder / "a.png", np.zeros((30, 40), np.uint8))
    save_image(folder / "b.png", np.zeros((8, 8), np.uint8))
    run = ("--sample", trained, "--threads", 1, "--to", "y", "--translate")
    with monkeypatch.context() as patch:
        patch.setattr(own_pictures, "LARGEST_TRANSLATED", 1000)
        line = fails(cyclegan, capsys, *run, folder)
        assert "a.png: has 40 x 30 pixels; make it smaller" in line
    assert "missing.png" in fails(cyclegan, capsys, *run, folder / "missing.png")
    (folder / "b-to-y.png").write_bytes(b"mine")
    pictures = folder / "a.png", folder / "b.png"
    assert "b-to-y.png: is there already" in fails(cyclegan, capsys, *run, *pictures)
    assert (folder / "b-to-y.png").read_bytes() == b"mine"
    assert not (folder / "a-to-y.png").exists()


def test_the_generator_loads_without_code_of_its_file(cyclegan, models, tmp_path):
    X = images_in((2, *SHAPE))
    save_model(models[0], tmp_path / "g_model_0001.keras")
    model = keras.saving.load_model(tmp_path / "g_model_0001.keras", safe_mode=True)
    np.testing.assert_array_equal(model(X), models[0](X))


class Run:
    """As much of a GanRun as the figures need: a judge of the mean pixel."""

    class judge:  # noqa: N801
        @staticmethod
        def answer(images):
            light = images.mean(axis=(1, 2, 3)) > 100
            return None, np.stack([~light, light], axis=1).astype(float)

    def __init__(self, test, n=100):
        self.test, self.n = test, n

    def count_measured(self):
        return self.n

    def inner(self, images):
        return images[:, 1:-1]


def test_the_figures_of_a_cycle():
    g, f = marked(SHAPE)
    X, Y = np.full((4, *SHAPE), 255, np.uint8), np.full((4, *SHAPE), 51, np.uint8)
    Y[0] = 255
    X[:, 0] = Y[:, 0] = 0  # outside
    found = figures.measure_cycle(g, f, Run([X, np.array([1, 1, 1, 0]), Y]))
    # F keeps y, so the judge sees classes 1, 0, 0, 0; G inverts x, which F keeps
    assert found["accuracy"] == 50 and found["cycle_accuracy"] == 25
    assert found["real_accuracy"] == 75
    # G(x) is 0 and y 1, 0.2, 0.2, 0.2; x is 1
    assert found["l1"] == pytest.approx(100 * 1.6 / 4)
    assert found["copy_l1"] == found["back_l1"] == pytest.approx(100 * 2.4 / 4)
    # one image alone: F keeps its y
    (one,) = figures.some_of(X, 1)
    few = figures.measure_cycle(g, f, Run([X, np.array([1, 1, 1, 0]), Y], n=1))
    assert few["accuracy"] == (100 if one in (0, 3) else 0)
    assert figures.measure_cycle(g, f, Run(None)) == {}
    blind = Run([X, np.array([1, 1, 1, 0]), Y])
    blind.judge = None
    assert set(figures.measure_cycle(g, f, blind)) == {"l1", "copy_l1", "back_l1"}


def test_several_domains_of_one_size(folders, cyclegan):
    settings = cyclegan.Settings(x=str(folders[0]), y=str(folders[1]), image_size=16)
    data = domains.load_domains(settings, 8)
    assert data.train[0].shape == (3, 16, 16, 3) and data.train[2].shape[0] == 5
    assert data.test is None
    settings = dataclasses.replace(settings, x=str(folders[0] / "0.png"))
    assert "0.png" in refused(domains.load_domains, settings, 8)
