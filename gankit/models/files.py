"""The model files of a run: saved, found and loaded."""

import contextlib
import json
import logging
import shlex
import zipfile
from pathlib import Path

import numpy as np

from gankit.backend import h5py, keras
from gankit.command import InputError
from gankit.data.labels import LARGEST_NAMES, check_class_names, normal_form
from gankit.folders import write_atomically
from gankit.models.classify import count_classes
from gankit.models.keras2 import is_of_keras_2, translate
from gankit.models.untrusted import (
    PREFIXES,
    check_classes,
    check_container,
    check_input_shape,
    check_layers,
    check_output_shape,
)

ROOT = Path(__file__).resolve().parents[2]
# the runs whose models are shipped: sgan_mnist.py's and sgan_tuned.py's
SHIPPED_RUN = ROOT / "results" / "sgan_mnist"
SHIPPED_TUNED = SHIPPED_RUN.with_name("sgan_tuned")
# the run whose generator was kept
SHIPPED_GENERATOR = SHIPPED_RUN.with_name("sgan_mnist_bfloat16")
SUFFIXES = (".keras", ".h5")
# Keras 3 takes a file of this name for weights as it writes them itself
WEIGHTS_SUFFIX = ".weights.h5"
LARGEST_CONFIG = 1 << 20
# where a model file keeps them: a member of a .keras archive, an attribute of an .h5
CLASS_NAMES = "class_names"


def save_model(model, path, class_names=None):
    """Save a Keras model; the suffix of `path`, .keras or .h5, is the format.

    class_names: list of str, kept in the file for read_class_names; or None.
    """
    with write_atomically(path) as temporary:
        try:
            with _without_advice():
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


@contextlib.contextmanager
def _without_advice():
    """Save without Keras's advice against the format .h5, which was asked for."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def read_class_names(path):
    """Return the class names in a model file, a list of str; None where it has none.

    They have their normal form, as those of data do, by which they are compared.
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
    return [*map(normal_form, names)]


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


def find_model(given, kind, *, tuned=False):
    """Return the path of the model that is meant, a Path.

    given: a file; a run's folder, which stands for its newest model; or None for the
    newest model of all, see newest_model. kind: 'classifier' or 'generator'. Raises
    InputError for a folder without a model of this kind.
    """
    if given is None:
        return newest_model(kind, tuned=tuned)
    path = Path(given)
    if path.is_dir():
        path = newest_in(given, kind)
    if path is None:
        raise InputError(
            f"{given}: holds no {PREFIXES[kind]}_<step>.keras or .h5; give a file, or "
            "the folder of a run that has one"
        )
    if kind == "generator":
        check_script(path)
    return path


def check_script(path):
    """Raise InputError for a generator of the tour, which its own script draws from.

    path: of the model's file; settings.json beside it says what made it.
    """
    try:
        text = path.with_name("settings.json").read_text(encoding="utf-8")
        name = json.loads(text)["script"]
        of_tour = name.isidentifier() and (ROOT / "tour" / f"{name}.py").is_file()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    if of_tour:
        run = shlex.quote(str(path.parent))
        raise InputError(
            f"{path}: is of a run of tour/{name}.py; draw from it with python "
            f"tour/{name}.py --sample {run}"
        )


def newest_model(kind, *, tuned=False):
    """Return the newest run's newest model, or without one what is shipped here.

    kind: 'classifier' or 'generator'. tuned: whether sgan_tuned.py's is preferred to
    the tutorial's among those shipped. Runs are looked for in the current folder: in
    runs/ and, those of compare_labels.py, in runs/compare_labels/. One without a
    classifier is of another kind of GAN, whose own script draws from it. Raises
    InputError where there is none.
    """
    runs = [
        path.parent
        for pattern in ("*/settings.json", "compare_labels/*/settings.json")
        for path in Path("runs").glob(pattern)
    ]
    runs.sort(key=lambda run: (run / "settings.json").stat().st_mtime, reverse=True)
    shipped = [SHIPPED_RUN, SHIPPED_GENERATOR]
    for run in (*runs, *([SHIPPED_TUNED] if tuned else []), *shipped):
        path = newest_in(run, kind)
        if path is not None and newest_in(run, "classifier") is not None:
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


def load_classifier(path):
    """Load a classifier saved by this collection; no code from the file is run.

    path: a .keras or .h5 file, maybe the tutorial's own .h5 file of Keras 2. Returns
    the Keras model, not compiled: (n, h, w, c) in [-1, 1], c 1 or 3 -> class
    probabilities (n, n_classes), or one more with a last class 'unknown';
    count_classes tells which. Raises InputError for a file that is missing, broken, or
    holds anything else.
    """
    return load_model(path, "classifier")


def matching_names(path, c_model):
    """Return what read_class_names does of the file that c_model was loaded from.

    Raises InputError, too, where there are not as many names as classes.
    """
    names, n_classes = read_class_names(path), count_classes(c_model)
    if names is not None and len(names) != n_classes:
        raise InputError(
            f"{path}: has {len(names)} class names and {n_classes} classes; give a "
            "c_model saved by sgan_mnist.py"
        )
    return names


def load_named_classifier(path):
    """Return the classifier in a file and its classes' names; without, their numbers.

    The names are a list of str. Raises InputError as load_classifier and
    matching_names do.
    """
    c_model = load_classifier(path)
    names = matching_names(path, c_model)
    return c_model, names or [*map(str, range(count_classes(c_model)))]


def load_generator(path):
    """Load a generator saved by this collection; no code from the file is run.

    path: a .keras or .h5 file, maybe the tutorial's own .h5 file of Keras 2. Returns
    the Keras model, not compiled: (n, latent_dim) -> images (n, h, w, c) in [-1, 1],
    c being 1 or 3. Raises InputError for a file that is missing, broken, or holds
    anything else.
    """
    return load_model(path, "generator")


def load_model(path, kind):
    """Load a model of a kind, 'classifier' or 'generator', after it was checked."""
    path = Path(path)
    config = read_config(path, kind)
    of_keras_2 = path.suffix == ".h5" and is_of_keras_2(config)
    if of_keras_2:
        if path.name.endswith(WEIGHTS_SUFFIX):
            raise InputError(
                f"{path}: a model of Keras 2, whose name must not end in "
                f"{WEIGHTS_SUFFIX}; copy it to a name that ends in .h5 alone"
            )
        try:
            config = translate(config)
        except Exception as error:  # of any origin, it may hold anything anywhere
            raise InputError(
                f"{path}: its layers can't be read; {remedy_for(kind)}"
            ) from error
    check_input_shape(path, config, kind)
    check_classes(path, config, kind)
    check_layers(path, config)
    try:
        if of_keras_2:
            # what was checked is what is built
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            model.load_weights(path)
        else:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        # what can be built can still fail when it computes
        point = np.zeros((1, *model.input_shape[1:]), np.float32)
        # Keras warns where a list of one input is expected and no list is given
        model([point] if isinstance(model.input, list) else point)
    except Exception as error:  # a broken file can fail anywhere in Keras
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: can't be loaded ({reason}); is the file whole?"
        ) from error
    check_output_shape(path, model, kind)
    model.jit_compile = False
    return model


def read_config(path, kind):
    """Return the configuration of the model in a .keras or .h5 file, a dict."""
    remedy = remedy_for(kind)
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
                if "model_config" not in file.attrs and _holds_weights(path, file):
                    raise InputError(f"{path}: holds weights alone, no model; {remedy}")
                text = file.attrs["model_config"]
        if len(text) > LARGEST_CONFIG:
            raise ValueError("configuration of more than 1 MiB")
        config = json.loads(text)
        # what the optimizer was is not looked at when a model is loaded for use
        config.pop("compile_config", None)
        config["config"]["layers"][0]["class_name"]
        config["config"]["layers"][0]["config"].keys()
    except InputError:
        raise
    except Exception as error:  # a broken file can fail anywhere in its library
        raise InputError(f"{path}: not a whole Keras model; {remedy}") from error
    return config


def _holds_weights(path, file):
    # Keras 3 saves weights under no other name; Keras 2 lists their layers
    return path.name.endswith(WEIGHTS_SUFFIX) or "layer_names" in file.attrs


def remedy_for(kind):
    return f"give a {PREFIXES[kind]} saved by sgan_mnist.py, .keras or .h5"
