"""GAN: generative adversarial network (Goodfellow et al. 2014).

    python tour/gan.py                          # 30,000 steps on MNIST, into runs/
    python tour/gan.py --minutes 3 --seed 1
    python tour/gan.py --data FOLDER            # images of your own
    python tour/gan.py --sample runs/FOLDER     # draw from a run

What the article says of it, and where it is here:
GAN-1 the generator makes an image of a point of a latent space: define_generator.
GAN-2 the discriminator tells real images from generated ones: define_discriminator.
GAN-3 both are trained at once; the generator makes the discriminator err more often:
    define_train_step.
GAN-4 both are multilayer perceptrons of fully connected layers.
GAN-5 the generator has ReLU and sigmoid activations.
GAN-6 the discriminator has maxout units: define_maxout.
GAN-7 dropout is used while the discriminator is trained.
GAN-8 data sets: MNIST; CIFAR-10, for whose kind of images define_cifar_generator is.
    The third, the Toronto Face Database, is given out on request only.

Sizes, start weights, rates and momentum are those of the authors' code for MNIST.
"""

import sys
from dataclasses import dataclass

import numpy as np
from common import GanRun, GanSettings, generate, scaled
from figures import measure_likelihood
from sampling import start_run

from gankit.backend import keras, layers, tf
from gankit.command import run_script
from gankit.training.batches import define_take, prepare_update
from gankit.training.settings import option

NAME = "gan"
HISTORY = ("d_loss_real", "d_loss_fake", "g_loss")
# steps of an epoch of all 60,000 images, by which the momentum rises; the authors
# trained on 50,000
EPOCH_STEPS = 600


@dataclass(kw_only=True)
class Settings(GanSettings):
    """Train a generative adversarial network on MNIST, or on images of your own."""

    steps: int = option(30_000, "training steps", least=1, resume="grow")
    batch: int = option(100, "images a batch")
    evaluate_every: int = option(3000, "steps between measurements", least=1)


def start_weights(limit):
    """Return the authors' start of kernels, uniform up to ±limit."""
    return keras.initializers.RandomUniform(-limit, limit)


def rate_and_momentum(step):
    """Return learning rate and momentum of an update, float32; step: updates before.

    The rate falls by a factor of 1.000004 each, from 0.1 to no less than 1e-6; the
    momentum rises from 0.5 to 0.7 in 250 epochs of 600 steps.
    """
    step = tf.cast(step, tf.float32)
    rate = 0.1 * tf.exp(-step * float(np.log(1.000004)))
    risen = tf.minimum(step / (250 * EPOCH_STEPS), 1.0)
    return tf.maximum(rate, 1e-6), 0.5 + 0.2 * risen


def define_optimizer():
    """Return gradient descent with momentum, both as rate_and_momentum says."""

    class ScheduledSGD(keras.optimizers.SGD):
        # Keras's own takes a momentum that never changes
        def update_step(self, gradient, variable, learning_rate):
            rate, momentum = rate_and_momentum(self.iterations)
            velocity = self.momentums[self._get_variable_index(variable)]
            velocity.assign(momentum * velocity - rate * tf.cast(gradient, rate.dtype))
            variable.assign_add(velocity)

    return ScheduledSGD(0.1, momentum=0.5)


def define_maxout(x, units, pieces):
    """Return maxout units of x: each the largest of `pieces` affine maps of x.

    x: (n, d) -> (n, units). Goodfellow et al. 2013.
    """
    x = layers.Dense(units * pieces, kernel_initializer=start_weights(0.005))(x)
    x = layers.Reshape((units, pieces))(x)
    return layers.GlobalMaxPooling1D(data_format="channels_first")(x)


def define_generator(latent_dim=100, *, image_shape=(28, 28, 1), width=1.0):
    """Return the generator, compiled: (n, latent_dim) -> (n, *image_shape) in [0, 1].

    width: factor on the units.
    """
    in_lat = keras.Input(shape=(latent_dim,))
    gen = in_lat
    for _ in range(2):
        gen = layers.Dense(
            scaled(1200, width),
            activation="relu",
            kernel_initializer=start_weights(0.05),
        )(gen)
    gen = layers.Dense(
        int(np.prod(image_shape)), kernel_initializer=start_weights(0.05), name="pixels"
    )(gen)
    gen = layers.Activation("sigmoid", dtype="float32", name="sigmoid")(gen)
    out_layer = layers.Reshape(image_shape)(gen)
    model = keras.Model(in_lat, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def define_cifar_generator(latent_dim=100, *, image_shape=(32, 32, 3), width=1.0):
    """Return the authors' generator for colour images, as define_generator does.

    Its hidden units are ReLU and, in the second layer, sigmoid; its output is linear.
    """
    in_lat = keras.Input(shape=(latent_dim,))
    gen = in_lat
    for activation in ("relu", "sigmoid"):
        gen = layers.Dense(
            scaled(8000, width),
            activation=activation,
            kernel_initializer=start_weights(0.05),
        )(gen)
    gen = layers.Dense(
        int(np.prod(image_shape)),
        kernel_initializer=start_weights(0.05),
        name="pixels",
        dtype="float32",
    )(gen)
    out_layer = layers.Reshape(image_shape)(gen)
    model = keras.Model(in_lat, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def define_discriminator(image_shape=(28, 28, 1), *, width=1.0, units=240, pieces=5):
    """Return the discriminator, compiled: images in [0, 1] -> (n, 1), logit of 'real'.

    The sigmoid is in the loss, where it keeps its gradient however sure d is.
    """
    in_image = keras.Input(shape=image_shape)
    dis = layers.Flatten()(in_image)
    dis = layers.Dropout(0.2)(dis)
    for _ in range(2):
        dis = define_maxout(dis, scaled(units, width), pieces)
        dis = layers.Dropout(0.5)(dis)
    out_layer = layers.Dense(
        1, kernel_initializer=start_weights(0.005), dtype="float32"
    )(dis)
    model = keras.Model(in_image, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def start_at_marginals(g_model, X):
    """Set the generator's last biases so that it begins with the mean image of X.

    X: uint8 (n, h, w, c).
    """
    mean = X.mean(axis=0).reshape(-1) / 255
    if "sigmoid" in [layer.name for layer in g_model.layers]:
        mean = np.clip(mean, 1e-7, 1 - 1e-7)
        mean = np.log(mean / (1 - mean))
    g_model.get_layer("pixels").bias.assign(mean)


def define_draw(dataset, latent_dim, n_batch):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as uint8 or float32 in [-1, 1]. draws: a training.batches.Draws.
    It returns n_batch real images in [0, 1] and as many latent points, uniform with
    variance 1.
    """
    take_real = define_take(dataset[0])
    edge = np.sqrt(3)

    def draw(draws):
        X_real = take_real(draws.indices(n_batch, len(dataset[0])))
        z = draws.uniform((n_batch, latent_dim), -edge, edge)
        return (X_real + 1) / 2, z

    return draw


def define_train_step(g_model, d_model):
    """Return train_step(step, *batch), the two updates of a training step.

    batch: what define_draw's draw returns. It returns the figures that HISTORY names.
    One generated batch serves both updates, and both gradients are taken before either
    network moves.
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

        # (1) Update d: minimise half of -log D(x) - log(1 - D(G(z)))
        with tf.GradientTape() as tape:
            d_loss_real, d_loss_fake = loss_of(X_real, 1.0), loss_of(X_fake, 0.0)
            d_loss = (d_loss_real + d_loss_fake) / 2
        update_d = prepare_update(d_model, d_model.optimizer, tape, d_loss)

        # (2) Update g alone: minimise -log D(G(z)); log(1 - D(G(z))) would hardly move
        # it while d is sure
        with g_tape:
            g_loss = loss_of(X_fake, 1.0)
        update_g = prepare_update(g_model, g_model.optimizer, g_tape, g_loss)

        update_d()
        update_g()
        return d_loss_real, d_loss_fake, g_loss

    return train_step


def define_sample(g_model, latent_dim):
    """Return sample(n, rng, labels) -> n generated images, uint8 (n, h, w, c).

    rng: a numpy Generator. labels are for generators that are asked for a class.
    """

    def sample(n, rng, labels):
        z = rng.uniform(-np.sqrt(3), np.sqrt(3), (n, latent_dim)).astype(np.float32)
        return generate(g_model, z, lowest=0.0)

    return sample


def train(
    g_model,
    d_model,
    dataset,
    latent_dim=100,
    n_steps=30_000,
    n_batch=100,
    *,
    run=None,
):
    """Train the two models on [X, y] and fill a run's folder; return its path.

    X: uint8 (n, h, w, c); y is not looked at. run: a GanRun; None for a
    new one in runs/. Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings())
    start_at_marginals(g_model, dataset[0])
    sample = define_sample(g_model, latent_dim)
    steps = run.compile(
        define_draw(dataset, latent_dim, n_batch),
        define_train_step(g_model, d_model),
        [g_model, d_model, g_model.optimizer, d_model.optimizer],
        columns=HISTORY,
        draws=2,
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
    return run.conclude(
        n_steps, models, lambda: measure_likelihood(sample, dataset, run)
    )


def describe_step(figures):
    """Return the text of a step's figures."""
    d_loss_real, d_loss_fake, g_loss = figures
    return f"d[{d_loss_real:.3f},{d_loss_fake:.3f}], g[{g_loss:.3f}]"


def define_models(settings, image_shape, n_classes):
    """Return g_model and d_model for a run with these settings."""
    colour, width = image_shape[2] > 1, settings.width
    define = define_cifar_generator if colour else define_generator
    return (
        define(settings.latent_dim, image_shape=image_shape, width=width),
        define_discriminator(image_shape, width=width, units=1600 if colour else 240),
    )


def start(settings):
    """Train as the settings say, or draw from a run."""
    start_run(NAME, settings, define_models, define_sample, train)


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
