"""Write Fashion-MNIST as a folder of pictures, a few of them labelled.

    python results/fashion_folder/make_folder.py IDX_FOLDER NEW_FOLDER

IDX_FOLDER holds the four files of Fashion-MNIST (Debian: package dataset-fashion-mnist,
/usr/share/datasets/fashion-mnist). NEW_FOLDER gets 50 training images of each class in
the class's sub-folder, all others in unlabelled/, and the test images in test/.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2]))

from gankit.command import InputError, OneLineParser, run_script  # noqa: E402
from gankit.data.labels import select_supervised_indices  # noqa: E402
from gankit.data.load import load_arrays  # noqa: E402
from gankit.folders import claimed  # noqa: E402

# Xiao, Rasul and Vollgraf 2017, table 2
CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
N_LABELS = 500


def write_images(X, labels, folder):
    """Write images (n, h, w, 1) as PNG into sub-folders named by `labels`, texts."""
    for name in set(labels):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, (image, name) in enumerate(zip(X, labels, strict=True)):
        Image.fromarray(image[..., 0]).save(folder / name / f"{i:05d}.png")


def run(source, target):
    data = load_arrays(source)
    if data.n_classes != len(CLASSES) or data.test is None:
        raise InputError(f"{source}: not Fashion-MNIST; name the folder of its files")
    X, y = data.train
    labels = np.full(len(y), "unlabelled", "U20")
    chosen = select_supervised_indices(y, N_LABELS, rng=np.random.default_rng(1))
    labels[chosen] = np.array(CLASSES)[y[chosen]]
    with claimed(target) as target:
        write_images(X, labels.tolist(), target)
        X, y = data.test
        write_images(X, np.array(CLASSES)[y].tolist(), target / "test")


def main(argv=None):
    parser = OneLineParser(description="Write Fashion-MNIST as a folder of pictures.")
    parser.add_argument("source", metavar="IDX_FOLDER", help="folder of its IDX files")
    parser.add_argument("target", metavar="NEW_FOLDER", help="new folder")
    args = parser.parse_args(argv)
    return run_script("make_folder.py", lambda: run(args.source, args.target))


if __name__ == "__main__":
    sys.exit(main())
