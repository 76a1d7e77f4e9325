"""A data set in memory: what it must be, and how images are made to fit."""

import sys
from typing import NamedTuple

import numpy as np

from gankit.command import InputError, printable
from gankit.data.images import fit_image
from gankit.data.labels import check_class_names, normal_form

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
    border: rows and columns at each side that pad_data put around the images.
    """

    train: list
    test: list | None
    n_classes: int
    class_names: list | None
    border: tuple = (0, 0)

    @property
    def image_shape(self):
        return self.train[0].shape[1:]


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


def check_data(name, x_train, y_train, x_test, y_test, class_names, *, image_size=None):
    """Return the Data of arrays that were read; name: of their file, for errors."""
    if class_names is not None:
        class_names = [normal_form(text) for text in class_names]
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
    fitted = fitting(name, size, image_size)
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
        f"{n_classes - 1}"
        + (", or -1 where there is none" if lowest < 0 else "")
        + _describe_shift(y, n_classes),
    )
    return [x if x.ndim == 4 else x[..., np.newaxis], y.astype(np.int64)]


def _describe_shift(y, n_classes):
    """Return what to do with labels that fit, but don't start from 0; '' for others."""
    given = y[y >= 0]
    first, last = (int(given.min()), int(given.max())) if len(given) else (0, 0)
    if first == 0 or last - first >= n_classes:
        return ""
    return f"; if {first} is the first class, subtract {first} from each"


def fitting(name, size, image_size):
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


def pad_data(data, multiple):
    """Return a Data whose images have sides that are multiples of a number.

    multiple: itself a multiple of 8, since the sides are of 4. The pixels at the border
    are repeated outwards, as many times on opposite sides.
    """
    border = tuple(-side % multiple // 2 for side in data.image_shape[:2])
    if border == (0, 0):
        return data
    widths = ((0, 0), *((n, n) for n in border), (0, 0))

    def pad(part):
        return part and [np.pad(part[0], widths, mode="edge"), part[1]]

    return data._replace(train=pad(data.train), test=pad(data.test), border=border)


def crop(images, border):
    """Return images (..., h, w, c) without `border` rows and columns at each side."""
    (rows, columns), (height, width) = border, images.shape[-3:-1]
    return images[..., rows : height - rows, columns : width - columns, :]


def crop_data(data):
    """Return a Data as it was before pad_data."""

    def cropped(part):
        return part and [crop(part[0], data.border), part[1]]

    return data._replace(
        train=cropped(data.train), test=cropped(data.test), border=(0, 0)
    )


def allocate_images(n, height, width, channels):
    """Return a uint8 array for n images, to be filled.

    Raises InputError where it would have more than LARGEST_ARRAY bytes.
    """
    if n * height * width * channels > LARGEST_ARRAY:
        raise InputError(
            f"{n} images of {height}x{width}x{channels}: more than "
            f"{LARGEST_ARRAY >> 30} GiB; give a smaller --image-size"
        )
    return np.empty((n, height, width, channels), np.uint8)


def _resize(x, height, width):
    fitted = allocate_images(len(x), height, width, x.shape[3])
    for image, place in zip(x, fitted, strict=True):
        place[...] = fit_image(image, *place.shape)
    return fitted


def warn_of_pixels(name, x):
    """Say on stderr, in one line, where pixels x that should be 0 to 255 are 0 or 1."""
    if x.max() == 1:
        print(
            f"{printable(name)}: all pixels are 0 or 1 of 255, which is nearly black; "
            "if 1 stands for white, multiply them by 255",
            file=sys.stderr,
        )
