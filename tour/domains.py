"""Two domains of pictures without pairs, for networks that translate between them.

Pictures are uint8 (n, h, w, c) in [0, 255], c 1 (grey) or 3 (RGB). Domains are a
gankit.data.arrays.Data whose train and test are lists of three, [X, y, Y]: the pictures
of one domain, their labels, and those of the other. In train, Y holds other pictures
than X, and may have more or fewer; in test, Y[i] is what X[i] should become.
"""

from dataclasses import dataclass

import numpy as np
from common import TourSettings
from pairs import outlines, read_folder

from gankit.command import InputError
from gankit.data.arrays import Data, pad_data
from gankit.data.load import load_arrays
from gankit.training.batches import check_batch
from gankit.training.settings import option

SPLIT_SEED = 0


@dataclass(kw_only=True)
class DomainSettings(TourSettings):
    """What a script that learns from two domains can be told."""

    x: str | None = option(
        None,
        "folder of pictures of one domain; the other is --y",
        metavar="DIR",
        path=True,
        resume="free",
    )
    y: str | None = option(
        None,
        "folder of pictures of the other domain",
        metavar="DIR",
        path=True,
        resume="free",
    )
    images: int = option(
        200, "images a domain, where it is made of --data or of MNIST", least=1
    )
    colour: bool = option(False, "give each outline a random hue")

    def __post_init__(self):
        super().__post_init__()
        given = [name for name in ("x", "y") if getattr(self, name) is not None]
        if len(given) == 1:
            other = "y" if given == ["x"] else "x"
            raise InputError(
                f"--{given[0]} {getattr(self, given[0])}: is one domain; name the "
                f"other with --{other}"
            )
        for name in ("data", "images", "colour"):
            if given and getattr(self, name) != getattr(DomainSettings, name):
                raise InputError(
                    f"--{name}: does not go with --x and --y; leave it out"
                )

    @property
    def bundled(self):
        return super().bundled and self.x is None and not self.colour


def paint(X, rng):
    """Return grey images, uint8 (n, h, w, 1), each in a random hue: (n, h, w, 3).

    Where an image is white, the hue is fully saturated: one channel has 255, another 0.
    """
    hues = 6 * rng.random((len(X), 1, 1, 1))
    colours = (np.abs((hues + (0, 4, 2)) % 6 - 3) - 1).clip(0, 1)
    return np.rint(X * colours).astype(np.uint8)


def load_domains(settings, multiple):
    """Return the domains that the settings name, checked for their batch: a Data.

    settings: DomainSettings. Without x and y the domains are images of one half of the
    training images, and outlines of images of the other; the halves are drawn by a
    fixed seed, so that runs of all seeds have the same ones. Sides are padded to a
    multiple of a number. There are test images where --data has some.
    """
    read = _split_images if settings.x is None else _read_domains
    both = read(settings)
    check_batch(settings.batch, min(len(data.train[0]) for data in both), 1, least=1)
    first, second = (pad_data(data, multiple) for data in both)
    return first._replace(
        train=[*first.train, second.train[0]],
        test=first.test and [*first.test, second.test[0]],
    )


def _split_images(settings):
    """Return two Data, of images and of outlines of other ones."""
    data = load_arrays(settings.data, settings.image_size)
    X, y = data.train
    if len(X) < 2:
        raise InputError(f"{settings.data}: has one image; give two or more")
    if settings.colour and X.shape[3] == 3:
        raise InputError("--colour: is for grey images; leave it out for these")
    rng = np.random.default_rng(SPLIT_SEED)
    order = rng.permutation(len(X))
    n = min(settings.images, len(X) // 2)
    # in the order of the file, whose classes may follow one another
    chosen, others = np.sort(order[:n]), np.sort(order[len(X) // 2 :][:n])
    drawn = [outlines(X[others])]
    drawn += [] if data.test is None else [outlines(data.test[0])]
    parts = [[X[chosen], y[chosen]], data.test]
    if settings.colour:
        drawn = [paint(images, rng) for images in drawn]
        parts = [part and [np.repeat(part[0], 3, axis=3), part[1]] for part in parts]
    first = data._replace(train=parts[0], test=parts[1])
    second = [[images, y[:0]] for images in drawn] + [None]
    return first, first._replace(train=second[0], test=second[1])


def _read_domains(settings):
    """Return two Data, of the pictures in two folders."""
    paths = settings.x, settings.y
    both = [read_folder(path, settings.image_size) for path in paths]
    sizes = ["{}x{}".format(*X.shape[1:3]) for X in both]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{paths[1]}: its pictures are {sizes[1]}, and those in {paths[0]} "
            f"{sizes[0]} (height x width); give --image-size to resize all"
        )
    if both[0].shape[3] != both[1].shape[3]:
        both = [np.broadcast_to(X, (*X.shape[:3], 3)) for X in both]
    return [Data([X, np.full(len(X), -1)], None, 1, None) for X in both]
