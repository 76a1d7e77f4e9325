"""A quicker way to compute normalisation in training on a CPU.

Keras computes the moments and what follows from them in many passes over the batch;
TensorFlow's fused operation takes a few, forwards and backwards. In a batch of one
image, instance normalisation is the same operation as batch normalisation.
"""

from functools import partial

from gankit.backend import layers, tf


def accelerate_normalization(layer):
    """Let a layer of plain batch normalisation compute its training pass fused.

    Or one of instance normalisation, without weights, its passes of single images.
    Other passes of batch normalisation than in training, a layer that is not trainable,
    and inputs of another kind than images with channels last stay as Keras has them; so
    do layers of another kind.
    """
    if type(layer) is layers.BatchNormalization and _is_plain(layer):
        layer.call = partial(_call, layer)
    if type(layer) is layers.GroupNormalization and _is_of_instances(layer):
        layer.call = partial(_call_of_instances, layer)


def _is_plain(layer):
    return (
        layer.axis in (-1, 3)
        and not layer.renorm
        and not layer.synchronized
        and layer.variable_dtype == "float32"
        and layer.compute_dtype in ("float32", "bfloat16", "float16")
    )


def _is_of_instances(layer):
    return (
        layer.axis in (-1, 3)
        and layer.groups == layer.input_spec.axes[layer.axis]
        and not layer.scale
        and not layer.center
        and layer.compute_dtype in ("float32", "bfloat16", "float16")
    )


def _call_of_instances(layer, inputs):
    is_image = inputs.shape.rank == 4 and inputs.shape[0] == 1
    if not is_image or inputs.dtype != layer.compute_dtype:
        return layers.GroupNormalization.call(layer, inputs)
    n = inputs.shape[-1]
    outputs, *_ = normalize_batch(inputs, tf.ones((n,)), tf.zeros((n,)), layer.epsilon)
    return outputs


def _call(layer, inputs, training=None, mask=None):
    if (
        not (training and layer.trainable)
        or mask is not None
        or inputs.shape.rank != 4
        or inputs.dtype != layer.compute_dtype
    ):
        plain = layers.BatchNormalization.call
        return plain(layer, inputs, training=training, mask=mask)
    n = inputs.shape[-1]
    outputs, mean, variance = normalize_batch(
        inputs,
        tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones((n,)),
        tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros((n,)),
        layer.epsilon,
    )
    for moving, value in (
        (layer.moving_mean, mean),
        (layer.moving_variance, variance),
    ):
        moving.assign(moving * layer.momentum + value * (1.0 - layer.momentum))
    return outputs


def normalize_batch(inputs, scale, offset, epsilon):
    """Normalise each channel of (n, h, w, c) by the moments of this batch.

    inputs: float32, bfloat16 or float16; scale, offset: float32 (c,). Returns outputs
    like the inputs, and the channels' mean and biased variance, float32 (c,), through
    which no gradient flows.
    """
    none = tf.zeros((0,))
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=scale,
        offset=offset,
        mean=none,
        variance=none,
        epsilon=epsilon,
        is_training=True,
    )
    # the operation returns the unbiased variance, Keras averages the biased one
    n = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
    variance *= (n - 1) / n
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance)
