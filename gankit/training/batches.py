"""Batches drawn and computed in a graph."""

import numpy as np

from gankit.backend import tf
from gankit.data.images import scale_images


def derive_seed(seed):
    """Return another seed, from 0 to 2**31 - 1, for dropout.

    Its masks depend on the parts that a batch is computed in, a run's draws do not.
    """
    return int(np.random.SeedSequence((seed, 1)).generate_state(1)[0] >> 1)


def split_in_parts(batch, n_parts):
    """Return n_parts tensors, or one an image where those are fewer, of near sizes."""
    smaller, n_larger = divmod(batch.shape[0], n_parts)
    sizes = [smaller + 1] * n_larger + [smaller] * (n_parts - n_larger)
    return tf.split(batch, [size for size in sizes if size])


def define_take(X):
    """Return take(indices) for use in a graph: images of X, float32 in [-1, 1].

    X: float32 (n, h, w, c) in [-1, 1], or uint8 in [0, 255] with a multiple of 8
    values an image.
    """
    if X.dtype != np.uint8:
        images = tf.constant(X)
        return lambda indices: tf.gather(images, indices)
    # a table, since TensorFlow may round a division by a constant otherwise
    levels = tf.constant(scale_images(np.arange(256, dtype=np.uint8)))
    # eight bytes in a word: on a GPU tf.gather takes words only, and TensorFlow keeps
    # int32 in the host's memory, from where each step would copy all images
    words = tf.constant(np.ascontiguousarray(X).reshape(len(X), -1).view(np.int64))

    def take(indices):
        pixels = tf.bitcast(tf.gather(words, indices), tf.uint8)
        images = tf.reshape(pixels, (-1, *X.shape[1:]))
        return tf.gather(levels, tf.cast(images, tf.int32))

    return take
