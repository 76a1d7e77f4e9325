from math import log, pi, sqrt

import metrics
import numpy as np
import pytest
import scipy.linalg
import scipy.special
from skimage.metrics import structural_similarity

from gankit.data.images import fit_image
from parts import refused


def grey(*levels):
    """Images of one pixel each."""
    return np.array(levels, np.uint8).reshape(-1, 1, 1, 1)


def random_images(n, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def draw_bar(width, length=20, lean=0.0, size=28):
    """A bar of light, its middle a line that leans by `lean` pixels a row."""
    image = np.zeros((1, size, size, 1), np.uint8)
    rows = np.arange((size - length) // 2, (size + length) // 2)
    for row in rows:
        left = (size - width) // 2 - lean * (row - rows.mean())
        # a pixel is as light as the part of it that the bar covers
        covered = np.minimum(np.arange(size) + 1, left + width) - np.maximum(
            np.arange(size), left
        )
        image[0, row, :, 0] = np.rint(255 * covered.clip(0, 1))
    return image


# features


def test_the_frechet_distance_of_normal_distributions():
    # 3^2 + 4^2, and (1 - 3)^2 + (2 - 4)^2 of the standard deviations
    found = metrics.frechet_distance_of(
        np.zeros(2), np.diag([1.0, 4.0]), np.array([3.0, 4.0]), np.diag([9.0, 16.0])
    )
    assert found == pytest.approx(25 + 4 + 4)


def test_the_frechet_distance_of_features():
    # means 1 and 2 apart in one, variances 2 and 8 in the other
    a = np.float32([[0, -1], [0, 1]])
    b = np.float32([[3, -2], [3, 2]])
    assert metrics.frechet_distance(a, b) == pytest.approx(9 + (sqrt(8) - sqrt(2)) ** 2)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


def test_the_frechet_distance_where_covariances_do_not_commute():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    b = rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6)) + 1
    A, B = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(A @ B).real
    apart = a.mean(axis=0) - b.mean(axis=0)
    expected = apart @ apart + np.trace(A + B - 2 * root)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert metrics.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_features_that_do_not_vary_or_are_few():
    ones = np.ones((5, 3), np.float32)
    assert metrics.frechet_distance(ones, 3 * ones) == pytest.approx(12)
    # fewer images than features: no inverse
    few = np.random.default_rng(2).normal(size=(4, 9))
    assert metrics.frechet_distance(few, few) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(few[:, :1], few[:, :1] + 2) == pytest.approx(4)
    assert refused(metrics.frechet_distance, ones[:1], ones).startswith("1 image: ")


# classes


def answers(*counts):
    """Probabilities that name class i counts[i] times."""
    named = np.repeat(np.arange(len(counts)), counts)
    return np.eye(len(counts), dtype=np.float32)[named]


def test_modes_and_entropy():
    modes, entropy = metrics.coverage(answers(100, 96, 2, 1, 1, 0))
    assert modes == 3 and isinstance(modes, int)  # 2 of 200 are 1 %
    parts = [0.5, 0.48, 0.01, 0.005, 0.005]
    assert entropy == pytest.approx(-sum(p * log(p) for p in parts))
    assert metrics.coverage(answers(*[7] * 10)) == (10, pytest.approx(log(10)))
    assert metrics.coverage(answers(0, 9, 0)) == (1, 0.0)
    assert metrics.coverage(answers(0, 1)) == (1, 0.0)
    assert "no answers" in refused(metrics.coverage, np.empty((0, 10)))


def test_sureness_and_agreement():
    probabilities = np.float32([[0.9, 0.1], [0.89, 0.11], [0.05, 0.95], [0.5, 0.5]])
    assert metrics.sureness(probabilities) == 50
    assert metrics.agreement(probabilities, np.array([0, 1, 1, 0])) == 75
    assert "no answers" in refused(metrics.sureness, probabilities[:0])
    assert "no answers" in refused(metrics.agreement, probabilities[:0], [])


class Sight:
    """Stands for a judge: the features are where the light is, the class its row."""

    n_classes = 4

    def answer(self, images):
        metrics.check_images(images)
        light = images[..., 0] / 255.0
        mass = np.maximum(light.sum(axis=(1, 2)), 1e-9)
        rows, columns = np.arange(light.shape[1]), np.arange(light.shape[2])
        row = (light.sum(axis=2) @ rows) / mass
        column = (light.sum(axis=1) @ columns) / mass
        probabilities = np.eye(4)[np.rint(row).astype(int) % 4]
        return np.stack([row, column], axis=1), probabilities


def points(places, side=16):
    """Images that are black but for one pixel."""
    images = np.zeros((len(places), side, side, 1), np.uint8)
    for image, (row, column) in zip(images, places, strict=True):
        image[row, column] = 255
    return images


def test_the_figures_of_samples():
    real = metrics.describe_real(Sight(), points([(4, 5), (4, 7), (6, 5), (6, 7)]))
    assert real.total_variation == pytest.approx(4 / 256)
    # as wide, and 2 and 1 further; all in rows that are class 2 and 0
    samples = points([(6, 6), (6, 8), (8, 6), (8, 8)]) // 5
    figures = metrics.measure_samples(Sight(), samples, real)
    assert figures == {
        "judge_fid": pytest.approx(5),
        "modes": 2,
        "entropy": pytest.approx(log(2)),
        "sure": 100,
        "total_variation": pytest.approx(0.2),
    }
    labels = np.array([2, 2, 2, 0])
    asked = metrics.measure_samples(Sight(), samples, real, labels=labels)
    assert asked == {**figures, "agreement": 75}


def test_samples_that_are_blank_or_alone():
    pair = points([(4, 5), (6, 7)])
    real = metrics.describe_real(Sight(), pair)
    blank = metrics.measure_samples(Sight(), np.zeros_like(pair), real)
    assert all(np.isfinite(value) for value in blank.values())
    assert (blank["modes"], blank["entropy"], blank["total_variation"]) == (1, 0, 0)
    assert "1 image" in refused(metrics.measure_samples, Sight(), pair[:1], real)
    assert "1 image" in refused(metrics.describe_real, Sight(), pair[:1])
    line = refused(metrics.describe_real, Sight(), np.full_like(pair, 9))
    assert "the real images are blank" in line


def test_the_ladder():
    rng = np.random.default_rng(3)
    x_train = points(rng.integers(4, 12, (6000, 2)))
    x_test = points(rng.integers(4, 12, (5000, 2)))
    found = dict(metrics.ladder(Sight(), x_train, x_test))
    assert [*found] == [
        *("training images", "training images, to other ones", "2000 training images"),
        *("shifted by 1 pixel", "shifted by 2 pixels", "noise of sd 0.2 in [-1, 1]"),
        *("3 of 4 classes", "2 of 4 classes", "blurred 3x3", "the mean image"),
    ]
    assert found["training images"] < 0.02
    assert found["training images, to other ones"] < 0.02
    assert found["2000 training images"] < 0.05
    assert found["shifted by 1 pixel"] == pytest.approx(1, abs=0.2)
    assert found["shifted by 2 pixels"] == pytest.approx(4, abs=0.4)
    # of rows from 4 to 11 those whose class, row % 4, is less than 3 and 2: the means
    # are 7 and 6.5 in the place of 7.5, the variances 14/3 and 17/4 of 21/4
    three = 0.25 + (sqrt(14 / 3) - sqrt(21 / 4)) ** 2
    assert found["3 of 4 classes"] == pytest.approx(three, abs=0.1)
    two = 1 + (sqrt(17 / 4) - sqrt(21 / 4)) ** 2
    assert found["2 of 4 classes"] == pytest.approx(two, abs=0.2)
    # the light stays where it is
    assert found["blurred 3x3"] == pytest.approx(found["training images"], abs=1e-3)
    # no variance is left of the 21/4 that both features have
    assert found["the mean image"] == pytest.approx(21 / 2, abs=0.5)
    assert metrics.ladder(Sight(), x_train, x_test) == [*found.items()]


class Hue(Sight):
    """Features are the brightness of the channels."""

    def answer(self, images):
        return images.mean(axis=(1, 2)), super().answer(images)[1]


def test_blurring_mixes_no_colours():
    red = np.zeros((40, 16, 16, 3), np.uint8)
    red[..., 0] = random_images(40, (1, 1))
    found = dict(metrics.ladder(Hue(), red, red))
    assert found["blurred 3x3"] == pytest.approx(found["training images"])
    # other images than those that are compared with them
    assert found["training images, to other ones"] > 1


def test_the_ladder_without_test_images():
    rng = np.random.default_rng(3)
    found = metrics.ladder(Sight(), points(rng.integers(4, 12, (40, 2))))
    assert len(found) == 9
    assert all(np.isfinite(value) and value >= 0 for _, value in found)


def test_the_ladder_in_a_line():
    line = metrics.describe_ladder([("training images", 0.37912), ("a\nb", 301.5)])
    assert line == r"judge-FID of known images: training images 0.3791, a\nb 301.5"


# pixels


def test_total_variation():
    checks = np.array([[0, 255], [255, 0]], np.uint8).reshape(1, 2, 2, 1)
    assert metrics.total_variation(checks) == 1  # 4 differences, 4 pixels
    both = np.concatenate([checks, np.full_like(checks, 200)])
    assert metrics.total_variation(both) == 0.5
    red = np.concatenate([checks, 0 * checks, 0 * checks], axis=3)
    assert metrics.total_variation(red) == pytest.approx(1 / 3)
    assert metrics.total_variation(grey(7)) == 0
    step = np.array([10, 61], np.uint8).reshape(1, 1, 2, 1)
    assert metrics.total_variation(step) == metrics.total_variation(step[:, :, ::-1])
    assert metrics.total_variation(step) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 8, 8, 1), np.uint8),
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 2), np.uint8),
        np.zeros((2, 8, 8, 1), np.float32),
    ],
)
def test_what_are_no_images(images):
    for measure in (metrics.total_variation, metrics.thickness, metrics.slant):
        refused(measure, images)
    refused(metrics.within_class_ssim, images, np.zeros(len(images)), 1)
    other, labels = np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, int)
    refused(metrics.parzen_log_likelihood, images, other, other)
    refused(metrics.parzen_log_likelihood, other, other, images)
    refused(metrics.nearest_neighbour_error, images, labels, other, labels)


def test_the_parzen_window_of_two_samples():
    def density(distance, sigma):
        return np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * sqrt(2 * pi))

    at_0, at_1 = (
        log((density(here, 0.5) + density(1 - here, 0.5)) / 2) for here in (0, 0.2)
    )
    mean, error, sigma = metrics.parzen_log_likelihood(
        grey(0, 255), grey(0), grey(0, 51), [0.5]
    )
    assert sigma == 0.5
    assert mean == pytest.approx((at_0 + at_1) / 2, rel=1e-5)
    # the standard deviation of two numbers is half their difference
    assert error == pytest.approx(abs(at_0 - at_1) / 2 / sqrt(2), rel=1e-4)


def test_parzen_windows_against_scipy(monkeypatch):
    samples, held_out, test = (random_images(n, (2, 2, 3), n) for n in (40, 7, 9))
    sigmas = [0.1, 0.3, 0.9]

    def expected(x, sigma):
        a, b = (i.reshape(len(i), -1) / 255 for i in (x, samples))
        exponents = -((a[:, None] - b) ** 2).sum(axis=2) / (2 * sigma**2)
        return (
            scipy.special.logsumexp(exponents, axis=1)
            - log(40)
            - 6 * log(2 * pi * sigma**2)
        )

    best = max(sigmas, key=lambda sigma: expected(held_out, sigma).mean())
    found = metrics.parzen_log_likelihood(samples, held_out, test, sigmas)
    of_test = expected(test, best)
    np.testing.assert_allclose(
        found, (of_test.mean(), of_test.std() / 3, best), rtol=1e-4
    )
    monkeypatch.setattr(metrics, "LARGEST_BLOCK", 80)  # two rows at once
    in_blocks = metrics.parzen_log_likelihood(samples, held_out, test, sigmas)
    np.testing.assert_allclose(in_blocks, found, rtol=1e-5)


def test_parzen_windows_choose_by_the_held_out_images_alone():
    near, far = grey(*[100] * 5), grey(*[250] * 5)
    mean, _, sigma = metrics.parzen_log_likelihood(near, near, far)
    assert sigma == pytest.approx(0.1) and np.isfinite(mean)
    other, _, sigma = metrics.parzen_log_likelihood(near, far, far)
    assert 0.5 < sigma < 0.7 and other > mean
    # far beyond what exp can tell from 0
    mean, error, _ = metrics.parzen_log_likelihood(near, near, far, [0.001])
    distance = 150 / 255 / 0.001
    assert mean == pytest.approx(
        -0.5 * distance**2 - log(0.001 * sqrt(2 * pi)), rel=1e-5
    )
    assert error == pytest.approx(0, abs=1e-3)


def test_the_error_of_the_nearest_neighbour(monkeypatch):
    x, y = grey(0, 100, 200), np.array([0, 1, 2])
    x_test, y_test = grey(49, 51, 149, 255), np.array([0, 0, 1, 1])
    # 51 is nearer to 100, and 255 to 200
    assert metrics.nearest_neighbour_error(x, y, x_test, y_test) == 50
    assert metrics.nearest_neighbour_error(x, y, x, y) == 0
    # of two that are equally near the first counts, in another block too
    for n in (1 << 22, 512):
        monkeypatch.setattr(metrics, "LARGEST_BLOCK", n)
        pair = grey(10, 10), np.array([3, 4])
        assert metrics.nearest_neighbour_error(*pair, grey(9), np.array([3])) == 0
        assert metrics.nearest_neighbour_error(*pair, grey(9), np.array([4])) == 100


def test_the_nearest_neighbours_of_many_in_blocks(monkeypatch):
    x, x_test = random_images(700, seed=1), random_images(600, seed=2)
    y, y_test = np.arange(700) % 3, np.arange(600) % 3
    flat = x.reshape(700, -1).astype(int)
    nearest = [((flat - t.reshape(-1)) ** 2).sum(axis=1).argmin() for t in x_test]
    expected = 100 * np.mean(y[nearest] != y_test)
    assert 50 < expected < 80
    monkeypatch.setattr(metrics, "LARGEST_BLOCK", 512 * 97)
    found = metrics.nearest_neighbour_error(x, y, x_test, y_test)
    assert found == pytest.approx(expected)


def test_ssim_within_a_class():
    """Of flat images it follows from their levels, and of equal ones it is 1."""
    x = np.full((6, 8, 8, 1), 50, np.uint8)
    x[1] = 200
    x[3] = x[2] = random_images(1)[0]
    y = np.array([0, 0, 1, 1, 2, 4])
    found = metrics.within_class_ssim(x, y, 5, n_pairs=3)
    assert found.shape == (5,) and found.dtype == np.float64
    c1 = (0.01 * 255) ** 2
    flat = (2 * 50 * 200 + c1) / (50**2 + 200**2 + c1)
    np.testing.assert_allclose(found[:2], [flat, 1], rtol=1e-6)
    assert np.isnan(found[2:]).all()  # one image, none, one


def test_ssim_is_of_random_pairs():
    x, y = random_images(30, (8, 8, 3)), np.zeros(30, int)
    one, same, other = (
        metrics.within_class_ssim(x, y, 1, 20, seed=seed)[0] for seed in (1, 1, 2)
    )
    assert one == same != other and abs(one) < 0.2
    pair = metrics.within_class_ssim(x[:2], y[:2], 1, 2)
    expected = structural_similarity(x[0], x[1], channel_axis=2)
    assert pair[0] == pytest.approx(expected)


def test_the_thickness_of_bars():
    bars = np.concatenate([draw_bar(width) for width in (2, 3, 4)])
    np.testing.assert_allclose(metrics.thickness(bars), [1.84, 2.64, 3.37], atol=5e-3)
    # at the border of the image, at half the light, and in white
    shifted = np.roll(bars, 12, axis=2)
    np.testing.assert_allclose(
        metrics.thickness(shifted), metrics.thickness(bars), rtol=0.01
    )
    dim = metrics.thickness(draw_bar(3) // 5)
    assert dim == pytest.approx(metrics.thickness(bars[1:2]))
    white = np.repeat(bars, 3, axis=3)
    np.testing.assert_allclose(metrics.thickness(white), metrics.thickness(bars))
    # by the luminance, which is that light all over
    red = np.concatenate([bars, 0 * bars, 0 * bars], axis=3)
    np.testing.assert_allclose(metrics.thickness(red), metrics.thickness(bars))


def test_the_slant_of_bars():
    bars = [draw_bar(3, 14, lean) for lean in (0.5, 0, -0.5, 1)]
    found = metrics.slant(np.concatenate(bars))
    np.testing.assert_allclose(found, [26.4, 0, -26.4, 45], atol=0.5)
    assert metrics.slant(np.repeat(bars[0], 3, axis=3))[0] == pytest.approx(found[0])
    # wherever the bar is
    there = np.roll(bars[0], (5, -4), axis=(1, 2))
    assert metrics.slant(there)[0] == pytest.approx(found[0])


def test_colour_images_are_measured_by_the_grey_that_the_reader_makes():
    colour = random_images(20, (8, 8, 3))
    made_grey = np.stack([fit_image(image, 8, 8, 1) for image in colour])
    for measure in (metrics.thickness, metrics.slant):
        found, expected = measure(colour), measure(made_grey)
        np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.1)


def test_blank_images_have_neither_thickness_nor_slant():
    blank = np.zeros((2, 8, 12, 3), np.uint8)
    for measure in (metrics.thickness, metrics.slant):
        np.testing.assert_array_equal(measure(blank), [0, 0])
    white = np.full((1, 28, 28, 1), 255, np.uint8)
    outline = 4 * 28 - 2 + sqrt(2)  # the steps at one corner are of one pixel
    assert metrics.thickness(white)[0] == pytest.approx(2 * 28**2 / outline)
    assert metrics.slant(white)[0] == pytest.approx(0, abs=1e-9)
    # where rounding alone gives the moments their sign
    rows = np.zeros((200, 28, 28, 1), np.uint8)
    rows[:, 17] = random_images(200, (28, 1))
    np.testing.assert_array_equal(metrics.slant(rows), 0)


def test_the_digits_are_as_thick_and_slanted_as_they_were(mnist):
    """TOUR's thirds: MNIST's median digit leans to the right."""
    (x, _), _ = mnist
    thirds = np.percentile(metrics.thickness(x[:20_000]), [100 / 3, 200 / 3])
    np.testing.assert_allclose(thirds, [2.15, 2.66], atol=0.005)
    thirds = np.percentile(metrics.slant(x[:20_000]), [100 / 3, 50, 200 / 3])
    assert -1 < thirds[0] < 0.5 and 5 < thirds[1] < 7.5 and 12 < thirds[2] < 14


# codes


def test_the_best_matching_of_codes():
    # code 0 is mostly class 2, code 1 class 0, code 2 class 1
    labels = np.array([2, 2, 2, 0, 0, 0, 0, 1, 1, 2, *[-1] * 9])
    codes = np.array([0, 0, 0, 1, 1, 1, 0, 2, 2, 2, *[2] * 9])
    mapping = metrics.best_matching(codes, labels, 3)
    assert mapping.tolist() == [2, 0, 1]
    assert metrics.matching_error(mapping, codes, labels) == pytest.approx(20)
    assert metrics.matching_error(mapping, codes[:6], labels[:6]) == 0


def test_each_code_stands_for_one_class():
    """The most right together: code 0 gives class 0 up, though it is mostly that."""
    labels = np.repeat([0, 1, 0, 1], [5, 4, 4, 0])
    codes = np.repeat([0, 0, 1, 1], [5, 4, 4, 0])
    mapping = metrics.best_matching(codes, labels, 2)
    assert mapping.tolist() == [1, 0]
    assert metrics.matching_error(mapping, codes, labels) == pytest.approx(500 / 13)


def test_codes_without_use_are_matched_too():
    mapping = metrics.best_matching(np.zeros(4, int), np.full(4, 7), 10)
    assert mapping[0] == 7 and sorted(mapping) == list(range(10))
    line = refused(metrics.matching_error, mapping, np.zeros(2, int), np.full(2, -1))
    assert "no image has a label" in line


def test_spearmans_correlation():
    # 1 - 6 sum(d^2) / (n (n^2 - 1)) with one pair exchanged
    assert metrics.spearman([1, 2, 3, 4], [10, 30, 20, 99]) == pytest.approx(0.8)
    assert metrics.spearman([1, 2, 3], [9, 4, -1]) == pytest.approx(-1)
    assert metrics.spearman([1, 2, 3], [5, 5, 5]) == 0
    assert "1 numbers" in refused(metrics.spearman, [1], [2])


def test_a_judge_is_given_batches_of_bounded_size(monkeypatch):
    given = []

    def predict(batch):
        given.append(batch)
        return np.zeros((len(batch), 128), np.float32), np.ones((len(batch), 2))

    judge = metrics.Judge.__new__(metrics.Judge)
    judge.image_shape = (56, 28, 1)
    judge._answer = predict
    features, probabilities = judge.answer(random_images(600, (56, 28, 1)))
    assert features.shape == (600, 128) and probabilities.shape == (600, 2)
    assert [len(batch) for batch in given] == [250, 250, 100]
    assert given[0].min() == -1 and given[0].max() == 1
    line = refused(judge.answer, random_images(2, (28, 28, 1)))
    assert line == "the judge takes images of 56x28x1, and these are of 28x28x1"


def test_ridge_regression_separates_what_can_be_separated():
    rng = np.random.default_rng(0)

    def draw(n):
        y = rng.integers(0, 3, n)
        x = rng.normal(size=(n, 6))
        x[np.arange(n), 2 * y] += 20
        return x, y

    parts = draw(60), draw(60), draw(200)
    assert metrics.ridge_error(*parts) == 0
    # a scale and a constant of a feature change nothing
    scaled = [(x * [1, 5, 1, 9, 1, 1] + 7, y) for x, y in parts]
    assert metrics.ridge_error(*scaled) == 0
    x, y = parts[2]
    assert metrics.ridge_error(parts[0], parts[1], (x, (y + 1) % 3)) == 100
    x = np.zeros((60, 6))
    blank = [(x, np.arange(60) % 3)] * 3
    assert metrics.ridge_error(*blank) == pytest.approx(200 / 3)


def test_the_strength_of_ridge_regression_is_chosen_on_held_out_images():
    """With as many features as images, weak ridge learns noise by heart."""
    rng = np.random.default_rng(0)

    def draw(n):
        y = rng.integers(0, 2, n)
        x = rng.normal(size=(n, 200))
        x[:, :20] += 0.5 * (2 * y[:, np.newaxis] - 1)
        return x, y

    train, held_out, test = draw(200), draw(500), draw(2000)
    found = metrics.ridge_error(train, held_out, test)
    wrong = held_out[0], rng.integers(0, 2, 500)
    assert found < 10 and found <= metrics.ridge_error(train, wrong, test)


# holes that were filled


def holes(*shape):
    """The pixels that count, in images of this shape: a block in each, elsewhere."""
    where = np.zeros((*shape, 1), bool)
    for i, image in enumerate(where):
        image[i : i + 3, 1 : 4 + i] = True
    return where


def test_errors_in_holes_by_hand():
    truth = np.zeros((2, 6, 7, 3), np.uint8)
    where = holes(2, 6, 7)
    images = np.where(where, np.uint8(51), truth + np.uint8(250))  # 0.2
    assert metrics.mean_error(truth, images, where) == pytest.approx(20)
    assert metrics.mean_error(truth, images, where, power=2) == pytest.approx(4)
    assert metrics.psnr(truth, images, where) == pytest.approx(-10 * np.log10(0.04))
    assert metrics.mean_error(images, truth, where) == pytest.approx(20)
    images = np.where(where, truth, images)
    assert metrics.psnr(truth, images, where) == np.inf
    for measure in (metrics.psnr, metrics.mean_error):
        assert "no pixel" in refused(measure, truth, images, where & False)


def test_variation_in_holes_by_hand():
    x = np.zeros((2, 6, 7, 1), np.uint8)
    x[:, 1, 2] = 255
    where = np.zeros(x.shape, bool)
    where[0, :2, 2:4] = True  # of the four neighbours of the light pixel two count
    assert metrics.total_variation_in(x, where) == pytest.approx(2)
    where[1, 1, 2] = True  # a pixel alone has no neighbour
    assert metrics.total_variation_in(x, where) == pytest.approx(2)
    where[:] = True
    total = metrics.total_variation_in(x, where)
    assert total == pytest.approx(metrics.total_variation(x) * x.size) and total == 8


def test_the_nearest_image_by_what_is_seen(monkeypatch):
    rng = np.random.default_rng(0)
    x, x_test = (rng.integers(0, 256, (n, 6, 7, 3), np.uint8) for n in (23, 9))
    hidden = holes(9, 6, 7)
    visible = ~hidden * (x_test[:, None].astype(float) - x[None])[..., :].transpose(
        1, 0, 2, 3, 4
    )
    wanted = (visible**2).sum(axis=(2, 3, 4)).argmin(axis=0)
    assert metrics.nearest_by_context(x, x_test, hidden).tolist() == wanted.tolist()
    monkeypatch.setattr(metrics, "LARGEST_BLOCK", 4 * 6 * 7 * 3)  # blocks of four
    assert metrics.nearest_by_context(x, x_test, hidden).tolist() == wanted.tolist()
    # what is hidden does not count
    x_test[3] = np.where(hidden[3], x_test[3], x[17])
    x_test[4], x[5] = 0, x[2]
    x_test[4] = x[2]
    found = metrics.nearest_by_context(x, x_test, hidden)
    assert found[3] == 17 and found[4] == 2


# levels of detail


def detailed(n=40, side=32, seed=0):
    """Noise that is smooth on a scale of 8 pixels, with fine noise on it."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(50, 200, (n, side // 8, side // 8, 1))
    coarse = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return np.uint8(coarse + rng.uniform(-40, 40, (n, side, side, 1)))


def test_a_pyramid_has_each_detail_at_its_level():
    flat = np.full((2, 32, 32, 1), 90, np.uint8)
    levels = metrics.laplacian_pyramid(flat)
    assert [level.shape[1] for level in levels] == [32, 16, 8]
    np.testing.assert_allclose(levels[-1], 90, rtol=1e-5)
    assert max(np.abs(level).max() for level in levels[:2]) < 1e-3
    # a chequered board is lost at once
    board = np.uint8(90 + 20 * (-1) ** np.indices((32, 32)).sum(axis=0))
    fine, middle, rest = metrics.laplacian_pyramid(board[np.newaxis, ..., np.newaxis])
    np.testing.assert_allclose(np.abs(fine), 20, atol=1e-3)
    assert np.abs(middle).max() < 1e-3
    np.testing.assert_allclose(rest, 90, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "heights"),
    [((8, 8), [8]), ((28, 36), [28, 14]), ((15, 40), [15]), ((64, 32), [64, 32, 16])],
)
def test_a_pyramid_ends_at_small_or_odd_sides(size, heights):
    levels = metrics.laplacian_pyramid(np.zeros((1, *size, 3), np.uint8))
    assert [level.shape[1] for level in levels] == heights


def test_the_sliced_wasserstein_distance_by_level():
    real, others = detailed(seed=1), detailed(seed=2)
    alike = metrics.sliced_wasserstein(others, real)
    assert list(alike) == [32, 16, 8]
    blurred = np.uint8(metrics.ndimage.uniform_filter(others, (1, 3, 3, 1)))
    found = metrics.sliced_wasserstein(blurred, real)
    assert found[32] > 2 * alike[32] and found[8] < 1.5 * alike[8]
    # brightness and contrast are taken out
    darker = metrics.sliced_wasserstein(np.uint8(others // 2), real)
    assert darker[8] == pytest.approx(alike[8], rel=0.05)
    assert metrics.sliced_wasserstein(real, real, seed=3) != alike


def test_the_distance_of_what_falls_on_a_direction():
    """All patches of one set have one pixel on, at another place than the other's."""
    images = np.zeros((2, 7, 7, 1), np.uint8)
    images[0, 3, 3] = images[1, 3, 2] = 255
    (distance,) = metrics.sliced_wasserstein(images[:1], images[1:]).values()
    # scaled, the pixel is 7.07 above the others; on a random direction in 49 dimensions
    # falls sqrt(2 / pi) / 7 of a vector
    length = np.sqrt(2) * 7.07
    assert distance == pytest.approx(1000 * length * np.sqrt(2 / np.pi) / 7, rel=0.15)


# ways through a latent space


def test_the_spherical_way():
    a, b = np.array([[3.0, 0], [0, 2]]), np.array([[0, 5.0], [0, -1e-3]])
    half = metrics.slerp(a, b, np.array([[0.5], [0.0]]))
    np.testing.assert_allclose(half, [[0.5**0.5, 0.5**0.5], [0, 1]], atol=1e-9)
    third = metrics.slerp(a[:1], b[:1], np.array([[1 / 3]]))
    np.testing.assert_allclose(third, [[np.cos(np.pi / 6), 0.5]], atol=1e-9)
    # from a point to itself there is no way
    np.testing.assert_allclose(metrics.slerp(a, a, np.ones((2, 1))), [[1, 0], [0, 1]])


def test_a_trimmed_mean():
    values = np.arange(1000.0)
    values[[3, 500]] = -1e9, 1e9
    assert metrics.trimmed_mean(values) == pytest.approx(499.5, rel=0.01)
    assert metrics.trimmed_mean(np.array([1.0, 2, 6])) == 3
