"""The model files of a run: which is the newest, and is it safe to load?

A model file is read as data. Before anything is built, its layers are compared with
those that the models of this collection use, and any other is refused.
"""

import json
import zipfile
from pathlib import Path

import numpy as np

from helpers import InputError, LazyModule
from untrusted import check_container

keras = LazyModule("keras")
h5py = LazyModule("h5py")

SHIPPED_RUN = Path(__file__).resolve().parent / "results" / "sgan_mnist"
SUFFIXES = (".keras", ".h5")
LARGEST_CONFIG = 1 << 20
# what the files of each kind are called
PREFIXES = {"classifier": "c_model", "generator": "g_model"}


def newest_model(kind):
    """Return the newest run's newest model, or the one that is shipped here.

    kind: 'classifier' or 'generator'. Raises InputError where there is none.
    """
    runs = [path.parent for path in Path("runs").glob("*/settings.json")]
    runs.sort(key=lambda run: (run / "settings.json").stat().st_mtime, reverse=True)
    for run in (*runs, SHIPPED_RUN):
        path = newest_in(run, kind)
        if path is not None:
            return path
    raise InputError(
        f"runs: holds no {kind}, and none is shipped here; train one with sgan_mnist.py"
    )


def newest_in(run, kind):
    """Return the newest model of a kind in a run's folder, None where it has none."""
    models = [
        path
        for path in Path(run).glob(f"{PREFIXES[kind]}_*")
        if path.suffix in SUFFIXES and step_of(path) >= 0
    ]
    return max(models, key=step_of, default=None)


def step_of(path):
    """Return the step in a model's file name, -1 where it has none."""
    digits = path.stem.rpartition("_")[-1]
    return int(digits) if digits.isdecimal() else -1


def read_config(path, kind="classifier"):
    """Return the configuration of the model in a .keras or .h5 file, a dict."""
    remedy = f"give a {PREFIXES[kind]} saved by sgan_mnist.py, .keras or .h5"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {remedy}")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: not a .keras or .h5 file; {remedy}")
    try:
        check_container(path)
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
                text = file.read(LARGEST_CONFIG + 1)
        else:
            with h5py.File(path, "r") as file:
                text = file.attrs["model_config"]
        if len(text) > LARGEST_CONFIG:
            raise ValueError("configuration of more than 1 MiB")
        config = json.loads(text)
        # what the optimizer was is not looked at when a model is loaded for use
        config.pop("compile_config", None)
        config["config"]["layers"][0]["class_name"]
    except InputError:
        raise
    except Exception as error:  # a broken file can fail anywhere in its library
        raise InputError(f"{path}: not a whole Keras model; {remedy}") from error
    return config


def check_classes(path, config, allowed, kind):
    """Raise InputError where the configuration names a class that is not allowed.

    allowed: {class: its module}, all that models of this kind are made of.
    """
    nodes = [config]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        if not isinstance(node, dict):
            continue
        nodes += node.values()
        if {"class_name", "module", "registered_name"}.isdisjoint(node):
            continue
        name = node.get("class_name")
        known = (
            isinstance(name, str)
            and name in allowed
            and node.get("module") in (None, allowed[name])
            and node.get("registered_name") in (None, name)
        )
        if not known:
            raise InputError(
                f"{path}: holds {str(name)[:60]!r} of module "
                f"{str(node.get('module'))[:60]!r}, which is no part of a {kind}; "
                f"give a {PREFIXES[kind]} saved by sgan_mnist.py"
            )


def load_checked(path):
    """Load a model whose configuration has been checked; it is not compiled."""
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        # what can be built can still fail when it computes
        model(np.zeros((1, *model.input_shape[1:]), np.float32))
    except Exception as error:  # a broken file can fail anywhere in Keras
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: can't be loaded ({reason}); is the file whole?"
        ) from error
    model.jit_compile = False
    return model
