"""Files with random changes: each is read, or refused with an InputError.

The same few examples in every run; FUZZ=100000 tries that many others of each kind,
for as long as that takes.
"""

import io
import json
import os
import struct
import zipfile
import zlib

import h5py
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers
from PIL import Image

from gankit import command
from gankit.data import images, load
from gankit.models import files

FUZZ = int(os.environ.get("FUZZ", 0))


def fuzz(n_examples):
    return settings(
        max_examples=FUZZ or n_examples,
        derandomize=not FUZZ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzing")


@pytest.fixture(scope="module")
def model(folder):
    """The members of a .keras file, and the bytes of an .h5 file."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 3, strides=2, padding="same")(image)
    x = layers.MaxPooling2D()(layers.LeakyReLU(negative_slope=0.2)(x))
    x = layers.Dropout(0.4)(layers.Flatten()(x))
    x = layers.Activation("softmax")(layers.Dense(3)(x))
    for suffix in ("keras", "h5"):
        path = folder / f"good.{suffix}"
        files.save_model(keras.Model(image, x), path, ["a", "b", "c"])
    with zipfile.ZipFile(folder / "good.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return members, (folder / "good.h5").read_bytes()


# places are shares of the length, so that one strategy fits files of any length
PLACES = st.floats(0, 1, exclude_max=True)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), PLACES, st.integers(0, 255)),
        st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
        st.tuples(
            st.just("number"), PLACES, st.sampled_from([0, 1, 2**31 - 1, 2**32 - 1])
        ),
        st.tuples(st.just("cut"), PLACES, st.integers(1, 64)),
        st.tuples(st.just("insert"), PLACES, st.binary(min_size=1, max_size=16)),
        st.tuples(st.just("end"), PLACES, st.none()),
    ),
    min_size=1,
    max_size=6,
)


def changed(content, changes):
    content = bytearray(content)
    for kind, place, value in changes:
        i = int(place * len(content))
        if not content:
            break
        if kind == "set":
            content[i] = value
        elif kind == "flip":
            content[i] ^= 1 << value
        elif kind == "number":
            content[i : i + 4] = struct.pack("<I", value)
        elif kind == "cut":
            del content[i : i + value]
        elif kind == "insert":
            content[i:i] = value
        else:
            del content[i:]
    return bytes(content)


def archive(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return buffer.getvalue()


def try_classifier(path, content):
    path.write_bytes(content)
    try:
        files.load_named_classifier(path)
    except command.InputError as error:
        assert str(error).startswith(f"{path}: ")


@fuzz(30)
@given(changes=CHANGES)
def test_keras_files(folder, model, changes):
    try_classifier(folder / "bad.keras", changed(archive(model[0]), changes))


@fuzz(30)
@given(changes=CHANGES)
def test_weights_in_keras_files(folder, model, changes):
    weights = changed(model[0]["model.weights.h5"], changes)
    content = archive({**model[0], "model.weights.h5": weights})
    try_classifier(folder / "bad.keras", content)


@fuzz(30)
@given(changes=CHANGES)
def test_h5_files(folder, model, changes):
    try_classifier(folder / "bad.h5", changed(model[1], changes))


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, -1, 1, 2, 10**6, 2**31, 2**63, 10**30]),
        st.floats(),
        st.text(max_size=9),
        st.sampled_from(
            ["softmax", "valid", "channels_first", "float16", "float64", "int8"]
            + ["Dense", "Lambda", "keras.layers", "os", "l2", "glorot_uniform"]
        ),
    ),
    lambda values: st.one_of(
        st.lists(values, max_size=4),
        st.dictionaries(
            st.sampled_from(["class_name", "config", "module", "name", "units", "x"]),
            values,
            max_size=4,
        ),
    ),
    max_leaves=6,
)


def replaced(config, place, value):
    """Replace one value of the tree by another, add one, or leave one out."""
    places = []
    nodes = [config]
    while nodes:
        node = nodes.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        places += [(node, key) for key in keys]
        nodes += [node[key] for key in keys if isinstance(node[key], list | dict)]
    node, key = places[int(place * len(places))]
    if value == "delete":
        del node[key]
    else:
        node[key] = value


@fuzz(40)
@given(
    suffix=st.sampled_from(["keras", "h5"]),
    changes=st.lists(
        st.tuples(PLACES, st.one_of(VALUES, st.just("delete"))), min_size=1, max_size=2
    ),
)
def test_configurations(folder, model, suffix, changes):
    config = json.loads(model[0]["config.json"])
    for place, value in changes:
        replaced(config, place, value)
    text = json.dumps(config)
    path = folder / f"bad.{suffix}"
    if suffix == "keras":
        content = archive({**model[0], "config.json": text.encode()})
    else:
        buffer = io.BytesIO(model[1])
        with h5py.File(buffer, "a") as file:
            file.attrs["model_config"] = text
        content = buffer.getvalue()
    try_classifier(path, content)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    found = []
    for mode, form in (
        *(("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("1", "PNG")),
        *(("L", "JPEG"), ("RGB", "JPEG"), ("CMYK", "JPEG")),
    ):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        picture = Image.fromarray(pixels if mode != "I;16" else pixels[..., 0])
        picture.convert(mode).save(buffer, form, exif=exif)
        found.append(buffer.getvalue())
    return found


def with_right_sums(content):
    """Return a PNG file with the checksums of its chunks put right."""
    content, i = bytearray(content), 8
    while i + 12 <= len(content):
        (length,) = struct.unpack(">I", content[i : i + 4])
        end = i + 8 + length
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[i + 4 : end]))
        i = end + 4
    return bytes(content)


@fuzz(200)
@given(which=st.integers(0, 7), right=st.booleans(), changes=CHANGES)
def test_image_files(folder, pictures, which, right, changes):
    path = folder / "bad.png"
    content = changed(pictures[which], changes)
    path.write_bytes(with_right_sums(content) if right else content)
    try:
        image = images.read_image(path)
    except command.InputError as error:
        assert str(error).startswith(f"{path}: ")
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (1, 3)
    assert images.fit_image(image, 28, 28, 1).shape == (28, 28, 1)


@fuzz(100)
@given(member=st.sampled_from([None, "x_train", "y_test"]), changes=CHANGES)
def test_npz_files(folder, member, changes):
    arrays = {}
    for part in ("train", "test"):
        arrays[f"x_{part}"] = np.zeros((4, 8, 8), np.uint8)
        arrays[f"y_{part}"] = np.arange(4) % 2
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    if member:
        with zipfile.ZipFile(buffer) as old:
            members = {name: old.read(name) for name in old.namelist()}
        name = f"{member}.npy"
        content = archive({**members, name: changed(members[name], changes)})
    else:
        content = changed(buffer.getvalue(), changes)
    path = folder / "bad.npz"
    path.write_bytes(content)
    try:
        data = load.load_arrays(path)
    except command.InputError as error:
        assert str(error).startswith(f"{path}: ")
        return
    assert data.train[0].dtype == np.uint8
