import dataclasses

import numpy as np
import photographs
import pytest
import skimage.data

from gankit.data.load import load_arrays
from parts import fails

TINY = ("--train", 12, "--tests", 8)


def options(*more):
    return [str(option) for option in (*TINY, *more)]


def test_the_photographs_are_those_of_skimage():
    found = photographs.read_photographs()
    assert list(found) == list(photographs.FILES)
    for name, photograph in found.items():
        assert np.array_equal(photograph, getattr(skimage.data, name)()), name


def test_a_file_for_data_is_made(tmp_path, capsys):
    out = tmp_path / "photographs.npz"
    assert photographs.main(options("--out", out, "--size", 16)) == 0
    assert f"12 training and 8 test patches are in {out}" in capsys.readouterr().out
    data = load_arrays(out)
    assert data.train[0].shape == (12, 16, 16, 3)
    assert data.class_names == list(photographs.FILES)
    assert data.train[1].tolist() == [0, 1, 2, 3] * 3
    assert data.test[1].tolist() == [0, 1, 2, 3] * 2
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_patches_follow_from_the_seed():
    settings = photographs.Settings(train=8, tests=4, size=8)
    first, again = (photographs.make_arrays(settings) for _ in range(2))
    other = photographs.make_arrays(dataclasses.replace(settings, seed=1))
    assert np.array_equal(first["x_train"], again["x_train"])
    assert np.array_equal(first["x_test"], again["x_test"])
    assert not np.array_equal(first["x_train"], other["x_train"])


@pytest.mark.parametrize("width", [20, 451])
def test_no_pixel_is_for_training_and_for_tests(width):
    photograph = np.zeros((3, width, 3), np.uint8)
    train, test = photographs.split(photograph)
    train[:] = 1
    assert not test.any() and (photograph[:, train.shape[1] :] == 0).all()
    assert train.shape[1] + test.shape[1] == width
    assert test.shape[1] == pytest.approx(3 / 8 * width, abs=1)


def test_a_photograph_can_be_held_out(monkeypatch):
    colours = {
        name: np.full((40, 60, 3), 50 * i, np.uint8)
        for i, name in enumerate(photographs.FILES)
    }
    monkeypatch.setattr(photographs, "read_photographs", lambda: colours)
    settings = photographs.Settings(train=9, tests=4, size=8, test="coffee")
    arrays = photographs.make_arrays(settings)
    assert set(np.unique(arrays["x_train"])) == {0, 50, 150}
    assert set(np.unique(arrays["x_test"])) == {100}
    for part in ("train", "test"):
        assert (arrays[f"x_{part}"][:, 0, 0, 0] == 50 * arrays[f"y_{part}"]).all()


def test_patches_are_whole_and_some_are_flipped():
    """The photograph's brightness rises to the right and downwards."""
    steps = np.add.outer(2 * np.arange(20), 4 * np.arange(30))
    photograph = np.repeat(steps[..., np.newaxis], 3, axis=2).astype(np.uint8)
    draw = photographs.draw_patches
    X, y = draw([photograph], 40, 8, np.random.default_rng(0))
    assert X.shape == (40, 8, 8, 3) and not y.any()
    rises = np.diff(X.astype(int), axis=2).mean(axis=(1, 2, 3))
    # 4 a pixel: shrunk to a half, 8
    assert rises.min() > 3.5 and 6 < rises.max() < 8.5
    assert (np.diff(X.astype(int), axis=1) >= 0).all()
    X, _ = draw([photograph], 40, 8, np.random.default_rng(0), flip=True)
    rises = np.diff(X.astype(int), axis=2).mean(axis=(1, 2, 3))
    assert 8 < np.count_nonzero(rises < 0) < 32
    # no patch is larger than its photograph
    X, _ = draw([photograph[:9, :8]], 5, 8, np.random.default_rng(0))
    assert X.shape == (5, 8, 8, 3)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("--size", 30), "--size 30: must be a multiple of 4"),
        (("--size", 132), "--size 132: must be from 8 to 128"),
        (("--train", 0), "--train 0: must be from 4"),
        (("--tests", 10**9), "--tests 1000000000: must be from 4"),
        (("--test", "moon"), "invalid choice: 'moon'"),
        (("--out", "photographs.zip"), "photographs.zip: must end in .npz"),
        (("--out", "missing/photographs.npz"), "no such folder"),
    ],
)
def test_bad_input_is_refused(given, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "--test" in given:
        with pytest.raises(SystemExit) as end:
            photographs.main(options(*given))
        assert end.value.code == 2 and problem in capsys.readouterr().err
    else:
        assert problem in fails(photographs, capsys, *TINY, *given)
    assert not list(tmp_path.iterdir())


def test_no_file_is_replaced(tmp_path, capsys):
    out = tmp_path / "a.npz"
    out.write_text("kept")
    assert "is there already" in fails(photographs, capsys, *TINY, "--out", out)
    assert out.read_text() == "kept"


def test_a_package_without_the_photographs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(photographs.FILES, "chelsea", "no cat.png")
    line = fails(photographs, capsys, *TINY)
    assert "has no no cat.png; install it with pip install scikit-image" in line
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: None)
    assert "scikit-image: is not installed" in fails(photographs, capsys, *TINY)
    assert not list(tmp_path.iterdir())
