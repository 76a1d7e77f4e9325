"""Data sets: MNIST, or images of one's own; how they are laid out, read and checked.

What can be named with --data:
- an .npz file with x_train and y_train, maybe x_test, y_test and class_names;
- a folder with IDX files, as MNIST and its relatives come;
- a folder with a sub-folder of images a class, maybe `unlabelled` and `test`.
"""

import gzip
import math
import os
import pickle
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers import InputError, LazyModule, check_class_names
from untrusted import check_npz

images = LazyModule("images")

BUNDLED_DATA = Path(__file__).resolve().parent / "data" / "mnist.npz"
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
UNLABELLED, TEST = "unlabelled", "test"
MOST_CLASSES = 10_000
# pixels; the generator of larger images would have billions of weights
LARGEST_SIDE = 512
# bytes; training has two copies of the images
LARGEST_ARRAY = 4 << 30


class Data(NamedTuple):
    """A data set, as load_arrays returns it.

    train: [X, y]; X: uint8 (n, h, w, c) in [0, 255], h and w multiples of 4, c 1 or 3;
    y: int64 (n,) in [0, n_classes - 1], or -1 for an image without label.
    test: the same, all with labels; None where there are no test images.
    class_names: a text for each class, or None.
    """

    train: list
    test: list | None
    n_classes: int
    class_names: list | None

    @property
    def image_shape(self):
        return self.train[0].shape[1:]


def load_arrays(data=None, image_size=None):
    """Read and check a data set; return it as Data.

    data: the path of one, see above; None for the bundled MNIST file or, without it,
    for keras.datasets.mnist (which downloads it).
    image_size: height and width that the images are resized to; None leaves them, but
    for sides that are no multiples of 4, which the generator needs: these images are
    resized to the nearest, and a line printed says so.
    Raises InputError for what is missing, unreadable or of another layout.
    """
    check_image_size(data, image_size)
    if data is None:
        if not BUNDLED_DATA.exists():
            return _checked("keras.datasets.mnist", *_download_arrays())
        data = BUNDLED_DATA
    path = Path(data)
    if not path.is_dir():
        return _checked(str(data), *_read_npz(str(data)), image_size=image_size)
    if any(_find_idx(path, name) for name in IDX_FILES):
        return _checked(str(data), *_read_idx_files(path), image_size=image_size)
    return _read_folder(path, image_size)


def check_image_size(data, image_size):
    """Raise InputError for an --image-size that can't be used with --data."""
    if image_size is None:
        return
    if data is None:
        raise InputError(
            "--image-size: is for images of your own; name them with --data"
        )
    if image_size % 4 or not 8 <= image_size <= LARGEST_SIDE:
        raise InputError(
            f"--image-size {image_size}: must be a multiple of 4 from 8 to "
            f"{LARGEST_SIDE}"
        )


def _checked(name, x_train, y_train, x_test, y_test, class_names, *, image_size=None):
    """Return the Data of arrays that were read; name: of their file, for errors."""
    if class_names is not None:
        try:
            check_class_names(class_names)
        except ValueError as error:
            raise InputError(f"{name}: class_names: {error}") from error
    n_classes = len(class_names) if class_names is not None else MOST_CLASSES
    train = _check_arrays(name, "train", x_train, y_train, n_classes, lowest=-1)
    if class_names is None:
        n_classes = max(1, int(train[1].max()) + 1)
    test = None
    if x_test is not None:
        test = _check_arrays(name, "test", x_test, y_test, n_classes, lowest=0)
        if test[0].shape[1:] != train[0].shape[1:]:
            raise InputError(
                f"{name}: x_test has shape {x_test.shape} and x_train "
                f"{x_train.shape}; all images must be of one shape"
            )
    size = train[0].shape[1:3]
    fitted = _fitting(name, size, image_size)
    if fitted != size:
        for part in filter(None, (train, test)):
            part[0] = _resize(part[0], *fitted)
    return Data(train, test, n_classes, class_names)


def _check_arrays(name, part, x, y, n_classes, *, lowest):
    def require(condition, problem):
        if not condition:
            raise InputError(f"{name}: {problem}")

    require(
        x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3)),
        f"x_{part} has shape {x.shape}; it must be (n, height, width), or with "
        "1 or 3 channels (n, height, width, channels)",
    )
    require(len(x) > 0, f"x_{part} holds no images; give at least one")
    require(
        min(x.shape[1:3]) > 0,
        f"x_{part} has shape {x.shape}; give images of at least a pixel",
    )
    require(
        x.dtype == np.uint8,
        f"x_{part} has dtype {x.dtype}; pixels must be uint8 from 0 to 255",
    )
    require(
        y.shape == (len(x),),
        f"y_{part} has shape {y.shape} for {len(x)} images; it must be ({len(x)},)",
    )
    require(
        np.issubdtype(y.dtype, np.integer),
        f"y_{part} has dtype {y.dtype}; labels must be integers",
    )
    require(
        y.min() >= lowest and y.max() < n_classes,
        f"y_{part} has labels from {y.min()} to {y.max()}; they must be from 0 to "
        f"{n_classes - 1}" + (", or -1 where there is none" if lowest < 0 else ""),
    )
    return [x if x.ndim == 4 else x[..., np.newaxis], y.astype(np.int64)]


def _fitting(name, size, image_size):
    """Return the height and width to train with.

    Without image_size they are the multiples of 4, from 8 on, that are nearest to
    `size`; where these differ a line says so.
    """
    if image_size is not None:
        return image_size, image_size
    fitted = tuple(max(8, 4 * ((side + 2) // 4)) for side in size)
    before, after = (f"{height}x{width}" for height, width in (size, fitted))
    if max(fitted) > LARGEST_SIDE:
        raise InputError(
            f"{name}: images of {before} (height x width) are too large to train on; "
            "give --image-size"
        )
    if fitted != size:
        print(f"The images, {before} (height x width), are resized to {after}")
    return fitted


def _resize(x, height, width):
    n, channels = len(x), x.shape[3]
    fitted = np.empty((n, height, width, channels), np.uint8)
    for image, place in zip(x, fitted, strict=True):
        place[...] = images.fit_image(image, height, width, channels)
    return fitted


# ---------------------------------------------------------------- .npz


def _download_arrays():
    import keras

    try:
        train, test = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception here
        raise InputError(
            f"keras.datasets.mnist: {error}; name a data file with --data FILE"
        ) from error
    return *train, *test, None


def _read_npz(name):
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


# ---------------------------------------------------------------- IDX


def _find_idx(folder, name):
    """Return the path of an IDX file, packed by gzip or not; None without it."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def _read_idx_files(folder):
    """Return x_train, y_train, x_test, y_test (None without) and None."""
    paths = [_find_idx(folder, name) for name in IDX_FILES]
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


# ---------------------------------------------------------------- folders


def _read_folder(folder, image_size):
    """Return the Data of a folder of images, with a sub-folder a class."""
    names = [name for name in _sub_folders(folder) if name not in (UNLABELLED, TEST)]
    if len(names) < 2:
        raise InputError(
            f"{folder}: has {len(names)} sub-folders of classes; make one a class, and "
            "put its images there"
        )
    try:
        check_class_names(names)
    except ValueError as error:
        raise InputError(f"{folder}: {error}; rename the sub-folder") from error
    parts = [(folder / name, label) for label, name in enumerate(names)]
    if (folder / UNLABELLED).is_dir():
        parts.append((folder / UNLABELLED, -1))
    tests = []
    if (folder / TEST).is_dir():
        for name in _sub_folders(folder / TEST):
            if name not in names:
                raise InputError(
                    f"{folder / TEST / name}: there is no class of this name; rename "
                    "or remove it"
                )
            tests.append((folder / TEST / name, names.index(name)))
    root = folder.resolve()
    train, test = (
        [(path, label) for part, label in some for path in _image_files(part, root)]
        for some in (parts, tests)
    )
    if not train:
        raise InputError(f"{folder}: its sub-folders hold no images; put some there")
    x = _read_images([path for path, _ in train + test], image_size)
    y = np.array([label for _, label in train + test])
    n = len(train)
    return Data([x[:n], y[:n]], [x[n:], y[n:]] if test else None, len(names), names)


def _entries(folder):
    """Return what a folder holds, os.DirEntry objects by name, hidden ones left out."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(
            f"{folder}: can't be read ({error.strerror}); make it readable"
        ) from error
    return sorted(found, key=lambda entry: entry.name)


def _sub_folders(folder):
    """Return the names of a folder's sub-folders, sorted."""
    names = []
    for entry in _entries(folder):
        if entry.is_symlink():
            raise InputError(f"{entry.path}: is a link; put the folder itself there")
        if entry.is_dir():
            names.append(entry.name)
        elif Path(entry.name).suffix.lower() in images.IMAGE_SUFFIXES:
            raise InputError(
                f"{entry.path}: is in no class's sub-folder; move or remove it"
            )
    return names


def _image_files(folder, root):
    """Return the paths of the images in a folder; root: the data set's, resolved."""
    paths = []
    for entry in _entries(folder):
        path = Path(entry.path)
        target = Path(os.path.realpath(path))
        if entry.is_symlink() and not target.is_relative_to(root):
            raise InputError(
                f"{path}: is a link out of the data folder; put the file itself there"
            )
        if not os.path.isfile(path):
            raise InputError(f"{path}: is not a file; remove it")
        if path.suffix.lower() not in images.IMAGE_SUFFIXES:
            raise InputError(f"{path}: is not a PNG or JPEG file; remove it")
        paths.append(path)
    return paths


def _read_images(paths, image_size):
    """Return the images, uint8 (n, h, w, c), c 3 where any has colours, else 1."""
    first = _read_image(paths[0])
    size, channels = first.shape[:2], first.shape[2]
    height, width = _fitting(paths[0], size, image_size)

    def allocate(channels):
        if len(paths) * height * width * channels > LARGEST_ARRAY:
            raise InputError(
                f"{len(paths)} images of {height}x{width}x{channels}: more than 4 GiB; "
                "give a smaller --image-size"
            )
        return np.empty((len(paths), height, width, channels), np.uint8)

    x = allocate(channels)
    for i, path in enumerate(paths):
        image = _read_image(path)
        if image_size is None and image.shape[:2] != size:
            raise InputError(
                f"{path}: is {image.shape[0]}x{image.shape[1]}, and {paths[0]} "
                f"{size[0]}x{size[1]} (height x width); give --image-size to resize all"
            )
        if image.shape[2] > x.shape[3]:
            grey, x = x, allocate(3)
            x[:i] = grey[:i]
            del grey
        x[i] = images.fit_image(image, height, width, x.shape[3])
    return x


def _read_image(path):
    try:
        return images.read_image(path)
    except InputError as error:
        raise InputError(f"{error}, or remove it") from error
