"""Make a data set of real photographs: patches in colour, with nothing downloaded.

    python tour/photographs.py --out photographs.npz
    python tour/context_encoder.py --data photographs.npz

The photographs are those of everyday things that lie in scikit-image's package, as its
documentation of skimage.data describes them:
    astronaut: Eileen Collins, by NASA; in the public domain
    chelsea: a cat, by Stefan van der Walt; CC0
    coffee: a cup, by Rachel Michetti; CC0
    rocket: the launch of DSCOVR on a Falcon 9, by SpaceX; in the public domain
What else is there is left out: grey textures, microscopes and telescopes, and a pair of
photographs of a motorcycle, of which no licence is stated.

Training patches are of the left five eighths of each photograph, test patches of the
rest: no pixel is in both, but what they show is alike. With --test NAME the test
patches are of a photograph that the training has nothing of, as pictures of one's own
would be.
"""

import dataclasses
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import ROOT  # noqa: F401  puts the repository on the path

from gankit.backend import Image
from gankit.command import InputError, OneLineParser, run_script
from gankit.data.images import read_image
from gankit.folders import write_atomically
from gankit.training.settings import add_options, check_value, option

FILES = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
}


def check_size(size):
    """Raise InputError for a --size that patches can't have."""
    if size % 4:
        raise InputError(f"--size {size}: must be a multiple of 4")


@dataclass(kw_only=True)
class Settings:
    """Cut scikit-image's photographs into patches, an .npz file for --data."""

    out: str = option("photographs.npz", "new .npz file", metavar="FILE")
    size: int = option(
        64, "height and width of a patch", least=8, most=128, check=check_size
    )
    train: int = option(10_000, "training patches", least=4, most=100_000)
    test: str | None = option(
        None,
        "the photograph that test patches are of (default: the right part of each)",
        choices=FILES,
    )
    tests: int = option(1_000, "test patches", least=4, most=100_000)
    seed: int = option(0, "which patches are drawn", least=0, most=2**31 - 1)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_value(field, getattr(self, field.name))


def read_photographs():
    """Return the photographs by name, a dict: uint8 (h, w, 3).

    Raises InputError where scikit-image is missing, or is installed without them.
    """
    remedy = "install it with pip install scikit-image"
    found = importlib.util.find_spec("skimage")
    if found is None:
        raise InputError(f"scikit-image: is not installed; {remedy}")
    folder = Path(found.origin).parent / "data"
    missing = [name for name in FILES.values() if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder}: has no {missing[0]}; {remedy}")
    return {name: read_image(folder / file) for name, file in FILES.items()}


def split(photograph):
    """Return the part of a photograph for training, and that for tests."""
    border = photograph.shape[1] * 5 // 8
    return photograph[:, :border], photograph[:, border:]


def draw_patches(photographs, n, size, rng, *, flip=False):
    """Return n patches, uint8 (n, size, size, 3), and of which photograph each is.

    photographs: uint8 (h, w, 3) with sides of `size` or more, each drawn from as often
    as the others. A patch is a square whose side is from one to two times `size`, as
    far as the photograph has it, shrunk. flip: half of them, left to right. rng: a
    numpy Generator.
    """
    X = np.empty((n, size, size, 3), np.uint8)
    y = np.arange(n) % len(photographs)
    for patch, label in zip(X, y, strict=True):
        photograph = photographs[label]
        height, width = photograph.shape[:2]
        side = rng.integers(size, min(2 * size, height, width), endpoint=True)
        top = rng.integers(height - side, endpoint=True)
        left = rng.integers(width - side, endpoint=True)
        square = Image.fromarray(photograph[top : top + side, left : left + side])
        patch[...] = square.resize((size, size), Image.Resampling.BILINEAR)
        if flip and rng.integers(2):
            patch[...] = patch[:, ::-1].copy()
    return X, y


def make_arrays(settings):
    """Return the arrays of the .npz file, a dict as --data reads it.

    A patch's label is its photograph's number, and the photographs' names are those of
    the classes.
    """
    rng = np.random.default_rng(settings.seed)
    names, photographs = zip(*read_photographs().items(), strict=True)
    if settings.test is None:
        train, test = zip(*map(split, photographs), strict=True)
    else:
        held_out = names.index(settings.test)
        test = [photographs[held_out]]
        train = [
            photograph for i, photograph in enumerate(photographs) if i != held_out
        ]
    size = settings.size
    x_train, y_train = draw_patches(train, settings.train, size, rng, flip=True)
    x_test, y_test = draw_patches(test, settings.tests, size, rng)
    if settings.test is not None:
        others = np.delete(np.arange(len(names)), held_out)
        y_train, y_test = others[y_train], y_test + held_out
    return {
        "x_train": x_train,
        "y_train": y_train,
        "x_test": x_test,
        "y_test": y_test,
        "class_names": np.array(names),
    }


def start(argv):
    parser = OneLineParser(description=Settings.__doc__)
    add_options(parser, Settings)
    settings = Settings(**vars(parser.parse_args(argv)))
    out = Path(settings.out)
    if out.suffix != ".npz":
        raise InputError(f"--out {out}: must end in .npz; give such a name")
    if out.exists():
        raise InputError(f"--out {out}: is there already; give another name")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: no such folder; make it, or give another name")
    arrays = make_arrays(settings)
    with write_atomically(out) as path:
        np.savez(path, **arrays)
    n, tests = len(arrays["x_train"]), len(arrays["x_test"])
    print(f"{n} training and {tests} test patches are in {out}")


def main(argv=None):
    return run_script("photographs.py", lambda: start(argv))


if __name__ == "__main__":
    sys.exit(main())
