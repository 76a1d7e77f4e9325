"""What a classifier says of images, and how often it is right."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gankit.backend import layers, tf
from gankit.data.images import scale_images
from gankit.data.labels import N_CLASSES

# names of the layers that end a classifier; the last class of UNKNOWN's is 'unknown'
CLASSES, UNKNOWN = "classes", "classes_and_unknown"


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


def count_classes(c_model):
    """Return how many classes a classifier tells apart, 'unknown' not counted."""
    n_outputs, last = c_model.output_shape[-1], c_model.layers[-1]
    # a layer that was given no name, with one output more than there are digits, is
    # that of a multi-output design too
    unnamed = isinstance(last, layers.Dense) and last.name.startswith("dense")
    if last.name == UNKNOWN or (unnamed and n_outputs == N_CLASSES + 1):
        return n_outputs - 1
    return n_outputs
