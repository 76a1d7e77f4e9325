"""Pictures of a run: sheets of samples, animations, curves, confusions, mistakes."""

import contextlib
import csv
import functools
import io
import sys
from pathlib import Path

import numpy as np

from gankit.backend import Image, LazyModule, figure
from gankit.command import printable
from gankit.folders import write_atomically

matplotlib = LazyModule("matplotlib")
font_manager = LazyModule("matplotlib.font_manager")
DPI = 120
# a figure of confusions in inches, and its texts in points
SMALLEST_FIGURE, LARGEST_FIGURE, INCHES_A_CLASS = 6, 20, 0.3
LEAST_FONT, COUNT_FONT, NAME_FONT = 4.5, 8, 10
LONGEST_NAME, MOST_COUNTS = 24, 5000
# sides of a sheet and of an animation's frame, and the pixels of all its frames
LARGEST_SHEET, LARGEST_FRAME, MOST_PIXELS = 4096, 1280, 300_000_000


# ---------------------------------------------------------------- style


@contextlib.contextmanager
def plain_style():
    """Draw with Matplotlib's own settings, whatever the user's matplotlibrc says.

    Settings are read both where a figure is made and where it is saved. Use it as a
    decorator (`@plain_style()`) of functions that make figures; save_figure and
    encode_figure see to the rest.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@plain_style()
def encode_figure(fig, dpi=DPI):
    """Return a Matplotlib figure as the bytes of a PNG file."""
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def save_figure(fig, path):
    """Save a Matplotlib figure as a PNG file, atomically."""
    content = encode_figure(fig)
    with write_atomically(path) as temporary:
        Path(temporary).write_bytes(content)


def name_classes(class_names, n_classes):
    """Return the classes' names for a figure, a list of str, and their properties.

    class_names: list of str, any text, or None for the numbers. The properties, a
    dict, are for each Text that holds a name: without them '$' starts a formula, and
    characters that Matplotlib's own font lacks are drawn as boxes. Where no installed
    font has them, the names are numbers, and a line on stderr says so.
    """
    numbers = [str(i) for i in range(n_classes)]
    if class_names is None:
        return numbers, {}
    families = _find_fonts("".join(sorted(set("".join(class_names)))))
    if families is None:
        return numbers, {}
    names = [_shortened(name) for name in class_names]
    return names, {"parse_math": False, "fontfamily": families}


def _shortened(name):
    if len(name) <= LONGEST_NAME:
        return name
    end = LONGEST_NAME // 3
    return f"{name[: LONGEST_NAME - end - 1]}…{name[-end:]}"


@functools.cache  # and so its line is written once
def _find_fonts(characters):
    """Return the names of installed fonts that together have these characters.

    Matplotlib's own font comes first; the others fill what it lacks. Returns None,
    after a line on stderr, where some character is in no font.
    """
    fonts = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: (
            font.name != "DejaVu Sans",
            font.style != "normal",
            abs(font_manager.weight_dict.get(font.weight, font.weight) - 400),
            font.name,
            font.fname,
        ),
    )
    missing, families = set(map(ord, characters)), []
    for font in fonts:
        # that one has a box for every character
        if not missing or font.name.startswith("Last Resort"):
            continue
        try:
            glyphs = font_manager.get_font(font.fname)
            found = {code for code in missing if glyphs.get_char_index(code)}
        except (OSError, RuntimeError):  # a font that was removed, or is damaged
            continue
        if found or not families:
            missing -= found
            families.append(font.name)
    if not missing:
        return families
    lacking = printable("".join(map(chr, sorted(missing)[:5])))
    print(
        f"names of classes: no installed font has {lacking}; the figures have the "
        "classes' numbers (a Noto font of the script would do)",
        file=sys.stderr,
    )
    return None


# ---------------------------------------------------------------- sheets


def to_pixels(images):
    """Images (n, h, w, c) in [-1, 1] -> uint8 (n, h, w) grey reversed, or (..., 3)."""
    if images.shape[-1] == 1:
        images = -images[..., 0]
    return np.rint(127.5 + 127.5 * images).astype(np.uint8)


def save_sheet(images, path, in_a_row=None):
    """Save images (n, h, w, c) in [-1, 1] as a sheet, row by row, grey reversed.

    c: 1 or 3, colours, which are not reversed. in_a_row: images in a row; None for a
    square sheet. The images are drawn doubled, or
    smaller where the sheet would have more than LARGEST_SHEET pixels a side.
    """
    n, height, width, _ = images.shape
    square = int(np.ceil(np.sqrt(n)))
    in_a_row, n_rows = (in_a_row, -(-n // in_a_row)) if in_a_row else (square, square)
    longest = max(in_a_row * width, n_rows * height)
    sheet = arrange(images, in_a_row, n_rows, int(np.ceil(longest / LARGEST_SHEET)))
    if 2 * longest <= LARGEST_SHEET:
        sheet = sheet.resize((2 * sheet.width, 2 * sheet.height))
    with write_atomically(path) as temporary:
        sheet.save(temporary)


def arrange(images, in_a_row, n_rows, shrinking=1):
    """Return images as save_sheet has them as one picture, a Pillow image.

    Each is drawn `shrinking` times smaller.
    """
    n, height, width, channels = images.shape
    height, width = (int(np.ceil(size / shrinking)) for size in (height, width))
    sheet = Image.new(
        "L" if channels == 1 else "RGB", (in_a_row * width, n_rows * height), "white"
    )
    for i in range(n):
        cell = Image.fromarray(to_pixels(images[i : i + 1])[0]).reduce(shrinking)
        sheet.paste(cell, (i % in_a_row * width, i // in_a_row * height))
    return sheet


def save_animation(out):
    """Save animation.gif: the sheets of the run in the folder `out`, by their steps.

    A sheet that can't be read is left out, with a line on stderr. Writes nothing where
    there is no sheet.
    """
    sheets = {}
    for path in Path(out).glob("generated_plot_*.png"):
        step = path.stem.removeprefix("generated_plot_")
        if step.isdecimal():
            sheets[int(step)] = path
    frames = (_read_sheet(sheets[step]) for step in sorted(sheets))
    frames = (frame for frame in frames if frame is not None)
    save_frames(frames, Path(out, "animation.gif"), 500, n_frames=len(sheets))


def _read_sheet(path):
    try:
        with Image.open(path) as sheet:
            return sheet.copy()
    # what Pillow raises for a file that is damaged or not a run's
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        print(
            f"{printable(path)}: not in the animation ({printable(error)})",
            file=sys.stderr,
        )
        return None


def save_frames(frames, path, duration, n_frames=None):
    """Save Pillow images as an animation that never ends; duration: ms of each.

    frames: an iterable; one frame at a time is held as it is, the writer keeps a byte a
    pixel of all. Hence frames are shrunk where one has more than LARGEST_FRAME pixels a
    side, or all together more than MOST_PIXELS. n_frames: about how many there are,
    where `frames` has no length. Writes nothing where there is no frame.
    """
    if n_frames is None:
        n_frames = len(frames)
    frames = _fitted(frames, n_frames)
    first = next(frames, None)
    if first is None:
        return
    with write_atomically(path) as temporary:
        first.save(
            temporary, save_all=True, append_images=frames, duration=duration, loop=0
        )


def _fitted(frames, n_frames):
    """Yield the frames, all as large as the first one is when it is shrunk."""
    size = None
    for frame in frames:
        if size is None:
            shrinking = np.ceil(
                max(
                    max(frame.size) / LARGEST_FRAME,
                    np.sqrt(n_frames * frame.width * frame.height / MOST_PIXELS),
                )
            )
            size = [int(np.ceil(side / shrinking)) for side in frame.size]
        if list(frame.size) != size:
            frame = frame.resize(size, Image.Resampling.BOX)
        yield frame


# ---------------------------------------------------------------- curves


@plain_style()
def plot_history(out, table="accuracy.csv"):
    """Save curves.png: the figures of a run's steps and its evaluations.

    out: the run's folder, with history.csv and its table of evaluations. To the left is
    what history.csv has but accuracies; to the right accuracies, or where the run has
    none whatever it evaluated, each figure by itself, since their scales differ. Cells
    may be empty or not finite, and tables have no rows.
    """
    out = Path(out)
    history, evaluations = (_read_table(out / name) for name in ("history.csv", table))
    losses = [name for name in history if name != "step" and "accuracy" not in name]
    measured = [name for name in evaluations if "accuracy" in name]
    others = [name for name in evaluations if name not in ("epoch", "step", "seconds")]
    groups = [(measured, "accuracy, %")] if measured else [([n], n) for n in others]
    parts = [(history, losses, "loss of one batch", {"lw": 0.5})]
    parts += [(evaluations, *group, {"marker": "o", "ms": 3}) for group in groups]
    n_rows = min(2, max(1, len(groups)))
    n_columns = 1 + -(-len(groups) // n_rows)
    fig = figure.Figure(figsize=(5 * n_columns, 4 * n_rows), layout="constrained")
    grid = fig.add_gridspec(n_rows, n_columns)
    places = [
        grid[:, 0],
        *(grid[i % n_rows, 1 + i // n_rows] for i in range(len(groups))),
    ]
    for place, (table, names, label, style) in zip(places, parts, strict=True):
        axes = fig.add_subplot(place)
        drawn = [
            (name, np.isfinite(table[name]) & np.isfinite(table["step"]))
            for name in names
        ]
        drawn = [(name, finite) for name, finite in drawn if finite.any()]
        for name, finite in drawn:
            if finite.sum() == 1:  # no line shows it
                style = {**style, "marker": "o", "ms": 3}
            axes.plot(table["step"][finite], table[name][finite], label=name, **style)
        axes.set(xlabel="step", ylabel=label)
        positive = all((table[name][finite] > 0).all() for name, finite in drawn)
        if table is history and drawn and positive:
            axes.set_yscale("log")
        if drawn:
            axes.legend()
        axes.grid(alpha=0.3)
    save_figure(fig, out / "curves.png")


def _read_table(path):
    """Return {column: float64 (rows,)} of a CSV file; what is no number is NaN."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    columns, *rows = rows or [[]]
    table = np.full((len(columns), len(rows)), np.nan)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row[: len(columns)]):
            with contextlib.suppress(ValueError):
                table[j, i] = float(cell)
    return dict(zip(columns, table, strict=True))


# ---------------------------------------------------------------- confusions


def count_confusions(y, predicted, n_classes):
    """Return int (n_classes, n_classes): images by true class and by predicted one.

    Images without a label, y being -1, are left out.
    """
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (y[y >= 0], predicted[y >= 0]), 1)
    return confusion


@plain_style()
def draw_confusions(confusion, class_names=None):
    """Return a figure of what count_confusions has counted.

    With the number of classes the figure grows and its texts shrink, both within
    bounds: beyond them counts are left out, and not every class is named.
    """
    n = len(confusion)
    side = np.clip(INCHES_A_CLASS * n, SMALLEST_FIGURE, LARGEST_FIGURE)
    fig = figure.Figure(figsize=(side, side), layout="constrained")
    axes = fig.subplots()
    image = axes.imshow(np.sqrt(confusion), cmap="Blues")
    # names take up to a third of the figure; a point is 1/72 inch, a digit 0.65 high
    cell = 72 * side / n * 2 / 3
    font = min(COUNT_FONT, cell / (0.65 * len(str(confusion.max()))))
    if font >= LEAST_FONT and np.count_nonzero(confusion) <= MOST_COUNTS:
        colours = image.to_rgba(np.sqrt(confusion))
        for i, j in np.argwhere(confusion):
            text = axes.text(j, i, confusion[i, j], ha="center", va="center")
            text.set(color=_legible_on(colours[i, j]), fontsize=font, in_layout=False)
    axes.set(xlabel="predicted", ylabel="true")
    names, style = name_classes(class_names, n)
    font = np.clip(cell, LEAST_FONT, NAME_FONT)
    named = range(0, n, int(np.ceil(font / cell)))
    names = [names[i] for i in named]
    upright = class_names is None and n <= 20
    axes.set_xticks(named, names, rotation=0 if upright else 90, fontsize=font, **style)
    axes.set_yticks(named, names, fontsize=font, **style)
    return fig


def _legible_on(colour):
    """Return 'black' or 'white', whichever contrasts more with a colour (r, g, b, a).

    Contrast is that of the Web Content Accessibility Guidelines 2.1, at least 4.58.
    """
    rgb = np.asarray(colour[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


@plain_style()
def draw_mistakes(X, answers, class_names):
    """Return a figure of images that were taken for another class, 25 at most.

    X: (n, h, w, c), uint8, c 1 or 3; answers: for each image its class, the one
    predicted, and the probability of that; class_names: list of str, any text.
    """
    names, style = name_classes(class_names, len(class_names))
    fig = figure.Figure(figsize=(7, 8), layout="constrained")
    fig.suptitle("Most confident mistakes: true → predicted, probability")
    for i, axes in enumerate(fig.subplots(5, 5).flat):
        axes.axis("off")
        if i < len(X):
            axes.imshow(X[i].squeeze(axis=-1) if X.shape[3] == 1 else X[i], "gray_r")
            label, answer, probability = answers[i]
            title = f"{names[label]} → {names[answer]}, {100 * probability:.1f}%"
            axes.set_title(title, fontsize=8, **style)
    return fig
