"""Train a semi-supervised GAN on MNIST with 100 labelled images.

    python sgan_mnist.py                            # 20 epochs, into runs/
    python sgan_mnist.py --epochs 2 --seed 1        # shorter, and repeatable
    python sgan_mnist.py --discriminator shared     # another design
    python sgan_mnist.py --resume runs/FOLDER       # go on with an interrupted run

One network is the classifier and the GAN's discriminator. It learns the classes from
a few labelled images, and from many unlabelled ones what a digit looks like.
"""

import hashlib
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from checkpoints import (
    Interrupted,
    locked,
    noted_signals,
    remove_partials,
    restore_newest,
    save_checkpoint,
)
from devices import (
    JIT,
    PRECISIONS,
    choose_jit,
    choose_precision,
    count_cores,
    count_parts,
    prepare_tensorflow,
)
from helpers import (
    N_CLASSES,
    InputError,
    LazyModule,
    OneLineParser,
    check_supervised,
    dated_folder,
    generate_latent_points,
    load_real_samples,
    load_test_samples,
    measure_accuracy,
    new_folder,
    run_script,
    scale_images,
    select_supervised_indices,
    write_atomically,
)
from run_folder import (
    ACCURACY,
    HISTORY,
    Progress,
    append_rows,
    check_finite,
    history_row,
    plot_history,
    save_animation,
    save_sheet,
    versions,
    write_rows,
    writing_to,
)

keras = LazyModule("keras")
layers = LazyModule("keras.layers")
tf = LazyModule("tensorflow")
discriminators = LazyModule("discriminators")
fast_conv = LazyModule("fast_conv")

CHECKPOINT_SECONDS = 120


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
    # 7x7 -> 14x14 -> 28x28
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
    # a table, since TensorFlow may round a division by a constant otherwise
    levels = tf.constant(scale_images(np.arange(256, dtype=np.uint8)))
    dropouts = [layer for layer in d_model.layers if isinstance(layer, layers.Dropout)]
    class_loss = keras.losses.SparseCategoricalCrossentropy()
    binary_loss = keras.losses.BinaryCrossentropy()

    def define_take(X):
        """Return take(chosen), the images with these indices, in [-1, 1]."""
        if X.dtype != np.uint8:
            images = tf.constant(X)
            return lambda chosen: tf.gather(images, chosen)
        # four bytes in a word: on a GPU tf.gather takes words only
        words = tf.constant(np.ascontiguousarray(X).reshape(len(X), -1).view(np.int32))

        def take(chosen):
            pixels = tf.bitcast(tf.gather(words, chosen), tf.uint8)
            images = tf.reshape(pixels, (-1, *X.shape[1:]))
            return tf.gather(levels, tf.cast(images, tf.int32))

        return take

    take_labelled, take_real = define_take(supervised[0]), define_take(dataset[0])

    def classify(X, y):
        y_pred = c_model(X, training=True)
        accuracy = keras.metrics.sparse_categorical_accuracy(y, y_pred)
        return class_loss(y, y_pred), tf.reduce_mean(accuracy)

    def discriminate(X, targets):
        outputs = d_model(X, training=True)
        if not isinstance(outputs, (list, tuple)):
            return (binary_loss(targets, outputs),)
        # multi-output: these images' class is 'unknown', the last one
        unknown = tf.fill((X.shape[0],), N_CLASSES)
        return (binary_loss(targets, outputs[0]) + class_loss(unknown, outputs[1]),)

    def deceive(z, targets):
        return (binary_loss(targets, gan_model(z, training=True)),)

    def split(batch):
        first, n_larger = divmod(batch.shape[0], n_parts)
        sizes = [first + 1] * n_larger + [first] * (n_parts - n_larger)
        return tf.split(batch, [size for size in sizes if size])

    def update(network, optimizer, objective, *batch):
        """Minimise the first of objective's values; return their means."""
        weights = network.trainable_variables
        # in float16 the optimizer scales the loss, and the gradients back
        scale = optimizer.scale_loss(tf.ones(()))
        values, gradients = [], []
        for part in zip(*map(split, batch), strict=True):
            share = part[0].shape[0] / batch[0].shape[0]
            with tf.GradientTape() as tape:
                loss, *others = objective(*part)
            gradients.append(tape.gradient(loss, weights, scale * share))
            values.append([value * share for value in (loss, *others)])
        optimizer.apply([tf.add_n(g) for g in zip(*gradients, strict=True)], weights)
        return [tf.add_n(v) for v in zip(*values, strict=True)]

    for network, model in (
        (c_model, c_model),
        (d_model, d_model),
        (g_model, gan_model),
    ):
        model.optimizer.build(network.trainable_variables)

    # of a step's random numbers, four are for its draws, four a part for dropout
    n_numbers = 4 + 4 * n_parts

    def draw(step):
        seeds = [tf.stack([seed, n_numbers * step + i]) for i in range(4)]
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
            dropout.seed_generator.state.assign(tf.stack([seed, n_numbers * step + 4]))
        real, generated = tf.ones((half_batch, 1)), tf.zeros((half_batch, 1))

        # (1) Update c: minimise -log p(y|x) on labelled images
        c_loss, c_acc = update(c_model, c_model.optimizer, classify, X_labelled, y)

        # (2) Update d: minimise -log D(x) on real images, labelled or not
        (d_loss_real,) = update(d_model, d_model.optimizer, discriminate, X_real, real)

        # (3) Update d: minimise -log(1 - D(G(z))) on generated images
        X_fake = tf.concat([g_model(z, training=True) for z in split(z_fake)], axis=0)
        (d_loss_fake,) = update(
            d_model, d_model.optimizer, discriminate, X_fake, generated
        )

        # (4) Update g alone: minimise -log D(G(z))
        (g_loss,) = update(
            g_model, gan_model.optimizer, deceive, z_gan, tf.ones((n_batch, 1))
        )

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
):
    """Train the four models on [X, y] and fill a run's folder; return its path.

    X: float32 in [-1, 1] or uint8 in [0, 255]. n_labels images are labelled,
    n_labels / 10 of each class; the other labels only measure accuracy. Half a batch
    is labelled, half is unlabelled.
    test_dataset: [X, y] on which accuracy is measured too. seed: 0 to 2**31 - 1;
    None draws one. out: the folder, None for runs/<date>-<time>-sgan_mnist.
    max_steps: end earlier. verbose: 0, 1 (one line updated in place) or 2 (a line a
    step). file_format: 'keras' or 'h5'. options: recorded in settings.json.
    resume: go on from the newest checkpoint in `out`. jit, n_parts: as in
    define_train_steps.

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
    labelled = select_supervised_indices(y, n_labels, N_CLASSES, rng)
    supervised = [X[labelled], y[labelled]]
    print(supervised[0].shape, supervised[1].shape)
    sheet_points = generate_latent_points(latent_dim, 100, rng)
    print(
        f"n_epochs={n_epochs}, n_batch={n_batch}, 1/2={half_batch}, "
        f"b/e={bat_per_epo}, steps={n_steps}"
    )

    fast_conv.accelerate(g_model)
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
    settings = {
        "options": options or {},
        "seed": seed,
        "n_batch": n_batch,
        "jit": jit,
        "n_parts": n_parts,
        "versions": versions(),
        "data_sha256": digest_of(dataset, test_dataset),
        "labelled_images": labelled.tolist(),
    }

    out = Path(out or dated_folder("runs", "sgan_mnist"))
    if not resume:
        new_folder(out)
    signals, progress = [], Progress(verbose)
    with locked(out), noted_signals(signals.append), progress, writing_to(out):
        if resume:
            step, history, accuracy, seconds = resume_run(out, state, settings)
            if max_steps is not None and max_steps <= step:
                raise InputError(
                    f"max_steps {max_steps}: the run in {out} has made {step} steps "
                    "already; give more"
                )
        else:
            new_folder(out)  # again, since another run may have been quicker
            step, history, accuracy, seconds = 0, [], [], 0.0
        with write_atomically(out / "settings.json") as path:
            path.write_text(json.dumps(settings, indent=1) + "\n")
        write_rows(
            out / "history.csv",
            [HISTORY, *(history_row(i, row) for i, row in enumerate(history, 1))],
        )
        write_rows(out / "accuracy.csv", [ACCURACY, *accuracy])
        started = time.perf_counter() - seconds
        saved = time.perf_counter()

        # a GPU idles between calls, a CPU does not
        steps_per_call = 50 if tf.config.list_logical_devices("GPU") else 1
        last_step = min(n_steps, max_steps or n_steps)
        progress.begin(step, last_step)
        while step < last_step:
            epoch_end = (step // bat_per_epo + 1) * bat_per_epo
            n = min(steps_per_call, epoch_end - step, last_step - step)
            figures = train_steps(tf.constant(step), tf.constant(n)).numpy()
            history.extend(figures)
            rows = list(enumerate(figures, step + 1))
            append_rows(out / "history.csv", [history_row(i, row) for i, row in rows])
            for i, row in rows:
                progress.show(i, row)
                check_finite(i, row)
            step += n
            evaluate = step in (epoch_end, last_step)
            if evaluate:
                progress.end_line()
                accuracies = summarize_performance(
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
                )
                epoch = f"{step / bat_per_epo:g}"
                elapsed = f"{time.perf_counter() - started:.1f}"
                accuracy.append([epoch, str(step), *accuracies, elapsed])
                append_rows(out / "accuracy.csv", accuracy[-1:])
            stopping = bool(signals) and step < last_step
            due = time.perf_counter() - saved > CHECKPOINT_SECONDS
            if evaluate or stopping or due:
                record = {
                    "settings": settings,
                    "seconds": time.perf_counter() - started,
                    "accuracy": accuracy,
                    "history": np.array(history, np.float32),
                }
                save_checkpoint(out, state, step, record)
                saved = time.perf_counter()
            if stopping:
                resumption = f"--resume {shlex.quote(str(out))}"
                if options is None:
                    resumption = f"resume=True, out={str(out)!r}"
                raise Interrupted(
                    signals[0], f"saved after step {step}; go on with {resumption}"
                )
        plot_history(out)
        save_animation(out)
    return out


def resume_run(out, state, settings):
    """Restore the variables in `state` from the newest whole checkpoint in `out`.

    Returns step, history (list of (5,) arrays), accuracy (rows) and seconds so far.
    Raises InputError where the checkpoint belongs to a run with other settings.
    """
    remove_partials(out)
    step, record = restore_newest(out, state)
    if record is None:
        return 0, [], [], 0.0
    for name in (
        "seed",
        "n_batch",
        "jit",
        "n_parts",
        "data_sha256",
        "labelled_images",
    ):
        if record["settings"][name] != settings[name]:
            raise InputError(
                f"{out}: was started with another {name}; resume it with the same data "
                "and settings"
            )
    before, now = record["settings"]["versions"], settings["versions"]
    changed = [name for name in now if now[name] != before.get(name)]
    if changed:
        print(
            f"{out}: was started with another version of {', '.join(changed)}: the "
            "bits may differ from an uninterrupted run's",
            file=sys.stderr,
        )
    return step, list(record["history"]), record["accuracy"], record["seconds"]


def digest_of(*datasets):
    """Return the SHA-256 of the arrays in these data sets, None left out."""
    digest = hashlib.sha256()
    for array in (a for dataset in datasets if dataset for a in dataset):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


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
):
    """Save a sheet of n_samples generated digits and both models; measure accuracy.

    sheet_points: (n_samples, latent_dim), None for fresh ones. Returns the
    percentages for accuracy.csv, as text, '' where there are no such images: accuracy
    on dataset and on test_dataset, and error on the labelled images, supervised.
    """
    if sheet_points is None:
        sheet_points = generate_latent_points(latent_dim, n_samples)
    out = Path(out)
    plot_name = f"generated_plot_{step:04d}.png"
    save_sheet(g_model.predict_on_batch(sheet_points), out / plot_name)

    train_acc, test_acc, labelled_acc = (
        None if samples is None else measure_accuracy(c_model, *samples)
        for samples in (dataset, test_dataset, supervised)
    )

    g_name = f"g_model_{step:04d}.{file_format}"
    c_name = f"c_model_{step:04d}.{file_format}"
    for model, name in ((g_model, g_name), (c_model, c_name)):
        with write_atomically(out / name) as path:
            try:
                model.save(path)
            except RuntimeError as error:  # h5py's, where the disk is full
                raise OSError(" ".join(str(error).split())) from error
    if verbose:
        print(f"Classifier Accuracy: {train_acc:.3f}%")
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


def draw_seed():
    return int(np.random.SeedSequence().generate_state(1)[0] >> 1)


DEFAULTS = {
    "epochs": 20,
    "batch": 100,
    "labels": 100,
    "latent_dim": 100,
    "seed": None,
    "data": None,
    "discriminator": "stacked",
    "precision": "float32",
    "jit": "auto",
    "threads": None,
    "max_steps": None,
    "format": "keras",
}


def parse_arguments(argv):
    parser = OneLineParser(
        description="Train a semi-supervised GAN on MNIST with a few labelled images."
    )
    add = parser.add_argument
    add("--epochs", type=int, help="passes over the training images (default: 20)")
    add("--batch", type=int, help="images a batch, an even number (default: 100)")
    add("--labels", type=int, help="labelled images, of all classes (default: 100)")
    add("--latent-dim", type=int, help="size of a latent point (default: 100)")
    add("--seed", type=int, help="0 to 2147483647 (default: drawn and printed)")
    add("--data", metavar="FILE", help=".npz file (default: the bundled MNIST)")
    add("--out", metavar="DIR", help="new folder (default: runs/<date>-<time>-...)")
    add(
        "--discriminator",
        choices=("stacked", "shared", "multi-output"),
        help="design, see discriminators.py (default: stacked)",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        help="the mixed ones are faster where the processor has them; auto: "
        "mixed_bfloat16 where it has that, else float32 (default: float32)",
    )
    add(
        "--jit",
        choices=JIT,
        help="compile the step with XLA; auto: on a GPU only (default: auto)",
    )
    add(
        "--threads",
        type=int,
        metavar="N",
        help="threads on a CPU; the last bits of a run depend on it (default: one a "
        "core, 16 at most)",
    )
    add("--max-steps", type=int, metavar="N", help="stop after N steps")
    add(
        "--verbose",
        choices=("auto", "0", "1", "2"),
        default="auto",
        help="2: a line a step; 1: one line kept up to date, with the time left; "
        "0: no progress; auto: 1 on a terminal, else 2 (default: auto)",
    )
    add(
        "--format",
        choices=("keras", "h5"),
        help="file format of the models (default: keras)",
    )
    add(
        "--resume",
        metavar="DIR",
        help="go on with the run in this folder; --epochs may be raised",
    )
    return parser.parse_args(argv)


def check_options(options):
    """Raise InputError for a number that is out of its range."""
    for name in ("epochs", "latent_dim", "threads", "max_steps"):
        value = options[name]
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: must be 1 or more")
    seed = options["seed"]
    if seed is not None and not 0 <= seed < 2**31:
        raise InputError(f"--seed {seed}: must be from 0 to 2147483647")


def saved_options(folder, given):
    """Return the options of the run in `folder`, to be resumed with those given.

    Raises InputError where there is no run or a given option differs from the run's;
    epochs may grow, and max_steps holds for one start only.
    """
    path = Path(folder) / "settings.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))["options"]
        saved = {name: saved[name] for name in DEFAULTS if saved[name] is not None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not the settings of a run; name a run's folder"
        ) from error
    # as on the command line, so that types and choices are checked
    arguments = [f"--{name.replace('_', '-')}={saved[name]}" for name in saved]
    parsed = vars(parse_arguments(arguments))
    options = {**DEFAULTS, **{name: parsed[name] for name in saved}}
    for name, value in given.items():
        grows = name == "epochs" and value >= options[name]
        # the images are compared later, wherever their file is
        free = name in ("max_steps", "data")
        if value != options[name] and not grows and not free:
            raise InputError(
                f"{folder}: was started with {name} {options[name]}, not {value}; "
                "resume it without that option"
            )
    return {**options, "max_steps": None, **given}


def run(args):
    given = {name: vars(args)[name] for name in DEFAULTS}
    given = {name: value for name, value in given.items() if value is not None}
    if "data" in given:
        given["data"] = str(Path(given["data"]).resolve())
    if "precision" in given:
        given["precision"] = choose_precision(given["precision"])
    if args.resume is None:
        options = {**DEFAULTS, **given}
    elif args.out is None:
        options = saved_options(args.resume, given)
    else:
        raise InputError("--resume names the folder already; leave out --out")
    if options["threads"] is None:
        options["threads"] = min(count_cores(), 16)
    check_options(options)
    if options["seed"] is None:
        options["seed"] = draw_seed()
    data = args.data or options["data"]
    dataset = load_real_samples(data, scale=False)
    test_dataset = load_test_samples(data, scale=False)
    check_batch(options["batch"], len(dataset[0]))
    check_supervised(dataset[1], options["labels"])
    out = args.resume
    if out is None:
        out = new_folder(args.out or dated_folder("runs", "sgan_mnist"))
    if given.get("seed") is None:
        print(f"seed={options['seed']}")

    jit = choose_jit(options["jit"])
    n_parts = count_parts(options["threads"], jit, options["batch"])
    prepare_tensorflow(options["precision"], options["threads"], n_parts)
    keras.utils.set_random_seed(options["seed"])
    d_model, c_model = define_discriminator(design=options["discriminator"])
    g_model = define_generator(options["latent_dim"])
    gan_model = define_gan(g_model, d_model)
    verbose = args.verbose
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    out = train(
        g_model,
        d_model,
        c_model,
        gan_model,
        dataset,
        options["latent_dim"],
        options["epochs"],
        options["batch"],
        n_labels=options["labels"],
        test_dataset=test_dataset,
        seed=options["seed"],
        out=out,
        max_steps=options["max_steps"],
        verbose=int(verbose),
        file_format=options["format"],
        options=options,
        resume=args.resume is not None,
        jit=jit,
        n_parts=n_parts,
    )
    print(f"The run is in {out}")


def main(argv=None):
    return run_script("sgan_mnist.py", lambda: run(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
