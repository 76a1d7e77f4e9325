"""Data sets in folders of pictures, a sub-folder a class, or without classes."""

import difflib
import os
import re
from pathlib import Path

import numpy as np

from gankit.command import InputError
from gankit.data.arrays import Data, allocate_images, fitting
from gankit.data.images import IMAGE_SUFFIXES, fit_image, read_image
from gankit.data.labels import check_class_names, normal_form
from gankit.data.listing import list_folder

# names of sub-folders that are no classes, in any case of letters
UNLABELLED, TEST = ("unlabelled", "unlabeled"), "test"
# a class of such a name would rather be a part of the data, misnamed
PARTS = re.compile(
    r"train(ing)?|test(s|ing)?|val(id|idation)?|eval(uation)?|holdout|(no|without)labels?"
)
ENDING = re.compile(r"(data)?(set|split)$|(data|images?|pictures?|photos?|samples?)$")


def recognises(path):
    return path.is_dir()


def read(name, image_size):
    """Return the Data of a folder of images, with a sub-folder a class.

    Or with none: its images, or those in `unlabelled` alone, have no labels.
    """
    folder = Path(name)
    if _holds_images_alone(folder):
        return _unlabelled_data(image_files(folder, folder), folder, image_size)
    classes, unlabelled, tests = {}, [], []
    for part in _sub_folders(folder):
        kind = part.name.casefold()
        if kind in UNLABELLED:
            unlabelled.append((part, -1))
        elif kind == TEST:
            tests += _sub_folders(part)
        elif _is_near_miss(kind):
            raise InputError(
                f"{part}: is named like a part of the data, not like a class; reserved "
                f"are `{TEST}` and `{UNLABELLED[0]}` (or `{UNLABELLED[1]}`), and the "
                f"classes to train on are sub-folders of {folder} itself; rename it, "
                "or move what it holds"
            )
        else:
            classes.setdefault(normal_form(part.name), []).append(part)
    names = sorted(classes)
    if unlabelled and not names and not tests:
        paths = [path for part, _ in unlabelled for path in image_files(part, folder)]
        if paths:
            return _unlabelled_data(paths, folder, image_size)
    if len(names) < 2:
        raise InputError(
            f"{folder}: has {len(names)} sub-folders of classes; make one a class, and "
            "put its images there; or, where no labels are needed, name a folder that "
            "holds images alone"
        )
    try:
        check_class_names(names)
    except ValueError as error:
        raise InputError(f"{folder}: {error}; rename the sub-folder") from error
    for part in tests:
        if normal_form(part.name) not in classes:
            raise InputError(
                f"{part}: there is no class of this name; rename it, or move it out "
                f"of {part.parent}"
            )
    numbers = {name: number for number, name in enumerate(names)}

    def files(parts):
        return [
            (path, label) for part, label in parts for path in image_files(part, folder)
        ]

    labelled = [(part, numbers[name]) for name in names for part in classes[name]]
    train = files(labelled + unlabelled)
    test = files((part, numbers[normal_form(part.name)]) for part in tests)
    if not train:
        raise InputError(f"{folder}: its sub-folders hold no images; put some there")
    x = read_images([path for path, _ in train + test], folder, image_size)
    y = np.array([label for _, label in train + test])
    n = len(train)
    return Data([x[:n], y[:n]], [x[n:], y[n:]] if test else None, len(names), names)


def _holds_images_alone(folder):
    """Tell whether a folder has images and no sub-folder."""
    entries = list_folder(folder)
    return not any(os.path.isdir(entry.path) for entry in entries) and any(
        Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in entries
    )


def _unlabelled_data(paths, folder, image_size):
    """Return the Data of images of which none has a label."""
    x = read_images(paths, folder, image_size)
    return Data([x, np.full(len(paths), -1)], None, 1, None)


def _is_near_miss(name):
    """Tell whether a name in small letters is like those that parts of data have."""
    word = ENDING.sub("", "".join(c for c in name if c.isalpha()))
    typos = difflib.get_close_matches(word, UNLABELLED, cutoff=0.8)
    return bool(typos or PARTS.fullmatch(word))


def _sub_folders(folder):
    """Return the paths of a folder's sub-folders, sorted by name."""
    paths = []
    for entry in list_folder(folder):
        if entry.is_symlink():
            raise InputError(f"{entry.path}: is a link; put the folder itself there")
        if entry.is_dir():
            paths.append(Path(entry.path))
        elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
            raise InputError(
                f"{entry.path}: is in no class's sub-folder; move it into one, or out "
                f"of {folder}"
            )
    return paths


def image_files(folder, data, parts=()):
    """Return the paths of the images in a folder, sorted by name.

    data: the data set's folder. parts: sub-folders that are passed over, by their names
    in small letters. Raises InputError where the folder holds anything else.
    """
    root = data.resolve()
    paths = []
    for entry in list_folder(folder):
        path = Path(entry.path)
        if entry.name.casefold() in parts and entry.is_dir(follow_symlinks=False):
            continue
        target = Path(os.path.realpath(path))
        if entry.is_symlink() and not target.is_relative_to(root):
            raise InputError(
                f"{path}: is a link out of the data folder; put the file itself there"
            )
        if os.path.isdir(path):
            raise InputError(
                f"{path}: is a folder, where images should be; move its images into "
                f"{folder}, or the folder out of {data}"
            )
        if not os.path.isfile(path):
            raise InputError(f"{path}: is not a file; move it out of {data}")
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(
                f"{path}: is not named as a PNG or JPEG image "
                f"({', '.join(IMAGE_SUFFIXES)}); rename it if it is one, or move it "
                f"out of {data}"
            )
        paths.append(path)
    return paths


def read_images(paths, data, image_size, read_parts=None):
    """Return the images, uint8 (n, h, w, c), c 3 where any has colours, else 1.

    data: the folder that they belong to. read_parts: path -> several images of one
    size; then a list of as many such arrays is returned, all with the same c.
    """

    def read(path):
        try:
            return [read_image(path)] if read_parts is None else read_parts(path)
        except InputError as error:
            raise InputError(f"{error}, or move it out of {data}") from error

    first = read(paths[0])
    size, channels = first[0].shape[:2], first[0].shape[2]
    height, width = fitting(paths[0], size, image_size)

    def allocate():
        return [allocate_images(len(paths), height, width, channels) for _ in first]

    arrays = allocate()
    for i, path in enumerate(paths):
        images = read(path)
        shape = images[0].shape
        if image_size is None and shape[:2] != size:
            raise InputError(
                f"{path}: is {shape[0]}x{shape[1]}, and {paths[0]} "
                f"{size[0]}x{size[1]} (height x width); give --image-size to resize all"
            )
        if channels < max(image.shape[2] for image in images):
            channels, grey = 3, arrays
            arrays = allocate()
            for x in arrays:
                x[:i] = grey.pop(0)[:i]
        for x, image in zip(arrays, images, strict=True):
            x[i] = fit_image(image, height, width, channels)
    return arrays[0] if read_parts is None else arrays
