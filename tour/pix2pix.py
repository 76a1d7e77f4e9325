"""Pix2Pix: image-to-image translation (Isola, Zhu, Zhou and Efros 2016).

    python tour/pix2pix.py                          # edges of MNIST's digits to digits
    python tour/pix2pix.py --minutes 3 --seed 1 --loss l1
    python tour/pix2pix.py --data FOLDER            # edges of images of your own
    python tour/pix2pix.py --pairs INPUTS OUTPUTS   # two folders, equal names
    python tour/pix2pix.py --side-by-side FOLDER    # both in each picture
    python tour/pix2pix.py --sample runs/FOLDER --translate PICTURE...

What the article says of it, and where it is here:
PIX-1 an image goes in and its translation comes out: define_generator's input, pairs.
PIX-2 the generator is a U-Net: define_generator's skips.
PIX-3 the discriminator is a PatchGAN, which judges structure at the scale of patches
    alone: define_discriminator, receptive_field.
PIX-4 its task is the usual one: define_train_step's loss_of.
PIX-5 the generator's loss gets a vector distance to the target, L2 or L1, which blurs
    less: distance_of.
"""

import math
import sys
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from common import GanRun, scaled, to_bytes
from figures import measure_translation
from own_pictures import translate_pictures
from pairs import INPUTS, PairSettings, load_pairs
from sampling import open_run, start_run

from gankit.backend import keras, layers, tf
from gankit.command import InputError, run_script
from gankit.data.images import scale_images
from gankit.models.classify import batch_size
from gankit.training.batches import define_take, seed_generators, update
from gankit.training.settings import option

NAME = "pix2pix"
HISTORY = ("d_loss_real", "d_loss_fake", "g_loss", "distance")
# multiple of the sides: five levels of the U-Net, at the most eight
MULTIPLE, MOST_LEVELS = 32, 8
# side of a patch -> strided layers of the discriminator
PATCHES = {16: 1, 34: 2, 70: 3}


@dataclass(kw_only=True)
class Settings(PairSettings):
    """Train Pix2Pix on edges of MNIST's digits, or on pairs of pictures of your own."""

    asked: ClassVar = (*PairSettings.asked, "translate", "edges")

    steps: int = option(12_000, "training steps", least=1, resume="grow")
    batch: int = option(16, "pairs a batch")
    evaluate_every: int = option(
        1000, "steps from a row of measures to the next", least=1
    )
    loss: str = option(
        "l1+cgan",
        "what the generator learns from: l1, the --distance; gan, a discriminator that "
        "sees the output alone; cgan, one that sees the input beside it",
        choices=("l1", "gan", "cgan", "l1+gan", "l1+cgan"),
    )
    distance: str = option("l1", "distance of output and target", choices=("l1", "l2"))
    distance_weight: float = option(
        100.0,
        "weight of the distance beside the discriminator's loss, lambda",
        least=0,
        most=1e6,
    )
    patch: str = option(
        "auto",
        "side of the patches that the discriminator judges; auto: the largest that "
        "fits in the image",
        choices=("auto", *map(str, PATCHES)),
    )
    translate: list[str] | None = option(
        None,
        "translate pictures of any size with the run of --sample: what the run takes "
        "as input, edges or one picture of a pair, becomes NAME-translated.png beside "
        "it, or in the folder --out",
        metavar="PICTURE",
        saved=False,
    )
    edges: bool = option(
        False,
        "make the edges of the pictures to --translate first, or the outlines, for a "
        "run that was trained on those",
        saved=False,
    )

    def __post_init__(self):
        super().__post_init__()
        distance = "l1" in self.loss, f"--loss {self.loss} has no distance"
        self.check_use("distance", *distance)
        self.check_use("distance_weight", *distance)
        self.check_use("patch", self.loss != "l1", "--loss l1 has no discriminator")
        self.check_use("edges", self.translate is not None, "is for --translate")


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


def count_levels(image_shape):
    """Return how often both sides of an image can be halved, 8 at the most."""
    side = math.gcd(*image_shape[:2])
    return min(MOST_LEVELS, (side & -side).bit_length() - 1)


def define_encoder(in_image, levels, width=1.0, *, most=256, innermost=True):
    """Return an image's maps after each of so many strided convolutions.

    They double from 32 to `most`. innermost: whether the last are normalised.
    """
    maps = [in_image]
    for level in range(levels):
        x = layers.Conv2D(
            scaled(min(32 * 2**level, most), width),
            (4, 4),
            strides=(2, 2),
            padding="same",
            use_bias=level == 0,
            kernel_initializer=start_weights(),
        )(maps[-1])
        normal = level and (innermost or level < levels - 1)
        maps.append(
            layers.LeakyReLU(negative_slope=0.2)(normalize()(x) if normal else x)
        )
    return maps[1:]


def define_generator(image_shape=(32, 32, 1), n_inputs=1, *, width=1.0):
    """Return the generator, compiled: (n, h, w, n_inputs) -> (n, *image_shape).

    A U-Net; both in [-1, 1]. image_shape: height and width must be multiples of 32.
    n_inputs: channels of the input. width: factor on the maps. Its noise is dropout.
    With width 2 and 256x256 pixels it is the paper's: C64 to C512, eight levels.
    """
    in_image = keras.Input(shape=(*image_shape[:2], n_inputs))
    levels = count_levels(image_shape)
    most = 128 if levels <= 5 else 256
    # the innermost is a single pixel, which is 0 if normalised by itself
    maps = define_encoder(in_image, levels, width, most=most, innermost=False)
    gen = layers.ReLU()(maps[-1])
    for i, level in enumerate(reversed(maps[:-1])):
        gen = layers.Conv2DTranspose(
            level.shape[3],
            (4, 4),
            strides=(2, 2),
            padding="same",
            use_bias=False,
            kernel_initializer=start_weights(),
        )(gen)
        gen = layers.Dropout(0.5)(normalize()(gen)) if i < 3 else normalize()(gen)
        # skip connection: beside it what the encoder had at this size
        gen = layers.ReLU()(layers.Concatenate()([gen, level]))
    gen = layers.Conv2DTranspose(
        image_shape[2],
        (4, 4),
        strides=(2, 2),
        padding="same",
        kernel_initializer=start_weights(),
    )(gen)
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


def define_discriminator(image_shape=(32, 32, 1), n_inputs=1, n_layers=1, *, width=1.0):
    """Return the discriminator, compiled: [inputs, images] -> (n, h, w, 1), logits.

    A logit of 'real' for each of h x w overlapping patches, with a side of
    receptive_field(n_layers). n_inputs: channels of the inputs; 0 for one that is shown
    images alone. The sigmoid is in the loss, where it keeps its gradient.
    """
    shapes = [(*image_shape[:2], n_inputs), image_shape]
    shown = [keras.Input(shape=shape) for shape in shapes if shape[2] > 0]
    dis = layers.Concatenate()(shown) if n_inputs else shown[0]
    dis = define_encoder(dis, n_layers, width)[-1]
    # one pixel of 0 around, as Torch has it
    dis = layers.ZeroPadding2D(1)(dis)
    dis = layers.Conv2D(
        scaled(32 * 2**n_layers, width),
        (4, 4),
        use_bias=False,
        kernel_initializer=start_weights(),
    )(dis)
    dis = layers.LeakyReLU(negative_slope=0.2)(normalize()(dis))
    dis = layers.ZeroPadding2D(1)(dis)
    out_layer = layers.Conv2D(
        1, (4, 4), kernel_initializer=start_weights(), dtype="float32"
    )(dis)
    model = keras.Model(shown, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def define_draw(dataset, n_batch):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y, inputs], pictures as uint8 or float32 in [-1, 1]. draws: a
    training.batches.Draws. It returns n_batch inputs and the images they belong to.
    """
    take_real, take_input = define_take(dataset[0]), define_take(dataset[2])

    def draw(draws):
        chosen = draws.indices(n_batch, len(dataset[0]))
        return take_input(chosen), take_real(chosen)

    return draw


def distance_of(X, X_real, kind):
    """Return the distance of images and targets, the mean over pixels: L1 or L2."""
    difference = X - X_real
    powers = tf.abs(difference) if kind == "l1" else tf.square(difference)
    return tf.reduce_mean(powers)


def define_train_step(
    g_model, d_model, loss="l1+cgan", distance="l1", distance_weight=100.0
):
    """Return train_step(step, *batch), the two updates of a training step.

    batch: what define_draw's draw returns. loss, distance, distance_weight: see
    Settings. It returns the figures that HISTORY names: g_loss is the part that d
    gives, distance the one without its weight; what isn't trained is 0.
    Real and generated images are batches of their own, each with its own statistics.
    """
    binary_loss = keras.losses.BinaryCrossentropy(from_logits=True)
    weight = distance_weight if "l1" in loss else 0.0

    def loss_of(inputs, X, target):
        logits = d_model([inputs, X] if "cgan" in loss else X, training=True)
        return binary_loss(tf.fill(tf.shape(logits), target), logits)

    d_model.optimizer.build(d_model.trainable_variables)
    g_model.optimizer.build(g_model.trainable_variables)

    def train_step(step, inputs, X_real):
        d_loss_real = d_loss_fake = g_loss = tf.zeros(())
        with tf.GradientTape() as g_tape:
            X_fake = g_model(inputs, training=True)

        # (1) Update d: minimise half of -log D(x, y) - log(1 - D(x, G(x)))
        if loss != "l1":
            with tf.GradientTape() as tape:
                d_loss_real = loss_of(inputs, X_real, 1.0)
                d_loss_fake = loss_of(inputs, X_fake, 0.0)
                d_loss = (d_loss_real + d_loss_fake) / 2
            update(d_model, d_model.optimizer, tape, d_loss)

        # (2) Update g alone: minimise -log D(x, G(x)) + weight |y - G(x)|
        with g_tape:
            if loss != "l1":
                g_loss = loss_of(inputs, X_fake, 1.0)
            far = distance_of(X_fake, X_real, distance)
            total = g_loss + weight * far
        update(g_model, g_model.optimizer, g_tape, total)

        return d_loss_real, d_loss_fake, g_loss, far

    return train_step


def define_translator(g_model):
    """Return g_model as it translates: for images of any size, each by itself.

    Called with training=True: its noise, dropout, is on as in training. Statistics are
    those of each image, as batch normalisation has them in a batch of one: the others
    in a batch change nothing. It keeps weights of its own, g_model's of now.
    """

    def renew(layer):
        if isinstance(layer, layers.BatchNormalization):
            return layers.GroupNormalization(
                groups=-1, epsilon=layer.epsilon, dtype=layer.dtype_policy
            )
        return type(layer).from_config(layer.get_config())

    translator = keras.models.clone_model(
        keras.Model(g_model.input, g_model.output),
        keras.Input((None, None, g_model.input_shape[3])),
        renew,
        lambda layer, inputs, **options: layer(inputs),
    )
    for before, after in zip(g_model.layers, translator.layers, strict=True):
        # gamma and beta come before the moving statistics
        after.set_weights(before.get_weights()[: len(after.weights)])
    return translator


def translate(translator, inputs, seed=0):
    """Return the translations of inputs, uint8 (n, h, w, c).

    translator: what define_translator returned. inputs: uint8 (n, h, w, n_inputs), with
    sides that the U-Net can halve. What dropout leaves out follows from the seed.
    """
    for i, generator in enumerate(seed_generators([translator])):
        generator.state.assign([seed, i << 16])
    parts = []
    n_batch = batch_size(*inputs.shape[1:3])
    for first in range(0, len(inputs), n_batch):
        batch = scale_images(inputs[first : first + n_batch])
        parts.append(to_bytes(translator(batch, training=True).numpy()))
    return np.concatenate(parts)


def define_sample(g_model, dataset):
    """Return sample(n, rng, labels) -> n translations, uint8 (n, h, w, c).

    dataset: [X, y, inputs]; rng, a numpy Generator, draws the inputs, each once before
    one again. labels are for generators that are asked for a class.
    """

    def sample(n, rng, labels):
        chosen = np.resize(rng.permutation(len(dataset[0])), n)
        translator, seed = define_translator(g_model), int(rng.integers(2**31))
        return translate(translator, dataset[2][chosen], seed)

    return sample


def draw_rows(g_model, dataset, rng):
    """Return images, uint8, and how many are in a row: inputs, translations, truth.

    dataset: [X, y, inputs]. rng: a numpy Generator.
    """
    X, _, inputs = dataset
    translator, rows = define_translator(g_model), []
    for chosen in np.resize(rng.permutation(len(X)), (3, 10)):
        shown = np.broadcast_to(inputs[chosen], X[chosen].shape)
        rows += [shown, translate(translator, inputs[chosen]), X[chosen]]
    return np.concatenate(rows), 10


def train(
    g_model,
    d_model,
    dataset,
    n_steps=12_000,
    n_batch=16,
    *,
    run=None,
):
    """Train the two models on [X, y, inputs] and fill a run's folder; return its path.

    X, inputs: uint8 (n, h, w, c); y is not looked at. run:
    a GanRun; None for a new one in runs/. Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings())
    settings, shown = run.settings, run.test or dataset
    sample = define_sample(g_model, shown)
    steps = run.compile(
        define_draw(dataset, n_batch),
        define_train_step(
            g_model,
            d_model,
            settings.loss,
            settings.distance,
            settings.distance_weight,
        ),
        [g_model, d_model, g_model.optimizer, d_model.optimizer],
        columns=HISTORY,
        draws=1,
    )
    n_steps = run.fit(n_steps, steps, sample)
    draw_sheet = partial(draw_rows, g_model, shown)
    run.make(
        steps,
        dataset,
        lambda step: run.summarize(step, sample, draw_sheet=draw_sheet),
        describe=describe_step,
        n_steps=n_steps,
        n_batch=n_batch,
    )
    models = {"g": g_model, "d": d_model}

    def figures():
        return measure_translation(partial(translate, define_translator(g_model)), run)

    return run.conclude(n_steps, models, figures)


def describe_step(figures):
    """Return the text of a step's figures."""
    d_loss_real, d_loss_fake, g_loss, distance = figures
    return (
        f"d[{d_loss_real:.3f},{d_loss_fake:.3f}], g[{g_loss:.3f}], "
        f"distance[{distance:.4f}]"
    )


def define_models(settings, image_shape, n_classes):
    """Return g_model and d_model for a run with these settings."""
    width = settings.width
    n_inputs = settings.count_inputs(image_shape[2])
    return (
        define_generator(image_shape, n_inputs, width=width),
        define_discriminator(
            image_shape,
            n_inputs if "cgan" in settings.loss else 0,
            count_layers(settings.patch, image_shape),
            width=width,
        ),
    )


def load(settings):
    """Return the Data that the settings name, as pairs, with sides that are halved."""
    return load_pairs(settings, MULTIPLE)


def translate_own(settings):
    """Translate pictures of one's own, each into a file of its own.

    With the same dropout for each and each time, unless another seed is given.
    """
    if settings.n != Settings.n:
        raise InputError("--n: is for samples; leave it out with --translate")
    run = open_run(NAME, settings, define_models)
    (g_model,) = run.models
    if settings.edges and run.settings.paired:
        raise InputError(
            f"--edges: {settings.sample} was trained on pairs, not on edges; leave it "
            "out"
        )

    def edges_of(picture):
        return INPUTS[run.settings.inputs](picture[np.newaxis])[0]

    translate_pictures(
        settings.translate,
        "translated",
        settings.out,
        partial(translate, define_translator(g_model), seed=settings.seed or 0),
        channels=run.image_shape[2] if settings.edges else g_model.input_shape[3],
        multiple=2 ** count_levels(run.image_shape),
        change=edges_of if settings.edges else None,
    )


def draw_sheets(g_model, dataset, rng):
    """Return the sheets that --sample draws besides, by their files' names."""
    return {"translated.png": draw_rows(g_model, dataset, rng)}


def start(settings):
    """Train as the settings say, draw from a run, or translate pictures with it."""
    if settings.translate is not None:
        translate_own(settings)
        return
    start_run(
        NAME,
        settings,
        define_models,
        define_sample,
        train,
        load=load,
        draw_sheets=draw_sheets,
    )


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
