"""Four ways to build the discriminator of a semi-supervised GAN.

    python discriminators.py             # diagrams go to the current directory
    python discriminators.py --out DIR

A semi-supervised discriminator answers two questions about an image: is it real or
generated (unsupervised), and which class is it (supervised). The designs differ in
what the two answers share. All use one feature extractor: images in [-1, 1], three 3x3
convolutions of stride 2 (28x28x1 -> 4x4x128), dropout. The heads compute in
float32 under a mixed-precision policy too, so that losses keep their digits.
"""

import argparse
import functools
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np

from gankit.backend import keras, layers, tf
from gankit.command import OneLineParser, run_script
from gankit.folders import writable_folder, write_atomically
from gankit.models.classify import CLASSES, UNKNOWN


def parse_arguments(argv):
    parser = OneLineParser(
        description="Summarise and draw four designs of a discriminator.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", default=".", help="folder of the diagrams")
    return parser.parse_args(argv)


def adam():
    # Radford et al. 2016 (DCGAN), section 4
    return keras.optimizers.Adam(learning_rate=0.0002, beta_1=0.5)


def compile_model(model, loss, **options):
    # XLA makes these networks slower on a CPU
    model.compile(loss=loss, optimizer=adam(), jit_compile=False, **options)


def _features(in_image):
    fe = in_image
    for _ in range(3):
        fe = layers.Conv2D(128, (3, 3), strides=(2, 2), padding="same")(fe)
        fe = layers.LeakyReLU(negative_slope=0.2)(fe)
    fe = layers.Flatten()(fe)
    return layers.Dropout(0.4)(fe)


def define_standard_discriminator(in_shape=(28, 28, 1)):
    """Return the plain GAN discriminator: real (1) or generated (0), as (n, 1)."""
    in_image = keras.Input(shape=in_shape)
    fe = _features(in_image)
    out_layer = layers.Dense(1, activation="sigmoid", dtype="float32")(fe)
    model = keras.Model(in_image, out_layer)
    compile_model(model, "binary_crossentropy")
    return model


def define_shared_discriminators(in_shape=(28, 28, 1), n_classes=10):
    """Return d_model, c_model: two heads, with weights of their own, on one trunk.

    d_model gives (n, 1), the probability 'real'; c_model gives (n, n_classes).
    """
    in_image = keras.Input(shape=in_shape)
    fe = _features(in_image)
    d_out_layer = layers.Dense(1, activation="sigmoid", dtype="float32")(fe)
    d_model = keras.Model(in_image, d_out_layer)
    compile_model(d_model, "binary_crossentropy")
    c_out_layer = layers.Dense(
        n_classes, activation="softmax", dtype="float32", name=CLASSES
    )(fe)
    c_model = keras.Model(in_image, c_out_layer)
    compile_model(c_model, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return d_model, c_model


def define_multi_output_discriminator(in_shape=(28, 28, 1), n_classes=10):
    """Return one model with two outputs: (n, 1) 'real' and (n, n_classes + 1) class.

    The last class is 'unknown': that of unlabelled and of generated images.
    """
    in_image = keras.Input(shape=in_shape)
    fe = _features(in_image)
    d_out_layer = layers.Dense(1, activation="sigmoid", dtype="float32")(fe)
    c_out_layer = layers.Dense(
        n_classes + 1, activation="softmax", dtype="float32", name=UNKNOWN
    )(fe)
    model = keras.Model(in_image, [d_out_layer, c_out_layer])
    compile_model(model, ["binary_crossentropy", "sparse_categorical_crossentropy"])
    return model


def custom_activation(logits):
    """Probability 'real' from class logits: (..., n_classes) -> (..., 1).

    With Z = sum(exp(logits)) it is Z / (Z + 1) (Salimans et al. 2016, section 5).
    Computed as sigmoid(logsumexp(logits)), which is the same and can't overflow.
    """
    # keras.activations.sigmoid, unlike ops.sigmoid, keeps its logits, from which
    # the cross-entropy and its gradient stay exact where the sigmoid saturates
    return keras.activations.sigmoid(
        keras.ops.logsumexp(logits, axis=-1, keepdims=True)
    )


@functools.cache
def define_custom_activation():
    """Return custom_activation as a class of layers, which safe mode can reload."""

    @keras.saving.register_keras_serializable(package="sgan")
    class CustomActivation(layers.Layer):
        def call(self, logits):
            return custom_activation(logits)

        def compute_output_shape(self, input_shape):
            return (*input_shape[:-1], 1)

    return CustomActivation


def define_stacked_discriminators(in_shape=(28, 28, 1), n_classes=10):
    """Return d_model, c_model: two activations stacked on the same class logits.

    c_model gives softmax(logits), (n, n_classes); d_model gives
    custom_activation(logits), (n, 1). All weights are shared (Salimans et al. 2016).
    """
    in_image = keras.Input(shape=in_shape)
    fe = _features(in_image)
    logits = layers.Dense(n_classes, dtype="float32")(fe)
    c_out_layer = layers.Activation("softmax", dtype="float32")(logits)
    c_model = keras.Model(in_image, c_out_layer)
    compile_model(c_model, "sparse_categorical_crossentropy", metrics=["accuracy"])
    d_out_layer = define_custom_activation()(dtype="float32")(logits)
    d_model = keras.Model(in_image, d_out_layer)
    compile_model(d_model, "binary_crossentropy")
    return d_model, c_model


def define_multi_output_pair(in_shape=(28, 28, 1), n_classes=10):
    """Return d_model, the multi-output discriminator, and c_model, its second output.

    d_model gives [(n, 1), (n, n_classes + 1)]; c_model gives (n, n_classes + 1).
    """
    d_model = define_multi_output_discriminator(in_shape, n_classes)
    c_model = keras.Model(d_model.inputs, d_model.outputs[1])
    compile_model(c_model, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return d_model, c_model


# name of a design: function (in_shape, n_classes) -> d_model, c_model
DESIGNS = {
    "stacked": define_stacked_discriminators,
    "shared": define_shared_discriminators,
    "multi-output": define_multi_output_pair,
}


def probability_real(outputs):
    """Return the probability 'real', (n, 1), of what any design's d_model gives."""
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def unsupervised_loss(outputs, target):
    """Return the loss of what any design's d_model gives of a batch, float32 ().

    target: 1.0 for real images, 0.0 for generated ones. With a second output these
    images' class is 'unknown', the last one, and both outputs' losses are added.
    """
    real = probability_real(outputs)
    binary_loss = keras.losses.BinaryCrossentropy()
    loss = binary_loss(tf.fill((real.shape[0], 1), target), real)
    if real is outputs:
        return loss
    class_loss = keras.losses.SparseCategoricalCrossentropy()
    unknown = tf.fill((real.shape[0],), outputs[1].shape[1] - 1)
    return loss + class_loss(unknown, outputs[1])


def missing_drawing_tool():
    """Return what plot_model lacks here, 'pydot' or 'dot' (Graphviz), or None."""
    if importlib.util.find_spec("pydot") is None:
        return "pydot"
    return None if shutil.which("dot") else "dot"


def save_diagram(model, path, missing=None):
    """Draw the model to a PNG file and return the path written.

    missing: what missing_drawing_tool returned. Without 'dot' the diagram's .dot text
    is written instead of the picture, without 'pydot' the model's summary.
    """
    options = {"show_shapes": True, "show_layer_names": True}
    path = Path(path)
    if missing is None:
        with write_atomically(path) as temporary:
            keras.utils.plot_model(model, to_file=temporary, **options)
        return path
    if missing == "dot":
        path = path.with_suffix(".dot")
        text = keras.utils.model_to_dot(model, **options).to_string()
    else:
        path = path.with_suffix(".txt")
        lines = []
        model.summary(print_fn=lines.append)
        text = "\n".join(lines)
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def run(args):
    out = writable_folder(args.out)
    for logit in (-10.0, -1.0, 0.0, 1.0, 10.0):
        logits = np.full((1, 3), logit)
        print(f"{float(keras.ops.squeeze(custom_activation(logits))):.15g}")
    missing = missing_drawing_tool()
    if missing:
        instead = {"pydot": "summaries (.txt)", "dot": "diagrams as text (.dot)"}
        print(f"{missing} is not installed: writing {instead[missing]}, no pictures")
    standard = define_standard_discriminator()
    shared_d, shared_c = define_shared_discriminators()
    multi_output = define_multi_output_discriminator()
    stacked_d, stacked_c = define_stacked_discriminators()
    for model, name in (
        (standard, "discriminator_plot.png"),
        (shared_d, "discriminator1_plot.png"),
        (shared_c, "discriminator2_plot.png"),
        (multi_output, "multioutput_discriminator_plot.png"),
        (stacked_d, "stacked_discriminator1_plot.png"),
        (stacked_c, "stacked_discriminator2_plot.png"),
    ):
        model.summary()
        print(f">Saved: {save_diagram(model, out / name, missing)}")


def main(argv=None):
    return run_script("discriminators.py", lambda: run(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
