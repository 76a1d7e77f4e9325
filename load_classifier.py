"""Load a saved classifier; measure its accuracy on MNIST or images of one's own.

    python load_classifier.py                    # the newest run's newest classifier
    python load_classifier.py runs/FOLDER/c_model_7200.keras
    python load_classifier.py --report           # by class, confusions, mistakes
    python load_classifier.py --data FOLDER      # what the classifier was trained on
    python load_classifier.py --predict a.png photos/    # the class of each image

A model file is read as data: before anything is built, its layers are compared with
those that the classifiers of this collection use, and any other is refused.
"""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

from datasets import LARGEST_SIDE, load_arrays
from helpers import (
    InputError,
    LazyModule,
    OneLineParser,
    class_probabilities,
    dated_folder,
    describe_labelled,
    measure_accuracy,
    new_folder,
    printable,
    run_script,
    write_atomically,
)
from predictions import list_images, predict_images
from run_folder import read_class_names
from training_run import add_data_options
from untrusted import check_container, check_layers

discriminators = LazyModule("discriminators")
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
    "GlobalAveragePooling2D": "keras.layers",
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
    (n, h, w, c) in [-1, 1], c 1 or 3 -> class probabilities (n, n_classes), or one more
    with a last class 'unknown'; discriminators.count_classes tells which. Raises
    InputError for a file that is missing, broken, or holds anything else.
    """
    path = Path(path)
    config = read_config(path)
    check_input_shape(path, config)
    check_classes(path, config)
    check_layers(path, config)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        # what can be built can still fail when it computes
        model(np.zeros((1, *model.input_shape[1:]), np.float32))
    except Exception as error:  # a broken file can fail anywhere in Keras
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: can't be loaded ({reason}); is the file whole?"
        ) from error
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] < 2:
        raise InputError(
            f"{path}: its output has shape {shape}, not (None, classes); give a "
            "c_model saved by sgan_mnist.py"
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
    if (
        len(inputs) == 1
        and len(shape) == 3
        and all(isinstance(size, int) and 0 < size <= LARGEST_SIDE for size in shape)
        and shape[2] in (1, 3)
    ):
        return
    if len(shape) == 1:
        raise InputError(
            f"{path}: takes latent points, {shape}, so it is a generator; "
            "give the c_model beside it"
        )
    raise InputError(
        f"{path}: takes inputs of shape {shape}, not images of 1 or 3 channels; give a "
        "c_model saved by sgan_mnist.py"
    )


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


def check_names(path, c_model, class_names):
    """Raise InputError unless there are as many class names as classes, or none."""
    n_classes = discriminators.count_classes(c_model)
    if class_names is not None and len(class_names) != n_classes:
        raise InputError(
            f"{path}: has {len(class_names)} class names and {n_classes} classes; give "
            "a c_model saved by sgan_mnist.py"
        )


def check_fit(path, c_model, class_names, data):
    """Raise InputError where a classifier is not one for the images of `data`."""
    n_classes, shape = discriminators.count_classes(c_model), c_model.input_shape[1:]
    names = ", ".join(class_names or [])[:200]
    remedy = "name with --data what it was trained on"
    if shape != data.image_shape:
        sizes = ("x".join(map(str, size)) for size in (shape, data.image_shape))
        raise InputError(
            "{}: takes images of {}, and the data's are {} (height x width x channels);"
            " {}, and its --image-size".format(path, *sizes, remedy)
        )
    if class_names and data.class_names and class_names != data.class_names:
        raise InputError(
            f"{path}: tells {names} apart, and the data's classes are "
            f"{', '.join(data.class_names)[:200]}; {remedy}"
        )
    # without names, labels may lack the last classes
    fewest = 1 if data.class_names is None else n_classes
    if not fewest <= data.n_classes <= n_classes:
        raise InputError(
            f"{path}: tells {n_classes} classes apart, and the data have "
            f"{data.n_classes}; {remedy}"
        )


def write_report(c_model, X, y, out, class_names=None):
    """Print accuracy by class; draw confusions and the most confident mistakes.

    X: (n, h, w, c), uint8 in [0, 255]; y: (n,).
    """
    n_classes = discriminators.count_classes(c_model)
    names = class_names or list(map(str, range(n_classes)))
    probabilities = class_probabilities(c_model, X, n_classes=n_classes)
    predicted = probabilities.argmax(axis=-1)
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (y, predicted), 1)
    width = max(map(len, ("Class", *names)))
    print(f"{'Class':{width}}  Images  Right  Accuracy")
    for label, row in enumerate(confusion):
        # a class without test images has no accuracy
        accuracy = f"{100 * row[label] / row.sum():7.2f}%" if row.sum() else "      -"
        print(f"{names[label]:>{width}}  {row.sum():6}  {row[label]:5}  {accuracy}")

    fig = figure.Figure(figsize=(6, 6), layout="constrained")
    axes = fig.subplots()
    axes.imshow(np.sqrt(confusion), cmap="Blues")
    for (i, j), count in np.ndenumerate(confusion):
        if count:
            colour = "white" if i == j else "black"
            axes.text(j, i, count, ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(range(n_classes), names, rotation=90 if class_names else 0)
    axes.set_yticks(range(n_classes), names)
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
            axes.imshow(
                X[k].squeeze(axis=-1) if X.shape[3] == 1 else X[k], cmap="gray_r"
            )
            answers = f"{names[y[k]]} → {names[predicted[k]]}"
            axes.set_title(f"{answers}, {100 * confidence[k]:.1f}%", fontsize=8)
    save_figure(fig, out / "mistakes.png")


def save_figure(fig, path):
    with write_atomically(path) as temporary:
        fig.savefig(temporary, dpi=120)
    print(f">Saved: {path}")


def predict(args):
    for option in ("data", "image_size", "report", "out"):
        if getattr(args, option):
            name = option.replace("_", "-")
            raise InputError(f"--{name}: is no use with --predict; leave one out")
    # what is missing shows before TensorFlow starts
    files = list_images(args.predict)
    path = args.model
    if path is None:
        path = newest_classifier()
        print(f"Classifier: {printable(path)}", file=sys.stderr)
    c_model = load_classifier(path)
    class_names = read_class_names(path)
    check_names(path, c_model, class_names)
    predict_images(
        c_model,
        files,
        n_classes=discriminators.count_classes(c_model),
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
    class_names = read_class_names(path)
    data = load_arrays(args.data, args.image_size)
    check_names(path, c_model, class_names)
    check_fit(path, c_model, class_names, data)
    parts = [("Train", data.train), ("Test", data.test)]
    parts = [(name, *part) for name, part in parts if part and part[1].max() >= 0]
    if not parts:
        raise InputError(f"{args.data}: has no labels to measure accuracy by; add some")
    out = None
    if args.report and data.test is None:
        raise InputError(f"{args.data}: has no test images, which --report is about")
    if args.report:
        out = new_folder(args.out or dated_folder("reports", "load_classifier"))
    n_classes = discriminators.count_classes(c_model)
    for name, X, y in parts:
        accuracy = measure_accuracy(c_model, X, y, n_classes=n_classes)
        print(f"{name} Accuracy: {accuracy:.3f}%{describe_labelled(y)}")
    if args.report:
        write_report(c_model, *data.test, out, class_names or data.class_names)


def main(argv=None):
    parser = OneLineParser(
        description="Load a saved classifier and measure its accuracy on MNIST, or on "
        "images of your own; or, with --predict, classify images.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help=".keras or .h5 file (default: the newest run's newest classifier)",
    )
    add_data_options(parser)
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
