from types import SimpleNamespace

import figures
import numpy as np
import pytest

from gankit.backend import keras, layers


def a_run(measured=20, n_classes=4, test=None, border=0):
    """What the figures of classes need of a GanRun."""
    return SimpleNamespace(
        settings=SimpleNamespace(measured=measured),
        n_classes=n_classes,
        test=test,
        classes=lambda n: np.arange(n) % n_classes,
        rng_of=np.random.default_rng,
        count_measured=lambda times=1: times * measured,
        inner=lambda images: images[:, border:, border:],
    )


def flat(levels, shape=(8, 8, 1)):
    """Images of one level each."""
    levels = np.uint8(levels)[:, np.newaxis, np.newaxis, np.newaxis]
    return np.tile(levels, (1, *shape))


def noise(y, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (len(y), 8, 8, 1), np.uint8)


def test_figures_of_a_generator_that_makes_one_image_a_class():
    asked = []

    def sample(n, rng, labels):
        asked.append((n, labels.tolist()))
        return flat(50 * labels)

    y = np.arange(40) % 4
    # levels 50 apart: class 2 for class 1 is the one mistake
    test = [flat([1, 48, 102, 99]), np.array([0, 1, 2, 1])]
    found = figures.measure_classes(sample, [noise(y), y], a_run(test=test))
    assert asked == [(100, [0, 1, 2, 3] * 25)]
    assert found["nearest_neighbour_error"] == 25
    assert found["ssim"] == pytest.approx(1)
    assert abs(found["real_ssim"]) < 0.1
    excess = 1 - figures.metrics.within_class_ssim(noise(y), y, 4)
    assert found["worst_ssim_excess"] == pytest.approx(excess.max())
    assert excess.max() - excess.mean() > 1e-3  # else the mean would pass


def test_the_excess_of_one_class_is_seen():
    # classes 0 to 2 are as varied as real ones, the last is always one image
    def sample(n, rng, labels):
        images = noise(labels, seed=1)
        images[labels == 3] = 77
        return images

    y = np.arange(40) % 4
    found = figures.measure_classes(sample, [noise(y), y], a_run())
    assert found["worst_ssim_excess"] > 0.8 > 0.4 > found["ssim"]


def test_the_border_is_not_measured():
    """Else it would make images of a class more alike than they are."""
    y = np.arange(40) % 4

    def sample(n, rng, labels):
        return noise(labels, seed=1)

    def with_border(images):
        return np.pad(images[:, 1:, 1:], ((0, 0), (1, 0), (1, 0), (0, 0)))

    test = [noise(y[:9], seed=2), y[:9]]
    inside = figures.measure_classes(sample, [noise(y), y], a_run(test=test, border=1))
    found = figures.measure_classes(
        lambda *given: with_border(sample(*given)),
        [with_border(noise(y)), y],
        a_run(test=[with_border(test[0]), test[1]], border=1),
    )
    assert found == inside and abs(found["real_ssim"]) < 0.2


def test_figures_that_have_no_value_are_left_out():
    y = np.arange(40) % 4

    def sample(n, rng, labels):
        return flat(labels)

    found = figures.measure_classes(sample, [noise(y), y], a_run())
    assert set(found) == {"ssim", "real_ssim", "worst_ssim_excess"}
    # one image a class is made, or one class has images, of which that is not true
    run = a_run(measured=2, n_classes=10)
    assert figures.measure_classes(sample, [noise(y), y], run) == {}


def test_a_class_without_real_images_is_passed_over():
    y = np.arange(40) % 3

    def sample(n, rng, labels):
        return np.where(labels[:, None, None, None] == 3, 9, noise(labels))

    found = figures.measure_classes(
        lambda *given: np.uint8(sample(*given)), [noise(y), y], a_run()
    )
    assert np.isfinite(list(found.values())).all()
    assert found["ssim"] < 0.4


def test_at_most_50_000_images_are_made():
    asked = []

    class Enough(Exception):
        pass

    def sample(n, rng, labels):
        asked.append(n)
        raise Enough

    for measured in (9_000, 10_000, 30_000):
        with pytest.raises(Enough):
            figures.measure_classes(sample, [noise([0]), None], a_run(measured))
    assert asked == [45_000, 50_000, 50_000]


def test_the_likelihood_is_left_out_without_test_images():
    assert figures.measure_likelihood(None, [None, None], a_run()) == {}


def test_the_likelihood_is_that_of_test_images_under_samples():
    X, x_test = flat(np.arange(0, 200, 5)), flat([40, 80, 120])
    run = a_run(measured=30, test=[x_test, np.arange(3)])

    def sample(n, rng, labels):
        return flat(6 * np.arange(n))

    found = figures.measure_likelihood(sample, [X, None], run)
    expected = figures.metrics.parzen_log_likelihood(flat(6 * np.arange(30)), X, x_test)
    names = ("log_likelihood", "standard_error", "sigma")
    assert list(found) == list(names)
    assert tuple(found.values()) == pytest.approx(expected)
    # other test images, elsewhere
    run.test[0] = flat([250, 251, 252])
    other = figures.measure_likelihood(sample, [X, None], run)
    assert other["log_likelihood"] < found["log_likelihood"]


def test_a_truncation_curve_has_a_point_a_threshold():
    asked = []

    def define_sample(threshold):
        def sample(n, rng, labels):
            asked.append((threshold, n, rng.integers(99)))
            images = noise(labels, seed=1)
            images[labels < threshold] = 77  # of as many classes all are alike
            return images

        return sample

    run = a_run(border=1)
    run.evaluations = ("judge_fid", "modes", "agreement")

    def measure(images, labels):
        assert len(images) == 20 and labels.tolist() == [0, 1, 2, 3] * 5
        return images.mean(), 4, None

    run.measure = measure
    found = figures.measure_truncation(define_sample, run, (4, 0.5))
    assert asked == [(4, 20, asked[0][2]), (0.5, 20, asked[0][2])]
    names = [f"truncation_{t}_{n}" for t in ("4", "0.5") for n in ("judge_fid", "ssim")]
    assert list(found) == names  # no agreement, no judge
    assert found["truncation_4_ssim"] == pytest.approx(1)
    assert 0.2 < found["truncation_0.5_ssim"] < 0.4
    assert found["truncation_4_judge_fid"] == 77
    # a class of one image each
    few = a_run(measured=4)
    few.evaluations, few.measure = run.evaluations, lambda *given: (None,) * 3
    assert figures.measure_truncation(define_sample, few, (1,)) == {}


# styles


def linear_parts(side=4):
    """A mapping that is none, and a synthesis whose pixels are the first style."""
    z = keras.Input(shape=(side**2,))
    styles = keras.Input(shape=(3, side**2))
    noise = keras.Input(shape=(side, side, 1))
    first = layers.Reshape((side, side, 1))(layers.Cropping1D((0, 2))(styles))
    images = layers.Add()([first, layers.Rescaling(0.0)(noise)])
    return keras.Model(z, z), keras.Model([styles, noise], images)


def test_path_lengths_by_hand():
    run = a_run(measured=3000)
    run.judge = SimpleNamespace(features=lambda x: np.reshape(3 * x, (len(x), -1)))
    run.inner = lambda images: images

    def noise_of(n, rng):
        return [np.zeros((n, 4, 4, 1), np.float32)]

    found = figures.measure_paths(*linear_parts(), noise_of, 16, run)
    # in W the square of the whole way, |b - a|^2, tripled by the judge
    assert found["path_length_w"] == pytest.approx(9 * 2 * 16, rel=0.05)
    # in Z the square of the angle between them
    points = np.random.default_rng(1).normal(size=(2, 20_000, 16))
    points /= np.linalg.norm(points, axis=2, keepdims=True)
    angles = np.arccos((points[0] * points[1]).sum(axis=1))
    assert found["path_length_z"] == pytest.approx(9 * np.mean(angles**2), rel=0.05)
    run.judge = None
    assert figures.measure_paths(*linear_parts(), noise_of, 16, run) == {}


def test_what_styles_are_worth():
    asked = []

    def define_sample(psi=1.0, noisy=True):
        asked.append((psi, noisy))
        return lambda n, rng, labels: (psi, noisy)

    run = a_run()
    run.judge, run.evaluations = object(), ("judge_fid", "modes", "entropy", "sure")
    run.measure = lambda images: (images[0] + 10 * images[1], 4, 2 * images[0], 50)
    found = figures.measure_styles(define_sample, run, shares=(0.3, 0.7))
    assert asked == [(0.3, True), (0.7, True), (1.0, False)]
    assert found == {
        "psi_0.3_judge_fid": 10.3,
        "psi_0.3_entropy": 0.6,
        "psi_0.3_sure": 50,
        "psi_0.7_judge_fid": 10.7,
        "psi_0.7_entropy": 1.4,
        "psi_0.7_sure": 50,
        "without_noise_judge_fid": 1.0,
    }
    run.judge = None
    assert figures.measure_styles(define_sample, run) == {}


def test_what_coarse_and_fine_styles_control(monkeypatch):
    """The second layer's style sets the class, and the last one's the thickness."""
    monkeypatch.setattr(figures.metrics, "thickness", lambda x: x[:, 0, 1, 0])

    def paint(styles, noise):
        images = np.zeros((len(styles), 8, 8, 1), np.uint8)
        images[:, 0, 0, 0] = styles[:, 1, 0]
        images[:, 0, 1, 0] = styles[:, 5, 1]
        return images

    def mix(a, b, n_coarse, n_styles):
        coarse = (np.arange(n_styles) < n_coarse)[:, np.newaxis]
        return np.where(coarse, a[:, np.newaxis], b[:, np.newaxis])

    def noise_of(n, rng):
        return [np.zeros((n, size, size, 1)) for size in (4, 4, 8, 8, 16, 16)]

    def to_w(z):
        return np.uint8(np.clip(100 + 40 * z, 0, 255))

    run = a_run(measured=500)
    run.settings.bundled, run.inner = True, lambda images: images
    classes = np.eye(2)
    run.judge = SimpleNamespace(
        answer=lambda x: (None, classes[np.int64(x[:, 0, 0, 0] > 100)])
    )
    found = figures.measure_mixing(to_w, paint, mix, noise_of, 2, run)
    assert list(found) == [
        f"mix_{height}_{source}_{what}"
        for height in (4, 8)
        for source in ("coarse", "fine")
        for what in ("class", "thickness")
    ]
    for height in (4, 8):
        assert found[f"mix_{height}_coarse_class"] == 100
        assert found[f"mix_{height}_fine_class"] == pytest.approx(50, abs=10)
        assert found[f"mix_{height}_fine_thickness"] == pytest.approx(1)
        assert abs(found[f"mix_{height}_coarse_thickness"]) < 0.2
    run.settings.bundled = False
    assert len(figures.measure_mixing(to_w, paint, mix, noise_of, 2, run)) == 4
    run.judge = None
    assert figures.measure_mixing(to_w, paint, mix, noise_of, 2, run) == {}


def test_levels_of_detail_are_compared():
    """Of training images, which are noise, beside test images in blocks."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (400, 16, 16, 1), np.uint8)
    blocks = rng.integers(0, 256, (70, 4, 4, 1), np.uint8).repeat(4, 1).repeat(4, 2)
    run = a_run(measured=90, test=[blocks])
    found = figures.measure_levels(lambda n, rng, labels: X[:n], [X], run)
    names = [f"sliced_wasserstein_{height}" for height in (16, 8)]
    assert list(found) == [*names, *[f"real_{name}" for name in names]]
    assert found[names[0]] < found[f"real_{names[0]}"] / 3
    run.test = None
    found = figures.measure_levels(lambda n, rng, labels: X[:n], [X], run)
    assert found[f"real_{names[0]}"] == pytest.approx(found[names[0]], rel=0.5)
    small = X[:, :4, :4]
    assert figures.measure_levels(None, [small], run) == {}


def test_some_test_images_are_of_all_parts():
    """Of a folder, the first ones would be of one class."""
    images = np.repeat(np.arange(10), 50)
    assert set(images[figures.some_of(images, 60)]) == set(range(10))
    assert figures.some_of(images, 500).tolist() == list(range(500))
    assert np.array_equal(figures.some_of(images, 60), figures.some_of(images, 60))
