"""What a run keeps in its folder and shows on the screen.

Tables (history.csv, accuracy.csv), sheets of generated images, figures, and the
progress line.
"""

import contextlib
import csv
import datetime
import json
import platform
import time
import zipfile
from pathlib import Path

import numpy as np

from helpers import (
    LARGEST_NAMES,
    InputError,
    LazyModule,
    RunError,
    check_class_names,
    write_atomically,
)

h5py = LazyModule("h5py")
keras = LazyModule("keras")
tf = LazyModule("tensorflow")
figure = LazyModule("matplotlib.figure")
Image = LazyModule("PIL.Image")

ACCURACY = (
    "epoch",
    "step",
    "train_accuracy",
    "test_accuracy",
    "labelled_error",
    "seconds",
)

# where a model file keeps them: a member of a .keras archive, an attribute of an .h5
CLASS_NAMES = "class_names"


class DivergedError(RunError):
    """A loss that is no longer finite."""


@contextlib.contextmanager
def writing_to(out, remedy="Make room, then go on with --resume"):
    """Turn the failure to write a file, as on a full disk, into a RunError."""
    try:
        yield
    except BrokenPipeError:  # that is stdout's
        raise
    except OSError as error:
        raise RunError(
            f"{out}: can't be written ({error.strerror or error}); what was saved is "
            f"kept. {remedy}"
        ) from error


def versions():
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
    }


def append_rows(path, rows):
    with open(path, "a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_rows(path, rows):
    with write_atomically(path) as temporary:
        append_rows(temporary, rows)


def history_row(step, figures):
    """Return a step's row for history.csv; 9 digits tell a float32 exactly."""
    return (step, *(f"{value:.9g}" for value in figures))


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


def save_model(model, path, class_names=None):
    """Save a Keras model; the suffix of `path`, .keras or .h5, is the format.

    class_names: list of str, kept in the file for read_class_names; or None.
    """
    with write_atomically(path) as temporary:
        try:
            model.save(temporary)
            if class_names is None:
                return
            text = json.dumps(class_names)
            if temporary.suffix == ".keras":
                with zipfile.ZipFile(temporary, "a") as archive:
                    archive.writestr(CLASS_NAMES + ".json", text)
            else:
                with h5py.File(temporary, "a") as file:
                    file.attrs[CLASS_NAMES] = text
        except RuntimeError as error:  # h5py's, where the disk is full
            raise OSError(" ".join(str(error).split())) from error


def read_class_names(path):
    """Return the class names in a model file, a list of str; None where it has none.

    path: a .keras or .h5 file, of any origin. Raises InputError where the file can't
    be read or its names are not such as save_model keeps.
    """
    path = Path(path)
    try:
        text = _read_names(path)
        if text is None:
            return None
        if not isinstance(text, str | bytes) or len(text) > LARGEST_NAMES:
            raise ValueError("not a text, or too long")
        names = json.loads(text)
        check_class_names(names)
    except Exception as error:  # a broken file can fail anywhere in its library
        raise InputError(
            f"{path}: its class names can't be read "
            f"({' '.join(str(error).split())[:200]}); is the file whole?"
        ) from error
    return names


def _read_names(path):
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            if CLASS_NAMES + ".json" not in archive.namelist():
                return None
            with archive.open(CLASS_NAMES + ".json") as file:
                return file.read(LARGEST_NAMES + 1)
    with h5py.File(path, "r") as file:
        if CLASS_NAMES not in file.attrs:
            return None
        if file.attrs.get_id(CLASS_NAMES).shape != ():
            raise ValueError("not one text")
        return file.attrs[CLASS_NAMES]


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


class Progress:
    """Shows each step's figures: a line a step, or one line kept up to date.

    describe: a step's figures -> text.
    """

    def __init__(self, verbose, describe):
        self._verbose, self._describe, self._open = verbose, describe, False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.end_line()

    def begin(self, first_step, last_step):
        self._first, self._last = first_step, last_step
        self._started = time.perf_counter()

    def show(self, step, figures):
        if self._verbose == 2:
            print(f">{step}, {self._describe(figures)}", flush=True)
        elif self._verbose == 1:
            done = step * 20 // self._last
            bar = "#" * done + "." * (20 - done)
            per_step = (time.perf_counter() - self._started) / (step - self._first)
            left = datetime.timedelta(seconds=round(per_step * (self._last - step)))
            line = f">{step}/{self._last} [{bar}] {self._describe(figures)}"
            print(f"\r{f'{line}, {left} left':<79}", end="", flush=True)
            self._open = True

    def end_line(self):
        if self._open:
            print()
        self._open = False


def check_finite(step, figures, columns):
    """Raise DivergedError where a figure of this step is not finite.

    columns: those of history.csv, 'step' and the figures' names.
    """
    for name, value in zip(columns[1:], figures, strict=True):
        if not np.isfinite(value):
            raise DivergedError(
                f"step {step}: {name} is {value}; stopped, with what was saved kept. "
                "Try another --seed"
            )
