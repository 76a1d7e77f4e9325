"""Data, sampling and file helpers that more than one script needs.

Images are float32 arrays of shape (n, 28, 28, 1), or of another (n, h, w, c), with
pixels in [-1, 1]; labels are integers from 0 to n_classes - 1, with shape (n,).
"""

import numpy as np

from gankit.command import InputError
from gankit.data.images import scale_images
from gankit.data.labels import select_supervised_indices
from gankit.data.load import load_arrays


def load_real_samples(data=None, *, scale=True):
    """Return [X, y], the training images and labels, and print both shapes.

    X: float32 (60000, 28, 28, 1) in [-1, 1], or with scale=False uint8 in [0, 255],
    a quarter of the memory; y: int64 (60000,).
    data and the errors raised: as in gankit.data.load.load_arrays.
    """
    x, y = load_arrays(data).train
    X = scale_images(x) if scale else x
    print(X.shape, y.shape)
    return [X, y]


def load_test_samples(data=None, *, scale=True):
    """Return [X, y], the test images and labels, as load_real_samples does."""
    test = load_arrays(data).test
    if test is None:
        raise InputError(f"{data}: has no test images; add x_test and y_test")
    x, y = test
    return [scale_images(x) if scale else x, y]


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
