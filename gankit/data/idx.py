"""Data sets in IDX files, as MNIST and its relatives come."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from gankit.command import InputError
from gankit.data.arrays import LARGEST_ARRAY, check_data
from gankit.data.listing import list_folder

# train-images-idx3-ubyte, t10k-labels-idx1-ubyte.gz and so on; EMNIST writes
# emnist-letters-test-images-idx3-ubyte.gz, and some programs that unpack .idx3-ubyte
NAME = re.compile(
    r"((?:.*[-_.])?)(train|t10k|test)-"
    r"(images(?=.idx3)|labels(?=.idx1))[-.]idx[13]-ubyte(?:\.gz)?",
    re.IGNORECASE | re.DOTALL,
)


def recognises(path):
    return path.is_dir() and bool(_find_sets(path))


def read(name, image_size):
    """Return the Data of a folder with the two or four files of one data set."""
    folder = Path(name)
    sets = _find_sets(folder)
    if len(sets) > 1:
        prefixes = ", ".join(prefix or "names without a prefix" for prefix in sets)
        raise InputError(
            f"{folder}: holds IDX files of {len(sets)} data sets ({prefixes}); put "
            "those of one in a folder of their own"
        )
    ((prefix, paths),) = sets.items()
    arrays = []
    for part in ("train", "test"):
        if part == "test" and not any(found == part for found, _ in paths):
            arrays += None, None
            continue
        word = "t10k" if part == "test" and not prefix else part
        for kind, n_axes in (("images", 3), ("labels", 1)):
            if (part, kind) not in paths:
                missing = folder / f"{prefix}{word}-{kind}-idx{n_axes}-ubyte"
                raise InputError(f"{missing}: no such file, nor with .gz; add it")
            arrays.append(_read_idx(paths[part, kind], n_axes))
    return check_data(name, *arrays, None, image_size=image_size)


def _find_sets(folder):
    """Return {prefix: {(part, kind): path}} of a folder's IDX files.

    part: 'train' or 'test'; kind: 'images' or 'labels'. Of several files of one part
    and kind the first by name is taken: one that isn't packed, if there is.
    """
    sets = {}
    for entry in list_folder(folder):
        if (match := NAME.fullmatch(entry.name)) and entry.is_file():
            prefix, part, kind = match.groups()
            part = "train" if part.lower() == "train" else "test"
            paths = sets.setdefault(prefix, {})
            paths.setdefault((part, kind.lower()), Path(entry.path))
    return sets


def _read_idx(path, n_axes):
    """Return the array of an IDX file of bytes, uint8 with so many axes."""
    packed = path.suffix.lower() == ".gz"
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
