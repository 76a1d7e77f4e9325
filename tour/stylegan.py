"""StyleGAN: a generator that is controlled by styles (Karras, Laine and Aila 2018).

    python tour/stylegan.py                       # 9,600 steps on MNIST, into runs/
    python tour/stylegan.py --minutes 3 --seed 1
    python tour/stylegan.py --data FOLDER         # images of your own
    python tour/stylegan.py --sample runs/FOLDER  # draw from a run
    python tour/stylegan.py --sample runs/FOLDER --psi 0.7 --mix 1 2 --walk

What the article says of it, and where it is here (growth and critic are progan.py's):
STYLE-1 the latent code enters the generator at several points, to control features:
    define_generator, where each convolution has a style; mix.
STYLE-2 the generator starts from a learned constant, not from the code: starting.
STYLE-3 the code first passes a deep network of its own, Z -> W: define_generator.
STYLE-4 each convolution's maps are adapted to a style, which controls features of its
    scale: adapt.
STYLE-5 noise is added beside the styles: define_generator's add_noise.

Layers, losses and rates of the generator are those of the authors' code; sizes, maps
and the number of images are smaller. The critic is progan.py's: theirs blurs, too.
"""

import functools
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from common import GanRun, GanSettings, generate, load_images, scaled
from figures import measure_mixing, measure_paths, measure_styles
from sampling import start_run

from gankit.backend import keras, layers, tf
from gankit.command import InputError, run_script
from gankit.data.arrays import pad_data
from gankit.models.classify import batch_size
from gankit.training.batches import Phases, define_take, update
from gankit.training.settings import option

NAME = "stylegan"
HISTORY = ("c_loss_real", "c_loss_fake", "penalty", "g_loss", "growth")
PENALTY = 10.0
# layers of the mapping network, and how much slower they learn
N_MAPPING, MAPPING_RATE = 4, 0.01
# share of the batches that two styles are mixed in
MIXED = 0.9
# what the average of w keeps of itself in a step
W_AVERAGE = 0.995
# the first size that is trained, and how many are coarse
FIRST, N_COARSE = 1, 2
# points that a walk goes through, and frames from each to the next
N_POINTS, N_FRAMES = 6, 16
# images in which the average of g's weights forgets a half of what it was
HALF_LIFE = 10_000
# images that are compared by the critic's last block
GROUP = 4
# maps at the largest size; twice as many at each smaller one, up to the most
N_MAPS, MOST_MAPS = 16, 64


def check_groups(n_batch):
    """Raise InputError for a batch that can't be divided into groups."""
    if n_batch < GROUP or n_batch % GROUP:
        raise InputError(f"--batch {n_batch}: must be a multiple of {GROUP}")


def check_psi(psi):
    """Raise InputError for a --psi that is no share, or enlarges too much."""
    if not 0 <= psi <= 2:
        raise InputError(f"--psi {psi:g}: must be from 0 to 2")


def check_mix(seeds):
    """Raise InputError for a --mix that is not two seeds."""
    fit = [seed.isdecimal() and int(seed) < 2**31 for seed in seeds]
    if len(seeds) != 2 or not all(fit):
        raise InputError(
            f"--mix {' '.join(seeds)}: give two seeds from 0 to 2147483647, as 1 2"
        )


@dataclass(kw_only=True)
class Settings(GanSettings):
    """Train a GAN with styles on MNIST, or on images of your own."""

    asked: ClassVar = (*GanSettings.asked, "psi", "mix", "walk")

    # the growth follows from them
    steps: int = option(9600, "training steps", least=1)
    batch: int = option(32, "images a batch, a multiple of 4", check=check_groups)
    latent_dim: int = option(64, "size of a latent point", least=1)
    evaluate_every: int = option(
        800, "steps from a row of measures to the next", least=1
    )
    no_growth: bool = option(False, "train all layers on large images from the start")
    penalty: float = option(PENALTY, "weight of R1, gamma", least=0)
    psi: float = option(
        1.0,
        "how far styles are from the mean style, for --sample: 1 as trained, 0 all the "
        "same; the authors show 0.7",
        check=check_psi,
        saved=False,
    )
    mix: list[str] | None = option(
        None,
        "for --sample: two seeds A B; draw a table of images with the coarse styles of "
        "A's and the fine ones of B's",
        check=check_mix,
        metavar="SEED",
        saved=False,
    )
    walk: bool = option(
        False, "for --sample: draw an animation of a way through W", saved=False
    )


def load_padded(settings):
    """Return the Data that the settings name, its images of sides that halve well.

    28x28 becomes 32x32, which is 4x4 doubled three times.
    """
    data = load_images(settings)
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
    changes each layer's outputs at the same rate, times `rate`.
    """

    class Equalized(kind):
        def __init__(self, *sizes, gain=2**0.5, rate=1.0, **options):
            start = keras.initializers.RandomNormal(0.0, 1 / rate)
            super().__init__(*sizes, kernel_initializer=start, **options)
            self.gain, self.rate = gain, rate

        @property
        def kernel(self):
            kernel = super().kernel
            n_inputs = int(np.prod(kernel.shape[:-1]))
            return kernel * (self.rate * self.gain / n_inputs**0.5)

        @property
        def bias(self):
            bias = self._bias
            return bias if bias is None or self.rate == 1 else bias * self.rate

        @bias.setter
        def bias(self, bias):
            self._bias = bias

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


@functools.cache
def starting():
    """Return the class of the layer that gives the learned constant, whatever w is.

    shape: the constant's, (h, w, c); it starts from ones.
    """

    class Start(layers.Layer):
        def __init__(self, shape, **options):
            super().__init__(**options)
            self.start_shape = shape

        def build(self, shape):
            self.constant = self.add_weight(
                shape=(1, *self.start_shape), initializer="ones", name="constant"
            )

        def call(self, w):
            return tf.repeat(self.constant, tf.shape(w)[0], axis=0)

    return Start


@functools.cache
def truncating():
    """Return the class of the layer that draws w towards its mean; see truncate.

    Its weights mean and psi, which no gradient moves, are 0 and 1 at first.
    """

    class Truncate(layers.Layer):
        def build(self, shape):
            options = {"trainable": False}
            self.mean = self.add_weight(
                shape=shape[1:], initializer="zeros", name="mean", **options
            )
            self.psi = self.add_weight(
                shape=(), initializer="ones", name="psi", **options
            )

        def call(self, w):
            return truncate(w, tf.cast(self.mean, w.dtype), tf.cast(self.psi, w.dtype))

    return Truncate


def truncate(w, w_mean, psi):
    """Return w drawn towards its mean: w itself for psi 1, the mean for 0.

    Images near the mean style are more usual ones, and less varied.
    """
    return fade(w_mean, w, psi)


def mix(w_coarse, w_fine, n_coarse, n_styles):
    """Return the styles of all layers, (n, n_styles, d), from two w, (n, d).

    The first n_coarse layers, those of the smallest sizes, have the first one's.
    """
    coarse = (tf.range(n_styles) < n_coarse)[:, tf.newaxis]
    return tf.where(coarse, w_coarse[:, tf.newaxis], w_fine[:, tf.newaxis])


def adapt(inputs):
    """Return maps x with the mean and the deviation that a style says (AdaIN).

    inputs: x, (n, h, w, c), and the style, (n, 2 c): each map's deviation, less 1, and
    its mean. What the maps had before of both is taken out, so that a style holds for
    one convolution alone (Huang and Belongie 2017).
    """
    x, style = inputs
    wide = tf.cast(x, tf.float32)
    # first of all, or much of a small deviation would be rounded away
    wide -= tf.reduce_mean(wide, axis=(1, 2), keepdims=True)
    variance = tf.reduce_mean(wide**2, axis=(1, 2), keepdims=True)
    style = tf.cast(style, tf.float32)[:, tf.newaxis, tf.newaxis]
    scale, shift = tf.split(style, 2, axis=-1)
    scale = (scale + 1) * tf.math.rsqrt(variance + 1e-8)
    return tf.cast(wide * scale + shift, x.dtype)


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
    """Return the full-grown generator, compiled: [z, *noise] -> (n, *image_shape).

    z: (n, latent_dim); noise: standard normal, two of (n, h, w, 1) for each size. The
    output is linear; what is outside [-1, 1] is cut off in files. There is a Fade at
    each size but the smallest, and while their alpha is 0, images are smaller ones,
    enlarged. Layers with names: "w" gives w, (n, latent_dim), and "styles" the style of
    each convolution, (n, layers, latent_dim), all the same here. width: factor on the
    maps. The paper has 512 maps from 4x4 to 32x32, and eight layers for w.
    """
    sizes = list_sizes(image_shape)
    n_maps = count_maps(len(sizes), width)

    # the mapping network, Z -> W
    in_lat = keras.Input(shape=(latent_dim,))
    w = layers.Lambda(pixel_norm)(in_lat)
    for i in range(N_MAPPING):
        w = equalized(layers.Dense)(latent_dim, rate=MAPPING_RATE)(w)
        name = "w" if i == N_MAPPING - 1 else None
        w = layers.LeakyReLU(negative_slope=0.2, name=name)(w)
    w = truncating()(name="truncate")(w)
    styles = layers.RepeatVector(2 * len(sizes), name="styles")(w)
    in_noise = [
        keras.Input(shape=(*size, 1), name=f"noise_{i}_{size[0]}")
        for size in sizes
        for i in range(2)
    ]
    numbers = iter(range(len(in_noise)))

    def style_of(i):
        cropped = layers.Cropping1D((i, len(in_noise) - 1 - i))(styles)
        return layers.Reshape((latent_dim,))(cropped)

    def add_noise(x, noise, **options):
        # a factor a map, 0 at first; and the bias, which must not be blurred
        factors = layers.Conv2D(x.shape[-1], 1, kernel_initializer="zeros", **options)
        return layers.Add(**options)([x, factors(noise)])

    def activate(x, **options):
        i = next(numbers)
        x = add_noise(x, in_noise[i], **options)
        x = layers.LeakyReLU(negative_slope=0.2, **options)(x)
        style = equalized(layers.Dense)(2 * x.shape[-1], gain=1.0)(style_of(i))
        return layers.Lambda(adapt, **options)([x, style])

    def convolve(x, n, blurred=False):
        x = equalized(layers.Conv2D)(n, 3, padding="same", use_bias=False)(x)
        if blurred:  # by [1, 2, 1] in both directions
            x = layers.ZeroPadding2D(1)(x)
            for _ in range(2):
                x = layers.AveragePooling2D(2, strides=1)(x)
        return activate(x)

    def to_image(x, **options):
        convolution = equalized(layers.Conv2D)
        return convolution(image_shape[2], 1, gain=1.0, dtype="float32", **options)(x)

    # a constant hardly varies, and adapt enlarges what little there is
    options = {"dtype": "float32"}
    gen = starting()((*sizes[0], n_maps[0]), **options)(style_of(0))
    gen = activate(gen, **options)
    gen = convolve(gen, n_maps[0])
    out_layer = to_image(gen, name="image_0")
    for level, n in enumerate(n_maps[1:], 1):
        gen = convolve(layers.UpSampling2D()(gen), n, blurred=True)
        gen = convolve(gen, n)
        before = layers.UpSampling2D(dtype="float32")(out_layer)
        after = to_image(gen)
        blend = fading()(level, dtype="float32", name=f"image_{level}")
        out_layer = blend([before, after])
    model = keras.Model([in_lat, *in_noise], out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def mapping_of(g_model):
    """Return the mapping network of a generator: z -> w, (n, latent_dim)."""
    return keras.Model(g_model.inputs[0], g_model.get_layer("w").output)


def synthesis_of(g_model, level):
    """Return the rest of it, to a level's size: [styles, *noise] -> images."""
    styles = g_model.get_layer("styles").output
    images = g_model.get_layer(f"image_{level}").output
    return keras.Model([styles, *g_model.inputs[1 : 2 * level + 3]], images)


def grown(g_model, level):
    """Return the generator as far as a level's size: [z, *noise] -> images."""
    return keras.Model(g_model.input, g_model.get_layer(f"image_{level}").output)


def define_critics(image_shape=(32, 32, 1), *, width=1.0):
    """Return the critics of all sizes, which share their layers, a list.

    Each: images of its size -> (n, 1), any number, more for real ones. The last one is
    full-grown and compiled.
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


def logistic_loss(answers, real):
    """Return -log of the share of 'real', or of 'generated', that answers stand for.

    The mean; answers are logits.
    """
    return tf.reduce_mean(tf.nn.softplus(-answers if real else answers))


def r1_penalty(critic, X, gamma):
    """Return gamma / 2 times the mean square of the critic's slope at real images.

    Of Mescheder et al. 2018. The slope is the norm of the gradient at an image.
    """
    with tf.GradientTape() as tape:
        tape.watch(X)
        answers = critic(X, training=True)
    gradients = tf.cast(tape.gradient(answers, X), tf.float32)
    return gamma / 2 * tf.reduce_mean(tf.reduce_sum(gradients**2, axis=(1, 2, 3)))


def define_draw(dataset, latent_dim, n_batch, level):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X (n, h, w, c). level: of the sizes that are trained. draws: a
    training.batches.Draws.
    It returns indices of real images, int32 (n_batch,), and for the critic's update and
    for g's: two latent points an image, standard normal (2, 2, n_batch, latent_dim),
    what decides of mixing, uniform in [0, 1] (2, 2), and noise (2, n_batch, n) for the
    sizes so far.
    """
    sizes = list_sizes(dataset[0].shape[1:])[: level + 1]
    n_noise = 2 * sum(h * w for h, w in sizes)

    def draw(draws):
        z = draws.points(4 * n_batch, latent_dim)
        noise = draws.points(2 * n_batch, n_noise)
        return (
            draws.indices(n_batch, len(dataset[0])),
            tf.reshape(z, (2, 2, n_batch, latent_dim)),
            draws.uniform((2, 2)),
            tf.reshape(noise, (2, n_batch, n_noise)),
        )

    return draw


def split_noise(noise, sizes):
    """Return noise, (n, m), as a generator of these sizes takes it, a list of arrays.

    Two of (n, h, w, 1) for each size.
    """
    shapes = [(*size, 1) for size in sizes for _ in range(2)]
    parts = tf.split(noise, [h * w for h, w, _ in shapes], axis=1)
    return [
        tf.reshape(part, (-1, *shape))
        for part, shape in zip(parts, shapes, strict=True)
    ]


def choose_crossover(chance, level):
    """Return how many layers have the first style of two, int32; all in one of ten.

    chance: uniform numbers in [0, 1], (2,).
    """
    n_layers = 2 * (level + 1)
    some = 1 + tf.cast(chance[1] * (n_layers - 1), tf.int32)
    return tf.where(chance[0] < MIXED, some, n_layers)


def define_train_step(
    average, g_model, critics, take_real, level, grown_to, growth_of, *, gamma=PENALTY
):
    """Return train_step(step, *batch), both networks' updates at the size of a level.

    batch: what define_draw's draw returns. take_real: indices -> real images at full
    size. grown_to: [variable], the level of the step before: at another one the
    optimizers start anew. growth_of: step -> growth_at's answer. It returns the figures
    that HISTORY names. average: the generator whose weights are the average of
    g_model's, and which has the average of w. gamma: r1_penalty's.
    """
    critic, generator = critics[level], grown(g_model, level)
    mapping, synthesis = mapping_of(g_model), synthesis_of(g_model, level)
    w_mean = average.get_layer("truncate").mean
    n_styles = g_model.get_layer("styles").n
    sizes = list_sizes(g_model.output_shape[1:])[: level + 1]
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

    def generate_mixed(z, chance, noise):
        w, w_fine = (mapping(points, training=True) for points in tf.unstack(z))
        styles = mix(w, w_fine, choose_crossover(chance, level), n_styles)
        noise = split_noise(noise, sizes)
        return synthesis([styles, *noise], training=True), w

    def train_step(step, indices, z, chance, noise):
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
        X_fake, w = generate_mixed(z[0], chance[0], noise[0])

        # (1) Update the critic: maximise log D(x) + log(1 - D(G(z))), penalised
        with tf.GradientTape() as tape:
            c_loss_real = logistic_loss(critic(X_real, training=True), real=True)
            c_loss_fake = logistic_loss(critic(X_fake, training=True), real=False)
            penalty = r1_penalty(critic, X_real, gamma)
            c_loss = c_loss_real + c_loss_fake + penalty
        update(critic, c_optimizer, tape, c_loss)

        # (2) Update g alone: maximise log D(G(z))
        with tf.GradientTape() as g_tape:
            X_fake, _ = generate_mixed(z[1], chance[1], noise[1])
            g_loss = logistic_loss(critic(X_fake, training=True), real=True)
        update(generator, g_optimizer, g_tape, g_loss)

        kept = 0.5 ** (indices.shape[0] / HALF_LIFE)
        for mean, weight in averaged:
            mean.assign(kept * mean + (1 - kept) * weight)
        batch_mean = tf.reduce_mean(tf.cast(w, tf.float32), axis=0)
        w_mean.assign(W_AVERAGE * w_mean + (1 - W_AVERAGE) * batch_mean)
        return c_loss_real, c_loss_fake, penalty, g_loss, growth

    return train_step


def draw_noise(n, rng, image_shape):
    """Return noise for n images, a list of float32 (n, h, w, 1)."""
    return [
        rng.standard_normal((n, *size, 1), dtype=np.float32)
        for size in list_sizes(image_shape)
        for _ in range(2)
    ]


def define_sample(g_model, latent_dim, psi=1.0, noisy=True):
    """Return sample(n, rng, labels) -> n generated images, uint8 (n, h, w, c).

    rng: a numpy Generator. labels are for generators that are asked for a class. psi:
    see truncate. noisy: False for noise of 0.
    """
    image_shape = g_model.output_shape[1:]
    n_batch = batch_size(*image_shape[:2])

    def sample(n, rng, labels):
        g_model.get_layer("truncate").psi.assign(psi)
        images = []
        for first in range(0, n, n_batch):  # noise is larger than images
            n_now = min(n_batch, n - first)
            z = rng.standard_normal((n_now, latent_dim), dtype=np.float32)
            noise = draw_noise(n_now, rng, image_shape)
            noise = [noisy * part for part in noise]
            images.append(generate(g_model, z, *noise))
        return np.concatenate(images)

    return sample


def define_paint(g_model):
    """Return what a generator's two parts do, as functions of arrays.

    to_w: z -> w, float32 (n, latent_dim); paint: (styles, noise) -> uint8 images, for
    styles (n, layers, latent_dim) and noise as draw_noise has it.
    """
    n_sizes = len(list_sizes(g_model.output_shape[1:]))
    mapping, synthesis = mapping_of(g_model), synthesis_of(g_model, n_sizes - 1)

    def to_w(z):
        return np.float32(mapping(z))

    def paint(styles, noise):
        return generate(synthesis, styles, *noise)

    return to_w, paint


def draw_sheets(g_model, latent_dim, rng, settings):
    """Return what --mix and --walk draw, a dict: file name -> (images, in a row).

    The noise is the same for all images of a table, and for all of a way.
    """
    of_mix, of_walk = rng.spawn(2)
    image_shape = g_model.output_shape[1:]
    to_w, paint = define_paint(g_model)
    w_mean = keras.ops.convert_to_numpy(g_model.get_layer("truncate").mean)
    n_styles = g_model.get_layer("styles").n
    found = {}

    def draw_w(n, rng):
        w = to_w(rng.standard_normal((n, latent_dim), dtype=np.float32))
        return np.array(truncate(w, w_mean, np.float32(settings.psi)))

    if settings.mix is not None:
        side = min(8, max(1, 2048 // image_shape[1]))
        of_a, of_b = (
            draw_w(side, np.random.default_rng(int(seed))) for seed in settings.mix
        )
        # a row for each of A's images, which its own begins; B's are above
        coarse = np.concatenate([of_b, np.repeat(of_a, side + 1, axis=0)])
        rows = [np.concatenate([of_a[i : i + 1], of_b]) for i in range(side)]
        fine = np.concatenate([of_b, *rows])
        # of small images the last size's are fine, whatever it is
        n_coarse = min(2 * N_COARSE, max(1, n_styles - 2))
        styles = np.array(mix(coarse, fine, n_coarse, n_styles))
        noise = draw_noise(1, of_mix, image_shape)
        noise = [np.repeat(part, len(styles), axis=0) for part in noise]
        images = paint(styles, noise)
        corner = np.zeros_like(images[:1])
        found["mix.png"] = np.concatenate([corner, images]), side + 1
    if settings.walk:
        side = min(4, max(1, 512 // image_shape[1]))
        noise = draw_noise(side**2, of_walk, image_shape)
        points = [draw_w(side**2, of_walk) for _ in range(N_POINTS)]
        frames = []
        for place in np.arange(0, N_POINTS, 1 / N_FRAMES):
            a, b = (points[(int(place) + i) % N_POINTS] for i in range(2))
            w = a + np.float32(place % 1) * (b - a)
            frames.append(paint(np.repeat(w[:, np.newaxis], n_styles, axis=1), noise))
        found["walk.gif"] = np.array(frames), side
    return found


def define_plain(g_model):
    """Return a full-grown generator of Keras's own layers, which answers the same.

    A file of it is read without this script.
    """
    (*_, last) = (layer for layer in g_model.layers if isinstance(layer, fading()))
    model = keras.Model(g_model.inputs, last.input[1])

    def plain(layer):
        if isinstance(layer, starting()):
            size = layer.start_shape
            return keras.Sequential(
                [layers.Dense(int(np.prod(size))), layers.Reshape(size)]
            )
        if isinstance(layer, truncating()):  # psi is 1
            return layers.Identity()
        if isinstance(layer, layers.Lambda) and layer.function is adapt:
            return define_plain_adapt(*(x.shape[1:] for x in layer.input))
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
        weights = layer.weights
        if isinstance(layer, starting()):
            n_inputs = other.input_shape[1]
            constant = tf.reshape(layer.constant, (-1,))
            weights = tf.zeros((n_inputs, len(constant))), constant
        elif isinstance(layer, truncating()):
            weights = ()
        elif hasattr(layer, "gain"):
            weights = [w for w in (layer.kernel, layer.bias) if w is not None]
        other.set_weights([keras.ops.convert_to_numpy(w) for w in weights])
    return copy


def define_plain_adapt(x_shape, style_shape):
    """Return a model of Keras's own layers that answers as adapt does."""
    x, style = keras.Input(x_shape), keras.Input(style_shape)
    n = x_shape[-1]
    options = {"dtype": "float32"}
    normal = layers.GroupNormalization(
        n, epsilon=1e-8, center=False, scale=False, **options
    )(x)
    parts = layers.Reshape((2, n), **options)(style)
    scale, shift = (
        layers.Reshape((1, 1, n), **options)(layers.Cropping1D(ends, **options)(parts))
        for ends in ((0, 1), (1, 0))
    )
    scale = layers.Rescaling(1.0, offset=1.0, **options)(scale)
    scaled = layers.Multiply(**options)([normal, scale])
    return keras.Model([x, style], layers.Add(**options)([scaled, shift]))


def in_float32(g_model, latent_dim, width):
    """Return a copy of a generator that computes in float32, for small differences."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        copy = define_generator(
            latent_dim, image_shape=g_model.output_shape[1:], width=width
        )
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(g_model.get_weights())
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
    first = min(FIRST, n_sizes - 1)

    def growth_of(step):
        if not growing:
            return tf.constant(float(n_sizes - 1))
        return first + growth_at(run.done(step), n_sizes - first)

    def compile_level(level):
        return run.compile(
            define_draw(dataset, latent_dim, n_batch, level),
            define_train_step(
                *(average, g_model, critics, take_real, level, grown_to, growth_of),
                gamma=run.settings.penalty,
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
            [compile_level(level) for level in range(first, n_sizes)],
            lambda: list_starts(run.n_steps, n_sizes - first),
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
        if run.judge is None:
            return {}
        exact = in_float32(average, latent_dim, run.settings.width)
        synthesis = synthesis_of(exact, n_sizes - 1)
        sample_of = functools.partial(define_sample, average, latent_dim)
        noise_of = functools.partial(draw_noise, image_shape=average.output_shape[1:])
        return {
            **measure_paths(mapping_of(exact), synthesis, noise_of, latent_dim, run),
            **measure_styles(sample_of, run),
            **measure_mixing(*define_paint(average), mix, noise_of, latent_dim, run),
        }

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
        functools.partial(define_sample, psi=settings.psi),
        functools.partial(train, growing=not settings.no_growth),
        load=load_padded,
        draw_sheets=functools.partial(draw_sheets, settings=settings),
    )


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
