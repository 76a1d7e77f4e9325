"""What a classifier says of images in files: a table, JSON or CSV."""

import csv
import json
import sys

import numpy as np

from gankit.command import InputError, RunError, printable
from gankit.data.images import IMAGE_SUFFIXES, find_images, fit_image, read_image
from gankit.data.labels import N_CLASSES
from gankit.models.classify import batch_size, class_probabilities
from gankit.models.digits import fit_digit, is_drawing

COLUMNS = ("file", "class", "probability", "runner_up", "runner_up_probability")


def list_images(paths):
    """Return the images that paths stand for, a list of Path, one at least.

    paths: as in find_images. Raises InputError where there is no image.
    """
    files = find_images(paths)
    if not files:
        raise InputError(
            f"{', '.join(map(str, paths))}: holds no image; give files or folders with "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return files


def is_dark_on_light(image):
    """Tell whether an image, uint8 (h, w, c), is brighter at its border than within."""
    inner = image[1:-1, 1:-1]
    n_border = image.size - inner.size
    border = (image.sum(dtype=np.int64) - inner.sum(dtype=np.int64)) / n_border
    return inner.size > 0 and border > inner.mean()


def predict_images(
    c_model,
    files,
    *,
    n_classes=N_CLASSES,
    class_names=None,
    form=None,
    invert="no",
    digit="no",
):
    """Print the class of each image to stdout, with how sure it is and the runner-up.

    c_model: images (n, h, w, c) in [-1, 1], c being 1 or 3 -> probabilities of
    n_classes classes, and maybe of a last class 'unknown', which is left out.
    files: a list of Path. class_names: a text for each class, None for the classes'
    numbers. form: None for a table, 'json' (an object a line) or 'csv'.
    invert: 'yes' turns images into their negatives, 'no' leaves them as they are, and
    'auto' turns those that are brighter at the border than within.
    digit: 'yes' takes each image for a drawn digit, which is put as MNIST has them, see
    fit_digit (and not inverted besides); 'auto' does so with those that look like it,
    see is_drawing, and 'no' with none. A line on stderr says of how many.
    Images are read in batches, see batch_size. What can't be read is named on stderr
    and skipped; then RunError is raised at the end, or InputError where nothing could
    be read, or where c_model can't be used.
    """
    height, width, channels = c_model.input_shape[1:]
    n_batch = batch_size(height, width)
    define_writer = {None: _table_writer, "json": _json_writer, "csv": _csv_writer}
    write = define_writer[form](files, class_names)
    n_read = n_dark = n_digits = 0
    progress = _ProgressLine(len(files))
    try:
        for first in range(0, len(files), n_batch):
            read, batch = [], []
            for number, path in enumerate(files[first : first + n_batch], first):
                progress.show(number)
                try:
                    image = read_image(path)
                    drawn = _find_digit(path, image, digit)
                except InputError as error:
                    progress.clear()
                    print(f"skipped {printable(error)}", file=sys.stderr)
                    continue
                read.append(path)
                if drawn is not None:
                    n_digits += 1
                    batch.append(drawn)
                    continue
                image = fit_image(image, height, width, channels)
                dark = is_dark_on_light(image)
                if invert == "yes" or (invert == "auto" and dark):
                    image = 255 - image
                n_dark += dark
                batch.append(image)
            if batch:
                probabilities = class_probabilities(
                    c_model, np.stack(batch), n_classes=n_classes
                )
                if not np.isfinite(probabilities).all():
                    raise InputError(
                        "the classifier's probabilities are no finite numbers; "
                        "give one whose training went well"
                    )
                progress.clear()
                write(read, probabilities)
                n_read += len(batch)
    finally:
        progress.clear()
    if not n_read:
        raise InputError(f"none of the {len(files)} images can be read; see above")
    if n_digits:
        print(
            f"{n_digits} of {n_read} images were taken for a drawn digit and put as "
            "MNIST has them: light on dark, 20 pixels large, centred; --digit no "
            "leaves them as they are",
            file=sys.stderr,
        )
    if invert == "no" and channels == 1 and 2 * n_dark > n_read:
        print(
            f"{n_dark} of {n_read} images look dark on light; if the classifier was "
            "trained on light on dark, as MNIST is, add --invert auto",
            file=sys.stderr,
        )
    if n_read < len(files):
        raise RunError(f"{len(files) - n_read} of {len(files)} images were skipped")


def _find_digit(path, image, digit):
    """Return the digit in an image as fit_digit does, None where none is looked for."""
    if digit == "no" or (digit == "auto" and not is_drawing(image)):
        return None
    drawn = fit_digit(image)
    if drawn is None and digit == "yes":
        raise InputError(f"{path}: shows no digit, all is of one grey; leave it out")
    return drawn


class _ProgressLine:
    """A bar on stderr, where that is a terminal."""

    def __init__(self, total):
        self._total, self._open = total, False

    def show(self, done):
        if sys.stderr.isatty():
            bar = "#" * (20 * done // self._total)
            line = f"\r{done}/{self._total} [{bar:.<20}]"
            print(line, end="", file=sys.stderr, flush=True)
            self._open = True

    def clear(self):
        if self._open:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        self._open = False


def _best_two(probabilities):
    """Yield for each row: the likeliest class, its probability, and the next one's."""
    for row in probabilities:
        best, second = np.argsort(-row, kind="stable")[:2]
        yield best, row[best], second, row[second]


def _table_writer(files, class_names):
    file_width = min(60, max(len(printable(path)) for path in files))
    class_width = max(9, *(len(printable(name)) for name in class_names or [""]))

    def text(label):
        return printable(class_names[label]) if class_names else str(label)

    def line(*cells):
        widths = f"{cells[0]:{file_width}}  {cells[1]:{class_width}}  {cells[2]:>11}"
        print(f"{widths}  {cells[3]:{class_width}}  {cells[4]:>11}")

    header = ["File", "Class", "Probability", "Runner-up", "Probability"]

    def write(paths, probabilities):
        if header:
            line(*header)
            header.clear()
        for path, (best, p, second, q) in zip(
            paths, _best_two(probabilities), strict=True
        ):
            line(printable(path), text(best), f"{p:.2%}", text(second), f"{q:.2%}")
        sys.stdout.flush()

    return write


def _json_writer(files, class_names):
    def label(number):
        return class_names[number] if class_names else int(number)

    def write(paths, probabilities):
        for path, row, (best, p, second, q) in zip(
            paths, probabilities, _best_two(probabilities), strict=True
        ):
            values = (str(path), label(best), float(p), label(second), float(q))
            record = dict(zip(COLUMNS, values, strict=True))
            print(json.dumps({**record, "probabilities": row.tolist()}))
        sys.stdout.flush()

    return write


def _csv_writer(files, class_names):
    writer = csv.writer(sys.stdout, lineterminator="\n")
    header = [COLUMNS]

    def label(number):
        return printable(class_names[number]) if class_names else number

    def write(paths, probabilities):
        if header:
            writer.writerow(header.pop())
        for path, (best, p, second, q) in zip(
            paths, _best_two(probabilities), strict=True
        ):
            writer.writerow((printable(path), label(best), p, label(second), q))
        sys.stdout.flush()

    return write
