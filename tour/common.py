"""What the tour's scripts share: options, data, what a run measures.

It puts the repository on Python's path, so that a script works from any folder.
"""

import csv
import dataclasses
import itertools
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import metrics  # noqa: E402

from gankit.backend import keras  # noqa: E402
from gankit.command import InputError  # noqa: E402
from gankit.data.arrays import (  # noqa: E402
    crop,
    crop_data,
    pad_data,
)
from gankit.data.images import scale_images  # noqa: E402
from gankit.data.labels import (  # noqa: E402
    check_labels,
)
from gankit.data.load import load_arrays  # noqa: E402
from gankit.folders import write_atomically  # noqa: E402
from gankit.models.classify import batch_size  # noqa: E402
from gankit.models.files import save_model  # noqa: E402
from gankit.training.batches import check_batch  # noqa: E402
from gankit.training.budget import (  # noqa: E402
    TIMED,
    Miniature,
    check_budget,
    fit_to_minutes,
)
from gankit.training.devices import (  # noqa: E402
    PRECISIONS,
    choose_jit,
    count_parts,
    prepare_tensorflow,
    processor_name,
)
from gankit.training.run import Run  # noqa: E402
from gankit.training.settings import (  # noqa: E402
    RunSettings,
    option,
    option_name,
)

# columns of measures.csv; what they mean stands in metrics.measure_samples
MEASURES = ("judge_fid", "modes", "entropy", "sure", "total_variation")
SHEET = 100
# values of images that are made to be measured at once, 1 GiB as float32
LARGEST_MEASURED = 1 << 28
# what can be told both in training and beside --sample
BOTH = ("sample", "seed", "out", "threads", "verbose")


def check_width(width):
    """Raise InputError for a --width that makes no network."""
    if not 0.01 <= width <= 100:
        raise InputError(f"--width {width:g}: must be from 0.01 to 100")


def scaled(n, width):
    """Return n channels or units times `width`, at least 1."""
    return max(1, round(n * width))


@dataclass(kw_only=True)
class TourSettings(RunSettings):
    """What each script of the tour can be told."""

    # options that are for --sample RUN alone
    asked: ClassVar = ("n",)

    steps: int = option(5000, "training steps", least=1, resume="grow")
    batch: int = option(128, "images a batch")
    precision: str = option(
        "auto",
        "auto: mixed_bfloat16 where the processor is quicker with it, else float32",
        choices=PRECISIONS,
    )
    width: float = option(
        1.0, "factor on the networks' channels and units", check=check_width
    )
    minutes: float | None = option(
        None,
        "train as long as this on this machine, instead of for --steps; what "
        "figures.json has at the end comes on top",
        check=partial(check_budget, name="--minutes"),
        metavar="N",
        instead_of="steps",
    )
    evaluate_every: int = option(
        500, "steps from a row of measures to the next", least=1
    )
    measured: int = option(10_000, "generated images that are measured", least=2)
    judge: str | None = option(
        None,
        "classifier that the figures are taken by, made by tour/judge.py (default: the "
        "one that comes with the bundled MNIST)",
        metavar="FILE",
        path=True,
        resume="free",
    )
    sample: str | None = option(
        None,
        "draw from the run in this folder instead of training",
        metavar="RUN",
        saved=False,
    )
    n: int = option(
        100, "images that --sample draws", least=1, most=100_000, saved=False
    )

    @property
    def bundled(self):
        """Whether the images are those that the shipped judge knows."""
        return self.data is None

    @classmethod
    def resumed(cls, folder, **given):
        settings = super().resumed(folder, **given)
        if settings.minutes is not None and "steps" in given:
            raise InputError(
                f"{folder}: was started with minutes {settings.minutes:g}, which set "
                "its steps; resume it without --steps"
            )
        return settings

    @classmethod
    def parse(cls, argv=None):
        """Return the settings that a command line asks for."""
        settings = super().parse(argv)
        for field in dataclasses.fields(cls):
            name = option_name(field.name)
            if getattr(settings, field.name) == field.default:
                continue
            if settings.sample is None and field.name in cls.asked:
                raise InputError(f"{name}: is for --sample RUN; leave it out without")
            if settings.sample is not None and field.name not in (*BOTH, *cls.asked):
                raise InputError(f"{name}: is for training; leave it out with --sample")
        return settings


@dataclass(kw_only=True)
class GanSettings(TourSettings):
    """What a script whose generator starts from latent points can be told."""

    latent_dim: int = option(100, "size of a latent point", least=1)


@dataclass(kw_only=True)
class ClassSettings(GanSettings):
    """What a script whose generator is asked for a class can be told."""

    asked: ClassVar = (*GanSettings.asked, "classes")

    classes: list[str] | None = option(
        None,
        "classes that --sample draws, numbers or names (default: all)",
        metavar="CLASS",
        saved=False,
    )


# ---------------------------------------------------------------- data


def load_images(settings, multiple=4):
    """Return the Data that the settings name, checked for their batch.

    Their images are padded to sides that are multiples of a number.
    """
    data = load_arrays(settings.data, settings.image_size)
    check_batch(settings.batch, len(data.train[0]), 1)
    return pad_data(data, multiple)


def load_labelled_images(settings, multiple=4):
    """Return the Data that the settings name, its images with labels alone.

    They are padded as load_images does. Raises InputError where a class has none, or
    all are of one class.
    """
    data = load_arrays(settings.data, settings.image_size)
    X, y = data.train
    given = np.flatnonzero(y >= 0)
    try:
        check_labels(y, len(given), data.n_classes, data.class_names)
    except InputError as error:
        raise InputError(
            f"{settings.data}: {error}; or take tour/dcgan.py, which needs no labels"
        ) from error
    if len(given) < len(y):
        print(
            f"{len(y) - len(given)} images without a label are left out",
            file=sys.stderr,
        )
        data = data._replace(train=[X[given], y[given]])
    check_batch(settings.batch, len(data.train[0]), 1)
    return pad_data(data, multiple)


def to_bytes(images, lowest=-1.0):
    """Images in [lowest, 1] -> uint8 (n, h, w, c), as they would be in a file."""
    return np.rint(255 * (np.clip(images, lowest, 1) - lowest) / (1 - lowest)).astype(
        np.uint8
    )


def generate(g_model, *inputs, lowest=-1.0):
    """Return uint8 images (n, h, w, c) of a generator with images in [lowest, 1].

    inputs: arrays (n, ...), one for each of its inputs.
    """
    n_batch = batch_size(*g_model.output_shape[1:3])
    parts = []
    for first in range(0, len(inputs[0]), n_batch):
        batch = [values[first : first + n_batch] for values in inputs]
        images = g_model.predict_on_batch(batch if len(batch) > 1 else batch[0])
        parts.append(to_bytes(np.float32(images), lowest))
    return np.concatenate(parts)


# ---------------------------------------------------------------- a run


class GanRun(Run):
    """A run of a script of the tour, which measures what its generator makes.

    by_class: its generator is asked for classes; then one more figure is measured, how
    often the judge agrees. codes: it is asked for one of so many values instead, which
    stand for no classes of the data. more: the names of further figures that the script
    measures. described: what settings.json holds besides, a dict of plain data.
    """

    table = "measures.csv"

    def __init__(
        self,
        name,
        settings=None,
        *,
        data=None,
        by_class=False,
        codes=None,
        more=(),
        described=None,
    ):
        super().__init__(name, settings or GanSettings(), data=data)
        self._measures = (*MEASURES, "agreement") if by_class else MEASURES
        self.evaluations = (*self._measures, *more)
        self.by_class = by_class
        self.n_classes = data.n_classes if data is not None else 10
        self._in_rows = by_class or codes is not None
        if codes is not None:
            self.n_classes, self.class_names = codes, None
        self.border = data.border if data is not None else (0, 0)
        self.real = self.test[0] if self.test is not None else data and data.train[0]
        self.judge = self._described = None
        self._data = data
        self._more_described = described or {}

    @property
    def side_by_side(self):
        # a batch stays whole, but much of a step is independent, as d on real and on
        # generated images: two threads are busier with two operations than with one
        # (so much of it even where a batch is one image, which has no parts)
        n_batch = max(4, self.settings.batch)
        parts = count_parts(self.settings.threads, self.jit, n_batch)
        return 2 if parts == 2 else 1

    def prepare(self, n_batch=None):
        # before a folder is made: the judge may be none of these images
        settings, self.jit = self.settings, choose_jit(self.settings.jit)
        prepare_tensorflow(settings.precision, settings.threads, self.side_by_side)
        self.read()
        super().prepare(n_batch)

    def read(self):
        """Load the judge, unless there is none for these images."""
        if self.settings.judge is not None or self.settings.bundled:
            data = self._data and self.judged(crop_data(self._data))
            self.judge = metrics.load_judge(self.settings.judge, data=data)
            self._described = metrics.describe_real(self.judge, self.inner(self.real))
        else:
            print(
                "No judge of these images is given (--judge), so most figures stay "
                "empty; `python tour/judge.py --data PATH` makes one",
                file=sys.stderr,
            )

    def judged(self, data):
        """Return a Data as the judge must know it."""
        return data

    def inner(self, images):
        """Return images (n, h, w, c) without the border that the data were given."""
        return crop(images, self.border)

    def rng_of(self, number):
        """Return a numpy Generator that follows from the seed and a number alone."""
        return np.random.default_rng((self.seed, number))

    def count_measured(self, times=1):
        """Return how many images are measured: `times` as many as --measured says.

        Fewer where they would fill the memory: LARGEST_MEASURED values together.
        """
        size = int(np.prod(self.real.shape[1:]))
        return min(times * self.settings.measured, max(2, LARGEST_MEASURED // size))

    def classes(self, n):
        """Return n classes, int64 (n,), each as often as the others."""
        return np.arange(n) % self.n_classes

    def summarize(self, step, sample, more=(), draw_sheet=None):
        """Save a sheet and measure fresh images; return the figures for measures.csv.

        sample: (n, rng, labels) -> n images, uint8 (n, h, w, c), of the classes
        `labels`, int (n,), which a generator without classes passes over. The sheet
        always shows the same latent points, with by_class or codes a row for each.
        more: further figures. draw_sheet: rng -> (images, in a row), another sheet in
        its place; the rng is the same each time.
        """
        if draw_sheet is None:
            draw_sheet = partial(self._draw_sheet, sample)
        images, in_a_row = draw_sheet(self.rng_of(0))
        self.save(step, scale_images(images), in_a_row=in_a_row)
        figures = self.measure_fresh(sample, step)
        if self.verbose:
            named = zip(self.evaluations, (*figures, *more), strict=True)
            print(", ".join(f"{name} {v:.3g}" for name, v in named if v is not None))
        return (*figures, *more)

    def _draw_sheet(self, sample, rng):
        in_a_row = int(np.sqrt(SHEET))
        n = self.n_classes * in_a_row if self._in_rows else SHEET
        return sample(n, rng, np.repeat(np.arange(n // in_a_row), in_a_row)), in_a_row

    def measure_fresh(self, sample, number):
        """Return measure's figures of images that follow from a number."""
        n = self.count_measured()
        labels = self.classes(n)
        images = sample(n, self.rng_of(number), labels)
        return self.measure(images, labels if self.by_class else None)

    def measure(self, images, labels=None):
        """Return the figures of uint8 images, as MEASURES (and agreement) name them.

        images: as the script makes them, with the data's border.
        """
        images = self.inner(images)
        if self.judge is None:
            if self._described is None:
                self._described = metrics.total_variation(self.inner(self.real))
            found = {}
            if self._described:
                variation = metrics.total_variation(images)
                found["total_variation"] = variation / self._described
            return tuple(map(found.get, self._measures))
        found = metrics.measure_samples(
            self.judge, images, self._described, labels=labels
        )
        return tuple(found[name] for name in self._measures)

    def judge_fid(self, images):
        """Return the judge-FID of uint8 images alone, which measure has among others.

        images: with the data's border; there must be a judge.
        """
        features, _ = self.judge.answer(self.inner(images))
        made, real = metrics.mean_and_covariance(features), self._described
        return metrics.frechet_distance_of(*made, real.mean, real.covariance)

    def fit(self, n_steps, steps, sample, first=0, work=None, phased=False):
        """Return how many steps the run makes: n_steps, or what fits in its minutes.

        first: the step from which on steps are timed. work: the number of steps made
        before -> how many of the timed steps the next one takes as long as. phased: the
        steps' phases are parts of the run, so whole runs of TIMED steps are timed.
        """
        minutes, every = self.settings.minutes, self.settings.evaluate_every
        if minutes is not None and self.resumed:
            n_steps = self.recorded_steps()
        elif minutes is not None:
            if phased:
                self.plan(TIMED)
                steps = Miniature(steps)
            evaluate = partial(self.measure_fresh, sample, 0)
            n_steps = fit_to_minutes(minutes, steps, evaluate, every, first)
            if work is not None:
                ends = itertools.accumulate(map(work, range(n_steps)))
                n_steps = max(1, sum(end <= n_steps for end in ends))
            steps_text = "1 step fits" if n_steps == 1 else f"{n_steps} steps fit"
            print(f"{steps_text} in {minutes:g} minutes")
        return self.plan(n_steps)

    def describe(self, dataset, **others):
        described = super().describe(dataset, **others)
        described |= {"n_classes": self.n_classes, "border": list(self.border)}
        described |= self._more_described
        if self.judge is not None:
            path = metrics.find_judge(self.settings.judge)
            described["judge_sha256"] = metrics.digest_of_file(path)
        return described

    def make(self, steps, dataset, summarize, *, n_steps, n_batch, **others):
        """Make the steps and fill the folder, as loop.make_steps; return the folder.

        Without test images it is the training images that others are compared with.
        """
        if self.real is None:
            self.real = dataset[0]
        return super().make(
            steps,
            dataset,
            summarize,
            n_steps=n_steps,
            n_batch=n_batch,
            epoch_steps=len(dataset[0]) / n_batch,
            evaluate_every=self.settings.evaluate_every,
            each_epoch=False,
            **others,
        )

    def conclude(self, n_steps, models, figures=dict, generators=("g",)):
        """Save the generators and figures.json, once all steps are made.

        models: by name; generators: the names of those that are saved. figures: returns
        the script's own figures of the finished run, a dict. Returns the folder.
        """
        most = self.settings.max_steps
        if most is None or most >= n_steps:
            # as a plain model: gan.py's optimizer is no class of Keras's own
            for name in generators:
                model = keras.Model(models[name].input, models[name].output)
                file = f"{name}_model_{n_steps:04d}.{self.settings.format}"
                save_model(model, self.folder / file)
            found = {
                **last_row(self.folder / self.table),
                **figures(),
                "parameters": {n: model.count_params() for n, model in models.items()},
                "processor": processor_name(),
                "threads": self.settings.threads,
            }
            with write_atomically(self.folder / "figures.json") as path:
                path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if self.judge is not None and self.judge.ladder:
            print(metrics.describe_ladder(self.judge.ladder))
        print(f"The run is in {self.folder}")
        return self.folder


def last_row(path):
    """Return the last row of a table of numbers, a dict; empty cells are None."""
    with open(path, newline="", encoding="utf-8") as file:
        *_, row = csv.DictReader(file)
    return {name: float(text) if text else None for name, text in row.items()}
