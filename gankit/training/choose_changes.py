"""Which changes of images suit a data set."""

import numpy as np

from gankit.data.images import scale_images
from gankit.models.classify import class_probabilities
from gankit.models.digits import MNIST_CLASSES, MNIST_SHAPE
from gankit.models.files import SHIPPED_TUNED, load_classifier, newest_in
from gankit.training.augmentation import DIGITS, NONE, define_general
from gankit.training.settings import option

CHANGES = ("auto", "digits", "general", "none")
# images that are looked at; the share of them, percent, that a classifier of digits
# must get right where they are digits
LOOKED_AT, LEAST_RIGHT = 2000, 70.0
# names of classes that are digits all the same
DIGIT_NAMES = list("0123456789")
# by how much mirrored images may be farther from the others than images are, and the
# side to which they are shrunk before they are compared, about; of fewer images than
# this it can't be told, and none is mirrored
FARTHEST, COMPARED_SIDE, FEWEST = 1.25, 28, 500


def changes_option():
    """Return the option of a script that changes images in training."""
    return option(
        "auto",
        "of images: digits, general, none, or auto: as the images are",
        choices=CHANGES,
        older="digits",
    )


def choose_changes(asked, data, bundled):
    """Return the augmentation.Changes that --changes asks for; print which they are.

    asked: one of CHANGES. data: the Data that is trained on; bundled: whether it is
    the MNIST that comes with this collection. What is chosen follows from the data
    alone. 'auto' is 'digits' for MNIST and for images that the shipped classifier
    reads as the digits that their labels say, and else 'general'. General changes
    mirror images where there are enough to tell that mirrored ones look like others.
    """
    if asked == "none":
        return NONE
    text = ""
    if asked == "auto":
        right = 100.0 if bundled else share_of_digits(data)
        asked = "digits" if right >= LEAST_RIGHT else "general"
        if right and not bundled:
            text = f" ({right:.0f} % of the labelled images are read as digits)"
    if asked == "digits":
        changes, kind = DIGITS, "of digits"
    else:
        X = data.train[0]
        mirrored = len(X) >= FEWEST and compare_mirrored(X) <= FARTHEST
        changes = define_general(data.image_shape, mirrored)
        kind = changes.name
    if not bundled:
        print(f"Changes of images: {kind}{text}")
    return changes


def share_of_digits(data):
    """Return the percentage of labelled images that are read as their digits.

    0 where they are none by their shape or their classes.
    """
    X, y = data.train
    labelled = np.random.default_rng(0).permutation(np.flatnonzero(y >= 0))[:LOOKED_AT]
    if data.image_shape != MNIST_SHAPE or data.n_classes != MNIST_CLASSES:
        return 0.0
    if data.class_names not in (None, DIGIT_NAMES) or not len(labelled):
        return 0.0
    c_model = load_classifier(newest_in(SHIPPED_TUNED, "classifier"))
    answers = class_probabilities(c_model, X, chosen=labelled).argmax(axis=1)
    return 100.0 * float(np.mean(answers == y[labelled]))


def compare_mirrored(X):
    """Return how much farther mirrored images are from the nearest other image.

    X: uint8 (n, h, w, c). The median over a quarter of 2,000 images of the ratio of the
    two distances, the mirrored image's and the image's own: 1 where mirrored images
    look like others. It needs no labels.
    """
    chosen = np.random.default_rng(0).permutation(len(X))[:LOOKED_AT]
    step = max(1, min(X.shape[1:3]) // COMPARED_SIDE)
    images = scale_images(X[:, ::step, ::step][chosen])
    n = max(1, len(images) // 4)

    def nearest(some):
        some, others = (part.reshape(len(part), -1) for part in (some, images))
        squares = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
        squares -= 2 * some @ others.T
        squares[np.arange(n), np.arange(n)] = np.inf  # itself
        return np.sqrt(np.maximum(squares.min(axis=1), 1e-6))

    return float(np.median(nearest(images[:n, :, ::-1]) / nearest(images[:n])))
