"""BigGAN: large scale GAN (Brock, Donahue and Simonyan 2018).

    python tour/biggan.py                         # 5,000 steps on MNIST, into runs/
    python tour/biggan.py --minutes 3 --seed 1
    python tour/biggan.py --width 2 --batch 256   # scaled up
    python tour/biggan.py --data FOLDER           # labelled images of your own
    python tour/biggan.py --sample runs/FOLDER --truncation 0.5 --classes 3 7

What the article says of it, and where it is here:
BIG-1 images become better by scaling up a class-conditional GAN that is known:
    --width and --batch, which change nothing else.
BIG-2 the paper's have 2 to 4 times the parameters and 8 times the batch of those
    before: width 2 has nearly 4 times the parameters, batch 512 is 8 times the default.
BIG-3 the architecture is a collection of best practices; the lines that have them
    say from whom each comes.
BIG-4 the truncation trick: trained on z ~ N(0, I), the generator is given a z whose
    values are drawn again where they are outside a range: truncated_normal.
"""

import sys
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from common import (
    ClassSettings,
    GanRun,
    generate,
    load_labelled_images,
    scaled,
)
from figures import measure_classes, measure_truncation
from sampling import start_run

from gankit.backend import LazyModule, keras, layers, tf
from gankit.command import InputError, run_script
from gankit.models.classify import batch_size
from gankit.training.batches import define_take, update
from gankit.training.fast_adam import accelerate_adam
from gankit.training.settings import option

special = LazyModule("scipy.special")

NAME = "biggan"
HISTORY = ("d_loss_real", "d_loss_fake", "g_loss", "penalty")
N_UPDATES = 2  # of d in a step
PENALTY = 1e-4
# of Adam, as in the authors' script for CIFAR-10, 32x32 pixels; the paper's 5e-5 for g
# goes with batches of 2,048 (d learns faster than g: Heusel et al. 2017)
G_RATE, D_RATE = 2e-4, 2e-4
# of the generator that is sampled: from which step on it is an average, and of how many
START, DECAY = 1000, 0.999
N_BLOCKS = 3
# batches whose mean statistics are those of sampling, and their size
N_STANDING, STANDING_BATCH = 16, 64


def check_truncation(threshold):
    """Raise InputError for a --truncation that no number can be drawn by."""
    if not 1e-3 <= threshold <= 100:
        raise InputError(f"--truncation {threshold:g}: must be from 0.001 to 100")


@dataclass(kw_only=True)
class Settings(ClassSettings):
    """Train BigGAN on MNIST, or on labelled images of your own."""

    asked = (*ClassSettings.asked, "truncation")

    batch: int = option(64, "images a batch")
    latent_dim: int = option(
        80,
        "size of a latent point; a quarter of it goes to the first layer and to each "
        "block",
        least=N_BLOCKS + 1,
    )
    g_rate: float = option(
        G_RATE, "the generator's rate of learning", least=1e-9, most=1, older=5e-5
    )
    truncation: float | None = option(
        None,
        "draw values of latent points again that are further from 0 than this: less "
        "variety, better images",
        check=check_truncation,
        metavar="T",
        saved=False,
    )


# ---------------------------------------------------------------- layers


@cache
def spectral_layers():
    """Return the classes SpectralConv2D, SpectralDense and SpectralEmbedding.

    Keras's own layers, but for their kernel, which is divided by an estimate of its
    largest singular value (Miyato et al. 2018; of both networks, Zhang et al. 2018).
    """

    class Spectral:
        """The kernel as a matrix W, (the others, outputs), divided by sigma = |W u|.

        u, float32 (outputs,), a variable of length 1, comes nearer to the right
        singular vector with each `iterate`, the one way to move it: a forward pass
        moves nothing. With u held, the gradient of |W u| is v u', v = W u / |W u|, as
        the paper has it: of the loss by W it has no part along W itself.
        """

        def add_weight(self, *args, name=None, **others):
            # the kernel is divided in float32, then cast
            return super().add_weight(
                *args, name=name, autocast=name != "kernel", **others
            )

        def build(self, input_shape):
            super().build(input_shape)
            self.u = super().add_weight(
                name="u",
                shape=(self.raw_kernel.shape[-1],),
                initializer=unit_vector,
                trainable=False,
                autocast=False,
            )

        @property
        def raw_kernel(self):
            return super().kernel

        @property
        def kernel(self):
            kernel = tf.convert_to_tensor(self.raw_kernel)
            return tf.cast(kernel / self.sigma(), self.compute_dtype)

        def sigma(self):
            return tf.norm(tf.linalg.matvec(as_matrix(self.raw_kernel), self.u))

        def iterate(self):
            """Move u by one step of the power iteration."""
            matrix = as_matrix(self.raw_kernel)
            onto = tf.linalg.matvec(matrix, self.u)
            back = tf.linalg.matvec(matrix, onto, transpose_a=True)
            self.u.assign(tf.math.l2_normalize(back, epsilon=1e-24))

    class SpectralConv2D(Spectral, layers.Conv2D):
        pass

    class SpectralDense(Spectral, layers.Dense):
        pass

    class SpectralEmbedding(SpectralDense):
        """One row of the kernel for each class; it takes classes one-hot."""

        def __init__(self, *args, **others):
            super().__init__(*args, use_bias=False, **others)

    return SpectralConv2D, SpectralDense, SpectralEmbedding


def unit_vector(shape, dtype=None):
    return keras.ops.normalize(keras.random.normal(shape, dtype=dtype))


def as_matrix(kernel):
    """Return a kernel, (..., outputs), as a matrix (the others, outputs)."""
    kernel = tf.convert_to_tensor(kernel)
    return tf.reshape(kernel, (-1, kernel.shape[-1]))


def iterate(model):
    """Move the u of each spectral layer of a model: once in each update of it."""
    for layer in model.layers:
        if isinstance(layer, spectral_layers()[:2]):
            layer.iterate()


def orthogonal_penalty(kernel):
    """Return how far a kernel's filters are from orthogonal, whatever their length.

    The squares of all inner products of two different filters, summed (Brock et al.
    2017, without the diagonal).
    """
    matrix = as_matrix(kernel)
    lengths = tf.reduce_sum(tf.square(matrix), axis=0)
    # those of W W' have the same sum of squares as those of W' W: the smaller is taken
    n_rows, n_filters = matrix.shape
    few = n_rows < n_filters
    products = tf.matmul(matrix, matrix, transpose_a=not few, transpose_b=few)
    return tf.reduce_sum(tf.square(products)) - tf.reduce_sum(tf.square(lengths))


def define_class_norm(x, condition, dense, name):
    """Return batch normalisation whose gain and offset follow from a condition.

    x: (n, h, w, c); condition: (n, d). dense: the class of its two layers, whose names
    begin with `name`. As Dumoulin et al. 2017 and de Vries et al. 2017 have it; that it
    is the embedding of the class which all layers share, rather than one of each, is
    from Perez et al. 2018.
    """
    channels = x.shape[-1]
    x = layers.BatchNormalization(center=False, scale=False, epsilon=1e-5)(x)
    gain, offset = (
        layers.Reshape((1, 1, channels))(
            dense(
                channels,
                use_bias=False,
                kernel_initializer="orthogonal",
                name=f"{name}_{part}",
            )(condition)
        )
        for part in ("gain", "offset")
    )
    # 1 + gain
    gain = layers.Rescaling(1.0, offset=1.0)(gain)
    return layers.Add()([layers.Multiply()([x, gain]), offset])


# ---------------------------------------------------------------- networks


def define_optimizer(rate):
    return keras.optimizers.Adam(rate, beta_1=0.0, beta_2=0.999, epsilon=1e-8)


def define_generator(
    latent_dim=80,
    n_classes=10,
    *,
    image_shape=(32, 32, 1),
    width=1.0,
    rate=G_RATE,
    spectral=True,
):
    """Return the generator, compiled: [z, y] -> (n, *image_shape) in [-1, 1].

    z: (n, latent_dim); y: (n, n_classes), one-hot; mixtures of classes are taken, too.
    image_shape: height and width must be multiples of 8. width: factor on the maps.
    rate: of its optimizer. spectral: False for Keras's own layers in the place of
    spectral ones. The paper starts at 4x4x1536 for 128x128 pixels; here 4x4x64 for
    32x32.
    """
    rows, columns, channels = image_shape[0] // 8, image_shape[1] // 8, image_shape[2]
    first, *others = (scaled(n, width) for n in (64, 64, 32, 16))
    convolution, dense, _ = spectral_layers()
    if not spectral:
        convolution, dense = layers.Conv2D, layers.Dense

    def convolve(x, n_maps, size=3):
        return convolution(
            n_maps, size, padding="same", kernel_initializer="orthogonal"
        )(x)

    in_lat = keras.Input(shape=(latent_dim,))
    in_label = keras.Input(shape=(n_classes,))
    # not spectral: the authors found that it cripples the generator
    embedding = layers.Dense(
        scaled(32, width), use_bias=False, kernel_initializer="orthogonal"
    )(in_label)
    # hierarchical: each block gets a part of z of its own, with the class
    ends = np.linspace(0, latent_dim, N_BLOCKS + 2).astype(int).tolist()
    points = layers.Reshape((latent_dim, 1))(in_lat)
    start, *chunks = (
        layers.Flatten()(layers.Cropping1D((begin, latent_dim - end))(points))
        for begin, end in zip(ends[:-1], ends[1:], strict=True)
    )
    gen = dense(rows * columns * first, kernel_initializer="orthogonal")(start)
    gen = layers.Reshape((rows, columns, first))(gen)
    # residual blocks, 4x4 -> 8x8 -> 16x16 -> 32x32: He et al. 2016, Miyato et al. 2018
    for i, (n_maps, chunk) in enumerate(zip(others, chunks, strict=True)):
        # TensorFlow sums gradients in the order of names: Keras's own would differ from
        # one network to the next, and with them the last bits
        names = [f"block{i}_{part}" for part in ("condition", "norm0", "norm1")]
        condition = layers.Concatenate(name=names[0])([embedding, chunk])
        # enlarging after a 1x1 convolution is the same, at a quarter of the work
        shortcut = layers.UpSampling2D()(convolve(gen, n_maps, 1))
        gen = layers.ReLU()(define_class_norm(gen, condition, dense, names[1]))
        gen = convolve(layers.UpSampling2D()(gen), n_maps)
        gen = layers.ReLU()(define_class_norm(gen, condition, dense, names[2]))
        gen = layers.Add()([convolve(gen, n_maps), shortcut])
    gen = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5)(gen))
    out_layer = layers.Activation("tanh", dtype="float32")(convolve(gen, channels))
    model = keras.Model([in_lat, in_label], out_layer)
    model.compile(optimizer=define_optimizer(rate))
    return model


def define_discriminator(image_shape=(32, 32, 1), n_classes=10, *, width=1.0):
    """Return the discriminator, compiled: [images, y] -> (n, 1), more for real ones.

    y: (n, n_classes), one-hot.
    """
    convolution, dense, embed = spectral_layers()

    def convolve(x, n_maps, size=3):
        return convolution(
            n_maps, size, padding="same", kernel_initializer="orthogonal"
        )(x)

    in_image = keras.Input(shape=image_shape)
    in_label = keras.Input(shape=(n_classes,))
    dis = in_image
    for i, n_maps in enumerate(scaled(n, width) for n in (16, 32, 64, 64)):
        shrink = layers.AveragePooling2D(2) if i < N_BLOCKS else layers.Identity()
        shortcut = shrink(dis)
        if dis.shape[-1] != n_maps:
            shortcut = convolve(shortcut, n_maps, 1)
        # the image itself gets no ReLU
        dis = convolve(layers.ReLU()(dis) if i else dis, n_maps)
        dis = shrink(convolve(layers.ReLU()(dis), n_maps))
        dis = layers.Add()([dis, shortcut])
    dis = layers.Activation("relu", dtype="float32")(dis)
    features = keras.ops.sum(dis, axis=(1, 2))
    real = dense(1, kernel_initializer="orthogonal", dtype="float32")(features)
    # projection: the inner product with the class's embedding, Miyato and Koyama 2018
    embedding = embed(
        features.shape[-1], kernel_initializer="orthogonal", dtype="float32"
    )(in_label)
    projection = layers.Dot(axes=1, dtype="float32")([embedding, features])
    out_layer = layers.Add(dtype="float32")([real, projection])
    model = keras.Model([in_image, in_label], out_layer)
    model.compile(optimizer=define_optimizer(D_RATE))
    return model


# ---------------------------------------------------------------- training


def define_draw(dataset, latent_dim, n_batch, n_classes):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as uint8 or float32 in [-1, 1]. draws: a training.batches.Draws.
    It returns real images and their labels, one-hot, n_batch for each update of d, and
    latent points, N(0, I), and labels, n_batch for each update of d and of g.
    """
    take_real = define_take(dataset[0])
    labels = tf.constant(dataset[1], tf.int32)
    n_real, n_fake = N_UPDATES * n_batch, (N_UPDATES + 1) * n_batch

    def draw(draws):
        chosen = draws.indices(n_real, len(dataset[0]))
        y_real = tf.one_hot(tf.gather(labels, chosen), n_classes)
        # never truncated
        z = draws.points(n_fake, latent_dim)
        y_fake = tf.one_hot(draws.indices(n_fake, n_classes), n_classes)
        return take_real(chosen), y_real, z, y_fake

    return draw


# the hinge loss: Lim and Ye 2017, Tran et al. 2017


def hinge_d_loss(real, fake):
    """Return d's losses of its answers to real and to generated images, (n, 1)."""
    return tf.reduce_mean(tf.nn.relu(1.0 - real)), tf.reduce_mean(
        tf.nn.relu(1.0 + fake)
    )


def hinge_g_loss(fake):
    return -tf.reduce_mean(fake)


def define_train_step(average, g_model, d_model):
    """Return train_step(step, *batch), the three updates of a training step.

    batch: what define_draw's draw returns. It returns the figures that HISTORY names,
    d's the means over its updates. average: the generator that is sampled, whose
    weights follow g_model's (Karras et al. 2017).
    """
    for model in (d_model, g_model):
        model.optimizer.build(model.trainable_variables)
        accelerate_adam(model.optimizer)
    kernels = [
        layer.raw_kernel
        for layer in g_model.layers
        if isinstance(layer, spectral_layers()[:2])
    ]

    def update_d(X_real, y_real, z, y_fake):
        X_fake = g_model([z, y_fake], training=True)
        # d has no statistics of a batch: real and generated images can be in one
        X, y = tf.concat([X_real, X_fake], 0), tf.concat([y_real, y_fake], 0)
        iterate(d_model)
        with tf.GradientTape() as tape:
            real, fake = tf.split(d_model([X, y], training=True), 2)
            losses = hinge_d_loss(real, fake)
            d_loss = sum(losses)
        update(d_model, d_model.optimizer, tape, d_loss)
        return losses

    def update_g(z, y_fake):
        iterate(g_model)
        with tf.GradientTape() as tape:
            fake = d_model([g_model([z, y_fake], training=True), y_fake], training=True)
            g_loss = hinge_g_loss(fake)
            penalty = PENALTY * sum(map(orthogonal_penalty, kernels))
            objective = g_loss + penalty
        update(g_model, g_model.optimizer, tape, objective)
        return g_loss, penalty

    def train_step(step, X_real, y_real, z, y_fake):
        real = [tf.split(tensor, N_UPDATES) for tensor in (X_real, y_real)]
        fake = [tf.split(tensor, N_UPDATES + 1) for tensor in (z, y_fake)]
        # (1) Update d twice, each time by images of its own
        d_losses = [
            update_d(*(parts[i] for parts in (*real, *fake))) for i in range(N_UPDATES)
        ]
        # (2) Update g alone
        g_losses = update_g(*(parts[-1] for parts in fake))
        # (3) Let the average follow
        follow(average, g_model, tf.where(step < START, 0.0, DECAY))
        d_means = (
            tf.add_n(losses) / N_UPDATES for losses in zip(*d_losses, strict=True)
        )
        return *d_means, *g_losses

    return train_step


def follow(average, g_model, decay):
    """Move the weights of `average` towards g_model's; decay: the part that stays.

    What isn't trained, as u, is copied.
    """
    for kept, new in zip(average.variables, g_model.variables, strict=True):
        moved = new.value
        if kept.trainable:
            moved = decay * kept + (1.0 - decay) * moved
        kept.assign(moved)


# ---------------------------------------------------------------- sampling


def truncated_normal(rng, shape, threshold=None):
    """Return normal numbers, float32, those drawn again that are beyond ±threshold.

    They are not drawn again and again, which takes the longer the less the threshold
    is, but have the distribution that this leads to: the normal one's inverse, of
    numbers that are uniform between those of the thresholds. None truncates nothing.
    rng: a numpy Generator.
    """
    if threshold is None:
        return rng.standard_normal(shape, dtype=np.float32)
    least, most = special.ndtr([-threshold, threshold])
    found = special.ndtri(least + (most - least) * rng.random(shape))
    return np.clip(found, -threshold, threshold).astype(np.float32)


def define_standing(g_model, latent_dim):
    """Return set_statistics(truncation), of g_model's batch normalisation for sampling.

    They are the means of those of N_STANDING batches in training's manner, of points
    that are always the same, truncated as those sampled.
    """
    kind = layers.BatchNormalization
    norms = [layer for layer in g_model.layers if isinstance(layer, kind)]
    network = keras.Model(g_model.inputs, [norm.input for norm in norms])
    n_classes = g_model.input_shape[1][1]
    n = min(STANDING_BATCH, batch_size(*g_model.output_shape[1:3]))

    @tf.function(autograph=False)
    def moments_of(z, y):
        maps = network([z, y], training=True)
        return [tf.nn.moments(tf.cast(x, tf.float32), (0, 1, 2)) for x in maps]

    def set_statistics(truncation=None):
        rng = np.random.default_rng(0)
        found = []
        for _ in range(N_STANDING):
            z = truncated_normal(rng, (n, latent_dim), truncation)
            y = np.eye(n_classes, dtype=np.float32)[rng.integers(n_classes, size=n)]
            found.append(moments_of(tf.constant(z), tf.constant(y)))
        for norm, moments in zip(norms, zip(*found, strict=True), strict=True):
            mean, variance = np.mean(moments, axis=0)
            norm.moving_mean.assign(mean)
            norm.moving_variance.assign(variance)

    return set_statistics


def define_sample(g_model, latent_dim, truncation=None):
    """Return sample(n, rng, labels) -> n generated images, uint8 (n, h, w, c).

    rng: a numpy Generator. labels: int (n,), the classes asked for. truncation: the
    threshold of latent points, which sample takes, too.
    """
    n_classes = g_model.input_shape[1][1]
    set_statistics = define_standing(g_model, latent_dim)

    def sample(n, rng, labels, truncation=truncation):
        set_statistics(truncation)
        z = truncated_normal(rng, (n, latent_dim), truncation)
        return generate(g_model, z, np.eye(n_classes, dtype=np.float32)[labels])

    return sample


def define_plain(g_model, latent_dim, width=1.0):
    """Return a generator like g_model of Keras's own layers, which any Keras loads.

    Its kernels are the divided ones, its statistics those for sampling without
    truncation.
    """
    define_standing(g_model, latent_dim)()
    plain = define_generator(
        latent_dim,
        g_model.input_shape[1][1],
        image_shape=g_model.output_shape[1:],
        width=width,
        spectral=False,
    )
    for layer, other in zip(g_model.layers, plain.layers, strict=True):
        weights = layer.get_weights()
        if isinstance(layer, spectral_layers()[:2]):
            kernel, *bias, _ = weights
            weights = [kernel / layer.sigma().numpy(), *bias]
        other.set_weights(weights)
    return plain


def train(
    average,
    g_model,
    d_model,
    dataset,
    latent_dim=80,
    n_steps=5000,
    n_batch=64,
    *,
    run=None,
):
    """Train the models on [X, y] and fill a run's folder; return its path.

    average: a second generator, which follows g_model and is sampled. X: uint8
    (n, h, w, c); y: int (n,), from 0 on. run: a GanRun; None for a new one in runs/.
    Raises what Run.make does.
    """
    run = run or GanRun(NAME, Settings(), by_class=True)
    sample = define_sample(average, latent_dim)
    average.set_weights(g_model.get_weights())
    steps = run.compile(
        define_draw(dataset, latent_dim, n_batch, run.n_classes),
        define_train_step(average, g_model, d_model),
        [average, g_model, d_model, g_model.optimizer, d_model.optimizer],
        columns=HISTORY,
        draws=3,
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

    def figures():
        curve = measure_truncation(lambda t: partial(sample, truncation=t), run)
        return {**measure_classes(sample, dataset, run), **curve}

    models = {"g": define_plain(average, latent_dim, run.settings.width), "d": d_model}
    return run.conclude(n_steps, models, figures)


def describe_step(figures):
    """Return the text of a step's figures."""
    d_loss_real, d_loss_fake, g_loss, penalty = figures
    return f"d[{d_loss_real:.3f},{d_loss_fake:.3f}], g[{g_loss:.3f},{penalty:.4f}]"


def define_models(settings, image_shape, n_classes):
    """Return average, g_model and d_model for a run with these settings."""
    width, latent_dim = settings.width, settings.latent_dim
    options = {"image_shape": image_shape, "width": width, "rate": settings.g_rate}
    generators = (define_generator(latent_dim, n_classes, **options) for _ in range(2))
    return *generators, define_discriminator(image_shape, n_classes, width=width)


def start(settings):
    """Train as the settings say, or draw from a run."""
    start_run(
        NAME,
        settings,
        define_models,
        partial(define_sample, truncation=settings.truncation),
        train,
        load=partial(load_labelled_images, multiple=8),
        by_class=True,
    )


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
