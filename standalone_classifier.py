"""Train the tutorial's classifier alone, on the labelled images and nothing else.

    python standalone_classifier.py                      # 100 labels, into runs/
    python standalone_classifier.py --labels 20 --seed 1

This is what a semi-supervised GAN must beat: the same network, the same labelled
images for the same seed, the same optimizer, no unlabelled images.
"""

import sys
import time
from dataclasses import dataclass

import discriminators
from gankit.command import run_script
from gankit.data.images import scale_images
from gankit.data.labels import check_labels, describe_labelled
from gankit.data.load import load_arrays
from gankit.models.files import save_model
from gankit.training.records import Records
from gankit.training.run import LabelledRun
from gankit.training.settings import TrainingSettings, option
from helpers import load_real_samples, select_supervised_samples

HALF_BATCH = 50


@dataclass(kw_only=True)
class Settings(TrainingSettings):
    """Train the tutorial's classifier on the labelled images alone."""

    steps: int = option(2000, "steps of 50 labelled images", least=1)
    labels: int = option(100, "labelled images, of all classes")


def train(c_model, supervised, n_steps, rng, *, verbose=0):
    """Fit c_model to labelled images, [X, y], in n_steps steps of 50 of them.

    X: uint8 (n, h, w, c) in [0, 255]. Batches are drawn with replacement, as an SGAN's
    are; rng: a numpy Generator.
    """
    X, y = scale_images(supervised[0]), supervised[1]
    while n_steps > 0:
        n = min(n_steps, 500)
        chosen = rng.integers(0, len(X), n * HALF_BATCH)
        c_model.fit(
            X[chosen], y[chosen], batch_size=HALF_BATCH, shuffle=False, verbose=verbose
        )
        n_steps -= n


def start(settings):
    """Train as the settings say."""
    data = load_arrays(settings.data, settings.image_size)
    dataset = load_real_samples(data, scale=False)
    check_labels(dataset[1], settings.labels, data.n_classes, data.class_names)
    run = LabelledRun("standalone_classifier", settings, data=data)
    run.prepare()
    _, c_model = discriminators.define_stacked_discriminators(
        data.image_shape, data.n_classes
    )
    c_model.jit_compile = run.jit
    run.supervised, run.labelled = select_supervised_samples(
        dataset,
        settings.labels,
        data.n_classes,
        run.rng,
        class_names=data.class_names,
        return_indices=True,
    )
    n_steps = min(settings.steps, settings.max_steps or settings.steps)
    started = time.perf_counter()
    with run.filling("Make room and start again"):
        run.write_settings(
            run.describe(dataset, n_batch=2 * HALF_BATCH, n_steps=n_steps)
        )
        train(c_model, run.supervised, n_steps, run.rng, verbose=run.verbose)
        figures = train_acc, test_acc, _ = run.measure(c_model, dataset)
        c_name = f"c_model_{n_steps:04d}.{settings.format}"
        save_model(c_model, run.folder / c_name, data.class_names)
        records = Records(run.folder, None, run.evaluations)
        records.begin_evaluations([])
        seconds = time.perf_counter() - started
        records.add_evaluation(None, n_steps, figures, seconds)
        records.finish(n_steps)
    print(f"Train Accuracy: {train_acc:.3f}%{describe_labelled(dataset[1])}")
    if test_acc is not None:
        print(f"Test Accuracy: {test_acc:.3f}%")
    print(f"The run is in {run.folder}")


def main(argv=None):
    return run_script("standalone_classifier.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
