"""Data sets in IDX files, as MNIST and its relatives come."""

import gzip
import math
import struct
import zlib

import numpy as np

from gankit.command import InputError
from gankit.data.arrays import LARGEST_ARRAY

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


# ---------------------------------------------------------------- IDX


def find_idx(folder, name):
    """Return the path of an IDX file, packed by gzip or not; None without it."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def read_idx_files(folder):
    """Return x_train, y_train, x_test, y_test (None without) and None."""
    paths = [find_idx(folder, name) for name in IDX_FILES]
    needed = IDX_FILES if any(paths[2:]) else IDX_FILES[:2]
    for name, path in zip(needed, paths, strict=False):
        if path is None:
            raise InputError(f"{folder / name}: no such file, nor with .gz; add it")
    arrays = [
        path and _read_idx(path, n_axes)
        for path, n_axes in zip(paths, (3, 1, 3, 1), strict=True)
    ]
    return *arrays, None


def _read_idx(path, n_axes):
    """Return the array of an IDX file of bytes, uint8 with so many axes."""
    packed = path.suffix == ".gz"
    try:
        length = path.stat().st_size
        with (gzip.open if packed else open)(path, "rb") as file:
            header = file.read(4 + 4 * n_axes)
            if len(header) < 4 + 4 * n_axes or header[:4] != bytes([0, 0, 8, n_axes]):
                raise ValueError(f"not an IDX file of bytes with {n_axes} axes")
            shape = struct.unpack(f">{n_axes}I", header[4:])
            size = math.prod(shape)
            # deflate packs at most 1032 bytes into one
            most = 1032 * length if packed else length - len(header)
            if size > min(most, LARGEST_ARRAY):
                raise ValueError(f"an array of shape {shape} is more than it can hold")
            content = np.empty(size, np.uint8)
            filled = 0
            # in pieces, of which gzip makes copies
            while n_read := file.readinto(content[filled : filled + (1 << 20)]):
                filled += n_read
            if filled < size or file.read(1):
                raise ValueError(f"its length is not that of an array of shape {shape}")
    except (OSError, EOFError, ValueError, MemoryError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: can't be read ({reason}); give a whole IDX file"
        ) from error
    return content.reshape(shape)
