"""PNG and JPEG files as arrays: found, read and fitted to a network's input.

Whoever the files come from: what is decoded is bounded beforehand, and whatever is
wrong with a file ends as an InputError.
"""

import glob
import os
import stat
import warnings
from pathlib import Path

import numpy as np

from gankit.backend import Image, ImageOps
from gankit.command import InputError
from gankit.data.listing import is_left_out

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jif", ".jfif")
# more than today's cameras make by default; 200 MB as they lie in memory
LARGEST_IMAGE = 50_000_000
LARGEST_FILE = 200_000_000


def find_images(paths):
    """Return the images that the given paths stand for, a list of Path.

    paths: files, which are kept whatever their name; folders, of which all files
    with one of IMAGE_SUFFIXES are taken (in any case of letters, folders in it too,
    sorted, but for what is_left_out names; links to folders are not followed); and
    patterns with *, ? and [] for shells that leave them alone. A path that is none of
    these is kept, as if it were a file: read_image will say what is wrong with it.
    Raises InputError for a folder that can't be listed.
    """
    found = []
    for path in paths:
        matches = [path]
        if glob.has_magic(os.fspath(path)) and not os.path.lexists(path):
            matches = sorted(glob.glob(os.fspath(path))) or [path]
        for match in matches:
            found += _images_below(match) if os.path.isdir(match) else [Path(match)]
    return found


def _images_below(folder):
    def refuse(error):
        raise InputError(
            f"{error.filename}: can't be listed ({error.strerror}); change its "
            "permissions or leave it out"
        )

    found = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not is_left_out(name))
        found += [
            Path(parent, name)
            for name in sorted(files)
            if name.lower().endswith(IMAGE_SUFFIXES) and not is_left_out(name)
        ]
    return found


def read_image(path):
    """Read a PNG or JPEG file; return uint8 (h, w, c), c being 1 (grey) or 3 (RGB).

    An image without colours is grey even where it is stored as RGB or with a palette.
    What the file's EXIF data say of its rotation is applied; transparent parts are
    laid over white; 16 bits a value are scaled to 8; CMYK and palettes become RGB; of
    an animation the first image is taken. The content counts, not the name.
    Raises InputError for what is not such a file, is broken or cut short, or has more
    than LARGEST_IMAGE pixels, which is seen before they are decoded.
    Not for several threads at once: Python's warnings are off meanwhile.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a FIFO would block when opened
            raise InputError(f"{path}: not a file; give PNG or JPEG files")
        if status.st_size > LARGEST_FILE:
            raise InputError(
                f"{path}: has {status.st_size >> 20} MiB; make it smaller than "
                f"{LARGEST_FILE >> 20} MiB"
            )
        with warnings.catch_warnings(action="ignore"), open(path, "rb") as file:
            return _decode(path, file)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name") from None
    except MemoryError:
        raise InputError(f"{path}: too large for the memory; make it smaller") from None
    except Exception as error:  # a broken file can fail anywhere in Pillow
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            reason, remedy = error.strerror, "check its permissions"
        else:
            remedy = "save it anew as PNG or JPEG"
        raise InputError(f"{path}: can't be read ({reason}); {remedy}") from error


def _decode(path, file):
    try:
        image = Image.open(file, formats=("PNG", "JPEG"))
    except Image.UnidentifiedImageError:
        raise InputError(
            f"{path}: not a PNG or JPEG image; save it as one of these"
        ) from None
    with image:
        if image.width * image.height > LARGEST_IMAGE:
            raise InputError(
                f"{path}: has {image.width} x {image.height} pixels; make it smaller "
                f"than {LARGEST_IMAGE // 1_000_000} million"
            )
        image.load()
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:  # EXIF data that are broken say nothing of the rotation
            image = image.copy()
    if image.mode.startswith("I"):
        return _scale_16_bits(image)
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        image = image.convert(f"{mode}A")
        opaque = Image.new(mode, image.size, "white")
        opaque.paste(image.convert(mode), mask=image.getchannel("A"))
        image = opaque
    pixels = np.asarray(image.convert(mode))
    if mode == "L":
        return pixels[..., np.newaxis]
    red = pixels[..., :1]
    return red.copy() if (pixels[..., 1:] == red).all() else pixels


def _scale_16_bits(image):
    values = np.asarray(image).clip(0, 65535).astype(np.uint32)
    pixels = ((values + 128) // 257).astype(np.uint8)
    # PNG can name one level that stands for transparency
    pixels[values == image.info.get("transparency")] = 255
    return pixels[..., np.newaxis]


def fit_image(image, height, width, channels):
    """Return an image as a network takes it, uint8 (height, width, channels).

    image: uint8 (h, w, c), c being 1 or 3, as `channels` is. It is resized with
    antialiasing until it just fits, with its proportions kept, and what is left on
    two sides is filled with the median colour of its border: a stretched digit can
    be another one. An image of the right size stays as it is. Colour becomes grey by
    ITU-R 601's weights.
    """
    h, w, c = image.shape
    if c != channels and channels == 1:
        image = np.asarray(Image.fromarray(image).convert("L"))[..., np.newaxis]
    elif c != channels:
        image = np.repeat(image, channels, axis=-1)
    if (h, w) == (height, width):
        return image
    scale = min(height / h, width / w)
    # at least a pixel, however long and thin the image is
    new_h, new_w = max(1, round(scale * h)), max(1, round(scale * w))
    picture = Image.fromarray(image if channels == 3 else image[..., 0])
    picture = picture.resize((new_w, new_h), Image.Resampling.BILINEAR)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    fitted = np.empty((height, width, channels), np.uint8)
    fitted[:] = np.median(border, axis=0)
    top, left = (height - new_h) // 2, (width - new_w) // 2
    fitted[top : top + new_h, left : left + new_w] = np.asarray(picture).reshape(
        new_h, new_w, channels
    )
    return fitted


def scale_images(x):
    """uint8 in [0, 255] -> float32 in [-1, 1]; (n, h, w) becomes (n, h, w, 1)."""
    if x.ndim == 3:
        x = x[..., np.newaxis]
    scaled = x.astype(np.float32)
    scaled -= 127.5
    scaled /= 127.5
    return scaled
