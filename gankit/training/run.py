"""What one run is: its settings, seed, data, folder and record."""

import contextlib
import dataclasses
import hashlib
import json
import platform
from pathlib import Path

import numpy as np

from gankit.backend import keras, tf
from gankit.command import InputError
from gankit.folders import (
    dated_folder,
    locked,
    new_folder,
    remove_partials,
    write_atomically,
)
from gankit.models.classify import count_classes, judge_labelled, measure_accuracy
from gankit.models.files import save_model
from gankit.pictures import count_confusions, draw_confusions, save_sheet
from gankit.training.augmentation import DIGITS
from gankit.training.batches import Steps, answer_in_parts, mean_in_parts
from gankit.training.budget import fit_to_budget
from gankit.training.devices import (
    choose_jit,
    choose_precision,
    count_cores,
    count_parts,
    prepare_tensorflow,
)
from gankit.training.loop import make_steps
from gankit.training.records import writing_to
from gankit.training.settings import RunSettings


class Run:
    """One run of a training script; it carries what a run needs beside mathematics.

    name: the script's. settings: a RunSettings; None for its defaults. data: a
    gankit.data.arrays.Data, of which the test images and the class names are used.
    seed: the settings' or a drawn one; rng: a numpy Generator that follows from it.
    folder: a Path, once the run is open. jit, n_parts: how a step is computed, see
    batches.Steps; prepare() sets them, else they are False and 1. evaluations: the
    names of the figures that it measures, columns of the file `table` in its folder.
    """

    evaluations, table = (), "accuracy.csv"

    def __init__(self, name, settings=None, *, data=None):
        settings = settings or RunSettings()
        self.seed_drawn = settings.seed is None
        self.settings = dataclasses.replace(
            settings,
            seed=draw_seed() if self.seed_drawn else settings.seed,
            threads=settings.threads or min(count_cores(), 16),
            precision=choose_precision(settings.precision),
        )
        self.name, self.seed = name, self.settings.seed
        self.test = data and data.test
        self.class_names = data and data.class_names
        self.rng = np.random.default_rng(self.seed)
        self.jit, self.n_parts = False, 1
        self.folder = None
        self._points = {}
        self._n_steps = None

    @property
    def resumed(self):
        return self.settings.resume is not None

    @property
    def verbose(self):
        return self.settings.verbosity

    @property
    def side_by_side(self):
        """How many operations of a step are computed at once, with a thread each."""
        return self.n_parts

    def open(self):
        """Make the run's folder, or find the one that is resumed; once.

        Raises InputError where it can't be used.
        """
        if self.folder is not None:
            return
        if self.resumed:
            self.folder = Path(self.settings.resume)
            if not (self.folder / "settings.json").is_file():
                raise InputError(f"{self.folder}: holds no run; name a run's folder")
        else:
            out = self.settings.out or dated_folder("runs", self.name)
            self.folder = new_folder(out)
        if self.seed_drawn:
            print(f"seed={self.seed}")

    def prepare(self, n_batch=None):
        """Open the folder and set TensorFlow up; call it before anything is built.

        n_batch: the size of a batch that is to be computed in parts, one a thread;
        None where a batch must stay whole, as for batch normalisation.
        """
        settings = self.settings
        # TensorFlow first: where it can't start, no folder is left behind
        self.jit = choose_jit(settings.jit)
        self.open()
        if n_batch is not None:
            self.n_parts = count_parts(settings.threads, self.jit, n_batch)
        prepare_tensorflow(settings.precision, settings.threads, self.side_by_side)
        keras.utils.set_random_seed(self.seed)

    def sheet_points(self, latent_dim, n=100):
        """Return n latent points, float32 (n, latent_dim), the same at every call."""
        if (latent_dim, n) not in self._points:
            points = self.rng.standard_normal((n, latent_dim), dtype=np.float32)
            self._points[latent_dim, n] = points
        return self._points[latent_dim, n]

    def in_parts(self, objective, *batch):
        """Return the mean of objective over a batch, computed in the run's parts."""
        return mean_in_parts(objective, batch, self.n_parts)

    def answer(self, network, batch, training=False):
        """Return network(batch), computed in the run's parts."""
        return answer_in_parts(network, batch, self.n_parts, training)

    def compile(self, draw, train_step, state, *, columns, draws, passes=1):
        """Return the run's batches.Steps, to which the arguments belong."""
        if self._n_steps is None:  # one for all phases of a run
            self._n_steps = tf.Variable(1, dtype=tf.int64)
        return Steps(
            draw,
            train_step,
            state,
            columns=columns,
            seed=self.seed,
            draws=draws,
            passes=passes,
            jit=self.jit,
            n_parts=self.n_parts,
        )

    def save(self, step, images, *, in_a_row=None, **models):
        """Save a sheet of images and the models; return the files' names.

        images: (n, h, w, c) in [-1, 1], so many in a row, None for a square sheet;
        models by the names that begin their files'.
        """
        folder = self.folder or Path(self.settings.out or ".")
        plot_name = f"generated_plot_{step:04d}.png"
        save_sheet(images, folder / plot_name, in_a_row)
        names = [f"{name}_{step:04d}.{self.settings.format}" for name in models]
        for name, model in zip(names, models.values(), strict=True):
            kept = self.class_names if name.startswith("c_model") else None
            save_model(model, folder / name, kept)
        return [plot_name, *names]

    def pictures(self, step):
        """Return what a log for TensorBoard shows of a step: PNG bytes or a figure."""
        sheet = self.folder / f"generated_plot_{step:04d}.png"
        return {"samples": sheet.read_bytes()} if sheet.exists() else {}

    def describe(self, dataset, *, n_batch, n_steps):
        """Return what settings.json holds: all that a run depends on, and versions."""
        described = {
            "script": self.name,
            "options": self.settings.options,
            "seed": self.seed,
            "n_batch": n_batch,
            "jit": self.jit,
            "n_parts": self.n_parts,
            "versions": versions(),
            "image_shape": list(dataset[0].shape[1:]),
            "data_sha256": digest_of(dataset, self.test),
            "n_steps": n_steps,
        }
        if self.class_names is not None:
            described["class_names"] = self.class_names
        return described

    def done(self, step):
        """Return the fraction of the run's steps that are made, float32, in a graph."""
        return tf.cast(step, tf.float32) / tf.cast(self._n_steps, tf.float32)

    @property
    def n_steps(self):
        """How many steps are planned in all."""
        return int(self._n_steps)

    def plan(self, n_steps, fit=None):
        """Fix how many steps the run makes in all, and return it.

        That is n_steps, or what fit(minutes) returns where the settings have a budget
        of minutes; a resumed run keeps to what it was started with.
        """
        if self.resumed and fit is not None:
            n_steps = self.recorded_steps()
        elif fit is not None and self.settings.budget is not None:
            n_steps = fit(self.settings.budget)
        self._n_steps.assign(n_steps)
        return n_steps

    def recorded_steps(self):
        """Return how many steps the resumed run is to make, from its settings."""
        path = Path(self.settings.resume) / "settings.json"
        try:
            return int(json.loads(path.read_text(encoding="utf-8"))["n_steps"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: not the settings of a run of this script; name such a run"
            ) from error

    @contextlib.contextmanager
    def filling(self, remedy="Make room, then go on with --resume"):
        """Lock the run's folder while it is filled; remedy: for a disk that is full."""
        self.open()
        with locked(self.folder), writing_to(self.folder, remedy):
            if self.resumed:
                remove_partials(self.folder)
            else:
                new_folder(self.folder)  # again: another run may have been quicker
            yield

    def write_settings(self, described):
        with write_atomically(self.folder / "settings.json") as path:
            path.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")

    def make(self, steps, dataset, summarize, **others):
        """Make the steps and fill the folder, as loop.make_steps; return the folder."""
        return make_steps(self, steps, dataset, summarize, **others)


class LabelledRun(Run):
    """A run that trains a classifier on a few labelled images.

    labelled: the indices of these images in the data set, and supervised: they,
    [X, y]; the script sets both. changes: the augmentation.Changes of images, for a
    script that makes some.
    """

    evaluations = ("train_accuracy", "test_accuracy", "labelled_error")

    def __init__(self, name, settings=None, *, data=None):
        super().__init__(name, settings, data=data)
        self.labelled = self.supervised = self._confusion = None
        self.changes = DIGITS

    def set_changes(self, changes):
        """Take an augmentation.Changes; first weights follow from the seed alone."""
        self.changes = changes
        keras.utils.set_random_seed(self.seed)

    def fit(self, n_steps, steps, c_model, dataset, evaluate_every):
        """Return plan(n_steps), where a budget counts as fit_to_budget does."""

        def fit(minutes):
            return fit_to_budget(
                minutes, steps, c_model, dataset, self.test, evaluate_every
            )

        return self.plan(n_steps, fit)

    def measure(self, c_model, dataset):
        """Return the percentages of `evaluations`, None where there are no such images.

        Accuracy on dataset, [X, y] or None, as far as it has labels, and on the test
        images, and error on the labelled images.
        """
        n_classes = count_classes(c_model)
        train_acc = labelled_error = None
        if dataset is not None:
            train_acc = measure_accuracy(c_model, *dataset, n_classes=n_classes)
        test_acc = self.measure_test(c_model)
        if self.supervised is not None:
            labelled_error = 100.0 - measure_accuracy(
                c_model, *self.supervised, n_classes=n_classes
            )
        return train_acc, test_acc, labelled_error

    def measure_test(self, c_model):
        """Return the test images' accuracy, percent; None where there are none."""
        if self.test is None:
            return None
        n_classes = count_classes(c_model)
        test_acc, answers = judge_labelled(c_model, *self.test, n_classes=n_classes)
        self._confusion = count_confusions(self.test[1], answers, n_classes)
        return test_acc

    def pictures(self, step):
        pictures = super().pictures(step)
        if pictures and self._confusion is not None:
            pictures["confusions"] = draw_confusions(self._confusion, self.class_names)
        return pictures

    def describe(self, dataset, **others):
        described = super().describe(dataset, **others)
        described["labelled_images"] = np.asarray(self.labelled).tolist()
        if hasattr(self.settings, "changes"):
            described["changes_of_images"] = self.changes.name
        return described


def draw_seed():
    return int(np.random.SeedSequence().generate_state(1)[0] >> 1)


def versions():
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
    }


def digest_of(*datasets):
    """Return the SHA-256 of the arrays in these data sets, None left out."""
    digest = hashlib.sha256()
    for array in (a for dataset in datasets if dataset for a in dataset):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
