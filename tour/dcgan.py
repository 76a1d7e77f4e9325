"""DCGAN: deep convolutional GAN (Radford, Metz and Chintala 2015).

    python tour/dcgan.py                          # 5,000 steps on MNIST, into runs/
    python tour/dcgan.py --minutes 3 --seed 1
    python tour/dcgan.py --data FOLDER            # images of your own
    python tour/dcgan.py --sample runs/FOLDER     # draw from a run

What the article says of it, and where it is here:
DCGAN-1 deep convolutional networks: define_generator, define_discriminator.
DCGAN-2 constraints: strides instead of pooling, batch normalisation but for the
    generator's output and the discriminator's input, no hidden dense layers, ReLU and
    tanh in the generator, leaky ReLU in the discriminator; start weights, Adam.
DCGAN-3 they make training stable: measures.csv of a run.
DCGAN-4 later models stand on it: cgan.py, infogan.py, wgan.py are diffs of this file.
"""

import sys
from dataclasses import dataclass

import numpy as np
from common import GanRun, GanSettings, generate, scaled
from figures import correlate, measure_features
from sampling import start_run

from gankit.backend import keras, layers, tf
from gankit.command import run_script
from gankit.training.batches import define_take, update
from gankit.training.settings import option

NAME = "dcgan"
HISTORY = ("d_loss_real", "d_loss_fake", "g_loss")


@dataclass(kw_only=True)
class Settings(GanSettings):
    """Train a deep convolutional GAN on MNIST, or on images of your own."""

    generator_norm: str = option(
        "yes",
        "batch normalisation in the generator; no: left out, as where WGAN's authors "
        "test which training is stable",
        choices=("yes", "no"),
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


def define_generator(latent_dim=100, *, image_shape=(28, 28, 1), width=1.0, norm=True):
    """Return the generator, compiled: (n, latent_dim) -> (n, *image_shape) in [-1, 1].

    image_shape: height and width must be multiples of 4. width: factor on the maps.
    norm: whether it has batch normalisation. The paper starts at 4x4x1024 for 64x64
    pixels; here 7x7x128 for MNIST.
    """
    rows, columns, channels = image_shape[0] // 4, image_shape[1] // 4, image_shape[2]
    n_first, n_second = scaled(128, width), scaled(64, width)
    in_lat = keras.Input(shape=(latent_dim,))
    gen = layers.Dense(
        rows * columns * n_first, use_bias=False, kernel_initializer=start_weights()
    )(in_lat)
    gen = layers.Reshape((rows, columns, n_first))(gen)
    gen = layers.ReLU()(normalize()(gen) if norm else gen)
    # fractionally strided: 7x7 -> 14x14 -> 28x28
    gen = layers.Conv2DTranspose(
        n_second,
        (4, 4),
        strides=(2, 2),
        padding="same",
        use_bias=False,
        kernel_initializer=start_weights(),
    )(gen)
    gen = layers.ReLU()(normalize()(gen) if norm else gen)
    gen = layers.Conv2DTranspose(
        channels,
        (4, 4),
        strides=(2, 2),
        padding="same",
        kernel_initializer=start_weights(),
    )(gen)
    out_layer = layers.Activation("tanh", dtype="float32")(gen)
    model = keras.Model(in_lat, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def define_discriminator(image_shape=(28, 28, 1), *, width=1.0):
    """Return the discriminator, compiled: images -> (n, 1), the logit of 'real'.

    The sigmoid is in the loss, where it keeps its gradient however sure d is.
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
    dis = layers.Conv2D(
        scaled(128, width),
        (4, 4),
        strides=(2, 2),
        padding="same",
        use_bias=False,
        kernel_initializer=start_weights(),
    )(dis)
    dis = layers.LeakyReLU(negative_slope=0.2)(normalize()(dis))
    dis = layers.Flatten()(dis)
    out_layer = layers.Dense(1, kernel_initializer=start_weights(), dtype="float32")(
        dis
    )
    model = keras.Model(in_image, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def define_draw(dataset, latent_dim, n_batch):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as uint8 or float32 in [-1, 1]. draws: a training.batches.Draws.
    It returns n_batch real images and as many latent points, uniform in [-1, 1].
    """
    take_real = define_take(dataset[0])

    def draw(draws):
        X_real = take_real(draws.indices(n_batch, len(dataset[0])))
        return X_real, draws.uniform((n_batch, latent_dim), -1.0, 1.0)

    return draw


def define_train_step(g_model, d_model):
    """Return train_step(step, *batch), the two updates of a training step.

    batch: what define_draw's draw returns. It returns the figures that HISTORY names.
    Real and generated images are batches of their own, each with its own statistics.
    """
    binary_loss = keras.losses.BinaryCrossentropy(from_logits=True)

    def loss_of(X, target):
        logits = d_model(X, training=True)
        return binary_loss(tf.fill(tf.shape(logits), target), logits)

    d_model.optimizer.build(d_model.trainable_variables)
    g_model.optimizer.build(g_model.trainable_variables)

    def train_step(step, X_real, z):
        with tf.GradientTape() as g_tape:
            X_fake = g_model(z, training=True)

        # (1) Update d: minimise -log D(x) - log(1 - D(G(z)))
        with tf.GradientTape() as tape:
            d_loss_real, d_loss_fake = loss_of(X_real, 1.0), loss_of(X_fake, 0.0)
            d_loss = d_loss_real + d_loss_fake
        update(d_model, d_model.optimizer, tape, d_loss)

        # (2) Update g alone: minimise -log D(G(z))
        with g_tape:
            g_loss = loss_of(X_fake, 1.0)
        update(g_model, g_model.optimizer, g_tape, g_loss)

        return d_loss_real, d_loss_fake, g_loss

    return train_step


def define_sample(g_model, latent_dim):
    """Return sample(n, rng, labels) -> n generated images, uint8 (n, h, w, c).

    rng: a numpy Generator. labels are for generators that are asked for a class.
    """

    def sample(n, rng, labels):
        z = rng.uniform(-1, 1, (n, latent_dim)).astype(np.float32)
        return generate(g_model, z)

    return sample


def train(
    g_model,
    d_model,
    dataset,
    latent_dim=100,
    n_steps=5000,
    n_batch=128,
    *,
    run=None,
):
    """Train the two models on [X, y] and fill a run's folder; return its path.

    X: uint8 (n, h, w, c); y is not looked at. run:
    a GanRun; None for a new one in runs/. Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings())
    sample = define_sample(g_model, latent_dim)
    steps = run.compile(
        define_draw(dataset, latent_dim, n_batch),
        define_train_step(g_model, d_model),
        [g_model, d_model, g_model.optimizer, d_model.optimizer],
        columns=HISTORY,
        draws=2,
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

    def figures():
        losses = correlate(run.folder, None, ["d_loss_real", "d_loss_fake"])
        return measure_features(d_model, dataset, run.test) | losses

    return run.conclude(n_steps, models, figures)


def describe_step(figures):
    """Return the text of a step's figures."""
    d_loss_real, d_loss_fake, g_loss = figures
    return f"d[{d_loss_real:.3f},{d_loss_fake:.3f}], g[{g_loss:.3f}]"


def define_models(settings, image_shape, n_classes):
    """Return g_model and d_model for a run with these settings."""
    width, norm = settings.width, settings.generator_norm == "yes"
    return (
        define_generator(
            settings.latent_dim, image_shape=image_shape, width=width, norm=norm
        ),
        define_discriminator(image_shape, width=width),
    )


def start(settings):
    """Train as the settings say, or draw from a run."""
    start_run(NAME, settings, define_models, define_sample, train)


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
