"""What the benchmarks share: two ways to train, their arithmetic, the files written.

The processor is measured, on Linux or macOS: GPUs are hidden.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import math
import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


import sgan_mnist  # noqa: E402
from gankit.backend import layers  # noqa: E402
from gankit.command import InputError, OneLineParser  # noqa: E402
from gankit.folders import writable_folder, write_atomically  # noqa: E402
from gankit.training import devices  # noqa: E402
from gankit.training.run import LabelledRun  # noqa: E402
from gankit.training.settings import RunSettings  # noqa: E402
from helpers import (  # noqa: E402
    generate_fake_samples,
    generate_latent_points,
    generate_real_samples,
    select_supervised_samples,
)

LATENT_DIM = 100
N_BATCH = 100
N_LABELS = 100


def define_models(image_shape=(28, 28, 1)):
    """Return g_model, d_model, c_model, gan_model."""
    d_model, c_model = sgan_mnist.define_discriminator(image_shape)
    g_model = sgan_mnist.define_generator(LATENT_DIM, image_shape=image_shape)
    return g_model, d_model, c_model, sgan_mnist.define_gan(g_model, d_model)


def define_loop(dataset, n_batch):
    """Return step(), one step as the tutorial makes it, and the c_model it trains.

    Four calls of train_on_batch and one of predict_on_batch; numpy draws the batches.
    """
    supervised = select_supervised_samples(dataset, N_LABELS)
    g_model, d_model, c_model, gan_model = define_models()
    half_batch = n_batch // 2
    rng = np.random.default_rng(1)

    def step():
        (X_sup, y_sup), _ = generate_real_samples(supervised, half_batch, rng)
        c_model.train_on_batch(X_sup, y_sup)
        (X_real, _), y_real = generate_real_samples(dataset, half_batch, rng)
        d_model.train_on_batch(X_real, y_real)
        X_fake, y_fake = generate_fake_samples(g_model, LATENT_DIM, half_batch, rng)
        d_model.train_on_batch(X_fake, y_fake)
        z = generate_latent_points(LATENT_DIM, n_batch, rng)
        gan_model.train_on_batch(z, np.ones((n_batch, 1)))

    return step, c_model


def prepare(precision):
    """Set TensorFlow up as sgan_mnist.py does."""
    threads = devices.count_cores()
    n_parts = devices.count_parts(threads, False, N_BATCH)
    devices.prepare_tensorflow(precision, threads, n_parts)


def define_our_step(dataset, n_batch, n_labels=N_LABELS):
    """Return step(), one step as sgan_mnist.py makes it, and its multiply-adds.

    dataset: [X, y], X as uint8 (n, h, w, 1). step returns the step's figures. Call
    prepare first.
    """
    models = define_models(dataset[0].shape[1:])
    g_model, d_model, c_model, gan_model = models
    run = LabelledRun("sgan_mnist", RunSettings(seed=1))
    run.supervised = select_supervised_samples(dataset, n_labels)
    run.n_parts = devices.count_parts(devices.count_cores(), False, n_batch)
    steps = run.compile(
        sgan_mnist.define_draw(dataset, LATENT_DIM, n_batch, run),
        sgan_mnist.define_train_step(*models, run),
        [d_model, c_model, g_model]
        + [model.optimizer for model in (c_model, d_model, gan_model)],
        columns=sgan_mnist.HISTORY,
        draws=4,
        passes=4,
    )
    numbers = itertools.count()

    def step():
        return steps(next(numbers), 1).numpy()[0]

    return step, count_step(g_model, d_model, n_batch)


def count_layers(model):
    """Return the multiply-adds of one image in each layer with a kernel, in order.

    A kernel's products with padding count too.
    """
    counts = []
    for layer in model.layers:
        if isinstance(layer, layers.Dense):
            places = 1
        elif isinstance(layer, layers.Conv2D):
            places = math.prod(layer.output.shape[1:3])
        elif isinstance(layer, layers.Conv2DTranspose):
            places = math.prod(layer.input.shape[1:3])
        else:
            continue
        counts.append(places * math.prod(layer.kernel.shape))
    return counts


def count_step(g_model, d_model, n_batch):
    """Return the multiply-adds of one training step.

    Forward pass, weights' gradient and inputs' gradient take equally many.
    """
    g, d = count_layers(g_model), count_layers(d_model)
    half_batch = n_batch // 2
    # three times: c, d on real, d on generated images; no gradient of the images
    d_update = half_batch * (3 * sum(d) - d[0])
    generated = half_batch * sum(g)
    # the gradient passes through d, whose weights stay, down to g's first layer
    g_update = n_batch * (2 * sum(d) + 3 * sum(g) - g[0])
    return 3 * d_update + generated + g_update


def fresh_process():
    """Return an executor of one new process, for settings that hold for a process."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def run_in_fresh_process(function, *args):
    with fresh_process() as executor:
        return executor.submit(function, *args).result()


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return number


def even(text):
    number = int(text)
    if number < 2 or number % 2:
        raise argparse.ArgumentTypeError(f"{text}: give an even number from 2 on")
    return number


def define_parser(description, name, n_steps):
    """Return a parser with the options of every benchmark."""
    parser = OneLineParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--steps", type=positive, default=n_steps, metavar="N", help="steps measured"
    )
    parser.add_argument(
        "--out",
        default=ROOT / "results" / name,
        metavar="DIR",
        help="folder of the results",
    )
    return parser


def output_files(out, *names):
    """Return the paths of the files `names` in the folder `out`, which it creates.

    Raises InputError where a file exists already or the folder can't be written.
    """
    paths = [writable_folder(out) / name for name in names]
    for path in paths:
        if path.exists():
            raise InputError(f"{path}: exists already; name another folder, --out")
    return paths


def write_text(path, text):
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def quartiles(seconds):
    """Return the lower quartile, the median and the upper quartile."""
    return np.percentile(seconds, (25, 50, 75)).tolist()


def markdown_table(header, rows):
    """Return a table of text cells; all columns but the first stand to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def describe_run(script, argv):
    """Return what a result must say of how it came about: a dict for JSON."""
    packages = ("tensorflow", "keras", "numpy", "torch")
    arguments = sys.argv[1:] if argv is None else argv
    return {
        "command": " ".join(["python", f"benchmarks/{script}", *map(str, arguments)]),
        "machine": {
            "processor": devices.processor_name(),
            "cores": os.cpu_count(),
            "memory_gib": _memory_gib(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "python": platform.python_version(),
            **{
                package: importlib.metadata.version(package)
                for package in packages
                if importlib.util.find_spec(package)
            },
        },
    }


def one_line(description):
    """Return what describe_run gave as the line below a table."""
    machine = description["machine"]
    versions = description["versions"].items()
    return (
        f"{machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']:.0f} GiB; "
        f"{', '.join(f'{name} {version}' for name, version in versions)}; "
        f"`{description['command']}`\n"
    )


def _memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
