"""Changes of images that leave what they show what it is: digits, or other things."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gankit.backend import layers, tf

# The settings below were chosen on 5,000 of the training images, held out, with label
# draws (seeds 101 and up) that no reported run uses. That there are lines, a balance
# and a LARGEST pixel is owed to failures of earlier states in the reported draws.

# largest changes of an image, each drawn uniformly: rotation in radians, scale and
# shear as fractions, perspective as a fraction a pixel, shift in pixels, thickness of
# the strokes as a fraction of the way to a 3x3 dilation or erosion
ROTATION, SCALE, SHEAR, PERSPECTIVE, SHIFT = 0.21, 0.18, 0.22, 0.004, 2.4
THICKNESS = 0.5
# share of the images with a line drawn or erased, and half its largest length, pixels
LINES, HALF_LENGTH = 0.25, 6.0


def draw_changes(n, seed, strength=1.0, lines=LINES):
    """Draw n changes of an image for augment.

    seed: int32 (2,). strength: a fraction of the largest changes. lines: the share of
    images that get a line.
    Returns maps, float32 (n, 8), thickness, (n,), and lines, (n, 6).
    """
    largest = np.array(
        [ROTATION, SCALE, SCALE, SHEAR, SHIFT, SHIFT]
        + [PERSPECTIVE, PERSPECTIVE, THICKNESS],
        np.float32,
    )
    drawn = tf.random.stateless_uniform((15, n), seed, -1.0, 1.0)
    changes = strength * largest[:, None] * drawn[:9]
    rotation, scale_x, scale_y, shear, dx, dy, px, py, thickness = tf.unstack(changes)
    cosine, sine = tf.cos(rotation), tf.sin(rotation)
    xx, xy = cosine * (1 + scale_x), shear - sine * (1 + scale_y)
    yx, yy = sine * (1 + scale_x), cosine * (1 + scale_y)
    maps = tf.stack([xx, xy, dx, yx, yy, dy, px, py], axis=1)
    present, ink, across, down, direction, length = tf.unstack(drawn[9:])
    ink = tf.where(abs(present) < lines, tf.sign(ink), 0.0)
    angle, half = np.pi * direction, 1 + (HALF_LENGTH - 1) * abs(length)
    lines = [ink, 2 / 3 * across, 2 / 3 * down, tf.cos(angle), tf.sin(angle), half]
    return maps, thickness, tf.stack(lines, axis=1)


def augment(images, maps, thickness, lines):
    """Return the images with other strokes and another geometry.

    images: float32 (n, h, w, c) in [-1, 1]. maps: (n, 8), rows of (xx, xy, dx, yx, yy,
    dy, px, py): with (u, v) a pixel's place from the image's centre, its value is that
    at (xx u + xy v + dx, yx u + yy v + dy) / (1 + px u + py v), bilinear; what comes
    from outside is -1, the background. thickness: (n,) in [-1, 1], from a 3x3 erosion
    to a 3x3 dilation. lines: (n, 6), rows of (ink, x, y, cosine, sine, half length): a
    line of 3 pixels' width is drawn for ink 1, erased for -1, neither for 0, around
    (x, y), a place from -1 to 1, in that direction; the half length is in pixels.
    """
    amount = thickness[:, None, None, None]
    dilated = tf.nn.max_pool2d(images, 3, 1, "SAME")
    eroded = -tf.nn.max_pool2d(-images, 3, 1, "SAME")
    images = tf.where(
        amount > 0,
        images + amount * (dilated - images),
        images - amount * (eroded - images),
    )
    x, y, u, v = places_in(images)
    ink, across, down, cosine, sine, half = tf.unstack(lines[:, :, None, None], axis=1)
    from_x, from_y = u - x * across, v - y * down
    along = tf.maximum(abs(from_x * cosine + from_y * sine) - half, 0)
    distance = tf.sqrt((from_y * cosine - from_x * sine) ** 2 + along**2)
    covered = (abs(ink) * tf.clip_by_value(2 - distance, 0, 1))[..., None]
    images += covered * (ink[..., None] - images)
    return warp(images, maps)


def places_in(images):
    """Return the centre of images, (n, h, w, c), x and y, and pixels' places from it.

    The places are float32, u (w,) across and v (h, 1) down.
    """
    _, height, width, _ = images.shape
    x, y = (width - 1) / 2, (height - 1) / 2
    u, v = np.arange(width) - x, np.arange(height)[:, np.newaxis] - y
    return x, y, u.astype(np.float32), v.astype(np.float32)


def warp(images, maps, mode="CONSTANT"):
    """Return images with another geometry; maps: as augment has them.

    mode: what lies outside, -1, the background, or with SYMMETRIC the pixels of the
    border.
    """
    n, height, width, channels = images.shape
    x, y, u, v = places_in(images)
    xx, xy, dx, yx, yy, dy, px, py = tf.unstack(maps[:, :, None, None], axis=1)
    depth = 1 + px * u + py * v
    # places in images with a border, on which all that is outside falls
    border = [[0, 0], [1, 2], [1, 2], [0, 0]]
    x = tf.clip_by_value((xx * u + xy * v + dx) / depth + x + 1, 0, width + 1)
    y = tf.clip_by_value((yx * u + yy * v + dy) / depth + y + 1, 0, height + 1)
    left, top = tf.floor(x), tf.floor(y)
    pixels = tf.pad(images, border, mode, constant_values=-1.0)
    pixels = tf.reshape(pixels, (n or -1, (height + 3) * (width + 3), channels))
    corner = tf.cast(top, tf.int32) * (width + 3) + tf.cast(left, tf.int32)

    def row(below):
        at_left, at_right = (
            tf.gather(pixels, corner + below * (width + 3) + right, batch_dims=1)
            for right in (0, 1)
        )
        return at_left + (x - left)[..., None] * (at_right - at_left)

    above = row(0)
    return above + (y - top)[..., None] * (row(1) - above)


# ---------------------------------------------------------------- of any images

# largest changes, drawn uniformly: rotation in radians, scale and shear as fractions,
# shift as a fraction of the side; brightness, contrast and saturation as fractions, hue
# in radians
TURN, SIZE, SLANT, MOVE = 0.15, 0.15, 0.15, 0.1
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.2, 0.4, 0.4, 0.3
# share of the images of which a part is erased, and its smallest and largest side as
# fractions of the image's
ERASED, SMALLEST, LARGEST = 0.5, 0.2, 0.5
# strength at the end of a training, and between which fractions of its steps it falls
LAST, FALL = 0.5, (0.4, 0.8)
# luma and two differences of colour, and back (ITU-R BT.601)
TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32
)


def draw_general(n, seed, strength=1.0, erased=ERASED, *, side=28, mirrored=True):
    """Draw n changes of an image for change_general.

    seed: int32 (2,). strength: a fraction of the largest changes. erased: the share of
    images of which a part is erased. side: the images' shorter one, pixels. mirrored:
    whether every other image is, at any strength but 0.
    Returns maps, float32 (n, 8), colours, (n, 4), and parts, (n, 6).
    """
    drawn = tf.random.stateless_uniform((17, n), seed, -1.0, 1.0)
    largest = [TURN, SIZE, SIZE, SLANT, MOVE * side, MOVE * side]
    largest += [BRIGHTNESS, CONTRAST, SATURATION, HUE]
    changes = strength * np.array(largest, np.float32)[:, None] * drawn[:10]
    turn, scale_x, scale_y, slant, dx, dy = tf.unstack(changes[:6])
    cosine, sine, zero = tf.cos(turn), tf.sin(turn), tf.zeros_like(turn)
    mirror = tf.ones_like(turn)
    if mirrored:
        mirror = tf.where((drawn[10] < 0) & (tf.constant(0.0) < strength), -1.0, 1.0)
    xx, xy = cosine * (1 + scale_x), slant - sine * (1 + scale_y)
    yx, yy = sine * (1 + scale_x), cosine * (1 + scale_y)
    # the first row says from where across a pixel is taken
    across = [mirror * value for value in (xx, xy, dx)]
    maps = tf.stack([*across, yx, yy, dy, zero, zero], axis=1)
    present, x, y, width, height, level = tf.unstack(drawn[11:])
    present = tf.cast(abs(present) < erased, tf.float32)
    width, height = (
        SMALLEST + (LARGEST - SMALLEST) * abs(size) for size in (width, height)
    )
    parts = tf.stack([present, x, y, width, height, level], axis=1)
    return maps, tf.transpose(changes[6:]), parts


def change_general(images, maps, colours, parts):
    """Return the images with another geometry, other colours, and a part erased.

    images: float32 (n, h, w, c) in [-1, 1]. maps: as augment has them; what comes from
    outside is the pixel at the border. colours: (n, 4), rows of (brightness, contrast,
    saturation, hue): values are multiplied by 1 + brightness, from black on, and their
    distance from the image's mean by 1 + contrast; of three channels the colours are
    multiplied by 1 + saturation and turned by the hue, in radians. parts: (n, 6), rows
    of (present, x, y, width, height, level): where present is 1, a rectangle around
    (x, y), a place from -1 to 1, gets that level; its sides are fractions of the
    image's.
    """
    images = warp(images, maps, "SYMMETRIC")
    brightness, contrast, saturation, hue = tf.unstack(
        colours[:, :, None, None, None], axis=1
    )
    images = (images + 1) * (1 + brightness) - 1
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = mean + (1 + contrast) * (images - mean)
    if images.shape[-1] == 3:
        luma, i, q = tf.split(tf.linalg.matmul(images, TO_YIQ, transpose_b=True), 3, -1)
        cosine, sine = ((1 + saturation) * part(hue) for part in (tf.cos, tf.sin))
        colour = [luma, cosine * i - sine * q, sine * i + cosine * q]
        back = np.linalg.inv(TO_YIQ)
        images = tf.linalg.matmul(tf.concat(colour, -1), back, transpose_b=True)
    images = tf.clip_by_value(images, -1, 1)
    _, height, width, _ = images.shape
    u = np.linspace(-1, 1, width, dtype=np.float32)
    v = np.linspace(-1, 1, height, dtype=np.float32)[:, np.newaxis]
    present, x, y, across, down, level = tf.unstack(parts[:, :, None, None], axis=1)
    inside = (abs(u - x) < across) & (abs(v - y) < down)
    covered = (present * tf.cast(inside, tf.float32))[..., None]
    return images + covered * (level[..., None] - images)


# ---------------------------------------------------------------- which


class Changes(NamedTuple):
    """A kind of changes.

    name: as a run keeps it. draw: (n, seed, strength, marked) -> what is drawn for n
    images, a tuple of tensors; apply: (images, *drawn) -> the images changed; shapes:
    of what is drawn for one image. marked: the share of the images that get a line, or
    lose a part. last: the strength at the end of a training, a fraction of that at
    first.
    """

    name: str
    draw: Callable
    apply: Callable
    shapes: tuple
    marked: float
    last: float = 1.0

    def strength_at(self, done, without=""):
        """Return the strength, and the share of marked images, in a training.

        done: the fraction of its steps that are made. Between the fractions FALL of
        the steps the strength falls to the last one, and the share to 0; neither does
        where the last strength is 1. without: 'lines' for no marked image,
        'augmentation' for no change at all.
        """
        if "augmentation" in without:
            return 0.0, 0.0
        marked = 0.0 if "lines" in without else self.marked
        if self.last == 1:
            return 1.0, marked
        first, end = FALL
        fallen = tf.clip_by_value((done - first) / (end - first), 0, 1)
        return 1 - (1 - self.last) * fallen, marked * (1 - fallen)

    def layer(self, shape):
        """Return apply as a layer: [images, *drawn] -> images of shape.

        It computes in float32 in every precision: places in an image need the digits.
        """
        return layers.Lambda(
            lambda inputs: self.apply(*inputs), output_shape=shape[1:], dtype="float32"
        )


DIGITS = Changes("digits", draw_changes, augment, ((8,), (), (6,)), LINES)
NONE = Changes("none", lambda *others: (), lambda images: images, (), 0.0)


def define_general(image_shape, mirrored):
    """Return the Changes of images (h, w, c) of any things."""
    options = {"side": min(image_shape[:2]), "mirrored": mirrored}
    draw = functools.partial(draw_general, **options)
    name = "general, mirrored" if mirrored else "general, not mirrored"
    return Changes(name, draw, change_general, ((8,), (4,), (6,)), ERASED, LAST)
