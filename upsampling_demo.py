"""Two layers that make images larger: UpSampling2D and Conv2DTranspose.

    python upsampling_demo.py             # the figure goes to the current directory
    python upsampling_demo.py --out DIR

A generator starts from a few coarse maps and must end at a full image. UpSampling2D
repeats (or interpolates) pixels and has no weights; Conv2DTranspose learns how to
fill in the detail.
"""

import argparse
import sys

import numpy as np

from gankit.backend import figure, keras, layers
from gankit.command import OneLineParser, run_script
from gankit.folders import writable_folder
from gankit.pictures import plain_style, save_figure

X = np.asarray([[1, 2], [3, 4]])


def define_upsampling_model(**options):
    """Return UpSampling2D alone: (n, 2, 2, 1) -> (n, 2 rows, 2 columns, 1)."""
    return keras.Sequential([keras.Input((2, 2, 1)), layers.UpSampling2D(**options)])


def define_transpose_model(strides=(2, 2)):
    """Return a 1x1 Conv2DTranspose of weight 1 and bias 0 for (n, 2, 2, 1)."""
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), layers.Conv2DTranspose(1, (1, 1), strides=strides)]
    )
    model.set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    return model


def define_upsampling_generator(latent_dim=100):
    """Return a small generator with UpSampling2D: (n, latent_dim) -> (n, 10, 10, 1)."""
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            # 128 maps of 5x5
            layers.Dense(128 * 5 * 5),
            layers.Reshape((5, 5, 128)),
            # 128 maps of 10x10, then one
            layers.UpSampling2D(),
            layers.Conv2D(1, (3, 3), padding="same"),
        ]
    )


def define_transpose_generator(latent_dim=100, padding="same"):
    """Return a small generator with Conv2DTranspose.

    (n, latent_dim) -> (n, 10, 10, 1) with padding 'same', (n, 11, 11, 1) with 'valid'.
    """
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            layers.Dense(128 * 5 * 5),
            layers.Reshape((5, 5, 128)),
            layers.Conv2DTranspose(1, (3, 3), strides=(2, 2), padding=padding),
        ]
    )


def enlarge(model):
    """Feed [[1, 2], [3, 4]] to a model; return its output map, float32 (h, w)."""
    output = model(X.reshape((1, 2, 2, 1)).astype("float32"))
    return keras.ops.convert_to_numpy(output)[0, ..., 0]


def insert_zeros(images, stride=2):
    """Put stride - 1 zero rows and columns between the pixels.

    (n, h, w, c) -> (n, stride (h - 1) + 1, stride (w - 1) + 1, c)
    """
    n, h, w, c = images.shape
    stuffed = np.zeros((n, stride * (h - 1) + 1, stride * (w - 1) + 1, c), images.dtype)
    stuffed[:, ::stride, ::stride] = images
    return stuffed


def transpose_by_zeros(images, kernel, stride=2, padding="valid"):
    """Compute a transposed convolution as a plain one over the zero-stuffed input.

    images: (n, h, w, c_in), float32; kernel: (k, k, c_out, c_in), as Conv2DTranspose
    keeps it, k at least stride. Returns (n, stride (h - 1) + k, ..., c_out) with
    padding 'valid' and (n, stride h, stride w, c_out) with 'same' (Dumoulin & Visin
    2016, section 4).
    """
    k = kernel.shape[0]
    border = ((0, 0), (k - 1, k - 1), (k - 1, k - 1), (0, 0))
    stuffed = np.pad(insert_zeros(images, stride), border)
    convolution = layers.Conv2D(kernel.shape[2], k, padding="valid", use_bias=False)
    convolution.build(stuffed.shape)
    # the transposed convolution spreads each pixel, the plain one gathers: hence
    # the kernel turned by half a circle
    convolution.set_weights([kernel[::-1, ::-1].transpose(0, 1, 3, 2)])
    output = keras.ops.convert_to_numpy(convolution(stuffed))
    if padding == "valid":
        return output
    n, h, w, _ = images.shape
    first = (k - stride) // 2
    return output[:, first : first + stride * h, first : first + stride * w]


def compare_both_ways(padding, seed=1):
    """Return the outputs of Conv2DTranspose and transpose_by_zeros, random weights."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((2, 5, 5, 4), dtype=np.float32)
    kernel = rng.standard_normal((3, 3, 2, 4), dtype=np.float32)
    layer = layers.Conv2DTranspose(2, 3, strides=2, padding=padding, use_bias=False)
    layer.build(images.shape)
    layer.set_weights([kernel])
    transposed = keras.ops.convert_to_numpy(layer(images))
    return transposed, transpose_by_zeros(images, kernel, padding=padding)


@plain_style()
def draw_arrays(arrays):
    """Return a figure of arrays, {title: (h, w)}, side by side with their values."""
    fig = figure.Figure(figsize=(3 * len(arrays), 3.4), layout="constrained")
    for axes, (title, array) in zip(
        fig.subplots(1, len(arrays)), arrays.items(), strict=True
    ):
        axes.imshow(array, cmap="Blues", vmin=0, vmax=6)
        for (i, j), value in np.ndenumerate(array):
            axes.text(j, i, f"{value:g}", ha="center", va="center")
        axes.set(title=title, xticks=[], yticks=[])
    return fig


def run(args):
    path = writable_folder(args.out) / "upsampling_demo.png"
    arrays = {"input": X}

    print("Input:")
    print(X)

    print("\nUpSampling2D doubles rows and columns by repeating them:")
    model = define_upsampling_model()
    model.summary()
    arrays["UpSampling2D()"] = enlarge(model)
    print(arrays["UpSampling2D()"])

    print("\nUpSampling2D(size=(2, 3)): twice the rows, three times the columns:")
    arrays["UpSampling2D(size=(2, 3))"] = enlarge(define_upsampling_model(size=(2, 3)))
    print(arrays["UpSampling2D(size=(2, 3))"])

    print("\nUpSampling2D(interpolation='bilinear') mixes neighbours instead:")
    arrays["bilinear"] = enlarge(define_upsampling_model(interpolation="bilinear"))
    print(arrays["bilinear"])

    print("\nA small generator with UpSampling2D, then a convolution:")
    define_upsampling_generator().summary()

    print("\nConv2DTranspose, 1x1, stride 2, weight 1: pixels move apart:")
    model = define_transpose_model()
    model.summary()
    arrays["Conv2DTranspose, stride 2"] = enlarge(model)
    print(arrays["Conv2DTranspose, stride 2"])

    print("\nThe same with stride 1 returns its input:")
    arrays["Conv2DTranspose, stride 1"] = enlarge(define_transpose_model((1, 1)))
    print(arrays["Conv2DTranspose, stride 1"])

    print("\nA small generator with Conv2DTranspose, 3x3, stride 2:")
    define_transpose_generator().summary()
    for padding in ("same", "valid"):
        shape = define_transpose_generator(padding=padding).output_shape[1:]
        print(f"padding='{padding}': 5x5 becomes {shape[0]}x{shape[1]}")

    print(
        "\nA transposed convolution of stride 2 is a plain convolution over the input\n"
        "with zero rows and columns put in. Both ways, on random weights:"
    )
    for padding in ("valid", "same"):
        transposed, plain = compare_both_ways(padding)
        print(
            f"padding='{padding}': outputs {transposed.shape} and {plain.shape}, "
            f"largest difference {np.abs(transposed - plain).max():.1e}"
        )

    save_figure(draw_arrays(arrays), path)
    print(f"\n>Saved: {path}")


def main(argv=None):
    parser = OneLineParser(
        description="Show UpSampling2D and Conv2DTranspose on a 2x2 image.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", default=".", help="folder of upsampling_demo.png")
    args = parser.parse_args(argv)
    return run_script("upsampling_demo.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
