"""WGAN: Wasserstein GAN (Arjovsky, Chintala and Bottou 2017).

    python tour/wgan.py                           # 5,000 steps on MNIST, into runs/
    python tour/wgan.py --minutes 3 --seed 1
    python tour/wgan.py --data FOLDER             # images of your own
    python tour/wgan.py --sample runs/FOLDER      # draw from a run

What the article says of it, and where it is here (the networks are dcgan.py's):
WGAN-1 the critic is updated more often than the generator: count_critic_updates.
WGAN-2 the critic's answer is a real number, of a linear layer: define_critic.
WGAN-3 both learn from the Wasserstein loss, the mean of the product of true values, 1
    and -1, and predicted ones: wasserstein_loss.
WGAN-4 its gradient is the same for any answer, so it does not saturate.
WGAN-5 weights are clipped to [-0.01, 0.01] after each update: clip_weights.
"""

import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
from common import GanRun, GanSettings, generate, scaled
from figures import correlate, measure_estimate
from sampling import start_run

from gankit.backend import keras, layers, tf
from gankit.command import run_script
from gankit.training.batches import define_take, update
from gankit.training.settings import option

NAME = "wgan"
HISTORY = ("c_loss_real", "c_loss_fake", "g_loss", "estimate")
# the true values: the critic learns to answer more for real images, g to get as much
REAL, FAKE = -1.0, 1.0
N_CRITIC, N_START, LIMIT = 5, 25, 0.01
HELD_OUT = 2000  # images that the estimate is measured on, at the most


@dataclass(kw_only=True)
class Settings(GanSettings):
    """Train a Wasserstein GAN on MNIST, or on images of your own."""

    batch: int = option(64, "images a batch")
    evaluate_every: int = option(
        250, "steps from a row of measures to the next", least=1
    )
    clip_norm: str = option(
        "yes",
        "clip batch normalisation's weights, too, as in the authors' code",
        choices=("yes", "no"),
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
    # as Torch has it: 1e-8 beside the root, where Keras adds epsilon inside
    return keras.optimizers.RMSprop(5e-5, rho=0.99, epsilon=1e-16)


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


def count_critic_updates(step):
    """Return how often the critic is updated in the step after `step` others.

    The estimate, and with it g's gradient, is good only where the critic is, so the
    authors train it longer at the start and now and then (their code; not the paper).
    """
    return 100 if step < N_START or step % 500 == 0 else N_CRITIC


def wasserstein_loss(y_true, y_pred):
    """Return the mean of the products of true values, REAL or FAKE, and answers."""
    return tf.reduce_mean(y_true * y_pred)


def clip_weights(critic, limit, clip_norm=True):
    """Clip the critic's trainable weights to [-limit, limit].

    Moving statistics are no weights. clip_norm: False leaves out gamma and beta.
    """
    for layer in critic.layers:
        if clip_norm or not isinstance(layer, layers.BatchNormalization):
            for weight in layer.trainable_variables:
                weight.assign(tf.clip_by_value(weight, -limit, limit))


def define_draw(dataset, latent_dim, n_batch):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as uint8 or float32 in [-1, 1]. draws: a training.batches.Draws.
    It returns indices of real images, int32 (n, n_batch), and latent points, standard
    normal (n, n_batch, latent_dim), for n updates of the critic, and points for g's.
    """

    def draw(draws):
        n = count_critic_updates(draws.step)
        indices = draws.indices(n * n_batch, len(dataset[0]))
        z = draws.points(n * n_batch, latent_dim)
        return (
            tf.reshape(indices, (n, n_batch)),
            tf.reshape(z, (n, n_batch, latent_dim)),
            draws.points(n_batch, latent_dim),
        )

    return draw


def define_train_step(g_model, critic, dataset, clip_norm=True):
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

    def train_step(step, indices, z, z_g):
        c_loss_real = c_loss_fake = tf.zeros(())

        # (1) Update the critic several times: maximise C(x) - C(G(z))
        for i in tf.range(tf.shape(z)[0]):
            X_real, X_fake = take_real(indices[i]), g_model(z[i], training=True)
            with tf.GradientTape() as tape:
                c_loss_real, c_loss_fake = loss_of(X_real, REAL), loss_of(X_fake, FAKE)
                c_loss = c_loss_real + c_loss_fake
            update(critic, critic.optimizer, tape, c_loss)
            clip_weights(critic, LIMIT, clip_norm)

        # (2) Update g alone: maximise C(G(z))
        with tf.GradientTape() as g_tape:
            g_loss = loss_of(g_model(z_g, training=True), REAL)
        update(g_model, g_model.optimizer, g_tape, g_loss)

        estimate = -(c_loss_real + c_loss_fake)
        return c_loss_real, c_loss_fake, g_loss, estimate

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
    clip_norm=True,
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
        define_train_step(g_model, critic, dataset, clip_norm),
        [g_model, critic, g_model.optimizer, critic.optimizer],
        columns=HISTORY,
        draws=3,
    )

    def summarize(step):
        real = run.real[:: -(-len(run.real) // HELD_OUT)]
        generated = sample(len(real), run.rng_of(step), None)
        estimate = measure_estimate(critic, real, generated, n_batch)
        return run.summarize(step, sample, (estimate,))

    n_steps = run.fit(
        n_steps,
        steps,
        sample,
        first=N_START,
        work=lambda step: (count_critic_updates(step) + 1) / (N_CRITIC + 1),
    )
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
    c_loss_real, c_loss_fake, g_loss, estimate = figures
    return (
        f"c[{c_loss_real:.4f},{c_loss_fake:.4f}], g[{g_loss:.4f}], "
        f"estimate[{estimate:.4f}]"
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
    start_run(
        NAME,
        settings,
        define_models,
        define_sample,
        partial(train, clip_norm=settings.clip_norm == "yes"),
        more=("estimate",),
    )


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
