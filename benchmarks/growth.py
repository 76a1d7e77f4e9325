"""Time sgan_mnist.py's step as the batch, the labels and the images grow.

    python benchmarks/growth.py                       # into results/growth

One of the three grows at a time, in float32. The settings take turns, one step each,
in one process.
"""

import sys
import time
from typing import NamedTuple

import numpy as np
from shared import (
    N_BATCH,
    N_LABELS,
    define_our_step,
    define_parser,
    describe_run,
    markdown_table,
    one_line,
    output_files,
    positive,
    prepare,
    quartiles,
    run_in_fresh_process,
    write_text,
)

from gankit.backend import figure
from gankit.command import run_script
from gankit.data.load import load_arrays
from gankit.pictures import plain_style, save_figure
from gankit.training.records import write_rows


class Setting(NamedTuple):
    batch: int = N_BATCH
    labels: int = N_LABELS
    size: int = 28


FACTORS = {
    "batch": ("images a batch", (20, 50, 100, 200, 400)),
    "labels": ("labelled images", (20, 100, 500, 1000, 5000)),
    "size": ("height and width, pixels", (28, 32, 64)),
}
COLUMNS = (
    "factor",
    "value",
    "lower_quartile_s",
    "median_s",
    "upper_quartile_s",
    "multiply_adds",
)


def resize(x, size):
    """Enlarge images (n, h, h) by a whole factor, then pad them to (n, size, size)."""
    factor = size // x.shape[1]
    x = x.repeat(factor, axis=1).repeat(factor, axis=2)
    missing = size - x.shape[1]
    border = (missing // 2, missing - missing // 2)
    return np.pad(x, ((0, 0), border, border))


def measure(settings, n_steps, n_warm_up):
    """Return (seconds of n_steps steps, multiply-adds of a step) for each setting."""
    prepare("float32")
    x, y = load_arrays().train
    steps, counts = [], []
    for setting in settings:
        X = resize(x[..., 0], setting.size)[..., np.newaxis]
        step, count = define_our_step([X, y], setting.batch, setting.labels)
        steps.append(step)
        counts.append(count)
    seconds = [[] for _ in settings]
    for i in range(n_warm_up + n_steps):
        for step, times in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            if i >= n_warm_up:
                times.append(time.perf_counter() - start)
    return list(zip(seconds, counts, strict=True))


@plain_style()
def plot(rows, path):
    fig = figure.Figure(figsize=(10, 3.5), layout="constrained")
    for axes, (factor, (label, _)) in zip(
        fig.subplots(1, len(FACTORS), sharey=True), FACTORS.items(), strict=True
    ):
        _, values, low, median, high, _ = zip(
            *(row for row in rows if row[0] == factor), strict=True
        )
        axes.plot(values, median, "o-", ms=4)
        axes.fill_between(values, low, high, alpha=0.3)
        axes.set(xlabel=label)
        axes.grid(alpha=0.3)
        if factor == "labels":
            axes.set_xscale("log")
    fig.axes[0].set(ylabel="one step, s: median and quartiles", ylim=(0, None))
    save_figure(fig, path)


def describe(rows):
    """Return the Markdown table of the results."""
    header = ["", "value", "median, s", "quartiles, s", "multiply-adds, 1e9"]
    cells = [
        [
            FACTORS[factor][0],
            str(value),
            f"{median:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{count / 1e9:.2f}",
        ]
        for factor, value, low, median, high, count in rows
    ]
    return markdown_table(header, cells)


def run(args, argv):
    csv_path, markdown_path, plot_path = output_files(
        args.out, "growth.csv", "growth.md", "growth.png"
    )
    description = describe_run("growth.py", argv)
    settings = {
        (factor, value): Setting(**{factor: value})
        for factor, (_, values) in FACTORS.items()
        for value in values
    }
    distinct = list(dict.fromkeys(settings.values()))
    results = run_in_fresh_process(measure, distinct, args.steps, args.warm_up)
    measured = dict(zip(distinct, results, strict=True))
    rows = []
    for (factor, value), setting in settings.items():
        seconds, count = measured[setting]
        rows.append((factor, value, *quartiles(seconds), count))
    write_rows(csv_path, [COLUMNS, *rows])
    plot(rows, plot_path)
    text = f"{describe(rows)}\n{one_line(description)}"
    write_text(markdown_path, text)
    print(text, end="")


def main(argv=None):
    parser = define_parser(__doc__.splitlines()[0], "growth", 20)
    parser.add_argument(
        "--warm-up", type=positive, default=3, metavar="N", help="steps before those"
    )
    args = parser.parse_args(argv)
    return run_script("growth.py", lambda: run(args, argv))


if __name__ == "__main__":
    sys.exit(main())
