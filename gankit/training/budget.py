"""How many steps fit into so many minutes."""

import time

import numpy as np

from gankit.command import InputError
from gankit.models.classify import class_probabilities
from gankit.training.settings import option


def fit_to_budget(minutes, steps, c_model, dataset, test_dataset, evaluate_every):
    """Return how many steps take so many minutes, evaluations included.

    steps: a run's batches.Steps. c_model: the classifier that is measured on dataset,
    [X, y], at the end and on test_dataset (None without) every evaluate_every steps.
    For a thirtieth of that time, 20 steps at the least, steps are made and timed; then
    their state is set back to what it was.
    """
    started = time.perf_counter()
    before = [np.array(variable) for variable in steps.state]
    steps(0, 2)
    n_timed, timed = 0, 0.0
    first = time.perf_counter()
    while n_timed == 0 or timed < 2 * minutes:
        steps(n_timed, 20).numpy()
        n_timed, timed = n_timed + 20, time.perf_counter() - first
    per_step = timed / n_timed
    for variable, value in zip(steps.state, before, strict=True):
        variable.assign(value)
    X = dataset[0]
    class_probabilities(c_model, X[:500])
    first = time.perf_counter()
    class_probabilities(c_model, X[:2000])
    per_image = (time.perf_counter() - first) / len(X[:2000])
    if test_dataset is not None:
        per_step += per_image * len(test_dataset[0]) / evaluate_every
    left = 60 * minutes - (time.perf_counter() - started) - per_image * len(X)
    return max(1, int(left / per_step))


def budget_option():
    """Return the settings' option of a budget, None without one."""
    return option(
        None,
        "train as long as this on this machine, instead of for --epochs",
        check=check_budget,
        metavar="MINUTES",
        instead_of="epochs",
    )


def check_budget(minutes):
    """Raise InputError for a --budget that can't be met."""
    if minutes is not None and not 0 < minutes <= 10_000:
        raise InputError(
            f"--budget {minutes:g}: must be more than 0 and at most 10000 minutes"
        )
