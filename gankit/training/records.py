"""A run's tables."""

import contextlib
import csv

import numpy as np

from gankit.command import RunError
from gankit.folders import write_atomically

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


def append_rows(path, rows):
    with open(path, "a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_rows(path, rows):
    with write_atomically(path) as temporary:
        append_rows(temporary, rows)


def history_row(step, figures):
    """Return a step's row for history.csv; 9 digits tell a float32 exactly."""
    return (step, *(f"{value:.9g}" for value in figures))


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
