"""A drawn digit, as MNIST has them."""

import numpy as np

from gankit.backend import Image
from gankit.data.images import fit_image

MNIST_SHAPE, MNIST_BOX = (28, 28, 1), 20
LEAST_CONTRAST = 16


def fit_digit(image):
    """Return an image of a digit as MNIST has them: uint8 (28, 28, 1), light on dark.

    image: uint8 (h, w, c), c being 1 or 3, dark on light or light on dark. As in MNIST,
    the digit is scaled to fit a box of 20x20 pixels with its proportions kept, and its
    centre of mass is put at the centre. Returns None where there is no digit.
    """
    h, w, _ = image.shape
    # grey, in its own size
    ink = fit_image(image, h, w, 1)[..., 0].astype(np.float32)
    ink -= np.median(np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]]))
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


def prepare(image, shape):
    """Return an image as a classifier takes it, uint8 of this shape, or None.

    image: uint8 (h, w, c), c being 1 or 3. shape: (h, w, c); (28, 28, 1) is taken for
    MNIST's digits. None stands for an image without a digit.
    """
    if tuple(shape) == MNIST_SHAPE:
        return fit_digit(image)
    return fit_image(image, *shape)
