"""Time one training step: the tutorial's loop, sgan_mnist.py's step and PyTorch.

    python benchmarks/step_time.py                       # into results/step_time
    python benchmarks/step_time.py --steps 100 --out DIR
    python benchmarks/step_time.py --variants float32 no_onednn --out DIR

Each variant has a process of its own; they take turns, one step each, so that all see
the same machine. Large matrix products, measured in between, give the machine's rate,
and the rate gives each variant's bound: the time of its multiply-adds at that rate.
"""

import contextlib
import functools
import importlib.util
import json
import os
import random
import sys
import time

import numpy as np
from shared import (
    LATENT_DIM,
    N_BATCH,
    N_LABELS,
    count_step,
    define_loop,
    define_models,
    define_our_step,
    define_parser,
    describe_run,
    even,
    fresh_process,
    markdown_table,
    one_line,
    output_files,
    positive,
    prepare,
    quartiles,
    run_in_fresh_process,
    write_text,
)

from gankit.backend import LazyModule, tf
from gankit.command import InputError, run_script
from gankit.data.images import scale_images
from gankit.data.load import load_arrays
from helpers import select_supervised_samples

torch_step = LazyModule("torch_step")

# title, and the product that gives the bound
VARIANTS = {
    "loop": ("tutorial's loop, corrected", "float32_product"),
    "float32": ("sgan_mnist.py, float32", "float32_product"),
    "no_onednn": ("sgan_mnist.py, float32, without oneDNN", "float32_product"),
    "mixed_bfloat16": ("sgan_mnist.py, mixed_bfloat16", "bfloat16_product"),
    "pytorch": ("PyTorch, float32", "float32_product"),
}
PRODUCTS = {"float32_product": "float32", "bfloat16_product": "bfloat16"}
# idle OpenMP threads, which PyTorch has, may spin for 0.2 s after their work
REST = 0.25


def define_product(dtype, size):
    a, b = (tf.cast(tf.random.normal((size, size)), dtype) for _ in range(2))
    return lambda: tf.matmul(a, b)


@functools.cache
def define_step(variant, n_batch, size):
    """Return step() of a variant or product; called in that variant's process."""
    if variant in PRODUCTS:
        return define_product(PRODUCTS[variant], size)
    x, y = load_arrays().train
    if variant == "no_onednn":
        # read when TensorFlow is imported
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
        variant = "float32"
    if variant in ("float32", "mixed_bfloat16"):
        prepare(variant)
        return define_our_step([x, y], n_batch)[0]
    dataset = [scale_images(x), y]
    if variant == "loop":
        return define_loop(dataset, n_batch)[0]
    supervised = select_supervised_samples(dataset, N_LABELS)
    return torch_step.define_step(dataset, supervised, LATENT_DIM, n_batch)


def time_step(*variant):
    step = define_step(*variant)
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def count_default_step(n_batch):
    g_model, d_model, *_ = define_models()
    return count_step(g_model, d_model, n_batch)


def measure(names, n_steps, n_warm_up, n_batch, size):
    """Return {name: the seconds of n_steps steps}, measured in turns."""
    seconds = {name: [] for name in names}
    rng = random.Random(1)
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(fresh_process()) for name in names}
        for i in range(n_warm_up + n_steps):
            # a new order each time: none always follows the same other
            for name in rng.sample(names, len(names)):
                time.sleep(REST)
                task = processes[name].submit(time_step, name, n_batch, size)
                if i < n_warm_up:
                    task.result()
                else:
                    seconds[name].append(task.result())
    return seconds


def summarise(seconds, multiply_adds, size):
    """Return rates, in floating-point operations a second, and figures by variant."""
    rates = {
        name: 2 * size**3 / np.median(seconds[name])
        for name in PRODUCTS
        if name in seconds
    }
    variants = {}
    for name, (title, product) in VARIANTS.items():
        if name not in seconds:
            continue
        bound = 2 * multiply_adds / rates[product]
        variants[name] = {
            "title": title,
            "quartiles": quartiles(seconds[name]),
            "bound": bound,
            "share_of_bound": bound / np.median(seconds[name]),
            "speed_up_over": {
                other: np.median(np.divide(seconds[other], seconds[name]))
                for other in ("loop", "pytorch")
                if other in seconds
            },
        }
    return rates, variants


def describe(rates, variants, multiply_adds):
    """Return the Markdown of the results."""
    rows = []
    for figures in variants.values():
        low, median, high = figures["quartiles"]
        speed_up = figures["speed_up_over"]
        rows.append(
            [
                figures["title"],
                f"{median:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{figures['bound']:.3f}",
                f"{100 * figures['share_of_bound']:.0f} %",
                f"{speed_up['loop']:.2f}" if "loop" in speed_up else "",
                f"{speed_up['pytorch']:.2f}" if "pytorch" in speed_up else "",
            ]
        )
    header = [
        "one step",
        "median, s",
        "quartiles, s",
        "bound, s",
        "share of bound",
        "times as fast as the loop",
        "as PyTorch",
    ]
    rate_texts = (f"{PRODUCTS[name]} {rates[name] / 1e9:.0f}" for name in rates)
    return (
        f"{markdown_table(header, rows)}\n"
        f"A step takes {multiply_adds / 1e9:.2f}e9 multiply-adds. Large matrix "
        f"products reach, in GFLOP/s: {', '.join(rate_texts)}.\n\n"
    )


def run(args, argv):
    n_images = len(load_arrays().train[0])
    if args.batch > n_images:
        raise InputError(
            f"--batch {args.batch}: there are {n_images} images; give a smaller batch"
        )
    names = list(dict.fromkeys(args.variants))
    if "pytorch" in names and importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its step is left out")
        names.remove("pytorch")
        if not names:
            raise InputError(
                "--variants pytorch: not installed; pip install -r "
                "requirements/benchmarks.txt"
            )
    names += dict.fromkeys([VARIANTS[name][1] for name in names])
    json_path, markdown_path = output_files(args.out, "step_time.json", "step_time.md")
    description = describe_run("step_time.py", argv)
    multiply_adds = run_in_fresh_process(count_default_step, args.batch)
    seconds = measure(names, args.steps, args.warm_up, args.batch, args.matrix)
    rates, variants = summarise(seconds, multiply_adds, args.matrix)
    results = {
        **description,
        "batch": args.batch,
        "warm_up": args.warm_up,
        "multiply_adds": multiply_adds,
        "matrix": args.matrix,
        "flops_per_second": rates,
        "variants": variants,
        "seconds": seconds,
    }
    text = describe(rates, variants, multiply_adds) + one_line(description)
    write_text(json_path, json.dumps(results, indent=1) + "\n")
    write_text(markdown_path, text)
    print(text, end="")


def main(argv=None):
    parser = define_parser(__doc__.splitlines()[0], "step_time", 30)
    add = parser.add_argument
    add("--warm-up", type=positive, default=5, metavar="N", help="steps before those")
    add(
        "--batch",
        type=even,
        default=N_BATCH,
        metavar="N",
        help="images a batch, an even number",
    )
    add(
        "--variants",
        nargs="+",
        choices=list(VARIANTS),
        default=list(VARIANTS),
        metavar="NAME",
        help=f"of {', '.join(VARIANTS)}",
    )
    add("--matrix", type=positive, default=4096, metavar="N", help="products are NxN")
    args = parser.parse_args(argv)
    return run_script("step_time.py", lambda: run(args, argv))


if __name__ == "__main__":
    sys.exit(main())
