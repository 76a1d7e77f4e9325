"""What one run is: its seed, data, folder and record."""

import hashlib
import platform

import numpy as np

from gankit.backend import keras, tf
from gankit.data.load import load_arrays
from gankit.folders import dated_folder, new_folder


def draw_seed():
    return int(np.random.SeedSequence().generate_state(1)[0] >> 1)


def load_data(args, options):
    """Return the data set, as datasets.Data, and print its training arrays' shapes."""
    data = load_arrays(args.data or options["data"], options["image_size"])
    X, y = data.train
    print(X.shape, y.shape)
    return data


def open_run(args, options, name):
    """Return the run's folder, which is made where it is a new one.

    Prints the seed where it was drawn.
    """
    out = getattr(args, "resume", None)
    if out is None:
        out = new_folder(args.out or dated_folder("runs", name))
    if args.seed is None:
        print(f"seed={options['seed']}")
    return out


def describe_settings(
    options,
    dataset,
    test_dataset,
    labelled,
    *,
    seed,
    n_batch,
    jit,
    n_parts,
    class_names=None,
):
    """Return what settings.json holds: all that a run depends on, and the versions."""
    settings = {
        "options": options or {},
        "seed": seed,
        "n_batch": n_batch,
        "jit": jit,
        "n_parts": n_parts,
        "versions": versions(),
        "image_shape": list(dataset[0].shape[1:]),
        "data_sha256": digest_of(dataset, test_dataset),
        "labelled_images": labelled.tolist(),
    }
    if class_names is not None:
        settings["class_names"] = class_names
    return settings


def digest_of(*datasets):
    """Return the SHA-256 of the arrays in these data sets, None left out."""
    digest = hashlib.sha256()
    for array in (a for dataset in datasets if dataset for a in dataset):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def versions():
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
    }
