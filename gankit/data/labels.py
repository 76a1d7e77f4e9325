"""Which images are labelled, and what the classes are called."""

import json
import sys
import unicodedata

import numpy as np

from gankit.command import InputError

N_CLASSES = 10
# characters of the class names that a model keeps
LARGEST_NAMES = 60_000


def normal_form(name):
    """Return a class's name as it is compared: 'é' is one letter, not e and accent."""
    return unicodedata.normalize("NFC", name)


def check_class_names(names):
    """Raise ValueError unless `names` are different texts that can be printed.

    Names of one normal form are the same. Together, as JSON, they must fit in the
    attribute of an .h5 file.
    """
    if not isinstance(names, list) or not names:
        raise ValueError("names of classes must be a list")
    for name in names:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ValueError(f"{ascii(name)[:60]} can't be the name of a class")
    if len(set(map(normal_form, names))) < len(names):
        raise ValueError("two classes have the same name")
    if len(json.dumps(names)) > LARGEST_NAMES:
        raise ValueError("the names of the classes are too long")


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
    given = y[y >= 0]
    if not len(given):
        raise InputError(
            f"no image has a label: all {len(y)} labels are -1; label some of each "
            "class, in a folder by a sub-folder a class"
        )
    labels, counts = np.unique(given, return_counts=True)
    if n_classes < 2 or (class_names is None and len(labels) < 2):
        raise InputError("the labels are all of one class; there must be two or more")
    missing = np.setdiff1d(np.arange(n_classes), labels)
    if len(missing) and class_names is not None:
        raise InputError(
            f"class {class_names[missing[0]]}: has no image with a label; label some, "
            "or leave it out"
        )
    if len(missing) and labels[0] > 0:
        raise InputError(
            f"the labels are from {labels[0]} to {labels[-1]}, and the first class is "
            f"0; subtract {labels[0]} from each but -1, those of test images too"
        )
    if len(missing):
        raise InputError(
            f"class {missing[0]}: has no image with a label; label some, or number the "
            "classes without a gap"
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


def describe_labelled(y):
    """Return what to say after an accuracy where images without label are left out."""
    n = np.count_nonzero(y >= 0)
    return "" if n == len(y) else f" (of the {n} images with a label)"
