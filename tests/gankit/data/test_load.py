import keras
import numpy as np
import pytest

from data_sets import arrays, fails
from gankit import command
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
