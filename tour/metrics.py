"""What measures generated images: the figures of the tour.

Images are uint8 arrays (n, h, w, c) in [0, 255], c 1 (grey) or 3 (RGB): generated ones
are measured as a file would keep them. Labels are integers (n,) from 0 on.

Features and classes are a judge's: a classifier trained on all labels, see judge.py.
A figure that has no value for what it is given, as a covariance of one image, raises
InputError, unless its docstring says what it returns then.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from gankit.backend import LazyModule, keras, tf  # noqa: E402
from gankit.command import InputError, printable  # noqa: E402
from gankit.data.images import scale_images  # noqa: E402
from gankit.models.classify import batch_size  # noqa: E402
from gankit.models.files import SUFFIXES, load_model, read_class_names  # noqa: E402
from gankit.models.generate import interpolate  # noqa: E402

linalg = LazyModule("scipy.linalg")
ndimage = LazyModule("scipy.ndimage")
optimize = LazyModule("scipy.optimize")
stats = LazyModule("scipy.stats")
skimage_metrics = LazyModule("skimage.metrics")

SHIPPED_JUDGE = Path(__file__).with_name("judge.keras")
# the layer of a judge whose outputs are its features
FEATURES = "features"
N_FEATURES = 128
REMEDY = "make one with python tour/judge.py --data PATH"
LARGEST_RECORD = 1 << 20
# images that show whether a judge knows a data set
N_TRIED = 1000
# images that a judge-FID is of: with fewer it is larger
N_MEASURED = 10_000
N_FEW = 2_000
# squared distances that are held at once, 16 MiB
LARGEST_BLOCK = 1 << 22
# ITU-R 601's, with which gankit's reader of images makes grey of colour
LUMINANCE = (0.299, 0.587, 0.114)


class Judge:
    """A classifier that measures images.

    model: a Keras model as judge.define_judge makes it. class_names: list of str, or
    None. accuracy: percent of its data's test images, or of the training images where
    there are none; None where it isn't known. ladder: what ladder() returned, or None.
    """

    def __init__(self, model, class_names=None, *, accuracy=None, ladder=None):
        self.image_shape = model.input_shape[1:]
        self.n_classes = model.output_shape[1]
        self.class_names, self.accuracy, self.ladder = class_names, accuracy, ladder
        features = model.get_layer(FEATURES).output
        both = keras.Model(model.inputs, [features, model.outputs[0]])
        # one graph for batches of any size
        self._answer = tf.function(
            lambda batch: both(batch, training=False),
            input_signature=[tf.TensorSpec((None, *self.image_shape))],
        )

    def answer(self, images):
        """Return features, float32 (n, 128), and probabilities, float32 (n, n_classes).

        Computed in batches of 500 of MNIST's images, fewer of larger ones.
        """
        check_images(images)
        if images.shape[1:] != self.image_shape:
            sizes = (
                "x".join(map(str, s)) for s in (self.image_shape, images.shape[1:])
            )
            raise InputError(
                "the judge takes images of {}, and these are of {}".format(*sizes)
            )
        n_batch = batch_size(*self.image_shape[:2])
        parts = [
            self._answer(scale_images(images[first : first + n_batch]))
            for first in range(0, len(images), n_batch)
        ]
        features, probabilities = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(probabilities)

    def features(self, images):
        """Return features, float32 (n, 128); images: float32 (n, h, w, c) in [-1, 1].

        As answer() does, for images that are not rounded to a file's values.
        """
        return np.array(self._answer(images)[0])


def find_judge(path=None):
    """Return the Path of a judge's file, or of the one in a run's folder.

    None is the shipped one.
    """
    path = SHIPPED_JUDGE if path is None else Path(path)
    if path.is_dir():
        named = [path / f"judge{suffix}" for suffix in SUFFIXES]
        path = next((file for file in named if file.is_file()), named[0])
    return path


def load_judge(path=None, *, data=None):
    """Return the Judge in a file; no code from the file is run.

    path: a .keras or .h5 file, or the folder of a run of judge.py; None for the judge
    of MNIST's digits that is shipped. data: a gankit.data.arrays.Data that it must
    fit, with its image shape, its classes, and by recognising its labelled images.
    Raises InputError for a file that is missing, broken or no judge, and for a judge
    that doesn't fit.
    """
    path = find_judge(path)
    try:
        model = load_model(path, "classifier")
        class_names = read_class_names(path)
    except InputError as error:
        problem = str(error).removeprefix(f"{path}: ").rpartition("; ")[0]
        raise InputError(f"{path}: {problem}; {REMEDY}") from error
    layers = {layer.name: layer for layer in model.layers}
    if FEATURES not in layers or layers[FEATURES].output.shape != (None, N_FEATURES):
        raise InputError(
            f"{path}: a classifier, but no judge, since it has no layer {FEATURES!r} "
            f"of {N_FEATURES} outputs; {REMEDY}"
        )
    if class_names and len(class_names) != model.output_shape[1]:
        raise InputError(
            f"{path}: has {len(class_names)} class names and {model.output_shape[1]} "
            f"classes; {REMEDY}"
        )
    record = _read_record(path)
    accuracies = (record.get(name) for name in ("test_accuracy", "train_accuracy"))
    judge = Judge(
        model,
        class_names,
        accuracy=next((value for value in accuracies if value is not None), None),
        ladder=record.get("ladder"),
    )
    if data is not None:
        check_fit(path, judge, data)
    return judge


def _read_record(path):
    """Return what stands in the .json file beside a judge, a dict; {} without one."""
    record_path = path.with_suffix(".json")
    try:
        with open(record_path, "rb") as file:
            record = json.loads(file.read(LARGEST_RECORD))
        steps = [(text, float(value)) for text, value in record["ladder"]]
        for text, value in steps:
            if not isinstance(text, str) or not 0 <= value < np.inf:
                raise ValueError("a step of its ladder is no name and number")
        for name in ("test_accuracy", "train_accuracy"):
            if record[name] is not None and not 0 <= record[name] <= 100:
                raise ValueError(f"its {name} is no percentage")
        digest = record["judge_sha256"]
    except FileNotFoundError:
        return {}
    except Exception as error:  # of any origin, it may hold anything anywhere
        raise InputError(
            f"{record_path}: not the record of a judge; remove it, or {REMEDY}"
        ) from error
    if digest != digest_of_file(path):
        raise InputError(
            f"{record_path}: is of another judge than {path.name} beside it; remove "
            f"it, or {REMEDY}"
        )
    return {**record, "ladder": steps}


def digest_of_file(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_fit(path, judge, data):
    """Raise InputError where a judge is none of the images of a Data."""
    if judge.image_shape != data.image_shape:
        sizes = ("x".join(map(str, s)) for s in (judge.image_shape, data.image_shape))
        raise InputError(
            "{}: judges images of {}, and the data's are {} (height x width x "
            "channels); {}".format(path, *sizes, REMEDY)
        )
    names, others = judge.class_names, data.class_names
    if names and others and names != others:
        raise InputError(
            f"{path}: tells {', '.join(names)[:200]} apart, and the data's classes are "
            f"{', '.join(others)[:200]}; {REMEDY}"
        )
    # without names, labels may lack the last classes
    if data.n_classes > judge.n_classes or (others and len(others) < judge.n_classes):
        raise InputError(
            f"{path}: tells {judge.n_classes} classes apart, and the data have "
            f"{data.n_classes}; {REMEDY}"
        )
    X, y = data.test or data.train
    labelled = np.flatnonzero(y >= 0)
    if not len(labelled):
        return
    places = np.linspace(0, len(labelled) - 1, min(N_TRIED, len(labelled)))
    tried = labelled[places.astype(np.int64)]
    _, probabilities = judge.answer(X[tried])
    right = agreement(probabilities, y[tried])
    expected = 100.0 if judge.accuracy is None else judge.accuracy
    if right < expected / 2:
        raise InputError(
            f"{path}: is right in {right:.1f}% of the data's labelled images, so it "
            f"judges others; {REMEDY}"
        )


def check_images(images):
    """Raise InputError unless images are uint8 (n, h, w, c), n at least 1, c 1 or 3."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InputError(
            f"images of dtype {images.dtype} and shape {images.shape}; they must be "
            "uint8 (n, height, width, 1 or 3)"
        )
    if 0 in images.shape:
        raise InputError("there are no images to measure; give at least one")


def _chunks(images):
    """Yield images as float64 in [0, 1], some at a time."""
    check_images(images)
    n = batch_size(*images.shape[1:3])
    for first in range(0, len(images), n):
        yield images[first : first + n] / 255.0


def _flat(images):
    """Return images as float32 (n, h * w * c) in [0, 1]."""
    check_images(images)
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat /= 255
    return flat


# features and classes


def mean_and_covariance(features):
    """Return the mean (d,) and the covariance (d, d) of features (n, d), float64.

    The covariance is the unbiased one. Raises InputError for fewer than two rows.
    """
    if len(features) < 2:
        raise InputError(
            f"{len(features)} image: a covariance takes two or more; measure more"
        )
    features = np.asarray(features, np.float64)
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance_of(mean_a, covariance_a, mean_b, covariance_b):
    """Return the Fréchet distance, squared, of two normal distributions; 0 or more.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) for covariances A and B (Dowson and
    Landau 1982; of an Inception network's features it is the FID of Heusel et al.
    2017). The trace of the root is that of (A^(1/2) B A^(1/2))^(1/2), which is
    symmetric: covariances that have no inverse need no care.
    """
    values, vectors = linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # the eigenvalues that rounding makes negative are 0
    products = np.maximum(linalg.eigvalsh(root @ covariance_b @ root), 0)
    apart = np.sum((mean_a - mean_b) ** 2)
    traces = np.trace(covariance_a) + np.trace(covariance_b)
    return max(0.0, float(apart + traces - 2 * np.sqrt(products).sum()))


def frechet_distance(a, b):
    """Return frechet_distance_of two sets of features, (n, d) and (m, d)."""
    return frechet_distance_of(*mean_and_covariance(a), *mean_and_covariance(b))


def _histogram(probabilities):
    """Return how many images are taken for each class, int (n_classes,)."""
    if not len(probabilities):
        raise InputError("there are no answers to count; give at least one image")
    answers = probabilities.argmax(axis=-1)
    return np.bincount(answers, minlength=probabilities.shape[1])


def coverage(probabilities):
    """Return modes and entropy of the classes that a judge's answers name.

    probabilities: (n, n_classes). modes: how many classes have 1 % of the images or
    more, an int; entropy: of the histogram of answers, in nats, from 0 to
    log(n_classes), which is 2.303 for ten classes.
    """
    counts = _histogram(probabilities)
    shares = counts[counts > 0] / counts.sum()
    entropy = max(0.0, float(-np.sum(shares * np.log(shares))))
    return int(np.count_nonzero(100 * counts >= counts.sum())), entropy


def sureness(probabilities):
    """Return the percentage of images of which a judge is at least 90 % sure.

    probabilities: (n, n_classes).
    """
    if not len(probabilities):
        raise InputError("there are no answers to count; give at least one image")
    return 100.0 * float(np.mean(probabilities.max(axis=-1) >= 0.9))


def agreement(probabilities, labels):
    """Return the percentage of images that a judge takes for what was asked.

    probabilities: (n, n_classes); labels: int (n,), the classes asked for.
    """
    if not len(probabilities):
        raise InputError("there are no answers to compare; give at least one image")
    return 100.0 * float(np.mean(probabilities.argmax(axis=-1) == labels))


class Real(NamedTuple):
    """What images are compared with; see describe_real."""

    mean: np.ndarray
    covariance: np.ndarray
    total_variation: float


def describe_real(judge, images):
    """Return the Real of images, for measure_samples.

    images: at least two, the test images where there are any. Raises InputError where
    all of them are of one colour each, since nothing is as sharp as that.
    """
    features, _ = judge.answer(images)
    variation = total_variation(images)
    if variation == 0:
        raise InputError("the real images are blank, each of one colour; give others")
    return Real(*mean_and_covariance(features), variation)


def measure_samples(judge, images, real, *, labels=None):
    """Return the figures of generated images, a dict: name -> number.

    judge_fid: the Fréchet distance of the judge's features to those of `real`, what
    describe_real returned (it is no FID of Inception's: read it by the judge's
    ladder); modes, entropy: see coverage; sure: see sureness, percent;
    total_variation: relative to the real images', 1 for as sharp, more for noise,
    which the judge's features hardly see. With labels, int (n,), the classes asked
    for, also agreement, percent. Raises InputError for fewer than two images.
    """
    features, probabilities = judge.answer(images)
    modes, entropy = coverage(probabilities)
    figures = {
        "judge_fid": frechet_distance_of(
            *mean_and_covariance(features), real.mean, real.covariance
        ),
        "modes": modes,
        "entropy": entropy,
        "sure": sureness(probabilities),
        "total_variation": total_variation(images) / real.total_variation,
    }
    if labels is not None:
        figures["agreement"] = agreement(probabilities, labels)
    return figures


def ladder(judge, x_train, x_test=None):
    """Return what the judge-FID is of known images, a list of (text, value).

    It is the scale on which to read a judge-FID. Of 10,000 training images, or half
    of them where there are fewer, as they are and worse: the distance to the test
    images, or to all training images without those; in the second row, to as many
    other training images; in the third, of 2,000 images alone, since a distance is
    larger for fewer. The classes left out are the judge's own answers.
    """
    reference = mean_and_covariance(
        judge.answer(x_train if x_test is None else x_test)[0]
    )
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x_train))
    n = min(N_MEASURED, len(x_train) // 2)
    images, others = x_train[order[:n]], x_train[order[n : 2 * n]]
    features, probabilities = judge.answer(images)
    answers, n_classes = probabilities.argmax(axis=-1), judge.n_classes

    def shifted(by):
        columns = np.maximum(np.arange(images.shape[2]) - by, 0)
        return judge.answer(images[:, :, columns])[0]

    noisy = np.empty_like(images)
    for clean, image in zip(images, noisy, strict=True):
        noise = rng.normal(0, 0.2 * 127.5, image.shape)
        image[...] = np.rint(clean + noise).clip(0, 255)
    blurred = ndimage.uniform_filter(images, (1, 3, 3, 1), mode="nearest")
    mean_image = np.rint(images.mean(axis=0, keepdims=True)).astype(np.uint8)
    steps = [
        ("training images", features),
        (f"{N_FEW} training images", features[:N_FEW] if n > N_FEW else []),
        ("shifted by 1 pixel", shifted(1)),
        ("shifted by 2 pixels", shifted(2)),
        (
            "noise of sd 0.2 in [-1, 1]",
            judge.answer(noisy)[0],
        ),
        *(
            (f"{some} of {n_classes} classes", features[answers < some])
            for some in sorted({n_classes - 1, n_classes // 2}, reverse=True)
        ),
        ("blurred 3x3", judge.answer(blurred)[0]),
        ("the mean image", np.repeat(judge.answer(mean_image)[0], 2, axis=0)),
    ]
    found = [
        (text, frechet_distance_of(*mean_and_covariance(some), *reference))
        for text, some in steps
        if len(some) > 1
    ]
    other = frechet_distance(features, judge.answer(others)[0])
    found.insert(1, ("training images, to other ones", other))
    return [(text, round(distance, 4)) for text, distance in found]


def describe_ladder(ladder):
    """Return a ladder in one line."""
    steps = ", ".join(f"{printable(text)} {value:.4g}" for text, value in ladder)
    return f"judge-FID of known images: {steps}"


# pixels


def total_variation(images):
    """Return the anisotropic total variation of images, a pixel and channel.

    The sum of the absolute differences of neighbours, right and below, with pixels in
    [0, 1], divided by the number of pixels and channels; the mean over the images.
    0 for images of one colour each, 2 at most. Rudin, Osher and Fatemi 1992; the sum
    of absolute values in the place of their root is what image libraries have.
    """
    total = 0.0
    for x in _chunks(images):
        total += np.abs(np.diff(x, axis=1)).sum() + np.abs(np.diff(x, axis=2)).sum()
    return float(total / images.size)


def _squared_distances(a, b, squares_b):
    """Return squared distances, float32 (n, m), up to rounding; a: (n, d), b: (m, d).

    squares_b: the sums of squares of b's rows.
    """
    found = a @ b.T
    found *= -2
    found += np.square(a).sum(axis=1, keepdims=True)
    found += squares_b
    return np.maximum(found, 0, out=found)


def parzen_log_likelihood(samples, held_out, test, sigmas=None):
    """Return mean, standard error and sigma: log-likelihood of test images, in nats.

    The density is that of a Parzen window: normal kernels of standard deviation sigma
    around each of the samples, with pixels in [0, 1]. Of the sigmas, by default ten
    from 0.1 to 1 in equal ratios, the one is taken that suits the held-out training
    images best (Breuleux et al. 2009, as Goodfellow et al. 2014 use it).

    The estimate is rough in as many dimensions, and a generator can score above the
    real images themselves: it tells neither that samples look right nor that they
    are new. Compare it with what as many training images get as samples.
    """
    sigmas = np.logspace(-1, 0, 10) if sigmas is None else np.asarray(sigmas, float)
    samples = _flat(samples)
    centre = samples.mean(axis=0)  # small numbers lose fewer digits in the squares
    samples -= centre
    squares = np.square(samples).sum(axis=1)
    n, d = samples.shape

    def log_likelihoods(x, sigmas):
        x = _flat(x) - centre
        step = max(1, LARGEST_BLOCK // n)
        found = np.empty((len(sigmas), len(x)))
        for first in range(0, len(x), step):
            part = slice(first, first + step)
            distances = _squared_distances(x[part], samples, squares)
            nearest = distances.min(axis=1, keepdims=True)
            distances -= nearest
            for row, sigma in zip(found, sigmas, strict=True):
                # the nearest sample's kernel taken out, no sum is 0
                kernels = np.exp(distances * np.float32(-0.5 / sigma**2))
                row[part] = np.log(kernels.sum(axis=1, dtype=np.float64))
                row[part] -= nearest[:, 0] * (0.5 / sigma**2)
                row[part] -= np.log(n) + 0.5 * d * np.log(2 * np.pi * sigma**2)
        return found

    means = log_likelihoods(held_out, sigmas).mean(axis=1)
    sigma = float(sigmas[means.argmax()])
    (found,) = log_likelihoods(test, [sigma])
    return float(found.mean()), float(found.std() / np.sqrt(len(found))), sigma


def nearest_neighbour_error(x, y, x_test, y_test):
    """Return the percentage of test images whose nearest image has another class.

    x, y: generated images and the classes they were asked for, among which the nearest
    is looked for, by the L2 distance of pixels; x_test, y_test: real images, and what
    they are. Of two that are equally near, the first counts. As Radford et al. 2016
    measure a conditional DCGAN, in the appendix.
    """
    x, x_test = _flat(x), _flat(x_test)
    squares = np.square(x).sum(axis=1)
    # blocks of both: the best so far stays beside
    rows, columns = 512, LARGEST_BLOCK // 512
    wrong = 0
    for first in range(0, len(x_test), rows):
        part = x_test[first : first + rows]
        least = np.full(len(part), np.inf, np.float32)
        label = np.zeros(len(part), y.dtype)
        for begin in range(0, len(x), columns):
            block = slice(begin, begin + columns)
            distances = _squared_distances(part, x[block], squares[block])
            nearest = distances.argmin(axis=1)
            found = distances[np.arange(len(part)), nearest]
            closer = found < least
            least[closer] = found[closer]
            label[closer] = y[block][nearest[closer]]
        wrong += np.count_nonzero(label != y_test[first : first + rows])
    return 100.0 * int(wrong) / len(x_test)


def within_class_ssim(x, y, n_classes, n_pairs=100, seed=0):
    """Return how alike the images of a class are, float64 (n_classes,).

    The mean structural similarity (Wang et al. 2004; windows of 7x7 pixels, each
    channel by itself) of n_pairs random pairs of different images of the class; 1 for
    equal ones: the higher, the less variety. Odena et al. 2017 measure it with several
    scales, which take 161 pixels a side. NaN for a class with fewer than two images.
    """
    check_images(x)
    rng = np.random.default_rng(seed)
    found = np.full(n_classes, np.nan)
    for label in range(n_classes):
        of_class = np.flatnonzero(y == label)
        if len(of_class) < 2:
            continue
        pairs = [rng.choice(of_class, 2, replace=False) for _ in range(n_pairs)]
        found[label] = np.mean(
            [
                skimage_metrics.structural_similarity(
                    x[a], x[b], data_range=255, channel_axis=-1
                )
                for a, b in pairs
            ]
        )
    return found


def _brightness(x):
    """Return the luminance of images, (n, h, w); x: (n, h, w, c)."""
    return x[..., 0] if x.shape[3] == 1 else x @ np.array(LUMINANCE)


def thickness(images):
    """Return the thickness of the strokes, in pixels, float64 (n,).

    Light strokes on a dark ground; of colour images, the luminance's. Twice the area
    divided by the length of the outline, both weighted by brightness: 2 sum(x) / sum of
    the gradient's length, with black around. 1.84, 2.64 and 3.37 for a bar of 20 pixels
    that is 2, 3 and 4 wide. 0 for a black image.
    """
    found = []
    for x in map(_brightness, _chunks(images)):
        x = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        down = np.diff(x, axis=1)[:, :, :-1]
        right = np.diff(x, axis=2)[:, :-1]
        outline = np.hypot(down, right).sum(axis=(1, 2))
        area = x.sum(axis=(1, 2))
        found.append(2 * area / np.where(area > 0, outline, 1))
    return np.concatenate(found)


def slant(images):
    """Return how far the strokes lean to the right, in degrees, float64 (n,).

    Light strokes on a dark ground; of colour images, the luminance's. atan(m11 / m02)
    of the central moments of brightness, x to the right, y upwards: the angle of the
    shear that sets the image upright, from -90 to 90. 0 for a black image, and for one
    whose brightness is all in one row.
    """
    height, width = images.shape[1:3]
    right, up = np.arange(width), -np.arange(height)[:, np.newaxis]

    def central(x, position, mass):
        centre = (x * position).sum(axis=(1, 2)) / mass
        return position - centre[:, np.newaxis, np.newaxis]

    found = []
    for x in map(_brightness, _chunks(images)):
        mass = x.sum(axis=(1, 2))
        mass[mass == 0] = 1
        to_right, upwards = (central(x, place, mass) for place in (right, up))
        m11 = (x * to_right * upwards).sum(axis=(1, 2))
        m02 = (x * upwards**2).sum(axis=(1, 2))
        # in one row both are rounding errors
        angle = np.arctan2(m11, m02)
        found.append(np.degrees(np.where(m02 > 1e-9 * mass, angle, 0)))
    return np.concatenate(found)


# codes and their meaning


def best_matching(codes, labels, n):
    """Return which class each code stands for, int64 (n,), by the most images right.

    codes, labels: int (m,), from 0 to n - 1; images without label, -1, are left out.
    Each code stands for one class (Kuhn 1955, by SciPy's linear_sum_assignment).
    """
    counts = np.zeros((n, n), np.int64)
    known = labels >= 0
    np.add.at(counts, (codes[known], labels[known]), 1)
    _, mapping = optimize.linear_sum_assignment(counts, maximize=True)
    return mapping


def matching_error(mapping, codes, labels):
    """Return the percentage of images whose code stands for another class.

    mapping: what best_matching returned, of other images; codes, labels: int (m,),
    where images without label, -1, are left out. Raises InputError without any label.
    """
    known = labels >= 0
    if not known.any():
        raise InputError("no image has a label; codes can't be compared with classes")
    return 100.0 * float(np.mean(mapping[codes[known]] != labels[known]))


def spearman(a, b):
    """Return Spearman's rank correlation of two lists of n numbers, from -1 to 1.

    0 where all numbers of one list are equal: it tells nothing of the other. Raises
    InputError for fewer than two.
    """
    if len(a) < 2:
        raise InputError(f"{len(a)} numbers: a correlation takes two or more")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)


def ridge_error(train, held_out, test):
    """Return the test error, percent, of ridge regression on features.

    train, held_out, test: pairs of features, float (n, d), and labels, int (n,). One
    target a class, 1 or -1; features are standardised; the strength is that of 13 from
    1e-2 to 1e4 which errs least on held_out, the strongest of equal ones.
    """
    mean, sd = train[0].mean(axis=0), train[0].std(axis=0)

    def standardised(features):
        return (features - mean) / np.where(sd > 0, sd, 1)

    n_classes = 1 + max(labels.max() for _, labels in (train, held_out, test))
    targets = 2.0 * (train[1][:, np.newaxis] == np.arange(n_classes)) - 1
    left, values, right = linalg.svd(standardised(train[0]), full_matrices=False)
    projected, centre = left.T @ (targets - targets.mean(axis=0)), targets.mean(axis=0)
    found = []
    for strength in np.logspace(4, -2, 13):
        shrunk = (values / (values**2 + strength))[:, np.newaxis] * projected
        errors = [
            np.mean((standardised(x) @ (right.T @ shrunk) + centre).argmax(1) != y)
            for x, y in (held_out, test)
        ]
        found.append(errors)
    return 100.0 * float(min(found, key=lambda errors: errors[0])[1])


# holes that were filled


def psnr(truth, images, where=np.True_):
    """Return the peak signal-to-noise ratio of images, in dB; inf for equal ones.

    truth, images: uint8 (n, h, w, c). where: bool (n, h, w, 1), the pixels that count
    (all, unless given), of all images together: their own ratios have no mean where one
    is predicted exactly. Raises InputError where none counts.
    """
    found = _chosen(truth, where), _chosen(images, where)
    if np.array_equal(*found):
        return float("inf")
    return float(skimage_metrics.peak_signal_noise_ratio(*found, data_range=255))


def mean_error(truth, images, where=np.True_, power=1):
    """Return the mean of |truth - images|^power, percent, with pixels in [0, 1].

    truth, images, where: see psnr.
    """
    difference = _chosen(truth, where) / 255.0 - _chosen(images, where) / 255.0
    return 100.0 * float(np.mean(np.abs(difference) ** power))


def _chosen(images, where):
    """Return the values of the pixels that count, uint8 (m,)."""
    check_images(images)
    if not where.any():
        raise InputError("no pixel is to be compared; hide at least one")
    return images[np.broadcast_to(where, images.shape)]


def total_variation_in(images, where):
    """Return total_variation's sum over the neighbours that both count.

    images: uint8 (n, h, w, c); where: bool (n, h, w, 1), the pixels that count.
    """
    total, first = 0.0, 0
    for x in _chunks(images):
        part = where[first : first + len(x)]
        first += len(x)
        for axis in (1, 2):
            both = np.take(part, range(1, x.shape[axis]), axis)
            both = both & np.take(part, range(x.shape[axis] - 1), axis)
            total += np.abs(np.diff(x, axis=axis)).sum(where=both)
    return float(total)


def nearest_by_context(x, x_test, hidden):
    """Return which image is nearest to each test image where that is not hidden.

    int64 (n_test,), by the L2 distance. x, x_test: uint8 (n, h, w, c); hidden: bool
    (n_test, h, w, 1). Of two that are equally near, the first.
    """
    check_images(x)
    d = int(np.prod(x.shape[1:]))
    rows, columns = (max(1, min(most, LARGEST_BLOCK // d)) for most in (512, 8192))
    found = np.empty(len(x_test), np.int64)
    for first in range(0, len(x_test), rows):
        part = slice(first, first + rows)
        seen = np.broadcast_to(~hidden[part], x_test[part].shape)
        seen = seen.reshape(len(seen), d).astype(np.float32)
        context = _flat(x_test[part]) * seen
        least = np.full(len(context), np.inf, np.float32)
        for begin in range(0, len(x), columns):
            block = _flat(x[begin : begin + columns])
            # but for the context's own square, which is the same for all
            distances = seen @ np.square(block).T - 2 * (context @ block.T)
            nearest = distances.argmin(axis=1)
            value = distances[np.arange(len(context)), nearest]
            closer = value < least
            least[closer] = value[closer]
            found[part][closer] = begin + nearest[closer]
    return found


# levels of detail

# patches of a level: their side, how many an image, and the directions they fall on
PATCH, PATCHES, DIRECTIONS = 7, 64, 256
# sides at which a pyramid ends: patches must fit in
SMALLEST_LEVEL = 8


def laplacian_pyramid(images):
    """Return the levels of detail of images, a list of float32 (n, h, w, c).

    images: uint8 (n, h, w, c). The first level is what is lost where the images are
    blurred and halved, the second what is lost where the halves are, and so on down to
    sides of 8; the last is the rest (Burt and Adelson 1983).
    """
    check_images(images)
    kernel = np.float32([1, 4, 6, 4, 1]) / 16

    def blur(x, kernel):
        for axis in (1, 2):
            x = ndimage.correlate1d(x, kernel, axis, mode="mirror")
        return x

    levels, rest = [], np.float32(images)
    while min(rest.shape[1:3]) >= 2 * SMALLEST_LEVEL:
        if rest.shape[1] % 2 or rest.shape[2] % 2:
            break
        halved = blur(rest, kernel)[:, ::2, ::2]
        enlarged = np.zeros_like(rest)
        enlarged[:, ::2, ::2] = halved
        levels.append(rest - blur(enlarged, 2 * kernel))
        rest = halved
    return [*levels, rest]


def _patches(level, rng):
    """Return random patches of images, float32 (PATCHES * n, d), each channel scaled.

    All patches together have mean 0 and standard deviation 1 in a channel.
    """
    n, height, width, channels = level.shape
    windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH, PATCH), (1, 2))
    image = np.repeat(np.arange(n), PATCHES)
    row = rng.integers(0, height - PATCH + 1, len(image))
    column = rng.integers(0, width - PATCH + 1, len(image))
    patches = windows[image, row, column].reshape(len(image), channels, -1)
    patches = patches - patches.mean(axis=(0, 2), keepdims=True)
    deviations = patches.std(axis=(0, 2), keepdims=True)
    patches /= np.where(deviations > 0, deviations, 1)
    return patches.reshape(len(image), -1)


def sliced_wasserstein(a, b, seed=0):
    """Return how far two sets of images are apart at each level of detail, a dict.

    a, b: uint8 (n, h, w, c), n the same for both, h and w 7 or more. The keys are the
    levels' heights. A value is a thousand times the sliced Wasserstein distance (Rabin
    et al. 2011) of 7x7 patches of the levels of laplacian_pyramid: the mean, over
    random directions, of the distance of what falls on each. It says nothing of what
    the images show. As Karras et al. 2018 measure; with fewer patches and directions.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for levels in zip(laplacian_pyramid(a), laplacian_pyramid(b), strict=True):
        both = [_patches(level, rng) for level in levels]
        directions = rng.standard_normal((both[0].shape[1], DIRECTIONS), np.float32)
        directions /= np.linalg.norm(directions, axis=0)
        total = 0.0
        for direction in directions.T:
            fallen = [np.sort(patches @ direction) for patches in both]
            total += float(np.abs(fallen[0] - fallen[1]).mean(dtype=np.float64))
        found[levels[0].shape[1]] = 1000 * total / DIRECTIONS
    return found


# ways through a latent space


def slerp(a, b, t):
    """Return points on the ways from a to b, at the share t, spherically.

    a, b: float (n, d), which are scaled to length 1; t: (n, 1).
    """
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return interpolate(a, b, t)


def trimmed_mean(values, percent=1):
    """Return the mean of values without the smallest and the largest percent."""
    low = np.percentile(values, percent, method="lower")
    high = np.percentile(values, 100 - percent, method="higher")
    return float(np.mean(values[(values >= low) & (values <= high)]))
