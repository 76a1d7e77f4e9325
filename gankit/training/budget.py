"""How many steps fit into so many minutes."""

import time

import numpy as np

from gankit.command import InputError
from gankit.models.classify import class_probabilities
from gankit.training.settings import option

# steps that are timed at once
TIMED = 20


def fit_to_budget(minutes, steps, c_model, dataset, test_dataset, evaluate_every):
    """Return how many steps take so many minutes, evaluations included.

    steps: a run's batches.Steps. c_model: the classifier that is measured on dataset,
    [X, y], at the end and on test_dataset (None without) every evaluate_every steps.
    For a thirtieth of that time, 20 steps at the least, steps are made and timed; then
    their state is set back to what it was.
    """
    started = time.perf_counter()
    per_step = time_steps(steps, 2 * minutes)
    X = dataset[0]
    class_probabilities(c_model, X[:500])
    first = time.perf_counter()
    class_probabilities(c_model, X[:2000])
    per_image = (time.perf_counter() - first) / len(X[:2000])
    if test_dataset is not None:
        per_step += per_image * len(test_dataset[0]) / evaluate_every
    left = 60 * minutes - (time.perf_counter() - started) - per_image * len(X)
    return max(1, int(left / per_step))


def fit_to_minutes(minutes, steps, evaluate, evaluate_every, first=0):
    """Return how many steps take so many minutes, evaluations included.

    steps: a run's batches.Steps, timed as fit_to_budget does, from the step `first` on.
    evaluate: makes one evaluation; there is one every evaluate_every steps.
    """
    started = time.perf_counter()
    per_step = time_steps(steps, 2 * minutes, first)
    evaluate()  # once before: models are compiled with their first batch
    begun = time.perf_counter()
    evaluate()
    per_step += (time.perf_counter() - begun) / evaluate_every
    left = 60 * minutes - (time.perf_counter() - started)
    return max(1, int(left / per_step))


def time_steps(steps, seconds, first=0):
    """Return the seconds of a step; TIMED or more are made, for `seconds` or longer.

    Then their state is set back to what it was.
    """
    before = [np.array(variable) for variable in steps.state]
    steps(first, 2)
    n_timed, timed = 0, 0.0
    begun = time.perf_counter()
    while n_timed == 0 or timed < seconds:
        steps(first + n_timed, TIMED).numpy()
        n_timed, timed = n_timed + TIMED, time.perf_counter() - begun
    for variable, value in zip(steps.state, before, strict=True):
        variable.assign(value)
    return timed / n_timed


class Miniature:
    """A short run for each call of its steps, so that all its phases are timed.

    steps: a run's batches.Phases, planned for TIMED steps in all.
    """

    def __init__(self, steps):
        self._steps, self.state = steps, steps.state

    def __call__(self, first, n):
        return self._steps(0, TIMED)


def budget_option():
    """Return the settings' option of a budget, None without one."""
    return option(
        None,
        "train as long as this on this machine, instead of for --epochs",
        check=check_budget,
        metavar="MINUTES",
        instead_of="epochs",
    )


def check_budget(minutes, name="--budget"):
    """Raise InputError for minutes that can't be met; name: of their option."""
    if minutes is not None and not 0 < minutes <= 10_000:
        raise InputError(
            f"{name} {minutes:g}: must be more than 0 and at most 10000 minutes"
        )
