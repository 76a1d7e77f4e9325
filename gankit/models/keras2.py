"""Models that Keras 2 saved, as Keras 3 writes them down."""

# initialisers of weights, which the file's weights replace
INITIALIZERS = ("GlorotUniform", "VarianceScaling", "Zeros", "Ones")


def is_of_keras_2(config):
    """Tell whether a model's configuration, a dict, is in Keras 2's form."""
    return "batch_input_shape" in config["config"]["layers"][0]["config"]


def translate(config):
    """Return a configuration of Keras 2 in the form of Keras 3's.

    config: that of a model whose layers are a chain, of any origin. What the two
    versions write differently is changed; all else stays as it is, to be checked.
    Raises an exception of any kind where the form is another.
    """
    graph = dict(config["config"])
    graph["layers"] = [_translate_layer(layer) for layer in graph["layers"]]
    for end in ("input_layers", "output_layers"):
        # a list of one would be a model that takes lists
        graph[end] = graph[end][0] if len(graph[end]) == 1 else graph[end]
    class_name = config["class_name"]
    return {
        "module": "keras.src.models.functional",
        **config,
        "class_name": "Functional" if class_name == "Model" else class_name,
        "config": graph,
    }


def _translate_layer(layer):
    kind, settings = layer["class_name"], dict(layer["config"])
    for name in [name for name in settings if name.endswith("_initializer")]:
        if settings[name]["class_name"] in INITIALIZERS:
            del settings[name]
    if kind == "InputLayer":
        settings["batch_shape"] = settings.pop("batch_input_shape")
    if kind == "LeakyReLU":
        settings["negative_slope"] = settings.pop("alpha")
    if kind == "Conv2DTranspose" and settings.get("groups") == 1:
        del settings["groups"]
    return {
        "module": "keras.layers",
        **layer,
        "config": settings,
        "inbound_nodes": [_translate_node(node) for node in layer["inbound_nodes"]],
    }


def _translate_node(node):
    ((name, node_index, tensor_index, kwargs),) = node
    # stands for a layer's output; its shape and type come with the layer
    tensor = {"shape": [None], "dtype": "float32"}
    tensor["keras_history"] = [name, node_index, tensor_index]
    return {
        "args": [{"class_name": "__keras_tensor__", "config": tensor}],
        "kwargs": kwargs,
    }
