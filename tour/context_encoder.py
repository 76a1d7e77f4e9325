"""Context Encoder: a GAN that fills holes in images (Pathak et al. 2016).

    python tour/context_encoder.py                     # 12,000 steps on MNIST
    python tour/context_encoder.py --holes random --adversarial 0
    python tour/context_encoder.py --data FOLDER --image-size 64
    python tour/context_encoder.py --sample runs/FOLDER
    python tour/context_encoder.py --sample runs/FOLDER --fill a.png --mask 60,40,20,24

What the article says of it, and where it is here:
CTX-1 an encoder and a decoder, trained adversarially, generate images on a condition:
    define_generator, define_train_step.
CTX-2 it generates the content of any region from what surrounds it: find_holes,
    draw_masks, hide, and fill_holes, by which --fill works.
CTX-3 a joint loss: the adversarial one for both networks, and for the generator the
    distance of prediction and truth: reconstruction_loss, define_train_step.
CTX-4 the joint loss is sharper than reconstruction alone, which takes the mean of what
    fits: --adversarial 0, figures.measure_filling.

Networks, losses and rates are those of the authors' code, the sizes scaled from 128x128
pixels to 32x32. With --holes centre (theirs) the generator predicts the middle, a
quarter of the area, with a seam that it sees as well; the discriminator sees the
prediction alone. With --holes random it predicts the whole image, of which the hole
alone counts (as in the paper; the authors' code lets all of it count, and takes holes
of other forms), and the discriminator sees it pasted into its surroundings.
"""

import sys
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from common import GanRun, TourSettings, load_images, scaled, to_bytes
from figures import measure_filling
from own_pictures import fill_pictures
from sampling import open_run, start_run

from gankit.backend import keras, layers, tf
from gankit.command import InputError, run_script
from gankit.data.arrays import crop, pad_data
from gankit.data.images import scale_images
from gankit.models.classify import batch_size
from gankit.training.batches import define_take, update
from gankit.training.settings import option

NAME = "context_encoder"
HISTORY = ("d_loss_real", "d_loss_fake", "g_loss", "reconstruction")
HOLES = ("centre", "random")
# weight of the seam's pixels, which the generator sees
SEAM = 10.0


@dataclass(kw_only=True)
class Settings(TourSettings):
    """Train a network that fills holes in images, and fill those in your own."""

    asked: ClassVar = (*TourSettings.asked, "fill", "mask")

    steps: int = option(12_000, "training steps", least=1, resume="grow")
    batch: int = option(64, "images a batch")
    holes: str = option(
        "centre",
        "where images have their holes in training: centre, or random, blocks of "
        "three eighths to half of the height and width",
        choices=HOLES,
    )
    adversarial: float = option(
        0.001,
        "weight of the adversarial loss; the reconstruction's is the rest of 1",
        least=0,
        most=1,
    )
    fill: list[str] | None = option(
        None, "fill a hole in these pictures", metavar="PICTURE", saved=False
    )
    mask: str | None = option(
        None,
        "the hole that --fill fills: x,y,w,h, in pixels from the upper left, or a "
        "picture that is white there",
        saved=False,
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


def define_optimizer(rate=2e-4):
    return keras.optimizers.Adam(rate, beta_1=0.5)


def count_levels(image_shape, least):
    """Return how often height and width are halved: `least` or more, to 7 at most."""
    levels = least
    while -(-min(image_shape[:2]) // 2**levels) > 7:
        levels += 1
    return levels


def define_encoder(in_image, levels, width=1.0):
    """Return an image's maps after each of so many strided convolutions."""
    maps = [in_image]
    for level in range(levels):
        x = layers.Conv2D(
            scaled(min(32 * 2**level, 256), width),
            (4, 4),
            strides=(2, 2),
            padding="same",
            use_bias=level == 0,
            kernel_initializer=start_weights(),
        )(maps[-1])
        maps.append(
            layers.LeakyReLU(negative_slope=0.2)(normalize()(x) if level else x)
        )
    return maps[1:]


def define_generator(
    image_shape=(32, 32, 1), *, holes="centre", bottleneck=512, width=1.0
):
    """Return the generator, compiled: images with holes -> what is there, in [-1, 1].

    It predicts (n, h / 2, w / 2, c), the middle, for holes in the centre, else images
    of the same size. image_shape: as load has it. bottleneck: units between encoder
    and decoder. width: factor on maps and units. The paper has twice the maps and a
    bottleneck of 4000 for 128x128 pixels.
    """
    in_image = keras.Input(shape=image_shape)
    maps = define_encoder(in_image, count_levels(image_shape, 3), width)
    rows, columns, n_first = maps[-1].shape[1:]
    # a unit of the code sees all of the image
    code = layers.Dense(
        scaled(bottleneck, width), use_bias=False, kernel_initializer=start_weights()
    )(layers.Flatten()(maps[-1]))
    code = layers.LeakyReLU(negative_slope=0.2)(normalize()(code))
    gen = layers.Dense(
        rows * columns * n_first, use_bias=False, kernel_initializer=start_weights()
    )(code)
    gen = layers.Reshape((rows, columns, n_first))(gen)
    gen = layers.ReLU()(normalize()(gen))
    last = 1 if holes == "centre" else 0
    for level in reversed(maps[last:-1]):
        gen = layers.Conv2DTranspose(
            level.shape[3],
            (4, 4),
            strides=(2, 2),
            padding="same",
            use_bias=False,
            kernel_initializer=start_weights(),
        )(gen)
        gen = layers.ReLU()(normalize()(gen))
    gen = layers.Conv2DTranspose(
        image_shape[2],
        (4, 4),
        strides=(2, 2),
        padding="same",
        kernel_initializer=start_weights(),
    )(gen)
    out_layer = layers.Activation("tanh", dtype="float32")(gen)
    model = keras.Model(in_image, out_layer)
    model.compile(optimizer=define_optimizer(2e-3))  # ten times the discriminator's
    return model


def define_discriminator(image_shape=(16, 16, 1), *, width=1.0):
    """Return the discriminator, compiled: images -> (n, 1), the logit of 'real'.

    image_shape: of what the generator predicts.
    """
    in_image = keras.Input(shape=image_shape)
    dis = define_encoder(in_image, count_levels(image_shape, 2), width)[-1]
    dis = layers.Flatten()(dis)
    out_layer = layers.Dense(1, kernel_initializer=start_weights(), dtype="float32")(
        dis
    )
    model = keras.Model(in_image, out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def find_edge(g_model):
    """Return how many rows and columns around the prediction the generator sees."""
    sizes = zip(g_model.input_shape[1:3], g_model.output_shape[1:3], strict=True)
    return tuple((side - predicted) // 2 for side, predicted in sizes)


def find_holes(g_model):
    """Return where holes are: of rows and of columns, (begin, end, least, most).

    A hole lies from begin to end, and is from `least` to `most` long. In the centre it
    is what is predicted but for a seam of a sixteenth at each side.
    """
    found = []
    for side, edge in zip(g_model.input_shape[1:3], find_edge(g_model), strict=True):
        if edge:
            begin = edge + max(1, (side - 2 * edge) // 16)
            end = side - begin
            found.append((begin, end, end - begin, end - begin))
        else:
            found.append((0, side, 3 * side // 8, side // 2))
    return found


def draw_masks(g_model, places):
    """Return masks that are 1 in a hole and 0 elsewhere, float32 (n, h, w, 1).

    places: float32 (n, 4) in [0, 1), from which height, width, row and column follow.
    """
    inside = []
    for axis, (begin, end, least, most) in enumerate(find_holes(g_model)):
        size, place = places[:, axis, None], places[:, axis + 2, None]
        size = least + tf.floor(size * (most - least + 1))
        first = begin + tf.floor(place * (end - begin - size + 1))
        index = tf.range(g_model.input_shape[1 + axis], dtype=tf.float32)
        inside.append(tf.cast((index >= first) & (index < first + size), tf.float32))
    rows, columns = inside
    return rows[:, :, None, None] * columns[:, None, :, None]


def hide(X, masks):
    """Return images with holes of a middle grey, about the authors' colour for them."""
    return X * (1 - masks)


def fill_holes(g_model, X, masks):
    """Return images with their holes filled, uint8 (n, h, w, c), the rest as it was.

    X: uint8 (n, h, w, c); masks: (n, h, w, 1), as draw_masks returns them.
    """
    filled, edge = X.copy(), find_edge(g_model)
    inner = crop(filled, edge)
    n_batch = batch_size(*X.shape[1:3])
    for first in range(0, len(X), n_batch):
        part = slice(first, first + n_batch)
        context = hide(scale_images(X[part]), np.float32(masks[part]))
        predicted = to_bytes(np.float32(g_model.predict_on_batch(context)))
        hole = crop(np.asarray(masks[part], bool), edge)
        np.copyto(inner[part], predicted, where=hole)
    return filled


def define_draw(dataset, g_model, n_batch):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as uint8 or float32 in [-1, 1]. draws: a training.batches.Draws.
    It returns n_batch real images and a mask of each one's hole.
    """
    take_real = define_take(dataset[0])

    def draw(draws):
        X_real = take_real(draws.indices(n_batch, len(dataset[0])))
        return X_real, draw_masks(g_model, draws.uniform((n_batch, 4)))

    return draw


def reconstruction_loss(truth, prediction, weights):
    """Return the mean squared error of what is predicted, weighted pixel by pixel.

    truth, prediction: (n, h, w, c); weights: (n, h, w, 1), 0 for pixels that the mean
    is not of.
    """
    counted = tf.cast(weights > 0, tf.float32) * tf.ones_like(truth)
    total = tf.reduce_sum(weights * tf.square(prediction - truth))
    return total / tf.reduce_sum(counted)


def define_train_step(g_model, d_model, adversarial=0.001):
    """Return train_step(step, *batch), the two updates of a training step.

    batch: what define_draw's draw returns. It returns the figures that HISTORY names.
    Real and generated images are batches of their own, each with its own statistics.
    adversarial: the weight of the adversarial loss, from 0 to 1.
    """
    binary_loss = keras.losses.BinaryCrossentropy(from_logits=True)
    edge = find_edge(g_model)

    def loss_of(X, target):
        logits = d_model(X, training=True)
        return binary_loss(tf.fill(tf.shape(logits), target), logits)

    d_model.optimizer.build(d_model.trainable_variables)
    g_model.optimizer.build(g_model.trainable_variables)

    def train_step(step, X_real, masks):
        truth, hole = crop(X_real, edge), crop(masks, edge)
        with tf.GradientTape() as g_tape:
            prediction = g_model(hide(X_real, masks), training=True)
            if any(edge):
                X_fake, weights = prediction, hole + SEAM * (1 - hole)
            else:
                X_fake, weights = hide(truth, hole) + prediction * hole, hole

        # (1) Update d: minimise -log D(x) - log(1 - D(G(x with a hole)))
        with tf.GradientTape() as tape:
            d_loss_real, d_loss_fake = loss_of(truth, 1.0), loss_of(X_fake, 0.0)
            d_loss = d_loss_real + d_loss_fake
        update(d_model, d_model.optimizer, tape, d_loss)

        # (2) Update g alone: minimise the joint loss
        with g_tape:
            g_loss = loss_of(X_fake, 1.0)
            reconstruction = reconstruction_loss(truth, prediction, weights)
            joint = adversarial * g_loss + (1 - adversarial) * reconstruction
        update(g_model, g_model.optimizer, g_tape, joint)

        return d_loss_real, d_loss_fake, g_loss, reconstruction

    return train_step


def define_sample(g_model, dataset):
    """Return sample(n, rng, labels) -> n filled images, uint8 (n, h, w, c).

    dataset: [X, y], whose images get holes and are filled. rng: a numpy Generator.
    labels are for generators that are asked for a class.
    """

    def sample(n, rng, labels):
        chosen = np.resize(rng.permutation(len(dataset[0])), n)
        masks = draw_masks(g_model, rng.random((n, 4), np.float32)).numpy()
        return fill_holes(g_model, dataset[0][chosen], masks)

    return sample


def draw_rows(g_model, dataset, rng):
    """Return images, uint8, and how many are in a row: hidden, filled, true, in turn.

    dataset: [X, y]. rng: a numpy Generator.
    """
    rows, X = [], dataset[0]
    for truth in X[np.resize(rng.permutation(len(X)), (3, 10))]:
        masks = draw_masks(g_model, rng.random((10, 4), np.float32)).numpy()
        hidden = np.where(masks > 0, np.uint8(128), truth)
        rows += [hidden, fill_holes(g_model, truth, masks), truth]
    return np.concatenate(rows), 10


def train(
    g_model,
    d_model,
    dataset,
    n_steps=12_000,
    n_batch=64,
    *,
    run=None,
):
    """Train the two models on [X, y] and fill a run's folder; return its path.

    X: uint8 (n, h, w, c); y is not looked at. run:
    a GanRun; None for a new one in runs/. Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings())
    shown = run.test or dataset
    sample = define_sample(g_model, shown)
    steps = run.compile(
        define_draw(dataset, g_model, n_batch),
        define_train_step(g_model, d_model, run.settings.adversarial),
        [g_model, d_model, g_model.optimizer, d_model.optimizer],
        columns=HISTORY,
        draws=2,
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
    ways = partial(fill_holes, g_model), partial(draw_masks, g_model)
    return run.conclude(n_steps, models, lambda: measure_filling(*ways, dataset, run))


def describe_step(figures):
    """Return the text of a step's figures."""
    d_loss_real, d_loss_fake, g_loss, reconstruction = figures
    return (
        f"d[{d_loss_real:.3f},{d_loss_fake:.3f}], g[{g_loss:.3f}], "
        f"l2[{reconstruction:.4f}]"
    )


def define_models(settings, image_shape, n_classes):
    """Return g_model and d_model for a run with these settings."""
    width = settings.width
    g_model = define_generator(image_shape, holes=settings.holes, width=width)
    return g_model, define_discriminator(g_model.output_shape[1:], width=width)


def load(settings):
    """Return the Data that the settings name, with sides that are halved often."""
    data = load_images(settings)
    return pad_data(data, 2 ** count_levels(data.image_shape, 3))


def fill(settings):
    """Fill the hole in pictures of one's own, each into a file of its own."""
    if settings.fill is None or settings.mask is None:
        raise InputError("--fill and --mask: belong together; give both")
    if settings.n != Settings.n or settings.seed is not None:
        raise InputError("--n and --seed: are for samples; leave them out with --fill")
    run = open_run(NAME, settings, define_models)
    (g_model,) = run.models
    fill_pictures(
        settings.fill,
        settings.mask,
        settings.out,
        partial(fill_holes, g_model),
        g_model.input_shape[1:],
        find_holes(g_model),
    )


def draw_sheets(g_model, dataset, rng):
    """Return the sheets that --sample draws besides, by their files' names."""
    return {"filled.png": draw_rows(g_model, dataset, rng)}


def start(settings):
    """Train as the settings say, draw from a run, or fill pictures with it."""
    if settings.fill is not None or settings.mask is not None:
        fill(settings)
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
