"""CycleGAN: translation without pairs (Zhu, Park, Isola and Efros 2017).

    python tour/cyclegan.py                       # 40,000 steps: digits and outlines
    python tour/cyclegan.py --minutes 3 --seed 1
    python tour/cyclegan.py --x DIR --y DIR       # two folders of pictures of your own
    python tour/cyclegan.py --sample runs/FOLDER  # translate inputs of a run
    python tour/cyclegan.py --sample runs/FOLDER --translate PICTURE --to y

What the article says of it, and where it is here:
CYC-1 no pairs: define_draw draws an image of each domain, each by itself.
CYC-2 four models trained at once: generators G: X -> Y and F: Y -> X, and a
    discriminator for each domain: define_generator, define_discriminator.
CYC-3 cycle consistency, forward and backward, by the L1 norm: F(G(x)) = x and
    G(F(y)) = y, in each update: define_train_step.
CYC-4 the adversarial loss alone does not map an image to its counterpart:
    --cycle-weight 0, and figures.measure_translation.
CYC-5 each GAN has its ordinary adversarial loss: least_squares. Own uses, as styles,
    objects, seasons, paintings and photographs: --x DIR --y DIR.
The five tips of the article on CycleGAN alone:
CYC-6 a generator with residual blocks, after Johnson et al. 2016: define_generator.
CYC-7 discriminators judge overlapping patches of 70x70 pixels, and the average over
    these counts: define_discriminator, least_squares.
CYC-8 the least-squares loss: least_squares.
CYC-9 discriminators learn from a buffer of 50 generated images: define_buffer, swap.
CYC-10 Adam with a small rate, the same for half of the epochs, then falling to 0, and
    an update after each image: rate, --batch 1.
"""

import sys
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from common import GanRun, generate, scaled, to_bytes
from domains import DomainSettings, load_domains
from figures import measure_cycle
from own_pictures import translate_pictures
from sampling import open_run, start_run

from gankit.backend import keras, layers, tf
from gankit.command import InputError, run_script
from gankit.data.images import scale_images
from gankit.training.batches import define_take, update
from gankit.training.fast_adam import accelerate_adam
from gankit.training.settings import option

NAME = "cyclegan"
HISTORY = ("dx_loss", "dy_loss", "g_loss", "f_loss", "forward_loss", "backward_loss")
# times that a generator halves the sides, and their multiple: padding by reflection
# takes two pixels in the middle
N_DOWN, MULTIPLE = 2, 8
# side of a patch -> strided layers of the discriminator
PATCHES = {16: 1, 34: 2, 70: 3}
BUFFER = 50


@dataclass(kw_only=True)
class Settings(DomainSettings):
    """Train a CycleGAN on digits and outlines, or on two folders of your own."""

    asked: ClassVar = (*DomainSettings.asked, "to", "translate")

    steps: int = option(40_000, "training steps", least=1, resume="grow")
    batch: int = option(1, "images of each domain a batch")
    evaluate_every: int = option(
        2000, "steps from a row of measures to the next", least=1
    )
    cycle_weight: float = option(
        10.0, "weight of the cycle's loss; 0 leaves it out", least=0, most=1e6
    )
    identity: float = option(
        0.0,
        "weight of the loss |G(y) - y| + |F(x) - x| relative to the cycle's; the "
        "authors take 0.5 for paintings",
        least=0,
        most=1e6,
    )
    patch: str = option(
        "auto",
        "side of the patches that the discriminators judge; auto: the largest that "
        "fits in the image",
        choices=("auto", *map(str, PATCHES)),
    )
    # an .h5 file can't hold the padding by reflection
    format: str = option("keras", "file format of the models", choices=("keras",))
    to: str = option(
        "x", "the domain that --sample translates to", choices=("x", "y"), saved=False
    )
    translate: list[str] | None = option(
        None,
        "pictures of your own, or folders, that --sample translates; each result is "
        "written beside its picture, or into --out",
        metavar="PICTURE",
        saved=False,
    )


def start_weights():
    """Return the paper's start of all kernels, N(0, 0.02), with a seed of its own."""
    return keras.initializers.RandomNormal(0.0, 0.02)


def normalize():
    """Return instance normalisation as Torch has it: each map of an image by itself."""
    return layers.GroupNormalization(groups=-1, epsilon=1e-5, center=False, scale=False)


def define_optimizer():
    return keras.optimizers.Adam(2e-4, beta_1=0.5)


def reflect(maps, n):
    """Pad maps by n pixels to each side that mirror those inside the border."""
    return keras.ops.pad(maps, ((0, 0), (n, n), (n, n), (0, 0)), mode="reflect")


def convolve(filters, size, strides=1, **others):
    """Return a convolution without padding of its own."""
    return layers.Conv2D(
        filters, size, strides, kernel_initializer=start_weights(), **others
    )


def define_generator(image_shape=(32, 32, 1), *, n_blocks=3, n_maps=16, width=1.0):
    """Return a generator, compiled: images in [-1, 1] -> as many of the same shape.

    image_shape: height and width are multiples of 4, or None for any. n_blocks: of two
    convolutions each, with a path around them; the authors have 6 for 128x128 pixels,
    9 for 256x256. n_maps: of the first layer; the authors have 64. width: factor on
    the maps. Each image is computed by itself, whatever is beside it in a batch.
    """
    n_first = scaled(n_maps, width)
    in_image = keras.Input(shape=image_shape)
    gen = convolve(n_first, 7)(reflect(in_image, 3))
    gen = layers.ReLU()(normalize()(gen))
    for i in range(1, N_DOWN + 1):
        # "same" would pad a side of even length at its end alone
        gen = convolve(n_first << i, 3, 2)(layers.ZeroPadding2D()(gen))
        gen = layers.ReLU()(normalize()(gen))
    for _ in range(n_blocks):
        block = convolve(n_first << N_DOWN, 3)(reflect(gen, 1))
        block = layers.ReLU()(normalize()(block))
        block = convolve(n_first << N_DOWN, 3)(reflect(block, 1))
        gen = layers.Add()([gen, normalize()(block)])
    for i in reversed(range(N_DOWN)):
        gen = layers.Conv2DTranspose(
            n_first << i, 3, 2, kernel_initializer=start_weights()
        )(gen)
        gen = layers.Cropping2D(((1, 0), (1, 0)))(gen)
        gen = layers.ReLU()(normalize()(gen))
    gen = convolve(image_shape[-1], 7)(reflect(gen, 3))
    out_layer = layers.Activation("tanh", dtype="float32")(gen)
    model = keras.Model(in_image, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def receptive_field(n_layers):
    """Return the side of the patch that an answer of the discriminator sees."""
    side = 1
    for stride in (1, 1, *[2] * n_layers):
        side = (side - 1) * stride + 4
    return side


def count_layers(patch, image_shape):
    """Return the strided layers for a patch of a side, a text; see PATCHES.

    'auto': the largest patch that is not larger than the image.
    """
    if patch == "auto":
        patch = max(side for side in PATCHES if side <= min(image_shape[:2]))
    return PATCHES[int(patch)]


def define_discriminator(image_shape=(32, 32, 1), n_layers=1, *, n_maps=32, width=1.0):
    """Return a discriminator, compiled: images -> (n, h, w, 1), 1 for 'real'.

    An answer for each of h x w overlapping patches, with a side of
    receptive_field(n_layers). n_maps: of the first layer; the authors have 64. width:
    factor on the maps.
    """
    in_image = keras.Input(shape=image_shape)
    dis = in_image
    for level in range(n_layers + 1):
        strides = 2 if level < n_layers else 1
        n_filters = scaled(n_maps << level, width)
        # one pixel of 0 around, as Torch has it
        dis = convolve(n_filters, 4, strides)(layers.ZeroPadding2D(1)(dis))
        if level > 0:
            dis = normalize()(dis)
        dis = layers.LeakyReLU(negative_slope=0.2)(dis)
    out_layer = convolve(1, 4, dtype="float32")(layers.ZeroPadding2D(1)(dis))
    model = keras.Model(in_image, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def define_buffer(image_shape, size=BUFFER):
    """Return a variable for generated images, float32 (size, *image_shape)."""
    return tf.Variable(tf.zeros((size, *image_shape)), trainable=False)


def swap(buffer, images, number, places):
    """Return images to learn from: these, or older ones whose places they take.

    number: int32, how many images were put in before; while there is room each image
    is stored and returned. places: int32 (n,) from 0 to twice the size: the place of
    the old image that is taken out; from the size on the new one is returned, and is
    not stored. No gradient flows through the images.
    """
    size, found = buffer.shape[0], []
    for i, image in enumerate(tf.unstack(tf.stop_gradient(images))):
        filling, stored = number + i < size, places[i] < size
        place = tf.where(filling, number + i, places[i] % size)
        old = buffer[place]
        kept = tf.where(filling | stored, image, old)
        buffer.scatter_nd_update(place[tf.newaxis, tf.newaxis], kept[tf.newaxis])
        found.append(tf.where(stored & ~filling, old, image))
    return tf.stack(found)


def rate(done):
    """Return the learning rate, of the fraction of a run's epochs that are made.

    It is constant for the first half, and falls to 0 in the second.
    """
    return 2e-4 * tf.minimum(1.0, 2 - 2 * done)


def least_squares(answers, target):
    """Return the mean over images and patches of the answers' squared errors."""
    return tf.reduce_mean(tf.square(answers - target))


def distance(images, others):
    """Return the L1 norm of the difference, a pixel and channel."""
    return tf.reduce_mean(tf.abs(images - others))


def define_draw(dataset, n_batch):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y, Y], X and Y uint8. draws: a training.batches.Draws. It returns
    n_batch images of each domain, and for each of these a place in a buffer, see swap.
    """
    take_x, take_y = define_take(dataset[0]), define_take(dataset[2])

    def draw(draws):
        return (
            take_x(draws.indices(n_batch, len(dataset[0]))),
            take_y(draws.indices(n_batch, len(dataset[2]))),
            draws.indices(n_batch, 2 * BUFFER),
            draws.indices(n_batch, 2 * BUFFER),
        )

    return draw


def join(*models):
    """Return a model of models side by side, with the optimizer of the first.

    So the weights of all are moved by one set of gradients.
    """
    inputs = [keras.Input(model.input_shape[1:]) for model in models]
    outputs = [model(x) for model, x in zip(models, inputs, strict=True)]
    return keras.Model(inputs, outputs)


def define_train_step(
    g_model, f_model, dx_model, dy_model, buffers, done, cycle_weight=10.0, identity=0.0
):
    """Return train_step(step, *batch), the two updates of a training step.

    batch: what define_draw's draw returns. buffers: of images of X, and of Y. done:
    step -> the fraction of the run's epochs that are made. It returns the figures that
    HISTORY names.
    """
    generators, discriminators = join(g_model, f_model), join(dx_model, dy_model)
    optimizers = g_model.optimizer, dx_model.optimizer
    optimizers[0].build(generators.trainable_variables)
    optimizers[1].build(discriminators.trainable_variables)
    for optimizer in optimizers:
        accelerate_adam(optimizer)

    def train_step(step, x, y, places_x, places_y):
        n_batch = x.shape[0]
        for optimizer in optimizers:
            optimizer.learning_rate.assign(rate(done(step)))

        # (1) Update both generators: fool the discriminators, and come back
        with tf.GradientTape() as tape:
            y_fake, x_fake = g_model(x, training=True), f_model(y, training=True)
            g_loss = least_squares(dy_model(y_fake, training=True), 1.0)
            f_loss = least_squares(dx_model(x_fake, training=True), 1.0)
            forward_loss = distance(f_model(y_fake, training=True), x)
            backward_loss = distance(g_model(x_fake, training=True), y)
            loss = g_loss + f_loss + cycle_weight * (forward_loss + backward_loss)
            if identity:
                kept = distance(g_model(y, training=True), y)
                kept += distance(f_model(x, training=True), x)
                loss += cycle_weight * identity * kept
        update(generators, optimizers[0], tape, loss)

        # (2) Update both discriminators: tell real images from those of a buffer
        x_old = swap(buffers[0], x_fake, n_batch * step, places_x)
        y_old = swap(buffers[1], y_fake, n_batch * step, places_y)
        with tf.GradientTape() as tape:
            dx_loss, dy_loss = (
                # half as much, so that d learns more slowly than its generator
                (
                    least_squares(d_model(real, training=True), 1.0)
                    + least_squares(d_model(fake, training=True), 0.0)
                )
                / 2
                for d_model, real, fake in (
                    (dx_model, x, x_old),
                    (dy_model, y, y_old),
                )
            )
            d_loss = dx_loss + dy_loss
        update(discriminators, optimizers[1], tape, d_loss)

        return dx_loss, dy_loss, g_loss, f_loss, forward_loss, backward_loss

    return train_step


def translate(model, X):
    """Return an image's translation, both uint8 (1, h, w, c), sides of any size."""
    return to_bytes(model(scale_images(X), training=False).numpy())


def define_sample(g_model, f_model, dataset, to="x"):
    """Return sample(n, rng, labels) -> n translated images, uint8 (n, h, w, c).

    dataset: [X, y, Y], whose images are translated to the domain `to`, 'x' or 'y'; each
    is drawn as often as the others. rng: a numpy Generator. labels: see dcgan.py.
    """
    model, inputs = (f_model, dataset[2]) if to == "x" else (g_model, dataset[0])

    def sample(n, rng, labels):
        chosen = np.resize(rng.permutation(len(inputs)), n)
        return generate(model, scale_images(inputs[chosen]))

    return sample


def draw_rows(g_model, f_model, dataset, rng, n=20):
    """Return a sheet and its columns: x, G(x), F(G(x)), y, F(y), G(F(y)).

    dataset: [X, y, Y], of which rng draws n images each, uint8 like what is returned.
    """
    columns = []
    for X, there, back in (
        (dataset[0], g_model, f_model),
        (dataset[2], f_model, g_model),
    ):
        X = X[np.resize(rng.permutation(len(X)), n)]
        translated = generate(there, scale_images(X))
        columns += [X, translated, generate(back, scale_images(translated))]
    images = np.stack(columns, axis=1)
    return images.reshape(-1, *images.shape[2:]), len(columns)


def train(
    g_model,
    f_model,
    dx_model,
    dy_model,
    dataset,
    n_steps=40_000,
    n_batch=1,
    *,
    run=None,
):
    """Train the four models on [X, y, Y] and fill a run's folder; return its path.

    X, Y: uint8 (n, h, w, c), n of each its own; y is not looked at. run:
    a GanRun; None for a new one in runs/. Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings())
    settings, shown = run.settings, run.test or dataset
    sample = define_sample(g_model, f_model, shown)
    epoch = -(-len(dataset[0]) // n_batch)
    buffers = [define_buffer(X.shape[1:]) for X in (dataset[0], dataset[2])]
    steps = run.compile(
        define_draw(dataset, n_batch),
        define_train_step(
            g_model,
            f_model,
            dx_model,
            dy_model,
            buffers,
            lambda step: run.done(step // epoch * epoch),
            settings.cycle_weight,
            settings.identity,
        ),
        [g_model, f_model, dx_model, dy_model]
        + [g_model.optimizer, dx_model.optimizer, buffers],
        columns=HISTORY,
        draws=4,
    )
    n_steps = run.fit(n_steps, steps, sample)
    draw_sheet = partial(draw_rows, g_model, f_model, shown)
    run.make(
        steps,
        dataset,
        lambda step: run.summarize(step, sample, draw_sheet=draw_sheet),
        describe=describe_step,
        n_steps=n_steps,
        n_batch=n_batch,
    )
    models = {"g": g_model, "f": f_model, "dx": dx_model, "dy": dy_model}

    def figures():
        return measure_cycle(g_model, f_model, run)

    return run.conclude(n_steps, models, figures, generators=("g", "f"))


def describe_step(figures):
    """Return the text of a step's figures."""
    dx_loss, dy_loss, g_loss, f_loss, forward_loss, backward_loss = figures
    return (
        f"d[{dx_loss:.3f},{dy_loss:.3f}], g[{g_loss:.3f},{f_loss:.3f}], "
        f"cycle[{forward_loss:.3f},{backward_loss:.3f}]"
    )


def choose_sizes(image_shape):
    """Return n_blocks, and n_maps of generators and of discriminators.

    From 128 pixels on they are the authors'.
    """
    side = min(image_shape[:2])
    if side < 128:
        return 3, 16, 32
    return 9 if side >= 256 else 6, 64, 64


def define_models(settings, image_shape, n_classes):
    """Return G, F and the discriminators of X and Y for a run with these settings."""
    width = settings.width
    n_blocks, g_maps, d_maps = choose_sizes(image_shape)
    n_layers = count_layers(settings.patch, image_shape)
    g_model, f_model = (
        define_generator(image_shape, n_blocks=n_blocks, n_maps=g_maps, width=width)
        for _ in range(2)
    )
    dx_model, dy_model = (
        define_discriminator(image_shape, n_layers, n_maps=d_maps, width=width)
        for _ in range(2)
    )
    return g_model, f_model, dx_model, dy_model


def define_translators(settings, image_shape, n_classes):
    """Return G and F like a run's, for images of any size."""
    n_blocks, n_maps, _ = choose_sizes(image_shape)
    any_shape = (None, None, image_shape[-1])
    return [
        define_generator(
            any_shape, n_blocks=n_blocks, n_maps=n_maps, width=settings.width
        )
        for _ in range(2)
    ]


def load(settings):
    """Return the Data that the settings name, as domains, with sides to be halved."""
    return load_domains(settings, MULTIPLE)


def translate_own(settings):
    """Translate pictures of one's own, each into a file of its own."""
    if settings.n != Settings.n:
        raise InputError("--n: is for samples; leave it out with --translate")
    run = open_run(NAME, settings, define_translators, 2)
    g_model, f_model = run.models
    translate_pictures(
        settings.translate,
        f"to-{settings.to}",
        settings.out,
        partial(translate, g_model if settings.to == "y" else f_model),
        channels=run.image_shape[2],
        multiple=MULTIPLE,
    )


def draw_sheets(g_model, f_model, dataset, rng):
    """Return the sheets that --sample draws besides, by their files' names."""
    return {"translated.png": draw_rows(g_model, f_model, dataset, rng)}


def start(settings):
    """Train as the settings say, draw from a run, or translate pictures with it."""
    if settings.translate is not None:
        translate_own(settings)
        return
    start_run(
        NAME,
        settings,
        define_models,
        partial(define_sample, to=settings.to),
        train,
        load=load,
        draw_sheets=draw_sheets,
        n_models=2,
    )


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
