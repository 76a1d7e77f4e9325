"""Train the tuned semi-supervised GAN on MNIST with 100 labelled images.

    python sgan_tuned.py                            # into runs/
    python sgan_tuned.py --labels 20 --seed 1       # fewer labels, and repeatable
    python sgan_tuned.py --budget 5                 # as good as 5 minutes allow
    python sgan_tuned.py --without generator        # leave one ingredient out
    python sgan_tuned.py --resume runs/FOLDER       # go on with an interrupted run

The functions are those of sgan_mnist.py in the same order, but for those that are the
same, which are imported: `diff sgan_mnist.py sgan_tuned.py` shows what changes. Still
one network is classifier and discriminator, its two answers stacked on the same
logits. New are: augmented images; a running average of the classifier, the teacher,
whose answers on unlabelled images the classifier learns to repeat; at first, equal
shares of the classes; a generator that matches features; and a schedule.
"""

import argparse
import sys

import numpy as np

import discriminators
from gankit.backend import keras, layers, tf
from gankit.command import InputError, OneLineParser, run_script
from gankit.data.labels import check_labels, select_labels
from gankit.folders import dated_folder
from gankit.models.classify import count_classes, measure_accuracy
from gankit.training.augmentation import LINES, augment, draw_changes
from gankit.training.batches import define_take, derive_seed, split_in_parts
from gankit.training.budget import check_budget, fit_to_budget, read_n_steps
from gankit.training.devices import choose_jit, count_parts, prepare_tensorflow
from gankit.training.loop import make_run
from gankit.training.run import describe_settings, draw_seed, load_data, open_run
from gankit.training.settings import add_options, keeps_log, resolve_options, verbosity
from gankit.training.tensorboard import EventLog
from helpers import generate_latent_points
from sgan_mnist import check_batch, summarize_performance

HISTORY = (
    "step",
    "c_loss",
    "c_accuracy",
    "consistency",
    "d_loss_real",
    "d_loss_fake",
    "g_loss",
)
# so much of that for what the teacher sees (Sohn et al. 2020, FixMatch)
WEAK = 0.35
# largest weight of the consistency loss, reached after this fraction of the steps
# (Laine and Aila 2017, section 3.1: the ramp exp(-5(1-t)^2))
CONSISTENCY, RAMP = 5.0, 0.5
# weight, at first, of the loss that keeps the classes' shares of a batch's answers
# equal (Arazo et al. 2020, section 3.1); it falls to 0 as consistency's rises
BALANCE = 1.0
# of the teacher's weights, how much stays at each step (Tarvainen and Valpola 2017)
DECAY = 0.995
# weight of d's two unsupervised losses, and of the tutorial's loss in that of g
ADVERSARIAL, G_ADVERSARIAL = 1.0, 0.1
# weight of the squares by which g's pixels, before tanh, exceed this size
SATURATION, LARGEST = 0.02, 2.5
RATE, G_RATE = 3e-3, 1e-3
DROPOUT = 0.3
INGREDIENTS = (
    "generator",
    "consistency",
    "balance",
    "augmentation",
    "lines",
    "averaging",
    "schedule",
)
EVALUATIONS_PER_EPOCH = 3


def define_discriminator(in_shape=(28, 28, 1), n_classes=10):
    """Return d_model, c_model, which share all weights (Salimans et al. 2016).

    d_model gives (n, 1), the probability 'real', and c_model the class probabilities,
    (n, n_classes), both from the same logits. No batch normalisation: real and
    generated images would need statistics of their own.
    """
    in_image = keras.Input(shape=in_shape)
    fe = in_image
    # 28x28 -> 14x14 -> 7x7 -> 3x3 for MNIST
    fe = _convolve(fe, 32, 5, 2)
    fe = _convolve(fe, 64, 3, 1)
    fe = _convolve(fe, 64, 3, 2, name="features")
    fe = _convolve(fe, 128, 3, 1)
    fe = layers.MaxPooling2D()(fe)
    fe = layers.Flatten()(fe)
    fe = layers.Dropout(DROPOUT)(fe)
    fe = layers.Dense(128, kernel_initializer="he_normal")(fe)
    fe = layers.LeakyReLU(negative_slope=0.1)(fe)
    fe = layers.Dropout(DROPOUT)(fe)
    logits = layers.Dense(n_classes, dtype="float32", name="logits")(fe)
    c_out_layer = layers.Activation("softmax", dtype="float32")(logits)
    c_model = keras.Model(in_image, c_out_layer)
    d_out_layer = discriminators.define_custom_activation()(dtype="float32")(logits)
    d_model = keras.Model(in_image, d_out_layer)
    return d_model, c_model


def _convolve(fe, n_maps, size, stride, name=None):
    fe = layers.Conv2D(
        n_maps,
        (size, size),
        strides=(stride, stride),
        padding="same",
        kernel_initializer="he_normal",
    )(fe)
    return layers.LeakyReLU(negative_slope=0.1, name=name)(fe)


def define_generator(latent_dim, *, image_shape=(28, 28, 1)):
    """Return the generator: (n, latent_dim) -> images (n, *image_shape) in [-1, 1].

    Fully connected, with batch normalisation (Salimans et al. 2016, their code for
    MNIST): a tenth of the tutorial's arithmetic.
    """
    in_lat = keras.Input(shape=(latent_dim,))
    gen = in_lat
    for _ in range(2):
        gen = layers.Dense(500)(gen)
        gen = layers.BatchNormalization(scale=False)(gen)
        gen = layers.Activation("softplus")(gen)
    gen = layers.Dense(int(np.prod(image_shape)), name="pixels")(gen)
    gen = layers.Activation("tanh")(gen)
    out_layer = layers.Reshape(image_shape, dtype="float32")(gen)
    return keras.Model(in_lat, out_layer)


def define_gan(g_model, d_model):
    """Return the GAN: latent points and changes of images -> d's logits and features.

    Inputs: z (n, latent_dim), maps (n, 8), thickness (n,), lines (n, 6), see augment.
    Outputs: logits (n, n_classes) and features (n, k) of the generated images so
    changed; the real images are changed likewise (Zhao et al. 2020, Differentiable
    augmentation), or g would have to learn the changes.
    """
    changes = [keras.Input(shape=shape) for shape in ((8,), (), (6,))]
    # places in an image need more than half precision
    images = layers.Lambda(
        lambda inputs: augment(*inputs),
        output_shape=g_model.output_shape[1:],
        dtype="float32",
    )([g_model.output, *changes])
    return keras.Model([*g_model.inputs, *changes], define_network(d_model)(images))


def define_network(d_model):
    """Return d and c in one pass: images -> logits (n, n_classes), features (n, k).

    The features are those maps that still know what is where in the image.
    """
    maps = d_model.get_layer("features").output
    outputs = [d_model.get_layer("logits").output, layers.Flatten()(maps)]
    return keras.Model(d_model.inputs, outputs)


def energy_distance(generated, real):
    """Return the energy distance of two samples, in real ones' mean distances.

    generated: float32 (m, k), real: (n, k). It compares the mean distances between and
    within the samples (Székely and Rizzo 2013; as a GAN's loss: Bellemare et al.
    2017), and is 0 on average where both are of one distribution, not only of one mean.
    """

    def distances(a, b):
        squares = tf.reduce_sum(a**2, 1)[:, None] + tf.reduce_sum(b**2, 1)
        squares -= 2 * tf.matmul(a, b, transpose_b=True)
        # the slope of the root is infinite at 0
        return tf.sqrt(tf.maximum(squares, 0) + 1e-6)

    def within(a):
        n = a.shape[0]
        return tf.reduce_sum(distances(a, a)) / (n * (n - 1))

    between = 2 * tf.reduce_mean(distances(generated, real))
    return (between - within(generated)) / within(real) - 1


def define_train_steps(
    g_model,
    d_model,
    c_model,
    gan_model,
    average_model,
    optimizers,
    dataset,
    supervised,
    latent_dim,
    n_batch,
    seed,
    n_steps,
    *,
    jit=False,
    n_parts=1,
    without=(),
):
    """Return train_steps(first, n), which makes n training steps in one graph.

    average_model: as c_model, whose running average it becomes. optimizers: d's, g's.
    dataset, supervised, jit, n_parts, first, n: as in sgan_mnist.py; n_batch images
    are unlabelled, half as many labelled, a quarter as many generated; g's images
    are compared with real ones pixel by pixel on twice as many of each.
    n_steps: variable, int64, the steps of the whole run, which the schedule spans.
    without: INGREDIENTS to leave out.
    Returns float32 (n, 6): each step's class loss and accuracy on labelled images,
    consistency loss, d loss on real and on generated images, g loss.
    Every random number follows from seed and the step's number.
    """
    n_labelled, n_generated, n_compared = n_batch // 2, n_batch // 4, 2 * n_batch
    d_optimizer, g_optimizer = optimizers
    y_sup = tf.constant(supervised[1])
    take_labelled, take_real = define_take(supervised[0]), define_take(dataset[0])
    dropouts = [layer for layer in d_model.layers if isinstance(layer, layers.Dropout)]
    network = define_network(d_model)
    outputs = [g_model.output, g_model.get_layer("pixels").output]
    drawing = keras.Model(g_model.inputs, outputs)
    d_weights, g_weights = network.trainable_variables, g_model.trainable_variables
    d_optimizer.build(d_weights)
    g_optimizer.build(g_weights)
    dropout_seed = derive_seed(seed)

    def in_parts(network, batch, training):
        """Return network(batch), computed part by part."""
        parts = split_in_parts(batch, n_parts)
        outputs = [network(part, training=training) for part in parts]
        return tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *outputs)

    def flat(images):
        return tf.reshape(images, (images.shape[0], -1))

    def draw(step):
        seeds = [tf.stack([seed, 11 * step + i]) for i in range(11)]
        labelled = tf.random.stateless_uniform(
            (n_labelled,), seeds[0], 0, len(supervised[0]), tf.int32
        )
        unlabelled = tf.random.stateless_uniform(
            (n_batch,), seeds[1], 0, len(dataset[0]), tf.int32
        )
        X_labelled, X_real = take_labelled(labelled), take_real(unlabelled)
        X_teacher = X_real
        full = 0.0, 0.0
        if "augmentation" not in without:
            full = 1.0, 0.0 if "lines" in without else LINES
            X_labelled = augment(X_labelled, *draw_changes(n_labelled, seeds[2], *full))
            X_teacher = augment(X_real, *draw_changes(n_batch, seeds[3], WEAK, 0.0))
            X_real = augment(X_real, *draw_changes(n_batch, seeds[4], *full))
        fake, gan = (
            (
                tf.random.stateless_normal((n_generated, latent_dim), seeds[i]),
                *draw_changes(n_generated, seeds[i + 1], *full),
            )
            for i in (5, 7)
        )
        z = tf.random.stateless_normal((n_compared, latent_dim), seeds[9])
        compared = tf.random.stateless_uniform(
            (n_compared,), seeds[10], 0, len(dataset[0]), tf.int32
        )
        y_labelled = tf.gather(y_sup, labelled)
        compared = z, take_real(compared)
        return X_labelled, y_labelled, X_real, X_teacher, fake, gan, compared

    # XLA has other normal numbers: batches are drawn outside it, the same for both
    @tf.function(jit_compile=jit)
    def train_step(step, X_labelled, y, X_real, X_teacher, fake, gan, compared):
        for i, dropout in enumerate(dropouts):
            number = n_parts * (len(dropouts) * step + i)
            dropout.seed_generator.state.assign(tf.stack([dropout_seed, number]))
        done = tf.cast(step, tf.float32) / tf.cast(n_steps, tf.float32)
        if "schedule" not in without:
            rate = 0.5 * (1 + tf.cos(np.pi * done))
            d_optimizer.learning_rate.assign(RATE * rate)
            g_optimizer.learning_rate.assign(G_RATE * rate)
        ramp = tf.exp(-5 * (1 - tf.minimum(done / RAMP, 1)) ** 2)

        # (1-3) Update c and d, which are one network, by one sum of losses
        p_teacher = in_parts(average_model, X_teacher, False)
        batch, sizes = [X_labelled, X_real], [n_labelled, n_batch]
        if "generator" not in without:
            z, *changes = fake
            batch.append(augment(g_model(z, training=True), *changes))
            sizes.append(n_generated)
        with tf.GradientTape() as tape:
            logits, features = in_parts(network, tf.concat(batch, 0), True)
            logits_labelled, logits_real, *logits_fake = tf.split(logits, sizes)
            # -log p(y|x) on labelled images
            c_loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits_labelled)
            )
            # squared distance of the student's answers from the teacher's
            p_real = tf.nn.softmax(logits_real)
            consistency = tf.reduce_mean(tf.reduce_sum((p_real - p_teacher) ** 2, 1))
            loss = c_loss
            if "consistency" not in without:
                loss += CONSISTENCY * ramp * consistency
            if "balance" not in without:
                # images far from the labelled ones of their class else fall to another
                shares = tf.reduce_mean(p_real, axis=0)
                balance = -tf.reduce_mean(tf.math.log(shares + 1e-7))
                loss += BALANCE * (1 - ramp) * balance
            d_loss_real = d_loss_fake = tf.zeros(())
            if "generator" not in without:
                # with Z = logsumexp(logits): -log D(x) and -log(1 - D(G(z)))
                z_real, z_generated = (
                    tf.reduce_logsumexp(values, axis=1)
                    for values in (logits_real, *logits_fake)
                )
                d_loss_real = tf.reduce_mean(tf.nn.softplus(-z_real))
                d_loss_fake = tf.reduce_mean(tf.nn.softplus(z_generated))
                loss += 0.5 * ADVERSARIAL * (d_loss_real + d_loss_fake)
            scaled = d_optimizer.scale_loss(loss)
        d_gradients = tape.gradient(scaled, d_weights)

        # (4) Update g alone: its images and their features shall be distributed as
        # real ones, and d shall take them for real
        g_loss = tf.zeros(())
        if "generator" not in without:
            real = tf.cast(features[n_labelled : n_labelled + n_batch], tf.float32)
            z, X_compared = compared
            with tf.GradientTape() as tape:
                logits, generated = gan_model(gan, training=True)
                g_loss = energy_distance(tf.cast(generated, tf.float32), real)
                # the features alone let g draw one shape for all latent points
                images, pixels = drawing(z, training=True)
                g_loss += energy_distance(flat(images), flat(X_compared))
                # where tanh is flat a pixel can't be unlearnt, and d knows g by it
                excess = tf.nn.relu(tf.abs(tf.cast(pixels, tf.float32)) - LARGEST)
                g_loss += SATURATION * tf.reduce_mean(excess**2)
                z_generated = tf.reduce_logsumexp(logits, axis=1)
                g_loss += G_ADVERSARIAL * tf.reduce_mean(tf.nn.softplus(-z_generated))
                scaled = g_optimizer.scale_loss(g_loss)
            g_optimizer.apply(tape.gradient(scaled, g_weights), g_weights)
        d_optimizer.apply(d_gradients, d_weights)

        # The teacher: a running average of the weights, short at first
        count = tf.cast(step, tf.float32) + 1
        decay = tf.minimum(DECAY, count / (count + 9))
        if "averaging" in without:
            decay = tf.zeros(())
        for average, weight in zip(
            average_model.trainable_variables, c_model.trainable_variables, strict=True
        ):
            average.assign(weight + decay * (average - weight))

        c_acc = tf.reduce_mean(
            keras.metrics.sparse_categorical_accuracy(y, logits_labelled)
        )
        return tf.stack([c_loss, c_acc, consistency, d_loss_real, d_loss_fake, g_loss])

    @tf.function
    def train_steps(first, n):
        figures = tf.TensorArray(tf.float32, size=n, element_shape=(6,))
        for i in tf.range(n):
            step = first + i
            figures = figures.write(i, train_step(step, *draw(step)))
        return figures.stack()

    return train_steps


def train(
    g_model,
    d_model,
    c_model,
    gan_model,
    dataset,
    latent_dim,
    n_epochs=24,
    n_batch=100,
    *,
    n_labels=100,
    test_dataset=None,
    seed=None,
    out=None,
    budget=None,
    max_steps=None,
    verbose=2,
    file_format="keras",
    options=None,
    resume=False,
    jit=False,
    n_parts=1,
    without=(),
    tensorboard=False,
    class_names=None,
):
    """Train the four models on [X, y] and fill a run's folder; return its path.

    As in sgan_mnist.py, but for: n_batch, without: see define_train_steps.
    budget: minutes of training, to which the number of steps is fitted by timing some
    of them; n_epochs is then left out of account. The classifier that is measured and
    saved is the running average.
    """
    X, y = dataset
    check_quarters(n_batch)
    check_batch(n_batch, len(X))
    bat_per_epo = len(X) // n_batch
    n_steps = bat_per_epo * n_epochs
    if seed is None:
        seed = draw_seed()
    rng = np.random.default_rng(seed)
    n_classes = count_classes(c_model)
    labelled = select_labels(y, n_labels, n_classes, rng, class_names=class_names)
    supervised = [X[labelled], y[labelled]]
    print(supervised[0].shape, supervised[1].shape)
    sheet_points = generate_latent_points(latent_dim, 100, rng)

    average_model = keras.models.clone_model(c_model)
    average_model.set_weights(c_model.get_weights())
    optimizers = [
        keras.optimizers.Adam(RATE),
        keras.optimizers.Adam(G_RATE, beta_1=0.5),
    ]
    if keras.config.dtype_policy().name == "mixed_float16":
        optimizers = list(map(keras.optimizers.LossScaleOptimizer, optimizers))
    steps_in_all = tf.Variable(n_steps, dtype=tf.int64)
    train_steps = define_train_steps(
        g_model,
        d_model,
        c_model,
        gan_model,
        average_model,
        optimizers,
        dataset,
        supervised,
        latent_dim,
        n_batch,
        seed,
        steps_in_all,
        jit=jit,
        n_parts=n_parts,
        without=without,
    )
    state = [*d_model.variables, *average_model.variables, *g_model.variables]
    for optimizer in optimizers:
        state += optimizer.variables
    evaluate_every = -(-bat_per_epo // EVALUATIONS_PER_EPOCH)
    if resume:
        n_steps = read_n_steps(out)
    elif budget is not None:
        n_steps = fit_to_budget(
            budget,
            train_steps,
            state,
            average_model,
            dataset,
            test_dataset,
            evaluate_every,
        )
    steps_in_all.assign(n_steps)
    print(
        f"n_epochs={n_steps / bat_per_epo:.4g}, n_batch={n_batch}, "
        f"1/2={n_batch // 2}, b/e={bat_per_epo}, steps={n_steps}"
    )
    settings = describe_settings(
        options,
        dataset,
        test_dataset,
        labelled,
        seed=seed,
        n_batch=n_batch,
        jit=jit,
        n_parts=n_parts,
        class_names=class_names,
    )
    settings["n_steps"] = n_steps

    def evaluate(step, out):
        last = step in (n_steps, max_steps)
        if step % bat_per_epo and not last:
            if test_dataset is None:
                return ["", "", ""]
            test_acc = measure_accuracy(
                average_model, *test_dataset, n_classes=n_classes
            )
            return ["", f"{test_acc:.3f}", ""]
        return summarize_performance(
            step,
            g_model,
            average_model,
            latent_dim,
            # the whole training set takes a while
            dataset if last else None,
            out=out,
            sheet_points=sheet_points,
            test_dataset=test_dataset,
            supervised=supervised,
            file_format=file_format,
            verbose=verbose,
            class_names=class_names,
        )

    log = None
    if tensorboard:
        log = EventLog(average_model, test_dataset, n_classes, class_names)
    return make_run(
        train_steps,
        state,
        evaluate,
        settings,
        columns=HISTORY,
        describe=describe_step,
        n_steps=n_steps,
        epoch_steps=bat_per_epo,
        evaluate_every=evaluate_every,
        out=out or dated_folder("runs", "sgan_tuned"),
        max_steps=max_steps,
        verbose=verbose,
        resume=resume,
        log=log,
    )


def describe_step(figures):
    """Return the text of a step's figures: as the tutorial's, u is the consistency."""
    c_loss, c_acc, consistency, d_loss1, d_loss2, g_loss = figures
    return (
        f"c[{c_loss:.3f},{100 * c_acc:.0f}], u[{consistency:.3f}], "
        f"d[{d_loss1:.3f},{d_loss2:.3f}], g[{g_loss:.3f}]"
    )


DEFAULTS = {
    "epochs": 24,
    "batch": 100,
    "labels": 100,
    "latent_dim": 100,
    "seed": None,
    "data": None,
    "image_size": None,
    "budget": None,
    "without": None,
    "precision": "float32",
    "jit": "auto",
    "threads": None,
    "max_steps": None,
    "format": "keras",
}


def ingredients(text):
    """Check the value of --without."""
    unknown = set(text.split("+")) - set(INGREDIENTS)
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: not of {', '.join(INGREDIENTS)}"
        )
    return text


def parse_arguments(argv):
    parser = OneLineParser(
        description="Train the tuned semi-supervised GAN with a few labelled images, "
        "of MNIST or your own."
    )
    add_options(parser, n_epochs=DEFAULTS["epochs"])
    add = parser.add_argument
    add(
        "--batch",
        type=int,
        help="unlabelled images a step; half as many are labelled and a quarter as "
        "many generated (default: 100)",
    )
    add(
        "--budget",
        type=float,
        metavar="MINUTES",
        help="train as long as this on this machine, instead of for --epochs",
    )
    add(
        "--without",
        type=ingredients,
        metavar="NAME[+NAME]",
        help=f"leave ingredients out, of {', '.join(INGREDIENTS)} (default: none)",
    )
    return parser.parse_args(argv)


def check_quarters(n_batch):
    """Raise InputError for a batch without quarters of several images."""
    if n_batch < 8 or n_batch % 4:
        raise InputError(
            f"batch {n_batch}: half as many are labelled, a quarter as many generated; "
            "give a multiple of 4 from 8 on"
        )


def run(args):
    options = resolve_options(args, DEFAULTS, parse_arguments)
    check_budget(options["budget"])
    if args.budget is not None and args.epochs is not None:
        raise InputError("--budget sets the epochs; leave out --epochs")
    data = load_data(args, options)
    X, y = data.train
    check_quarters(options["batch"])
    check_batch(options["batch"], len(X))
    check_labels(y, options["labels"], data.n_classes, data.class_names)
    out = open_run(args, options, "sgan_tuned")

    jit = choose_jit(options["jit"])
    n_parts = count_parts(options["threads"], jit, options["batch"])
    prepare_tensorflow(options["precision"], options["threads"], n_parts)
    keras.utils.set_random_seed(options["seed"])
    d_model, c_model = define_discriminator(data.image_shape, data.n_classes)
    g_model = define_generator(options["latent_dim"], image_shape=data.image_shape)
    gan_model = define_gan(g_model, d_model)
    out = train(
        g_model,
        d_model,
        c_model,
        gan_model,
        data.train,
        options["latent_dim"],
        options["epochs"],
        options["batch"],
        n_labels=options["labels"],
        test_dataset=data.test,
        seed=options["seed"],
        out=out,
        budget=options["budget"],
        max_steps=options["max_steps"],
        verbose=verbosity(args),
        file_format=options["format"],
        options=options,
        resume=args.resume is not None,
        jit=jit,
        n_parts=n_parts,
        without=(options["without"] or "").split("+"),
        tensorboard=keeps_log(args),
        class_names=data.class_names,
    )
    print(f"The run is in {out}")


def main(argv=None):
    return run_script("sgan_tuned.py", lambda: run(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
