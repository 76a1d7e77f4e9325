"""Load a saved classifier and measure its accuracy on MNIST.

    python load_classifier.py                    # the newest run's newest classifier
    python load_classifier.py runs/FOLDER/c_model_7200.keras
    python load_classifier.py --report           # by class, confusions, mistakes

A model file is read as data: before anything is built, its layers are compared with
those that the classifiers of this collection use, and any other is refused.
"""

import sys
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
    run_script,
    scale_images,
    write_atomically,
)
from model_files import (
    SHIPPED_RUN,  # noqa: F401
    check_classes,
    load_checked,
    newest_model,
    read_config,
)

keras = LazyModule("keras")
figure = LazyModule("matplotlib.figure")

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
    (n, 28, 28, 1) in [-1, 1] -> class probabilities (n, 10), or (n, 11) with a last
    class 'unknown'. Raises InputError for a file that is missing, broken, or holds
    anything else.
    """
    path = Path(path)
    config = read_config(path)
    check_input_shape(path, config)
    check_classes(path, config, ALLOWED, "classifier")
    model = load_checked(path)
    if model.output_shape not in [(None, N_CLASSES), (None, N_CLASSES + 1)]:
        raise InputError(
            f"{path}: its output has shape {model.output_shape}, not (None, "
            f"{N_CLASSES}); give a c_model saved by sgan_mnist.py"
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
    if len(inputs) == 1 and shape == IMAGE_SHAPE:
        return
    if len(shape) == 1:
        raise InputError(
            f"{path}: takes latent points, {shape}, so it is a generator; "
            "give the c_model beside it"
        )
    raise InputError(f"{path}: takes inputs of shape {shape}, not {IMAGE_SHAPE}")


def write_report(c_model, X, y, out):
    """Print accuracy by class; draw confusions and the most confident mistakes."""
    probabilities = class_probabilities(c_model, X)
    predicted = probabilities.argmax(axis=-1)
    confusion = count_confusions(y, predicted, N_CLASSES)
    print("Class  Images  Right  Accuracy")
    for label, row in enumerate(confusion):
        # a class without test images has no accuracy
        accuracy = f"{100 * row[label] / row.sum():7.2f}%" if row.sum() else "      -"
        print(f"{label:5}  {row.sum():6}  {row[label]:5}  {accuracy}")

    save_figure(draw_confusions(confusion), out / "confusion.png")

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


def count_confusions(y, predicted, n_classes):
    """Return int (n_classes, n_classes): images by true class and by predicted one."""
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (y, predicted), 1)
    return confusion


def draw_confusions(confusion):
    """Return a figure of what count_confusions has counted."""
    fig = figure.Figure(figsize=(6, 6), layout="constrained")
    axes = fig.subplots()
    axes.imshow(np.sqrt(confusion), cmap="Blues")
    for (i, j), count in np.ndenumerate(confusion):
        if count:
            colour = "white" if i == j else "black"
            axes.text(j, i, count, ha="center", va="center", color=colour, fontsize=8)
    ticks = range(len(confusion))
    axes.set(xlabel="predicted", ylabel="true", xticks=ticks, yticks=ticks)
    return fig


def save_figure(fig, path):
    with write_atomically(path) as temporary:
        fig.savefig(temporary, dpi=120)
    print(f">Saved: {path}")


def run(args):
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
        description="Load a saved classifier and measure its accuracy on MNIST."
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
    args = parser.parse_args(argv)
    return run_script("load_classifier.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
