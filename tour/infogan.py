"""InfoGAN: information maximising GAN (Chen et al. 2016).

    python tour/infogan.py                          # 5,000 steps on MNIST, into runs/
    python tour/infogan.py --minutes 3 --seed 1
    python tour/infogan.py --data FOLDER --codes 5  # images of your own
    python tour/infogan.py --sample runs/FOLDER     # draw from a run, vary its codes
    python tour/infogan.py --sample runs/FOLDER --classes 3 7  # values of c1

What the article says of it, and where it is here:
INFO-1 the latent space gets structure, its variables meaning: mutual_information,
    which d with q and g maximise in define_train_step.
INFO-2 on MNIST ideally a discrete variable for the digit and two continuous ones for
    angle and thickness, found without labels: draw_codes; measure_codes tells whether.
INFO-3 the point is split in noise z and codes c: define_generator's two inputs.
INFO-4 the codes control what is seen in the image: vary_codes, a sheet of --sample.

Sizes and rates are those of the authors' code for MNIST. Which value stands for which
digit, and which code for which property, differs from run to run.
"""

import sys
from dataclasses import dataclass

import metrics
import numpy as np
from common import ClassSettings, GanRun, generate, scaled
from sampling import start_run

from gankit.backend import keras, layers, tf
from gankit.command import run_script
from gankit.data.images import scale_images
from gankit.models.classify import batch_size
from gankit.training.batches import define_take, update
from gankit.training.settings import option

NAME = "infogan"
HISTORY = ("d_loss_real", "d_loss_fake", "g_loss", "information", "continuous_loss")
# of c, continuous codes: c2 and c3
N_CONTINUOUS = 2


@dataclass(kw_only=True)
class Settings(ClassSettings):
    """Train an information maximising GAN on MNIST, or on images of your own."""

    latent_dim: int = option(62, "size of the noise z", least=1)
    codes: int = option(10, "values of the categorical code c1", least=2, most=1000)
    classes: list[str] | None = option(
        None,
        "values of c1 that --sample draws (default: all)",
        metavar="VALUE",
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


def define_optimizer(rate):
    return keras.optimizers.Adam(rate, beta_1=0.5)


def define_generator(latent_dim=62, n_codes=10, *, image_shape=(28, 28, 1), width=1.0):
    """Return the generator, compiled: z and c -> (n, *image_shape) in [0, 1].

    z: (n, latent_dim), the noise; c: (n, n_codes + 2), the codes as draw_codes makes
    them. image_shape: height and width must be multiples of 4. width: factor on maps
    and units.
    """
    rows, columns, channels = image_shape[0] // 4, image_shape[1] // 4, image_shape[2]
    n_first, n_second = scaled(128, width), scaled(64, width)
    in_lat = keras.Input(shape=(latent_dim,))
    in_codes = keras.Input(shape=(n_codes + N_CONTINUOUS,))
    gen = layers.Concatenate()([in_lat, in_codes])
    for units in (scaled(1024, width), rows * columns * n_first):
        gen = layers.Dense(units, use_bias=False, kernel_initializer=start_weights())(
            gen
        )
        gen = layers.ReLU()(normalize()(gen))
    gen = layers.Reshape((rows, columns, n_first))(gen)
    # fractionally strided: 7x7 -> 14x14 -> 28x28
    gen = layers.Conv2DTranspose(
        n_second,
        (4, 4),
        strides=(2, 2),
        padding="same",
        use_bias=False,
        kernel_initializer=start_weights(),
    )(gen)
    gen = layers.ReLU()(normalize()(gen))
    gen = layers.Conv2DTranspose(
        channels,
        (4, 4),
        strides=(2, 2),
        padding="same",
        kernel_initializer=start_weights(),
    )(gen)
    out_layer = layers.Activation("sigmoid", dtype="float32")(gen)
    model = keras.Model([in_lat, in_codes], out_layer)
    model.compile(optimizer=define_optimizer(1e-3))
    return model


def define_discriminator(image_shape=(28, 28, 1), n_codes=10, *, width=1.0):
    """Return d_model and q_model, which have all layers but the last in common.

    d_model: images in [0, 1] -> (n, 1), the logit of 'real'. q_model: images -> logits
    of c1, (n, n_codes), and means of c2 and c3, (n, 2). join compiles the two.

    The sigmoid is in the loss, where it keeps its gradient however sure d is.
    """
    in_image = keras.Input(shape=image_shape)
    dis = layers.Conv2D(
        scaled(64, width),
        (4, 4),
        strides=(2, 2),
        padding="same",
        kernel_initializer=start_weights(),
    )(in_image)
    dis = layers.LeakyReLU(negative_slope=0.1)(dis)
    dis = layers.Conv2D(
        scaled(128, width),
        (4, 4),
        strides=(2, 2),
        padding="same",
        use_bias=False,
        kernel_initializer=start_weights(),
    )(dis)
    dis = layers.LeakyReLU(negative_slope=0.1)(normalize()(dis))
    dis = layers.Flatten()(dis)
    dis = layers.Dense(
        scaled(1024, width), use_bias=False, kernel_initializer=start_weights()
    )(dis)
    dis = layers.LeakyReLU(negative_slope=0.1)(normalize()(dis))
    out_layer = layers.Dense(1, kernel_initializer=start_weights(), dtype="float32")(
        dis
    )
    rec = layers.Dense(
        scaled(128, width), use_bias=False, kernel_initializer=start_weights()
    )(dis)
    rec = layers.LeakyReLU(negative_slope=0.1)(normalize()(rec))
    # the authors' last two outputs, deviations of c2 and c3, are unused: these are 1
    rec = layers.Dense(
        n_codes + 2 * N_CONTINUOUS, kernel_initializer=start_weights(), dtype="float32"
    )(rec)
    logits, means = rec[:, :n_codes], rec[:, n_codes : n_codes + N_CONTINUOUS]
    return keras.Model(in_image, out_layer), keras.Model(in_image, [logits, means])


def join(d_model, q_model):
    """Return d and q as one network, compiled: images -> (d's logit, *q's outputs).

    What they have in common is computed once, and one optimizer moves all of it.
    """
    model = keras.Model(d_model.input, [d_model.output, *q_model.outputs])
    model.compile(optimizer=define_optimizer(2e-4))
    return model


def draw_codes(draws, n, n_codes):
    """Return n random codes, float32 (n, n_codes + 2).

    First c1, one of n_codes values, as a one-hot vector; then c2 and c3, uniform in
    [-1, 1].
    """
    c1 = tf.one_hot(draws.indices(n, n_codes), n_codes)
    return tf.concat([c1, draws.uniform((n, N_CONTINUOUS), -1.0, 1.0)], axis=1)


def mutual_information(logits, means, codes):
    """Return lower bounds of what an image tells of its codes, two numbers in nats.

    The first is c1's, at most log(n_codes): its entropy less q's cross-entropy. The
    second, of c2 and c3, leaves out what no weight changes: q being a normal
    distribution of deviation 1, it is less half the squared error, so 0 at most.
    """
    n_codes = logits.shape[1]
    c1, continuous = codes[:, :n_codes], codes[:, n_codes:]
    surprise = tf.nn.softmax_cross_entropy_with_logits(c1, logits)
    errors = tf.reduce_sum(tf.square(continuous - means), axis=1) / 2
    return float(np.log(n_codes)) - tf.reduce_mean(surprise), -tf.reduce_mean(errors)


def define_draw(dataset, latent_dim, n_codes, n_batch):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as uint8 or float32 in [-1, 1]. draws: a training.batches.Draws.
    It returns n_batch real images in [0, 1], and as many points of noise, uniform in
    [-1, 1], and codes.
    """
    take_real = define_take(dataset[0])

    def draw(draws):
        X_real = take_real(draws.indices(n_batch, len(dataset[0])))
        z = draws.uniform((n_batch, latent_dim), -1.0, 1.0)
        return (X_real + 1) / 2, z, draw_codes(draws, n_batch, n_codes)

    return draw


def define_train_step(g_model, network):
    """Return train_step(step, *batch), the two updates of a training step.

    network: what join returned. batch: what define_draw's draw returns. It returns the
    figures that HISTORY names.
    Real and generated images are batches of their own, each with its own statistics.
    """
    binary_loss = keras.losses.BinaryCrossentropy(from_logits=True)

    def loss_of(X, target):
        logits, *answers = network(X, training=True)
        return binary_loss(tf.fill(tf.shape(logits), target), logits), answers

    network.optimizer.build(network.trainable_variables)
    g_model.optimizer.build(g_model.trainable_variables)

    def train_step(step, X_real, z, codes):
        with tf.GradientTape() as g_tape:
            X_fake = g_model([z, codes], training=True)

        # (1) Update d with q: minimise -log D(x) - log(1 - D(G(z, c))) - I(c, G(z, c))
        with tf.GradientTape() as tape:
            d_loss_real, _ = loss_of(X_real, 1.0)
            d_loss_fake, answers = loss_of(X_fake, 0.0)
            of_c1, of_others = mutual_information(*answers, codes)
            d_loss = d_loss_real + d_loss_fake - (of_c1 + of_others)
        update(network, network.optimizer, tape, d_loss)

        # (2) Update g alone: minimise -log D(G(z, c)) - I(c, G(z, c))
        with g_tape:
            g_loss, answers = loss_of(X_fake, 1.0)
            information = sum(mutual_information(*answers, codes))
            g_objective = g_loss - information
        update(g_model, g_model.optimizer, g_tape, g_objective)

        return d_loss_real, d_loss_fake, g_loss, of_c1, -of_others

    return train_step


def count_codes(g_model):
    """Return how many values the generator's c1 has."""
    return g_model.input_shape[1][1] - N_CONTINUOUS


def draw_points(rng, c1, latent_dim, n_codes):
    """Return noise and codes as define_draw's, of a numpy Generator; c1: int (n,)."""
    z = rng.uniform(-1, 1, (len(c1), latent_dim)).astype(np.float32)
    codes = [np.eye(n_codes)[c1], rng.uniform(-1, 1, (len(c1), N_CONTINUOUS))]
    return z, np.concatenate(codes, axis=1).astype(np.float32)


def define_sample(g_model, latent_dim):
    """Return sample(n, rng, labels) -> n generated images, uint8 (n, h, w, c).

    rng: a numpy Generator. labels: the values of c1, int (n,).
    """

    def sample(n, rng, labels):
        points = draw_points(rng, labels, latent_dim, count_codes(g_model))
        return generate(g_model, *points, lowest=0.0)

    return sample


def vary_codes(g_model, latent_dim, rng, n_values=10):
    """Return the paper's figure as {file name: (images, how many in a row)}.

    The same noise everywhere; a row for each value of c1, in which first c2 and then
    c3 goes from -1 to 1 in n_values images, the other one being 0. (The paper goes
    from -2 to 2, beyond what it trains with.)
    """
    n_codes, in_a_row = count_codes(g_model), N_CONTINUOUS * n_values
    c1 = np.repeat(np.arange(n_codes), in_a_row)
    z, codes = draw_points(rng, c1, latent_dim, n_codes)
    rising = np.linspace(-1, 1, n_values)[:, np.newaxis]
    row = np.kron(np.eye(N_CONTINUOUS), rising)
    codes[:, n_codes:] = np.tile(row, (n_codes, 1))
    images = generate(g_model, np.repeat(z[:1], len(c1), axis=0), codes, lowest=0.0)
    return {"codes.png": (images, in_a_row)}


def read_codes(q_model, X):
    """Return q's answers to images, float32: logits of c1 and means of c2 and c3.

    X: uint8 (n, h, w, c).
    """
    n_batch = batch_size(*X.shape[1:3])
    parts = [
        q_model.predict_on_batch((scale_images(X[first : first + n_batch]) + 1) / 2)
        for first in range(0, len(X), n_batch)
    ]
    logits, means = zip(*parts, strict=True)
    return np.concatenate(logits), np.concatenate(means)


def measure_codes(g_model, q_model, dataset, latent_dim, run):
    """Return what the codes turned out to mean, a dict.

    Of generated images: information, the bound of c1 in nats, and rank correlations of
    c2 and c3 with slant and thickness. code_error: the percentage of real test images
    whose c1, as q reads it, stands for another class, where values are matched with
    classes on 10,000 training images; left out where one of them has no labels.
    """
    n_codes, c1 = count_codes(g_model), run.classes(run.count_measured())
    z, codes = draw_points(run.rng_of(1), c1, latent_dim, n_codes)
    images = generate(g_model, z, codes, lowest=0.0)
    information, _ = mutual_information(*read_codes(q_model, images), codes)
    found = {"information": float(information)}
    for name, measure in (("slant", metrics.slant), ("thickness", metrics.thickness)):
        measured = measure(images)
        each = [metrics.spearman(values, measured) for values in codes.T[n_codes:]]
        found[f"{name}_correlation"] = max(map(abs, each))
        found |= {f"c{i}_{name}": value for i, value in enumerate(each, 2)}
    X, y = dataset
    some = np.random.default_rng(0).permutation(np.flatnonzero(y >= 0))[:10_000]
    X, y, (X_test, y_test) = X[some], y[some], run.test or (None, np.empty(0))
    if len(some) and (y_test >= 0).any():
        c1, c1_test = (read_codes(q_model, x)[0].argmax(axis=1) for x in (X, X_test))
        n_values = max(n_codes, y.max() + 1, y_test.max() + 1)
        mapping = metrics.best_matching(c1, y, n_values)
        found["code_error"] = metrics.matching_error(mapping, c1_test, y_test)
    return found


def train(
    g_model,
    d_model,
    q_model,
    dataset,
    latent_dim=62,
    n_steps=5000,
    n_batch=128,
    *,
    run=None,
):
    """Train the three models on [X, y] and fill a run's folder; return its path.

    X: uint8 (n, h, w, c); y tells afterwards what the codes mean. run:
    a GanRun; None for a new one in runs/. Raises what Run.make does.
    """
    n_codes, network = count_codes(g_model), join(d_model, q_model)
    run = run or GanRun(NAME, Settings(), Settings(codes=n_codes), codes=n_codes)
    sample = define_sample(g_model, latent_dim)
    steps = run.compile(
        define_draw(dataset, latent_dim, n_codes, n_batch),
        define_train_step(g_model, network),
        [g_model, network, g_model.optimizer, network.optimizer],
        columns=HISTORY,
        draws=4,
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
    models = {"g": g_model, "d": d_model, "q": q_model}
    return run.conclude(
        n_steps,
        models,
        lambda: measure_codes(g_model, q_model, dataset, latent_dim, run),
    )


def describe_step(figures):
    """Return the text of a step's figures."""
    d_loss_real, d_loss_fake, g_loss, *of_codes = figures
    codes = ",".join(f"{figure:.3f}" for figure in of_codes)
    return f"d[{d_loss_real:.3f},{d_loss_fake:.3f}], g[{g_loss:.3f}], c[{codes}]"


def define_models(settings, image_shape, n_classes):
    """Return g_model, d_model and q_model for a run with these settings."""
    n_codes, width = settings.codes, settings.width
    return (
        define_generator(
            settings.latent_dim, n_codes, image_shape=image_shape, width=width
        ),
        *define_discriminator(image_shape, n_codes, width=width),
    )


def start(settings):
    """Train as the settings say, or draw from a run."""
    start_run(
        NAME,
        settings,
        define_models,
        define_sample,
        train,
        draw_sheets=vary_codes,
        codes=settings.codes,
    )


def main(argv=None):
    return run_script(f"{NAME}.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
