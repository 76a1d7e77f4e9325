"""What a run keeps in its folder and shows on the screen.

Tables (history.csv, accuracy.csv), sheets of generated images, figures, and the
progress line.
"""

import contextlib
import csv
import datetime
import platform
import time

import numpy as np

from helpers import LazyModule, RunError, write_atomically

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


def save_sheet(images, path):
    """Save images (n, 28, 28, 1) in [-1, 1] as a square sheet, grey reversed."""
    n, height, width, _ = images.shape
    side = int(np.ceil(np.sqrt(n)))
    cells = np.full((side * side, height, width), -1.0, np.float32)
    cells[:n] = images[..., 0]
    cells = cells.reshape(side, side, height, width).transpose(0, 2, 1, 3)
    pixels = np.rint(127.5 - 127.5 * cells.reshape(side * height, side * width))
    sheet = Image.fromarray(pixels.astype(np.uint8))
    with write_atomically(path) as temporary:
        sheet.resize((2 * sheet.width, 2 * sheet.height)).save(temporary)


def save_model(model, path):
    """Save a Keras model; the suffix of `path` is the format."""
    with write_atomically(path) as temporary:
        try:
            model.save(temporary)
        except RuntimeError as error:  # h5py's, where the disk is full
            raise OSError(" ".join(str(error).split())) from error


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


def save_animation(out):
    """Save animation.gif: the run's sheets in the order of their steps."""
    paths = sorted(
        out.glob("generated_plot_*.png"), key=lambda path: int(path.stem.split("_")[-1])
    )
    frames = []
    for path in paths:
        with Image.open(path) as sheet:
            frames.append(sheet.copy())
    with write_atomically(out / "animation.gif") as path:
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=500, loop=0
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
