"""The tutorial's data and sampling functions, which the scripts share.

Images are float32 arrays of shape (n, 28, 28, 1), or of another (n, h, w, c), with
pixels in [-1, 1]; labels are integers from 0 to n_classes - 1, with shape (n,).

A script calls them where it loads the data, chooses the labelled images and draws a
sheet. The batches of its compiled step are drawn inside the graph instead, by the
script's define_draw, in the same way: generate_real_samples and generate_fake_samples
return what such a batch holds.
"""

import numpy as np

from gankit.command import InputError
from gankit.data.arrays import Data
from gankit.data.images import scale_images
from gankit.data.labels import select_labels
from gankit.data.load import load_arrays


def load_real_samples(data=None, *, scale=True):
    """Return [X, y], the training images and labels, and print both shapes.

    X: float32 (60000, 28, 28, 1) in [-1, 1], or with scale=False uint8 in [0, 255],
    a quarter of the memory; y: int64 (60000,).
    data: a path, None for the bundled MNIST, or what load_arrays returned; the errors
    raised are those of gankit.data.load.load_arrays.
    """
    x, y = (data if isinstance(data, Data) else load_arrays(data)).train
    X = scale_images(x) if scale else x
    print(X.shape, y.shape)
    return [X, y]


def load_test_samples(data=None, *, scale=True):
    """Return [X, y], the test images and labels, as load_real_samples does."""
    test = (data if isinstance(data, Data) else load_arrays(data)).test
    if test is None:
        raise InputError(f"{data}: has no test images; add x_test and y_test")
    x, y = test
    return [scale_images(x) if scale else x, y]


def select_supervised_samples(
    dataset,
    n_samples=100,
    n_classes=10,
    rng=None,
    *,
    class_names=None,
    return_indices=False,
):
    """Return [X, y], a balanced random subset of the data set [X, y].

    X: (n_samples, 28, 28, 1); y: (n_samples,). No image is drawn twice. rng: a numpy
    Generator, or None for a fresh one. Images of one's own may have no label, y = -1,
    and fewer labels than n_samples: then all are taken, and a line on stderr says so,
    with class_names where they are given.
    return_indices: return ([X, y], indices), the places of these images in dataset.
    Raises InputError where n_samples can't be shared out evenly among n_classes, or
    a class has too few labels.
    """
    X, y = dataset
    chosen = select_labels(y, n_samples, n_classes, rng, class_names=class_names)
    supervised = [X[chosen], y[chosen]]
    return (supervised, chosen) if return_indices else supervised


def generate_real_samples(dataset, n_samples, rng=None):
    """Return [X, labels], ones: n_samples images drawn with replacement.

    X: (n_samples, 28, 28, 1); labels: (n_samples,); the targets 'real' are float64
    ones of shape (n_samples, 1). rng: a numpy Generator, or None for a fresh one.
    The compiled step draws such a batch by define_draw in sgan_mnist.py.
    """
    images, labels = dataset
    rng = rng or np.random.default_rng()
    chosen = rng.integers(0, len(images), n_samples)
    return [images[chosen], labels[chosen]], np.ones((n_samples, 1))


def generate_latent_points(latent_dim, n_samples, rng=None):
    """Return standard normal points, float32 (n_samples, latent_dim)."""
    rng = rng or np.random.default_rng()
    return rng.standard_normal((n_samples, latent_dim), dtype=np.float32)


def generate_fake_samples(generator, latent_dim, n_samples, rng=None, *, z=None):
    """Return generated images, float32 (n_samples, 28, 28, 1) in [-1, 1], and zeros.

    The targets 'generated' are float64 zeros of shape (n_samples, 1). z: the latent
    points, (n_samples, latent_dim); None for fresh ones, drawn by rng.
    The compiled step makes such a batch of the points that define_draw draws.
    """
    if z is None:
        z = generate_latent_points(latent_dim, n_samples, rng)
    return np.float32(generator.predict_on_batch(z)), np.zeros((n_samples, 1))
