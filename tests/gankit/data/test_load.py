import keras
import numpy as np
import pytest

from data_sets import arrays, fails, save_image
from gankit import command
from gankit.data import arrays as data_arrays
from gankit.data import load


def test_images_are_resized_for_the_generator(tmp_path, capsys):
    path = tmp_path / "data.npz"
    x = np.full((4, 5, 30), 7, np.uint8)
    np.savez(path, x_train=x, y_train=[0, 1] * 2, x_test=x, y_test=[0, 1] * 2)
    data = load.load_arrays(path)
    printed = capsys.readouterr().out
    assert printed == "The images, 5x30 (height x width), are resized to 8x32\n"
    for X, _ in (data.train, data.test):
        assert X.shape == (4, 8, 32, 1) and X.dtype == np.uint8 and (X == 7).all()
    assert load.load_arrays(path, 16).image_shape == (16, 16, 1)
    x = np.zeros((2, 600, 9), np.uint8)
    np.savez(path, x_train=x, y_train=[0, 1])
    assert "images of 600x9 (height x width) are too large" in fails(path)
    assert load.load_arrays(path, 8).image_shape == (8, 8, 1)
    for size in (0, -4, 4, 18, 1024):
        assert f"--image-size {size}: must be a multiple of 4" in fails(path, size)
    assert "images of your own; name them with --data" in fails(None, 32)


def test_without_the_bundled_file_keras_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(load, "BUNDLED_DATA", tmp_path / "gone.npz")

    def load_data():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    with pytest.raises(command.InputError, match="URL fetch failure.*--data FILE"):
        load.load_arrays()
    data = arrays()
    pairs = (data["x_train"], data["y_train"]), (data["x_test"], data["y_test"])
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: pairs)
    assert load.load_arrays().train[0].shape == (20, 28, 28, 1)


def test_pixels_of_0_and_1_are_told(tmp_path, capsys):
    path = tmp_path / "data.npz"
    x = np.random.default_rng(0).integers(0, 2, (20, 28, 28)).astype(np.uint8)
    np.savez(path, **arrays(x_train=x))
    load.load_arrays(path)
    line = f"{path}: all pixels are 0 or 1 of 255, which is nearly black; if 1 stands "
    assert capsys.readouterr().err == f"{line}for white, multiply them by 255\n"
    folder = tmp_path / "folder"
    for i in range(4):
        save_image(folder / "ab"[i % 2] / f"{i}.png", x[i])
    load.load_arrays(folder)
    assert capsys.readouterr().err.startswith(f"{folder}: all pixels are 0 or 1")
    for levels in (x * 255, x * 2, x * 0):
        np.savez(path, **arrays(x_train=levels))
        load.load_arrays(path)
        assert capsys.readouterr().err == ""


def test_resizing_is_bounded_before_it_takes_memory(tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays())
    monkeypatch.setattr(data_arrays, "LARGEST_ARRAY", 20 * 32 * 32)
    assert load.load_arrays(path, 32).image_shape == (32, 32, 1)
    line = fails(path, 36)
    assert line.startswith("20 images of 36x36x1: more than")
    assert line.endswith("give a smaller --image-size")


def test_a_further_format_is_one_reader(tmp_path, monkeypatch):
    class Reader:
        def recognises(path):
            return path.suffix == ".own"

        def read(name, image_size):
            pixels = np.fromfile(name, np.uint8).reshape(2, 8, 8)
            y = np.array([0, 1])
            return data_arrays.check_data(
                name, pixels, y, None, None, None, image_size=image_size
            )

    path = tmp_path / "data.own"
    path.write_bytes(bytes(range(128)))
    monkeypatch.setattr(load, "READERS", (Reader, *load.READERS))
    data = load.load_arrays(path)
    assert data.train[0].ravel().tolist() == list(range(128))
    assert load.load_arrays(path, 16).image_shape == (16, 16, 1)
