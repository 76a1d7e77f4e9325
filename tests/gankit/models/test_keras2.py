"""Files as Keras 2 wrote them, made by hand after its layout."""

import json

import h5py
import numpy as np
import pytest

import discriminators
import load_classifier
import load_generator
import parts
import sgan_mnist

LATENT_DIM = 5
# what a version of Keras 2 wrote: its class of models, and its initialiser of kernels
VERSIONS = {
    "2.3.1": (
        "Model",
        "VarianceScaling",
        {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None},
    ),
    "2.12.0": ("Functional", "GlorotUniform", {"seed": None}),
}
OF_WEIGHTS = {
    "kernel_regularizer": None,
    "bias_regularizer": None,
    "activity_regularizer": None,
    "kernel_constraint": None,
    "bias_constraint": None,
    "bias_initializer": {"class_name": "Zeros", "config": {}},
}
OF_KERNEL = {
    "padding": "same",
    "data_format": "channels_last",
    "dilation_rate": [1, 1],
    "groups": 1,
}


def settings_of(layer, version):
    """Return what Keras 2 kept of a layer, given as one of Keras 3."""
    _, initializer, its_config = VERSIONS[version]
    kernel = {"class_name": initializer, "config": its_config}
    weights = {"use_bias": True, "kernel_initializer": kernel, **OF_WEIGHTS}
    kind, new = type(layer).__name__, layer.get_config()
    if kind == "InputLayer":
        shape = list(new["batch_shape"])
        return {"batch_input_shape": shape, "sparse": False, "ragged": False}
    if kind in ("Conv2D", "Conv2DTranspose"):
        names = ("filters", "kernel_size", "strides", "activation")
        settings = {**{name: new[name] for name in names}, **OF_KERNEL, **weights}
        return settings | ({"output_padding": None} if kind != "Conv2D" else {})
    if kind == "Dense":
        return {"units": new["units"], "activation": new["activation"], **weights}
    return {
        "LeakyReLU": {"alpha": 0.20000000298023224},
        "Flatten": {"data_format": "channels_last"},
        "Dropout": {"rate": 0.4, "noise_shape": None, "seed": None},
        "Activation": {"activation": new.get("activation")},
        "Reshape": {"target_shape": [*new.get("target_shape", ())]},
    }[kind]


def save_as_keras_2(model, path, version="2.3.1", change=None):
    """Write a model, whose layers are a chain, as Keras 2's model.save did.

    change: function of the configuration, a dict, which it changes.
    """
    described, previous = [], None
    for layer in model.layers:
        config = {"name": layer.name, "trainable": True, "dtype": "float32"}
        described.append(
            {
                "class_name": type(layer).__name__,
                "config": config | settings_of(layer, version),
                "name": layer.name,
                "inbound_nodes": [[[previous, 0, 0, {}]]] if previous else [],
            }
        )
        previous = layer.name
    config = {
        "class_name": VERSIONS[version][0],
        "config": {
            "name": "model_1",
            "layers": described,
            "input_layers": [[model.layers[0].name, 0, 0]],
            "output_layers": [[previous, 0, 0]],
        },
    }
    if change:
        change(config)
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = version.encode()
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["training_config"] = json.dumps(
            {
                "loss": "sparse_categorical_crossentropy",
                "metrics": ["accuracy"],
                "optimizer_config": {"class_name": "Adam", "config": {"lr": 0.0002}},
            }
        ).encode()
        file["optimizer_weights/iterations:0"] = np.int64(12000)
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        weights.attrs["backend"] = b"tensorflow"
        weights.attrs["keras_version"] = version.encode()
        for layer in model.layers:
            group = weights.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, layer.weights, strict=True):
                group[name] = np.array(variable)
    return path


@pytest.fixture(params=["stacked", "shared"])
def c_model(request):
    _, c_model = sgan_mnist.define_discriminator(design=request.param)
    return c_model


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_tutorials_classifiers_are_read(c_model, version, tmp_path):
    path = save_as_keras_2(c_model, tmp_path / "c_model_7200.h5", version)
    loaded = load_classifier.load_classifier(path)
    X = np.random.default_rng(0).uniform(-1, 1, (5, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(
        loaded.predict_on_batch(X), c_model.predict_on_batch(X), atol=1e-6
    )
    assert not (loaded.get_layer(index=2).negative_slope - 0.2) > 1e-6


@pytest.mark.parametrize("version", VERSIONS)
def test_the_tutorials_generator_is_read(version, tmp_path, capsys):
    g_model = sgan_mnist.define_generator(LATENT_DIM)
    path = save_as_keras_2(g_model, tmp_path / "g_model_7200.h5", version)
    loaded = load_generator.load_generator(path)
    points = np.random.default_rng(0).standard_normal((3, LATENT_DIM))
    np.testing.assert_allclose(
        loaded.predict_on_batch(points), g_model.predict_on_batch(points), atol=1e-6
    )


def test_the_scripts_take_them(mnist, small_data, tmp_path, capsys):
    _, c_model = discriminators.define_stacked_discriminators()
    path = str(save_as_keras_2(c_model, tmp_path / "c_model_7200.h5"))
    assert load_classifier.main([path, "--data", str(small_data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Train Accuracy", "Test Accuracy"]


def test_the_name_that_keras_3_takes_for_weights(c_model, tmp_path, capsys):
    path = save_as_keras_2(c_model, tmp_path / "c_model.weights.h5")
    line = parts.fails(load_classifier, capsys, path)
    assert f"{path}: a model of Keras 2, whose name must not end in .weights.h5" in line
    assert line.endswith("; copy it to a name that ends in .h5 alone\n")


@pytest.mark.parametrize("name", ["keras_2.h5", "keras_2.weights.h5"])
def test_weights_alone_are_no_model(c_model, name, tmp_path, capsys):
    whole = save_as_keras_2(c_model, tmp_path / "whole.h5")
    with h5py.File(whole) as file, h5py.File(tmp_path / name, "w") as weights:
        for layer in file["model_weights"]:
            file.copy(file["model_weights"][layer], weights, layer)
        for key, value in file["model_weights"].attrs.items():
            weights.attrs[key] = value
    line = parts.fails(load_classifier, capsys, tmp_path / name)
    assert f"{name}: holds weights alone, no model; give a c_model saved by" in line


def test_weights_alone_of_keras_3_are_no_model(c_model, tmp_path, capsys):
    c_model.save_weights(tmp_path / "c_model.weights.h5")
    line = parts.fails(load_classifier, capsys, tmp_path / "c_model.weights.h5")
    assert "c_model.weights.h5: holds weights alone, no model; give a c_model" in line


def layer_of(config, kind):
    return next(x for x in config["config"]["layers"] if x["class_name"] == kind)


def set_class(config):
    layer_of(config, "Dropout")["class_name"] = "Lambda"


def set_module(config):
    layer_of(config, "Dense")["module"] = "evil_module"


def set_initializer(config):
    settings = layer_of(config, "Dense")["config"]
    settings["kernel_initializer"] = {"class_name": "Evil", "config": {}}


def set_activation(config):
    layer_of(config, "Dense")["config"]["activation"] = {"class_name": "__lambda__"}


def set_both_shapes(config):
    settings = layer_of(config, "InputLayer")["config"]
    settings["batch_shape"] = [None, 10**9, 10**9, 1]


def set_units(config):
    layer_of(config, "Dense")["config"]["units"] = 10**12


def set_fewer_filters(config):
    layer_of(config, "Conv2D")["config"]["filters"] = 64


def set_constraint(config):
    layer_of(config, "Dense")["config"]["kernel_constraint"] = "max_norm"


def skip_a_layer(config):
    layer_of(config, "Flatten")["inbound_nodes"][0][0][0] = "elsewhere"


def share_a_layer(config):
    nodes = layer_of(config, "Flatten")["inbound_nodes"]
    nodes.append(nodes[0])


def set_nodes(config):
    layer_of(config, "Flatten")["inbound_nodes"] = [7]


def set_nothing(config):
    config["config"]["layers"].append(None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_class, "holds 'Lambda'"),
        (set_module, "of module 'evil_module'"),
        (set_initializer, "holds 'Evil'"),
        (set_activation, "holds '__lambda__'"),
        (set_units, "has no room for the"),
        (set_constraint, "sets kernel_constraint"),
        (set_fewer_filters, "can't be loaded"),
        (skip_a_layer, "doesn't follow the one before"),
        (share_a_layer, "can't be built"),
        (set_nodes, "its layers can't be read"),
        (set_nothing, "its layers can't be read"),
    ],
)
def test_these_files_are_trusted_no_more_than_others(change, said, tmp_path, capsys):
    _, c_model = discriminators.define_stacked_discriminators()
    path = save_as_keras_2(c_model, tmp_path / "bad.h5", change=change)
    assert said in parts.fails(load_classifier, capsys, path)


def test_the_shape_that_was_checked_is_the_one_built(tmp_path):
    _, c_model = discriminators.define_stacked_discriminators()
    path = save_as_keras_2(c_model, tmp_path / "a.h5", change=set_both_shapes)
    loaded = load_classifier.load_classifier(path)
    assert loaded.input_shape == (None, 28, 28, 1)
