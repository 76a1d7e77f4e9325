"""Train the tuned semi-supervised GAN on MNIST with 100 labelled images.

    python sgan_tuned.py                            # into runs/
    python sgan_tuned.py --labels 20 --seed 1       # fewer labels, and repeatable
    python sgan_tuned.py --budget 5                 # as good as 5 minutes allow
    python sgan_tuned.py --without generator        # leave one ingredient out
    python sgan_tuned.py --resume runs/FOLDER       # go on with an interrupted run

`diff sgan_mnist.py sgan_tuned.py` shows what changes. One network still is classifier
and discriminator. New are: augmented images; a running average of the classifier, the
teacher, whose answers on unlabelled images it learns to repeat; at first, equal shares
of the classes; a generator that matches features; and a schedule.
"""

import math
import sys
from dataclasses import dataclass

import discriminators
import helpers
from gankit.backend import keras, layers, tf
from gankit.command import run_script
from gankit.data.labels import check_labels
from gankit.data.load import load_arrays
from gankit.models.classify import count_classes
from gankit.training import losses
from gankit.training.augmentation import DIGITS
from gankit.training.batches import check_batch, define_take, prepare_update, update
from gankit.training.budget import budget_option
from gankit.training.choose_changes import changes_option, choose_changes
from gankit.training.run import LabelledRun
from gankit.training.settings import RunSettings, option
from sgan_mnist import summarize_performance

HISTORY = (
    *("c_loss", "c_accuracy", "consistency"),
    *("d_loss_real", "d_loss_fake", "g_loss"),
)

# Chosen on held-out images, see docs/tuned.md.
# how strongly what the teacher sees is changed (Sohn et al. 2020, FixMatch)
WEAK = 0.35
# largest weight of the consistency loss, reached after this fraction of the steps, and
# first weight of the balance loss, which falls to 0 as consistency's rises
CONSISTENCY, RAMP, BALANCE = 5.0, 0.5, 1.0
# of the teacher's weights, how much stays at each step (Tarvainen and Valpola 2017)
DECAY = 0.995
# weight of d's two unsupervised losses, and of the tutorial's loss in that of g
ADVERSARIAL, G_ADVERSARIAL = 1.0, 0.1
# weight of the squares by which g's pixels, before tanh, exceed this size
SATURATION, LARGEST = 0.02, 2.5
RATE, G_RATE, DROPOUT = 3e-3, 1e-3, 0.3
INGREDIENTS = (
    *("generator", "consistency", "balance", "augmentation"),
    *("lines", "averaging", "schedule"),
)
EVALUATIONS_PER_EPOCH = 3


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train the tuned semi-supervised GAN with a few labels, of MNIST or your own."""

    epochs: int = option(24, "passes over the training images", least=1)
    batch: int = option(100, "unlabelled images a step, a multiple of 4")
    labels: int = option(100, "labelled images, of all classes")
    latent_dim: int = option(100, "size of a latent point", least=1)
    changes: str = changes_option()
    budget: float | None = budget_option()
    without: str | None = option(
        None,
        f"leave ingredients out, of {', '.join(INGREDIENTS)} (default: none)",
        several=INGREDIENTS,
    )


def define_discriminator(in_shape=(28, 28, 1), n_classes=10):
    """Return d_model, c_model, which share all weights (Salimans et al. 2016).

    d_model gives (n, 1), the probability 'real', and c_model the class probabilities,
    (n, n_classes), both from the same logits. No batch normalisation: real and
    generated images would need statistics of their own.
    """

    options = {"padding": "same", "kernel_initializer": "he_normal"}
    in_image = fe = keras.Input(shape=in_shape)
    # 28x28 -> 14x14 -> 7x7 for MNIST
    sizes = (32, 5, 2), (64, 3, 1), (64, 3, 2), (128, 3, 1)
    for i, (n_maps, size, stride) in enumerate(sizes):
        fe = layers.Conv2D(n_maps, size, strides=stride, **options)(fe)
        fe = layers.LeakyReLU(negative_slope=0.1, name=f"maps_{i}")(fe)
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
    d_model.compile(keras.optimizers.Adam(RATE))
    return d_model, c_model


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
    gen = layers.Dense(math.prod(image_shape), name="pixels")(gen)
    gen = layers.Activation("tanh")(gen)
    out_layer = layers.Reshape(image_shape, dtype="float32")(gen)
    return keras.Model(in_lat, out_layer)


def define_gan(g_model, d_model, *, changes=DIGITS):
    """Return the GAN: latent points and changes of images -> d's logits and features.

    Inputs: z (n, latent_dim), and what changes.draw gives, (n, ...) each. Outputs:
    logits (n, n_classes) and features (n, k) of the generated images so changed; the
    real images are changed likewise (Zhao et al. 2020, Differentiable augmentation), or
    g would have to learn the changes.
    """
    drawn = [keras.Input(shape=shape) for shape in changes.shapes]
    images = changes.layer(g_model.output_shape)([g_model.output, *drawn])
    model = keras.Model([*g_model.inputs, *drawn], define_network(d_model)(images))
    model.compile(keras.optimizers.Adam(G_RATE, beta_1=0.5))
    return model


def define_network(d_model):
    """Return d and c in one pass: images -> logits (n, n_classes), features (n, k).

    The features are those maps that still know what is where in the image.
    """
    maps = d_model.get_layer("maps_2").output
    outputs = [d_model.get_layer("logits").output, layers.Flatten()(maps)]
    return keras.Model(d_model.inputs, outputs)


def define_draw(dataset, latent_dim, n_batch, run):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as float32 in [-1, 1] or as uint8 in [0, 255], then with a
    multiple of 8 values. run: with the labelled ones. draws: a training.batches.Draws.
    It returns X and y of half a batch of labelled images; X of a batch of all images,
    changed, and changed less; twice the input of the GAN for a quarter of a batch;
    and latent points and real images for two batches.
    """
    half_batch = n_batch // 2
    supervised = run.supervised
    y_sup = tf.constant(supervised[1])
    take_labelled, take_real = define_take(supervised[0]), define_take(dataset[0])
    without = run.settings.without or ""

    def draw(draws):
        full = run.changes.strength_at(run.done(draws.step), without)

        def change(X, strength):
            drawn = run.changes.draw(X.shape[0], draws.seed(), *strength)
            return X if "augmentation" in without else run.changes.apply(X, *drawn)

        labelled = draws.indices(half_batch, len(supervised[0]))
        unlabelled = draws.indices(n_batch, len(dataset[0]))
        y, X_real = tf.gather(y_sup, labelled), take_real(unlabelled)
        X_labelled = change(take_labelled(labelled), full)
        X_teacher, X_real = change(X_real, (WEAK, 0.0)), change(X_real, full)
        n = half_batch // 2
        fake, gan = (
            (draws.points(n, latent_dim), *run.changes.draw(n, draws.seed(), *full))
            for _ in range(2)
        )
        z = draws.points(2 * n_batch, latent_dim)
        compared = z, take_real(draws.indices(2 * n_batch, len(dataset[0])))
        return X_labelled, y, X_real, X_teacher, fake, gan, compared

    return draw


def define_train_step(g_model, d_model, c_model, gan_model, run, average_model):
    """Return train_step(step, *batch), the updates of a training step.

    batch: what define_draw's draw returns. It returns the figures that HISTORY names,
    float32 scalars. run: a LabelledRun, which computes a batch in parts that can run
    side by side; its settings name the ingredients to leave out, and the schedule spans
    its steps. average_model: as c_model, whose running average it becomes.
    """
    without = run.settings.without or ""
    network = define_network(d_model)
    outputs = [g_model.output, g_model.get_layer("pixels").output]
    drawing = keras.Model(g_model.inputs, outputs)
    d_model.optimizer.build(d_model.trainable_variables)
    gan_model.optimizer.build(g_model.trainable_variables)

    def train_step(step, X_labelled, y, X_real, X_teacher, fake, gan, compared):
        done = run.done(step)
        if "schedule" not in without:
            d_model.optimizer.learning_rate.assign(RATE * losses.half_cosine(done))
            gan_model.optimizer.learning_rate.assign(G_RATE * losses.half_cosine(done))
        ramp = losses.ramp_up(done, RAMP)

        # (1-3) Update c and d, which are one network, by one sum of losses
        p_teacher = run.answer(average_model, X_teacher)
        batch = [X_labelled, X_real]
        if "generator" not in without:
            z, *drawn = fake
            batch.append(run.changes.apply(g_model(z, training=True), *drawn))
        sizes = [images.shape[0] for images in batch]
        with tf.GradientTape() as tape:
            logits, features = run.answer(network, tf.concat(batch, 0), training=True)
            logits_labelled, logits_real, *logits_fake = tf.split(logits, sizes)
            # -log p(y|x) on labelled images
            loss = c_loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits_labelled)
            )
            p_real = tf.nn.softmax(logits_real)
            consistency = losses.consistency_loss(p_real, p_teacher)
            if "consistency" not in without:
                loss += CONSISTENCY * ramp * consistency
            if "balance" not in without:
                loss += BALANCE * (1 - ramp) * losses.balance_loss(p_real)
            d_loss_real = d_loss_fake = tf.zeros(())
            if "generator" not in without:
                d_loss_real = losses.real_loss(logits_real)
                d_loss_fake = losses.generated_loss(*logits_fake)
                loss += 0.5 * ADVERSARIAL * (d_loss_real + d_loss_fake)
        move_d = prepare_update(d_model, d_model.optimizer, tape, loss)

        # (4) Update g alone: its images and their features shall be distributed as
        # real ones, and d shall take them for real
        g_loss = tf.zeros(())
        if "generator" not in without:
            _, real, *_ = tf.split(features, sizes)
            z, X_compared = compared
            with tf.GradientTape() as tape:
                logits, generated = gan_model(gan, training=True)
                g_loss = losses.energy_distance(generated, real)
                # the features alone let g draw one shape for all latent points
                images, pixels = drawing(z, training=True)
                g_loss += losses.energy_distance(images, X_compared)
                g_loss += SATURATION * losses.saturation_loss(pixels, LARGEST)
                g_loss += G_ADVERSARIAL * losses.real_loss(logits)
            update(g_model, gan_model.optimizer, tape, g_loss)
        move_d()

        # The teacher: a running average of the weights, short at first
        count = tf.cast(step, tf.float32) + 1
        decay = tf.minimum(DECAY, count / (count + 9))
        if "averaging" in without:
            decay = tf.zeros(())
        losses.update_average(average_model, c_model, decay)

        accuracy = keras.metrics.sparse_categorical_accuracy(y, logits_labelled)
        c_acc = tf.reduce_mean(accuracy)
        return c_loss, c_acc, consistency, d_loss_real, d_loss_fake, g_loss

    return train_step


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
    run=None,
):
    """Train the four models on [X, y] and fill a run's folder; return its path.

    X: (n, h, w, c), float32 in [-1, 1] or uint8 in [0, 255]; y: int (n,), -1 for an
    image without label. n_labels images are labelled, as many of each class, or all
    that have labels where those are fewer; the other labels only measure accuracy.
    n_batch images are unlabelled, half as many labelled. run: a LabelledRun, which has
    seed, folder, test images and the rest; None for a new one in runs/. Where its
    settings have a budget, the steps are fitted to that. The classifier that is
    measured and saved is the running average.
    Raises InputError for what can't be used, and else what Run.make does.
    """
    run = run or LabelledRun("sgan_tuned", Settings())
    check_batch(n_batch, len(dataset[0]), 4)
    bat_per_epo = len(dataset[0]) // n_batch
    n_steps = bat_per_epo * n_epochs
    run.supervised, run.labelled = helpers.select_supervised_samples(
        dataset,
        n_labels,
        count_classes(c_model),
        run.rng,
        class_names=run.class_names,
        return_indices=True,
    )
    print(run.supervised[0].shape, run.supervised[1].shape)

    average_model = keras.models.clone_model(c_model)
    average_model.set_weights(c_model.get_weights())
    evaluate_every = -(-bat_per_epo // EVALUATIONS_PER_EPOCH)

    def summarize(step):
        models = g_model, average_model
        last = step in (n_steps, run.settings.max_steps)
        if step % bat_per_epo and not last:
            return None, run.measure_test(average_model), None
        measured = dataset if last else None  # all of it takes a while
        return summarize_performance(step, *models, latent_dim, measured, run=run)

    steps = run.compile(
        define_draw(dataset, latent_dim, n_batch, run),
        define_train_step(g_model, d_model, c_model, gan_model, run, average_model),
        [d_model, average_model.variables, g_model]
        + [model.optimizer for model in (d_model, gan_model)],
        columns=HISTORY,
        draws=11,
    )
    n_steps = run.fit(n_steps, steps, average_model, dataset, evaluate_every)
    print(
        f"n_epochs={n_steps / bat_per_epo:.4g}, n_batch={n_batch}, "
        f"1/2={n_batch // 2}, b/e={bat_per_epo}, steps={n_steps}"
    )
    return run.make(
        steps,
        dataset,
        summarize,
        describe=describe_step,
        n_steps=n_steps,
        epoch_steps=bat_per_epo,
        n_batch=n_batch,
        evaluate_every=evaluate_every,
    )


def describe_step(figures):
    """Return the text of a step's figures: as the tutorial's, u is the consistency."""
    c_loss, c_acc, consistency, d_loss1, d_loss2, g_loss = figures
    return (
        f"c[{c_loss:.3f},{100 * c_acc:.0f}], u[{consistency:.3f}], "
        f"d[{d_loss1:.3f},{d_loss2:.3f}], g[{g_loss:.3f}]"
    )


def start(settings):
    """Train as the settings say."""
    data = load_arrays(settings.data, settings.image_size)
    dataset = helpers.load_real_samples(data, scale=False)
    check_batch(settings.batch, len(dataset[0]), 4)
    check_labels(dataset[1], settings.labels, data.n_classes, data.class_names)
    run = LabelledRun("sgan_tuned", settings, data=data)
    run.prepare(settings.batch)
    run.set_changes(choose_changes(settings.changes, data, settings.data is None))
    d_model, c_model = define_discriminator(data.image_shape, data.n_classes)
    g_model = define_generator(settings.latent_dim, image_shape=data.image_shape)
    gan_model = define_gan(g_model, d_model, changes=run.changes)
    out = train(
        g_model,
        d_model,
        c_model,
        gan_model,
        dataset,
        settings.latent_dim,
        settings.epochs,
        settings.batch,
        n_labels=settings.labels,
        run=run,
    )
    print(f"The run is in {out}")


def main(argv=None):
    return run_script("sgan_tuned.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
