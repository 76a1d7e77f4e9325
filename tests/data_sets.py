"""Data sets that several tests make."""

import struct

import numpy as np
from PIL import Image

from gankit.data import load
from parts import refused

NAMES = ["a cat", "b dog", "owl"]
IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def fails(path, *image_size):
    """Read data that can't be used; return the one line."""
    return refused(load.load_arrays, path, *image_size)


def arrays(**changes):
    """The arrays of an .npz file with 20 black images of ten classes."""
    x, y = np.zeros((20, 28, 28), np.uint8), np.arange(20) % 10
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y, **changes}


def save_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_folder(root, shape=(20, 24), *, n=4, tests=2, unlabelled=6, seed=0):
    """Fill a folder with images of three classes; return it."""
    rng = np.random.default_rng(seed)

    def write(folder, n, level):
        for i in range(n):
            pixels = np.clip(rng.normal(level, 30, shape), 0, 255).astype(np.uint8)
            save_image(root / folder / f"{i}.{('png', 'JPG')[i % 2]}", pixels)

    for i, name in enumerate(NAMES):
        write(name, n, 60 + 60 * i)
        write(f"test/{name}", tests, 60 + 60 * i)
    write("unlabelled", unlabelled, 120)
    return root


def idx_bytes(array, *, shape=None):
    """The bytes of an IDX file; shape: what it says of itself."""
    shape = shape or array.shape
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + array.astype(np.uint8).tobytes()
