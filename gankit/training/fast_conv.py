"""A quicker way to compute a convolution to a single output map on a CPU.

TensorFlow's CPU library pads one output channel to sixteen, so that the generator's
last layer, 7x7 to one map, takes four times as long as it must. Here the forward pass
is one matrix product, from the input's channels to one map for each place in the
kernel, followed by a sum of shifted maps; the kernel's gradient is one matrix product
with the shifted output gradient. The input's gradient is quick as it is.

A transposed convolution is computed likewise: the maps of the kernel's places are
summed for each place within a stride, and these sums are the output's rows and columns
in turn.
"""

from functools import partial

from gankit.backend import layers, tf
from gankit.training.fast_norm import accelerate_normalization


def accelerate(model):
    """Speed up single-map convolutions and normalisation where no GPU is used.

    The layers of `model`, their weights and what is saved stay those of plain Keras;
    only how this one object computes changes, by Keras's own hook `convolution_op` or
    by its `call`.
    """
    if tf.config.list_logical_devices("GPU"):
        return
    for layer in model.layers:
        accelerate_normalization(layer)
        if type(layer) is layers.Conv2D and _is_single_map(layer):
            layer.convolution_op = convolve_to_one_map
        if type(layer) is layers.Conv2DTranspose and _is_single_map_transposed(layer):
            layer.call = partial(_call_transposed, layer)


def _is_single_map(layer):
    return (
        layer.filters == 1
        and layer.padding == "same"
        and layer.strides == layer.dilation_rate == (1, 1)
        and layer.groups == 1
        and all(size % 2 for size in layer.kernel_size)
        and layer.data_format == "channels_last"
    )


def convolve_to_one_map(inputs, kernel):
    """Convolve (n, h, w, c) with (kh, kw, c, 1), stride 1, padding 'same'.

    kh and kw must be odd. Returns (n, h, w, 1), as tf.nn.conv2d does up to rounding.
    """
    convolve = tf.custom_gradient(_convolve)
    return convolve(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))


def _convolve(x, kernel):
    n, h, w, c = tf.unstack(tf.shape(x))
    kh, kw = kernel.shape[0], kernel.shape[1]
    border = ((kh // 2, kh // 2), (kw // 2, kw // 2))
    places = [(i, j) for i in range(kh) for j in range(kw)]
    pixels = tf.reshape(x, (-1, c))

    maps = tf.matmul(tf.reshape(kernel, (kh * kw, c)), pixels, transpose_b=True)
    # summed in at least float32, as the library does
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    maps = tf.cast(tf.reshape(maps, (kh * kw, n, h, w)), wide)
    maps = tf.pad(maps, ((0, 0), (0, 0), *border))
    y = tf.add_n([maps[k, :, i : i + h, j : j + w] for k, (i, j) in enumerate(places)])

    def gradient(dy):
        padded = tf.pad(dy[..., 0], ((0, 0), *border))
        shifted = tf.stack(
            [
                padded[:, kh - 1 - i : kh - 1 - i + h, kw - 1 - j : kw - 1 - j + w]
                for i, j in places
            ]
        )
        d_kernel = tf.matmul(tf.reshape(shifted, (kh * kw, -1)), pixels)
        dx = tf.nn.conv2d_transpose(dy, kernel, tf.shape(x), 1, "SAME")
        return dx, tf.reshape(d_kernel, kernel.shape)

    return tf.cast(y[..., tf.newaxis], x.dtype), gradient


def _is_single_map_transposed(layer):
    return (
        layer.filters == 1
        and layer.padding == "same"
        and layer.output_padding is None
        and layer.dilation_rate == (1, 1)
        and max(layer.strides) > 1
        and all(
            size % stride == 0
            for size, stride in zip(layer.kernel_size, layer.strides, strict=True)
        )
        and layer.data_format == "channels_last"
    )


def _call_transposed(layer, inputs):
    outputs = convolve_transposed_to_one_map(inputs, layer.kernel, layer.strides)
    if layer.use_bias:
        outputs = outputs + tf.convert_to_tensor(layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def convolve_transposed_to_one_map(inputs, kernel, strides):
    """Convolve (n, h, w, c), transposed, with (kh, kw, 1, c) and padding 'same'.

    strides: (sh, sw); kh and kw must be multiples of them. Returns (n, sh*h, sw*w, 1),
    as tf.nn.conv2d_transpose does up to rounding.
    """
    convolve = tf.custom_gradient(lambda x, k: _convolve_transposed(x, k, strides))
    return convolve(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))


def _convolve_transposed(x, kernel, strides):
    n, h, w, c = tf.unstack(tf.shape(x))
    kh, kw = kernel.shape[0], kernel.shape[1]
    sh, sw = strides
    # a place is a multiple of the stride, the shift of its map, and a rest, the phase
    # of the output's rows (or columns) that it adds to
    qh, qw = kh // sh, kw // sw
    top, left = (kh - sh) // 2, (kw - sw) // 2
    pixels = tf.reshape(x, (-1, c))
    flat_kernel = tf.reshape(kernel, (kh * kw, c))

    maps = tf.matmul(flat_kernel, pixels, transpose_b=True)
    # summed in at least float32, as the library does
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    maps = tf.cast(tf.reshape(maps, (qh, sh, qw, sw, n, h, w)), wide)
    sums = tf.add_n(
        [
            tf.pad(
                maps[i, :, j],
                ((0, 0), (0, 0), (0, 0), (i, qh - 1 - i), (j, qw - 1 - j)),
            )
            for i in range(qh)
            for j in range(qw)
        ]
    )
    y = tf.reshape(
        tf.transpose(sums, (2, 3, 0, 4, 1)), (n, sh * (h + qh - 1), sw * (w + qw - 1))
    )
    y = y[:, top : top + sh * h, left : left + sw * w, tf.newaxis]

    def gradient(dy):
        border = ((0, 0), (top, kh - sh - top), (left, kw - sw - left))
        padded = tf.reshape(
            tf.pad(dy[..., 0], border), (n, h + qh - 1, sh, w + qw - 1, sw)
        )
        phases = tf.transpose(padded, (2, 4, 0, 1, 3))
        shifted = tf.stack(
            [
                tf.stack([phases[..., i : i + h, j : j + w] for j in range(qw)], 1)
                for i in range(qh)
            ]
        )
        # (qh, sh, qw, sw, n, h, w) -> a row a place in the kernel
        shifted = tf.reshape(shifted, (kh * kw, -1))
        dx = tf.matmul(shifted, flat_kernel, transpose_a=True)
        d_kernel = tf.matmul(shifted, pixels)
        return tf.reshape(dx, tf.shape(x)), tf.reshape(d_kernel, kernel.shape)

    return tf.cast(y, x.dtype), gradient
