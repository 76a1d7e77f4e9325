"""What a classifier says of images, and how often it is right."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gankit.backend import layers, tf
from gankit.command import InputError
from gankit.data.images import scale_images
from gankit.data.labels import N_CLASSES

# of a batch's images together, 500 of MNIST's: a hundred times as many bytes may be in
# use while a network computes, by each thread
LARGEST_BATCH = 500 * 28 * 28
# names of the layers that end a classifier; the last class of UNKNOWN's is 'unknown'
CLASSES, UNKNOWN = "classes", "classes_and_unknown"


def batch_size(height, width):
    """Return how many images of height x width pixels a network is given at once."""
    return min(500, max(1, LARGEST_BATCH // (height * width)))


def class_probabilities(c_model, X, *, n_classes=N_CLASSES, chosen=None):
    """Return the probabilities of the classes, float32 (n, n_classes).

    X: (n, h, w, c), float32 in [-1, 1] or uint8 in [0, 255]. chosen: indices of the
    images that are meant, None for all.
    The class 'unknown' of a multi-output discriminator, one output more, is left
    out: the largest of the others is the answer to 'if it is a digit, which?'.
    """
    n_batch = batch_size(*X.shape[1:3])

    def predict(first):
        part = slice(first, first + n_batch)
        batch = X[part] if chosen is None else X[chosen[part]]
        if batch.dtype == np.uint8:
            batch = scale_images(batch)
        return c_model.predict_on_batch(batch)[:, :n_classes]

    firsts = range(0, len(X if chosen is None else chosen), n_batch)
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
    return judge_labelled(c_model, X, y, n_classes=n_classes)[0]


def judge_labelled(c_model, X, y, *, n_classes):
    """Return what measure_accuracy does, and the answers, int (n,), to images with y.

    X, y: as for measure_accuracy; n: the images with a label.
    """
    chosen = None if y.min() >= 0 else np.flatnonzero(y >= 0)
    answers = class_probabilities(
        c_model, X, n_classes=n_classes, chosen=chosen
    ).argmax(axis=-1)
    return 100.0 * np.mean(answers == y[y >= 0]), answers


def count_classes(c_model):
    """Return how many classes a classifier tells apart, 'unknown' not counted.

    The name of the last layer tells whether its last output is 'unknown'. A Dense
    layer that Keras has named, 'dense_3', tells nothing: of such a one with
    11 outputs it is assumed, since that is the tutorial's multi-output design.
    """
    n_outputs, last = c_model.output_shape[-1], c_model.layers[-1]
    unnamed = isinstance(last, layers.Dense) and last.name.startswith("dense")
    if last.name == UNKNOWN or (unnamed and n_outputs == N_CLASSES + 1):
        return n_outputs - 1
    return n_outputs


def check_fit(path, c_model, class_names, data):
    """Raise InputError where a classifier is not one for the images of `data`.

    path: the classifier's file; class_names: those in it, None without; data: a Data.
    """
    n_classes, shape = count_classes(c_model), c_model.input_shape[1:]
    names = ", ".join(class_names or [])[:200]
    remedy = "name with --data what it was trained on"
    if shape != data.image_shape:
        sizes = ("x".join(map(str, size)) for size in (shape, data.image_shape))
        raise InputError(
            "{}: takes images of {}, and the data's are {} (height x width x channels);"
            " {}, and its --image-size".format(path, *sizes, remedy)
        )
    if class_names and data.class_names and class_names != data.class_names:
        raise InputError(
            f"{path}: tells {names} apart, and the data's classes are "
            f"{', '.join(data.class_names)[:200]}; {remedy}"
        )
    # without names, labels may lack the last classes
    fewest = 1 if data.class_names is None else n_classes
    if not fewest <= data.n_classes <= n_classes:
        raise InputError(
            f"{path}: tells {n_classes} classes apart, and the data have "
            f"{data.n_classes}; {remedy}"
        )
