"""ProGAN: progressive growing of GANs (Karras, Aila, Laine and Lehtinen 2017).

    python tour/progan.py                         # 9,600 steps on MNIST, into runs/
    python tour/progan.py --minutes 3 --seed 1
    python tour/progan.py --no-growth             # for comparison: all layers at once
    python tour/progan.py --stacked               # three digits as colours: 1,000 kinds
    python tour/progan.py --data FOLDER           # images of your own
    python tour/progan.py --sample runs/FOLDER    # draw from a run

What the article says of it, and where it is here (the losses are wgan_gp.py's):
PRO-1 the networks get deeper while they are trained: growth_at, define_train_step.
PRO-2 generator and critic grow together and mirror each other: define_generator,
    define_critics.
PRO-3 training starts with small images, 4x4, and layers for finer detail come later,
    which is quicker and more stable: list_sizes; --no-growth is the comparison.
PRO-4 new layers are faded in smoothly: fade, in both networks, and in real images.
PRO-5 all layers stay trainable: train_step updates the old ones with the new.

Layers, losses, rates and order of updates are those of the authors' code; sizes, maps
and the number of images are smaller.
"""

import functools
import sys
from dataclasses import dataclass

import numpy as np
from common import GanRun, GanSettings, generate, load_images, scaled
from figures import measure_levels
from sampling import start_run
from stacked import StackedRun, measure_combinations, stack_data

from gankit.backend import keras, layers, tf
from gankit.command import InputError, run_script
from gankit.data.arrays import pad_data
from gankit.training.batches import Phases, define_take, update
from gankit.training.settings import option

NAME = "progan"
HISTORY = ("c_loss_real", "c_loss_fake", "penalty", "g_loss", "growth")
# the true values: the critic learns to answer more for real images, g to get as much
REAL, FAKE = -1.0, 1.0
PENALTY, DRIFT = 10.0, 0.001
# what the average of g's weights keeps of itself in a step
AVERAGE = 0.999
# images that are compared by the critic's last block
GROUP = 4
# maps at the largest size; twice as many at each smaller one, up to the most
N_MAPS, MOST_MAPS = 16, 64


def check_groups(n_batch):
    """Raise InputError for a batch that can't be divided into groups."""
    if n_batch < GROUP or n_batch % GROUP:
        raise InputError(f"--batch {n_batch}: must be a multiple of {GROUP}")


@dataclass(kw_only=True)
class Settings(GanSettings):
    """Train a growing GAN on MNIST, or on images of your own."""

    # the growth follows from them
    steps: int = option(9600, "training steps", least=1)
    batch: int = option(32, "images a batch, a multiple of 4", check=check_groups)
    latent_dim: int = option(64, "size of a latent point", least=1)
    evaluate_every: int = option(
        800, "steps from a row of measures to the next", least=1
    )
    no_growth: bool = option(False, "train all layers on large images from the start")
    stacked: bool = option(
        False, "make colours of three images each: how many combinations are made?"
    )


def load_padded(settings):
    """Return the Data that the settings name, its images of sides that halve well.

    28x28 becomes 32x32, which is 4x4 doubled three times.
    """
    data = load_images(settings)
    if settings.stacked:
        data = stack_data(data, settings.data)
    doublings = round(np.log2(min(data.image_shape[:2]) / 4))
    return pad_data(data, 2**doublings)


def list_sizes(image_shape):
    """Return the sizes that images grow through, (height, width) each, ascending.

    Each is half the next one; the smallest has 3 to 5 pixels on its shorter side, or
    more where a side can't be halved.
    """
    sizes = [tuple(image_shape[:2])]
    while min(sizes[0]) >= 6 and not any(side % 2 for side in sizes[0]):
        sizes.insert(0, tuple(side // 2 for side in sizes[0]))
    return sizes


def count_maps(n_sizes, width=1.0):
    """Return how many maps the networks have at each size, from the smallest on."""
    maps = [min(MOST_MAPS, N_MAPS << i) for i in reversed(range(n_sizes))]
    return [scaled(n, width) for n in maps]


@functools.cache
def equalized(kind):
    """Return a class of layers with an equalised rate; kind: Keras's Conv2D or Dense.

    Weights start from N(0, 1) and are multiplied by gain / sqrt(inputs) at each use, He
    et al.'s (2015) constant. So Adam, whose steps have the same size for all weights,
    changes each layer's outputs at the same rate.
    """

    class Equalized(kind):
        def __init__(self, *sizes, gain=2**0.5, **options):
            start = keras.initializers.RandomNormal(0.0, 1.0)
            super().__init__(*sizes, kernel_initializer=start, **options)
            self.gain = gain

        @property
        def kernel(self):
            kernel = super().kernel
            n_inputs = int(np.prod(kernel.shape[:-1]))
            return kernel * (self.gain / n_inputs**0.5)

    return Equalized


@functools.cache
def fading():
    """Return the class of layers that fade from one input to another.

    level: the number of the size that they bring in. Their weight alpha, which no
    gradient moves, is the share of the second input.
    """

    class Fade(layers.Layer):
        def __init__(self, level, **options):
            super().__init__(**options)
            self.level = level

        def build(self, shapes):
            self.alpha = self.add_weight(
                shape=(), initializer="zeros", trainable=False, name="alpha"
            )

        def call(self, inputs):
            return fade(*inputs, tf.cast(self.alpha, inputs[0].dtype))

    return Fade


def fade(before, after, alpha):
    """Return (1 - alpha) before + alpha after: exactly one of them at 0 and at 1."""
    return (1 - alpha) * before + alpha * after


def pixel_norm(x):
    """Return x, (..., c), with a mean square of 1 over the features of each pixel."""
    wide = tf.cast(x, tf.float32)
    squares = tf.reduce_mean(wide**2, axis=-1, keepdims=True)
    return tf.cast(wide * tf.math.rsqrt(squares + 1e-8), x.dtype)


def minibatch_stddev(x):
    """Return maps x, (n, h, w, c), with a further one: how much images of a group vary.

    n: a multiple of GROUP. The map is the standard deviation over the GROUP images, the
    mean of it over pixels and maps. A generator that makes one image over and over is
    found out by it.
    """
    n, height, width, channels = tf.unstack(tf.shape(x))
    wide = tf.cast(tf.reshape(x, (GROUP, -1, height, width, channels)), tf.float32)
    variance = tf.math.reduce_variance(wide, axis=0)
    deviation = tf.reduce_mean(tf.sqrt(variance + 1e-8), axis=(1, 2, 3))
    column = tf.tile(deviation, [GROUP])[:, tf.newaxis, tf.newaxis, tf.newaxis]
    maps = tf.broadcast_to(tf.cast(column, x.dtype), (n, height, width, 1))
    return tf.concat([x, maps], axis=-1)


def shrink(images, doublings=1):
    """Return images (n, h, w, c) halved so many times: means of pixels."""
    factor = 2**doublings
    return tf.nn.avg_pool2d(images, factor, factor, "VALID")


def define_optimizer():
    return keras.optimizers.Adam(1e-3, beta_1=0.0, beta_2=0.99, epsilon=1e-8)


def define_generator(latent_dim=64, *, image_shape=(32, 32, 1), width=1.0):
    """Return the full-grown generator, compiled: (n, latent_dim) -> (n, *image_shape).

    Its output is linear; what is outside [-1, 1] is cut off in files. There is a Fade
    at each size but the smallest, and while their alpha is 0, images are smaller ones,
    enlarged. width: factor on the maps. The paper has 512 maps from 4x4 to 32x32.
    """
    sizes = list_sizes(image_shape)
    n_maps = count_maps(len(sizes), width)

    def activate(x):
        x = layers.LeakyReLU(negative_slope=0.2)(x)
        return layers.Lambda(pixel_norm)(x)

    def convolve(x, n):
        return activate(equalized(layers.Conv2D)(n, 3, padding="same")(x))

    def to_image(x, **options):
        convolution = equalized(layers.Conv2D)
        return convolution(image_shape[2], 1, gain=1.0, dtype="float32", **options)(x)

    in_lat = keras.Input(shape=(latent_dim,))
    gen = layers.Lambda(pixel_norm)(in_lat)
    n_units = int(np.prod(sizes[0])) * n_maps[0]
    gen = equalized(layers.Dense)(n_units, gain=2**0.5 / 4)(gen)
    gen = activate(layers.Reshape((*sizes[0], n_maps[0]))(gen))
    gen = convolve(gen, n_maps[0])
    out_layer = to_image(gen, name="image_0")
    for level, n in enumerate(n_maps[1:], 1):
        gen = convolve(layers.UpSampling2D()(gen), n)
        gen = convolve(gen, n)
        before = layers.UpSampling2D(dtype="float32")(out_layer)
        after = to_image(gen)
        blend = fading()(level, dtype="float32", name=f"image_{level}")
        out_layer = blend([before, after])
    model = keras.Model(in_lat, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def grown(g_model, level):
    """Return the generator as far as a level's size: (n, latent_dim) -> images."""
    return keras.Model(g_model.input, g_model.get_layer(f"image_{level}").output)


def define_critics(image_shape=(32, 32, 1), *, width=1.0):
    """Return the critics of all sizes, which share their layers, a list.

    Each: images of its size -> (n, 1), any number, more for real ones. The last one is
    full-grown and compiled. They mirror the generator, without pixel norm.
    """
    sizes = list_sizes(image_shape)
    n_maps = count_maps(len(sizes), width)

    def activate(kind, *sizes, **options):
        layer = equalized(kind)(*sizes, **options)
        return [layer, layers.LeakyReLU(negative_slope=0.2)]

    from_image = [
        keras.Sequential(activate(layers.Conv2D, n, 1), name=f"from_image_{level}")
        for level, n in enumerate(n_maps)
    ]
    blocks, blends = [None], [None]
    for level, n in enumerate(n_maps[1:], 1):
        block = activate(layers.Conv2D, n, 3, padding="same")
        block += activate(layers.Conv2D, n_maps[level - 1], 3, padding="same")
        block.append(layers.AveragePooling2D(2))
        blocks.append(keras.Sequential(block, name=f"block_{level}"))
        blends.append(fading()(level, name=f"fade_{level}"))
    last = [layers.Lambda(minibatch_stddev)]
    last += activate(layers.Conv2D, n_maps[0], 3, padding="same")
    last += [layers.Flatten(), *activate(layers.Dense, n_maps[0])]
    last.append(equalized(layers.Dense)(1, gain=1.0, dtype="float32"))
    last = keras.Sequential(last, name="block_0")

    critics = []
    for level, size in enumerate(sizes):
        image = in_image = keras.Input(shape=(*size, image_shape[2]))
        dis = from_image[level](image)
        for below in reversed(range(level)):
            dis = blocks[below + 1](dis)
            image = layers.AveragePooling2D(2, dtype="float32")(image)
            dis = blends[below + 1]([from_image[below](image), dis])
        critics.append(keras.Model(in_image, last(dis)))
    critics[-1].compile(optimizer=define_optimizer())
    return critics


def growth_at(done, n_sizes):
    """Return how far the networks have grown, float32 in [0, n_sizes - 1].

    done: float32, the share of the steps that are made. Whole numbers are levels; the
    rest is the alpha of the next one's Fade. The smallest size is trained for a part of
    2 n_sizes, each other one fades in for a part and is trained for a part, and the
    largest for another one.
    """
    parts = 2 * n_sizes * done
    fades = [tf.clip_by_value(parts - (2 * i - 1), 0, 1) for i in range(1, n_sizes)]
    return tf.add_n([tf.zeros(()), *fades])


def list_starts(n_steps, n_sizes):
    """Return the first step of each level, a list of integers: growth_at's."""
    starts = [-(-n_steps * (2 * i - 1) // (2 * n_sizes)) for i in range(1, n_sizes)]
    return [0, *starts]


def set_growth(models, growth):
    """Set the alpha of all Fade layers in models, whatever it was."""
    for model in models:
        for layer in model.layers:
            if isinstance(layer, fading()):
                layer.alpha.assign(tf.clip_by_value(growth - (layer.level - 1), 0, 1))


def reset_optimizer(optimizer):
    """Set an Adam back to its start: no step made, no moments."""
    # in float16 it is inside another
    adam = getattr(optimizer, "inner_optimizer", optimizer)
    for variable in adam.variables:
        if variable is not adam.learning_rate:
            variable.assign(tf.zeros_like(variable))


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
    It returns indices of real images, int32 (n_batch,), and latent points, standard
    normal (n_batch, latent_dim), for the critic's update, and points for g's; and how
    far from real images those of the penalty are, uniform in [0, 1].
    """

    def draw(draws):
        return (
            draws.indices(n_batch, len(dataset[0])),
            draws.points(n_batch, latent_dim),
            draws.points(n_batch, latent_dim),
            draws.uniform((n_batch, 1, 1, 1)),
        )

    return draw


def define_train_step(average, g_model, critics, take_real, level, grown_to, growth_of):
    """Return train_step(step, *batch), both networks' updates at the size of a level.

    batch: what define_draw's draw returns. take_real: indices -> real images at full
    size. grown_to: [variable], the level of the step before: at another one the
    optimizers start anew. growth_of: step -> growth_at's answer. It returns the figures
    that HISTORY names. average: the generator whose weights are the average of
    g_model's.
    """
    critic, generator = critics[level], grown(g_model, level)
    doublings = len(critics) - 1 - level
    c_optimizer, g_optimizer = critics[-1].optimizer, g_model.optimizer
    c_optimizer.build(critics[-1].trainable_variables)
    g_optimizer.build(g_model.trainable_variables)
    averaged = list(
        zip(
            grown(average, level).trainable_variables,
            generator.trainable_variables,
            strict=True,
        )
    )

    def loss_of(X, target):
        answers = critic(X, training=True)
        return wasserstein_loss(tf.fill(tf.shape(answers), target), answers), answers

    def train_step(step, indices, z, z_g, alpha):
        growth = growth_of(step)
        set_growth([average, g_model, critics[-1]], growth)
        if grown_to[0] != level:
            reset_optimizer(c_optimizer)
            reset_optimizer(g_optimizer)
            grown_to[0].assign(level)

        # real images are as coarse as generated ones, also while layers fade in
        X_real = shrink(take_real(indices), doublings)
        if level:
            coarse = tf.repeat(tf.repeat(shrink(X_real), 2, axis=1), 2, axis=2)
            X_real = fade(coarse, X_real, tf.minimum(growth - (level - 1), 1))
        X_fake = generator(z, training=True)

        # (1) Update the critic: maximise C(x) - C(G(z)), penalised
        with tf.GradientTape() as tape:
            c_loss_real, answers = loss_of(X_real, REAL)
            c_loss_fake, _ = loss_of(X_fake, FAKE)
            penalty = gradient_penalty(critic, X_real, X_fake, alpha)
            c_loss = c_loss_real + c_loss_fake + PENALTY * penalty
            # its answers could drift away together
            c_loss += DRIFT * tf.reduce_mean(answers**2)
        update(critic, c_optimizer, tape, c_loss)

        # (2) Update g alone: maximise C(G(z))
        with tf.GradientTape() as g_tape:
            g_loss, _ = loss_of(generator(z_g, training=True), REAL)
        update(generator, g_optimizer, g_tape, g_loss)

        for mean, weight in averaged:
            mean.assign(AVERAGE * mean + (1 - AVERAGE) * weight)
        return c_loss_real, c_loss_fake, penalty, g_loss, growth

    return train_step


def define_sample(g_model, latent_dim):
    """Return sample(n, rng, labels) -> n generated images, uint8 (n, h, w, c).

    rng: a numpy Generator. labels are for generators that are asked for a class.
    """

    def sample(n, rng, labels):
        z = rng.standard_normal((n, latent_dim), dtype=np.float32)
        return generate(g_model, z)

    return sample


def define_plain(g_model):
    """Return a full-grown generator of Keras's own layers, which answers the same.

    A file of it is read without this script.
    """
    (*_, last) = (layer for layer in g_model.layers if isinstance(layer, fading()))
    model = keras.Model(g_model.input, last.input[1])

    def plain(layer):
        if isinstance(layer, layers.Lambda):  # pixel_norm
            length = layer.output.shape[-1] ** 0.5
            return keras.Sequential(
                [
                    layers.UnitNormalization(dtype="float32"),
                    layers.Rescaling(length, dtype="float32"),
                ]
            )
        kinds = layers.Conv2D, layers.Dense, type(layer)
        kind = next(kind for kind in kinds if isinstance(layer, kind))
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(
        model,
        clone_function=plain,
        # without the mask that a Lambda is called with
        call_function=lambda layer, x, **others: layer(x),
    )
    for layer, other in zip(model.layers, copy.layers, strict=True):
        if layer.weights:
            weights = layer.kernel, layer.bias
            other.set_weights([keras.ops.convert_to_numpy(w) for w in weights])
    return copy


def train(
    average,
    g_model,
    critics,
    dataset,
    latent_dim=64,
    n_steps=9600,
    n_batch=32,
    *,
    growing=True,
    run=None,
):
    """Train the models on [X, y] and fill a run's folder; return its path.

    X: uint8 (n, h, w, c); y is not looked at. growing: False for all layers from the
    start. run: a GanRun; None for a new one in runs/. Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings())
    sample, take_real = define_sample(average, latent_dim), define_take(dataset[0])
    n_sizes, grown_to = len(critics), [tf.Variable(-1)]

    def growth_of(step):
        if not growing:
            return tf.constant(float(n_sizes - 1))
        return growth_at(run.done(step), n_sizes)

    def compile_level(level):
        return run.compile(
            define_draw(dataset, latent_dim, n_batch),
            define_train_step(
                average, g_model, critics, take_real, level, grown_to, growth_of
            ),
            [
                *(average, g_model, critics[-1]),
                *(g_model.optimizer, critics[-1].optimizer, grown_to),
            ],
            columns=HISTORY,
            draws=4,
        )

    if growing:
        steps = Phases(
            [compile_level(level) for level in range(n_sizes)],
            lambda: list_starts(run.n_steps, n_sizes),
        )
    else:
        steps = compile_level(n_sizes - 1)
    n_steps = run.fit(n_steps, steps, sample, phased=growing)
    run.make(
        steps,
        dataset,
        lambda step: run.summarize(step, sample),
        describe=describe_step,
        n_steps=n_steps,
        n_batch=n_batch,
    )
    models = {"g": define_plain(average), "critic": critics[-1]}

    def figures():
        levels = measure_levels(sample, dataset, run)
        return levels | measure_combinations(sample, dataset, run)

    return run.conclude(n_steps, models, figures)


def describe_step(figures):
    """Return the text of a step's figures."""
    c_loss_real, c_loss_fake, penalty, g_loss, growth = figures
    return (
        f"c[{c_loss_real:.4f},{c_loss_fake:.4f}], penalty[{penalty:.4f}], "
        f"g[{g_loss:.4f}], growth[{growth:.2f}]"
    )


def define_models(settings, image_shape, n_classes):
    """Return the average of g's weights, g_model and critics for these settings."""
    width, latent_dim = settings.width, settings.latent_dim
    average, g_model = (
        define_generator(latent_dim, image_shape=image_shape, width=width)
        for _ in range(2)
    )
    average.set_weights(g_model.get_weights())
    return average, g_model, define_critics(image_shape, width=width)


def start(settings):
    """Train as the settings say, or draw from a run."""
    start_run(
        NAME,
        settings,
        define_models,
        define_sample,
        functools.partial(train, growing=not settings.no_growth),
        load=load_padded,
        run_class=StackedRun if settings.stacked else GanRun,
    )


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
