"""Data, sampling and file helpers that more than one script needs.

Images are float32 arrays of shape (n, 28, 28, 1), or of another (n, h, w, c), with
pixels in [-1, 1]; labels are integers from 0 to n_classes - 1, with shape (n,).
"""

import argparse
import contextlib
import datetime
import importlib
import json
import os
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

N_CLASSES = 10
# characters of the class names that a model keeps
LARGEST_NAMES = 60_000


class LazyModule:
    """Stands for a module that is imported when first used.

    TensorFlow takes seconds to import and writes log lines to stderr as it starts:
    --help and the checks of a script's input need not wait for it.
    """

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)


tf = LazyModule("tensorflow")
datasets = LazyModule("datasets")


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {printable(message)}; see --help\n")


def printable(text):
    """Return str(text) with what is no printable character written as an escape.

    Names in files and of files may hold new lines, or codes that a terminal obeys.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)
    )


class InputError(ValueError):
    """An input that can't be used; its text names input, problem and remedy."""

    status = 2


class RunError(RuntimeError):
    """Work that can't go on; what it had saved is kept."""

    status = 1


def check_class_names(names):
    """Raise ValueError unless `names` are different texts that can be printed.

    Together, as JSON, they must fit in the attribute of an .h5 file.
    """
    if not isinstance(names, list) or not names:
        raise ValueError("names of classes must be a list")
    for name in names:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ValueError(f"{ascii(name)[:60]} can't be the name of a class")
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    if len(json.dumps(names)) > LARGEST_NAMES:
        raise ValueError("the names of the classes are too long")


def scale_images(x):
    """uint8 in [0, 255] -> float32 in [-1, 1]; (n, h, w) becomes (n, h, w, 1)."""
    if x.ndim == 3:
        x = x[..., np.newaxis]
    scaled = x.astype(np.float32)
    scaled -= 127.5
    scaled /= 127.5
    return scaled


def define_take(X):
    """Return take(indices) for use in a graph: images of X, float32 in [-1, 1].

    X: float32 (n, h, w, c) in [-1, 1], or uint8 in [0, 255] with a multiple of 4
    values an image.
    """
    if X.dtype != np.uint8:
        images = tf.constant(X)
        return lambda indices: tf.gather(images, indices)
    # a table, since TensorFlow may round a division by a constant otherwise
    levels = tf.constant(scale_images(np.arange(256, dtype=np.uint8)))
    # four bytes in a word: on a GPU tf.gather takes words only
    words = tf.constant(np.ascontiguousarray(X).reshape(len(X), -1).view(np.int32))

    def take(indices):
        pixels = tf.bitcast(tf.gather(words, indices), tf.uint8)
        images = tf.reshape(pixels, (-1, *X.shape[1:]))
        return tf.gather(levels, tf.cast(images, tf.int32))

    return take


def load_real_samples(data=None, *, scale=True):
    """Return [X, y], the training images and labels, and print both shapes.

    X: float32 (60000, 28, 28, 1) in [-1, 1], or with scale=False uint8 in [0, 255],
    a quarter of the memory; y: int64 (60000,).
    data and the errors raised: as in datasets.load_arrays.
    """
    x, y = datasets.load_arrays(data).train
    X = scale_images(x) if scale else x
    print(X.shape, y.shape)
    return [X, y]


def load_test_samples(data=None, *, scale=True):
    """Return [X, y], the test images and labels, as load_real_samples does."""
    test = datasets.load_arrays(data).test
    if test is None:
        raise InputError(f"{data}: has no test images; add x_test and y_test")
    x, y = test
    return [scale_images(x) if scale else x, y]


def check_supervised(y, n_samples, n_classes=N_CLASSES):
    """Raise InputError where a balanced n_samples can't be drawn from labels y."""
    if n_samples <= 0 or n_samples % n_classes:
        raise InputError(
            f"{n_samples} labels: can't be shared out evenly among {n_classes} "
            f"classes; give a positive multiple of {n_classes}"
        )
    n_per_class = n_samples // n_classes
    for label in range(n_classes):
        n_of_class = np.count_nonzero(y == label)
        if n_of_class < n_per_class:
            raise InputError(
                f"{n_samples} labels: that takes {n_per_class} images of class "
                f"{label}, and there are {n_of_class}; ask for fewer labels"
            )


def check_labels(y, n_samples, n_classes=N_CLASSES, class_names=None):
    """Whether the choice of n_samples labels takes all that y holds, which may be few.

    y: int (n,), -1 for an image without label. That is so where y has fewer labels, or
    just as many and they are not balanced. Raises InputError where a class has no
    label at all, and otherwise as check_supervised.
    """
    if n_classes < 2:
        raise InputError("the labels are all of one class; there must be two or more")
    given = y[y >= 0]
    labels, counts = np.unique(given, return_counts=True)
    if len(labels) < n_classes:
        missing = next(i for i in range(n_classes) if i not in labels[i : i + 1])
        name = missing if class_names is None else class_names[missing]
        raise InputError(
            f"class {name}: has no image with a label; label some, or leave it out"
        )
    unbalanced = n_samples == len(given) and len(set(counts)) > 1
    if n_samples > len(given) or unbalanced:
        return True
    check_supervised(y, n_samples, n_classes)
    return False


def warn_of_labels(y, class_names=None):
    """Say on stderr, in one line, that all labels of y are used, and how many."""
    labels, counts = np.unique(y[y >= 0], return_counts=True)
    names = labels if class_names is None else [class_names[i] for i in labels]
    by_class = ", ".join(
        f"{name}: {count}" for name, count in zip(names, counts, strict=True)
    )
    print(
        f"All {counts.sum()} labels are used, there are no more; {by_class}",
        file=sys.stderr,
    )


def select_supervised_indices(y, n_samples=100, n_classes=10, rng=None):
    """Draw n_samples / n_classes indices of each class, without replacement.

    Returns int64 (n_samples,), class by class. rng: a numpy Generator, or None for
    a fresh one. Errors raised: those of check_supervised.
    """
    check_supervised(y, n_samples, n_classes)
    rng = rng or np.random.default_rng()
    chosen = [
        rng.choice(np.flatnonzero(y == label), n_samples // n_classes, replace=False)
        for label in range(n_classes)
    ]
    return np.concatenate(chosen)


def select_labels(y, n_samples, n_classes=N_CLASSES, rng=None, *, class_names=None):
    """Draw as select_supervised_indices, or take all labelled images: see check_labels.

    y: int (n,), -1 for an image without label. Then a line on stderr says so.
    """
    if check_labels(y, n_samples, n_classes, class_names):
        warn_of_labels(y, class_names)
        return np.flatnonzero(y >= 0)
    return select_supervised_indices(y, n_samples, n_classes, rng)


def select_supervised_samples(dataset, n_samples=100, n_classes=10, rng=None):
    """Return [X, y], a balanced random subset of the data set [X, y].

    X: float32 (n_samples, 28, 28, 1); y: (n_samples,). No image is drawn twice.
    rng and the errors raised: as in select_supervised_indices.
    """
    X, y = dataset
    chosen = select_supervised_indices(y, n_samples, n_classes, rng)
    return [X[chosen], y[chosen]]


def generate_real_samples(dataset, n_samples, rng=None):
    """Return [X, labels], ones: n_samples images drawn with replacement.

    X: (n_samples, 28, 28, 1); labels: (n_samples,); the targets 'real' are float64
    ones of shape (n_samples, 1). rng: a numpy Generator, or None for a fresh one.
    """
    images, labels = dataset
    rng = rng or np.random.default_rng()
    chosen = rng.integers(0, len(images), n_samples)
    return [images[chosen], labels[chosen]], np.ones((n_samples, 1))


def generate_latent_points(latent_dim, n_samples, rng=None):
    """Return standard normal points, float32 (n_samples, latent_dim)."""
    rng = rng or np.random.default_rng()
    return rng.standard_normal((n_samples, latent_dim), dtype=np.float32)


def generate_fake_samples(generator, latent_dim, n_samples, rng=None):
    """Return generated images, float32 (n_samples, 28, 28, 1) in [-1, 1], and zeros.

    The targets 'generated' are float64 zeros of shape (n_samples, 1).
    """
    z = generate_latent_points(latent_dim, n_samples, rng)
    return np.float32(generator.predict_on_batch(z)), np.zeros((n_samples, 1))


def class_probabilities(c_model, X, *, n_classes=N_CLASSES, chosen=None):
    """Return the probabilities of the classes, float32 (n, n_classes).

    X: (n, h, w, c), float32 in [-1, 1] or uint8 in [0, 255]. chosen: indices of the
    images that are meant, None for all.
    The class 'unknown' of a multi-output discriminator, one output more, is left
    out: the largest of the others is the answer to 'if it is a digit, which?'.
    """

    def predict(first):
        batch = X[first : first + 500]
        if chosen is not None:
            batch = X[chosen[first : first + 500]]
        if batch.dtype == np.uint8:
            batch = scale_images(batch)
        return c_model.predict_on_batch(batch)[:, :n_classes]

    firsts = range(0, len(X if chosen is None else chosen), 500)
    # where each operation has one thread, as in training, batches go side by side;
    # the first one alone, since the model is compiled with it
    workers = tf.config.threading.get_inter_op_parallelism_threads() or 1
    with ThreadPoolExecutor(workers) as pool:
        parts = [predict(first) for first in firsts[:1]]
        parts += pool.map(predict, firsts[1:])
    return np.concatenate(parts, dtype=np.float32)


def measure_accuracy(c_model, X, y, *, n_classes=N_CLASSES):
    """Return the percentage of images whose class is y.

    Images without label, y = -1, are left out; there must be others.
    """
    chosen = None if y.min() >= 0 else np.flatnonzero(y >= 0)
    answers = class_probabilities(c_model, X, n_classes=n_classes, chosen=chosen)
    return 100.0 * np.mean(answers.argmax(axis=-1) == y[y >= 0])


def describe_labelled(y):
    """Return what to say after an accuracy where images without label are left out."""
    n = np.count_nonzero(y >= 0)
    return "" if n == len(y) else f" (of the {n} images with a label)"


def new_folder(out):
    """Create the folder `out`, which must be new or empty; return its Path.

    Raises InputError where it holds files or can't be written.
    """
    out = writable_folder(out)
    if any(out.iterdir()):
        raise InputError(f"{out}: holds files already; name a new folder")
    return out


def writable_folder(out):
    """Create the folder `out` where it is missing; return its Path.

    Raises InputError where it can't be written.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(
            f"{out}: can't be written ({error.strerror}); name another folder"
        ) from error
    return out


def dated_folder(parent, name):
    """Return a Path parent/<date>-<time>-name that does not exist yet."""
    stem = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{name}"
    out, n = Path(parent, stem), 1
    while out.exists():
        n += 1
        out = Path(parent, f"{stem}-{n}")
    return out


@contextlib.contextmanager
def write_atomically(path):
    """Yield a temporary path beside `path`, and move it into place on success.

    The temporary name keeps the suffix, which some writers read; it is removed if
    the block raises.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    temporary.unlink(missing_ok=True)  # of a process that was killed
    try:
        yield temporary
        # on the disk before it takes its name, should the power fail
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def choose_onednn():
    """Have TensorFlow compute with oneDNN on x86, unless the environment says else.

    Call it before TensorFlow is imported, which takes oneDNN by itself only where the
    CPU has AVX-512 VNNI or the like; with AVX2 alone it is quicker, too.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def run_script(name, work):
    """Call work() and return the exit status.

    That is 0, or after a line on stderr: 2 for an InputError, 1 for a RunError or an
    OSError, 130 for Ctrl-C.
    """
    choose_onednn()
    try:
        work()
    except (InputError, RunError, KeyboardInterrupt) as error:
        print(f"{name}: {printable(error) or 'interrupted'}", file=sys.stderr)
        return getattr(error, "status", 130)
    except BrokenPipeError:
        # the reader of a pipe has gone; nor can Python flush stdout at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{name}: {printable(error)}", file=sys.stderr)
        return 1
    return 0
