"""Load a saved classifier; measure its accuracy on MNIST, or classify images.

    python load_classifier.py                    # the newest run's newest classifier
    python load_classifier.py runs/FOLDER/c_model_7200.keras
    python load_classifier.py --report           # by class, confusions, mistakes
    python load_classifier.py --predict a.png photos/    # the class of each image

A model file is read as data: before anything is built, its layers are compared with
those that the classifiers of this collection use, and any other is refused.
"""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

from helpers import (
    IMAGE_SHAPE,
    N_CLASSES,
    InputError,
    LazyModule,
    OneLineParser,
    class_probabilities,
    dated_folder,
    load_arrays,
    measure_accuracy,
    new_folder,
    printable,
    run_script,
    scale_images,
    write_atomically,
)
from predictions import list_images, predict_images
from untrusted import check_container, check_layers

keras = LazyModule("keras")
h5py = LazyModule("h5py")
figure = LazyModule("matplotlib.figure")

SHIPPED_RUN = Path(__file__).resolve().parent / "results" / "sgan_mnist"
SUFFIXES = (".keras", ".h5")
# the classes that a classifier's configuration may name, and their modules
ALLOWED = {
    "Functional": "keras.src.models.functional",
    "InputLayer": "keras.layers",
    "Conv2D": "keras.layers",
    "LeakyReLU": "keras.layers",
    "Flatten": "keras.layers",
    "Dropout": "keras.layers",
    "Dense": "keras.layers",
    "Activation": "keras.layers",
    "MaxPooling2D": "keras.layers",
    "GlorotUniform": "keras.initializers",
    "HeNormal": "keras.initializers",
    "Zeros": "keras.initializers",
    "DTypePolicy": "keras",
    "__keras_tensor__": None,
}
LARGEST_CONFIG = 1 << 20


def newest_classifier():
    """Return the newest run's newest classifier, or the one that is shipped here."""
    runs = [path.parent for path in Path("runs").glob("*/settings.json")]
    runs.sort(key=lambda run: (run / "settings.json").stat().st_mtime, reverse=True)
    for run in (*runs, SHIPPED_RUN):
        models = [
            path
            for path in run.glob("c_model_*")
            if path.suffix in SUFFIXES and step_of(path) >= 0
        ]
        if models:
            return max(models, key=step_of)
    raise InputError("runs: holds no classifier; train one with sgan_mnist.py")


def step_of(path):
    digits = path.stem.removeprefix("c_model_")
    return int(digits) if digits.isdecimal() else -1


def load_classifier(path):
    """Load a classifier saved by this collection; no code from the file is run.

    path: a .keras or .h5 file. Returns the Keras model, not compiled:
    (n, 28, 28, 1) in [-1, 1] -> class probabilities (n, 10), or (n, 11) with a last
    class 'unknown'. Raises InputError for a file that is missing, broken, or holds
    anything else.
    """
    path = Path(path)
    config = read_config(path)
    check_input_shape(path, config)
    check_classes(path, config)
    check_layers(path, config)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a broken file can fail anywhere in Keras
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: can't be loaded ({reason}); is the file whole?"
        ) from error
    if model.output_shape not in [(None, N_CLASSES), (None, N_CLASSES + 1)]:
        raise InputError(
            f"{path}: its output has shape {model.output_shape}, not (None, "
            f"{N_CLASSES}); give a c_model saved by sgan_mnist.py"
        )
    model.jit_compile = False
    return model


def read_config(path):
    """Return the configuration of the model in a .keras or .h5 file, a dict."""
    remedy = "give a c_model saved by sgan_mnist.py, .keras or .h5"
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


def check_input_shape(path, config):
    """Raise InputError unless the model takes one batch of images."""
    try:
        inputs = [
            layer["config"]["batch_shape"]
            for layer in config["config"]["layers"]
            if layer["class_name"] == "InputLayer"
        ]
        shape = tuple(inputs[0][1:])
    except (LookupError, TypeError) as error:
        raise InputError(
            f"{path}: does not say what it takes; give a c_model saved by sgan_mnist.py"
        ) from error
    if len(inputs) == 1 and shape == IMAGE_SHAPE:
        return
    if len(shape) == 1:
        raise InputError(
            f"{path}: takes latent points, {shape}, so it is a generator; "
            "give the c_model beside it"
        )
    raise InputError(f"{path}: takes inputs of shape {shape}, not {IMAGE_SHAPE}")


def check_classes(path, config):
    """Raise InputError where the configuration names a class that is not ALLOWED."""
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
        allowed = (
            isinstance(name, str)
            and name in ALLOWED
            and node.get("module") in (None, ALLOWED[name])
            and node.get("registered_name") in (None, name)
        )
        if not allowed:
            raise InputError(
                f"{path}: holds {str(name)[:60]!r} of module "
                f"{str(node.get('module'))[:60]!r}, which is no part of a classifier; "
                "give a c_model saved by sgan_mnist.py"
            )


def write_report(c_model, X, y, out):
    """Print accuracy by class; draw confusions and the most confident mistakes."""
    probabilities = class_probabilities(c_model, X)
    predicted = probabilities.argmax(axis=-1)
    confusion = np.zeros((N_CLASSES, N_CLASSES), int)
    np.add.at(confusion, (y, predicted), 1)
    print("Class  Images  Right  Accuracy")
    for label, row in enumerate(confusion):
        # a class without test images has no accuracy
        accuracy = f"{100 * row[label] / row.sum():7.2f}%" if row.sum() else "      -"
        print(f"{label:5}  {row.sum():6}  {row[label]:5}  {accuracy}")

    fig = figure.Figure(figsize=(6, 6), layout="constrained")
    axes = fig.subplots()
    axes.imshow(np.sqrt(confusion), cmap="Blues")
    for (i, j), count in np.ndenumerate(confusion):
        if count:
            colour = "white" if i == j else "black"
            axes.text(j, i, count, ha="center", va="center", color=colour, fontsize=8)
    ticks = range(N_CLASSES)
    axes.set(xlabel="predicted", ylabel="true", xticks=ticks, yticks=ticks)
    save_figure(fig, out / "confusion.png")

    confidence = probabilities.max(axis=-1)
    mistakes = np.flatnonzero(predicted != y)
    mistakes = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:25]
    fig = figure.Figure(figsize=(7, 8), layout="constrained")
    fig.suptitle("Most confident mistakes: true → predicted, probability")
    for i, axes in enumerate(fig.subplots(5, 5).flat):
        axes.axis("off")
        if i < len(mistakes):
            k = mistakes[i]
            axes.imshow(X[k, ..., 0], cmap="gray_r")
            axes.set_title(
                f"{y[k]} → {predicted[k]}, {100 * confidence[k]:.1f}%", fontsize=8
            )
    save_figure(fig, out / "mistakes.png")


def save_figure(fig, path):
    with write_atomically(path) as temporary:
        fig.savefig(temporary, dpi=120)
    print(f">Saved: {path}")


def read_class_names(path):
    """Return the class names in a checked model file, a list of str, or None.

    They are a JSON list: member class_names.json of a .keras file, attribute
    class_names of an .h5 file. Raises InputError where they are anything else.
    """
    path = Path(path)
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                if "class_names.json" not in archive.namelist():
                    return None
                with archive.open("class_names.json") as file:
                    text = file.read(LARGEST_CONFIG + 1)
        else:
            with h5py.File(path, "r") as file:
                if "class_names" not in file.attrs:
                    return None
                text = file.attrs["class_names"]
        names = json.loads(text) if len(text) <= LARGEST_CONFIG else None
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ValueError("not a short list of texts")
    except Exception as error:  # a broken file can fail anywhere
        raise InputError(
            f"{path}: its class names can't be read; save the classifier anew"
        ) from error
    return names


def predict(args):
    for option in ("data", "report", "out"):
        if getattr(args, option):
            raise InputError(f"--{option}: is no use with --predict; leave one out")
    # what is missing shows before TensorFlow starts
    files = list_images(args.predict)
    path = args.model
    if path is None:
        path = newest_classifier()
        print(f"Classifier: {printable(path)}", file=sys.stderr)
    c_model = load_classifier(path)
    class_names = read_class_names(path)
    n_outputs = c_model.output_shape[-1]
    # an output more is that of the class 'unknown'
    if class_names and n_outputs - len(class_names) not in (0, 1):
        raise InputError(
            f"{path}: has {len(class_names)} class names for {n_outputs} outputs; "
            "save the classifier anew"
        )
    predict_images(
        c_model,
        files,
        class_names=class_names,
        form=args.form,
        invert=args.invert or "no",
    )


def run(args):
    if args.predict:
        return predict(args)
    for option in ("form", "invert"):
        if getattr(args, option):
            name = getattr(args, option) if option == "form" else option
            raise InputError(f"--{name}: is for --predict; give both")
    path = args.model
    if path is None:
        path = newest_classifier()
        print(f"Classifier: {path}")
    if args.out and not args.report:
        raise InputError("--out: is for the figures of --report; give both")
    # the file is checked before TensorFlow starts and before the data are read
    c_model = load_classifier(path)
    train, test = load_arrays(args.data)
    out = None
    if args.report:
        out = new_folder(args.out or dated_folder("reports", "load_classifier"))
    for name, (x, y) in (("Train", train), ("Test", test)):
        print(
            f"{name} Accuracy: {measure_accuracy(c_model, x[..., np.newaxis], y):.3f}%"
        )
    if args.report:
        write_report(c_model, scale_images(test[0]), test[1], out)


def main(argv=None):
    parser = OneLineParser(
        description="Load a saved classifier; measure its accuracy on MNIST, or "
        "classify images with --predict."
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help=".keras or .h5 file (default: the newest run's newest classifier)",
    )
    parser.add_argument(
        "--data", metavar="FILE", help=".npz file (default: the bundled MNIST)"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="print accuracy by class, draw confusions and mistakes on the test images",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="new folder of the report's figures (default: reports/<date>-<time>-...)",
    )
    parser.add_argument(
        "--predict",
        metavar="PATH",
        nargs="+",
        help="print the class of images, PNG or JPEG: files, folders (with all in "
        "them), or patterns; give MODEL first. The exit status is 1 where some "
        "couldn't be read",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        dest="form",
        action="store_const",
        const="json",
        help="with --predict: print JSON, an object a line, with the probabilities of "
        "all classes and the files' exact names; stdout holds nothing else",
    )
    form.add_argument(
        "--csv",
        dest="form",
        action="store_const",
        const="csv",
        help="with --predict: print CSV with a header, and nothing else on stdout; "
        "what can't be printed in a name is escaped",
    )
    parser.add_argument(
        "--invert",
        choices=("no", "yes", "auto"),
        help="with --predict: classify the negatives of the images. MNIST's digits are "
        "light on dark, on paper they are dark on light; auto turns those round that "
        "are brighter at the border than within, which is right for drawings and "
        "wrong for photographs (default: no, the images as they are)",
    )
    args = parser.parse_args(argv)
    return run_script("load_classifier.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
