import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gankit.backend import keras, tf
from gankit.data import load
from parts import default_signals

# the tests are of a CPU; scripts that they start inherit this
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

# as `--threads 1` has it; it can't be set once TensorFlow has started
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.list_logical_devices()  # which starts it
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def mnist():
    """The bundled arrays, ([x_train, y_train], [x_test, y_test])."""
    data = load.load_arrays()
    return data.train, data.test


@pytest.fixture(scope="session")
def small_data(mnist, tmp_path_factory):
    """An .npz file with 20 training and 10 test images of each class."""
    (x, y), (x_test, y_test) = mnist
    train = np.concatenate([np.flatnonzero(y == i)[:20] for i in range(10)])
    test = np.concatenate([np.flatnonzero(y_test == i)[:10] for i in range(10)])
    path = tmp_path_factory.mktemp("small data") / "small.npz"
    np.savez(
        path,
        x_train=x[train, ..., 0],
        y_train=y[train],
        x_test=x_test[test, ..., 0],
        y_test=y_test[test],
    )
    return path


@pytest.fixture(scope="session")
def start():
    """Start a script of the collection as a user would; returns what came of it."""

    def start(script, *arguments, cwd, **environment):
        return subprocess.run(
            [sys.executable, ROOT / script, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            preexec_fn=default_signals,
        )

    return start


@pytest.fixture
def precision():
    """Keras's set_dtype_policy, undone at the end of the test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="session")
def tiny_run(start, small_data, tmp_path_factory):
    """A folder with one finished run, and what the script printed."""
    cwd = tmp_path_factory.mktemp("a folder")
    done = start(
        "sgan_mnist.py",
        *("--data", small_data, "--batch", 100, "--epochs", 2, "--seed", 3),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    (run,) = (cwd / "runs").iterdir()
    return run, done.stdout
