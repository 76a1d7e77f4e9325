"""Pairs of pictures, input and output, and folders of pictures without classes.

Pictures are uint8 (n, h, w, c) in [0, 255], c 1 (grey) or 3 (RGB). Pairs are a
gankit.data.arrays.Data whose train and test are lists of three, outputs, labels and
inputs: [X, y, inputs].
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import TourSettings, load_images
from metrics import LUMINANCE

from gankit.backend import LazyModule
from gankit.command import InputError
from gankit.data.arrays import Data, check_image_size, pad_data, warn_of_pixels
from gankit.data.image_folder import image_files, read_images
from gankit.data.images import read_image
from gankit.data.labels import normal_form
from gankit.data.listing import list_folder
from gankit.models.classify import batch_size
from gankit.training.batches import check_batch
from gankit.training.settings import option, option_name

filters = LazyModule("skimage.filters")
ndimage = LazyModule("scipy.ndimage")

# sub-folders of a folder of pictures: those to train on; of the others the first there
TRAIN, TESTS = "train", ("test", "val")
# pairs that are kept for tests where no sub-folder has some: a tenth, at the most
MOST_TESTS = 1000
SPLIT_SEED = 0


@dataclass(kw_only=True)
class PairSettings(TourSettings):
    """What a script that learns from pairs of pictures can be told."""

    pairs: list[str] | None = option(
        None,
        "two folders of pictures, of which those with equal names are pairs (default: "
        "images and their edges)",
        metavar="FOLDER",
        path=True,
        resume="free",
    )
    side_by_side: str | None = option(
        None,
        "folder of pictures which hold a pair each, left and right",
        metavar="FOLDER",
        path=True,
        resume="free",
    )
    inputs: str = option(
        "edges",
        "what the inputs are without pairs: edges, or outlines as tour/cyclegan.py has "
        "them",
        choices=("edges", "outlines"),
    )
    direction: str = option(
        "AtoB",
        "AtoB: the first of --pairs, or the left half, is the input; BtoA: the other",
        choices=("AtoB", "BtoA"),
    )

    def __post_init__(self):
        super().__post_init__()
        named = ("data", "pairs", "side_by_side")
        given = [name for name in named if getattr(self, name) is not None]
        if len(given) > 1:
            names = " and ".join(map(option_name, given))
            raise InputError(f"{names}: give one of them")
        if self.pairs is not None and len(self.pairs) != 2:
            raise InputError(f"--pairs {' '.join(self.pairs)}: takes two folders")
        self.check_use("direction", self.paired, "is for --pairs or --side-by-side")
        self.check_use("inputs", not self.paired, "is for images without pairs")

    def check_use(self, name, used, problem):
        """Raise InputError where an option is given that isn't used."""
        if not used and getattr(self, name) != getattr(type(self), name):
            raise InputError(f"{option_name(name)}: {problem}; leave it out")

    @property
    def paired(self):
        """Whether the inputs are pictures, and no edges of the outputs."""
        return self.pairs is not None or self.side_by_side is not None

    def count_inputs(self, channels):
        """Return the inputs' channels, of outputs with so many."""
        return channels if self.paired or self.inputs == "outlines" else 1

    @property
    def bundled(self):
        return super().bundled and not self.paired


def edges(X):
    """Return the edges of images, uint8 (n, h, w, 1): Sobel's magnitude, light on dark.

    X: uint8 (n, h, w, c); of colour images, the luminance's edges. 255 is a step from
    black to white in both directions, 180 in one. By scikit-image, each image mirrored
    at its border.
    """
    n, height, width, channels = X.shape
    found = np.empty((n, height, width, 1), np.uint8)
    n_batch = batch_size(height, width)
    for first in range(0, n, n_batch):
        part = X[first : first + n_batch] / 255
        part = part[..., 0] if channels == 1 else part @ np.array(LUMINANCE)
        # one below the other, with a mirrored row between: one call for all
        tall = np.pad(part, ((0, 0), (1, 1), (0, 0)), mode="symmetric")
        sobel = filters.sobel(tall.reshape(-1, width)).reshape(tall.shape)
        levels = np.rint(255 * sobel[:, 1:-1].clip(0, 1))
        found[first : first + n_batch, ..., 0] = levels
    return found


def outlines(X):
    """Return the outlines of images, uint8 like X: (n, h, w, c).

    What a light shape on a dark ground gains where it grows by a pixel to all sides;
    each channel by itself.
    """
    return ndimage.grey_dilation(X, size=(1, 3, 3, 1)) - X


# what --inputs names
INPUTS = {"edges": edges, "outlines": outlines}


def read_folder(path, image_size=None):
    """Return the pictures in a folder, uint8 (n, h, w, c), sorted by their names.

    c is 3 where any has colours. image_size: the side that they are fitted to; None
    leaves them, but for sides that are no multiples of 4, see arrays.fitting. A
    sub-folder `test` or `val` is passed over; read it by itself. Raises InputError for
    a folder that holds none, anything else, or pictures of several sizes where
    image_size is None.
    """
    check_image_size(path, image_size)
    paths = _pictures_of(Path(path), TESTS)
    X = read_images(paths, path, image_size)
    warn_of_pixels(str(path), X)
    return X


def load_pairs(settings, multiple):
    """Return the pairs that the settings name, checked for their batch: a Data.

    settings: PairSettings; where they name no pairs, the inputs are made of the images
    of --data, as --inputs says. Sides are padded to a multiple of a number. Test pairs
    are those of the sub-folder `test`, or `val`; without one a tenth of the pairs, but
    1,000 at the most and none of fewer than 20, drawn by a fixed seed, so that runs of
    all seeds keep the same ones.
    """
    if not settings.paired:
        data = load_images(settings)
        outputs, inputs = data, _map_images(INPUTS[settings.inputs], data)
    else:
        outputs, inputs = _read_pairs(settings)
        check_batch(settings.batch, len(outputs.train[0]), 1)
    outputs, inputs = pad_data(outputs, multiple), pad_data(inputs, multiple)
    return outputs._replace(
        train=[*outputs.train, inputs.train[0]],
        test=outputs.test and [*outputs.test, inputs.test[0]],
    )


def _map_images(change, data):
    """Return a Data with other images, change(X)."""

    def changed(part):
        return part and [change(part[0]), part[1]]

    return data._replace(train=changed(data.train), test=changed(data.test))


def _read_pairs(settings):
    """Return two Data, outputs and inputs, of pairs that lie in folders."""
    if settings.pairs is not None:
        name = settings.pairs[0]
        (train, test), read_parts = _pair_folders(*map(Path, settings.pairs))
    else:
        name = settings.side_by_side
        (train, test), read_parts = _split(Path(name)), _read_halves
    check_image_size(name, settings.image_size)
    both = read_images(train + test, name, settings.image_size, read_parts)
    if settings.direction == "BtoA":
        both.reverse()
    for X in both:
        warn_of_pixels(name, X)
    n, n_train = len(both[0]), len(train)
    chosen = np.arange(n)
    n_tests = min(MOST_TESTS, n // 10)
    if not test and n_tests > 1:
        n_train = n - n_tests
        np.random.default_rng(SPLIT_SEED).shuffle(chosen)
        print(
            f"{n_tests} of the {n} pairs, drawn with seed {SPLIT_SEED}, are kept for "
            "tests; a sub-folder `test` would name them"
        )
    parts = np.sort(chosen[:n_train]), np.sort(chosen[n_train:])

    def data_of(X):
        train, test = ([X[part], np.full(len(part), -1)] for part in parts)
        return Data(train, test if len(parts[1]) else None, 1, None)

    inputs, outputs = map(data_of, both)
    return outputs, inputs


def _pictures_of(folder, parts, root=None):
    """Return the paths of the pictures in a folder, but for sub-folders `parts`."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the name")
    paths = image_files(folder, root or folder, parts)
    if not paths:
        raise InputError(f"{folder}: holds no pictures; put some there")
    return paths


def _split(folder):
    """Return the paths of a folder's pictures for training, and those for tests.

    Those for training lie in it, or in its sub-folder `train`; those for tests, maybe
    none, in its sub-folder `test`, else `val`.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the name")
    parts = {
        entry.name.casefold(): Path(entry.path)
        for entry in list_folder(folder)
        if entry.is_dir(follow_symlinks=False)
    }
    if TRAIN in parts:
        beside = image_files(folder, folder, (TRAIN, *TESTS))
        if beside:
            raise InputError(
                f"{beside[0]}: lies beside the sub-folder {TRAIN}; move it there, or "
                f"out of {folder}"
            )
        train = _pictures_of(parts[TRAIN], (), folder)
    else:
        train = _pictures_of(folder, TESTS)
    tests = next((parts[name] for name in TESTS if name in parts), None)
    return train, [] if tests is None else _pictures_of(tests, (), folder)


def _pair_folders(folder, other):
    """Return the split paths of a folder's pictures, and path -> the two of a pair.

    A pair has the same name in both folders, whatever its ending.
    """
    splits, partners = [], {}
    for mine, others in zip(_split(folder), _split(other), strict=True):
        by_name = [{}, {}]
        for names, paths in zip(by_name, (mine, others), strict=True):
            for path in paths:
                name = normal_form(path.stem)
                if name in names:
                    raise InputError(
                        f"{path}: has the name of {names[name].name}; rename one, and "
                        "its partner"
                    )
                names[name] = path
        alone = sorted(by_name[0].keys() ^ by_name[1].keys())
        if alone:
            left, right = by_name
            path = left.get(alone[0]) or right[alone[0]]
            where = other if alone[0] in left else folder
            raise InputError(
                f"{path}: has no picture of the same name in {where} ({len(alone)} "
                "have none); rename it, or move it out"
            )
        splits.append(mine)
        partners |= {path: by_name[1][normal_form(path.stem)] for path in mine}

    def read_parts(path):
        images = [read_image(path), read_image(partners[path])]
        sizes = ["{}x{}".format(*image.shape[:2]) for image in images]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"{path}: is {sizes[0]}, and {partners[path]} {sizes[1]} (height x "
                "width); make the two of a pair equal"
            )
        return images

    return splits, read_parts


def _read_halves(path):
    """Return the two halves of a picture that holds a pair side by side."""
    image = read_image(path)
    width = image.shape[1]
    if width % 2:
        raise InputError(
            f"{path}: is {width} pixels wide, so it holds no two pictures of equal "
            "width side by side; cut it"
        )
    return [image[:, : width // 2], image[:, width // 2 :]]
