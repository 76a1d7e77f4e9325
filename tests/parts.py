"""What several tests share."""

import csv
import json
import signal
import zipfile

import numpy as np
import pytest

from gankit.command import InputError
from gankit.training.checkpoints import checkpoint_paths, read_checked


def values(variables):
    """The values of Keras variables, as arrays."""
    return [np.array(variable) for variable in variables]


def moved(before, variables):
    """Which of the variables differ from their values before, bit for bit."""
    return [not np.array_equal(b, v) for b, v in zip(before, variables, strict=True)]


def read_csv(path):
    """The rows of a table, a dict each: column -> text."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def options_of(data, out, *more):
    """The options of a small run of sgan_mnist.py or sgan_tuned.py, as texts."""
    options = ("--data", data, "--batch", 20, "--labels", 20, "--seed", 5)
    options += ("--latent-dim", 4, "--out", out, "--verbose", 0, "--threads", 1)
    return [str(option) for option in (*options, *more)]


def final_state(run):
    """What must be equal, bit for bit, in an interrupted run and in a whole one."""
    arrays = read_checked(checkpoint_paths(run)[0])
    for name in ("plain", "history"):
        arrays.pop(name)
    state = {name: array.tobytes() for name, array in arrays.items()}
    for path in (run / "history.csv", *run.glob("generated_plot_*.png")):
        state[path.name] = path.read_bytes()
    return state


def assert_nothing_is_left(run):
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
    assert len(checkpoint_paths(run)) <= 2


def fails(script, capsys, *arguments):
    """Run a script, a module with main(), on bad input; return its one line."""
    assert script.main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith(f"{script.__name__}.py: ")
    return printed.err


def refused(call, *arguments, **options):
    """Call a function with bad input; return the one line of its InputError."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def with_config(source, target, change):
    """Copy a .keras file with its configuration changed by change(config)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config)
            new.writestr(name, content)
    return target


def default_signals():
    """Take SIGINT and SIGTERM as a process in the foreground does.

    For subprocess's preexec_fn: where a shell starts pytest in the background, SIGINT
    is ignored, and whatever pytest starts would inherit that.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
