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

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from datasets import load_arrays  # noqa: E402

from helpers import new_folder, run_script, select_supervised_indices  # noqa: E402

# Xiao, Rasul and Vollgraf 2017, table 2
CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def write_images(X, labels, folder):
    """Write images (n, h, w, 1) as PNG into sub-folders named by `labels`, texts."""
    for name in set(labels):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, (image, name) in enumerate(zip(X, labels, strict=True)):
        Image.fromarray(image[..., 0]).save(folder / name / f"{i:05d}.png")


def run(source, target):
    data = load_arrays(source)
    target = new_folder(target)
    X, y = data.train
    labels = np.full(len(y), "unlabelled", "U20")
    chosen = select_supervised_indices(y, 500, rng=np.random.default_rng(1))
    labels[chosen] = np.array(CLASSES)[y[chosen]]
    write_images(X, labels.tolist(), target)
    X, y = data.test
    write_images(X, np.array(CLASSES)[y].tolist(), target / "test")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(run_script("make_folder.py", lambda: run(*sys.argv[1:])))
