"""Data, sampling and file helpers that more than one script needs.

Images are float32 arrays of shape (n, 28, 28, 1) with pixels in [-1, 1]; labels are
integers from 0 to n_classes - 1, with shape (n,).
"""

import argparse
import contextlib
import datetime
import importlib
import os
import pickle
import sys
import tempfile
import tokenize
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BUNDLED_DATA = Path(__file__).resolve().parent / "data" / "mnist.npz"
IMAGE_SHAPE = (28, 28, 1)
N_CLASSES = 10


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


def load_arrays(data=None):
    """Read and check the data set.

    data: path of an .npz file with x_train, y_train, x_test and y_test, laid out as
    keras.datasets.mnist is; None for the bundled file or, without it, for
    keras.datasets.mnist (which downloads it).
    Returns ((x_train, y_train), (x_test, y_test)): images uint8 (n, 28, 28) in
    [0, 255], labels int64 (n,) in [0, 9].
    Raises InputError for a file that is missing, unreadable or of another layout.
    """
    if data is None and not BUNDLED_DATA.exists():
        (x_train, y_train), (x_test, y_test) = _download_arrays()
        name = "keras.datasets.mnist"
    else:
        name = str(data or BUNDLED_DATA)
        x_train, y_train, x_test, y_test = _read_npz(name)
    train = _check_arrays(name, "train", x_train, y_train)
    test = _check_arrays(name, "test", x_test, y_test)
    return train, test


def _download_arrays():
    import keras

    try:
        return keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception here
        raise InputError(
            f"keras.datasets.mnist: {error}; name a data file with --data FILE"
        ) from error


def _read_npz(name):
    remedy = "give an .npz file with x_train, y_train, x_test and y_test"
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        file = np.load(name, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise InputError(f"{name}: not an .npz file; {remedy}")
        with file:
            missing = [key for key in keys if key not in file]
            if missing:
                raise InputError(f"{name}: no array {', '.join(missing)}; {remedy}")
            arrays = [file[key] for key in keys]
        if not all(isinstance(array, np.ndarray) for array in arrays):
            raise InputError(f"{name}: not a plain .npz file; {remedy}")
        return arrays
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; {remedy}") from None
    except (
        OSError,
        EOFError,
        MemoryError,
        RuntimeError,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
        pickle.UnpicklingError,
    ) as error:
        raise InputError(
            f"{name}: can't be read ({' '.join(str(error).split())}); {remedy}"
        ) from error
    except InputError:
        raise
    except ValueError:
        # numpy refuses pickled objects, and what is no array, with a ValueError
        raise InputError(f"{name}: not a plain .npz file; {remedy}") from None


def _check_arrays(name, part, x, y):
    def require(condition, problem):
        if not condition:
            raise InputError(f"{name}: {problem}")

    require(
        x.ndim == 3 and x.shape[1:] == IMAGE_SHAPE[:2],
        f"x_{part} has shape {x.shape}; it must be (n, 28, 28)",
    )
    require(len(x) > 0, f"x_{part} holds no images; give at least one")
    require(
        x.dtype == np.uint8,
        f"x_{part} has dtype {x.dtype}; pixels must be uint8 from 0 to 255",
    )
    require(
        y.shape == (len(x),),
        f"y_{part} has shape {y.shape} for {len(x)} images; it must be ({len(x)},)",
    )
    require(
        np.issubdtype(y.dtype, np.integer),
        f"y_{part} has dtype {y.dtype}; labels must be integers",
    )
    require(
        y.min() >= 0 and y.max() < N_CLASSES,
        f"y_{part} has labels from {y.min()} to {y.max()}; "
        f"they must be from 0 to {N_CLASSES - 1}",
    )
    return x, y.astype(np.int64)


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
    data and the errors raised: as in load_arrays.
    """
    (x, y), _ = load_arrays(data)
    X = scale_images(x) if scale else x[..., np.newaxis]
    print(X.shape, y.shape)
    return [X, y]


def load_test_samples(data=None, *, scale=True):
    """Return [X, y], the test images and labels, as load_real_samples does."""
    _, (x, y) = load_arrays(data)
    return [scale_images(x) if scale else x[..., np.newaxis], y]


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


def class_probabilities(c_model, X):
    """Return the probabilities of the ten classes, float32 (n, 10).

    X: (n, 28, 28, 1), float32 in [-1, 1] or uint8 in [0, 255].
    The class 'unknown' of a multi-output discriminator, an eleventh output, is left
    out: the largest of the ten is the answer to 'if it is a digit, which?'.
    """

    def predict(first):
        batch = X[first : first + 500]
        if batch.dtype == np.uint8:
            batch = scale_images(batch)
        return c_model.predict_on_batch(batch)[:, :N_CLASSES]

    firsts = range(0, len(X), 500)
    # where each operation has one thread, as in training, batches go side by side;
    # the first one alone, since the model is compiled with it
    workers = tf.config.threading.get_inter_op_parallelism_threads() or 1
    with ThreadPoolExecutor(workers) as pool:
        parts = [predict(first) for first in firsts[:1]]
        parts += pool.map(predict, firsts[1:])
    return np.concatenate(parts, dtype=np.float32)


def measure_accuracy(c_model, X, y):
    """Return the percentage of images whose class is y."""
    return 100.0 * np.mean(class_probabilities(c_model, X).argmax(axis=-1) == y)


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


def run_script(name, work):
    """Call work() and return the exit status.

    That is 0, or after a line on stderr: 2 for an InputError, 1 for a RunError or an
    OSError, 130 for Ctrl-C.
    """
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
