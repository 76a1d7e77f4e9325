"""Pictures of a run: sheets of samples, animations, curves, confusions."""

import numpy as np

from gankit.backend import Image, figure
from gankit.folders import write_atomically


def to_pixels(images):
    """Images (n, h, w, c) in [-1, 1] -> uint8 (n, h, w) grey reversed, or (..., 3)."""
    if images.shape[-1] == 1:
        images = -images[..., 0]
    return np.rint(127.5 + 127.5 * images).astype(np.uint8)


def save_sheet(images, path):
    """Save images (n, h, w, c) in [-1, 1] as a square sheet, grey reversed.

    c: 1 or 3, colours, which are not reversed.
    """
    pixels = to_pixels(images)
    n, height, width, *colours = pixels.shape
    side = int(np.ceil(np.sqrt(n)))
    cells = np.full((side * side, height, width, *colours), 255, np.uint8)
    cells[:n] = pixels
    cells = cells.reshape(side, side, height, width, *colours).swapaxes(1, 2)
    sheet = Image.fromarray(cells.reshape(side * height, side * width, *colours))
    with write_atomically(path) as temporary:
        sheet.resize((2 * sheet.width, 2 * sheet.height)).save(temporary)


def save_animation(out):
    """Save animation.gif: the run's sheets in the order of their steps."""
    paths = sorted(
        out.glob("generated_plot_*.png"), key=lambda path: int(path.stem.split("_")[-1])
    )
    frames = []
    for path in paths:
        with Image.open(path) as sheet:
            frames.append(sheet.copy())
    save_frames(frames, out / "animation.gif", 500)


def save_frames(frames, path, duration):
    """Save Pillow images as an animation that never ends; duration: ms of each."""
    with write_atomically(path) as temporary:
        frames[0].save(
            temporary,
            save_all=True,
            append_images=frames[1:],
            duration=duration,
            loop=0,
        )


def plot_history(out):
    """Save curves.png: losses and accuracies over the run, from its CSV files."""
    history = np.genfromtxt(out / "history.csv", delimiter=",", names=True, ndmin=1)
    accuracy = np.genfromtxt(out / "accuracy.csv", delimiter=",", names=True, ndmin=1)
    fig = figure.Figure(figsize=(10, 4), layout="constrained")
    losses, accuracies = fig.subplots(1, 2)
    for name in history.dtype.names:
        if name not in ("step", "c_accuracy"):
            losses.plot(history["step"], history[name], lw=0.5, label=name)
    losses.set(xlabel="step", ylabel="loss of one batch", yscale="log")
    for name in ("train_accuracy", "test_accuracy"):
        measured = np.isfinite(accuracy[name])
        accuracies.plot(
            accuracy["step"][measured], accuracy[name][measured], "o-", ms=3, label=name
        )
    accuracies.set(xlabel="step", ylabel="accuracy, %")
    for axes in (losses, accuracies):
        axes.legend()
        axes.grid(alpha=0.3)
    with write_atomically(out / "curves.png") as path:
        fig.savefig(path, dpi=120)


def count_confusions(y, predicted, n_classes):
    """Return int (n_classes, n_classes): images by true class and by predicted one.

    Images without a label, y being -1, are left out.
    """
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (y[y >= 0], predicted[y >= 0]), 1)
    return confusion


def draw_confusions(confusion, class_names=None):
    """Return a figure of what count_confusions has counted."""
    fig = figure.Figure(figsize=(6, 6), layout="constrained")
    axes = fig.subplots()
    axes.imshow(np.sqrt(confusion), cmap="Blues")
    for (i, j), count in np.ndenumerate(confusion):
        if count:
            colour = "white" if i == j else "black"
            axes.text(j, i, count, ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    names = class_names or range(len(confusion))
    axes.set_xticks(range(len(confusion)), names, rotation=90 if class_names else 0)
    axes.set_yticks(range(len(confusion)), names)
    return fig
