import csv
import os
import subprocess
import sys
import warnings
import weakref
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageSequence

from gankit import pictures

ROOT = Path(pictures.__file__).resolve().parents[1]
HOSTILE_STYLE = """
text.usetex: True
text.parse_math: False
font.family: no such font
font.size: 30
figure.dpi: 7
figure.constrained_layout.h_pad: 1
savefig.dpi: 7
savefig.bbox: tight
savefig.format: pdf
savefig.transparent: True
lines.linewidth: 20
axes.facecolor: red
image.cmap: jet
image.origin: lower
"""


@pytest.fixture(autouse=True)
def fresh_fonts():
    pictures._find_fonts.cache_clear()


def write_tables(out, history, accuracy):
    """Write a run's two tables: lists of rows, the first of them the columns."""
    out.mkdir(exist_ok=True)
    for name, rows in (("history.csv", history), ("accuracy.csv", accuracy)):
        with open(out / name, "w", newline="") as file:
            csv.writer(file).writerows(rows)
    return out


def drawn_by(function, *arguments, monkeypatch):
    """Return the figures that a function of pictures saves."""
    figures = []
    monkeypatch.setattr(pictures, "save_figure", lambda fig, path: figures.append(fig))
    function(*arguments)
    return figures


# ---------------------------------------------------------------- style


def test_the_users_settings_change_no_figure(tmp_path):
    code = f"""
import pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from gankit import pictures
import upsampling_demo
out = pathlib.Path(sys.argv[1])
pictures.plot_history(out)
confusion = pictures.draw_confusions(np.diag([3, 4]), ["$5_$10", "$0-$5"])
pictures.save_figure(confusion, out / "confusion.png")
demo = upsampling_demo.draw_arrays({{"a": np.eye(2), "b": np.eye(3)}})
pictures.save_figure(demo, out / "demo.png")
"""
    style = tmp_path / "matplotlibrc"
    style.write_text(HOSTILE_STYLE)
    outs = []
    for name, environment in (("own", {}), ("user", {"MATPLOTLIBRC": str(style)})):
        out = write_tables(
            tmp_path / name,
            [["step", "c_loss"], [1, 2.5], [2, 0.01]],
            [["epoch", "step", "test_accuracy", "seconds"], [1, 2, 50, 3]],
        )
        done = subprocess.run(
            [sys.executable, "-c", code, out],
            env={**os.environ, **environment},
            cwd=out,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        outs.append(out)
    for name in ("curves.png", "confusion.png", "demo.png"):
        own, user = ((out / name).read_bytes() for out in outs)
        assert own == user, name
    with Image.open(outs[0] / "curves.png") as curves:
        assert curves.size == (1200, 480)


def test_the_style_is_the_users_again_afterwards():
    with matplotlib.rc_context({"font.size": 31}):
        with pictures.plain_style():
            assert matplotlib.rcParams["font.size"] == 10
        pictures.draw_confusions(np.eye(2, dtype=int))
        assert matplotlib.rcParams["font.size"] == 31


# ---------------------------------------------------------------- fonts


def test_names_are_no_formulas():
    names = ["$5_$10", "$0-$5", r"\$x^2$", "a_b%&#{~", "$"]
    fig = pictures.draw_confusions(np.diag([3, 4, 5, 6, 7]), names)
    assert ticks(fig) == names
    assert pictures.encode_figure(fig).startswith(b"\x89PNG")
    FigureCanvasAgg(fig).draw()
    (axes,) = fig.axes
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label in labels:
            # in no other way than a text without formulas
            other = matplotlib.text.Text(
                *label.get_position(),
                label.get_text(),
                parse_math=False,
                fontsize=label.get_fontsize(),
                rotation=label.get_rotation(),
                figure=fig,
            )
            drawn, expected = (text.get_window_extent().size for text in (label, other))
            np.testing.assert_allclose(drawn, expected)


def test_a_font_that_has_the_names(monkeypatch, tmp_path, capsys):
    names = ["Ωμέγα", "мир", "née"]
    assert pictures.name_classes(names, 3)[1]["fontfamily"] == ["DejaVu Sans"]
    # only these are installed, and one whose file was removed
    own = [
        font
        for font in font_manager.fontManager.ttflist
        if font.name in ("DejaVu Sans", "STIXGeneral", "Last Resort High-Efficiency")
    ]
    gone = font_manager.FontEntry(str(tmp_path / "gone.ttf"), "Gone", "normal")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [gone, *own])
    in_stix = next(
        chr(code)
        for code in font_manager.get_font(
            font_manager.findfont("STIXGeneral")
        ).get_charmap()
        if not has_glyph("DejaVu Sans", code)
    )
    names = ["a", in_stix]
    drawn, style = pictures.name_classes(names, 2)
    assert drawn == names
    assert style["fontfamily"] == ["DejaVu Sans", "STIXGeneral"]
    assert not capsys.readouterr().err
    fig = pictures.draw_confusions(np.eye(2, dtype=int), names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # 'Glyph … missing from font(s)'
        pictures.encode_figure(fig)

    names = ["犬", "cat"]
    for _ in range(2):
        fig = pictures.draw_confusions(np.eye(2, dtype=int), names)
        assert ticks(fig) == ["0", "1"]
    (line,) = capsys.readouterr().err.splitlines()  # once
    assert line.startswith("names of classes: no installed font has 犬; the figures")


def test_the_faces_that_are_drawn_are_looked_into(monkeypatch):
    faces = {
        "bold": ("normal", 700),
        "italic": ("italic", 400),
        "book": ("normal", 400),
    }
    entries = [
        font_manager.FontEntry(name, "A font", style=style, weight=weight)
        for name, (style, weight) in faces.items()
    ]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
    opened = []

    def get_font(path):
        opened.append(path)
        raise OSError

    monkeypatch.setattr(font_manager, "get_font", get_font)
    assert pictures.name_classes(["x"], 1) == (["0"], {})
    assert opened == ["book", "bold", "italic"]


def has_glyph(family, code):
    return font_manager.get_font(font_manager.findfont(family)).get_char_index(code)


def test_long_names_are_shortened():
    names, _ = pictures.name_classes(["a" * 24, "b" * 200 + "c" * 8], 2)
    assert names == ["a" * 24, "b" * 15 + "…" + "c" * 8]
    assert pictures.name_classes(None, 3) == (["0", "1", "2"], {})


# ---------------------------------------------------------------- sheets


def images_of(n, height, width, channels=1):
    """Different images (n, h, w, c) in [-1, 1]."""
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (n, height, width, channels)).astype(np.float32)


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 12, 1), (8, 12, 3)])
def test_a_sheet_shows_each_image_at_its_place(tmp_path, shape):
    height, width, channels = shape
    # four fields an image, dark or light
    images = np.sign(images_of(7, 2, 2, channels))
    images = images.repeat(height // 2, axis=1).repeat(width // 2, axis=2)
    pictures.save_sheet(images, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.mode == ("L" if channels == 1 else "RGB")
        sheet = np.asarray(picture)
    sheet = sheet.reshape(3, 2 * height, 3, 2 * width, channels).swapaxes(1, 2)
    cells = sheet.reshape(9, 2 * height, 2 * width, channels)
    # in the middle of the fields, for the enlargement smooths; grey is reversed
    middle = (slice(None), slice(height // 2, None, height), slice(3, None, width))
    expected = (-images if channels == 1 else images) > 0
    drawn = np.ones((9, 2, 2, channels), bool)
    drawn[:7] = expected[:, :: height // 2, :: width // 2]
    np.testing.assert_array_equal(cells[middle], 255 * drawn)
    plain = np.full((1, *shape), -0.5, np.float32)
    pictures.save_sheet(plain, tmp_path / "plain.png")
    with Image.open(tmp_path / "plain.png") as picture:
        value = 191 if channels == 1 else 64
        assert (np.asarray(picture) == value).all()


def test_sheets_of_small_images_are_as_ever(tmp_path):
    for side in (28, 32):
        images = np.linspace(-1, 1, 100 * side * side, dtype=np.float32)
        pictures.save_sheet(images.reshape(100, side, side, 1), tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            pixels = np.asarray(sheet)
        assert pixels.shape == (20 * side, 20 * side)
        reversed_grey = pictures.to_pixels(images.reshape(100, side, side, 1))
        rows = reversed_grey.reshape(10, 10, side, side).swapaxes(1, 2)
        expected = Image.fromarray(rows.reshape(10 * side, 10 * side)).resize(
            (20 * side, 20 * side)
        )
        np.testing.assert_array_equal(pixels, np.asarray(expected))


@pytest.mark.parametrize(
    ("n", "shape", "size"),
    [
        (4, (128, 128, 1), (512, 512)),
        (100, (204, 204, 1), (4080, 4080)),
        (100, (208, 208, 1), (2080, 2080)),
        (16, (512, 512, 3), (4096, 4096)),
        (81, (512, 40, 1), (180, 2304)),
        (81, (40, 512, 1), (2304, 180)),
    ],
)
def test_a_sheets_size_is_bounded(tmp_path, n, shape, size):
    values = np.linspace(-0.9, 0.9, n, dtype=np.float32)
    images = np.tile(values[:, None, None, None], (1, *shape))
    images[:, : shape[0] // 2] *= -1  # the upper half
    pictures.save_sheet(images, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == size and max(size) <= pictures.LARGEST_SHEET
        in_a_row = int(np.ceil(np.sqrt(n)))
        height, width = sheet.height // in_a_row, sheet.width // in_a_row
        for i in (0, n // 3, n - 1):
            for row, part in ((0, 0.25), (-1, 0.75)):
                x, y = (i % in_a_row + 0.5) * width, (i // in_a_row + part) * height
                expected = pictures.to_pixels(images[i : i + 1])[0, row, 0]
                assert np.all(sheet.getpixel((int(x), int(y))) == expected)


# ---------------------------------------------------------------- animations


def frames_of(path):
    """Return an animation's frames, uint8 (n, h, w, 3), and their milliseconds."""
    with Image.open(path) as animation:
        assert animation.info["loop"] == 0
        frames, durations = [], []
        for frame in ImageSequence.Iterator(animation):
            frames.append(np.asarray(frame.convert("RGB")))
            durations.append(frame.info["duration"])
    return np.stack(frames), durations


def save_grey(path, value, size=(16, 16)):
    Image.new("L", size, value).save(path)


def test_an_animation_has_the_sheets_by_their_steps(tmp_path, capsys):
    for step, value in ((600, 10), (10_000, 40), (1200, 20), (9999, 30)):
        save_grey(tmp_path / f"generated_plot_{step:04d}.png", value)
    for odd in ("best", "10 (copy)", "best_2", "", "-3", "²"):
        save_grey(tmp_path / f"generated_plot_{odd}.png", 200)
    pictures.save_animation(tmp_path)
    frames, durations = frames_of(tmp_path / "animation.gif")
    assert frames[:, 3, 3, 0].tolist() == [10, 20, 30, 40]
    assert durations == [500] * 4
    assert not capsys.readouterr().err


def test_sheets_that_cant_be_read_are_left_out(tmp_path, capsys):
    for step in (1, 3, 4):
        save_grey(tmp_path / f"generated_plot_{step:04d}.png", 10 * step)
    noise = np.random.default_rng(0).bytes(10_000)
    cut = tmp_path / "generated_plot_0002.png"
    Image.frombytes("L", (100, 100), noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:5000])
    (tmp_path / "generated_plot_0001.png").write_text("not a picture")
    (tmp_path / "generated_plot_0005.png").mkdir()
    save_grey(tmp_path / "generated_plot_0006.png", 60, size=(40, 20))
    pictures.save_animation(tmp_path)
    frames, _ = frames_of(tmp_path / "animation.gif")
    assert frames[:, 3, 3, 0].tolist() == [30, 40, 60]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("not in the animation (" in line for line in lines)


def test_a_run_without_sheets_has_no_animation(tmp_path):
    pictures.save_animation(tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_frame_at_a_time_is_held(tmp_path, monkeypatch):
    for step in range(12):
        Image.fromarray(np.uint8(images_of(1, 64, 64, 3)[0] + step)).save(
            tmp_path / f"generated_plot_{step:04d}.png"
        )
    frames, alive = [], []
    read = pictures._read_sheet

    def read_counted(path):
        frame = read(path)
        frames.append(weakref.ref(frame))
        alive.append(sum(frame() is not None for frame in frames))
        return frame

    monkeypatch.setattr(pictures, "_read_sheet", read_counted)
    pictures.save_animation(tmp_path)
    # the first one, the one before and the new one
    assert len(alive) == 12 and max(alive) <= 3
    assert len(frames_of(tmp_path / "animation.gif")[0]) == 12


@pytest.mark.parametrize(
    ("n_frames", "size", "fitted"),
    [
        (2, (560, 560), (560, 560)),
        (2, (1280, 640), (1280, 640)),
        (2, (1284, 640), (642, 320)),
        (900, (560, 560), (560, 560)),
        (1000, (560, 560), (280, 280)),
        (10_000, (168, 168), (168, 168)),
        (2000, (4096, 4096), (373, 373)),
    ],
)
def test_an_animations_size_is_bounded(tmp_path, n_frames, size, fitted):
    frames = (Image.new("L", size, 40 * i) for i in range(2))
    pictures.save_frames(frames, tmp_path / "a.gif", 40, n_frames=n_frames)
    written, durations = frames_of(tmp_path / "a.gif")
    assert written.shape == (2, *fitted[::-1], 3) and durations == [40, 40]
    assert written[:, 5, 5, 0].tolist() == [0, 40]
    assert n_frames * written[0, ..., 0].size <= pictures.MOST_PIXELS


def test_an_animation_of_many_sheets_is_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 4 * 10 * 10)
    for step in range(4):
        save_grey(tmp_path / f"generated_plot_{step:04d}.png", step, size=(20, 20))
    pictures.save_animation(tmp_path)
    frames, _ = frames_of(tmp_path / "animation.gif")
    assert frames.shape == (4, 10, 10, 3)


# ---------------------------------------------------------------- curves

STEPS = [
    ["step", "c_loss", "c_accuracy", "d_loss"],
    [1, 2.5, 0.1, 0.5],
    [2, 0.01, 0.2, 0.25],
]
EVALUATIONS = [
    ["epoch", "step", "train_accuracy", "labelled_error", "test_accuracy", "seconds"],
    [0.5, 1, 50, 3, "", 3],
    [1, 2, 60, 2, 70, 6],
    [1.5, 3, "nan", 1, 80, 9],
]


def curves(tmp_path, monkeypatch, history, accuracy):
    """Return the parts of curves.png; per part its axes and {label: points}."""
    out = write_tables(tmp_path / "run", history, accuracy)
    pictures.plot_history(out)
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    (fig,) = drawn_by(pictures.plot_history, out, monkeypatch=monkeypatch)
    parts = []
    for axes in fig.axes:
        lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
        legend = axes.get_legend()
        texts = [text.get_text() for text in legend.get_texts()] if legend else []
        assert texts == list(lines)
        parts.append((axes, lines))
    return parts


def test_curves_of_an_sgan(tmp_path, monkeypatch):
    (left, losses), (right, accuracies) = curves(
        tmp_path, monkeypatch, STEPS, EVALUATIONS
    )
    assert losses == {"c_loss": [[1, 2.5], [2, 0.01]], "d_loss": [[1, 0.5], [2, 0.25]]}
    assert accuracies == {
        "train_accuracy": [[1, 50], [2, 60]],
        "test_accuracy": [[2, 70], [3, 80]],
    }
    assert (left.get_xlabel(), left.get_ylabel()) == ("step", "loss of one batch")
    assert (right.get_xlabel(), right.get_ylabel()) == ("step", "accuracy, %")
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")
    assert {line.get_linewidth() for line in left.lines} == {0.5}
    assert {line.get_marker() for line in left.lines} == {"None"}
    assert {line.get_marker() for line in right.lines} == {"o"}


@pytest.mark.parametrize("value", [0, -1e-9, -5])
def test_a_logarithmic_scale_where_all_is_positive(tmp_path, monkeypatch, value):
    (left, losses), _ = curves(
        tmp_path, monkeypatch, [*STEPS, [3, 1, 1, value]], EVALUATIONS
    )
    assert left.get_yscale() == "linear"
    assert losses["d_loss"][-1] == [3, value]


@pytest.mark.parametrize("columns", [["distance"], ["distance", "recall", "modes"]])
def test_curves_of_a_run_without_accuracies(tmp_path, monkeypatch, columns):
    rows = [[1, 10, *(i + 2 for i, _ in enumerate(columns)), 5]]
    accuracy = [["epoch", "step", *columns, "seconds"], *rows]
    _, *parts = curves(tmp_path, monkeypatch, STEPS, accuracy)
    assert [lines for _, lines in parts] == [
        {name: [[10, i + 2]]} for i, name in enumerate(columns)
    ]
    assert [axes.get_ylabel() for axes, _ in parts] == columns


def test_curves_are_of_the_table_that_is_named(tmp_path, monkeypatch):
    out = write_tables(tmp_path / "run", STEPS, EVALUATIONS)
    (out / "measures.csv").write_text("step,modes\n7,3\n", encoding="utf-8")
    figures = drawn_by(
        lambda path: pictures.plot_history(path, "measures.csv"),
        out,
        monkeypatch=monkeypatch,
    )
    (line,) = figures[0].axes[1].lines
    assert line.get_xydata().tolist() == [[7, 3]]


@pytest.mark.parametrize(
    ("history", "accuracy", "n_lines"),
    [
        (STEPS[:1], EVALUATIONS[:1], [0, 0]),
        (STEPS[:2], EVALUATIONS[:1], [2, 0]),
        (STEPS[:2], EVALUATIONS[:2], [2, 1]),
        ([*STEPS, [3, "", "", "nan"], [4, "inf", 1, "-inf"]], EVALUATIONS, [2, 2]),
        ([["step", "g_loss"], [1, "inf"]], [["epoch", "step", "seconds"]], [0]),
        ([["step"], [1]], [["epoch", "step", "a"], [1, 1, "-inf"]], [0, 0]),
        ([["step", "g_loss"], [1, 1e38], [2, 1e-38]], [], [1]),
        ([["step", "g_loss"], [1, 3], [2]], EVALUATIONS, [1, 2]),
        ([*STEPS, ["", 1, 1, 1]], [*EVALUATIONS, [2, "nan", 9, 9, 9, 9]], [2, 2]),
    ],
)
def test_a_finished_run_has_curves(tmp_path, monkeypatch, history, accuracy, n_lines):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # what an older Matplotlib says of a newer library that it uses
        warnings.simplefilter("ignore", DeprecationWarning)
        parts = curves(tmp_path, monkeypatch, history, accuracy)
    assert [len(lines) for _, lines in parts] == n_lines
    for axes, lines in parts:
        assert all(np.isfinite(points).all() for points in lines.values())
        assert lines or axes.get_yscale() == "linear"
        # a single point is seen too
        for line in axes.lines:
            assert len(line.get_xdata()) > 1 or line.get_marker() == "o"


# ---------------------------------------------------------------- confusions


def ticks(figure):
    (axes,) = figure.axes
    return [label.get_text() for label in axes.get_yticklabels()]


def test_confusions_are_counted():
    y, predicted = np.array([0, 0, 2, -1, 1, 0]), np.array([0, 2, 2, 1, 0, 2])
    expected = [[1, 0, 2], [1, 0, 0], [0, 0, 1]]
    counted = pictures.count_confusions(y, predicted, 3)
    assert counted.dtype == int and counted.tolist() == expected


def test_confusions_are_drawn_at_their_places():
    confusion = np.array([[900, 7, 0], [0, 0, 30], [600, 0, 1]])
    fig = pictures.draw_confusions(confusion, ["ape", "bee", "cat"])
    (axes,) = fig.axes
    drawn = {text.get_position(): text.get_text() for text in axes.texts}
    places = np.argwhere(confusion)
    assert drawn == {(j, i): str(confusion[i, j]) for i, j in places}
    assert axes.get_xlabel() == "predicted" and axes.get_ylabel() == "true"
    assert ticks(fig) == ["ape", "bee", "cat"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ticks(fig)
    np.testing.assert_allclose(axes.images[0].get_array() ** 2, confusion)
    numbered = pictures.draw_confusions(confusion)
    assert ticks(numbered) == ["0", "1", "2"]
    assert {text.get_fontsize() for text in axes.texts} == {pictures.COUNT_FONT}
    for drawn, rotation in ((fig, 90), (numbered, 0)):
        (axes,) = drawn.axes
        assert {t.get_rotation() for t in axes.get_xticklabels()} == {rotation}


def test_counts_are_legible_on_their_squares():
    def luminance(colour):
        rgb = np.array(matplotlib.colors.to_rgb(colour))
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    # each shade once on the diagonal and once off it
    confusion = np.array([[100 * (i + j) + 1 for j in range(10)] for i in range(10)])
    fig = pictures.draw_confusions(confusion)
    (axes,) = fig.axes
    assert len(axes.texts) == 100
    colours = set()
    for text in axes.texts:
        j, i = text.get_position()
        square = axes.images[0].to_rgba(np.sqrt(confusion[i, j]))
        light, dark = sorted(
            (luminance(text.get_color()), luminance(square[:3])), reverse=True
        )
        assert (light + 0.05) / (dark + 0.05) >= 4.5
        colours.add(text.get_color())
    assert colours == {"white", "black"}


@pytest.mark.parametrize(
    ("n", "name"),
    [
        (2, None),
        (2, "a very long name of a class, {}"),
        (10, "class {}"),
        (30, None),
        (100, "class {}"),
        (100, "a very long name of a class, {}"),
        (1000, None),
    ],
)
def test_many_classes_stay_readable(n, name):
    names = name and [name.format(i) for i in range(n)]
    confusion = np.diag(np.full(n, 50)) + np.eye(n, k=1, dtype=int)
    fig = pictures.draw_confusions(confusion, names)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    assert max(fig.get_size_inches()) * pictures.DPI <= 2400
    (axes,) = fig.axes
    for labels, side in ((axes.get_xticklabels(), "x"), (axes.get_yticklabels(), "y")):
        boxes = [label.get_window_extent() for label in labels]
        # no two lie on one another
        ends = sorted((getattr(b, side + "0"), getattr(b, side + "1")) for b in boxes)
        assert all(a[1] <= b[0] + 1 for a, b in zip(ends, ends[1:], strict=False))
        assert min(label.get_fontsize() for label in labels) >= 4.5
        assert len(labels) >= min(n, 100)
    for axis in (axes.xaxis, axes.yaxis):
        drawn = [label.get_text() for label in axis.get_ticklabels()]
        expected = pictures.name_classes(names, n)[0]
        assert drawn == [expected[int(place)] for place in axis.get_ticklocs()]
    cell = axes.get_window_extent().width / n
    assert n * cell > canvas.get_width_height()[0] / 2
    for text in axes.texts:
        assert text.get_window_extent().width <= cell
        assert text.get_fontsize() >= 4.5
    assert len(axes.texts) == (2 * n - 1 if n <= 100 else 0)


def test_more_counts_than_one_can_read_are_left_out():
    fig = pictures.draw_confusions(np.ones((71, 71), int))
    (axes,) = fig.axes
    assert not axes.texts
    fig = pictures.draw_confusions(np.ones((70, 70), int))
    (axes,) = fig.axes
    assert len(axes.texts) == 4900


@pytest.mark.parametrize("channels", [1, 3])
def test_mistakes_are_drawn_with_their_answers(channels):
    X = np.random.default_rng(0).integers(0, 256, (26, 6, 5, channels), np.uint8)
    answers = [(i % 2, 1 - i % 2, 0.5 + i / 100) for i in range(26)]
    fig = pictures.draw_mistakes(X, answers, ["$5_$10", "a" * 40])
    assert len(fig.axes) == 25  # the last one is left out
    for shown, axes in zip(X, fig.axes, strict=False):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), np.squeeze(shown))
        assert image.get_cmap().name == "gray_r"  # as on the sheets
    short = "a" * 15 + "…" + "a" * 8
    titles = [axes.title.get_text() for axes in fig.axes[:2]]
    assert titles == [f"$5_$10 → {short}, 50.0%", f"{short} → $5_$10, 51.0%"]
    FigureCanvasAgg(fig).draw()
    assert not fig.axes[0].title.get_parse_math()  # a name is no formula


def test_fewer_mistakes_than_there_is_room_for():
    X = np.zeros((1, 4, 4, 1), np.uint8)
    fig = pictures.draw_mistakes(X, [(1, 0, 0.75)], ["0", "1"])
    assert [len(axes.images) for axes in fig.axes] == [1] + 24 * [0]
    assert not any(axes.axison for axes in fig.axes)


def test_a_sheet_has_so_many_images_in_a_row(tmp_path):
    images = np.linspace(-1, 1, 7, dtype=np.float32).reshape(7, 1, 1, 1)
    images = images * np.ones((1, 4, 8, 1), np.float32)
    pictures.save_sheet(images, tmp_path / "sheet.png", 3)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 16, 3 * 8)
        middles = np.asarray(sheet)[4::8, 8::16]
    expected = np.full(9, 255)
    expected[:7] = np.rint(127.5 - 127.5 * np.linspace(-1, 1, 7))
    assert np.abs(middles.reshape(-1) - expected).max() <= 1
