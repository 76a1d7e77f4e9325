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
from pathlib import Path

import numpy as np

import discriminators
from gankit.backend import keras, layers, tf
from gankit.command import InputError, OneLineParser, run_script
from gankit.data.labels import check_labels, describe_labelled, select_labels
from gankit.folders import dated_folder
from gankit.models.classify import count_classes, measure_accuracy
from gankit.models.files import save_model
from gankit.pictures import save_sheet
from gankit.training.batches import define_take, derive_seed, split_in_parts
from gankit.training.devices import choose_jit, count_parts, prepare_tensorflow
from gankit.training.fast_conv import accelerate
from gankit.training.loop import make_run
from gankit.training.run import describe_settings, draw_seed, load_data, open_run
from gankit.training.settings import add_options, keeps_log, resolve_options, verbosity
from gankit.training.tensorboard import EventLog
from helpers import generate_latent_points

HISTORY = ("step", "c_loss", "c_accuracy", "d_loss_real", "d_loss_fake", "g_loss")


def define_discriminator(in_shape=(28, 28, 1), n_classes=10, *, design="stacked"):
    """Return d_model, c_model, compiled, which share weights.

    design: 'stacked' (the tutorial's), 'shared' or 'multi-output'; discriminators.py
    describes them. d_model gives (n, 1), the probability 'real', and c_model the class
    probabilities, (n, n_classes). In the multi-output design d_model has a second
    output, the class with 'unknown', (n, n_classes + 1), and c_model is that output.
    """
    if design == "stacked":
        return discriminators.define_stacked_discriminators(in_shape, n_classes)
    if design == "shared":
        return discriminators.define_shared_discriminators(in_shape, n_classes)
    d_model = discriminators.define_multi_output_discriminator(in_shape, n_classes)
    c_model = keras.Model(d_model.inputs, d_model.outputs[1])
    discriminators.compile_model(
        c_model, "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return d_model, c_model


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

    gan_output = d_model(g_model.output)
    if isinstance(gan_output, (list, tuple)):
        gan_output = gan_output[0]
    model = GAN(inputs=g_model.input, outputs=gan_output)
    discriminators.compile_model(model, "binary_crossentropy")
    return model


def define_train_steps(
    g_model,
    d_model,
    c_model,
    gan_model,
    dataset,
    supervised,
    latent_dim,
    n_batch,
    seed,
    *,
    jit=False,
    n_parts=1,
):
    """Return train_steps(first, n), which makes n training steps in one graph.

    dataset, supervised: [X, y], X as float32 in [-1, 1] or as uint8 in [0, 255], then
    with a multiple of 4 pixels.
    jit: compile the step with XLA.
    n_parts: each batch is computed in so many parts, which can run side by side; the
    gradients are those of the whole batch.
    first: int32, the number of steps already made; n: int32. Returns float32 (n, 5):
    each step's c loss and accuracy, d loss on real and on generated images, g loss.
    Every random number follows from seed and the step's number.
    """
    half_batch = n_batch // 2
    y_sup = tf.constant(supervised[1])
    dropouts = [layer for layer in d_model.layers if isinstance(layer, layers.Dropout)]
    dropout_seed = derive_seed(seed)
    class_loss = keras.losses.SparseCategoricalCrossentropy()
    binary_loss = keras.losses.BinaryCrossentropy()

    take_labelled, take_real = define_take(supervised[0]), define_take(dataset[0])

    def split(batch):
        return split_in_parts(batch, n_parts)

    def in_parts(objective, *batch):
        """Return the mean of objective over the batch, computed part by part."""
        means = [
            objective(*part) * (part[0].shape[0] / batch[0].shape[0])
            for part in zip(*map(split, batch), strict=True)
        ]
        return tf.add_n(means)

    def classify(X, y):
        y_pred = c_model(X, training=True)
        accuracy = keras.metrics.sparse_categorical_accuracy(y, y_pred)
        return tf.stack([class_loss(y, y_pred), tf.reduce_mean(accuracy)])

    def discriminate(X, target):
        outputs = d_model(X, training=True)
        targets = tf.fill((X.shape[0], 1), target)
        if not isinstance(outputs, (list, tuple)):
            return binary_loss(targets, outputs)
        # multi-output: these images' class is 'unknown', the last one
        unknown = tf.fill((X.shape[0],), outputs[1].shape[1] - 1)
        return binary_loss(targets, outputs[0]) + class_loss(unknown, outputs[1])

    def find_real(X):
        return discriminate(X, 1.0)

    def find_generated(X):
        return discriminate(X, 0.0)

    def deceive(z):
        return binary_loss(tf.ones((z.shape[0], 1)), gan_model(z, training=True))

    def update(network, optimizer, tape, loss):
        weights = network.trainable_variables
        # in float16 the optimizer scales the loss, and the gradients back
        scale = optimizer.scale_loss(tf.ones(()))
        optimizer.apply(tape.gradient(loss, weights, scale), weights)

    for network, model in (
        (c_model, c_model),
        (d_model, d_model),
        (g_model, gan_model),
    ):
        model.optimizer.build(network.trainable_variables)

    def draw(step):
        seeds = [tf.stack([seed, 4 * step + i]) for i in range(4)]
        labelled, unlabelled = (
            tf.random.stateless_uniform((half_batch,), seeds[i], 0, n, tf.int32)
            for i, n in enumerate((len(supervised[0]), len(dataset[0])))
        )
        return (
            take_labelled(labelled),
            tf.gather(y_sup, labelled),
            take_real(unlabelled),
            tf.random.stateless_normal((half_batch, latent_dim), seeds[2]),
            tf.random.stateless_normal((n_batch, latent_dim), seeds[3]),
        )

    # XLA has other normal numbers: batches are drawn outside it, the same for both
    @tf.function(jit_compile=jit)
    def train_step(step, X_labelled, y, X_real, z_fake, z_gan):
        for dropout in dropouts:
            state = tf.stack([dropout_seed, 4 * n_parts * step])
            dropout.seed_generator.state.assign(state)

        # (1) Update c: minimise -log p(y|x) on labelled images
        with tf.GradientTape() as tape:
            c_loss, c_acc = tf.unstack(in_parts(classify, X_labelled, y))
        update(c_model, c_model.optimizer, tape, c_loss)

        # (2) Update d: minimise -log D(x) on real images, labelled or not
        with tf.GradientTape() as tape:
            d_loss_real = in_parts(find_real, X_real)
        update(d_model, d_model.optimizer, tape, d_loss_real)

        # (3) Update d: minimise -log(1 - D(G(z))) on generated images
        X_fake = tf.concat([g_model(z, training=True) for z in split(z_fake)], axis=0)
        with tf.GradientTape() as tape:
            d_loss_fake = in_parts(find_generated, X_fake)
        update(d_model, d_model.optimizer, tape, d_loss_fake)

        # (4) Update g alone: minimise -log D(G(z))
        with tf.GradientTape() as tape:
            g_loss = in_parts(deceive, z_gan)
        update(g_model, gan_model.optimizer, tape, g_loss)

        return tf.stack([c_loss, c_acc, d_loss_real, d_loss_fake, g_loss])

    @tf.function
    def train_steps(first, n):
        figures = tf.TensorArray(tf.float32, size=n, element_shape=(5,))
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
    n_epochs=20,
    n_batch=100,
    *,
    n_labels=100,
    test_dataset=None,
    seed=None,
    out=None,
    max_steps=None,
    verbose=2,
    file_format="keras",
    options=None,
    resume=False,
    jit=False,
    n_parts=1,
    tensorboard=False,
    class_names=None,
):
    """Train the four models on [X, y] and fill a run's folder; return its path.

    X: (n, h, w, c), float32 in [-1, 1] or uint8 in [0, 255]; y: int (n,), -1 for an
    image without label. n_labels images are labelled, as many of each class, or all
    that have labels where those are fewer; the other labels only measure accuracy.
    Half a batch is labelled, half is unlabelled.
    test_dataset: [X, y] on which accuracy is measured too. seed: 0 to 2**31 - 1;
    None draws one. out: the folder, None for runs/<date>-<time>-sgan_mnist.
    max_steps: end earlier. verbose: 0, 1 (one line updated in place) or 2 (a line a
    step). file_format: 'keras' or 'h5'. options: recorded in settings.json.
    resume: go on from the newest checkpoint in `out`. jit, n_parts: as in
    define_train_steps. tensorboard: keep a log for TensorBoard, tensorboard_log.py.
    class_names: list of str, kept with the classifiers.

    Raises InputError for what can't be used, RunError where the run can't go on (a
    loss that is not finite, a full disk), Interrupted after Ctrl-C or SIGTERM, when
    the step is finished and saved.
    """
    X, y = dataset
    check_batch(n_batch, len(X))
    bat_per_epo = len(X) // n_batch
    n_steps = bat_per_epo * n_epochs
    half_batch = n_batch // 2
    if seed is None:
        seed = draw_seed()
    rng = np.random.default_rng(seed)
    n_classes = count_classes(c_model)
    labelled = select_labels(y, n_labels, n_classes, rng, class_names=class_names)
    supervised = [X[labelled], y[labelled]]
    print(supervised[0].shape, supervised[1].shape)
    sheet_points = generate_latent_points(latent_dim, 100, rng)
    print(
        f"n_epochs={n_epochs}, n_batch={n_batch}, 1/2={half_batch}, "
        f"b/e={bat_per_epo}, steps={n_steps}"
    )

    accelerate(g_model)
    train_steps = define_train_steps(
        g_model,
        d_model,
        c_model,
        gan_model,
        dataset,
        supervised,
        latent_dim,
        n_batch,
        seed,
        jit=jit,
        n_parts=n_parts,
    )
    state = [*d_model.variables, *c_model.variables, *g_model.variables]
    for model in (c_model, d_model, gan_model):
        state += model.optimizer.variables
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
        return summarize_performance(
            step,
            g_model,
            c_model,
            latent_dim,
            dataset,
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
        log = EventLog(c_model, test_dataset, n_classes, class_names)
    return make_run(
        train_steps,
        state,
        evaluate,
        settings,
        columns=HISTORY,
        describe=describe_step,
        n_steps=n_steps,
        epoch_steps=bat_per_epo,
        out=out or dated_folder("runs", "sgan_mnist"),
        max_steps=max_steps,
        verbose=verbose,
        resume=resume,
        log=log,
    )


def describe_step(figures):
    """Return the tutorial's text of a step's five figures."""
    c_loss, c_acc, d_loss1, d_loss2, g_loss = figures
    return (
        f"c[{c_loss:.3f},{100 * c_acc:.0f}], d[{d_loss1:.3f},{d_loss2:.3f}], "
        f"g[{g_loss:.3f}]"
    )


def summarize_performance(
    step,
    g_model,
    c_model,
    latent_dim,
    dataset,
    n_samples=100,
    *,
    out=".",
    sheet_points=None,
    test_dataset=None,
    supervised=None,
    file_format="keras",
    verbose=2,
    class_names=None,
):
    """Save a sheet of n_samples generated images and both models; measure accuracy.

    sheet_points: (n_samples, latent_dim), None for fresh ones. Returns the
    percentages for accuracy.csv, as text, '' where there are no such images (None):
    accuracy on dataset, as far as it has labels, and test_dataset, error on the
    labelled images, supervised. class_names: as in train.
    """
    if sheet_points is None:
        sheet_points = generate_latent_points(latent_dim, n_samples)
    out = Path(out)
    plot_name = f"generated_plot_{step:04d}.png"
    save_sheet(g_model.predict_on_batch(sheet_points), out / plot_name)

    n_classes = count_classes(c_model)
    train_acc, test_acc, labelled_acc = (
        None
        if samples is None
        else measure_accuracy(c_model, *samples, n_classes=n_classes)
        for samples in (dataset, test_dataset, supervised)
    )

    g_name = f"g_model_{step:04d}.{file_format}"
    c_name = f"c_model_{step:04d}.{file_format}"
    save_model(g_model, out / g_name)
    save_model(c_model, out / c_name, class_names)
    if verbose:
        if train_acc is not None:
            among = describe_labelled(dataset[1])
            print(f"Classifier Accuracy: {train_acc:.3f}%{among}")
        elif test_acc is not None:
            print(f"Test Accuracy: {test_acc:.3f}%")
        print(f">Saved: {plot_name}, {g_name}, and {c_name}", flush=True)
    labelled_error = None if labelled_acc is None else 100.0 - labelled_acc
    return [
        "" if value is None else f"{value:.3f}"
        for value in (train_acc, test_acc, labelled_error)
    ]


def check_batch(n_batch, n_images):
    """Raise InputError for a batch that can't be halved or is larger than the data."""
    if n_batch < 2 or n_batch % 2:
        raise InputError(
            f"batch {n_batch}: half of it is labelled; give an even number from 2 on"
        )
    if n_batch > n_images:
        raise InputError(
            f"batch {n_batch}: there are {n_images} images; give a smaller batch"
        )


DEFAULTS = {
    "epochs": 20,
    "batch": 100,
    "labels": 100,
    "latent_dim": 100,
    "seed": None,
    "data": None,
    "image_size": None,
    "discriminator": "stacked",
    "precision": "float32",
    "jit": "auto",
    "threads": None,
    "max_steps": None,
    "format": "keras",
}


def parse_arguments(argv):
    parser = OneLineParser(
        description="Train a semi-supervised GAN with a few labelled images, of MNIST "
        "or your own."
    )
    add_options(parser)
    add = parser.add_argument
    add("--batch", type=int, help="images a batch, an even number (default: 100)")
    add(
        "--discriminator",
        choices=("stacked", "shared", "multi-output"),
        help="design, see discriminators.py (default: stacked)",
    )
    return parser.parse_args(argv)


def run(args):
    options = resolve_options(args, DEFAULTS, parse_arguments, growing=("epochs",))
    data = load_data(args, options)
    X, y = data.train
    check_batch(options["batch"], len(X))
    check_labels(y, options["labels"], data.n_classes, data.class_names)
    out = open_run(args, options, "sgan_mnist")

    jit = choose_jit(options["jit"])
    n_parts = count_parts(options["threads"], jit, options["batch"])
    prepare_tensorflow(options["precision"], options["threads"], n_parts)
    keras.utils.set_random_seed(options["seed"])
    d_model, c_model = define_discriminator(
        data.image_shape, data.n_classes, design=options["discriminator"]
    )
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
        max_steps=options["max_steps"],
        verbose=verbosity(args),
        file_format=options["format"],
        options=options,
        resume=args.resume is not None,
        jit=jit,
        n_parts=n_parts,
        tensorboard=keeps_log(args),
        class_names=data.class_names,
    )
    print(f"The run is in {out}")


def main(argv=None):
    return run_script("sgan_mnist.py", lambda: run(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
