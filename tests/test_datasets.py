import numpy as np
import pytest

import datasets
import helpers


def arrays(**changes):
    x, y = np.zeros((20, 28, 28), np.uint8), np.arange(20) % 10
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((20, 32, 32), np.uint8)}, r"\(20, 32, 32\)"),
        ({"x_train": np.zeros((20, 28, 28, 1), np.uint8)}, r"\(n, 28, 28\)"),
        ({"x_train": np.zeros((0, 28, 28), np.uint8)}, "no images"),
        ({"x_train": np.zeros((20, 28, 28))}, "float64"),
        ({"y_train": np.zeros(19, int)}, "19"),
        ({"y_train": np.zeros(20)}, "float64"),
        ({"y_train": np.full(20, 10)}, "from 10 to 10"),
        ({"y_test": np.full(20, -1)}, "y_test has labels from -1"),
        ({"x_test": np.array([None] * 3)}, "not a plain .npz"),
    ],
)
def test_arrays_of_another_layout(tmp_path, changes, message):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays(**changes))
    with pytest.raises(helpers.InputError, match=message) as caught:
        datasets.load_arrays(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "can't be read"),
        (b"not an archive", "not a plain .npz"),
        (b"PK\x03\x04 cut off", "can't be read"),
    ],
)
def test_files_that_are_no_archive(tmp_path, content, message):
    path = tmp_path / "data.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(helpers.InputError, match=message):
        datasets.load_arrays(path)


def test_more_broken_files(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(helpers.InputError, match="can't be read"):
        datasets.load_arrays(path)
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(helpers.InputError, match="no array y_train, x_test, y_test"):
        datasets.load_arrays(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(helpers.InputError, match=r"not an \.npz"):
        datasets.load_arrays(tmp_path / "one.npy")
    with pytest.raises(helpers.InputError, match="can't be read"):
        datasets.load_arrays(tmp_path)


def test_flipped_bytes_are_told_in_one_line(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    # the first array's header, and the directory at the end
    places = [
        *rng.integers(0, 200, 150),
        *rng.integers(len(whole) - 300, len(whole), 150),
    ]
    refused = 0
    for place in places:
        broken = bytearray(whole)
        broken[place] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        try:
            datasets.load_arrays(path)
        except helpers.InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 150


def test_without_the_bundled_file_keras_is_asked(monkeypatch, tmp_path):
    import keras

    monkeypatch.setattr(datasets, "BUNDLED_DATA", tmp_path / "gone.npz")

    def load_data():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    with pytest.raises(helpers.InputError, match="URL fetch failure.*--data FILE"):
        datasets.load_arrays()
    data = arrays()
    pairs = (data["x_train"], data["y_train"]), (data["x_test"], data["y_test"])
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: pairs)
    (x, _), _ = datasets.load_arrays()
    assert x.shape == (20, 28, 28)
