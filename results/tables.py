"""Print the tables of the README from the recorded runs, and draw their plot.

    python results/tables.py

Reads sgan_mnist/accuracy.csv, designs.csv and precision.csv beside it, writes
sgan_mnist/against_tutorial.png.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent
# the tutorial's run: accuracy on the training set after each epoch, in percent
TUTORIAL = [
    *(85.543, 91.487, 92.628, 94.017, 94.252, 93.828, 94.122, 93.597, 95.283, 95.287),
    *(95.263, 95.432, 95.270, 95.212, 94.803, 94.640, 93.622, 91.870, 92.525, 92.180),
]


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def print_epochs(rows):
    print("| epoch | step | tutorial, training set | training set | test set |")
    print("|---:|---:|---:|---:|---:|")
    for theirs, row in zip(TUTORIAL, rows, strict=True):
        print(
            f"| {row['epoch']} | {row['step']} | {theirs:.3f} "
            f"| {row['train_accuracy']} | {row['test_accuracy']} |"
        )


def plot_epochs(rows, path):
    fig = Figure(figsize=(7, 4), layout="constrained")
    axes = fig.subplots()
    epochs = [int(row["epoch"]) for row in rows]
    axes.plot(epochs, TUTORIAL, "s--", color="grey", ms=4, label="tutorial, training")
    for part, name in (("train", "training"), ("test", "test")):
        accuracy = [float(row[f"{part}_accuracy"]) for row in rows]
        axes.plot(epochs, accuracy, "o-", ms=4, label=f"here, {name}")
    axes.set(xlabel="epoch (600 steps)", ylabel="accuracy, %", xticks=epochs)
    axes.grid(alpha=0.3)
    axes.legend()
    fig.savefig(path, dpi=120)


def print_draws(rows, name):
    """Print test accuracy after the last epoch: a line a value of the column `name`."""
    seeds = sorted({row["seed"] for row in rows}, key=int)
    print(f"| {name} |", " | ".join(f"seed {seed}" for seed in seeds), "| mean ± sd |")
    print("|---|", "---:|" * (len(seeds) + 1), sep="")
    for value in dict.fromkeys(row[name] for row in rows):
        last = {row["seed"]: row for row in rows if row[name] == value}
        accuracy = np.array([float(last[seed]["test_accuracy"]) for seed in seeds])
        cells = " | ".join(f"{percentage:.2f}" for percentage in accuracy)
        mean = f"{accuracy.mean():.2f} ± {accuracy.std(ddof=1):.2f}"
        print(f"| `{value}` | {cells} | {mean} |")


def main():
    rows = read_rows(RESULTS / "sgan_mnist" / "accuracy.csv")
    print_epochs(rows)
    plot_epochs(rows, RESULTS / "sgan_mnist" / "against_tutorial.png")
    print()
    print_draws(read_rows(RESULTS / "designs.csv"), "design")
    print()
    print_draws(read_rows(RESULTS / "precision.csv"), "precision")


if __name__ == "__main__":
    sys.exit(main())
