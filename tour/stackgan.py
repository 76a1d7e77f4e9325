"""StackGAN: text to photo-realistic image synthesis (Zhang et al. 2016).

    python tour/stackgan.py                      # 9,500 steps on MNIST, into runs/
    python tour/stackgan.py --minutes 10 --seed 1
    python tour/stackgan.py --data FOLDER        # images of your own, a.png and a.txt
    python tour/stackgan.py --say "a thick seven leaning left" --sample runs/FOLDER

What the article says of it, and where it is here:
STACK-1 images from text, by a stack of conditional GANs: define_stack.
STACK-2 stage I makes an image of low resolution from the text: define_generator.
STACK-3 stage II makes one of high resolution from stage I's image and, again, the
    text: define_stage2_generator.
STACK-4 stage II picks up what stage I missed of the text, and adds detail: its input is
    the image and the text, and its discriminator sees the text, too.

Three phases, one after the other; what was trained in one stays as it is in the next:
the text encoder, with an image encoder that is left behind; stage I; stage II. The
authors take their text encoder from elsewhere, photographs of 64x64 and 256x256 pixels,
and two to four times as many maps; here images are of half and of full size. The rate
stays: they halve it every 6,900 steps. Captions are captions.py's.
"""

import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from captions import (
    KINDS,
    caption_classes,
    choose_kind,
    load_captioned_folder,
    read_captions,
    shorten,
)
from common import (
    GanRun,
    GanSettings,
    generate,
    load_labelled_images,
    scaled,
)
from figures import measure_captions
from sampling import LARGEST_SHEET, read_description, start_run

from gankit.backend import keras, layers, tf
from gankit.command import run_script
from gankit.data.arrays import crop, pad_data
from gankit.models.classify import batch_size
from gankit.training.batches import Phases, check_batch, define_take, update
from gankit.training.settings import option

NAME = "stackgan"
HISTORY = ("text_loss", "d_loss_real", "d_loss_wrong", "d_loss_fake", "g_loss", "kl")
# numbers that stand for a text, and that the generators get of it
N_TEXT, N_CODE = 64, 128
# of the text encoder's loss; of the augmentation's divergence in the generator's loss
TEMPERATURE, KL_WEIGHT = 0.1, 2.0
# pairs of stage I's and II's images in a row of a sheet
PAIRS = 5
# a step of stage I takes as long as so many of stage II
STAGE1_COST = 0.35


@dataclass(kw_only=True)
class Settings(GanSettings):
    """Train a StackGAN on MNIST with captions, or on captioned images of your own."""

    asked: ClassVar = (*GanSettings.asked, "say")

    # the phases follow from it: a resumed run keeps it
    steps: int = option(9500, "training steps of all three phases together", least=1)
    batch: int = option(64, "images a batch")
    text_steps: int = option(
        500,
        "steps of them that train the text encoder, a third of all at the most",
        least=0,
    )
    stage1_share: float = option(
        0.45, "share of the other steps that train stage I", least=0.0, most=0.9
    )
    captions: str = option(
        "auto",
        "digits: by digit, thickness and slant; classes: by class, brightness and "
        "breadth; files: from a text file beside each picture; auto: files where there "
        "are some, digits for the bundled MNIST, else classes",
        choices=("auto", *KINDS),
    )
    say: str | None = option(
        None, "caption that --sample draws", metavar="TEXT", saved=False
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


def convolve(n, size=3, strides=1, **options):
    """Return a convolution to n maps, padded."""
    return layers.Conv2D(
        n,
        size,
        strides=strides,
        padding="same",
        kernel_initializer=start_weights(),
        **options,
    )


def convolve_normalized(x, n, size=3, strides=1):
    """Return n maps, convolved and normalised."""
    return normalize()(convolve(n, size, strides, use_bias=False)(x))


def upsample(x, n):
    """Return n maps of twice the height and width: each pixel four times, convolved."""
    return layers.ReLU()(convolve_normalized(layers.UpSampling2D()(x), n))


def define_text_encoder(n_words, length, n_text=N_TEXT):
    """Return the text encoder: tokens, int32 (n, length) -> texts, (n, n_text).

    n_words: how many tokens there are; 0 stands for no word, at the end of a text. The
    mean square of a text's numbers is 1.
    """
    tokens = keras.Input(shape=(length,), dtype="int32")
    words = layers.Embedding(n_words, 32, mask_zero=True, dtype="float32")(tokens)
    # of plain operations alone: other kernels would have other bits
    text = layers.GRU(n_text, use_cudnn=False, dtype="float32")(words)
    # of length sqrt(n_text): its direction is what is trained
    text = layers.UnitNormalization(dtype="float32")(text)
    text = layers.Rescaling(math.sqrt(n_text), dtype="float32")(text)
    return keras.Model(tokens, text, name="text_encoder")


def define_image_encoder(image_shape, n_text=N_TEXT, *, width=1.0):
    """Return the image encoder: images (n, *image_shape) -> (n, n_text), float32."""
    in_image = keras.Input(shape=image_shape)
    features, n = in_image, scaled(32, width)
    while features.shape[1] > 7 or features is in_image:
        features = convolve(n, 4, 2)(features)
        features = layers.LeakyReLU(negative_slope=0.2)(features)
        n = scaled(64, width)
    out_layer = layers.Dense(n_text, dtype="float32")(layers.Flatten()(features))
    return keras.Model(in_image, out_layer)


def define_pairing(text_encoder, image_encoder):
    """Return both encoders as one model, compiled: [tokens, images] -> two codes."""
    tokens, images = text_encoder.input, image_encoder.input
    model = keras.Model([tokens, images], [text_encoder(tokens), image_encoder(images)])
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    return model


def define_augmentation(n_text, n_code):
    """Return conditioning augmentation: [text, noise] -> c, mu, log_sigma.

    text: (n, n_text); noise: (n, n_code), normal. c = mu + sigma * noise is a point of
    the normal distribution that the text stands for: few texts, many codes.
    """
    text, noise = keras.Input(shape=(n_text,)), keras.Input(shape=(n_code,))

    def to_code():
        # Keras's own start: with N(0, 0.02) the few numbers of a text drown in noise
        code = layers.Dense(n_code, dtype="float32")(text)
        return layers.LeakyReLU(negative_slope=0.2, dtype="float32")(code)

    mu, log_sigma = to_code(), to_code()
    sigma = layers.Activation("exponential", dtype="float32")(log_sigma)
    moved = layers.Multiply(dtype="float32")([sigma, noise])
    c = layers.Add(dtype="float32")([mu, moved])
    return keras.Model([text, noise], [c, mu, log_sigma])


def define_generator(
    latent_dim=100, n_text=N_TEXT, *, image_shape=(16, 16, 1), width=1.0
):
    """Return stage I, compiled: [z, text, noise] -> images, mu, log_sigma.

    z: (n, latent_dim); text: (n, n_text); noise: (n, n_code), normal. Images are
    (n, *image_shape) in [-1, 1]; height and width must be multiples of 4. width: factor
    on the maps and the codes.
    """
    rows, columns, channels = image_shape[0] // 4, image_shape[1] // 4, image_shape[2]
    n_first, n_second = scaled(64, width), scaled(32, width)
    in_lat, in_text = keras.Input(shape=(latent_dim,)), keras.Input(shape=(n_text,))
    in_noise = keras.Input(shape=(scaled(N_CODE, width),))
    c, mu, log_sigma = define_augmentation(n_text, in_noise.shape[1])(
        [in_text, in_noise]
    )
    gen = layers.Concatenate()([in_lat, c])
    gen = layers.Dense(
        rows * columns * n_first, use_bias=False, kernel_initializer=start_weights()
    )(gen)
    gen = normalize()(layers.Reshape((rows, columns, n_first))(gen))
    # a residual block: 4x4
    side = layers.ReLU()(convolve_normalized(gen, scaled(16, width), 1))
    side = layers.ReLU()(convolve_normalized(side, scaled(16, width)))
    side = convolve_normalized(side, n_first)
    gen = layers.ReLU()(layers.Add()([gen, side]))
    # 4x4 -> 8x8 -> 16x16
    gen = upsample(upsample(gen, n_first), n_second)
    gen = convolve(channels)(gen)
    out_layer = layers.Activation("tanh", dtype="float32")(gen)
    model = keras.Model(
        [in_lat, in_text, in_noise], [out_layer, mu, log_sigma], name="stage1"
    )
    model.compile(optimizer=define_optimizer())
    return model


def define_stage2_generator(n_text=N_TEXT, *, image_shape=(32, 32, 1), width=1.0):
    """Return stage II, compiled: [images, text, noise] -> images, mu, log_sigma.

    Its images are (n, *image_shape) in [-1, 1], those that it gets of half the height
    and width. There is no latent point: the variety is stage I's, and the noise's.
    """
    rows, columns, channels = image_shape[0] // 2, image_shape[1] // 2, image_shape[2]
    n_first, n_second = scaled(64, width), scaled(32, width)
    in_image = keras.Input(shape=(rows, columns, channels))
    in_text = keras.Input(shape=(n_text,))
    in_noise = keras.Input(shape=(scaled(N_CODE, width),))
    c, mu, log_sigma = define_augmentation(n_text, in_noise.shape[1])(
        [in_text, in_noise]
    )
    # 16x16 -> 8x8
    gen = layers.ReLU()(convolve(n_second)(in_image))
    gen = layers.ReLU()(convolve_normalized(gen, n_first, 4, 2))
    gen = layers.Concatenate()([gen, tile(c, gen)])
    gen = layers.ReLU()(convolve_normalized(gen, n_first))
    for _ in range(2):
        side = layers.ReLU()(convolve_normalized(gen, n_first))
        side = convolve_normalized(side, n_first)
        gen = layers.ReLU()(layers.Add()([gen, side]))
    # 8x8 -> 16x16 -> 32x32
    gen = upsample(upsample(gen, n_second), scaled(16, width))
    gen = convolve(channels)(gen)
    out_layer = layers.Activation("tanh", dtype="float32")(gen)
    model = keras.Model(
        [in_image, in_text, in_noise], [out_layer, mu, log_sigma], name="stage2"
    )
    model.compile(optimizer=define_optimizer())
    return model


def tile(code, maps):
    """Return a code (n, d) at each place of maps: (n, h, w, d)."""
    rows, columns = maps.shape[1:3]
    code = layers.RepeatVector(rows * columns)(code)
    return layers.Reshape((rows, columns, code.shape[2]))(code)


def define_stack(text_encoder, g_model, g2_model, length):
    """Return the whole: [tokens, z, noise, noise of stage II] -> stage II's images."""
    tokens = keras.Input(shape=(length,), dtype="int32")
    (_, latent_dim), _, (_, n_code) = g_model.input_shape
    z, noise = keras.Input(shape=(latent_dim,)), keras.Input(shape=(n_code,))
    noise2 = keras.Input(shape=(n_code,))
    text = text_encoder(tokens)
    low, *_ = g_model([z, text, noise])
    high, *_ = g2_model([low, text, noise2])
    return keras.Model([tokens, z, noise, noise2], high)


def define_stage1(stack):
    """Return a stack's first stage: [tokens, z, noise] -> images of half the size."""
    tokens, z, noise, _ = stack.inputs
    text = stack.get_layer("text_encoder")(tokens)
    low, *_ = stack.get_layer("stage1")([z, text, noise])
    return keras.Model([tokens, z, noise], low)


def define_discriminator(image_shape=(32, 32, 1), n_text=N_TEXT, *, n=3, width=1.0):
    """Return a discriminator, compiled: [images, text] -> (n, 1), the logit of 'real'.

    Real means: a real image, and one that the text fits. n: how many convolutions halve
    the image, to 4x4; there the text joins it. The sigmoid is in the loss.
    """
    in_image, in_text = keras.Input(shape=image_shape), keras.Input(shape=(n_text,))
    dis = convolve(scaled(32, width), 4, 2)(in_image)
    dis = layers.LeakyReLU(negative_slope=0.2)(dis)
    for i in range(1, n):
        dis = convolve_normalized(dis, scaled(32 << i, width), 4, 2)
        dis = layers.LeakyReLU(negative_slope=0.2)(dis)
    code = layers.Dense(scaled(N_CODE, width), kernel_initializer=start_weights())(
        in_text
    )
    code = layers.LeakyReLU(negative_slope=0.2)(code)
    dis = layers.Concatenate()([dis, tile(code, dis)])
    dis = convolve_normalized(dis, scaled(64, width), 1)
    dis = layers.Flatten()(layers.LeakyReLU(negative_slope=0.2)(dis))
    out_layer = layers.Dense(1, kernel_initializer=start_weights(), dtype="float32")(
        dis
    )
    model = keras.Model([in_image, in_text], out_layer)
    model.compile(optimizer=define_optimizer())
    return model


def define_draw(dataset, latent_dim, n_batch, n_code, captions):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as uint8 or float32 in [-1, 1]. draws: a training.batches.Draws.
    It returns n_batch real images; as many that their captions are wrong of, each of
    all these with the same chance; the captions' tokens; which caption fits which of
    the real images, bool (n, n); latent points; noise, (n, 2, n_code).
    """
    take_real = define_take(dataset[0])
    group_of, first, size, counts, tokens, asked, values, order = (
        tf.constant(array, tf.int32)
        for array in (
            captions.group_of,
            captions.first,
            captions.size,
            captions.counts,
            captions.tokens,
            captions.asked,
            captions.values,
            np.argsort(captions.group_of, kind="stable"),
        )
    )
    begins = tf.cumsum(counts, exclusive=True)

    def pick(draws, n):
        """Draw numbers from 0 to n - 1, n: int32 (n_batch,)."""
        share = draws.uniform((n_batch,))
        return tf.minimum(tf.cast(share * tf.cast(n, tf.float32), tf.int32), n - 1)

    def draw(draws):
        chosen = draws.indices(n_batch, len(dataset[0]))
        groups = tf.gather(group_of, chosen)
        said = tf.gather(first, groups) + pick(draws, tf.gather(size, groups))
        named = tf.gather(asked, said)[:, tf.newaxis]
        fits = tf.reduce_all((named < 0) | (named == values), axis=2)
        # a number among the images of all groups that the caption does not fit
        ends = tf.cumsum(tf.where(fits, 0, counts), axis=1)
        number = pick(draws, ends[:, -1])[:, tf.newaxis]
        group = tf.reduce_sum(tf.cast(ends <= number, tf.int32), axis=1)
        last = tf.gather(ends, group, batch_dims=1) - tf.gather(counts, group)
        wrong = tf.gather(order, tf.gather(begins, group) + number[:, 0] - last)
        return (
            take_real(chosen),
            take_real(wrong),
            tf.gather(tokens, said),
            tf.gather(fits, groups, axis=1),
            draws.points(n_batch, latent_dim),
            tf.reshape(draws.points(n_batch, 2 * n_code), (n_batch, 2, n_code)),
        )

    return draw


def define_text_step(pairing):
    """Return text_step(step, *batch), an update of both encoders.

    Texts and images that fit shall be alike, others not: of each text's similarities to
    the images of the batch, as logits, the share of those that fit is raised, and so of
    each image's to the texts (as in CLIP, with several that fit).
    """
    pairing.optimizer.build(pairing.trainable_variables)

    def text_step(step, X_real, X_wrong, tokens, fits, z, noise):
        targets = tf.cast(fits, tf.float32)
        with tf.GradientTape() as tape:
            codes = pairing([tokens, X_real], training=True)
            text, image = (tf.math.l2_normalize(code, axis=1) for code in codes)
            logits = tf.matmul(text, image, transpose_b=True) / TEMPERATURE
            loss = 0.0
            for axis in (0, 1):
                likely = logits - tf.reduce_logsumexp(logits, axis=axis, keepdims=True)
                shares = targets / tf.reduce_sum(targets, axis=axis, keepdims=True)
                loss -= tf.reduce_mean(tf.reduce_sum(shares * likely, axis=axis)) / 2
        update(pairing, pairing.optimizer, tape, loss)
        return (loss, *[0.0] * 5)

    return text_step


def divergence(mu, log_sigma):
    """Return KL(N(mu, sigma^2) || N(0, 1)), the mean over a batch and all numbers."""
    terms = tf.exp(2 * log_sigma) + mu**2 - 1 - 2 * log_sigma
    return 0.5 * tf.reduce_mean(terms)


def define_train_step(g_model, d_model, text_encoder, below=None):
    """Return train_step(step, *batch), the two updates of a training step of a stage.

    batch: what define_draw's draw returns. It returns the figures that HISTORY names.
    below: stage I, where g_model is stage II. It and the text encoder stay as they are.
    """
    binary_loss = keras.losses.BinaryCrossentropy(from_logits=True)
    image_shape = d_model.input_shape[0][1:]

    def loss_of(X, text, target):
        logits = d_model([X, text], training=True)
        return binary_loss(tf.fill(tf.shape(logits), target), logits)

    d_model.optimizer.build(d_model.trainable_variables)
    g_model.optimizer.build(g_model.trainable_variables)

    def train_step(step, X_real, X_wrong, tokens, fits, z, noise):
        text = text_encoder(tokens, training=False)
        given, used = z, noise[:, 0]
        if below is not None:
            given, *_ = below([z, text, used], training=False)
            used = noise[:, 1]
        X_real, X_wrong = (shrink(X, image_shape) for X in (X_real, X_wrong))
        with tf.GradientTape() as g_tape:
            X_fake, mu, log_sigma = g_model([given, text, used], training=True)

        # (1) Update d: real and fitting, against real but wrong, and against made ones
        with tf.GradientTape() as tape:
            d_loss_real = loss_of(X_real, text, 1.0)
            d_loss_wrong = loss_of(X_wrong, text, 0.0)
            d_loss_fake = loss_of(X_fake, text, 0.0)
            d_loss = d_loss_real + (d_loss_wrong + d_loss_fake) / 2
        update(d_model, d_model.optimizer, tape, d_loss)

        # (2) Update g alone: minimise -log D(G(z|text)|text), and the divergence
        with g_tape:
            g_loss = loss_of(X_fake, text, 1.0)
            kl = divergence(mu, log_sigma)
            loss = g_loss + KL_WEIGHT * kl
        update(g_model, g_model.optimizer, g_tape, loss)

        return 0.0, d_loss_real, d_loss_wrong, d_loss_fake, g_loss, kl

    return train_step


def shrink(X, image_shape):
    """Return images X as a stage has them: means of 2x2 pixels where it is stage I."""
    if X.shape[1:] == image_shape:
        return X
    return tf.nn.avg_pool2d(X, 2, 2, "VALID")


def enlarge(images, method="bilinear"):
    """Return uint8 images of twice the height and width."""
    n, height, width, channels = images.shape
    found = np.empty((n, 2 * height, 2 * width, channels), np.uint8)
    n_batch = batch_size(*found.shape[1:3])
    for first in range(0, n, n_batch):
        part = images[first : first + n_batch]
        larger = tf.image.resize(part, found.shape[1:3], method)
        found[first : first + n_batch] = np.rint(larger)
    return found


def define_sample(g_model, latent_dim, *, captions, said=None):
    """Return sample(n, rng, labels) -> n generated images, uint8 (n, h, w, c).

    rng: a numpy Generator. labels: int (n,), the classes that captions are drawn of,
    -1 for any; said: one caption in their place. sample takes more: tokens, int32 (n,
    length), of captions; stage, 1 for stage I's images, which are of half the size and
    those that stage II would get.
    """
    stage1 = define_stage1(g_model)
    n_code = g_model.input_shape[2][1]

    def sample(n, rng, labels=None, *, tokens=None, stage=2):
        if tokens is None and said is not None:
            tokens = np.repeat(captions.read([said]), n, axis=0)
        elif tokens is None:
            tokens = captions.tokens[captions.draw(n, rng, labels)]
        z = rng.standard_normal((n, latent_dim), np.float32)
        noise, noise2 = rng.standard_normal((2, n, n_code), np.float32)
        if stage == 1:
            return generate(stage1, tokens, z, noise)
        return generate(g_model, tokens, z, noise, noise2)

    return sample


def draw_stages(g_model, latent_dim, rng, *, captions, said, n, border):
    """Return a sheet of n pairs of stage I's and stage II's image of a caption.

    A dict, as draw_samples wants it; a pixel of stage I is drawn as four.
    """
    sample = define_sample(g_model, latent_dim, captions=captions, said=said)
    seed = rng.integers(2**31)
    low, high = (sample(n, np.random.default_rng(seed), stage=i) for i in (1, 2))
    pairs = np.stack([enlarge(low, "nearest"), high], axis=1)
    pairs = crop(pairs.reshape(-1, *high.shape[1:]), border)
    return {"stages.png": (pairs, 2 * PAIRS)}


def plan_phases(n_steps, text_steps, stage1_share):
    """Return the first steps of the phases: text, stage I, stage II.

    The text encoder gets a third of the steps at the most, stage II one at the least.
    """
    text = min(text_steps, n_steps // 3)
    left = n_steps - text
    return 0, text, text + min(math.ceil(stage1_share * left), left - 1)


def train(
    g_model,
    d_models,
    pairing,
    dataset,
    latent_dim=100,
    n_steps=9500,
    n_batch=64,
    *,
    captions,
    run=None,
):
    """Train all models on [X, y] and fill a run's folder; return its path.

    g_model: the stack; d_models: the discriminators of stages I and II; pairing: the
    encoders. X: uint8 (n, h, w, c); y: int (n,), from 0 on, or -1 where captions are
    from files; captions: its Captions. run: a GanRun; None for a new one in runs/.
    Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings(), by_class=captions.kind != "files")
    text_encoder, *generators = (
        g_model.get_layer(name) for name in ("text_encoder", "stage1", "stage2")
    )
    stage1, _ = generators
    trained = [pairing, *generators, *d_models]
    state = [g_model, *trained, *(model.optimizer for model in trained)]

    def plan():
        return plan_phases(n_steps, run.settings.text_steps, run.settings.stage1_share)

    n_code = g_model.input_shape[2][1]
    draw = define_draw(dataset, latent_dim, n_batch, n_code, captions)

    def compile_phase(train_step):
        return run.compile(
            draw,
            train_step,
            state,
            columns=HISTORY,
            draws=5,
        )

    below = None, stage1
    stages = zip(generators, d_models, below, strict=True)
    steps = [define_text_step(pairing)]
    steps += [define_train_step(g, d, text_encoder, low) for g, d, low in stages]
    steps = Phases([compile_phase(train_step) for train_step in steps], plan)
    sample = define_sample(g_model, latent_dim, captions=captions)

    def sample_enlarged(n, rng, labels):
        return enlarge(sample(n, rng, labels, stage=1))

    share = run.settings.stage1_share
    n_steps = run.fit(
        n_steps,
        steps,
        sample,
        plan()[2],
        lambda step: 1 + share * (STAGE1_COST - 1),
    )
    run.make(
        steps,
        dataset,
        # until stage II has made a step, stage I's images are measured
        lambda step: run.summarize(
            step, sample if step > plan()[2] else sample_enlarged
        ),
        describe=describe_step,
        n_steps=n_steps,
        n_batch=n_batch,
    )
    models = {"g": g_model, "text": text_encoder}
    for i, pair in enumerate(zip(generators, d_models, strict=True), 1):
        models |= {f"{name}{i}": model for name, model in zip("gd", pair, strict=True)}
    return run.conclude(
        n_steps, models, lambda: measure_captions(sample, enlarge, captions, run)
    )


def describe_step(figures):
    """Return the text of a step's figures."""
    text_loss, d_loss_real, d_loss_wrong, d_loss_fake, g_loss, kl = figures
    if text_loss:
        return f"text[{text_loss:.3f}]"
    d_losses = f"d[{d_loss_real:.3f},{d_loss_wrong:.3f},{d_loss_fake:.3f}]"
    return f"{d_losses}, g[{g_loss:.3f}], kl[{kl:.3f}]"


def define_models(settings, image_shape, n_classes, *, captions):
    """Return the stack, its two discriminators and the encoders, as train takes them.

    captions: the Captions, of which the number of words counts.
    """
    width, n_text = settings.width, scaled(N_TEXT, settings.width)
    height, columns, channels = image_shape
    low_shape = height // 2, columns // 2, channels
    text_encoder = define_text_encoder(captions.n_words, captions.length, n_text)
    g_model = define_generator(
        settings.latent_dim, n_text, image_shape=low_shape, width=width
    )
    g2_model = define_stage2_generator(n_text, image_shape=image_shape, width=width)
    d_models = [
        define_discriminator(shape, n_text, n=n, width=width)
        for shape, n in ((low_shape, 2), (image_shape, 3))
    ]
    return (
        define_stack(text_encoder, g_model, g2_model, captions.length),
        d_models,
        define_pairing(
            text_encoder, define_image_encoder(image_shape, n_text, width=width)
        ),
    )


def load(settings):
    """Return the Data that the settings name, and its Captions."""
    kind = choose_kind(settings.captions, settings.data)
    if kind != "files":
        data = load_labelled_images(settings, multiple=8)
        return data, caption_classes(data, kind)
    data, captions = load_captioned_folder(settings.data, settings.image_size)
    check_batch(settings.batch, len(data.train[0]), 1)
    return pad_data(data, 8), captions


def start(settings):
    """Train as the settings say, or draw from a run."""
    said, draw_sheets = settings.say, None
    if settings.sample is None:
        data, captions = load(settings)
    else:
        folder = Path(settings.sample)
        *_, border = read_description(folder, NAME)
        data, captions = None, read_captions(folder)
    if said is not None:
        captions.check([said], "--say")
        draw_sheets = partial(
            draw_stages,
            captions=captions,
            said=said,
            n=min(settings.n, LARGEST_SHEET // 2),
            border=border,
        )
    start_run(
        NAME,
        settings,
        partial(define_models, captions=captions),
        partial(define_sample, captions=captions, said=said),
        partial(train, captions=captions),
        load=lambda settings: data,
        draw_sheets=draw_sheets,
        by_class=captions.kind != "files",
        described={"captions": shorten(captions.plain)},
    )


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
