import json

import infogan
import keras
import metrics
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from gankit.training.batches import Draws
from parts import moved, read_csv, values

SHAPE = (8, 8, 1)
N_CODES = 4


def tiny_models(seed=0):
    keras.utils.set_random_seed(seed)
    g_model = infogan.define_generator(5, N_CODES, image_shape=SHAPE, width=0.05)
    d_model, q_model = infogan.define_discriminator(SHAPE, N_CODES, width=0.05)
    return g_model, infogan.join(d_model, q_model), d_model, q_model


def draw_batch(n=6, seed=3):
    # labels are no part of the data set
    X = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)
    return infogan.define_draw([X, None], 5, N_CODES, n)(Draws(seed, tf.constant(0), 4))


def of_kind(model, *names):
    return [layer for layer in model.layers if type(layer).__name__ in names]


def weights_by_part(network, d_model, q_model):
    """The trainable weights of d alone, of q alone and of what they share."""
    of_d = {id(weight) for weight in d_model.trainable_variables}
    of_q = {id(weight) for weight in q_model.trainable_variables}
    parts = {"d": [], "q": [], "trunk": []}
    for weight in network.trainable_variables:
        shared = id(weight) in of_d and id(weight) in of_q
        parts["trunk" if shared else "d" if id(weight) in of_d else "q"].append(weight)
    return parts


@pytest.mark.statement("INFO-3")
def test_the_generator_makes_an_image_of_noise_and_codes():
    g_model = infogan.define_generator()
    assert g_model.count_params() == 6_659_841
    assert g_model.input_shape == [(None, 62), (None, 12)]
    assert infogan.count_codes(g_model) == 10
    assert [layer.units for layer in of_kind(g_model, "Dense")] == [1024, 6272]
    assert [layer.filters for layer in of_kind(g_model, "Conv2DTranspose")] == [64, 1]
    kinds = [type(layer).__name__ for layer in g_model.layers]
    assert kinds.count("BatchNormalization") == kinds.count("ReLU") == 3
    assert g_model.layers[-1].activation.__name__ == "sigmoid"
    # each of the two inputs changes the image
    z, codes = np.ones((1, 62), np.float32), np.ones((1, 12), np.float32)
    image, *others = map(
        g_model.predict_on_batch, ([z, codes], [0 * z, codes], [z, 0 * codes])
    )
    assert image.shape == (1, 28, 28, 1) and 0 <= image.min() <= image.max() <= 1
    assert not any(np.array_equal(image, other) for other in others)


def test_the_discriminator_and_q_share_all_layers_but_the_last():
    d_model, q_model = infogan.define_discriminator()
    assert d_model.count_params() == 6_560_321
    assert q_model.count_params() == 6_692_686
    assert d_model.output_shape == (None, 1)
    assert q_model.output_shape == [(None, 10), (None, 2)]
    network = infogan.join(d_model, q_model)
    parts = weights_by_part(network, d_model, q_model)
    assert [tuple(weight.shape) for weight in parts["d"]] == [(1024, 1), (1,)]
    assert parts["q"][0].shape == (1024, 128)
    assert {tuple(w.shape) for w in parts["trunk"]} >= {(4, 4, 1, 64), (6272, 1024)}
    slopes = [layer.negative_slope for layer in of_kind(network, "LeakyReLU")]
    assert np.allclose(slopes, 0.1) and len(slopes) == 4
    X = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    answers = network.predict_on_batch(X)
    alone = [d_model.predict_on_batch(X), *q_model.predict_on_batch(X)]
    for a, b in zip(answers, alone, strict=True):
        assert np.allclose(a, b, atol=1e-6)


def test_the_rates_are_the_authors():
    g_model, network, *_ = tiny_models()
    for model, rate in ((g_model, 1e-3), (network, 2e-4)):
        assert type(model.optimizer).__name__ == "Adam"
        assert model.optimizer.beta_1 == 0.5
        assert float(model.optimizer.learning_rate) == pytest.approx(rate)


@pytest.mark.statement("INFO-1")
def test_the_bound_of_information_by_hand():
    codes = np.float32(np.column_stack([np.eye(10), np.zeros((10, 2))]))
    means = np.zeros((10, 2), np.float32)

    def bound(logits):
        return float(infogan.mutual_information(np.float32(logits), means, codes)[0])

    assert bound(100 * np.eye(10)) == pytest.approx(np.log(10), abs=1e-5)
    assert bound(np.zeros((10, 10))) == pytest.approx(0, abs=1e-6)
    assert bound(-5 * np.eye(10)) < -1
    # a half is known: one of two values, each as likely
    pairs = np.kron(np.eye(5), np.full((2, 2), 100))
    assert bound(pairs) == pytest.approx(np.log(5), abs=1e-5)


@pytest.mark.statement("INFO-1")
def test_the_bound_of_continuous_codes_is_half_the_squared_error():
    codes = np.float32([[1, 0, 0.5, -1], [0, 1, 0, 0.5]])
    means = np.float32([[0.5, 1], [1, 0.5]])
    _, bound = infogan.mutual_information(np.zeros((2, 2), np.float32), means, codes)
    assert float(bound) == pytest.approx(-(0 + 4 + 1 + 0) / 2 / 2)


@pytest.mark.statement("INFO-1")
def test_information_reaches_generator_trunk_and_q():
    g_model, network, d_model, q_model = tiny_models()
    _, z, codes = draw_batch()
    with tf.GradientTape() as tape:
        _, *answers = network(g_model([z, codes], training=True), training=True)
        of_c1, of_others = infogan.mutual_information(*answers, codes)
        information = of_c1 + of_others
    parts = weights_by_part(network, d_model, q_model)
    parts["g"] = g_model.trainable_variables
    gradients = tape.gradient(information, parts)
    assert all(gradient is None for gradient in gradients["d"])
    for part in ("g", "trunk", "q"):
        reached = [np.any(np.array(gradient)) for gradient in gradients[part]]
        assert all(reached), part
    # the unused deviations alone get none
    bias = np.array(gradients["q"][-1])
    assert np.all(bias[: N_CODES + 2]) and not np.any(bias[N_CODES + 2 :])


def test_the_step_is_two_plain_updates_of_keras():
    ours, plain = tiny_models(), tiny_models()
    step = infogan.define_train_step(*ours[:2])
    g_model, network, *_ = plain
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    for number in range(2):
        X_real, z, codes = draw_batch(seed=number)
        figures = step(number, X_real, z, codes)

        def ask(images, codes=codes):
            logit, logits, means = network(images, training=True)
            error = cross_entropy(codes[:, :N_CODES], logits)
            squares = tf.reduce_sum((codes[:, N_CODES:] - means) ** 2) / 6
            return logit, error, squares / 2

        with tf.GradientTape() as d_tape, tf.GradientTape() as g_tape:
            fake = g_model([z, codes], training=True)
            real_loss = loss(tf.ones((6, 1)), ask(X_real)[0])
            logit, error, squares = ask(fake)
            d_loss = real_loss + loss(tf.zeros((6, 1)), logit) + error + squares
        expected = [float(real_loss), float(loss(tf.zeros((6, 1)), logit))]
        of_codes = [np.log(N_CODES) - float(error), float(squares)]
        weights = network.trainable_variables
        network.optimizer.apply(d_tape.gradient(d_loss, weights), weights)
        with g_tape:
            logit, error, squares = ask(fake)
            adversarial = loss(tf.ones((6, 1)), logit)
            g_loss = adversarial + error + squares
        weights = g_model.trainable_variables
        g_model.optimizer.apply(g_tape.gradient(g_loss, weights), weights)
        expected += [float(adversarial), *of_codes]
        assert np.allclose(figures, expected, atol=1e-5)
    for a, b in zip(ours[:2], plain[:2], strict=True):
        for x, y in zip(a.variables, b.variables, strict=True):
            assert np.allclose(x, y, atol=1e-6), x.path


@pytest.mark.parametrize("frozen", ["g", "network"])
def test_each_update_moves_its_own_weights(frozen, monkeypatch):
    g_model, network, d_model, q_model = tiny_models()
    real_update = infogan.update

    def update(model, *others):
        if model is not (g_model if frozen == "g" else network):
            real_update(model, *others)

    monkeypatch.setattr(infogan, "update", update)
    step = infogan.define_train_step(g_model, network)
    parts = weights_by_part(network, d_model, q_model)
    parts["g"] = g_model.trainable_variables
    before = {part: values(weights) for part, weights in parts.items()}
    step(0, *draw_batch())
    for part, weights in parts.items():
        found = moved(before[part], weights)
        still = frozen == ("g" if part == "g" else "network")
        assert not any(found) if still else all(found), part


@pytest.mark.statement("INFO-1", "INFO-4")
def test_training_makes_q_read_the_codes():
    g_model, network, *_ = tiny_models()
    network.optimizer.learning_rate = 0.01
    step = tf.function(infogan.define_train_step(g_model, network))
    batch = draw_batch(40)
    figures = np.array([step(tf.constant(i), *batch) for i in range(50)])
    assert figures[0, 3] < 0.2 and figures[-1, 3] > np.log(N_CODES) / 2
    assert figures[-1, 4] < 0.75 * figures[0, 4]


def test_real_and_generated_images_are_batches_of_their_own():
    """What d says of real images does not depend on the generated ones."""
    losses = []
    for scale in (1.0, 100.0):
        g_model, network, *_ = tiny_models()
        X_real, z, codes = draw_batch()
        step = infogan.define_train_step(g_model, network)
        losses.append(np.array(step(0, X_real, scale * z, codes)))
    assert losses[0][0] == losses[1][0] and losses[0][1] != losses[1][1]


@pytest.mark.statement("INFO-2", "INFO-3")
def test_codes_are_one_of_ten_and_two_numbers():
    X = np.zeros((30, *SHAPE), np.uint8)
    X[15:] = 255
    draw = infogan.define_draw([X, None], 50, 10, 3000)
    X_real, z, codes = map(np.array, draw(Draws(1, tf.constant(0), 4)))
    assert set(np.unique(X_real)) == {0, 1} and 0.4 < X_real.mean() < 0.6
    assert z.shape == (3000, 50) and codes.shape == (3000, 12)
    c1, continuous = codes[:, :10], codes[:, 10:]
    assert set(np.unique(c1)) == {0, 1} and np.all(c1.sum(axis=1) == 1)
    assert np.allclose(c1.mean(axis=0), 0.1, atol=0.025)
    for numbers in (z, continuous):
        assert -1 <= numbers.min() < -0.99 and 0.99 < numbers.max() <= 1
        assert np.var(numbers) == pytest.approx(1 / 3, abs=0.02)
    assert abs(metrics.spearman(*continuous.T)) < 0.1


@pytest.fixture
def asked(monkeypatch):
    """What the generator is asked for: (z, codes) of each call; it draws bars.

    Their thickness follows c2, the shear that makes them lean c3, downwards.
    """
    calls = []

    def generate(g_model, z, codes, *, lowest):
        assert lowest == 0
        calls.append((z, codes))
        rows, columns = np.mgrid[:28, :28] - 13.5
        c2, c3 = codes[:, -2:, np.newaxis, np.newaxis].transpose(1, 0, 2, 3)
        inside = np.abs(columns - 0.3 * c3 * rows) < 3 + 2 * c2
        return np.uint8(255 * (inside & (np.abs(rows) < 10)))[..., np.newaxis]

    monkeypatch.setattr(infogan, "generate", generate)
    return calls


def test_samples_have_the_values_that_are_asked_for(asked):
    g_model, *_ = tiny_models()
    labels = np.array([3, 0, 3, 1])
    sample = infogan.define_sample(g_model, 5)
    first, second = (sample(4, np.random.default_rng(i), labels) for i in (0, 1))
    assert not np.array_equal(first, second)
    for z, codes in asked:
        assert z.shape == (4, 5) and codes.dtype == z.dtype == np.float32
        assert np.array_equal(codes[:, :N_CODES], np.eye(N_CODES)[labels])
        assert len(np.unique(codes[:, N_CODES:])) == 8 and np.abs(codes).max() <= 1


@pytest.mark.statement("INFO-4")
def test_one_code_varies_at_a_time(asked):
    g_model, *_ = tiny_models()
    sheets = infogan.vary_codes(g_model, 5, np.random.default_rng(0), n_values=3)
    ((name, (images, in_a_row)),) = sheets.items()
    ((z, codes),) = asked
    assert (name, in_a_row, len(images)) == ("codes.png", 6, 6 * N_CODES)
    assert np.all(z == z[0]) and np.any(z[0])
    codes = codes.reshape(N_CODES, 6, N_CODES + 2)
    for c1 in range(N_CODES):
        assert np.all(codes[c1, :, :N_CODES] == np.eye(N_CODES)[c1])
        assert codes[c1, :, -2].tolist() == [-1, 0, 1, 0, 0, 0]
        assert codes[c1, :, -1].tolist() == [0, 0, 0, -1, 0, 1]


class Reader:
    """A q that reads the value of c1 off an image's first pixel, 20 levels a value."""

    def predict_on_batch(self, X):
        c1 = np.rint(X[:, 0, 0, 0] * 255 / 20).astype(int) % N_CODES
        return np.float32(50 * np.eye(N_CODES)[c1]), np.zeros((len(X), 2), np.float32)


def images_of(c1):
    X = np.zeros((len(c1), 28, 28, 1), np.uint8)
    X[:, 0, 0, 0] = 20 * np.array(c1)
    return X


class FakeRun:
    """What measure_codes needs of a run."""

    def __init__(self, test):
        self.test = test
        self.settings = infogan.Settings(measured=200)

    def rng_of(self, number):
        return np.random.default_rng(number)

    def classes(self, n):
        return np.arange(n) % N_CODES

    def count_measured(self):
        return self.settings.measured


@pytest.mark.statement("INFO-2")
def test_the_meaning_of_codes_is_measured(asked):
    g_model, *_ = tiny_models()
    # values 0, 1, 2, 3 stand for classes 2, 0, 3, 1; one of five test images differs
    X, y = images_of([0, 0, 1, 2, 3, 3, 1]), np.array([2, 2, 0, 3, 1, 1, -1])
    test = images_of([0, 1, 2, 3, 0, 0]), np.array([2, 0, 3, 1, 1, -1])
    found = infogan.measure_codes(g_model, Reader(), [X, y], 5, FakeRun(test))
    assert found["code_error"] == pytest.approx(20)
    assert found["c2_thickness"] > 0.9 and abs(found["c3_thickness"]) < 0.3
    # the bars lean to the left where c3 is high
    assert found["c3_slant"] < -0.9 and abs(found["c2_slant"]) < 0.3
    assert found["slant_correlation"] == -found["c3_slant"]
    assert found["thickness_correlation"] == found["c2_thickness"]
    # the reader takes every bar for value 0: a quarter right, the others surely wrong
    assert found["information"] == pytest.approx(np.log(N_CODES) - 0.75 * 50, rel=1e-4)


@pytest.mark.parametrize("lacking", ["test", "labels", "test labels"])
def test_without_labels_codes_have_no_error(lacking, asked):
    g_model, *_ = tiny_models()
    y, nothing = np.array([2, 0, 3, 1]), np.full(4, -1)
    X = images_of(range(4))
    test = None if lacking == "test" else (X, nothing if "test" in lacking else y)
    dataset = [X, nothing if lacking == "labels" else y]
    found = infogan.measure_codes(g_model, Reader(), dataset, 5, FakeRun(test))
    assert "code_error" not in found and "slant_correlation" in found


def test_more_or_fewer_codes_than_classes(asked):
    g_model, *_ = tiny_models()
    X = images_of([0, 1, 2, 3])
    for y, error in (([0, 1, 1, 1], 50), ([5, 4, 6, 7], 0)):
        y = np.array(y)
        found = infogan.measure_codes(g_model, Reader(), [X, y], 5, FakeRun((X, y)))
        assert found["code_error"] == pytest.approx(error)


def test_a_run_and_samples_by_code(tmp_path, capsys):
    rng = np.random.default_rng(0)
    data, run = tmp_path / "own.npz", tmp_path / "run"
    X = rng.integers(0, 256, (40, 8, 8), np.uint8)
    names = np.array(["dress", "hat"])
    np.savez(data, x_train=X, y_train=np.arange(40) % 2, class_names=names)
    options = ["--data", data, "--steps", 2, "--batch", 8, "--width", 0.05, "--out"]
    options += [run, "--codes", 3, "--measured", 20, "--threads", 1, "--seed", 1]
    assert infogan.main([*map(str, options), "--verbose", "0"]) == 0
    described = json.loads((run / "settings.json").read_text())
    # a value of a code has no name
    assert described["n_classes"] == 3 and "class_names" not in described
    with Image.open(run / "generated_plot_0002.png") as sheet:
        assert sheet.size == (2 * 10 * 8, 2 * 3 * 8)
    (row,) = read_csv(run / "measures.csv")
    assert "agreement" not in row and row["total_variation"]
    assert len(read_csv(run / "history.csv")) == 2
    figures = json.loads((run / "figures.json").read_text())
    assert {"information", "slant_correlation", "c3_thickness"} <= set(figures)
    assert set(figures["parameters"]) == {"g", "d", "q"}

    out = tmp_path / "samples"
    options = ["--sample", run, "--classes", 2, 0, "--n", 5, "--seed", 1, "--out", out]
    assert infogan.main([*map(str, options), "--threads", "1"]) == 0
    with np.load(out / "samples.npz") as arrays:
        assert arrays["y_train"].tolist() == [0, 0, 2, 2, 2]
        assert "class_names" not in arrays
    with Image.open(out / "codes.png") as sheet:
        assert sheet.size == (2 * 20 * 8, 2 * 3 * 8)
    capsys.readouterr()
    for text in ("3", "hat"):
        assert infogan.main(["--sample", str(run), "--classes", text]) == 2
        assert "0 to 2" in capsys.readouterr().err
