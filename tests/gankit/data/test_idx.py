import gzip
import tracemalloc

import numpy as np
import pytest

from data_sets import IDX_NAMES, fails, idx_bytes
from gankit.data import labels, load
from parts import refused


def write_idx(folder, pack=False, n=12, *, names=IDX_NAMES, first_class=0):
    """Write the four IDX files to a folder; return the folder and x_train."""
    folder.mkdir(exist_ok=True)
    x = np.random.default_rng(0).integers(0, 256, (n, 8, 12)).astype(np.uint8)
    y = np.arange(n) % 3 + first_class
    for name, array in zip(names, (x, y, x[:6], y[:6]), strict=True):
        content = idx_bytes(array)
        (folder / f"{name}{'.gz' if pack else ''}").write_bytes(
            gzip.compress(content) if pack else content
        )
    return folder, x


@pytest.mark.parametrize("pack", [False, True])
def test_idx_files(pack, tmp_path):
    folder, x = write_idx(tmp_path / "idx", pack)
    data = load.load_arrays(folder)
    np.testing.assert_array_equal(data.train[0][..., 0], x)
    assert data.train[1].tolist() == [0, 1, 2] * 4 and data.n_classes == 3
    np.testing.assert_array_equal(data.test[0][..., 0], x[:6])
    assert data.class_names is None and data.train[1].dtype == np.int64
    for path in folder.glob("t10k*"):
        path.unlink()
    assert load.load_arrays(folder).test is None
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(6)))
    assert "t10k-images-idx3-ubyte: no such file, nor with .gz" in fails(folder)


@pytest.mark.parametrize("pack", [False, True])
def test_idx_files_that_say_what_is_not_so(pack, tmp_path):
    folder, x = write_idx(tmp_path / "idx", pack)
    path = folder / f"train-images-idx3-ubyte{'.gz' if pack else ''}"
    for content, message in (
        (idx_bytes(x, shape=(1 << 31, 64, 64)), "is more than it can hold"),
        (idx_bytes(x, shape=(1 << 31, 1 << 31, 1 << 31)), "is more than it can hold"),
        (idx_bytes(x) + b"more", "its length is not"),
        (idx_bytes(x)[:-1], "its length is not" if pack else "more than it can hold"),
        (idx_bytes(x)[:9], "not an IDX file of bytes with 3 axes"),
        (b"", "not an IDX file"),
        (idx_bytes(x[0]), "not an IDX file of bytes with 3 axes"),
        (b"\0\0\x0d\3" + idx_bytes(x)[4:], "not an IDX file of bytes"),
        (idx_bytes(x[:9]), "y_train has shape (12,) for 9 images"),
    ):
        path.write_bytes(gzip.compress(content) if pack else content)
        assert message in fails(folder)
    if pack:
        whole = gzip.compress(idx_bytes(x))
        for content in (whole[:-20], idx_bytes(x), whole[:40] + b"spoilt" + whole[46:]):
            path.write_bytes(content)
            assert f"{path}: can't be read (" in fails(folder)


def test_a_tiny_idx_file_that_declares_gigabytes_takes_no_memory(tmp_path):
    folder, _ = write_idx(tmp_path / "idx", True)
    for shape, length in (((1 << 20, 64, 64), None), ((2000, 64, 64), -8)):
        content = idx_bytes(np.zeros(8_192_000), shape=shape)
        content = gzip.compress(content)[:length]
        (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
        tracemalloc.start()
        line = fails(folder)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "train-images-idx3-ubyte.gz: can't be read" in line
        assert peak < 20 << 20


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(
    "names",
    [
        [name.replace("-idx", ".idx") for name in IDX_NAMES],
        [f"emnist-letters-{name.replace('t10k', 'test')}" for name in IDX_NAMES],
        [f"Own_{name.upper()}" for name in IDX_NAMES],
    ],
    ids=["dot", "prefix", "capitals"],
)
def test_other_names_of_idx_files(names, pack, tmp_path):
    folder, x = write_idx(tmp_path / "idx", pack, names=names)
    # as some archives unpack: a folder of a file's name, with the file in it
    (folder / IDX_NAMES[0]).mkdir()
    (folder / "emnist-letters-mapping.txt").touch()
    data = load.load_arrays(folder)
    np.testing.assert_array_equal(data.train[0][..., 0], x)
    np.testing.assert_array_equal(data.test[0][..., 0], x[:6])
    assert data.test[1].tolist() == [0, 1, 2] * 2


def test_a_missing_idx_file_is_named_as_the_others_are(tmp_path):
    names = [f"emnist-letters-{name.replace('t10k', 'test')}" for name in IDX_NAMES]
    for missing in (3, 2, 1, 0):
        folder, _ = write_idx(tmp_path / "idx", names=names)
        (folder / names[missing]).unlink()
        assert fails(folder).startswith(f"{folder / names[missing]}: no such file")


def test_idx_files_of_several_data_sets(tmp_path):
    for kind in ("letters", "digits"):
        write_idx(
            tmp_path / "idx", names=[f"emnist-{kind}-{name}" for name in IDX_NAMES]
        )
    line = fails(tmp_path / "idx")
    assert "of 2 data sets (emnist-digits-, emnist-letters-); put those of one" in line
    folder, _ = write_idx(tmp_path / "idx")
    assert "3 data sets (emnist-digits-, emnist-letters-, names without" in fails(
        folder
    )


def test_labels_of_idx_files_that_start_from_1(tmp_path):
    folder, _ = write_idx(tmp_path / "idx", first_class=1)
    data = load.load_arrays(folder)
    line = refused(labels.check_labels, data.train[1], 3, data.n_classes)
    assert "from 1 to 3, and the first class is 0; subtract 1" in line
