"""A drawn digit, as MNIST has them, and which images are taken for one."""

import json
from pathlib import Path

import numpy as np

from gankit.backend import Image
from gankit.command import InputError
from gankit.data.images import fit_image
from gankit.models.classify import count_classes

MNIST_SHAPE, MNIST_BOX = (28, 28, 1), 20
MNIST_CLASSES = 10
LEAST_CONTRAST = 16
# of the pixels of a drawing: the share that has the ground's grey, and of those at the
# border; and how far a grey may be from it, paper being none too even
LEAST_GROUND, LEAST_PLAIN_BORDER, GROUND_SPREAD = 0.6, 0.95, 24
# an image is made smaller than this before the digit is looked for
LARGEST_DRAWING = 1024


def knows_digits(path, c_model, class_names):
    """Tell whether a classifier was trained on MNIST's digits.

    path: its file; class_names: those in the file, None without. It must take images
    as MNIST's and tell ten classes without names apart. Then settings.json beside it
    tells of the data; where there is none, it is assumed.
    """
    shape = tuple(c_model.input_shape[1:])
    if shape != MNIST_SHAPE or count_classes(c_model) != MNIST_CLASSES or class_names:
        return False
    try:
        text = Path(path).with_name("settings.json").read_text(encoding="utf-8")
        return json.loads(text)["options"]["data"] is None
    except (OSError, ValueError, LookupError, TypeError):
        return True


def choose_digit(asked, path, c_model, class_names):
    """Return what predict_images is to do: 'auto', 'yes' or 'no'.

    asked: one of these; 'auto' holds for classifiers that knows_digits of only. Raises
    InputError where 'yes' is asked of a classifier that takes other images.
    """
    shape = tuple(c_model.input_shape[1:])
    if asked == "yes" and shape != MNIST_SHAPE:
        raise InputError(
            f"--digit yes: makes images of 28x28x1, and {path} takes "
            f"{'x'.join(map(str, shape))}; leave it out"
        )
    if asked == "auto" and not knows_digits(path, c_model, class_names):
        return "no"
    return asked


def is_drawing(image):
    """Tell whether an image may show a digit that was drawn on a plain ground.

    image: uint8 (h, w, c), c being 1 or 3. It is larger than MNIST's, has a border of
    one grey, and this grey on most of it, which photographs rarely have.
    """
    if max(image.shape[:2]) <= max(MNIST_SHAPE):
        return False
    grey = _grey(image)
    border = _border(grey)
    ground = np.median(border)
    plain = np.mean(np.abs(border - ground) <= GROUND_SPREAD)
    share = np.mean(np.abs(grey - ground) <= GROUND_SPREAD)
    return plain >= LEAST_PLAIN_BORDER and LEAST_GROUND <= share < 1


def fit_digit(image):
    """Return an image of a digit as MNIST has them: uint8 (28, 28, 1), light on dark.

    image: uint8 (h, w, c), c being 1 or 3, dark on light or light on dark. As in MNIST,
    the digit is scaled to fit a box of 20x20 pixels with its proportions kept, and its
    centre of mass is put at the centre. Returns None where there is no digit.
    """
    ink = _grey(image)
    ink -= np.median(_border(ink))
    # what differs most from the background is the digit
    if -ink.min() > ink.max():
        ink = -ink
    if ink.max() < LEAST_CONTRAST:
        return None
    ink = np.clip(ink / ink.max(), 0, 1)
    rows, columns = (np.flatnonzero((ink > 0.2).any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = MNIST_BOX / max(ink.shape)
    new_h, new_w = (max(1, round(scale * size)) for size in ink.shape)
    picture = Image.fromarray(np.uint8(255 * ink)).resize(
        (new_w, new_h), Image.Resampling.BILINEAR
    )
    ink = np.asarray(picture)
    mass = ink.sum(dtype=np.float64)
    centre = [
        (ink.sum(axis=1 - axis) @ np.arange(ink.shape[axis])) / max(mass, 1)
        for axis in (0, 1)
    ]
    height, width, _ = MNIST_SHAPE
    # the digit stays inside, however its mass lies
    top = int(np.clip(round(height / 2 - centre[0]), 0, height - new_h))
    left = int(np.clip(round(width / 2 - centre[1]), 0, width - new_w))
    digit = np.zeros(MNIST_SHAPE, np.uint8)
    digit[top : top + new_h, left : left + new_w, 0] = ink
    return digit


def _grey(image):
    """Return an image as float32 (h, w) in [0, 255], of no more than LARGEST_DRAWING.

    In larger ones, squares of pixels become one.
    """
    h, w, _ = image.shape
    grey = Image.fromarray(fit_image(image, h, w, 1)[..., 0])
    factor = -(-max(h, w) // LARGEST_DRAWING)
    if factor > 1:
        grey = grey.reduce((min(factor, w), min(factor, h)))
    return np.asarray(grey, np.float32)


def _border(image):
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
