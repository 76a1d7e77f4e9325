"""The model files of a run: saved, found and loaded."""

import json
import zipfile
from pathlib import Path

import numpy as np

from gankit.backend import h5py, keras
from gankit.command import InputError
from gankit.data.labels import LARGEST_NAMES, check_class_names
from gankit.folders import write_atomically
from gankit.models.untrusted import PREFIXES, check_container

SHIPPED_RUN = Path(__file__).resolve().parents[2] / "results" / "sgan_mnist"
SUFFIXES = (".keras", ".h5")
LARGEST_CONFIG = 1 << 20
# where a model file keeps them: a member of a .keras archive, an attribute of an .h5
CLASS_NAMES = "class_names"


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
