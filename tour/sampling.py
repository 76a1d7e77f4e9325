"""Start a script of the tour: train, or draw from a run that was trained."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import GanRun, GanSettings, TourSettings, load_images

from gankit.backend import keras
from gankit.command import InputError, printable
from gankit.data.arrays import LARGEST_SIDE, MOST_CLASSES, crop
from gankit.data.images import scale_images
from gankit.data.labels import check_class_names, normal_form
from gankit.folders import claimed, dated_folder, write_atomically
from gankit.pictures import LARGEST_FRAME, arrange, save_frames, save_sheet
from gankit.training.checkpoints import fill, read_newest
from gankit.training.devices import count_cores, prepare_tensorflow
from gankit.training.run import draw_seed
from gankit.training.settings import read_options

# float32: itself, its gradient, and two moments of the optimizer
WEIGHT_BYTES = 16
# images of a sheet that --sample draws
LARGEST_SHEET = 1000
# how long a frame of an animation stands
FRAME_MS = 60


def start_run(
    name,
    settings,
    define_models,
    define_sample,
    train,
    *,
    load=load_images,
    draw_sheets=None,
    n_models=1,
    run_class=GanRun,
    **of_run,
):
    """Train as the settings say, or draw from a run.

    name: the script's; define_models, define_sample, draw_sheets, n_models: see
    draw_samples;
    train: (*models, dataset, n_steps, n_batch, run=), for GanSettings with latent_dim
    behind the dataset. load: settings -> Data. run_class: GanRun, or one of its own
    kind; of_run: what it needs besides.
    """
    points = isinstance(settings, GanSettings)
    if settings.sample is not None:
        of_images = None if points else load
        draw_samples(
            name,
            settings,
            define_models,
            define_sample,
            draw_sheets,
            of_images,
            n_models,
        )
        return
    data = load(settings)
    run = run_class(name, settings, data=data, **of_run)
    run.prepare()
    with emptied(run), fitting_memory(data.image_shape):
        models = define_models(settings, data.image_shape, data.n_classes)
    train(
        *models,
        data.train,
        *((settings.latent_dim,) if points else ()),
        settings.steps,
        settings.batch,
        run=run,
    )


@contextlib.contextmanager
def emptied(run):
    """Leave no empty folder of a new run behind where its networks can't be built."""
    try:
        yield
    except InputError:
        with contextlib.suppress(OSError):  # of a run that is resumed it is not empty
            run.folder.rmdir()
        raise


@contextlib.contextmanager
def fitting_memory(image_shape):
    """Raise InputError before weights are made that can't be trained in the memory.

    A weight takes WEIGHT_BYTES. image_shape: of the images, for the line.
    """
    add_weight, n_weights = keras.layers.Layer.add_weight, 0

    def add_if_it_fits(layer, shape=None, *args, **others):
        nonlocal n_weights
        n_weights += int(np.prod(shape or ()))
        if n_weights * WEIGHT_BYTES > memory_bytes():
            height, width, _ = image_shape
            raise InputError(
                f"images of {height}x{width}: the networks have more than "
                f"{n_weights / 1e6:.0f} million weights, too many for this machine's "
                "memory; give a smaller --image-size or --width"
            )
        return add_weight(layer, shape, *args, **others)

    keras.layers.Layer.add_weight = add_if_it_fits
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add_weight


def memory_bytes():
    """Return how much memory this machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # where that isn't known
        return float("inf")


class Opened(NamedTuple):
    """A run that is drawn from; see open_run."""

    settings: TourSettings
    image_shape: tuple
    n_classes: int
    class_names: list | None
    border: tuple
    step: int
    models: list
    rng: Any
    seed: int


def open_run(name, settings, define_models, n_models=1):
    """Return the run that --sample names, Opened, at its newest checkpoint.

    name: the script's. settings: what the script was told now; Opened's are the run's.
    define_models: (the run's settings, image_shape, n_classes) -> models like the
    run's. Of these the first n_models, with which the checkpoint begins, are filled
    and returned. rng: a numpy Generator that follows from `seed`, the settings' or a
    drawn one. Raises InputError where there is no such run, or no checkpoint yet.
    """
    folder = Path(settings.sample)
    described = read_description(folder, name)
    before = type(settings)(**read_options(folder, type(settings)))
    prepare_tensorflow(before.precision, settings.threads or count_cores())
    found = read_newest(folder)
    if found is None:
        raise InputError(f"{folder}: has no checkpoint to draw from; let it run longer")
    path, step, values, *_ = found
    image_shape, n_classes, *_ = described
    with fitting_memory(image_shape):
        models = define_models(before, image_shape, n_classes)[:n_models]
    variables = [variable for model in models for variable in model.variables]
    fill(path, values[: len(variables)], variables)
    seed = draw_seed() if settings.seed is None else settings.seed
    return Opened(before, *described, step, models, np.random.default_rng(seed), seed)


def draw_samples(
    name,
    settings,
    define_models,
    define_sample,
    draw_sheets=None,
    load=None,
    n_models=1,
):
    """Draw from a run's newest checkpoint: a sheet and an .npz file in a new folder.

    define_models, n_models: see open_run. define_sample: (*its models, latent_dim) ->
    sample(n, rng, labels), which returns n images, uint8 (n, h, w, c). samples.npz is
    laid out as --data reads it; labels are -1 where the generator is asked for no
    classes. draw_sheets: (*models, latent_dim, rng) -> {file name: (images, in a row)},
    further sheets; for a .gif file the images have one more dimension, the frames.
    load: for a generator that takes images in, the run's settings -> Data; then
    define_sample and draw_sheets get its test images, or the training ones, [X, y], in
    the place of latent_dim. Raises InputError where there is no such run.
    """
    by_class = hasattr(settings, "classes")
    labels = np.full(settings.n, -1)
    if by_class:
        _, n_classes, class_names, _ = read_description(Path(settings.sample), name)
        chosen = find_classes(settings.classes, n_classes, class_names)
        labels = np.sort(np.resize(chosen, settings.n))
    run = open_run(name, settings, define_models, n_models)
    if load is None:
        source = run.settings.latent_dim
    else:
        data = load(run.settings)
        if data.image_shape != run.image_shape:
            raise InputError(
                f"{run.settings.data}: its images are no longer of the size that the "
                f"run {settings.sample} was trained on; put the old ones back there"
            )
        source = data.test or data.train
    sample = define_sample(*run.models, source)
    images = crop(sample(settings.n, run.rng, labels), run.border)
    sheets = {"samples.png": (images, 10 if by_class else None)}
    if draw_sheets is not None:
        rng = np.random.default_rng(run.seed)
        for file, (shown, in_a_row) in draw_sheets(*run.models, source, rng).items():
            if shown.shape[-3:] == run.image_shape:
                shown = crop(shown, run.border)
            sheets[file] = shown, in_a_row
    arrays = {"x_train": images, "y_train": labels}
    if run.class_names is not None:
        arrays["class_names"] = np.array(run.class_names)
    with claimed(settings.out or dated_folder("runs", f"{name}-samples")) as out:
        for file, (shown, in_a_row) in sheets.items():
            if file.endswith(".gif"):
                save_way(shown, out / file, in_a_row)
            else:
                save_sheet(scale_images(shown[:LARGEST_SHEET]), out / file, in_a_row)
        with write_atomically(out / "samples.npz") as path:
            np.savez_compressed(path, **arrays)
    print(f"{settings.n} images of step {run.step}, seed={run.seed}, are in {out}")


def save_way(frames, path, in_a_row):
    """Save sheets, uint8 (frames, n, h, w, c), as an animation, so many in a row."""
    n_frames, n, height, width, _ = frames.shape
    n_rows = n // in_a_row
    times = max(1, min(4, LARGEST_FRAME // (max(in_a_row, n_rows) * height)))

    def draw(images):
        frame = arrange(scale_images(images), in_a_row, n_rows)
        return frame.resize((times * frame.width, times * frame.height))

    save_frames(map(draw, frames), path, FRAME_MS, n_frames)


def read_description(folder, name):
    """Return what a run of script `name` was trained on.

    Its image_shape, n_classes, class_names and the images' border; raises InputError
    where the folder holds none.
    """
    path = folder / "settings.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        script, names = described["script"], described.get("class_names")
        image_shape = tuple(described["image_shape"])
        n_classes = described["n_classes"]
        height, width, channels = image_shape
        sizes = (height, width, channels, n_classes)
        limits = (LARGEST_SIDE, LARGEST_SIDE, 3, MOST_CLASSES)
        for size, most in zip(sizes, limits, strict=True):
            if type(size) is not int or not 1 <= size <= most:
                raise ValueError(f"{size!r} is no size")
        rows, columns = border = tuple(described.get("border", (0, 0)))
        for side, n in ((height, rows), (width, columns)):
            if type(n) is not int or not 0 <= 2 * n < side:
                raise ValueError(f"{n!r} is no border")
        if names is not None:
            check_class_names(names)
            if len(names) != n_classes:
                raise ValueError("it has another number of classes than of names")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not the settings of a run of the tour; name such a run's folder"
        ) from error
    if script != name:
        raise InputError(
            f"{folder}: is a run of {printable(script)}, not of {name}; draw from it "
            "with its own script"
        )
    return image_shape, n_classes, names, border


def find_classes(classes, n_classes, class_names):
    """Return the numbers of classes given by number or name; all for None."""
    if classes is None:
        return np.arange(n_classes)
    names = class_names or []
    numbers = {normal_form(name): i for i, name in enumerate(names)}
    if not any(name.isdecimal() for name in numbers):
        numbers |= {str(i): i for i in range(n_classes)}
    classes = [normal_form(text) for text in classes]
    for text in classes:
        if text not in numbers:
            known = ", ".join(class_names or [f"0 to {n_classes - 1}"])[:200]
            raise InputError(f"--classes {text}: no such class; there are {known}")
    return np.array([numbers[text] for text in classes])
