"""Train the judge: a classifier of all labelled images, by which the tour measures.

    python tour/judge.py                         # MNIST, into runs/
    python tour/judge.py --data FOLDER           # images of one's own, with labels

The GANs of the tour are measured by what a classifier sees in their images: classes,
and 128 features. The one that is shipped, tour/judge.keras, is that of a run on MNIST
with --seed 1 --threads 2; other images need a judge of their own.
"""

import json
import sys
import time
from dataclasses import dataclass

import metrics
import numpy as np

from gankit.backend import keras, layers
from gankit.command import InputError, run_script
from gankit.data.images import scale_images
from gankit.data.labels import check_labels, describe_labelled
from gankit.data.load import load_arrays
from gankit.folders import write_atomically
from gankit.models.classify import CLASSES
from gankit.models.files import save_model
from gankit.training.records import Records
from gankit.training.run import Run
from gankit.training.settings import TrainingSettings, option

# two convolutions and poolings leave nothing of a smaller one
SMALLEST_SIDE = 12
EVALUATIONS = ("train_accuracy", "test_accuracy")


@dataclass(kw_only=True)
class Settings(TrainingSettings):
    """Train a classifier of all labelled images, by which GANs are judged."""

    epochs: int = option(8, "passes over the labelled images", least=1)
    batch: int = option(128, "images a batch", least=1)


def define_judge(image_shape=(28, 28, 1), n_classes=10):
    """Return the judge, not compiled: (n, h, w, c) in [-1, 1] -> (n, n_classes).

    The outputs are probabilities, float32; the layer 'features' gives (n, 128).
    """
    in_image = keras.Input(shape=image_shape)
    x = layers.Conv2D(32, 3, activation="relu")(in_image)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(
        metrics.N_FEATURES, activation="relu", dtype="float32", name=metrics.FEATURES
    )(x)
    x = layers.Dropout(0.5)(x)
    out = layers.Dense(n_classes, activation="softmax", dtype="float32", name=CLASSES)(
        x
    )
    return keras.Model(in_image, out)


def train(model, dataset, n_steps, n_batch, rng, *, jit=False, verbose=0):
    """Fit a judge to labelled images, [X, y], in n_steps steps of n_batch of them.

    X: uint8 (n, h, w, c). Each epoch goes through all images once, in a new order; its
    last batch may be smaller. rng: a numpy Generator.
    """
    X, y = dataset
    # the model itself stays without the optimizer, which its file need not keep
    trained = keras.Model(model.inputs, model.outputs)
    trained.compile(
        "adam",
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=jit,
    )
    while n_steps > 0:
        order = rng.permutation(len(X))[: n_steps * n_batch]
        n_steps -= -(-len(order) // n_batch)
        for first in range(0, len(order), 500 * n_batch):
            chosen = order[first : first + 500 * n_batch]
            trained.fit(
                scale_images(X[chosen]),
                y[chosen],
                batch_size=n_batch,
                shuffle=False,
                verbose=verbose,
            )


def check_data(data):
    """Return the labelled images, [X, y]; raise InputError where no judge can be."""
    X, y = data.train
    height, width = data.image_shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"images of {height}x{width}: a judge takes {SMALLEST_SIDE}x{SMALLEST_SIDE}"
            " and more; give --image-size"
        )
    labelled = np.flatnonzero(y >= 0)
    check_labels(y, len(labelled), data.n_classes, data.class_names)
    return [X, y] if len(labelled) == len(y) else [X[labelled], y[labelled]]


def start(settings):
    """Train as the settings say."""
    data = load_arrays(settings.data, settings.image_size)
    dataset = check_data(data)
    run = Run("judge", settings, data=data)
    run.prepare()
    model = define_judge(data.image_shape, data.n_classes)
    n_steps = settings.epochs * -(-len(dataset[0]) // settings.batch)
    n_steps = min(n_steps, settings.max_steps or n_steps)
    started = time.perf_counter()
    with run.filling("Make room and start again"):
        described = run.describe(data.train, n_batch=settings.batch, n_steps=n_steps)
        run.write_settings(described)
        train(
            model,
            dataset,
            n_steps,
            settings.batch,
            run.rng,
            jit=run.jit,
            verbose=run.verbose,
        )
        judge = metrics.Judge(model, data.class_names)
        train_acc, test_acc = figures = [
            samples and metrics.agreement(judge.answer(samples[0])[1], samples[1])
            for samples in (dataset, data.test)
        ]
        records = Records(run.folder, None, EVALUATIONS)
        records.begin_evaluations([])
        seconds = time.perf_counter() - started
        records.add_evaluation(None, n_steps, figures, seconds)
        path = run.folder / f"judge.{settings.format}"
        save_model(model, path, data.class_names)
        ladder = metrics.ladder(judge, data.train[0], data.test and data.test[0])
        record = {
            "seed": run.seed,
            **dict(zip(EVALUATIONS, figures, strict=True)),
            "ladder": ladder,
            "judge_sha256": metrics.digest_of_file(path),
            "data_sha256": described["data_sha256"],
            "versions": described["versions"],
        }
        with write_atomically(run.folder / "judge.json") as temporary:
            text = json.dumps(record, indent=1) + "\n"
            temporary.write_text(text, encoding="utf-8")
        records.finish(n_steps)
    print(f"Train Accuracy: {train_acc:.3f}%{describe_labelled(data.train[1])}")
    if test_acc is not None:
        print(f"Test Accuracy: {test_acc:.3f}%")
    print(metrics.describe_ladder(ladder))
    print(f"The run is in {run.folder}")


def main(argv=None):
    return run_script("judge.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
