"""Load a saved classifier; measure its accuracy on MNIST or images of one's own.

    python load_classifier.py                    # the newest run's newest classifier
    python load_classifier.py runs/FOLDER        # or a file, c_model_7200.keras
    python load_classifier.py --report           # by class, confusions, mistakes
    python load_classifier.py --data FOLDER      # what the classifier was trained on
    python load_classifier.py --predict a.png photos/    # the class of each image

A model file is read as data: before anything is built, its layers are compared with
those that the classifiers of this collection use, and any other is refused. The
tutorial's own files, saved by Keras 2 as .h5, are read too.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np

from gankit.command import InputError, OneLineParser, printable, run_script
from gankit.data.labels import describe_labelled
from gankit.data.load import load_arrays
from gankit.folders import claimed, dated_folder
from gankit.models.classify import (
    check_fit,
    class_probabilities,
    count_classes,
    measure_accuracy,
)
from gankit.models.digits import choose_digit
from gankit.models.files import find_model, load_classifier, matching_names
from gankit.models.predictions import list_images, predict_images
from gankit.pictures import (
    count_confusions,
    draw_confusions,
    draw_mistakes,
    save_figure,
)
from gankit.training.settings import DataSettings, add_options


def write_report(c_model, X, y, out, class_names=None):
    """Print accuracy by class; draw confusions and the most confident mistakes.

    X: (n, h, w, c), uint8 in [0, 255]; y: (n,), -1 for an image without label, which
    is left out.
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
    print(f">Saved: {out / 'confusion.png'}")
    mistakes = np.flatnonzero((predicted != y) & (y >= 0))
    confidence = probabilities.max(axis=-1)
    mistakes = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:25]
    answers = [(y[k], predicted[k], confidence[k]) for k in mistakes]
    fig = draw_mistakes(X[mistakes], answers, names)
    save_figure(fig, out / "mistakes.png")
    print(f">Saved: {out / 'mistakes.png'}")


def predict(args):
    for option in ("data", "image_size", "report", "out"):
        if getattr(args, option):
            name = option.replace("_", "-")
            raise InputError(f"--{name}: is no use with --predict; leave one out")
    # what is missing shows before TensorFlow starts
    files = list_images(args.predict)
    path = find_model(args.model, "classifier", tuned=True)
    if path != Path(args.model or ""):
        print(f"Classifier: {printable(path)}", file=sys.stderr)
    c_model = load_classifier(path)
    class_names = matching_names(path, c_model)
    predict_images(
        c_model,
        files,
        n_classes=count_classes(c_model),
        class_names=class_names,
        form=args.form,
        invert=args.invert or "no",
        digit=choose_digit(args.digit or "auto", path, c_model, class_names),
    )


def run(args):
    if args.predict:
        return predict(args)
    for option in ("form", "invert", "digit"):
        if getattr(args, option):
            name = getattr(args, option) if option == "form" else option
            raise InputError(f"--{name}: is for --predict; give both")
    path = find_model(args.model, "classifier")
    if path != Path(args.model or ""):
        print(f"Classifier: {path}")
    if args.out and not args.report:
        raise InputError("--out: is for the figures of --report; give both")
    # the file is checked before TensorFlow starts and before the data are read
    c_model = load_classifier(path)
    class_names = matching_names(path, c_model)
    data = load_arrays(args.data, args.image_size)
    check_fit(path, c_model, class_names, data)
    parts = [("Train", data.train), ("Test", data.test)]
    parts = [(name, *part) for name, part in parts if part and part[1].max() >= 0]
    if not parts:
        raise InputError(f"{args.data}: has no labels to measure accuracy by; add some")
    if args.report and data.test is None:
        raise InputError(f"{args.data}: has no test images, which --report is about")
    folder = contextlib.nullcontext()
    if args.report:
        folder = claimed(args.out or dated_folder("reports", "load_classifier"))
    n_classes = count_classes(c_model)
    with folder as out:
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
        help=".keras or .h5 file, or a run's folder, whose newest classifier is meant "
        "(default: the newest run's, else one that is shipped here)",
    )
    add_options(parser, DataSettings, "data", "image_size")
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
    parser.add_argument(
        "--digit",
        choices=("auto", "yes", "no"),
        help="with --predict: look for a drawn digit, dark on light or light on dark, "
        "and classify it as MNIST has them, in a box of 20x20 pixels with its centre "
        "of mass in the middle; auto: only where the classifier was trained on MNIST "
        "and the image, larger than 28x28 pixels, is for the most part of one grey "
        "(default: auto)",
    )
    args = parser.parse_args(argv)
    return run_script("load_classifier.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
