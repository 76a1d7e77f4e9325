"""Data sets in .npz files, whoever made them."""

import math
import pickle
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from gankit.command import InputError, printable
from gankit.data.arrays import LARGEST_ARRAY, check_data

# an .npz file may unpack to so many bytes, and to a larger multiple of its own size
LARGEST_UNPACKED = 1 << 30
LARGEST_RATIO = 100
LARGEST_DIRECTORY = 1 << 16
# for an array of Python objects, which would run code as it is read
REMEDIES = {
    "x": "make all images of one shape and save them as one uint8 array",
    "y": "make the labels integers and save them with .astype(int)",
    "class_names": "save the names with .astype(str)",
}


def recognises(path):
    return not path.is_dir()


def read(name, image_size):
    """Return the Data of an .npz file."""
    return check_data(name, *_read_arrays(name), image_size=image_size)


def _read_arrays(name):
    """Return x_train, y_train, x_test, y_test (None without) and class_names."""
    remedy = "give an .npz file with x_train, y_train and, if you have them, x_test "
    remedy += "and y_test"
    try:
        check_npz(name)
        file = np.load(name, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise InputError(f"{name}: not an .npz file; {remedy}")
        with file:
            keys = ["x_train", "y_train"]
            if "x_test" in file or "y_test" in file:
                keys += ["x_test", "y_test"]
            missing = [key for key in keys if key not in file]
            if missing:
                raise InputError(f"{name}: no array {', '.join(missing)}; {remedy}")
            if max(member.file_size for member in file.zip.infolist()) > LARGEST_ARRAY:
                raise InputError(f"{name}: larger than 4 GiB; give fewer images")
            arrays = [file[key] for key in keys]
            names = file.get("class_names")
        given = arrays if names is None else [*arrays, names]
        if not all(isinstance(array, np.ndarray) for array in given):
            raise InputError(f"{name}: not a plain .npz file; {remedy}")
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; {remedy}") from None
    except (
        OSError,
        EOFError,
        MemoryError,
        RuntimeError,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
        pickle.UnpicklingError,
    ) as error:
        raise InputError(
            f"{name}: can't be read ({' '.join(str(error).split())}); {remedy}"
        ) from error
    except InputError:
        raise
    except ValueError:
        # numpy refuses pickled objects, and what is no array, with a ValueError
        raise InputError(f"{name}: not a plain .npz file; {remedy}") from None
    if names is not None:
        if names.ndim != 1 or names.dtype.kind != "U":
            raise InputError(
                f"{name}: class_names has shape {names.shape} and dtype {names.dtype}; "
                "it must be an array of texts, one a class"
            )
        names = names.tolist()
    return *arrays, *[None] * (4 - len(arrays)), names


def check_npz(path):
    """Raise InputError for an .npz file that unpacks to far more than it holds.

    Or another exception where it can't be read. What is no ZIP file is let through.
    """
    path, remedy = Path(path), "give a plain .npz file, as numpy.savez makes it"
    size = path.stat().st_size
    if not path.is_file():  # a FIFO would block when opened
        raise InputError(f"{path}: not a file; {remedy}")
    if not zipfile.is_zipfile(path):
        return
    if has_large_directory(path, size):
        raise InputError(f"{path}: holds thousands of arrays; {remedy}")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > LARGEST_UNPACKED and unpacked > LARGEST_RATIO * size:
            raise InputError(
                f"{path}: of {size} bytes, would unpack to {unpacked}; {remedy}"
            )
        for member in members:
            with archive.open(member) as file:
                shape, dtype = _read_header(file)
            if dtype.hasobject:
                array = member.filename.removesuffix(".npy")
                key = array.removesuffix("_train").removesuffix("_test")
                raise InputError(
                    f"{path}: not a plain .npz file: {printable(array)} holds Python "
                    "objects, which could run code as they are read; "
                    f"{REMEDIES.get(key, 'save the file without it')}"
                )
            if math.prod(shape) * dtype.itemsize > member.file_size:
                raise InputError(
                    f"{path}: {printable(member.filename)} declares more values than "
                    f"it holds; {remedy}"
                )


def _read_header(file):
    """Return the shape and dtype that an .npy file's header declares."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype


def has_large_directory(path, size):
    """Look at the end of a ZIP file; zipfile would read a directory of any size."""
    with open(path, "rb") as file:
        file.seek(max(0, size - 42))
        end = file.read()
    if end[-22:-18] != b"PK\5\6":
        raise zipfile.BadZipFile("has no end, or a comment")
    # files of 4 GiB have a second directory, of another form
    extended = end[:4] == b"PK\6\7" and size < 1 << 32
    return extended or int.from_bytes(end[-10:-6], "little") > LARGEST_DIRECTORY
