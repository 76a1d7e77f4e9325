"""A quicker way to compute a convolution to a single output map on a CPU.

TensorFlow's CPU library pads one output channel to sixteen, so that the generator's
last layer, 7x7 to one map, takes four times as long as it must. Here the forward pass
is one matrix product, from the input's channels to one map for each place in the
kernel, followed by a sum of shifted maps; the kernel's gradient is one matrix product
with the shifted output gradient. The input's gradient is quick as it is.
"""

from gankit.backend import layers, tf


def accelerate(model):
    """Speed up the single-map convolutions of `model` where no GPU is used.

    The layers, their weights and what is saved stay those of plain Keras; only how
    this one object computes changes, by Keras's own hook `convolution_op`.
    """
    if tf.config.list_logical_devices("GPU"):
        return
    for layer in model.layers:
        if type(layer) is layers.Conv2D and _is_single_map(layer):
            layer.convolution_op = convolve_to_one_map


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
