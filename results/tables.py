"""Write the documents that show results from the recorded runs, and draw their plots.

    python results/tables.py            print the tables
    python results/tables.py --write    write docs/ from results/templates/; draw plots
    python results/tables.py --check    exit status 1 where docs/ differs from that

A template is the document with {{parts}} that this script fills in: a table by its
name in TABLES, or a figure or text by its kind in PARTS, see there.
"""

import argparse
import csv
import json
import re
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tour")]

import diffs  # noqa: E402
from papers import TOUR, spread  # noqa: E402

from gankit.backend import figure  # noqa: E402
from gankit.command import OneLineParser, RunError, run_script  # noqa: E402
from gankit.folders import write_atomically  # noqa: E402
from gankit.pictures import plain_style, save_figure  # noqa: E402

RESULTS = ROOT / "results"
TEMPLATES = RESULTS / "templates"
DOCS = ROOT / "docs"
# templates of documents that are not in docs/
PLACES = {"tour-readme.md": "../tour/README.md"}
# the tutorial's run: accuracy on the training set after each epoch, in percent
TUTORIAL = [
    *(85.543, 91.487, 92.628, 94.017, 94.252, 93.828, 94.122, 93.597, 95.283, 95.287),
    *(95.263, 95.432, 95.270, 95.212, 94.803, 94.640, 93.622, 91.870, 92.525, 92.180),
]
# of its best epoch's classifier on the test set
TUTORIAL_TEST = 95.920


def read_rows(path):
    """Return the rows of a CSV file: a list of dicts of texts."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def group(rows, name):
    """Return the rows by what `name` gives of each, in their order."""
    groups = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row)
    return groups


def select(rows, **values):
    """Return the rows that have these values in these columns."""
    return [row for row in rows if all(row[k] == v for k, v in values.items())]


def errors_of(rows):
    return [float(row["test_error"]) for row in rows]


def mean_and_sd(values):
    """Return 'mean ± standard deviation' of percentages, of one value itself."""
    sd = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{sd}"


def table(header, rows, n_left=0):
    """Return a Markdown table; the first `n_left` columns stand to the left."""
    marks = ["---"] * n_left + ["---:"] * (len(header) - n_left)
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join(marks)}|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines)


def tabulate_headline(accuracies, comparison):
    """Return the four figures by which the methods are told apart at 100 labels.

    accuracies: rows of the full run's accuracy.csv; comparison: rows of runs.csv.
    """
    last = float(accuracies[-1]["test_accuracy"])
    rows = [
        (
            "the tutorial's SGAN, its best epoch, picked with all labels",
            f"{100 - TUTORIAL_TEST:.2f}",
            f"{TUTORIAL_TEST:.2f}",
        ),
        (
            "`sgan_mnist.py`, the last step, nothing picked",
            f"{100 - last:.2f}",
            f"{last:.2f}",
        ),
    ]
    for method, title in (
        ("tuned", "`sgan_tuned.py`, ten minutes on one core, the last step"),
        ("standalone", "`standalone_classifier.py`, the 100 labelled images alone"),
    ):
        errors = errors_of(select(comparison, method=method, labels="100"))
        rows.append(
            (
                f"{title}; {len(errors)} draws",
                mean_and_sd(errors),
                f"{100 - np.mean(errors):.2f}",
            )
        )
    return table(("100 labels", "test error, %", "test accuracy, %"), rows, n_left=1)


def tabulate_epochs(rows):
    header = ("epoch", "step", "tutorial, training set", "training set", "test set")
    return table(
        header,
        [
            (
                row["epoch"],
                row["step"],
                f"{theirs:.3f}",
                row["train_accuracy"],
                row["test_accuracy"],
            )
            for theirs, row in zip(TUTORIAL, rows, strict=True)
        ],
    )


def tabulate_draws(rows, name):
    """Return test accuracy after the last epoch: a line a value of the column `name`.

    rows: by epoch, with the same seeds for each value.
    """
    seeds = sorted({row["seed"] for row in rows}, key=int)
    lines = []
    for value, runs in group(rows, lambda row: row[name]).items():
        last = {row["seed"]: float(row["test_accuracy"]) for row in runs}
        accuracies = [last[seed] for seed in seeds]
        cells = (f"{accuracy:.2f}" for accuracy in accuracies)
        lines.append((f"`{value}`", *cells, mean_and_sd(accuracies)))
    header = (name, *(f"seed {seed}" for seed in seeds), "mean ± sd")
    return table(header, lines, n_left=1)


def tabulate_budgets(rows):
    lines = []
    for budget, runs in group(rows, lambda row: row["budget_minutes"]).items():
        errors = errors_of(runs)
        span = (f"{min(errors):.2f}", f"{max(errors):.2f}")
        lines.append((budget, len(errors), mean_and_sd(errors), *span))
    header = ("draws", "test error, % (mean ± sd)", "best", "worst")
    return table(("budget, minutes", *header), lines)


def tabulate_labels(rows):
    """Return the test errors by number of labels: three columns a method."""
    methods = {"standalone": "stand-alone", "tuned": "tuned SGAN"}
    lines = []
    for labels in sorted({int(row["labels"]) for row in rows}):
        line = [labels]
        for method in methods:
            errors = errors_of(select(rows, method=method, labels=str(labels)))
            span = f"{min(errors):.2f} to {max(errors):.2f}" if errors else ""
            line += [mean_and_sd(errors) if errors else "", len(errors), span]
        lines.append(line)
    heads = ((title, "draws", "range") for title in methods.values())
    return table(("labels", *(cell for head in heads for cell in head)), lines)


def tabulate_ablations(whole, rows):
    """Return the test errors without each ingredient, beside the same draws with all.

    whole, rows: sorted by seed, rows with the same seeds for each ingredient.
    """
    seeds = sorted({row["seed"] for row in rows}, key=int)
    whole = [row for row in whole if row["seed"] in seeds]
    methods = group(rows, lambda row: row["method"].removeprefix("tuned-without-"))
    lines = []
    for left_out, runs in {"nothing": whole, **methods}.items():
        if [run["seed"] for run in runs] != seeds:
            raise RunError(f"{left_out}: has other seeds than {', '.join(seeds)}")
        errors = errors_of(runs)
        steps = sorted(int(run["step"]) for run in runs)
        cells = (f"{error:.2f}" for error in errors)
        span = f"{steps[0]:,} to {steps[-1]:,}"
        lines.append((left_out, *cells, f"{np.mean(errors):.2f}", span))
    heads = (f"seed {seed}" for seed in seeds)
    return table(("left out", *heads, "mean", "steps"), lines, n_left=1)


CLASS_FIGURES = {
    "agreement": "asked class, %",
    "nearest_neighbour_error": "1-NN error, %",
    "ssim": "SSIM within classes",
    "real_ssim": "of real images",
    "worst_ssim_excess": "largest excess",
    "judge_fid": "judge-FID",
}


def read_tour(results=RESULTS):
    """Return the figures of the kept runs: {script: [dict of figures by seed]}."""
    found = {}
    for script in TOUR:
        folders = (results / "tour" / script).glob("seed-*")
        runs = sorted(folders, key=lambda path: int(path.name.removeprefix("seed-")))
        if runs:
            found[script] = [
                json.loads((run / "figures.json").read_text(encoding="utf-8"))
                for run in runs
            ]
    return found


def tabulate_tour(results=RESULTS):
    """Return what the kept runs of each script have in common."""
    lines = []
    for script, runs in read_tour(results).items():
        minutes = np.mean([run["seconds"] for run in runs]) / 60
        figures = ("judge_fid", "modes", "entropy", "sure", "total_variation")
        parameters = " / ".join(f"{n:,}" for n in runs[0]["parameters"].values())
        lines.append(
            (
                f"`python tour/{script}.py`",
                TOUR[script][0],
                len(runs),
                f"{minutes:.0f}",
                *(spread(runs, name) for name in figures),
                parameters,
            )
        )
    header = ("command", "paper", "seeds", "minutes", "judge-FID", "modes", "entropy")
    header += ("sure, %", "total variation", "parameters")
    return table(header, lines, n_left=2)


def tabulate_tour_front(results=RESULTS):
    """Return the README's table: each script with its own figure."""
    lines = []
    for script, runs in read_tour(results).items():
        paper, name, unit, about, published = TOUR[script]
        known = [run for run in runs if run.get(name) is not None]
        figure = f"{about}: {spread(known, name)} {unit}".strip()
        figure += f" (published {published})" if published else ""
        seconds = np.mean([run["seconds"] for run in runs])
        cells = (f"`tour/{script}.py`", paper, figure, len(runs), f"{seconds / 60:.0f}")
        lines.append(cells)
    header = ("script", "paper", "its figure, mean ± sd", "seeds", "minutes")
    return table(header, lines, n_left=3)


def tabulate_tour_figures(results=RESULTS):
    """Return each script's own figure beside the published one."""
    lines = []
    for script, runs in read_tour(results).items():
        _, name, unit, about, published = TOUR[script]
        known = [run for run in runs if run.get(name) is not None]
        seeds = ", ".join(spread([run], name) for run in known)
        figure = f"{spread(known, name)} {unit}".strip()
        lines.append((f"`tour/{script}.py`", about, figure, seeds, published or "–"))
    header = ("script", "figure", "mean ± sd", "each seed", "published")
    return table(header, lines, n_left=2)


def tabulate_tour_classes(results=RESULTS):
    """Return the figures of the scripts that are asked for a class."""
    lines = []
    for script, runs in read_tour(results).items():
        if "nearest_neighbour_error" in runs[0]:
            cells = (spread(runs, name) for name in CLASS_FIGURES)
            lines.append((f"`tour/{script}.py`", *cells))
    return table(("script", *CLASS_FIGURES.values()), lines, n_left=1)


def read_judge():
    """Return the record of the shipped judge."""
    return json.loads((ROOT / "tour" / "judge.json").read_text(encoding="utf-8"))


def tabulate_ladder(results=RESULTS):
    """Return what the shipped judge's FID is of known images."""
    record = read_judge()
    lines = [(text, f"{value:.2f}") for text, value in record["ladder"]]
    return table(("images", "judge-FID"), lines, n_left=1)


def average_tour(results, script, name):
    """Return mean ± standard deviation of a figure of a script's kept runs."""
    return spread(read_tour(results)[script], name)


def correlate_losses(results=RESULTS):
    """Return the correlation of DCGAN's d loss and judge-FID, of each kept run."""
    return ", ".join(
        f"{run['training_correlation']:.2f}" for run in read_tour(results)["dcgan"]
    )


# tables of results/tour/
TOUR_TABLES = {
    "tour-ladder": tabulate_ladder,
    "tour-judge": lambda results=RESULTS: f"{read_judge()['test_accuracy']:.2f}",
    "tour-dcgan-correlation": correlate_losses,
    "tour": tabulate_tour,
    "tour-tree": lambda results=RESULTS: diffs.draw_tree(),
    "tour-front": tabulate_tour_front,
    "tour-figures": tabulate_tour_figures,
    "tour-classes": tabulate_tour_classes,
}


def ten_minutes(rows):
    return select(rows, budget_minutes="10")


# name of a table: what makes it of the files named
TABLES = {
    "headline": (tabulate_headline, "sgan_mnist/accuracy.csv", "comparison/runs.csv"),
    "epochs": (tabulate_epochs, "sgan_mnist/accuracy.csv"),
    "designs": (lambda rows: tabulate_draws(rows, "design"), "designs.csv"),
    "precisions": (lambda rows: tabulate_draws(rows, "precision"), "precision.csv"),
    "budgets": (tabulate_budgets, "tuned_budgets/runs.csv"),
    "ablations": (
        lambda tuned, rows: tabulate_ablations(ten_minutes(tuned), rows),
        "tuned_budgets/runs.csv",
        "ablation/runs.csv",
    ),
    "labels": (tabulate_labels, "comparison/runs.csv"),
    "fashion": (tabulate_labels, "fashion/runs.csv"),
}


def rows_where(results, file, *conditions):
    """Return the rows of a file under `results` that meet 'column=value' conditions."""
    values = dict(condition.split("=", 1) for condition in conditions)
    rows = select(read_rows(results / file), **values)
    if not rows:
        raise RunError(f"{file}: has no row with {', '.join(conditions)}")
    return rows


def find_errors(results, file, *conditions):
    """Return the test errors of these rows, in the file's order."""
    rows = rows_where(results, file, *conditions)
    return ", ".join(f"{error:.2f}" for error in errors_of(rows))


def average_errors(results, file, *conditions):
    """Return mean ± standard deviation of the test errors of these rows."""
    return mean_and_sd(errors_of(rows_where(results, file, *conditions)))


def find_trial(results, file, *conditions):
    """Return the error at the end of the one trial that these rows are of."""
    rows = rows_where(results, file, *conditions)
    steps = [int(row["step"]) for row in rows] if len(rows) > 1 else []
    if steps != sorted(set(steps)):
        raise RunError(f"{file}: more than one trial has {', '.join(conditions)}")
    return list(rows[-1].values())[-1]


def find_value(results, file, column, *conditions):
    """Return what the last of these rows has in a column."""
    return rows_where(results, file, *conditions)[-1][column]


def find_percentage(results, file, column, *conditions):
    """Return the same, a percentage, with two decimals."""
    return f"{float(find_value(results, file, column, *conditions)):.2f}"


def include(results, file):
    """Return what a benchmark wrote: its table, rates and machine."""
    return (results / file).read_text(encoding="utf-8").rstrip()


# {{kind|argument|...}}: the kinds
PARTS = {
    "error": average_errors,
    "errors": find_errors,
    "trial": find_trial,
    "value": find_value,
    "percent": find_percentage,
    "include": include,
    "tour-mean": average_tour,
}


def make_table(name, results=RESULTS):
    if name in TOUR_TABLES:
        return TOUR_TABLES[name](results)
    make, *files = TABLES[name]
    return make(*(read_rows(results / file) for file in files))


def fill(template, results=RESULTS):
    """Return the text of a template with its parts filled in.

    Raises RunError for a part that is not known or has no rows.
    """

    def part(match):
        kind, *arguments = match[1].split("|")
        if kind in TABLES | TOUR_TABLES and not arguments:
            return make_table(kind, results)
        if kind in PARTS and arguments:
            return PARTS[kind](results, *arguments)
        raise RunError(f"{match[0]}: no such part; see TABLES and PARTS")

    return re.sub(r"\{\{(.+?)\}\}", part, template)


def documents(templates=TEMPLATES, results=RESULTS):
    """Return the documents that the templates give: {path from docs/: text}."""
    return {
        PLACES.get(path.name, path.name): fill(path.read_text("utf-8"), results)
        for path in sorted(templates.glob("*.md"))
    }


def find_differences(texts, docs):
    """Return a line for each document in the folder that is not its text."""
    lines = []
    for name, text in texts.items():
        path = docs / name
        if not path.is_file():
            lines.append(f"{path.name}: is missing")
            continue
        ours, theirs = text.split("\n"), path.read_text(encoding="utf-8").split("\n")
        if ours != theirs:
            same = (a == b for a, b in zip(ours, theirs, strict=False))
            n = next((i for i, equal in enumerate(same, 1) if not equal), None)
            lines.append(f"{path.name}: line {n or min(len(ours), len(theirs)) + 1}")
    return lines


@plain_style()
def plot_epochs(rows, path):
    fig = figure.Figure(figsize=(7, 4), layout="constrained")
    axes = fig.subplots()
    epochs = [int(row["epoch"]) for row in rows]
    axes.plot(epochs, TUTORIAL, "s--", color="grey", ms=4, label="tutorial, training")
    for part, name in (("train", "training"), ("test", "test")):
        accuracy = [float(row[f"{part}_accuracy"]) for row in rows]
        axes.plot(epochs, accuracy, "o-", ms=4, label=f"here, {name}")
    axes.set(xlabel="epoch (600 steps)", ylabel="accuracy, %", xticks=epochs)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(fig, path)


@plain_style()
def plot_error_by_minutes(lines, path, standalone=()):
    """Plot the rows of accuracy.csv files; lines: name -> rows of one or more seeds."""
    fig = figure.Figure(figsize=(8, 4), layout="constrained")
    axes = fig.subplots()
    for i, (name, rows) in enumerate(lines.items()):
        for seed in dict.fromkeys(row["seed"] for row in rows):
            points = [
                (float(row["seconds"]) / 60, 100 - float(row["test_accuracy"]))
                for row in select(rows, seed=seed)
            ]
            axes.plot(*zip(*points, strict=True), color=f"C{i}", lw=1, label=name)
            name = None
    if standalone:
        points = [
            (float(row["seconds"]) / 60, float(row["test_error"])) for row in standalone
        ]
        axes.plot(*zip(*points, strict=True), "k.", label="stand-alone classifier")
    axes.axhline(100 - TUTORIAL_TEST, color="grey", ls=":", label="the tutorial's best")
    axes.set(xlabel="minutes", ylabel="test error, %", xscale="log", yscale="log")
    axes.grid(alpha=0.3, which="both")
    fig.legend(loc="outside right upper", fontsize="small")
    save_figure(fig, path)


def draw_plots(results=RESULTS):
    rows = read_rows(results / "sgan_mnist" / "accuracy.csv")
    plot_epochs(rows, results / "sgan_mnist" / "against_tutorial.png")
    budgets, ablation = results / "tuned_budgets", results / "ablation"
    comparison = results / "comparison"
    curves = read_rows(budgets / "curves.csv")
    plot_error_by_minutes(
        {
            "tutorial's SGAN": [
                *({**row, "seed": "1"} for row in rows),
                *read_rows(comparison / "sgan_curves.csv"),
            ],
            **group(curves, lambda row: f"tuned, {row['budget_minutes']} minutes"),
        },
        budgets / "error_by_minutes.png",
        select(read_rows(comparison / "runs.csv"), method="standalone", labels="100"),
    )
    without = read_rows(ablation / "curves.csv")
    seeds = {row["seed"] for row in without}
    plot_error_by_minutes(
        {
            "nothing left out": [
                row for row in ten_minutes(curves) if row["seed"] in seeds
            ],
            **group(
                without, lambda row: row["method"].replace("tuned-without-", "without ")
            ),
        },
        ablation / "error_by_minutes.png",
    )


def parse_arguments(argv):
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write docs/, draw plots")
    what.add_argument("--check", action="store_true", help="compare docs/")
    return parser.parse_args(argv)


def run(args):
    if args.write:
        for name, text in documents().items():
            (DOCS / name).parent.mkdir(exist_ok=True)
            with write_atomically(DOCS / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        draw_plots()
    elif args.check:
        if lines := find_differences(documents(), DOCS):
            raise RunError(
                f"docs/ differs from the results ({'; '.join(lines)}); edit "
                "results/templates/, then python results/tables.py --write"
            )
    else:
        print("\n\n".join(make_table(name) for name in TABLES | TOUR_TABLES))


def main(argv=None):
    return run_script("results/tables.py", lambda: run(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
