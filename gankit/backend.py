"""Libraries that are imported when first used, Keras with its own defaults.

Take keras, layers and tf from here, before anything else imports TensorFlow: the first
use of one of them chooses oneDNN and sets Keras up, whatever the user's keras.json and
environment say.
"""

import contextlib
import functools
import importlib
import logging
import os
import platform
import sys

from gankit.command import InputError

ONEDNN_PRECISION = (
    "TF_SET_ONEDNN_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)


class LazyModule:
    """Stands for a module that is imported when first used.

    TensorFlow takes seconds to import and writes log lines to stderr as it starts:
    --help and the checks of a script's input need not wait for it.
    """

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        library = self._name.partition(".")[0]
        if library in ("keras", "tensorflow"):
            prepare_keras()
        elif library == "matplotlib":
            prepare_matplotlib()
        return getattr(importlib.import_module(self._name), attribute)


@functools.cache
def prepare_keras():
    """Import TensorFlow and Keras, once, as these networks need them.

    TensorFlow takes oneDNN on x86, unless TF_ENABLE_ONEDNN_OPTS says else, and computes
    float32 in no lower precision. Keras computes with TensorFlow, in float32, on images
    whose channels come last, without a limit of epochs or steps. A keras.json or an
    environment variable that says otherwise would change every network and its
    training. This holds for the process, and so for the models that a notebook builds
    beside ours; the file stays as it is. A dtype policy that code sets, before or
    later, is kept.

    Raises InputError where Keras runs already on another backend, or can't be imported
    since its settings are broken.
    """
    # TensorFlow takes it by itself only where the CPU has AVX-512 VNNI or the like;
    # with AVX2 alone it is quicker, too
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    for name in ONEDNN_PRECISION:
        os.environ.pop(name, None)
    if "keras" not in sys.modules:
        prepare_matplotlib()  # which Keras imports
        # TensorFlow, too, imports Keras
        os.environ["KERAS_BACKEND"] = "tensorflow"
        os.environ["KERAS_NNX_ENABLED"] = "0"  # its import fails without JAX's flax
        for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"):
            os.environ.pop(name, None)
    try:
        config = importlib.import_module("keras").config
    except (AttributeError, OSError, TypeError, ValueError) as error:
        home = os.environ.get("KERAS_HOME", "~/.keras")
        raise InputError(
            f"{home}/keras.json: Keras can't be imported with it ({error}); mend it, "
            "or set KERAS_HOME to another folder"
        ) from error
    if config.backend() != "tensorflow":
        raise InputError(
            f"Keras runs on {config.backend()} here, these networks on TensorFlow; set "
            "KERAS_BACKEND=tensorflow before Keras is imported"
        )
    if config.dtype_policy().name == config.floatx():  # no code has set another
        config.set_dtype_policy("float32")
    config.set_floatx("float32")
    config.set_epsilon(1e-7)
    config.set_image_data_format("channels_last")
    config.set_max_epochs(None)
    config.set_max_steps_per_epoch(None)


@functools.cache
def prepare_matplotlib():
    """Import Matplotlib, once, whatever MPLBACKEND says.

    Its import fails where that names a backend that this Matplotlib lacks, as Qt4Agg;
    figures that are written to files need none. Raises InputError where a matplotlibrc
    can't be read as text.
    """
    if "matplotlib" in sys.modules:
        return
    name = os.environ.pop("MPLBACKEND", None)
    paths = []

    def note(record):
        """Keep the file's path, which only a line of the log has, and drop the line."""
        if not str(record.msg).startswith("Cannot decode configuration file"):
            return True
        paths.extend(record.args)
        return False

    log = logging.getLogger("matplotlib")
    log.addFilter(note)
    try:
        matplotlib = importlib.import_module("matplotlib")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{paths[0] if paths else 'matplotlibrc'}: Matplotlib can't be imported "
            "with it, which is no text in UTF-8; save it as such, or rename it"
        ) from error
    finally:
        log.removeFilter(note)
        if name is not None:
            os.environ["MPLBACKEND"] = name
    if name is not None:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = name  # a notebook's pyplot needs it


keras = LazyModule("keras")
layers = LazyModule("keras.layers")
tf = LazyModule("tensorflow")
h5py = LazyModule("h5py")
figure = LazyModule("matplotlib.figure")
Image = LazyModule("PIL.Image")
ImageOps = LazyModule("PIL.ImageOps")
