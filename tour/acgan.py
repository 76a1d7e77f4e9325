"""ACGAN: auxiliary classifier GAN (Odena, Olah and Shlens 2016).

    python tour/acgan.py                          # 5,000 steps on MNIST, into runs/
    python tour/acgan.py --minutes 3 --seed 1
    python tour/acgan.py --data FOLDER            # labelled images of your own
    python tour/acgan.py --sample runs/FOLDER --classes 3 7

What the article says of it, and where it is here:
ACGAN-1 the generator is asked for a class, as cGAN's: define_generator.
ACGAN-2 the discriminator has a further model that finds the class: out_class of
    define_discriminator, trained by c_loss in define_train_step.
ACGAN-3 of an image the discriminator gives P(S|X), whether it is real, and P(C|X), its
    class, and isn't told the label: it has one input and two outputs.

The paper trains the classes on generated images, too; with `--class-loss real` the
discriminator learns them of real images alone, which some found to keep more variety.
"""

import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
from common import (
    ClassSettings,
    GanRun,
    generate,
    load_labelled_images,
    scaled,
)
from figures import measure_classes
from sampling import start_run

from gankit.backend import keras, layers, tf
from gankit.command import run_script
from gankit.training.batches import define_take, update
from gankit.training.settings import option

NAME = "acgan"
HISTORY = (
    "d_loss_real",
    "d_loss_fake",
    "c_loss_real",
    "c_loss_fake",
    "g_loss",
    "g_c_loss",
)


@dataclass(kw_only=True)
class Settings(ClassSettings):
    """Train an auxiliary classifier GAN on MNIST, or on labelled images of your own."""

    class_loss: str = option(
        "both",
        "images whose classes the discriminator learns: real and generated, or real",
        choices=("both", "real"),
    )


def start_weights():
    """Return the paper's start of all kernels, N(0, 0.02), with a seed of its own."""
    return keras.initializers.RandomNormal(0.0, 0.02)


def normalize():
    """Return batch normalisation as Torch has it, whose defaults the authors took.

    Keras's own average over 100 steps would lag behind the weights after few steps.
    """
    return layers.BatchNormalization(
        momentum=0.9,
        epsilon=1e-5,
        gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
    )


def define_optimizer():
    return keras.optimizers.Adam(2e-4, beta_1=0.5)


def define_generator(
    latent_dim=100, n_classes=10, *, image_shape=(28, 28, 1), width=1.0
):
    """Return the generator, compiled: [z, y] -> (n, *image_shape) in [-1, 1].

    z: (n, latent_dim); y: (n, n_classes), one-hot; mixtures of classes are taken, too.
    image_shape: height and width must be multiples of 4. width: factor on the maps.
    The paper starts at 4x4x1024 for 64x64 pixels; here 7x7x128 for MNIST.
    """
    rows, columns, channels = image_shape[0] // 4, image_shape[1] // 4, image_shape[2]
    n_first, n_second = scaled(128, width), scaled(64, width)
    in_lat = keras.Input(shape=(latent_dim,))
    in_label = keras.Input(shape=(n_classes,))
    # concatenated: as a factor of z, y could erase the noise
    gen = layers.Concatenate()([in_lat, in_label])
    gen = layers.Dense(
        rows * columns * n_first, use_bias=False, kernel_initializer=start_weights()
    )(gen)
    gen = layers.Reshape((rows, columns, n_first))(gen)
    gen = layers.ReLU()(normalize()(gen))
    # fractionally strided: 7x7 -> 14x14 -> 28x28
    gen = layers.Conv2DTranspose(
        n_second,
        (4, 4),
        strides=(2, 2),
        padding="same",
        use_bias=False,
        kernel_initializer=start_weights(),
    )(gen)
    gen = layers.ReLU()(normalize()(gen))
    gen = layers.Conv2DTranspose(
        channels,
        (4, 4),
        strides=(2, 2),
        padding="same",
        kernel_initializer=start_weights(),
    )(gen)
    out_layer = layers.Activation("tanh", dtype="float32")(gen)
    model = keras.Model([in_lat, in_label], out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def define_discriminator(image_shape=(28, 28, 1), n_classes=10, *, width=1.0):
    """Return the discriminator, compiled: images -> [source, classes], logits.

    source: (n, 1), of 'real'; classes: (n, n_classes). Sigmoid and softmax are in the
    losses, where they keep their gradients however sure d is.
    """
    in_image = keras.Input(shape=image_shape)
    dis = layers.Conv2D(
        scaled(64, width),
        (4, 4),
        strides=(2, 2),
        padding="same",
        kernel_initializer=start_weights(),
    )(in_image)
    dis = layers.LeakyReLU(negative_slope=0.2)(dis)
    dis = layers.Dropout(0.5)(dis)
    dis = layers.Conv2D(
        scaled(128, width),
        (4, 4),
        strides=(2, 2),
        padding="same",
        use_bias=False,
        kernel_initializer=start_weights(),
    )(dis)
    dis = layers.LeakyReLU(negative_slope=0.2)(normalize()(dis))
    dis = layers.Dropout(0.5)(dis)
    dis = layers.Flatten()(dis)
    out_layer = layers.Dense(1, kernel_initializer=start_weights(), dtype="float32")(
        dis
    )
    out_class = layers.Dense(
        n_classes, kernel_initializer=start_weights(), dtype="float32"
    )(dis)
    model = keras.Model(in_image, [out_layer, out_class])
    model.compile(optimizer=define_optimizer())
    return model


def define_draw(dataset, latent_dim, n_batch, n_classes):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as uint8 or float32 in [-1, 1]. draws: a training.batches.Draws.
    It returns n_batch real images and their labels, one-hot, and as many latent points,
    uniform in [-1, 1], and labels, each class as likely as the others.
    """
    take_real = define_take(dataset[0])
    labels = tf.constant(dataset[1], tf.int32)

    def draw(draws):
        chosen = draws.indices(n_batch, len(dataset[0]))
        y_real = tf.one_hot(tf.gather(labels, chosen), n_classes)
        z = draws.uniform((n_batch, latent_dim), -1.0, 1.0)
        y_fake = tf.one_hot(draws.indices(n_batch, n_classes), n_classes)
        return take_real(chosen), y_real, z, y_fake

    return draw


def define_train_step(g_model, d_model, class_loss="both"):
    """Return train_step(step, *batch), the two updates of a training step.

    batch: what define_draw's draw returns. It returns the figures that HISTORY names.
    Real and generated images are batches of their own, each with its own statistics.
    class_loss: 'real' leaves the classes of generated images out of d's update.
    """
    binary_loss = keras.losses.BinaryCrossentropy(from_logits=True)
    label_loss = keras.losses.CategoricalCrossentropy(from_logits=True)

    def losses_of(X, y, target):
        logits, classes = d_model(X, training=True)
        source_loss = binary_loss(tf.fill(tf.shape(logits), target), logits)
        return source_loss, label_loss(y, classes)

    d_model.optimizer.build(d_model.trainable_variables)
    g_model.optimizer.build(g_model.trainable_variables)

    def train_step(step, X_real, y_real, z, y_fake):
        with tf.GradientTape() as g_tape:
            X_fake = g_model([z, y_fake], training=True)

        # (1) Update d: minimise -log P(S) - log P(C), of real and generated images
        with tf.GradientTape() as tape:
            d_loss_real, c_loss_real = losses_of(X_real, y_real, 1.0)
            d_loss_fake, c_loss_fake = losses_of(X_fake, y_fake, 0.0)
            d_loss = d_loss_real + d_loss_fake + c_loss_real
            if class_loss == "both":
                d_loss += c_loss_fake
        update(d_model, d_model.optimizer, tape, d_loss)

        # (2) Update g alone: minimise -log P(S = real) - log P(C = y)
        with g_tape:
            g_loss, g_c_loss = losses_of(X_fake, y_fake, 1.0)
            g_losses = g_loss + g_c_loss
        update(g_model, g_model.optimizer, g_tape, g_losses)

        return d_loss_real, d_loss_fake, c_loss_real, c_loss_fake, g_loss, g_c_loss

    return train_step


def define_sample(g_model, latent_dim):
    """Return sample(n, rng, labels) -> n generated images, uint8 (n, h, w, c).

    rng: a numpy Generator. labels: int (n,), the classes asked for.
    """
    n_classes = g_model.input_shape[1][1]

    def sample(n, rng, labels):
        z = rng.uniform(-1, 1, (n, latent_dim)).astype(np.float32)
        return generate(g_model, z, np.eye(n_classes, dtype=np.float32)[labels])

    return sample


def train(
    g_model,
    d_model,
    dataset,
    latent_dim=100,
    n_steps=5000,
    n_batch=128,
    *,
    class_loss="both",
    run=None,
):
    """Train the two models on [X, y] and fill a run's folder; return its path.

    X: uint8 (n, h, w, c); y: int (n,), from 0
    on. run: a GanRun; None for a new one in runs/. Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings(), by_class=True)
    sample = define_sample(g_model, latent_dim)
    steps = run.compile(
        define_draw(dataset, latent_dim, n_batch, run.n_classes),
        define_train_step(g_model, d_model, class_loss),
        [g_model, d_model, g_model.optimizer, d_model.optimizer],
        columns=HISTORY,
        draws=3,
        passes=3,
    )
    n_steps = run.fit(n_steps, steps, sample)
    run.make(
        steps,
        dataset,
        lambda step: run.summarize(step, sample),
        describe=describe_step,
        n_steps=n_steps,
        n_batch=n_batch,
    )
    models = {"g": g_model, "d": d_model}
    return run.conclude(n_steps, models, lambda: measure_classes(sample, dataset, run))


def describe_step(figures):
    """Return the text of a step's figures."""
    d_loss_real, d_loss_fake, c_loss_real, c_loss_fake, g_loss, g_c_loss = figures
    return (
        f"d[{d_loss_real:.3f},{d_loss_fake:.3f}], "
        f"c[{c_loss_real:.3f},{c_loss_fake:.3f}], g[{g_loss:.3f},{g_c_loss:.3f}]"
    )


def define_models(settings, image_shape, n_classes):
    """Return g_model and d_model for a run with these settings."""
    width = settings.width
    return (
        define_generator(
            settings.latent_dim, n_classes, image_shape=image_shape, width=width
        ),
        define_discriminator(image_shape, n_classes, width=width),
    )


def start(settings):
    """Train as the settings say, or draw from a run."""
    start_run(
        NAME,
        settings,
        define_models,
        define_sample,
        partial(train, class_loss=settings.class_loss),
        load=load_labelled_images,
        by_class=True,
    )


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
