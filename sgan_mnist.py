"""Train a semi-supervised GAN on MNIST with 100 labelled images.

    python sgan_mnist.py                            # 20 epochs, into runs/
    python sgan_mnist.py --epochs 2 --seed 1        # shorter, and repeatable
    python sgan_mnist.py --discriminator shared     # another design
    python sgan_mnist.py --data FOLDER --labels 60  # images of your own
    python sgan_mnist.py --resume runs/FOLDER       # go on with an interrupted run

One network is the classifier and the GAN's discriminator. It learns the classes from
a few labelled images, and from many unlabelled ones what a digit looks like.
"""

import sys
from dataclasses import dataclass

import discriminators
import helpers
from gankit.backend import keras, layers, tf
from gankit.command import run_script
from gankit.data.labels import check_labels, describe_labelled
from gankit.data.load import load_arrays
from gankit.models.classify import count_classes
from gankit.training.batches import check_batch, define_take, update
from gankit.training.run import LabelledRun
from gankit.training.settings import RunSettings, option

HISTORY = ("c_loss", "c_accuracy", "d_loss_real", "d_loss_fake", "g_loss")


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train a semi-supervised GAN with a few labelled images, of MNIST or your own."""

    epochs: int = option(20, "passes over the training images", least=1, resume="grow")
    batch: int = option(100, "images a batch, an even number")
    labels: int = option(100, "labelled images, of all classes")
    latent_dim: int = option(100, "size of a latent point", least=1)
    discriminator: str = option(
        "stacked", "design, see discriminators.py", choices=discriminators.DESIGNS
    )


def define_discriminator(in_shape=(28, 28, 1), n_classes=10, *, design="stacked"):
    """Return d_model, c_model, compiled, which share weights.

    design: 'stacked' (the tutorial's), 'shared' or 'multi-output'; discriminators.py
    describes them. d_model gives (n, 1), the probability 'real', and c_model the class
    probabilities, (n, n_classes). In the multi-output design d_model has a second
    output, the class with 'unknown', (n, n_classes + 1), and c_model is that output.
    """
    return discriminators.DESIGNS[design](in_shape, n_classes)


def define_generator(latent_dim, *, image_shape=(28, 28, 1)):
    """Return the generator: (n, latent_dim) -> images (n, *image_shape) in [-1, 1].

    image_shape: height and width must be multiples of 4.
    """
    rows, columns, channels = image_shape[0] // 4, image_shape[1] // 4, image_shape[2]
    in_lat = keras.Input(shape=(latent_dim,))
    gen = layers.Dense(128 * rows * columns)(in_lat)
    gen = layers.LeakyReLU(negative_slope=0.2)(gen)
    gen = layers.Reshape((rows, columns, 128))(gen)
    # 7x7 -> 14x14 -> 28x28 for MNIST
    for _ in range(2):
        gen = layers.Conv2DTranspose(128, (4, 4), strides=(2, 2), padding="same")(gen)
        gen = layers.LeakyReLU(negative_slope=0.2)(gen)
    out_layer = layers.Conv2D(channels, (7, 7), activation="tanh", padding="same")(gen)
    return keras.Model(in_lat, out_layer)


def define_gan(g_model, d_model):
    """Return the compiled GAN: (n, latent_dim) -> probability 'real', (n, 1).

    Training it changes the generator's weights alone.
    """

    class GAN(keras.Model):
        # `d_model.trainable = False` instead would freeze the classifier too: the flag
        # reaches every shared layer, and Keras 3 reads it when a training function is
        # first traced, not when the model is compiled
        @property
        def trainable_variables(self):
            return g_model.trainable_variables

        @property
        def trainable_weights(self):
            return g_model.trainable_weights

    gan_output = discriminators.probability_real(d_model(g_model.output))
    model = GAN(inputs=g_model.input, outputs=gan_output)
    discriminators.compile_model(model, "binary_crossentropy")
    return model


def define_draw(dataset, latent_dim, n_batch, run):
    """Return draw(draws), which draws the batch of a step in the graph.

    dataset: [X, y], X as float32 in [-1, 1] or as uint8 in [0, 255], then with a
    multiple of 8 values. run: with the labelled ones. draws: a training.batches.Draws.
    It returns X and y of half a batch of labelled images, X of half a batch of all
    images, and the latent points of half a batch and of a batch. This is what the
    tutorial's loop calls generate_real_samples and generate_latent_points for.
    """
    half_batch = n_batch // 2
    supervised = run.supervised
    y_sup = tf.constant(supervised[1])
    take_labelled, take_real = define_take(supervised[0]), define_take(dataset[0])

    def draw(draws):
        labelled = draws.indices(half_batch, len(supervised[0]))
        unlabelled = draws.indices(half_batch, len(dataset[0]))
        z_fake = draws.points(half_batch, latent_dim)
        z_gan = draws.points(n_batch, latent_dim)
        X_labelled, y = take_labelled(labelled), tf.gather(y_sup, labelled)
        return X_labelled, y, take_real(unlabelled), z_fake, z_gan

    return draw


def define_train_step(g_model, d_model, c_model, gan_model, run):
    """Return train_step(step, *batch), the four updates of a training step.

    batch: what define_draw's draw returns. It returns the figures that HISTORY names,
    float32 scalars. run: a LabelledRun, which computes a batch in parts that can run
    side by side; the gradients are those of the whole batch.
    """
    class_loss = keras.losses.SparseCategoricalCrossentropy()
    binary_loss = keras.losses.BinaryCrossentropy()

    def classify(X, y):
        y_pred = c_model(X, training=True)
        accuracy = keras.metrics.sparse_categorical_accuracy(y, y_pred)
        return tf.stack([class_loss(y, y_pred), tf.reduce_mean(accuracy)])

    def find_real(X):
        return discriminators.unsupervised_loss(d_model(X, training=True), 1.0)

    def find_generated(X):
        return discriminators.unsupervised_loss(d_model(X, training=True), 0.0)

    def deceive(z):
        return binary_loss(tf.ones((z.shape[0], 1)), gan_model(z, training=True))

    c_model.optimizer.build(c_model.trainable_variables)
    d_model.optimizer.build(d_model.trainable_variables)
    gan_model.optimizer.build(g_model.trainable_variables)

    def train_step(step, X_labelled, y, X_real, z_fake, z_gan):
        # (1) Update c: minimise -log p(y|x) on labelled images
        with tf.GradientTape() as tape:
            c_loss, c_acc = tf.unstack(run.in_parts(classify, X_labelled, y))
        update(c_model, c_model.optimizer, tape, c_loss)

        # (2) Update d: minimise -log D(x) on real images, labelled or not
        with tf.GradientTape() as tape:
            d_loss_real = run.in_parts(find_real, X_real)
        update(d_model, d_model.optimizer, tape, d_loss_real)

        # (3) Update d: minimise -log(1 - D(G(z))) on generated images
        X_fake = run.answer(g_model, z_fake, training=True)
        with tf.GradientTape() as tape:
            d_loss_fake = run.in_parts(find_generated, X_fake)
        update(d_model, d_model.optimizer, tape, d_loss_fake)

        # (4) Update g alone: minimise -log D(G(z))
        with tf.GradientTape() as tape:
            g_loss = run.in_parts(deceive, z_gan)
        update(g_model, gan_model.optimizer, tape, g_loss)

        return c_loss, c_acc, d_loss_real, d_loss_fake, g_loss

    return train_step


def summarize_performance(
    step, g_model, c_model, latent_dim, dataset, n_samples=100, *, run=None
):
    """Save a sheet of n_samples generated images and both models; measure accuracy.

    run: a LabelledRun; None saves into the current folder. Its sheet always shows the
    same latent points. Returns the percentages for accuracy.csv, None where there are
    no such images: accuracy on dataset, [X, y] or None, as far as it has labels, and
    on the run's test images, and error on its labelled images.
    """
    run = run or LabelledRun("sgan_mnist", RunSettings(out="."))
    z = run.sheet_points(latent_dim, n_samples)
    X, _ = helpers.generate_fake_samples(g_model, latent_dim, n_samples, z=z)
    figures = train_acc, test_acc, _ = run.measure(c_model, dataset)
    plot, g_name, c_name = run.save(step, X, g_model=g_model, c_model=c_model)
    if run.verbose:
        if train_acc is not None:
            among = describe_labelled(dataset[1])
            print(f"Classifier Accuracy: {train_acc:.3f}%{among}")
        elif test_acc is not None:
            print(f"Test Accuracy: {test_acc:.3f}%")
        print(f">Saved: {plot}, {g_name}, and {c_name}", flush=True)
    return figures


def train(
    g_model,
    d_model,
    c_model,
    gan_model,
    dataset,
    latent_dim,
    n_epochs=20,
    n_batch=100,
    *,
    n_labels=100,
    run=None,
):
    """Train the four models on [X, y] and fill a run's folder; return its path.

    X: (n, h, w, c), float32 in [-1, 1] or uint8 in [0, 255]; y: int (n,), -1 for an
    image without label. n_labels images are labelled, as many of each class, or all
    that have labels where those are fewer; the other labels only measure accuracy.
    Half a batch is labelled, half is unlabelled. run: a LabelledRun, which has
    seed, folder, test images and the rest; None for a new one in runs/.
    Raises InputError for what can't be used, and else what Run.make does.
    """
    run = run or LabelledRun("sgan_mnist")
    check_batch(n_batch, len(dataset[0]), 2)
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

    def summarize(step):
        models = g_model, c_model
        return summarize_performance(step, *models, latent_dim, dataset, run=run)

    steps = run.compile(
        define_draw(dataset, latent_dim, n_batch, run),
        define_train_step(g_model, d_model, c_model, gan_model, run),
        [d_model, c_model, g_model]
        + [model.optimizer for model in (c_model, d_model, gan_model)],
        columns=HISTORY,
        draws=4,
        passes=4,
    )
    print(
        f"n_epochs={n_epochs}, n_batch={n_batch}, "
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
    )


def describe_step(figures):
    """Return the tutorial's text of a step's five figures."""
    c_loss, c_acc, d_loss1, d_loss2, g_loss = figures
    return (
        f"c[{c_loss:.3f},{100 * c_acc:.0f}], "
        f"d[{d_loss1:.3f},{d_loss2:.3f}], g[{g_loss:.3f}]"
    )


def start(settings):
    """Train as the settings say."""
    data = load_arrays(settings.data, settings.image_size)
    dataset = helpers.load_real_samples(data, scale=False)
    check_batch(settings.batch, len(dataset[0]), 2)
    check_labels(dataset[1], settings.labels, data.n_classes, data.class_names)
    run = LabelledRun("sgan_mnist", settings, data=data)
    run.prepare(settings.batch)
    d_model, c_model = define_discriminator(
        data.image_shape, data.n_classes, design=settings.discriminator
    )
    g_model = define_generator(settings.latent_dim, image_shape=data.image_shape)
    gan_model = define_gan(g_model, d_model)
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
    return run_script("sgan_mnist.py", lambda: start(Settings.parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
