"""WGAN-GP: Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017).

    python tour/wgan_gp.py                        # 5,000 steps on MNIST, into runs/
    python tour/wgan_gp.py --minutes 3 --seed 1
    python tour/wgan_gp.py --data FOLDER          # images of your own
    python tour/wgan_gp.py --sample runs/FOLDER   # draw from a run

The article's WGAN, wgan.py, clips the critic's weights so that its answer changes
slowly from image to image. Here the change itself is held near 1: gradient_penalty.
The optimizer is that of the paper's algorithm 1. The critic has no batch normalisation,
since the penalty is one image's, and nothing in its place, as in the authors' script
for MNIST; the paper's other networks have layer normalisation there.
"""

import sys
from dataclasses import dataclass

import numpy as np
from common import GanRun, GanSettings, generate, scaled
from figures import correlate, measure_estimate
from sampling import start_run

from gankit.backend import keras, layers, tf
from gankit.command import run_script
from gankit.training.batches import define_take, update
from gankit.training.settings import option

NAME = "wgan_gp"
HISTORY = ("c_loss_real", "c_loss_fake", "penalty", "g_loss", "estimate")
# the true values: the critic learns to answer more for real images, g to get as much
REAL, FAKE = -1.0, 1.0
N_CRITIC, PENALTY = 5, 10.0
HELD_OUT = 2000  # images that the estimate is measured on, at the most


@dataclass(kw_only=True)
class Settings(GanSettings):
    """Train a Wasserstein GAN on MNIST, or on images of your own."""

    batch: int = option(64, "images a batch")
    evaluate_every: int = option(
        250, "steps from a row of measures to the next", least=1
    )
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
    return keras.optimizers.Adam(1e-4, beta_1=0.0, beta_2=0.9)


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


def define_critic(image_shape=(28, 28, 1), *, width=1.0):
    """Return the critic, compiled: images -> (n, 1), any number, more for real ones."""
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
        kernel_initializer=start_weights(),
    )(dis)
    dis = layers.LeakyReLU(negative_slope=0.2)(dis)
    dis = layers.Flatten()(dis)
    out_layer = layers.Dense(1, kernel_initializer=start_weights(), dtype="float32")(
        dis
    )
    model = keras.Model(in_image, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def wasserstein_loss(y_true, y_pred):
    """Return the mean of the products of true values, REAL or FAKE, and answers."""
    return tf.reduce_mean(y_true * y_pred)


def gradient_penalty(critic, X_real, X_fake, alpha):
    """Return the mean square by which the critic's slope differs from 1.

    The slope is the norm of the gradient at an image between a real one and a generated
    one: alpha, (n, 1, 1, 1) in [0, 1], is how far from the real one.
    """
    X = X_real + alpha * (X_fake - X_real)
    with tf.GradientTape() as tape:
        tape.watch(X)
        answers = critic(X, training=True)
    gradients = tf.cast(tape.gradient(answers, X), tf.float32)
    # the root's own slope is infinite at 0
    slopes = tf.sqrt(tf.reduce_sum(gradients**2, axis=(1, 2, 3)) + 1e-12)
    return tf.reduce_mean((slopes - 1) ** 2)


def define_draw(dataset, latent_dim, n_batch):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as uint8 or float32 in [-1, 1]. draws: a training.batches.Draws.
    It returns indices of real images, int32 (n, n_batch), and latent points, standard
    normal (n, n_batch, latent_dim), for n updates of the critic, and points for g's;
    and how far from real images those of the penalty are, uniform in [0, 1].
    """

    def draw(draws):
        n = N_CRITIC
        indices = draws.indices(n * n_batch, len(dataset[0]))
        z = draws.points(n * n_batch, latent_dim)
        return (
            tf.reshape(indices, (n, n_batch)),
            tf.reshape(z, (n, n_batch, latent_dim)),
            draws.points(n_batch, latent_dim),
            draws.uniform((n, n_batch, 1, 1, 1)),
        )

    return draw


def define_train_step(g_model, critic, dataset):
    """Return train_step(step, *batch), the critic's updates and g's of a training step.

    batch: what define_draw's draw returns. It returns the figures that HISTORY names,
    those of the critic from its last update, with its estimate of the distance.
    Real and generated images are batches of their own, each with its own statistics.
    """
    take_real = define_take(dataset[0])

    def loss_of(X, target):
        answers = critic(X, training=True)
        return wasserstein_loss(tf.fill(tf.shape(answers), target), answers)

    critic.optimizer.build(critic.trainable_variables)
    g_model.optimizer.build(g_model.trainable_variables)

    def train_step(step, indices, z, z_g, alpha):
        c_loss_real = c_loss_fake = penalty = tf.zeros(())

        # (1) Update the critic several times: maximise C(x) - C(G(z)), penalised
        for i in tf.range(tf.shape(z)[0]):
            X_real, X_fake = take_real(indices[i]), g_model(z[i], training=True)
            with tf.GradientTape() as tape:
                c_loss_real, c_loss_fake = loss_of(X_real, REAL), loss_of(X_fake, FAKE)
                penalty = gradient_penalty(critic, X_real, X_fake, alpha[i])
                c_loss = c_loss_real + c_loss_fake + PENALTY * penalty
            update(critic, critic.optimizer, tape, c_loss)

        # (2) Update g alone: maximise C(G(z))
        with tf.GradientTape() as g_tape:
            g_loss = loss_of(g_model(z_g, training=True), REAL)
        update(g_model, g_model.optimizer, g_tape, g_loss)

        estimate = -(c_loss_real + c_loss_fake)
        return c_loss_real, c_loss_fake, penalty, g_loss, estimate

    return train_step


def define_sample(g_model, latent_dim):
    """Return sample(n, rng, labels) -> n generated images, uint8 (n, h, w, c).

    rng: a numpy Generator. labels are for generators that are asked for a class.
    """

    def sample(n, rng, labels):
        z = rng.standard_normal((n, latent_dim), dtype=np.float32)
        return generate(g_model, z)

    return sample


def train(
    g_model,
    critic,
    dataset,
    latent_dim=100,
    n_steps=5000,
    n_batch=64,
    *,
    run=None,
):
    """Train the two models on [X, y] and fill a run's folder; return its path.

    X: uint8 (n, h, w, c); y is not looked at. run:
    a GanRun; None for a new one in runs/. Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings(), more=("estimate",))
    sample = define_sample(g_model, latent_dim)
    steps = run.compile(
        define_draw(dataset, latent_dim, n_batch),
        define_train_step(g_model, critic, dataset),
        [g_model, critic, g_model.optimizer, critic.optimizer],
        columns=HISTORY,
        draws=4,
    )

    def summarize(step):
        real = run.real[:: -(-len(run.real) // HELD_OUT)]
        generated = sample(len(real), run.rng_of(step), None)
        estimate = measure_estimate(critic, real, generated, n_batch)
        return run.summarize(step, sample, (estimate,))

    n_steps = run.fit(n_steps, steps, sample)
    run.make(
        steps,
        dataset,
        summarize,
        describe=describe_step,
        n_steps=n_steps,
        n_batch=n_batch,
    )
    models = {"g": g_model, "critic": critic}
    return run.conclude(
        n_steps, models, lambda: correlate(run.folder, "estimate", ["estimate"])
    )


def describe_step(figures):
    """Return the text of a step's figures."""
    c_loss_real, c_loss_fake, penalty, g_loss, estimate = figures
    return (
        f"c[{c_loss_real:.4f},{c_loss_fake:.4f}], penalty[{penalty:.4f}], "
        f"g[{g_loss:.4f}], estimate[{estimate:.4f}]"
    )


def define_models(settings, image_shape, n_classes):
    """Return g_model and critic for a run with these settings."""
    width, norm = settings.width, settings.generator_norm == "yes"
    return (
        define_generator(
            settings.latent_dim, image_shape=image_shape, width=width, norm=norm
        ),
        define_critic(image_shape, width=width),
    )


def start(settings):
    """Train as the settings say, or draw from a run."""
    start_run(NAME, settings, define_models, define_sample, train, more=("estimate",))


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
