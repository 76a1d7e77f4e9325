import numpy as np
import pytest

import helpers
from data_sets import arrays, fails
from gankit import command
from gankit.data import load

TEXTS = np.array(list("0123456789"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((20, 32, 32), np.uint8)}, "(20, 32, 32)"),
        ({"x_train": np.zeros((20, 28), np.uint8)}, "(n, height, width)"),
        ({"x_train": np.zeros((20, 28, 28, 2), np.uint8)}, "1 or 3 channels"),
        ({"x_train": np.zeros((20, 28, 28, 3), np.uint8)}, "must be of one shape"),
        ({"x_train": np.zeros((20, 28, 0), np.uint8)}, "at least a pixel"),
        ({"x_train": np.zeros((0, 28, 28), np.uint8)}, "no images"),
        ({"x_train": np.zeros((20, 28, 28))}, "float64"),
        ({"y_train": np.zeros(19, int)}, "19"),
        ({"y_train": np.zeros(20)}, "float64"),
        ({"y_train": np.full(20, -2)}, "from -2 to -2"),
        ({"y_train": np.full(20, 2**63, np.uint64)}, "to 9223372036854775808"),
        ({"y_train": np.arange(20) % 9}, "y_test has labels from 0 to 9"),
        ({"y_test": np.full(20, -1)}, "y_test has labels from -1"),
        ({"y_train": np.arange(20) % 10 + 1, "class_names": TEXTS}, "subtract 1 from"),
        ({"y_test": np.arange(20) % 10 + 1}, "if 1 is the first class, subtract 1"),
        ({"class_names": np.arange(10)}, "array of texts"),
        ({"class_names": np.array([list("0123456789")])}, "array of texts"),
        ({"class_names": np.array(list("012345678"))}, "from 0 to 8"),
        ({"class_names": np.array(list("0012345678"))}, "the same name"),
        (
            {"class_names": np.array(["\u00e9", "e\u0301", *"12345678"])},
            "the same name",
        ),
        ({"class_names": np.array(list("\n123456789"))}, "can't be the name"),
        ({"class_names": np.array(["x" * 60_000])}, "too long"),
    ],
)
def test_arrays_of_another_layout(tmp_path, changes, message):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays(**changes))
    line = fails(path)
    assert line.startswith(str(path)) and message in line


def test_a_shift_is_named_only_where_it_helps(tmp_path):
    path = tmp_path / "data.npz"
    for y in (np.arange(20) % 11, np.arange(20) % 11 + 1):
        np.savez(path, **arrays(y_train=y, class_names=TEXTS))
        assert "y_train has labels" in fails(path) and "subtract" not in fails(path)


@pytest.mark.parametrize(
    ("key", "array", "remedy"),
    [
        ("x_train", [np.eye(3), np.eye(4)], "make all images of one shape and save"),
        ("x_test", [None] * 3, "make all images of one shape and save"),
        ("y_train", list(range(20)), "make the labels integers and save them with"),
        ("class_names", list("0123456789"), "save the names with .astype(str)"),
        ("notes", [None], "save the file without it"),
    ],
)
def test_arrays_of_objects_are_refused_with_their_reason(key, array, remedy, tmp_path):
    path = tmp_path / "data.npz"
    objects = np.empty(len(array), object)
    objects[:] = array
    np.savez(path, **arrays(**{key: objects}))
    line = fails(path)
    assert f"not a plain .npz file: {key} holds Python objects, which could" in line
    assert line.endswith(remedy) or f"; {remedy}" in line


def test_class_names_are_normalised(tmp_path):
    path = tmp_path / "data.npz"
    names = np.array(["e\u0301", *"123456789"])
    np.savez(path, **arrays(class_names=names))
    assert load.load_arrays(path).class_names == ["\u00e9", *"123456789"]


def test_npz_files_of_ones_own(tmp_path, capsys):
    path = tmp_path / "data.npz"
    x = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3)).astype(np.uint8)
    y = np.array([0, 1, -1, -1, 2, -1], np.int8)
    np.savez(path, x_train=x, y_train=y, class_names=np.array(["a", "b é", "c", "d"]))
    data = load.load_arrays(path)
    np.testing.assert_array_equal(data.train[0], x)
    assert data.train[1].tolist() == y.tolist() and data.train[1].dtype == np.int64
    assert data.test is None and data.image_shape == (20, 24, 3)
    assert data.n_classes == 4 and data.class_names == ["a", "b é", "c", "d"]
    assert capsys.readouterr().out == ""
    with pytest.raises(command.InputError, match="has no test images"):
        helpers.load_test_samples(path)
    # grey, with and without the axis of channels
    grey = {"x_train": x[..., 0], "x_test": x[..., :1], "y_test": [0, 1, 2, 0, 1, 2]}
    np.savez(path, y_train=y, **grey)
    data = load.load_arrays(path)
    assert data.n_classes == 3 and data.class_names is None
    np.testing.assert_array_equal(data.train[0], data.test[0])


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
    with pytest.raises(command.InputError, match=message):
        load.load_arrays(path)


def test_more_broken_files(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(command.InputError, match="can't be read"):
        load.load_arrays(path)
    np.savez(path, x_train=np.zeros(3))
    assert "no array y_train; give" in fails(path)
    np.savez(path, x_train=np.zeros(3), y_train=np.zeros(3), y_test=np.zeros(3))
    assert "no array x_test; give" in fails(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(command.InputError, match=r"not an \.npz"):
        load.load_arrays(tmp_path / "one.npy")


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
            load.load_arrays(path)
        except command.InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 150
