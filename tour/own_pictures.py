"""Pictures of one's own for a trained network: read, padded to fit, written beside.

A picture is uint8 (h, w, c) in [0, 255], c 1 (grey) or 3 (RGB).
"""

import numpy as np
from common import ROOT  # noqa: F401  puts the repository on the path

from gankit.backend import Image
from gankit.command import InputError
from gankit.data.images import find_images, fit_image, read_image
from gankit.folders import writable_folder, write_atomically


def read_pictures(paths, channels):
    """Return the pictures that paths stand for, a list of (Path, picture).

    paths: files, folders or patterns, see find_images. channels: 1 or 3, of the
    pictures that are returned; their sizes stay. Raises InputError for what can't be
    read, and where there is none.
    """
    found = find_images(paths)
    if not found:
        raise InputError(f"{paths[0]}: holds no picture; give PNG or JPEG files")
    pictures = []
    for path in found:
        image = read_image(path)
        pictures.append((path, fit_image(image, *image.shape[:2], channels)))
    return pictures


def name_results(paths, word, out=None):
    """Return the paths of results: NAME-word.png beside NAME.*, or in the folder out.

    Raises InputError where one is there already, or where two would be the same file;
    so call it before anything is computed.
    """
    folder = None if out is None else writable_folder(out)
    targets = {}
    for path in paths:
        target = (folder or path.parent) / f"{path.stem}-{word}.png"
        if target in targets:
            raise InputError(
                f"{path}: its result would have the same name, {target.name}, as that "
                f"of {targets[target]}; give them one by one, with --out each"
            )
        if target.exists():
            raise InputError(f"{target}: is there already; name a folder with --out")
        targets[target] = path
    return list(targets)


def write_picture(picture, path):
    """Write a picture as a PNG file, atomically."""
    grey = picture.shape[2] == 1
    with write_atomically(path) as temporary:
        Image.fromarray(picture[..., 0] if grey else picture).save(temporary)


def pad_picture(picture, multiple):
    """Return a picture with sides that are multiples of a number, and the picture.

    The second is a pair of slices: where the picture lies in the padded one. What is
    added repeats the pixels at the border.
    """
    widths, places = [], []
    for side in picture.shape[:2]:
        more = -side % multiple
        widths.append((more // 2, more - more // 2))
        places.append(slice(more // 2, more // 2 + side))
    return np.pad(picture, (*widths, (0, 0)), mode="edge"), tuple(places)
