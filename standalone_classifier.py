"""Train the tutorial's classifier alone, on the labelled images and nothing else.

    python standalone_classifier.py                      # 100 labels, into runs/
    python standalone_classifier.py --labels 20 --seed 1

This is what a semi-supervised GAN must beat: the same network, the same labelled
images for the same seed, the same optimizer, no unlabelled images.
"""

import json
import sys
import time

import numpy as np

import discriminators
from gankit.backend import keras
from gankit.command import OneLineParser, run_script
from gankit.data.images import scale_images
from gankit.data.labels import check_labels, describe_labelled, select_labels
from gankit.folders import locked, write_atomically
from gankit.models.classify import count_classes, measure_accuracy
from gankit.models.files import save_model
from gankit.training.devices import choose_jit, prepare_tensorflow
from gankit.training.records import ACCURACY, write_rows, writing_to
from gankit.training.run import describe_settings, load_data, open_run
from gankit.training.settings import add_options, resolve_options, verbosity

HALF_BATCH = 50
DEFAULTS = {
    "steps": 2000,
    "labels": 100,
    "seed": None,
    "data": None,
    "image_size": None,
    "precision": "float32",
    "jit": "auto",
    "threads": None,
    "max_steps": None,
    "format": "keras",
}


def train(c_model, dataset, labelled, n_steps, rng, *, verbose=0):
    """Fit c_model to the images dataset[0][labelled] in n_steps steps of 50 images.

    dataset: [X, y], X as uint8 in [0, 255]. Batches are drawn with replacement, as an
    SGAN's are; rng: a numpy Generator. Returns accuracy on these images, in percent.
    """
    X, y = scale_images(dataset[0][labelled]), dataset[1][labelled]
    while n_steps > 0:
        n = min(n_steps, 500)
        chosen = rng.integers(0, len(X), n * HALF_BATCH)
        c_model.fit(
            X[chosen], y[chosen], batch_size=HALF_BATCH, shuffle=False, verbose=verbose
        )
        n_steps -= n
    n_classes = count_classes(c_model)
    return measure_accuracy(c_model, X, y, n_classes=n_classes)


def parse_arguments(argv):
    parser = OneLineParser(
        description="Train the tutorial's classifier on the labelled images alone."
    )
    add_options(parser, "epochs", "latent_dim", "resume", "tensorboard")
    parser.add_argument(
        "--steps", type=int, help="steps of 50 labelled images (default: 2000)"
    )
    return parser.parse_args(argv)


def run(args):
    options = resolve_options(args, DEFAULTS, parse_arguments)
    data = load_data(args, options)
    n_classes, names = data.n_classes, data.class_names
    check_labels(data.train[1], options["labels"], n_classes, names)
    out = open_run(args, options, "standalone_classifier")
    seed, n_steps = options["seed"], options["steps"]
    if options["max_steps"] is not None:
        n_steps = min(n_steps, options["max_steps"])

    jit = choose_jit(options["jit"])
    prepare_tensorflow(options["precision"], options["threads"])
    keras.utils.set_random_seed(seed)
    _, c_model = discriminators.define_stacked_discriminators(
        data.image_shape, n_classes
    )
    c_model.jit_compile = jit
    rng = np.random.default_rng(seed)
    labelled = select_labels(
        data.train[1], options["labels"], n_classes, rng, class_names=names
    )
    settings = describe_settings(
        options,
        data.train,
        data.test,
        labelled,
        seed=seed,
        n_batch=2 * HALF_BATCH,
        jit=jit,
        n_parts=1,
        class_names=names,
    )
    started = time.perf_counter()
    with locked(out), writing_to(out, "Make room and start again"):
        with write_atomically(out / "settings.json") as path:
            path.write_text(json.dumps(settings, indent=1) + "\n")
        labelled_acc = train(
            c_model, data.train, labelled, n_steps, rng, verbose=min(1, verbosity(args))
        )
        train_acc, test_acc = (
            samples
            and f"{measure_accuracy(c_model, *samples, n_classes=n_classes):.3f}"
            for samples in (data.train, data.test)
        )
        save_model(c_model, out / f"c_model_{n_steps:04d}.{options['format']}", names)
        seconds = f"{time.perf_counter() - started:.1f}"
        row = ["", n_steps, train_acc, test_acc, f"{100 - labelled_acc:.3f}", seconds]
        write_rows(out / "accuracy.csv", [ACCURACY, row])
    print(f"Train Accuracy: {train_acc}%{describe_labelled(data.train[1])}")
    if test_acc:
        print(f"Test Accuracy: {test_acc}%")
    print(f"The run is in {out}")


def main(argv=None):
    return run_script("standalone_classifier.py", lambda: run(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
