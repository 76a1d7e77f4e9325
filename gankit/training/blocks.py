"""The kinds of images that many classifiers get wrong: what their mistakes share."""

from typing import NamedTuple

import numpy as np

from gankit.backend import LazyModule
from gankit.data.images import scale_images
from gankit.folders import write_atomically
from gankit.pictures import save_sheet
from gankit.training.records import write_rows

hierarchy = LazyModule("scipy.cluster.hierarchy")
ndimage = LazyModule("scipy.ndimage")

# images of one kind, about; fewer than the least are listed with no others
KIND, LEAST = 25, 5
# pixels by which images are blurred before they are compared
BLUR = 1.0
# images of a kind that are shown, so many in a row
SHOWN, IN_A_ROW = 200, 20


class Kind(NamedTuple):
    """Images of one class that look alike and that classifiers take for another.

    label, answer: the class that they are of, and the one that is seen. images: their
    numbers, int (m,), those first that most classifiers get so. wrong: bool (r, m),
    which of r classifiers answers so.
    """

    label: int
    answer: int
    images: np.ndarray
    wrong: np.ndarray


def find_kinds(X, y, answers):
    """Return the kinds of mistakes of several classifiers, a list of Kind.

    X: uint8 (n, h, w, c); y: int (n,), -1 for an image without label, which is left
    out; answers: int (r, n), the classes that each of r classifiers sees. Mistakes of
    the same class for the same other one are divided by Ward's clustering of the
    blurred images, so that what stays or falls together is seen. The kinds with the
    most mistakes of all classifiers come first; those of fewer than LEAST images are
    left out.
    """
    mistaken = (answers != y) & (y >= 0)
    kinds = []
    for label, answer in sorted(
        {(int(y[i]), int(answers[run, i])) for run, i in np.argwhere(mistaken)}
    ):
        wrong = (y == label) & (answers == answer)
        images = np.flatnonzero(wrong.any(axis=0))
        for part in divide(X[images]):
            if len(part) >= LEAST:
                chosen = images[part]
                order = np.argsort(-wrong[:, chosen].sum(axis=0), kind="stable")
                chosen = chosen[order]
                kinds.append(Kind(label, answer, chosen, wrong[:, chosen]))
    return sorted(kinds, key=lambda kind: -kind.wrong.sum())


def divide(X):
    """Return the indices of images that look alike, a list of int arrays.

    X: uint8 (n, h, w, c). There are about KIND images in a part.
    """
    n_parts = round(len(X) / KIND)
    if n_parts < 2:
        return [np.arange(len(X))]
    blurred = ndimage.gaussian_filter(X.astype(np.float32), (0, BLUR, BLUR, 0))
    tree = hierarchy.linkage(blurred.reshape(len(X), -1), "ward")
    parts = hierarchy.fcluster(tree, n_parts, "maxclust")
    return [np.flatnonzero(parts == part) for part in np.unique(parts)]


def save_kinds(kinds, X, names, trials, runs, out):
    """Save kinds of mistakes in the folder `out`; return their table, Markdown.

    kinds: as find_kinds returns them; X: the images; names: the classes', a list.
    trials: of each classifier the name of what it is a draw of; runs: its own. The
    folder gets a sheet a kind, blocks.csv and blocks.md, the table: for each kind and
    trial the mean number of mistakes, and the least and most of a draw.
    """
    draws = {trial: np.array([t == trial for t in trials]) for trial in trials}
    lines = [
        f"| kind | class | taken for | images | {' | '.join(map(in_cell, draws))} |",
        "|---:|---|---|---:" + "|---:" * len(draws) + "|",
    ]
    rows = [("kind", "class", "answer", "images", "run", "wrong")]
    for number, kind in enumerate(kinds, 1):
        images = scale_images(X[kind.images[:SHOWN]])
        save_sheet(images, out / f"kind_{number:02}.png", IN_A_ROW)
        counts = kind.wrong.sum(axis=1)
        cells = [number, names[kind.label], names[kind.answer], len(kind.images)]
        rows += [(*cells, run, n) for run, n in zip(runs, counts, strict=True)]
        for chosen in draws.values():
            n = counts[chosen]
            cells.append(f"{n.mean():.1f} ({n.min()} to {n.max()})")
        lines.append(f"| {' | '.join(map(in_cell, cells))} |")
    table = "\n".join(lines) + "\n"
    write_rows(out / "blocks.csv", rows)
    with write_atomically(out / "blocks.md") as temporary:
        temporary.write_text(table, encoding="utf-8")
    return table


def in_cell(value):
    """Return a text for a cell of a Markdown table."""
    return str(value).replace("|", "\\|")
