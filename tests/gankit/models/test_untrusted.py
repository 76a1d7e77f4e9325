"""Files from strangers: whatever is in them, load_classifier.py says one line.

It runs no code of theirs, opens no other file, writes nothing, and takes little
memory and time.
"""

import csv
import faulthandler
import io
import json
import os
import re
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import load_classifier
from gankit import command
from gankit.models import untrusted

MEMORY = 100 << 20
SECONDS = 120
MANY_ZEROS = 128 << 20
# an .h5 file with as many links as are refused takes a while to make
MOST_OBJECTS = 300


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A folder with good files, small ones: a classifier, an image, a data set."""
    folder = tmp_path_factory.mktemp("originals")
    keras.utils.set_random_seed(0)
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(2, 3, strides=4, padding="same")(image)
    x = layers.Flatten()(layers.LeakyReLU()(x))
    model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    x = layers.Lambda(lambda x: (os.mkdir("trace"), x)[1], output_shape=(98,))(x)
    model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
    model.save(folder / "lambda.keras")
    model.save(folder / "lambda.h5")
    pixels = np.zeros((28, 28), np.uint8)
    pixels[5:20, 13:15] = 255
    Image.fromarray(pixels).save(folder / "image.png")
    x, y = np.zeros((20, 28, 28), np.uint8), np.arange(20) % 10
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return folder


class Files:
    """Makes the files of a case in the current folder; each method returns a path."""

    def __init__(self, originals):
        for path in originals.iterdir():
            shutil.copy(path, ".")

    def archive(self, name="bad.keras", source="model.keras", **changes):
        """A ZIP file with members replaced, added, or left out (None).

        changes: {member: bytes}, the member's '.' written as '_'.
        """
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(name, "w") as new:
            content = {member: old.read(member) for member in old.namelist()}
            for member in list(content):
                change = changes.pop(member.replace(".", "_"), b"")
                if change is not None:
                    new.writestr(member, change or content[member])
            for member, added in changes.items():
                new.writestr(member, added)
        return name

    def config(self, change, name="bad.keras", source="model.keras"):
        """A .keras or .h5 file with its configuration changed by change(config)."""
        if name.endswith(".h5"):
            shutil.copy("model.h5", name)
            with h5py.File(name, "a") as file:
                config = json.loads(file.attrs["model_config"])
                change(config)
                file.attrs["model_config"] = json.dumps(config)
            return name
        with zipfile.ZipFile(source) as old:
            config = json.loads(old.read("config.json"))
        change(config)
        return self.archive(name, config_json=json.dumps(config).encode())

    def dense(self, key, value, name="bad.keras"):
        return self.config(
            lambda config: config["config"]["layers"][-1]["config"].update(
                {key: value}
            ),
            name,
        )

    def layer(self, key, value, number=-1):
        return self.config(
            lambda config: config["config"]["layers"][number].update({key: value})
        )

    def weights(self, change, name="bad.keras"):
        """A file with its HDF5 part changed by change(file, kernel's path)."""
        if name.endswith(".h5"):
            shutil.copy("model.h5", name)
            with h5py.File(name, "a") as file:
                change(file, find_kernel(file))
            return name
        with zipfile.ZipFile("model.keras") as archive:
            content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content, "a") as file:
            change(file, find_kernel(file))
        return self.archive(name, model_weights_h5=content.getvalue())

    def deflated(self, member):
        """A .keras file whose member is a bomb."""
        with zipfile.ZipFile("model.keras") as old:
            content = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile("bad.keras", "w") as new:
            for name in content:
                if name != member:
                    new.writestr(name, content[name])
            new.writestr(
                member, bytes(MANY_ZEROS), zipfile.ZIP_DEFLATED, compresslevel=1
            )
        return "bad.keras"

    def patched(self, old, new, name="bad.keras", source="model.keras"):
        content = Path(source).read_bytes()
        assert old in content
        Path(name).write_bytes(content.replace(old, new))
        return name

    def npz(self, **arrays):
        with np.load("data.npz") as data:
            np.savez("bad.npz", **{**data, **arrays})
        return "bad.npz"

    def npz_member(self, content):
        """An .npz file whose x_train.npy is `content`."""
        save_without_images("bad.npz")
        with zipfile.ZipFile("bad.npz", "a") as archive:
            archive.writestr("x_train.npy", content)
        return "bad.npz"

    def write(self, name, content):
        Path(name).write_bytes(content)
        return name

    def image(self, name="a.png", array=None, mode=None, **options):
        picture = Image.fromarray(np.eye(9, dtype=np.uint8) if array is None else array)
        (picture.convert(mode) if mode else picture).save(name, **options)
        return name

    def renamed(self, name, source="image.png"):
        os.rename(source, name)
        return name


def save_without_images(name):
    with np.load("data.npz") as data:
        np.savez(name, **{key: data[key] for key in data if key != "x_train"})


def find_kernel(file):
    # Keras numbers a layer's name by those made before
    names = []
    file.visit(names.append)
    kernels = re.compile(r"model_weights/dense\w*/dense\w*/kernel|layers/dense/vars/0")
    (name,) = filter(kernels.fullmatch, names)
    return name


# ------------------------------------------------------------ changes of HDF5 files


def declare_much(file, name):
    del file[name]
    file.create_dataset(name, (1 << 40,), "f4")


def pack_much(file, name):
    del file[name]
    file.create_dataset(name, (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")


def link_outside(file, name):
    del file[name]
    os.mkfifo("fifo.h5")  # whoever opens it waits for ever
    file[name] = h5py.ExternalLink("fifo.h5", "/x")


def link_inside(file, name):
    file.move(name, "elsewhere")
    file[name] = h5py.SoftLink("/elsewhere")


def store_outside(file, name):
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, shape, "f4", external=[("/etc/passwd", 0, 4000)])


def borrow_values(file, name):
    shape = file[name].shape
    del file[name]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource("image.png", "x", shape)
    file.create_virtual_dataset(name, layout)


def borrow_shape(file, name):
    del file[name]
    os.mkfifo("fifo.h5")
    layout = h5py.VirtualLayout((1,), "f4", maxshape=(None,))
    source = h5py.VirtualSource("fifo.h5", "x", (1,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED :] = source[: h5py.h5s.UNLIMITED :]
    file.create_virtual_dataset(name, layout)


def store_texts(file, name):
    del file[name]
    file.create_dataset(name, (98, 10), h5py.string_dtype())


def add_many_links(file, name):
    for i in range(MOST_OBJECTS):
        file[f"link {i}"] = file[name]


def list_much(file, name):
    file["padding"] = np.zeros(1 << 20, np.uint8)
    file[name].parent.attrs["weight_names"] = np.full(3000, b"kernel")


def add_a_cycle(file, name):
    file[find_kernel(file).split("/")[0]]["cycle"] = file["/"]


def change_shape(file, name):
    values = file[name][:, :5]
    del file[name]
    file[name] = values


def spoil_values(file, name):
    file[name][...] = np.nan


# ------------------------------------------------------------ parts of other files


def chunk(kind, data):
    return (
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )


def png(width, height, *chunks, last=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(9 * 8)))]
    parts += [(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts) + last


def packed_zeros():
    return zlib.compress(bytes(MANY_ZEROS), 1)


def npy_header(shape, dtype="|u1"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"
    )


def deep(n):
    return b"[" * n + b"]" * n


def loop(config):
    a, b = config["config"]["layers"][1:3]
    a["inbound_nodes"], b["inbound_nodes"] = b["inbound_nodes"], a["inbound_nodes"]


def enlarge(config):
    image, convolution = config["config"]["layers"][:2]
    image["config"]["batch_shape"] = [None, 256, 256, 1]
    convolution["config"].update(strides=[1, 1], filters=400)
    del convolution["build_config"]


def skip_a_layer(config):
    *_, a, b = config["config"]["layers"]
    b["inbound_nodes"] = a["inbound_nodes"]


def repeat_layers(config):
    config["config"]["layers"] += 200 * [config["config"]["layers"][2]]


# each: what the case is called, the file made by make(f), a part of the line said
MODELS = [
    ("lambda.keras", lambda f: "lambda.keras", "holds 'Lambda'"),
    ("lambda.h5", lambda f: "lambda.h5", "holds 'Lambda'"),
    ("custom class", lambda f: f.layer("class_name", "Evil"), "holds 'Evil'"),
    ("module path", lambda f: f.layer("module", "evil"), "of module 'evil'"),
    ("registered name", lambda f: f.layer("registered_name", "a>Dense"), "holds 'Den"),
    (
        "function as activation",
        lambda f: f.dense(
            "activation",
            {"module": "builtins", "class_name": "function", "config": "exec"},
        ),
        "of module 'builtins'",
    ),
    (
        "code in .h5",
        lambda f: f.dense("kernel_constraint", {"class_name": "__lambda__"}, "bad.h5"),
        "holds '__lambda__'",
    ),
    (
        "names that a terminal obeys",
        lambda f: f.layer("class_name", "\x1b[2J\nload_classifier.py: fine"),
        r"holds '\x1b[2J\nload",
    ),
    # archives
    (
        "path out of the archive",
        lambda f: f.archive(**{"../../climbed": b"x"}),
        "holds '../../climbed'",
    ),
    ("absolute path", lambda f: f.archive(**{"/tmp/climbed": b"x"}), "'/tmp/climbed'"),
    ("assets", lambda f: f.archive(**{"assets/a/vocabulary": b"x"}), "holds 'assets/"),
    ("bomb config", lambda f: f.deflated("config.json"), "config.json is compressed"),
    ("bomb weights", lambda f: f.deflated("model.weights.h5"), "h5 is compressed"),
    ("bomb names", lambda f: f.deflated("class_names.json"), "json is compressed"),
    ("overlapping members", lambda f: overlapping(), "its files overlap"),
    ("two of a name", lambda f: doubled(), "two files of the same name"),
    (
        "thousands of members",
        lambda f: f.archive(**{f"member {i}": b"" for i in range(1500)}),
        "holds more files than a model has",
    ),
    ("no weights", lambda f: f.archive(model_weights_h5=None), "not a whole Keras mo"),
    ("no configuration", lambda f: f.archive(config_json=None), "not a whole Keras mo"),
    (
        "config not UTF-8",
        lambda f: f.archive(config_json=b'{"\xff": 1}'),
        "not a whole Keras model",
    ),
    (
        "config nested",
        lambda f: f.archive(config_json=deep(100_000)),
        "not a whole Keras model",
    ),
    ("config a number", lambda f: f.archive(config_json=b"7"), "not a whole Keras mo"),
    (
        "encrypted member",
        lambda f: f.patched(
            b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0", "bad.keras"
        ),
        "not a whole Keras model",
    ),
    ("comment", lambda f: f.write("bad.keras", commented()), "not a whole Keras model"),
    # configurations
    ("units", lambda f: f.dense("units", 10**12), "has no room for the"),
    ("units, .h5", lambda f: f.dense("units", 10**12, "bad.h5"), "has no room for the"),
    ("units NaN", lambda f: f.dense("units", float("nan")), "bad.keras: "),
    ("units a text", lambda f: f.dense("units", "10"), "bad.keras: "),
    ("units negative", lambda f: f.dense("units", -10), "its layers can't be built"),
    ("rank of LoRA", lambda f: f.dense("lora_rank", 10**9), "sets lora_rank"),
    (
        "input shape",
        lambda f: f.config(
            lambda config: config["config"]["layers"][0]["config"].update(
                batch_shape=[None, 10**9, 10**9, 1]
            )
        ),
        "takes inputs of shape",
    ),
    (
        "input larger than the weights were for",
        lambda f: f.config(
            lambda config: config["config"]["layers"][0]["config"].update(
                batch_shape=[None, 256, 256, 1]
            )
        ),
        "was built for another shape",
    ),
    (
        "shape to build for",
        lambda f: f.layer("build_config", {"input_shape": [None, 10**12]}),
        "was built for another shape",
    ),
    (
        "model's shape to build for",
        lambda f: f.config(
            lambda config: config.update(build_config={"input_shape": [None, 10**9]})
        ),
        "its input shape twice",
    ),
    (
        "filters",
        lambda f: f.config(
            lambda config: config["config"]["layers"][1]["config"].update(filters=10**7)
        ),
        "has no room for the",
    ),
    (
        "strides of 0",
        lambda f: f.config(
            lambda config: config["config"]["layers"][1]["config"].update(
                strides=[0, 0]
            )
        ),
        "its layers can't be built",
    ),
    ("large images", lambda f: f.config(enlarge), "far too much to compute"),
    ("loop", lambda f: f.config(loop), "doesn't follow the one before"),
    ("skipped layer", lambda f: f.config(skip_a_layer), "doesn't follow the one bef"),
    ("many layers", lambda f: f.config(repeat_layers), "has 205 layers"),
    ("model in a model", lambda f: f.layer("class_name", "Functional"), "holds 'Fun"),
    ("no wiring", lambda f: f.layer("inbound_nodes", []), "layers can't be built"),
    ("unknown type", lambda f: f.dense("dtype", "float3"), "layers can't be built"),
    # weights
    *[
        (f"{change.__name__}, {name}", make, said)
        for name in ("bad.keras", "bad.h5")
        for change, said in (
            (declare_much, "which isn't all there"),
            (pack_much, "is packed"),
            (link_outside, "is a link elsewhere (ExternalLink)"),
            (link_inside, "is a link elsewhere (SoftLink)"),
            (store_outside, "are in another file"),
            (borrow_values, "are in another file"),
            (borrow_shape, "are in another file"),
            (store_texts, "has dtype object"),
            (add_many_links, "more objects or names than"),
            (list_much, "more objects or names than"),
            (change_shape, "can't be loaded"),
            (spoil_values, "no finite numbers"),
        )
        for make in [lambda f, change=change, name=name: f.weights(change, name)]
    ],
    (
        "weights no HDF5",
        lambda f: f.archive(model_weights_h5=b"text"),
        "not a whole Keras model",
    ),
    # class names
    *[
        (f"class names {text[:9]}", make, "its class names can't be read")
        for text in ('["\\u001b[2J', "[1]", '{"a": 1}', '"a"', "[[[", "[NaN]")
        for make in [
            lambda f, text=text: f.archive(
                **{"class_names.json": text.replace("J", 'J", "b"]').encode()}
            )
        ]
    ],
    (
        "class names, too few",
        lambda f: f.archive(**{"class_names.json": b'["a", "b"]'}),
        "has 2 class names and 10 classes",
    ),
    # no files
    ("folder", lambda f: os.mkdir("bad.keras") or "bad.keras", "holds no c_model"),
    ("FIFO", lambda f: os.mkfifo("bad.keras") or "bad.keras", "no such file"),
    ("empty", lambda f: f.write("bad.keras", b""), "not a whole Keras model"),
    ("empty .h5", lambda f: f.write("bad.h5", b""), "not a whole Keras model"),
    ("sparse", lambda f: sparse("bad.keras"), "and more than 128 are not read"),
    ("sparse .h5", lambda f: sparse("bad.h5"), "and more than 128 are not read"),
    (
        "name of a file",
        lambda f: f.write("\x1b[31m\n.keras", b"text"),
        r"\x1b[31m\n.keras: not a whole",
    ),
]


def overlapping():
    shutil.copy("model.keras", "bad.keras")
    with zipfile.ZipFile("bad.keras", "a") as archive:
        archive.writestr("class_names.json", "[]")
        info = archive.getinfo("class_names.json")
        weights = archive.getinfo("model.weights.h5")
        info.header_offset = weights.header_offset
        info.file_size = info.compress_size = weights.file_size
    return "bad.keras"


def doubled():
    shutil.copy("model.keras", "bad.keras")
    with zipfile.ZipFile("bad.keras", "a") as archive:
        archive.filelist.append(archive.getinfo("config.json"))
        archive._didModify = True
    return "bad.keras"


def commented():
    with zipfile.ZipFile("model.keras", "a") as archive:
        archive.comment = b"a comment"
    return Path("model.keras").read_bytes()


def sparse(name):
    with open(name, "wb") as file:
        file.truncate(64 << 30)
    return name


DATA = [
    ("objects", lambda f: f.npz(x_train=np.array([None] * 20)), "not a plain .npz"),
    (
        "objects of a class",
        lambda f: f.npz(y_train=np.array([{"a": 1}] * 99, object)),
        "not a plain .npz",
    ),
    (
        "huge shape",
        lambda f: f.npz_member(npy_header((10**12, 28, 28))),
        "declares more values than it holds",
    ),
    (
        "shape that overflows",
        lambda f: f.npz_member(npy_header((2**62, 4, 28))),
        "declares more values than it holds",
    ),
    (
        "negative shape",
        lambda f: f.npz_member(npy_header((-20, 28, 28)) + bytes(20 * 784)),
        "bad.npz: ",
    ),
    (
        "packed zeros",
        lambda f: f.write("bad.npz", claimed(2 << 30)),
        "would unpack to",
    ),
    (
        "more than is claimed",
        lambda f: f.write("bad.npz", claimed(20 * 784)),
        "can't be read (Bad CRC-32",
    ),
    (
        "thousands of members",
        lambda f: f.archive(
            "bad.npz", "data.npz", **{f"member {i}.npy": b"" for i in range(1500)}
        ),
        "holds thousands of arrays",
    ),
    (
        "code in a header",
        lambda f: f.npz_member(npy_header("__import__('os').mkdir('trace')")),
        "not a plain .npz",
    ),
    (
        "long header",
        lambda f: f.npz_member(npy_header("1" + " " * 60_000)),
        "not a plain .npz",
    ),
    ("floats", lambda f: f.npz(x_train=np.zeros((20, 28, 28))), "has dtype float64"),
    (
        "floats that are no numbers",
        lambda f: f.npz(y_train=np.full(20, np.nan)),
        "y_train has dtype float64",
    ),
    ("complex", lambda f: f.npz(y_test=np.zeros(20, complex)), "has dtype complex128"),
    ("texts", lambda f: f.npz(y_test=np.full(20, "7")), "y_test has dtype <U1"),
    (
        "records",
        lambda f: f.npz(x_train=np.zeros((20, 28, 28), [("a", "u1")])),
        "x_train has dtype [('a'",
    ),
    ("labels", lambda f: f.npz(y_train=np.full(20, 2**63 - 1)), "labels from 92233"),
    (
        ".npy",
        lambda f: f.write("bad.npz", npy_header((20, 28, 28)) + bytes(15680)),
        "not an .npz file",
    ),
    (
        ".npy of a huge shape",
        lambda f: f.write("bad.npz", npy_header((10**14,))),
        "bad.npz: ",
    ),
    ("pickle", lambda f: f.write("bad.npz", PICKLE), "not a plain .npz"),
    ("text", lambda f: f.write("bad.npz", b"text"), "not a plain .npz"),
    ("FIFO", lambda f: os.mkfifo("bad.npz") or "bad.npz", "bad.npz: "),
    ("device", lambda f: "/dev/zero", "/dev/zero: "),
]
PICKLE = b"cos\nmkdir\n(S'trace'\ntR."


def claimed(size):
    """Bytes of an .npz file whose x_train.npy is a bomb and claims `size` bytes."""
    save_without_images("bad.npz")
    content = npy_header((size // 784, 28, 28)) + bytes(MANY_ZEROS)
    with zipfile.ZipFile("bad.npz", "a") as archive:
        archive.writestr("x_train.npy", content, zipfile.ZIP_DEFLATED, compresslevel=1)
        archive.getinfo("x_train.npy").file_size = size
    return Path("bad.npz").read_bytes()


def animated(f):
    frames = [Image.new("L", (9, 9), 9 * i) for i in range(9)]
    frames[0].save("a.png", save_all=True, append_images=frames[1:])
    return "a.png"


def rotated(f):
    exif = Image.Exif()
    exif[0x0112] = 6
    return f.image("a.jpg", exif=exif)


def linked(f, target):
    os.symlink(target, "a.png")
    return "a.png"


# the expected part of the line, or None for an image that must be classified
IMAGES = [
    ("grey", lambda f: f.image(), None),
    ("two levels", lambda f: f.image(mode="1"), None),
    ("16 bits", lambda f: f.image(array=np.full((9, 9), 9999, np.uint16)), None),
    ("colour", lambda f: f.image("a.jpeg", mode="RGB"), None),
    ("CMYK", lambda f: f.image("a.jpg", mode="CMYK"), None),
    ("palette", lambda f: f.image(mode="P"), None),
    ("transparent", lambda f: f.image(mode="RGBA"), None),
    ("grey, transparent", lambda f: f.image(mode="LA"), None),
    ("one pixel", lambda f: f.image(array=np.ones((1, 1), np.uint8)), None),
    ("a line", lambda f: f.image(array=np.ones((1, 9999), np.uint8)), None),
    ("animated", animated, None),
    ("rotated", rotated, None),
    ("JPEG named .png", lambda f: f.image("a.png", format="JPEG"), None),
    ("broken EXIF", lambda f: f.image("a.jpg", exif=b"Exif\0\0MM\0*" * 99), None),
    ("text behind", lambda f: f.write("a.png", png(8, 8, last=b"<?php")), None),
    ("link", lambda f: linked(f, "image.png"), None),
    ("new line", lambda f: f.renamed("a\nb.png"), None),
    ("escape code", lambda f: f.renamed("\x1b[2J.png"), None),
    ("not UTF-8", lambda f: f.renamed(os.fsdecode(b"\xff.png")), None),
    ("leading dash", lambda f: "./" + f.renamed("-x.png"), None),
    ("pattern's characters", lambda f: f.renamed("[*?].png"), None),
    ("quotes", lambda f: f.renamed('\'a,"b".png'), None),
    ("many pixels", lambda f: f.write("a.png", png(50_000, 50_000)), "a.png: "),
    (
        "fewer pixels",
        lambda f: f.write("a.png", png(8_000, 8_000)),
        "has 8000 x 8000 pixels",
    ),
    ("no pixels", lambda f: f.write("a.png", png(0, 8)), "a.png: "),
    (
        "packed text",
        lambda f: f.write("a.png", png(8, 8, (b"zTXt", b"a\0\0" + packed_zeros()))),
        "can't be read",
    ),
    (
        "packed profile",
        lambda f: f.write("a.png", png(8, 8, (b"iCCP", b"a\0\0" + packed_zeros()))),
        "can't be read",
    ),
    (
        "more data than pixels",
        lambda f: f.write("a.png", png(8, 8, (b"IDAT", packed_zeros()))),
        None,
    ),
    (
        "chunk of 2 GiB",
        lambda f: f.write("a.png", png(8, 8)[:33] + b"\x7f\xff\xff\xfftEXta\0"),
        "can't be read",
    ),
    (
        "many pixels, JPEG",
        lambda f: f.write("a.jpg", wide_jpeg(f)),
        "Image size (4290250000 pixels) exceeds",
    ),
    ("cut short", lambda f: f.write("a.jpg", jpeg(f)[:-200]), "can't be read"),
    ("cut in the header", lambda f: f.write("a.jpg", jpeg(f)[:20]), "a.jpg: "),
    ("text", lambda f: f.write("a.png", b"text"), "not a PNG or JPEG image"),
    ("script", lambda f: f.write("a.png", b"<svg onload='x'/>"), "not a PNG or JPEG"),
    ("GIF", lambda f: f.image("a.png", format="GIF"), "not a PNG or JPEG image"),
    ("PostScript", lambda f: f.write("a.png", b"%!PS-Adobe-3.0"), "not a PNG or JPEG"),
    ("empty", lambda f: f.write("a.png", b""), "not a PNG or JPEG image"),
    ("model", lambda f: f.renamed("a.png", "model.h5"), "not a PNG or JPEG image"),
    ("gone", lambda f: "gone\x1b[2J.png", r"gone\x1b[2J.png: no such file"),
    ("link to itself", lambda f: linked(f, "a.png"), "can't be read"),
    ("link to nothing", lambda f: linked(f, "gone"), "no such file"),
    ("link to a device", lambda f: linked(f, "/dev/zero"), "not a file"),
    ("FIFO", lambda f: os.mkfifo("a.png") or "a.png", "not a file"),
    ("sparse", lambda f: sparse("a.png"), "has 65536 MiB"),
    ("null character", lambda f: "a\0.png", r"a\x00.png: can't be read"),
]


def jpeg(f):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    return Path(f.image("a.jpg", noise)).read_bytes()


def wide_jpeg(f):
    size = struct.pack(">HH", 32, 32)
    assert size in jpeg(f)
    return jpeg(f).replace(size, struct.pack(">HH", 65500, 65500))


def memory(name):
    """Return a figure of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    raise LookupError(name)


@pytest.fixture
def harmless(tmp_path, monkeypatch, originals):
    """Hands out Files; sees to it that a test stays within time, memory and folder."""
    folder = tmp_path / "a" / "folder"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "evil.py").write_text("open('trace', 'w')\n")
    monkeypatch.syspath_prepend(folder)
    before = memory_before = None

    def listing():
        return sorted(str(path) for path in tmp_path.rglob("*"))

    def begin():
        nonlocal before, memory_before
        before = listing()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            memory_before = memory("VmRSS")
        except OSError:  # not on Linux: what was a bomb there is one here too
            memory_before = None

    monkeypatch.setattr(untrusted, "MOST_OBJECTS", MOST_OBJECTS)
    files = Files(originals)
    files.begin = begin
    # HDF5 that waits for a FIFO hears no signal: then all tests end here
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    yield files
    faulthandler.cancel_dump_traceback_later()
    if memory_before is not None:
        assert memory("VmHWM") - memory_before < MEMORY
    assert listing() == before
    assert not Path("/tmp/climbed").exists()


def says(arguments, status, capfd):
    """Run the script; return stdout and the one line on stderr."""
    capfd.readouterr()
    assert load_classifier.main(arguments) == status
    printed = capfd.readouterr()
    lines = printed.err.splitlines()
    assert "Traceback" not in printed.err
    assert printed.err.replace("\n", "").isprintable()
    return printed.out, lines


def cases(table):
    return pytest.mark.parametrize(
        ("make", "expected"),
        [pytest.param(make, expected, id=name) for name, make, expected in table],
    )


@cases(MODELS)
def test_models(make, expected, harmless, capfd):
    path = make(harmless)
    harmless.begin()
    out, lines = says([path, "--predict", "image.png"], 2, capfd)
    assert out == "" and len(lines) == 1
    assert lines[0].startswith("load_classifier.py: ") and expected in lines[0]


@cases(DATA)
def test_data_sets(make, expected, harmless, capfd):
    path = make(harmless)
    harmless.begin()
    out, lines = says(["model.keras", "--data", path], 2, capfd)
    assert out == "" and len(lines) == 1
    assert lines[0].startswith("load_classifier.py: ") and expected in lines[0]


@cases(IMAGES)
def test_images(make, expected, harmless, capfd):
    path = make(harmless)
    harmless.begin()
    status = 2 if expected else 0
    out, lines = says(["model.keras", "--predict", path, "--csv"], status, capfd)
    if expected:
        assert out == "" and len(lines) == 2
        assert lines[0].startswith("skipped ") and expected in lines[0]
    else:
        (row,) = csv.DictReader(out.splitlines())
        assert len(out.splitlines()) == 2 and out.replace("\n", "").isprintable()
        assert 0 < float(row["probability"]) <= 1


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_odd_but_harmless_models(suffix, harmless, capfd):
    paths = [
        harmless.weights(add_a_cycle, f"cycle.{suffix}"),
        harmless.renamed(f"\x1b[2J\n,.{suffix}", f"model.{suffix}"),
    ]
    os.symlink(paths[1], f"link.{suffix}")
    harmless.begin()
    answers = {
        says([path, "--predict", "image.png", "--csv"], 0, capfd)[0]
        for path in (*paths, f"link.{suffix}")
    }
    assert len(answers) == 1


def described(model):
    return json.loads(model.to_json())


def test_what_a_layer_costs():
    """On shapes worked out by hand."""
    image = keras.Input((4, 4, 2))
    cases = [
        (layers.Conv2D(3, (3, 2), strides=2, padding="same"), 39, 12 * 3 * 4),
        (layers.Conv2D(4, 3, groups=2, use_bias=False), 36, 9 * 4 * 4),
        (layers.Conv2DTranspose(3, 4, strides=2, padding="same"), 99, 32 * 3 * 16),
        (layers.Dense(5), 15, 2 * 5 * 16),
        (layers.MaxPooling2D(), 0, 0),
    ]
    for layer, n_weights, work in cases:
        after = layer(image).shape
        row = untrusted.LAYERS[type(layer).__name__]
        assert row.cost(layer, image.shape, after) == (n_weights, work)
        assert layer.count_params() == n_weights


@pytest.mark.parametrize(
    ("limit", "most", "fits"),
    [
        ("MOST_WORK", 2 * 9 * 49 + 98 * 10, True),
        ("MOST_WORK", 2 * 9 * 49 + 98 * 10 - 1, False),
        ("LARGEST_OUTPUT", 98, True),
        ("LARGEST_OUTPUT", 97, False),
    ],
)
def test_what_a_model_may_cost(limit, most, fits, harmless, monkeypatch):
    with zipfile.ZipFile("model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    config.pop("compile_config", None)
    monkeypatch.setattr(untrusted, limit, most)
    harmless.begin()
    if fits:
        untrusted.check_layers("model.keras", config)
    else:
        with pytest.raises(command.InputError, match="far too much to compute"):
            untrusted.check_layers("model.keras", config)


def test_classifiers_and_generators_hold_layers_of_their_own():
    image, point = keras.Input((4, 4, 1)), keras.Input((16,))
    flat = layers.Dense(3)(layers.Flatten()(image))
    models = {
        "classifier": keras.Model(image, flat),
        "generator": keras.Model(point, layers.Reshape((4, 4, 1))(point)),
    }
    for kind, model in models.items():
        untrusted.check_classes("a.keras", described(model), kind)
        (other,) = {*models} - {kind}
        with pytest.raises(command.InputError, match=f"which is no part of a {other}"):
            untrusted.check_classes("a.keras", described(model), other)


def test_a_new_kind_of_layer_is_one_row(tmp_path, monkeypatch):
    image = keras.Input((4, 4, 1))
    answer = layers.Dense(3, activation="softmax")(layers.Flatten()(image))
    keras.Model(image, layers.Softmax()(answer)).save(tmp_path / "c_model.keras")
    with pytest.raises(command.InputError, match="holds 'Softmax'"):
        load_classifier.load_classifier(tmp_path / "c_model.keras")
    row = untrusted.Row("keras.layers", ("classifier",), {"axis"})
    monkeypatch.setitem(untrusted.LAYERS, "Softmax", row)
    loaded = load_classifier.load_classifier(tmp_path / "c_model.keras")
    assert loaded.output_shape == (None, 3)
