"""Print the tables of the README from the recorded runs, and draw their plots.

    python results/tables.py

Reads the CSV files beside it, writes sgan_mnist/against_tutorial.png, and
error_by_minutes.png in tuned_budgets/ and in ablation/.
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


def group(rows, name):
    """Return the rows by what `name` gives of each, in their order."""
    groups = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row)
    return groups


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


def mean_and_sd(values):
    """Return 'mean ± standard deviation' of percentages, of one value itself."""
    sd = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{sd}"


def print_draws(rows, name):
    """Print test accuracy after the last epoch: a line a value of the column `name`."""
    seeds = sorted({row["seed"] for row in rows}, key=int)
    print(f"| {name} |", " | ".join(f"seed {seed}" for seed in seeds), "| mean ± sd |")
    print("|---|", "---:|" * (len(seeds) + 1), sep="")
    for value in dict.fromkeys(row[name] for row in rows):
        last = {row["seed"]: row for row in rows if row[name] == value}
        accuracy = [float(last[seed]["test_accuracy"]) for seed in seeds]
        cells = " | ".join(f"{percentage:.2f}" for percentage in accuracy)
        print(f"| `{value}` | {cells} | {mean_and_sd(accuracy)} |")


def print_budgets(rows):
    print("| budget, minutes | draws | test error, % (mean ± sd) | best | worst |")
    print("|---:|---:|---:|---:|---:|")
    for budget in dict.fromkeys(row["budget_minutes"] for row in rows):
        errors = [float(r["test_error"]) for r in rows if r["budget_minutes"] == budget]
        print(
            f"| {budget} | {len(errors)} | {mean_and_sd(errors)} | {min(errors):.2f} "
            f"| {max(errors):.2f} |"
        )


def print_labels(rows):
    """Print the test errors by number of labels: a column a method, and its range."""
    methods = {"standalone": "stand-alone", "tuned": "tuned SGAN"}
    heads = (f"{title} | draws | range" for title in methods.values())
    print("| labels |", " | ".join(heads), "|")
    print("|---:|", "---:|" * (3 * len(methods)), sep="")
    for labels in sorted({int(row["labels"]) for row in rows}):
        cells = []
        for method in methods:
            errors = [
                float(row["test_error"])
                for row in rows
                if (row["method"], int(row["labels"])) == (method, labels)
            ]
            if not errors:
                cells += ["", "0", ""]
                continue
            span = f"{min(errors):.2f} to {max(errors):.2f}"
            cells += [mean_and_sd(errors), str(len(errors)), span]
        print(f"| {labels} |", " | ".join(cells), "|")


def print_ablations(whole, rows):
    """Print the test errors without each ingredient, beside the same draws with all.

    whole, rows: sorted by seed, rows with the same seeds for each ingredient.
    """
    seeds = sorted({row["seed"] for row in rows}, key=int)
    heads = " | ".join(f"seed {seed}" for seed in seeds)
    print(f"| left out | {heads} | mean | steps |")
    print("|---|", "---:|" * (len(seeds) + 2), sep="")
    whole = [row for row in whole if row["seed"] in seeds]
    methods = group(rows, lambda row: row["method"].removeprefix("tuned-without-"))
    for left_out, runs in {"nothing": whole, **methods}.items():
        errors = [float(run["test_error"]) for run in runs]
        steps = sorted(int(run["step"]) for run in runs)
        print(
            f"| {left_out} |",
            " | ".join(f"{error:.2f}" for error in errors),
            f"| {np.mean(errors):.2f} | {steps[0]:,} to {steps[-1]:,} |",
        )


def plot_error_by_minutes(lines, path, standalone=()):
    """Plot the rows of accuracy.csv files; lines: name -> rows of one or more seeds."""
    fig = Figure(figsize=(8, 4), layout="constrained")
    axes = fig.subplots()
    for i, (name, rows) in enumerate(lines.items()):
        for seed in dict.fromkeys(row["seed"] for row in rows):
            points = [
                (float(row["seconds"]) / 60, 100 - float(row["test_accuracy"]))
                for row in rows
                if row["seed"] == seed
            ]
            axes.plot(*zip(*points, strict=True), color=f"C{i}", lw=1, label=name)
            name = None
    if standalone:
        points = [
            (float(row["seconds"]) / 60, float(row["test_error"])) for row in standalone
        ]
        axes.plot(*zip(*points, strict=True), "k.", label="stand-alone classifier")
    axes.axhline(100 - 95.92, color="grey", ls=":", label="the tutorial's best")
    axes.set(xlabel="minutes", ylabel="test error, %", xscale="log", yscale="log")
    axes.grid(alpha=0.3, which="both")
    fig.legend(loc="outside right upper", fontsize="small")
    fig.savefig(path, dpi=120)


def main():
    rows = read_rows(RESULTS / "sgan_mnist" / "accuracy.csv")
    print_epochs(rows)
    plot_epochs(rows, RESULTS / "sgan_mnist" / "against_tutorial.png")
    print()
    print_draws(read_rows(RESULTS / "designs.csv"), "design")
    print()
    print_draws(read_rows(RESULTS / "precision.csv"), "precision")
    print()
    budgets = RESULTS / "tuned_budgets"
    tuned = read_rows(budgets / "runs.csv")
    print_budgets(tuned)
    print()
    comparison = read_rows(RESULTS / "comparison" / "runs.csv")
    print_labels(comparison)
    print()
    print_labels(read_rows(RESULTS / "fashion" / "runs.csv"))
    print()
    ablation = RESULTS / "ablation"
    whole = [row for row in tuned if row["budget_minutes"] == "10"]
    print_ablations(whole, read_rows(ablation / "runs.csv"))
    curves = read_rows(budgets / "curves.csv")
    without = read_rows(ablation / "curves.csv")
    seeds = {row["seed"] for row in without}
    plot_error_by_minutes(
        {
            "tutorial's SGAN": [
                *({**row, "seed": "1"} for row in rows),
                *read_rows(RESULTS / "comparison" / "sgan_curves.csv"),
            ],
            **group(curves, lambda row: f"tuned, {row['budget_minutes']} minutes"),
        },
        budgets / "error_by_minutes.png",
        [
            row
            for row in comparison
            if (row["method"], row["labels"]) == ("standalone", "100")
        ],
    )
    plot_error_by_minutes(
        {
            "nothing left out": [
                row
                for row in curves
                if row["budget_minutes"] == "10" and row["seed"] in seeds
            ],
            **group(
                without, lambda row: row["method"].replace("tuned-without-", "without ")
            ),
        },
        ablation / "error_by_minutes.png",
    )


if __name__ == "__main__":
    sys.exit(main())
