"""Load a saved classifier; measure its accuracy on MNIST or images of one's own.

    python load_classifier.py                    # the newest run's newest classifier
    python load_classifier.py runs/FOLDER/c_model_7200.keras
    python load_classifier.py --report           # by class, confusions, mistakes
    python load_classifier.py --data FOLDER      # what the classifier was trained on
    python load_classifier.py --predict a.png photos/    # the class of each image

A model file is read as data: before anything is built, its layers are compared with
those that the classifiers of this collection use, and any other is refused.
"""

import sys
from pathlib import Path

import numpy as np

from gankit.backend import figure
from gankit.command import InputError, OneLineParser, printable, run_script
from gankit.data.arrays import LARGEST_SIDE
from gankit.data.labels import describe_labelled
from gankit.data.load import load_arrays
from gankit.folders import dated_folder, new_folder, write_atomically
from gankit.models.classify import class_probabilities, count_classes, measure_accuracy
from gankit.models.files import (
    load_checked,
    newest_model,
    read_class_names,
    read_config,
)
from gankit.models.predictions import list_images, predict_images
from gankit.models.untrusted import check_classes, check_layers
from gankit.pictures import count_confusions, draw_confusions
from gankit.training.settings import add_data_options

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


def newest_classifier():
    """Return the newest run's newest classifier, or the one that is shipped here."""
    return newest_model("classifier")


def load_classifier(path):
    """Load a classifier saved by this collection; no code from the file is run.

    path: a .keras or .h5 file. Returns the Keras model, not compiled:
    (n, h, w, c) in [-1, 1], c 1 or 3 -> class probabilities (n, n_classes), or one more
    with a last class 'unknown'; count_classes tells which. Raises
    InputError for a file that is missing, broken, or holds anything else.
    """
    path = Path(path)
    config = read_config(path)
    check_input_shape(path, config)
    check_classes(path, config, ALLOWED, "classifier")
    check_layers(path, config)
    model = load_checked(path)
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] < 2:
        raise InputError(
            f"{path}: its output has shape {shape}, not (None, classes); give a "
            "c_model saved by sgan_mnist.py"
        )
    return model


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


def check_names(path, c_model, class_names):
    """Raise InputError unless there are as many class names as classes, or none."""
    n_classes = count_classes(c_model)
    if class_names is not None and len(class_names) != n_classes:
        raise InputError(
            f"{path}: has {len(class_names)} class names and {n_classes} classes; give "
            "a c_model saved by sgan_mnist.py"
        )


def check_fit(path, c_model, class_names, data):
    """Raise InputError where a classifier is not one for the images of `data`."""
    n_classes, shape = count_classes(c_model), c_model.input_shape[1:]
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
    n_classes = count_classes(c_model)
    names = class_names or list(map(str, range(n_classes)))
    probabilities = class_probabilities(c_model, X, n_classes=n_classes)
    predicted = probabilities.argmax(axis=-1)
    confusion = count_confusions(y, predicted, n_classes)
    width = max(map(len, ("Class", *names)))
    print(f"{'Class':{width}}  Images  Right  Accuracy")
    for label, row in enumerate(confusion):
        # a class without test images has no accuracy
        accuracy = f"{100 * row[label] / row.sum():7.2f}%" if row.sum() else "      -"
        print(f"{names[label]:>{width}}  {row.sum():6}  {row[label]:5}  {accuracy}")

    save_figure(draw_confusions(confusion, class_names), out / "confusion.png")

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
        n_classes=count_classes(c_model),
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
    n_classes = count_classes(c_model)
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
