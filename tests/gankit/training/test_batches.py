import numpy as np
import pytest
import tensorflow as tf

from gankit.data.images import scale_images
from gankit.training.batches import define_take


def images_with_all_values(n=40):
    """Return uint8 (n, 8, 4, 3) with each value, and words of 255 alone."""
    X = np.random.default_rng(1).integers(0, 256, (n, 8, 4, 3), dtype=np.uint8)
    X[0], X[1] = 255, 0
    assert len(np.unique(X)) == 256
    return X


@pytest.mark.parametrize("jit", [False, True])
def test_bytes_are_taken_as_scaling_them_would_give(jit):
    X = images_with_all_values()
    take = tf.function(define_take(X), jit_compile=jit)
    indices = [39, 0, 1, 7, 7, *range(40)]
    images = take(tf.constant(indices)).numpy()
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, scale_images(X)[indices])


def test_scaled_images_are_taken_unchanged():
    X = scale_images(images_with_all_values())
    images = define_take(X)(tf.constant([3, 0, 3])).numpy()
    np.testing.assert_array_equal(images, X[[3, 0, 3]])


@pytest.mark.parametrize("of", [np.copy, scale_images], ids=["bytes", "floats"])
def test_the_images_can_lie_on_a_gpu(of):
    """TensorFlow keeps int32 in the host's memory, and has no tf.gather of uint8."""
    take = tf.function(define_take(of(images_with_all_values())))
    graph = take.get_concrete_function(tf.TensorSpec((5,), tf.int32)).graph
    held = [tensor for tensor, _ in graph.captures]
    assert max(tensor.shape.num_elements() for tensor in held) >= 40 * 8 * 4 * 3 / 8
    assert {tensor.dtype for tensor in held} <= {tf.float32, tf.int64}
