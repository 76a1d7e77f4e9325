"""Three grey images as the colours of one: how many of a thousand kinds are made.

Of ten digits there are a thousand combinations, which a generator that loses kinds
leaves out in hundreds (Metz et al. 2017, Karras et al. 2018).
"""

import numpy as np
from common import GanRun

from gankit.command import InputError
from gankit.data.arrays import MOST_CLASSES
from gankit.data.labels import check_labels

# as many as the papers measure
N_STACKED = 25_600


def stack_data(data, name):
    """Return a Data of images of three random grey ones each; its classes are theirs.

    Classes a, b and c of red, green and blue are class (a k + b) k + c of k^3. name: of
    the data, for the errors: InputError for images that can't be stacked so.
    """
    n_classes, (X, y) = data.n_classes, data.train
    if X.shape[3] != 1:
        raise InputError(f"{name}: its images are in colour; --stacked takes grey ones")
    if n_classes**3 > MOST_CLASSES:
        raise InputError(
            f"{name}: has {n_classes} classes; --stacked takes 21 at the most"
        )
    try:
        check_labels(y, np.count_nonzero(y >= 0), n_classes, data.class_names)
    except InputError as error:
        raise InputError(
            f"{name}: {error}; or leave out --stacked, which counts classes"
        ) from error
    rng = np.random.default_rng(0)

    def stack(part):
        if part is None:
            return None
        X, y = (values[part[1] >= 0] for values in part)
        of_channels = [np.arange(len(X)), *(rng.permutation(len(X)) for _ in range(2))]
        a, b, c = (y[indices] for indices in of_channels)
        images = np.concatenate([X[indices] for indices in of_channels], axis=3)
        return [images, (a * n_classes + b) * n_classes + c]

    return data._replace(
        train=stack(data.train),
        test=stack(data.test),
        n_classes=n_classes**3,
        class_names=None,
    )


def unstack_images(images):
    """Return the channels of images (n, h, w, c) as grey images (c n, h, w, 1)."""
    return np.moveaxis(images, 3, 1).reshape(-1, *images.shape[1:3], 1)


class StackedRun(GanRun):
    """A run on stacked images, whose channels are measured one by one, as grey images.

    Its judge is one of the grey images.
    """

    def inner(self, images):
        return unstack_images(super().inner(images))

    def judged(self, data):
        n_classes = round(data.n_classes ** (1 / 3))

        def unstacked(part):
            if part is None:
                return None
            digits = np.unravel_index(part[1], (n_classes,) * 3)
            return [unstack_images(part[0]), np.stack(digits, axis=1).ravel()]

        return data._replace(
            train=unstacked(data.train),
            test=unstacked(data.test),
            n_classes=n_classes,
        )


def measure_combinations(sample, dataset, run):
    """Return how many combinations of classes are made, a dict; {} of other runs.

    sample: (n, rng, labels) -> n images; dataset: [X, y], stack_data's. Of 25,600
    images, or 2.56 times as many as are measured: combinations: how many of them the
    judge sees; combinations_kl: the divergence KL(generated || real) of their shares,
    in nats, where the real ones' are products of the classes' shares. Left out without
    a judge.
    """
    if not isinstance(run, StackedRun) or run.judge is None:
        return {}
    n = min(N_STACKED, int(run.count_measured(2.56)))
    images = sample(n, run.rng_of(2), None)
    answers = run.judge.answer(run.inner(images))[1].argmax(axis=1).reshape(n, 3)
    k = run.judge.n_classes
    counts = np.bincount(np.ravel_multi_index(answers.T, (k,) * 3), minlength=k**3)
    of_real = round(run.n_classes ** (1 / 3))
    digits = np.unravel_index(dataset[1], (of_real,) * 3)
    # a class of the judge's that the data lack counts as one image
    shares = np.maximum(np.bincount(np.ravel(digits), minlength=k), 1)
    shares = shares / shares.sum()
    real = np.einsum("a,b,c->abc", shares, shares, shares).ravel()
    made = counts > 0
    divergence = np.sum(counts[made] / n * np.log(counts[made] / n / real[made]))
    return {
        "combinations": int(np.count_nonzero(made)),
        "combinations_kl": float(divergence),
    }
