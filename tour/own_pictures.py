"""Pictures of one's own for a trained network: read, made to fit, written beside.

A picture is uint8 (h, w, c) in [0, 255], c 1 (grey) or 3 (RGB).
"""

import re

import numpy as np
from common import ROOT  # noqa: F401  puts the repository on the path

from gankit.backend import Image, LazyModule
from gankit.command import InputError
from gankit.data.images import find_images, fit_image, read_image
from gankit.folders import writable_folder, write_atomically

ndimage = LazyModule("scipy.ndimage")

# pixels of a picture that is translated: its maps lie in the memory as a whole
LARGEST_TRANSLATED = 1 << 22


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


def read_mask(mask, path, shape):
    """Return where the hole of a picture is, bool (h, w), and its box.

    mask: 'x,y,w,h' in pixels from the upper left, or the path of a picture of the same
    size, in which the hole is what is brighter than a middle grey. path, shape: of the
    picture. The box is a pair of slices. Raises InputError for a mask that is none of
    this picture, that hides nothing, or all.
    """
    hole = np.zeros(shape[:2], bool)
    size = f"{shape[1]}x{shape[0]} pixels (width x height)"
    if numbers := re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", mask):
        x, y, width, height = map(int, numbers.groups())
        if x + width > shape[1] or y + height > shape[0]:
            raise InputError(
                f"--mask {mask}: reaches out of {path}, which has {size}; name a hole "
                "inside"
            )
        hole[y : y + height, x : x + width] = True
    elif re.fullmatch(r"[-+\d. ]*,[-+\d., ]*", mask):
        raise InputError(f"--mask {mask}: must be x,y,w,h, whole numbers, or a picture")
    else:
        image = read_image(mask)
        image = fit_image(image, *image.shape[:2], 1)
        if image.shape[:2] != hole.shape:
            raise InputError(
                f"{mask}: has {image.shape[1]}x{image.shape[0]} pixels, and {path} has "
                f"{size}; make a mask of its size"
            )
        hole = image[..., 0] > 127
    if hole.all() or not hole.any():
        what = "all" if hole.all() else "nothing"
        raise InputError(f"--mask {mask}: hides {what} of {path}; name a hole in it")
    (box,) = ndimage.find_objects(hole.astype(np.uint8))
    return hole, box


def fill_pictures(paths, mask, out, fill, window_shape, limits):
    """Fill the hole in pictures of any size; write each to NAME-filled.png.

    mask: see read_mask. out: see name_results. fill: ([window], [mask]), uint8 and
    bool, (1, h, w, c) and (1, h, w, 1) -> the same window, filled there. window_shape:
    height, width and channels that it takes. limits: where a window may have its hole,
    of rows and of columns: (begin, end, least, most). Every pixel that the mask doesn't
    hide stays as it is. Raises InputError, before anything is filled, for what can't
    be read, for a hole that is too large, and for colour where a window is grey.
    """
    pictures, holes = read_pictures(paths, 3), []
    for path, picture in pictures:
        hole, box = read_mask(mask, path, picture.shape)
        (height, width), most = hole[box].shape, [axis[3] for axis in limits]
        if height > most[0] or width > most[1]:
            raise InputError(
                f"{path}: the hole is {width}x{height} pixels (width x height), and "
                f"the network fills up to {most[1]}x{most[0]}; name a smaller one, or "
                "take a smaller copy of the picture, or train with another --image-size"
            )
        if window_shape[2] == 1 and (picture != picture[..., :1]).any():
            raise InputError(
                f"{path}: is in colour, and the network fills grey pictures; make it "
                "grey, or train on pictures in colour"
            )
        holes.append((hole, box))
    targets = name_results([path for path, _ in pictures], "filled", out)
    for target, (_, picture), place in zip(targets, pictures, holes, strict=True):
        picture = picture[..., : window_shape[2]].copy()
        fill_picture(picture, *place, fill, window_shape, limits)
        write_picture(picture, target)
        print(f"{target}: written")


def fill_picture(picture, hole, box, fill, window_shape, limits):
    """Fill the hole of one picture in place; see fill_pictures.

    The network sees a window around the hole. What of it lies outside the picture gets
    the colour of the nearest pixel that is in the picture and not in the hole: nothing
    that the hole hides is looked at.
    """
    window, masked = [], np.ones((1, *window_shape[:2], 1), bool)
    for axis, (part, (begin, end, least, _)) in enumerate(
        zip(box, limits, strict=True)
    ):
        side, size = window_shape[axis], part.stop - part.start
        # in the middle, and in the picture, as far as the hole then is where it may be
        start = (part.start + part.stop - side) // 2
        start = min(max(start, 0), max(picture.shape[axis] - side, 0))
        start = min(max(start, part.stop - end), part.start - begin)
        # a hole that is too small for the network is hidden with more around it
        hidden = max(size, least)
        first = part.start - start - (hidden - size) // 2
        first = min(max(first, begin), end - hidden)
        index = np.arange(side)
        inside = (index >= first) & (index < first + hidden)
        masked &= np.expand_dims(inside, (0, 2, 3) if axis == 0 else (0, 1, 3))
        window.append(np.arange(start, start + side))
    rows, columns = window
    seen = np.zeros(window_shape[:2], bool)
    in_rows = (rows >= 0) & (rows < picture.shape[0])
    in_columns = (columns >= 0) & (columns < picture.shape[1])
    place = np.ix_(rows[in_rows], columns[in_columns])
    at = np.ix_(in_rows, in_columns)
    seen[at] = ~hole[place]
    pixels = np.zeros(window_shape, np.uint8)
    pixels[at] = picture[place]
    nearest = ndimage.distance_transform_edt(
        ~seen, return_distances=False, return_indices=True
    )
    pixels = pixels[tuple(nearest)]
    filled = fill(pixels[np.newaxis], masked)[0]
    picture[box][hole[box]] = filled[
        box[0].start - rows[0] : box[0].stop - rows[0],
        box[1].start - columns[0] : box[1].stop - columns[0],
    ][hole[box]]


def translate_pictures(paths, word, out, translate, *, channels, multiple, change=None):
    """Translate pictures of any size, each by itself; write each to NAME-word.png.

    out: see name_results. translate: (1, h, w, channels) -> the translation, both
    uint8, h and w multiples of a number. change: a picture -> what of it is translated,
    (h, w, c). Raises InputError, before anything is translated, for what can't be read
    or written, and for a picture of more than LARGEST_TRANSLATED pixels.
    """
    pictures, padded = read_pictures(paths, channels), []
    for path, picture in pictures:
        height, width = picture.shape[:2]
        if height * width > LARGEST_TRANSLATED:
            raise InputError(
                f"{path}: has {width} x {height} pixels; make it smaller than "
                f"{LARGEST_TRANSLATED / 1e6:.0f} million"
            )
        changed = picture if change is None else change(picture)
        padded.append(pad_picture(changed, multiple))
    targets = name_results([path for path, _ in pictures], word, out)
    for target, (picture, place) in zip(targets, padded, strict=True):
        write_picture(translate(picture[np.newaxis])[0][place], target)
        print(f"{target}: written")
