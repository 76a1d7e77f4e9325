"""What a model or an .npz file must look like before a library may read it.

A file can hold little and cost much: layers of a billion units, members and arrays
that unpack to gigabytes, links to other files. Such a file is refused by what it
declares, before anything is unpacked, built or opened.
"""

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gankit.backend import h5py, keras
from gankit.command import InputError, printable
from gankit.data.arrays import LARGEST_SIDE
from gankit.data.npz import has_large_directory

# what the files of each kind are called
PREFIXES = {"classifier": "c_model", "generator": "g_model"}
REMEDY = "give a model saved by sgan_mnist.py, .keras or .h5"
# a hundred times our own classifiers' files
LARGEST_FILE = 128 << 20
MEMBERS = {"metadata.json", "config.json", "model.weights.h5", "class_names.json"}
MOST_OBJECTS = 10_000
# bytes that an .h5 file's lists of names can make Keras read
LARGEST_LISTS = 2 << 30
MOST_LAYERS = 100
# values that a layer may give, and multiplications that a model may make, an image
LARGEST_OUTPUT = 1 << 24
MOST_WORK = 20_000_000_000


class Row(NamedTuple):
    """What is known of a class that a configuration may name; see LAYERS.

    module: where Keras has it. kinds: the kinds of models that may hold it.
    settings: what a layer of it may set beside name, trainable and dtype; None for a
    class that is no layer. cost: (layer, shape before, shape after) -> the layer's
    weights, and its multiplications an image.
    """

    module: str | None
    kinds: tuple
    settings: set | None = None
    cost: Callable = lambda layer, before, after: (0, 0)


def _cost_of_dense(layer, before, after):
    n_into = before[-1]
    return (n_into + layer.use_bias) * after[-1], n_into * math.prod(after[1:])


def _cost_of_convolution(layer, before, after):
    n_into = math.prod(layer.kernel_size) * before[-1] / layer.groups
    return (n_into + layer.use_bias) * after[-1], n_into * math.prod(after[1:])


def _cost_of_transposed(layer, before, after):
    n_into = math.prod(layer.kernel_size) * before[-1]
    # each pixel is spread
    work = n_into * after[-1] * math.prod(before[1:-1])
    return (n_into + layer.use_bias) * after[-1], work


def _cost_of_normalization(layer, before, after):
    return 4 * max(after[1:]), 0


CLASSIFIER, GENERATOR = ("classifier",), ("generator",)
BOTH = CLASSIFIER + GENERATOR
LAYER, INITIALIZER = "keras.layers", "keras.initializers"
KERNEL = {"kernel_size", "strides", "padding", "data_format", "dilation_rate"}
WEIGHTS = {"activation", "use_bias", "kernel_initializer", "bias_initializer"}
# all that a model file may hold; the quick convolution of fast_conv.py is saved as a
# plain one
LAYERS = {
    "InputLayer": Row(LAYER, BOTH, {"batch_shape"}),
    "Dense": Row(LAYER, BOTH, {"units"} | WEIGHTS, _cost_of_dense),
    "Conv2D": Row(
        LAYER, BOTH, {"filters", "groups"} | KERNEL | WEIGHTS, _cost_of_convolution
    ),
    "Conv2DTranspose": Row(
        LAYER, GENERATOR, {"filters"} | KERNEL | WEIGHTS, _cost_of_transposed
    ),
    "MaxPooling2D": Row(
        LAYER, CLASSIFIER, {"pool_size", "strides", "padding", "data_format"}
    ),
    "BatchNormalization": Row(
        LAYER,
        GENERATOR,
        {
            *("axis", "momentum", "epsilon", "center", "scale", "renorm_momentum"),
            *("beta_initializer", "gamma_initializer"),
            *("moving_mean_initializer", "moving_variance_initializer"),
        },
        _cost_of_normalization,
    ),
    "LeakyReLU": Row(LAYER, BOTH, {"negative_slope"}),
    "Activation": Row(LAYER, BOTH, {"activation"}),
    "Flatten": Row(LAYER, CLASSIFIER, {"data_format"}),
    "Reshape": Row(LAYER, GENERATOR, {"target_shape"}),
    "Dropout": Row(LAYER, CLASSIFIER, {"rate", "seed"}),
    "GlorotUniform": Row(INITIALIZER, BOTH),
    "HeNormal": Row(INITIALIZER, CLASSIFIER),
    "Zeros": Row(INITIALIZER, BOTH),
    "Ones": Row(INITIALIZER, GENERATOR),
    "Functional": Row("keras.src.models.functional", BOTH),
    "DTypePolicy": Row("keras", BOTH),
    "__keras_tensor__": Row(None, BOTH),
}


def check_container(path):
    """Raise InputError for a .keras or .h5 file that holds more than model.save writes.

    Or another exception, of any kind, where it is no such file at all.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise InputError(
            f"{path}: has {size >> 20} MiB, and more than {LARGEST_FILE >> 20} are "
            f"not read; {REMEDY}"
        )
    if path.suffix == ".h5":
        with h5py.File(path, "r") as file:
            _check_hdf5(path, file, size)
        return
    if has_large_directory(path, size):
        _refuse(path, "holds more files than a model has")
    with zipfile.ZipFile(path) as archive:
        _check_members(path, archive.infolist(), size)
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r") as file:
        _check_hdf5(path, file, size)


def _refuse(path, problem):
    raise InputError(f"{path}: {printable(problem)}; {REMEDY}")


def _check_members(path, members, size):
    names = [member.filename for member in members]
    for name in names:
        if name not in MEMBERS:
            _refuse(path, f"holds {name[:60]!r}, which is no part of a model")
    if len(set(names)) < len(names):
        _refuse(path, "holds two files of the same name")
    for member in members:
        plain = member.compress_type == zipfile.ZIP_STORED
        if not plain or member.file_size != member.compress_size:
            _refuse(path, f"{member.filename} is compressed, which Keras doesn't do")
    if sum(member.file_size for member in members) > size:
        _refuse(path, "its files overlap")


def _check_hdf5(path, file, size):
    """Look at all objects of an HDF5 file, following hard links only."""
    n_objects = n_listed = 0

    def find_problem(name, link):
        nonlocal n_objects
        n_objects += 1
        if not isinstance(link, h5py.HardLink):
            return f"{name[:60]!r} is a link elsewhere ({type(link).__name__})"
        item = file[name]
        problem = isinstance(item, h5py.Dataset) and _find_trick(name, item, size)
        return problem or find_attributes(item)

    def find_attributes(item):
        nonlocal n_objects, n_listed
        for name in item.attrs:
            shape = item.attrs.get_id(name).shape
            n_objects += 1
            n_listed += math.prod(shape) if shape else 0
        # each entry of a list can name all that the file holds
        if n_objects > MOST_OBJECTS or n_listed * size > LARGEST_LISTS:
            return "holds more objects or names than a model has"
        return None

    def visit(name, link):
        # h5py wants a value: an exception here is its undoing
        try:
            return find_problem(name, link)
        except Exception as error:
            return f"{name[:60]!r} can't be read ({error})"

    problem = find_attributes(file) or file.visititems_links(visit)
    if problem:
        _refuse(path, problem)


def _find_trick(name, dataset, size):
    """Return why a dataset isn't read, a text, or None."""
    # first of all: even a virtual dataset's shape may come from another file
    if dataset.is_virtual or dataset.external:
        return f"the values of {name[:60]!r} are in another file"
    if dataset.dtype.kind not in "fiu":
        return f"{name[:60]!r} has dtype {dataset.dtype}, which weights haven't"
    if dataset.chunks or dataset.id.get_create_plist().get_nfilters():
        return f"{name[:60]!r} is packed, which Keras doesn't do"
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    if declared > min(size, dataset.id.get_storage_size()):
        return f"{name[:60]!r} has shape {dataset.shape}, which isn't all there"
    return None


def check_input_shape(path, config, kind):
    """Raise InputError unless the model takes what a model of its kind does.

    kind: 'classifier', one batch of images, or 'generator', one of latent points.
    """
    remedy = f"give a {PREFIXES[kind]} saved by sgan_mnist.py"
    try:
        shape, *others = (
            tuple(layer["config"]["batch_shape"][1:])
            for layer in config["config"]["layers"]
            if layer["class_name"] == "InputLayer"
        )
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: does not say what it takes; {remedy}") from error
    if others:
        raise InputError(f"{path}: takes {1 + len(others)} inputs, not one; {remedy}")
    sized = all(isinstance(size, int) and size > 0 for size in shape)
    as_image = sized and len(shape) == 3 and max(shape) <= LARGEST_SIDE
    if kind == "classifier" and as_image and shape[2] in (1, 3):
        return
    if kind == "generator" and sized and len(shape) == 1:
        return
    wanted = {"classifier": "images of 1 or 3 channels", "generator": "latent points"}
    problem = f"takes inputs of shape {shape}, not {wanted[kind]}; {remedy}"
    if kind == "classifier" and len(shape) == 1:
        problem = (
            f"takes latent points, {shape}, so it is a generator; give the "
            f"{PREFIXES[kind]} beside it"
        )
    elif kind == "generator" and len(shape) == 3:
        problem = (
            f"takes images, {shape}, so it is a classifier or a discriminator; give "
            f"the {PREFIXES[kind]} beside it"
        )
    raise InputError(f"{path}: {printable(problem)}")


def check_output_shape(path, model, kind):
    """Raise InputError unless a model gives what a model of its kind does."""
    shape = model.output_shape
    if kind == "classifier":
        fits = isinstance(shape, tuple) and len(shape) == 2 and shape[1] >= 2
        wanted = "not (None, classes)"
    else:
        fits = len(shape) == 4 and shape[-1] in (1, 3) and None not in shape[1:]
        wanted = "which is no batch of images"
    if not fits:
        raise InputError(
            f"{path}: its output has shape {shape}, {wanted}; give a {PREFIXES[kind]} "
            "saved by sgan_mnist.py"
        )


def check_classes(path, config, kind):
    """Raise InputError where the configuration names a class that LAYERS lacks.

    Or that has another module there, or is no part of models of this kind.
    """
    nodes = [config]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        if not isinstance(node, dict):
            continue
        nodes += node.values()
        if {"class_name", "module", "registered_name"}.isdisjoint(node):
            continue
        name = node.get("class_name")
        row = LAYERS.get(name) if isinstance(name, str) else None
        known = (
            row is not None
            and kind in row.kinds
            and node.get("module") in (None, row.module)
            and node.get("registered_name") in (None, name)
        )
        if not known:
            raise InputError(
                f"{path}: holds {str(name)[:60]!r} of module "
                f"{str(node.get('module'))[:60]!r}, which is no part of a {kind}; "
                f"give a {PREFIXES[kind]} saved by sgan_mnist.py"
            )


def check_layers(path, config):
    """Raise InputError unless a model's layers are a chain that the file can fill.

    config: the configuration, a dict, whose classes are known to be harmless.
    Only what the models of this collection set may be set, and the layers may
    have no more weights than the file has room for.
    """
    try:
        problem = _find_problem(config, Path(path).stat().st_size)
    except Exception as error:  # Keras may fail anywhere on numbers from anyone
        problem = f"its layers can't be built ({' '.join(str(error).split())[:200]})"
    if problem:
        _refuse(path, problem)


def _find_problem(config, size):
    """Return what is wrong with a model's configuration, a text, or None."""
    graph = config["config"]
    known = {"name", "trainable", "layers", "input_layers", "output_layers"}
    others = _settings_beside(graph, known) or _settings_beside(
        config, {"module", "class_name", "config", "registered_name", "build_config"}
    )
    if others or (config.get("build_config") or {}).get("input_shape") is not None:
        return f"its model sets {others or 'its input shape twice'}"
    if len(graph["output_layers"]) == 2:
        return "has two outputs, so it is neither classifier nor generator"
    layers = graph["layers"]
    if len(layers) > MOST_LAYERS:
        return f"has {len(layers)} layers, and no more than {MOST_LAYERS} are taken"
    shape, n_weights, work = None, 0, 0
    for number, layer in enumerate(layers):
        kind, settings = layer["class_name"], layer["config"]
        name = printable(settings["name"])[:60]
        row = LAYERS.get(kind)
        no_layer = row is None or row.settings is None
        if no_layer or (kind == "InputLayer") != (number == 0):
            return f"layer {name} is a {kind} inside"
        others = _settings_beside(
            settings, row.settings | {"name", "trainable", "dtype"}
        ) or _settings_beside(
            layer,
            {"module", "class_name", "config", "registered_name", "name"}
            | {"inbound_nodes", "build_config"},
        )
        if others:
            return f"layer {name} sets {others}, which no model here does"
        if layer["name"] != settings["name"] or not _follows(
            layer, layers[number - 1] if number else None
        ):
            return f"layer {name} doesn't follow the one before it alone"
        if number == 0:
            shape = tuple(settings["batch_shape"])
            continue
        if layer.get("build_config") not in (None, {"input_shape": list(shape)}):
            return f"layer {name} was built for another shape than {shape}"
        built = getattr(keras.layers, kind).from_config(settings)
        before, shape = shape, built.compute_output_shape(shape)
        more_weights, more_work = row.cost(built, before, shape)
        n_weights += more_weights
        work += more_work
        # a weight has two bytes at least
        if not 2 * n_weights <= size:
            return f"has no room for the {n_weights:.0f} weights up to layer {name}"
        if not (math.prod(shape[1:]) <= LARGEST_OUTPUT and work <= MOST_WORK):
            return f"layer {name} gives {shape}, which is far too much to compute"
    ends = [[layer["name"], 0, 0] for layer in (layers[0], layers[-1])]
    for end, given in zip(ends, ("input_layers", "output_layers"), strict=True):
        if graph[given] not in (end, [end]):
            return f"its {given} aren't the chain's end"
    return None


def _settings_beside(settings, known):
    """Return the names of what is set and not known, as a text, maybe ''."""
    others = [
        str(key)
        for key, value in settings.items()
        if key not in known and value not in (None, False)
    ]
    return ", ".join(others)[:60]


def _follows(layer, previous):
    nodes = layer["inbound_nodes"]
    if previous is None:
        return nodes == []
    (node,) = nodes
    (tensor,) = node["args"]
    return (
        tensor["class_name"] == "__keras_tensor__"
        and tensor["config"]["keras_history"] == [previous["name"], 0, 0]
        and all(value in (None, False, True) for value in node["kwargs"].values())
    )
