import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from data_sets import fails
from gankit.data import idx, load


def idx_bytes(array, *, shape=None):
    """The bytes of an IDX file; shape: what it says of itself."""
    shape = shape or array.shape
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder, pack, n=12, **changes):
    """Write the four IDX files to a new folder; return the folder and x_train."""
    folder.mkdir()
    x = np.random.default_rng(0).integers(0, 256, (n, 8, 12)).astype(np.uint8)
    y = np.arange(n) % 3
    for name, array in zip(idx.IDX_FILES, (x, y, x[:6], y[:6]), strict=True):
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
