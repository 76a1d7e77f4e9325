"""Libraries that are imported when first used."""

import importlib
import os
import platform


class LazyModule:
    """Stands for a module that is imported when first used.

    TensorFlow takes seconds to import and writes log lines to stderr as it starts:
    --help and the checks of a script's input need not wait for it.
    """

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)


def choose_onednn():
    """Have TensorFlow compute with oneDNN on x86, unless the environment says else.

    Call it before TensorFlow is imported, which takes oneDNN by itself only where the
    CPU has AVX-512 VNNI or the like; with AVX2 alone it is quicker, too.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


keras = LazyModule("keras")
layers = LazyModule("keras.layers")
tf = LazyModule("tensorflow")
h5py = LazyModule("h5py")
figure = LazyModule("matplotlib.figure")
Image = LazyModule("PIL.Image")
ImageOps = LazyModule("PIL.ImageOps")
