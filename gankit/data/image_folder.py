"""Data sets in folders of pictures, a sub-folder a class."""

import os
from pathlib import Path

import numpy as np

from gankit.command import InputError
from gankit.data.arrays import LARGEST_ARRAY, Data, fitting
from gankit.data.images import IMAGE_SUFFIXES, fit_image, read_image
from gankit.data.labels import check_class_names

UNLABELLED, TEST = "unlabelled", "test"


# ---------------------------------------------------------------- folders


def read_folder(folder, image_size):
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
        elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
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
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{path}: is not a PNG or JPEG file; remove it")
        paths.append(path)
    return paths


def _read_images(paths, image_size):
    """Return the images, uint8 (n, h, w, c), c 3 where any has colours, else 1."""
    first = _read_image(paths[0])
    size, channels = first.shape[:2], first.shape[2]
    height, width = fitting(paths[0], size, image_size)

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
        x[i] = fit_image(image, height, width, x.shape[3])
    return x


def _read_image(path):
    try:
        return read_image(path)
    except InputError as error:
        raise InputError(f"{error}, or remove it") from error
