import csv
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

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
    assert ticks(pictures.draw_confusions(confusion)) == ["0", "1", "2"]


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
    cell = axes.get_window_extent().width / n
    assert n * cell > canvas.get_width_height()[0] / 2
    for text in axes.texts:
        assert text.get_window_extent().width <= cell
        assert text.get_fontsize() >= 4.5
    assert len(axes.texts) == (2 * n - 1 if n <= 100 else 0)
