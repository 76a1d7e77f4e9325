"""A run's tables, with the columns that its script declares."""

import contextlib
import csv

import numpy as np

from gankit.command import RunError
from gankit.folders import write_atomically

FINISHED = "finished"


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


def append_rows(path, rows):
    with open(path, "a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_rows(path, rows):
    with write_atomically(path) as temporary:
        append_rows(temporary, rows)


def history_row(step, figures):
    """Return a step's row for history.csv; 9 digits tell a float32 exactly."""
    return (step, *(f"{value:.9g}" for value in figures))


class Records:
    """The tables of a run: history.csv, a row a step, and that of its evaluations.

    folder: the run's. columns: the names of a step's figures; evaluations: those of
    an evaluation's; table: the name of their file. history: the figures of each step
    so far, float32 arrays; accuracy: rows of numbers, epoch, step, figures (None for
    none), seconds.
    """

    def __init__(self, folder, columns, evaluations, table="accuracy.csv"):
        self.folder, self.columns, self.evaluations = folder, columns, evaluations
        self.table = folder / table
        self.history, self.accuracy = [], []

    def begin(self, history, accuracy):
        """Write both tables as they stood after the steps made so far."""
        (self.folder / FINISHED).unlink(missing_ok=True)
        self.history = list(history)
        steps = (history_row(i, row) for i, row in enumerate(self.history, 1))
        write_rows(self.folder / "history.csv", [("step", *self.columns), *steps])
        self.begin_evaluations(accuracy)

    def begin_evaluations(self, accuracy):
        """Write the evaluations alone, for a run that records no steps."""
        self.accuracy = list(accuracy)
        names = ("epoch", "step", *self.evaluations, "seconds")
        write_rows(self.table, [names, *map(evaluation_row, self.accuracy)])

    def add_steps(self, figures):
        """Add steps; figures: float32 (n, len(columns))."""
        first = len(self.history) + 1
        self.history.extend(figures)
        rows = [history_row(i, row) for i, row in enumerate(figures, first)]
        append_rows(self.folder / "history.csv", rows)

    def add_evaluation(self, epoch, step, figures, seconds):
        """Add an evaluation; figures: a number or None for each evaluation."""
        if len(figures) != len(self.evaluations):
            raise ValueError(f"{len(figures)} figures for {self.evaluations}")
        row = [epoch, step, *figures, seconds]
        self.accuracy.append(row)
        append_rows(self.table, [evaluation_row(row)])

    def finish(self, step):
        """Mark the run as finished after this step."""
        with write_atomically(self.folder / FINISHED) as path:
            path.write_text(f"{step}\n", encoding="utf-8")


def evaluation_row(row):
    """Return the texts of an evaluation's row."""
    epoch, step, *figures, seconds = row
    return [
        "" if epoch is None else f"{epoch:g}",
        step,
        *("" if value is None else figure_text(value) for value in figures),
        f"{seconds:.1f}",
    ]


def figure_text(value):
    """Return a figure's text: three decimals, or three digits where it is small."""
    return f"{value:.3g}" if 0 < abs(value) < 0.1 else f"{value:.3f}"


def read_evaluation(row):
    """Return a row of a checkpoint as numbers; older checkpoints keep texts."""
    epoch, step, *others = (
        (float(value) if value != "" else None) if isinstance(value, str) else value
        for value in row
    )
    return [epoch, int(step), *others]


def check_finite(step, figures, columns):
    """Raise DivergedError where a figure of this step is not finite.

    columns: the figures' names.
    """
    for name, value in zip(columns, figures, strict=True):
        if not np.isfinite(value):
            raise DivergedError(
                f"step {step}: {name} is {value}; stopped, with what was saved kept. "
                "Try another --seed"
            )
