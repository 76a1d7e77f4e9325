import csv
import gzip
import json
import struct
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

import compare_labels
import discriminators
import helpers
import load_classifier
import sgan_mnist
import sgan_tuned
import standalone_classifier
from gankit import command
from gankit.data import idx, labels, load
from gankit.models import classify, files


def arrays(**changes):
    x, y = np.zeros((20, 28, 28), np.uint8), np.arange(20) % 10
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y, **changes}


def fails(path, *image_size):
    """Read data that can't be used; return the one line."""
    with pytest.raises(command.InputError) as caught:
        load.load_arrays(path, *image_size)
    line = str(caught.value)
    assert "\n" not in line
    return line


# ---------------------------------------------------------------- .npz


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
        ({"x_test": np.array([None] * 3)}, "not a plain .npz"),
        ({"class_names": np.array([None] * 10)}, "not a plain .npz"),
        ({"class_names": np.arange(10)}, "array of texts"),
        ({"class_names": np.array([list("0123456789")])}, "array of texts"),
        ({"class_names": np.array(list("012345678"))}, "from 0 to 8"),
        ({"class_names": np.array(list("0012345678"))}, "the same name"),
        ({"class_names": np.array(list("\n123456789"))}, "can't be the name"),
        ({"class_names": np.array(["x" * 60_000])}, "too long"),
    ],
)
def test_arrays_of_another_layout(tmp_path, changes, message):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays(**changes))
    line = fails(path)
    assert line.startswith(str(path)) and message in line


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


# ---------------------------------------------------------------- IDX


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


# ---------------------------------------------------------------- folders

NAMES = ["a cat", "b dog", "owl"]


def save_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_folder(root, shape=(20, 24), *, n=4, tests=2, unlabelled=6, seed=0):
    """Fill a folder with images of three classes; return it."""
    rng = np.random.default_rng(seed)

    def write(folder, n, level):
        for i in range(n):
            pixels = np.clip(rng.normal(level, 30, shape), 0, 255).astype(np.uint8)
            save_image(root / folder / f"{i}.{('png', 'JPG')[i % 2]}", pixels)

    for i, name in enumerate(NAMES):
        write(name, n, 60 + 60 * i)
        write(f"test/{name}", tests, 60 + 60 * i)
    write("unlabelled", unlabelled, 120)
    return root


@pytest.fixture(scope="module")
def colour_folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "own images", (20, 24, 3))


def test_a_folder_of_grey_images(tmp_path, capsys):
    root = write_folder(tmp_path / "data")
    (root / ".hidden").mkdir()
    (root / "owl" / ".DS_Store").touch()
    (root / "notes.txt").touch()
    data = load.load_arrays(root)
    (X, y), (X_test, y_test) = data.train, data.test
    assert data.class_names == NAMES and data.n_classes == 3
    assert X.shape == (18, 20, 24, 1) and X.dtype == np.uint8
    assert y.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [-1] * 6
    assert X_test.shape == (6, 20, 24, 1) and y_test.tolist() == [0, 0, 1, 1, 2, 2]
    first = np.asarray(Image.open(root / "b dog" / "0.png"))
    np.testing.assert_array_equal(X[4, ..., 0], first)
    assert capsys.readouterr().out == ""


def test_one_colour_image_keeps_all_in_colour(tmp_path):
    root = write_folder(tmp_path / "data", tests=0)
    grey = load.load_arrays(root).train[0]
    assert grey.shape == (18, 20, 24, 1)
    colour = np.zeros((20, 24, 3), np.uint8)
    colour[..., 0] = 200
    save_image(root / "owl" / "9.png", colour)
    data = load.load_arrays(root)
    X = data.train[0]
    assert X.shape == (19, 20, 24, 3) and data.test is None
    np.testing.assert_array_equal(X[12], colour)
    np.testing.assert_array_equal(np.delete(X, 12, 0), np.repeat(grey, 3, axis=3))


def test_images_of_several_sizes(tmp_path, capsys):
    root = write_folder(tmp_path / "data", (21, 25))
    assert load.load_arrays(root).image_shape == (20, 24, 1)
    printed = capsys.readouterr().out
    assert printed == "The images, 21x25 (height x width), are resized to 20x24\n"
    save_image(root / "owl" / "5.png", np.full((50, 50), 77, np.uint8))
    line = fails(root)
    assert line.startswith(f"{root / 'owl' / '5.png'}: is 50x50, and ")
    assert "give --image-size" in line
    data = load.load_arrays(root, 16)
    assert data.image_shape == (16, 16, 1) and (data.train[0][12] == 77).all()


def test_what_a_folder_must_not_hold(tmp_path):
    def line_for(change):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        write_folder(root, n=1, tests=1, unlabelled=0)
        change(root)
        return fails(root).removeprefix(f"{root}/")

    def broken(root):
        (root / "owl" / "broken.png").write_bytes(b"no image")

    assert line_for(broken).startswith("owl/broken.png: not a PNG")
    assert line_for(broken).endswith(", or remove it")
    assert line_for(lambda root: (root / "owl" / "list.csv").touch()).startswith(
        "owl/list.csv: is not a PNG or JPEG file; remove it"
    )
    assert "owl/more: is not a file; remove" in line_for(
        lambda root: (root / "owl" / "more").mkdir()
    )
    assert line_for(lambda root: save_image(root / "x.png", np.eye(9) > 0)).startswith(
        "x.png: is in no class's sub-folder"
    )
    assert "test/fox: there is no class of this name" in line_for(
        lambda root: (root / "test" / "fox").mkdir()
    )
    assert "can't be the name of a class; rename" in line_for(
        lambda root: (root / "a\nb").mkdir()
    )
    (tmp_path / "empty").mkdir()
    assert "empty: has 0 sub-folders of classes" in fails(tmp_path / "empty")
    for name in "ab":
        (tmp_path / "empty" / name).mkdir()
    assert "hold no images" in fails(tmp_path / "empty")


def test_links_are_followed_within_the_folder_only(tmp_path):
    root = write_folder(tmp_path / "data", n=1, tests=0, unlabelled=0)
    link = root / "owl" / "link.png"
    link.symlink_to(root / "b dog" / "0.png")
    X, y = load.load_arrays(root).train
    assert y.tolist() == [0, 1, 2, 2]
    np.testing.assert_array_equal(X[3], X[1])
    save_image(tmp_path / "outside.png", np.zeros((20, 24), np.uint8))
    for target, message in (
        (tmp_path / "outside.png", "is a link out of the data folder"),
        (root / "gone.png", "is not a file"),
        (link, "is not a file"),
    ):
        link.unlink()
        link.symlink_to(target)
        assert fails(root).startswith(f"{link}: {message}")
    link.unlink()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert fails(root).startswith(f"{root / 'linked'}: is a link; put the folder")


# ---------------------------------------------------------------- labels


def test_fewer_labels_than_asked_for_are_all_used(capsys):
    y = np.array([1, -1, 0, 1, 2, -1, 1])
    chosen = labels.select_labels(y, 100, 3, class_names=["cat", "dog", "owl"])
    assert chosen.tolist() == [0, 2, 3, 4, 6]
    error = capsys.readouterr().err
    assert error == "All 5 labels are used, there are no more; cat: 1, dog: 3, owl: 1\n"
    labels.select_labels(y, 5, 3)
    assert "; 0: 1, 1: 3, 2: 1\n" in capsys.readouterr().err
    # where it can be, the choice is balanced
    assert sorted(y[labels.select_labels(y, 3, 3)]) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    with pytest.raises(command.InputError, match="evenly among 3"):
        labels.select_labels(y, 4, 3)
    for n_classes, names, message in (
        (4, None, "class 3: has no image with a label"),
        (4, ["cat", "dog", "owl", "fox"], "class fox: has no"),
        (1, None, "all of one class"),
    ):
        with pytest.raises(command.InputError, match=message):
            labels.check_labels(y, 100, n_classes, names)


def test_accuracy_is_of_the_labelled_images():
    class Model:
        def predict_on_batch(self, batch):
            return np.eye(12)[batch[:, 0, 0, 0].astype(int)]

    X = np.arange(12, dtype=np.float32).reshape(12, 1, 1, 1)
    y = np.array([-1, 1, 2, 0, -1, 5, -1, -1, -1, -1, -1, 11])
    assert classify.measure_accuracy(Model(), X, y, n_classes=12) == 80
    assert labels.describe_labelled(y) == " (of the 5 images with a label)"
    assert labels.describe_labelled(y[1:4]) == ""


# ---------------------------------------------------------------- class names


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_class_names_in_a_model_file(suffix, tmp_path):
    _, model = discriminators.define_stacked_discriminators((8, 8, 1), 3)
    path = tmp_path / f"model{suffix}"
    files.save_model(model, path)
    assert files.read_class_names(path) is None
    names = ["cat", "dög", "犬"]
    files.save_model(model, path, names)
    assert files.read_class_names(path) == names
    loaded = keras.saving.load_model(path, compile=False)
    X = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict_on_batch(X), model.predict_on_batch(X))
    for text in (
        "no JSON",
        '{"a": 1}',
        "[]",
        "[1, 2]",
        '["a", "a"]',
        '["\\n", "b"]',
        '["' + "x" * 60_000 + '"]',
        "[" * 50_000,
    ):
        if suffix == ".h5":
            with h5py.File(path, "w") as file:
                # too long for an attribute as it stands by default
                file.attrs.create(
                    "class_names", text[:60_001], dtype=h5py.string_dtype()
                )
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("class_names.json", text)
        with pytest.raises(command.InputError, match="its class names can't be read"):
            files.read_class_names(path)
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.attrs["class_names"] = ["cat", "dog"]
        with pytest.raises(command.InputError, match="not one text"):
            files.read_class_names(path)
    path.write_bytes(b"neither archive nor HDF5")
    with pytest.raises(command.InputError, match="its class names can't be read"):
        files.read_class_names(path)


@pytest.mark.parametrize("design", ["stacked", "shared", "multi-output"])
def test_the_number_of_classes_of_a_classifier(design, tmp_path):
    for n_classes in (2, 10, 11):
        d_model, c_model = sgan_mnist.define_discriminator(
            (8, 8, 3), n_classes, design=design
        )
        path = tmp_path / "c_model.keras"
        c_model.save(path)
        loaded = load_classifier.load_classifier(path)
        for model in (c_model, loaded):
            assert classify.count_classes(model) == n_classes
        assert loaded.output_shape[1] == n_classes + (design == "multi-output")
        assert loaded.input_shape == (None, 8, 8, 3)


def test_classifiers_whose_layers_have_no_names():
    in_image = keras.Input((28, 28, 1))
    features = keras.layers.Flatten()(in_image)
    for n_outputs, n_classes in ((10, 10), (11, 10), (12, 12)):
        out_layer = keras.layers.Dense(n_outputs, activation="softmax")(features)
        model = keras.Model(in_image, out_layer)
        assert classify.count_classes(model) == n_classes


# ---------------------------------------------------------------- runs


def train(script, data, out, *options):
    """Train two steps on a data set; return the folder."""
    more = ["--threads", 1, "--verbose", 0, "--seed", 1, *options]
    options = ["--data", data, "--out", out, "--max-steps", 2, *more]
    assert script.main([str(option) for option in options]) == 0
    return out


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (sgan_mnist, ("--discriminator", "multi-output", "--format", "h5")),
        (sgan_tuned, ()),
        (standalone_classifier, ()),
    ],
)
def test_colour_images_of_ones_own_train(
    script, options, colour_folder, tmp_path, capsys
):
    if script is not standalone_classifier:
        options = (*options, "--batch", 12)
    out = train(script, colour_folder, tmp_path / "run", *options)
    printed = capsys.readouterr()
    assert printed.out.startswith("(18, 20, 24, 3) (18,)\n")
    counts = "All 12 labels are used, there are no more; a cat: 4, b dog: 4, owl: 4\n"
    assert printed.err.startswith(counts)
    settings = json.loads((out / "settings.json").read_text())
    assert settings["class_names"] == NAMES and settings["image_shape"] == [20, 24, 3]
    assert settings["labelled_images"] == list(range(12))
    (model,) = out.glob("c_model_0002.*")
    assert files.read_class_names(model) == NAMES
    assert load_classifier.main([str(model), "--data", str(colour_folder)]) == 0
    train_line, test_line = capsys.readouterr().out.splitlines()
    with open(out / "accuracy.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    accuracy = f"Train Accuracy: {last['train_accuracy']}%"
    assert train_line == f"{accuracy} (of the 12 images with a label)"
    assert test_line == f"Test Accuracy: {last['test_accuracy']}%"
    if script is not standalone_classifier:
        sheet = np.asarray(Image.open(out / "generated_plot_0002.png"))
        assert sheet.shape == (400, 480, 3)


def test_the_report_names_the_classes(colour_folder, tmp_path, capsys):
    _, c_model = discriminators.define_stacked_discriminators((20, 24, 3), 3)
    path = tmp_path / "c_model.keras"
    files.save_model(c_model, path, NAMES)
    options = [path, "--data", colour_folder, "--report", "--out", tmp_path / "report"]
    assert load_classifier.main([str(option) for option in options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in lines[3:6]] == ["a cat", "b dog", "  owl"]
    assert (tmp_path / "report" / "mistakes.png").exists()


def test_a_classifier_without_test_images_and_names(tmp_path, capsys):
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    path = tmp_path / "data.npz"
    np.savez(path, x_train=x, y_train=np.arange(40) % 11 - 1)
    out = train(standalone_classifier, path, tmp_path / "run", "--labels", 10)
    printed = capsys.readouterr().out
    assert "% (of the 36 images with a label)\n" in printed and "Test" not in printed
    assert "class_names" not in json.loads((out / "settings.json").read_text())
    model = out / "c_model_0002.keras"
    assert files.read_class_names(model) is None
    arguments = [str(model), "--data", str(path)]
    assert load_classifier.main(arguments) == 0
    assert "Test" not in capsys.readouterr().out
    assert load_classifier.main([*arguments, "--report"]) == 2
    assert "has no test images, which --report" in capsys.readouterr().err
    # of the classes that no label names the data know nothing
    np.savez(path, x_train=x, y_train=np.arange(40) % 4)
    assert load_classifier.main(arguments) == 0
    np.savez(path, x_train=x, y_train=np.full(40, -1))
    assert load_classifier.main(arguments) == 2
    assert "has no labels to measure accuracy by" in capsys.readouterr().err
    np.savez(path, x_train=x, y_train=np.arange(40) % 4)
    assert compare_labels.main(["--data", str(path), "--out", str(tmp_path / "c")]) == 2
    assert "has no test images, whose error is compared" in capsys.readouterr().err


def test_a_run_on_a_folder_is_resumed(tmp_path, capsys):
    root = write_folder(tmp_path / "data", (9, 9), tests=0)
    save_image(root / "owl" / "x.png", np.zeros((30, 12), np.uint8))
    options = ["--batch", 12, "--image-size", 8, "--labels", 3, "--latent-dim", 5]
    out = train(sgan_mnist, root, tmp_path / "run", *options, "--epochs", 9)
    resume = ["--resume", str(out), "--max-steps", "3", "--verbose", "0"]
    capsys.readouterr()
    assert sgan_mnist.main([*resume, "--image-size", "12"]) == 2
    assert "was started with image_size 8, not 12" in capsys.readouterr().err
    (root / "owl").rename(root / "owls")
    assert sgan_mnist.main(resume) == 2
    assert "was started with another class_names" in capsys.readouterr().err
    (root / "owls").rename(root / "owl")
    assert sgan_mnist.main(resume) == 0
    assert len((out / "history.csv").read_text().splitlines()) == 4
    settings = json.loads((out / "settings.json").read_text())
    assert settings["options"]["image_size"] == 8 and settings["n_steps"] == 9
    assert settings["image_shape"] == [8, 8, 1]
    rows = (out / "accuracy.csv").read_text().splitlines()[1:]
    assert [row.split(",")[3] for row in rows] == [""] * len(rows)
    assert (out / "curves.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image-size", "32"], "--image-size: is for images of your own"),
        (["--data", "data", "--image-size", "30"], "must be a multiple of 4"),
        (["--data", "data", "--labels", "4"], "evenly among 3 classes"),
        (["--data", "unlabelled"], "class fox: has no image with a label"),
        (["--data", "data/owl"], "is in no class's sub-folder"),
        (["--data", "gone"], "gone: no such file"),
    ],
)
def test_bad_input_to_the_scripts(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data")
    write_folder(tmp_path / "unlabelled")
    (tmp_path / "unlabelled" / "fox").mkdir()
    options += ["--batch", "12"]
    for main in (sgan_mnist.main, sgan_tuned.main):
        assert main(options) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_data_that_do_not_fit_the_classifier(colour_folder, tmp_path, capsys):
    def line_for(shape, n_classes, names):
        _, c_model = discriminators.define_stacked_discriminators(shape, n_classes)
        path = tmp_path / "c_model.keras"
        files.save_model(c_model, path, names)
        assert load_classifier.main([str(path), "--data", str(colour_folder)]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        return printed.err

    assert "takes images of 20x24x1, and the data's are 20x24x3" in line_for(
        (20, 24, 1), 3, NAMES
    )
    assert "tells 4 classes apart, and the data have 3" in line_for(
        (20, 24, 3), 4, None
    )
    others = ["a cat", "b dog", "fox"]
    assert "fox apart, and the data's classes are a cat, b dog, owl" in line_for(
        (20, 24, 3), 3, others
    )
    assert "has 3 class names and 4 classes" in line_for((20, 24, 3), 4, NAMES)
