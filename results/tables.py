"""Write the documents that show results from the recorded runs, and draw their plots.

    python results/tables.py            print the tables
    python results/tables.py --write    write docs/ from results/templates/; draw plots
    python results/tables.py --check    exit status 1 where docs/ differs from that

A template is the document with {{parts}} that this script fills in: a table by its
name in TABLES, or a figure or text by its kind in PARTS, see there.
"""

import argparse
import csv
import functools
import json
import re
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tour")]

import diffs  # noqa: E402
from papers import TOUR, quickest_minutes, spread  # noqa: E402

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


# runs that stand side by side, by the name of their table: (what a line is of, the
# runs' name in results/tour/, and patterns of the figures' names, of which the first
# that the runs have counts), and heading: figure
SEEN, FID = {"digit seen, %": "agreement"}, {"judge-FID": "judge_fid"}
CLASSED = {"asked class, %": "agreement", **FID, "SSIM within classes": "ssim"}
FILLED = {
    **{"L1, %": "l1", "L2, %": "l2", "PSNR, dB": "psnr"},
    "total variation": "variation",
}
STYLED = {**FID, "sure, %": "sure", "entropy": "entropy"}
COMPARISONS = {
    "tour-plain": (
        [(f"`tour/{name}.py`", name) for name in ("dcgan", "wgan", "wgan_gp")]
        + [
            (f"`tour/{name}.py --generator-norm no`", f"{name}-plain")
            for name in ("dcgan", "wgan")
        ],
        {**FID, "modes": "modes", "entropy": "entropy"},
    ),
    "tour-trials": (
        [
            (f"`tour/{script}.py`{options}", f"{script}{name}")
            for script, name, options in (
                *(("gan", "", ""), ("gan", "-long", ", 90,000 steps")),
                *(("dcgan", "", ""), ("dcgan", "-long", ", 15,000 steps")),
                ("dcgan", "-wide", " --width 2"),
                *(("cgan", "", ""), ("cgan", "-long", ", 15,000 steps")),
                *(("acgan", "", ""), ("acgan", "-long", ", 15,000 steps")),
                *(("biggan", "", ""), ("biggan", "-g-rate-5e-5", " --g-rate 5e-5")),
                *(("stylegan", "", ""), ("stylegan", "-short", ", 6,000 steps")),
                *(("wgan", "", ""), ("wgan", "-norm-not-clipped", " --clip-norm no")),
            )
        ],
        {
            **FID,
            "sure, %": "sure",
            "log-likelihood": "log_likelihood",
            "asked class, %": "agreement",
            "1-NN error, %": "nearest_neighbour_error",
            "largest SSIM excess": "worst_ssim_excess",
        },
    ),
    "tour-class-loss": (
        [("on both", "acgan"), ("on real images alone", "acgan-real")],
        {
            "asked class, %": "agreement",
            "1-NN error, %": "nearest_neighbour_error",
            **{"SSIM within classes": "ssim", **FID},
        },
    ),
    "tour-captions": (
        [
            ("stage I, enlarged", "stackgan", "stage1_{}"),
            ("stage II", "stackgan", "stage2_{}", "{}"),
        ],
        {
            **{f"{name}, %": f"asked_{name}" for name in ("digit", "thickness")},
            **{"slant, %": "asked_slant", **FID},
        },
    ),
    "tour-filling": (
        [
            ("joint loss", "context_encoder"),
            ("squared error alone", "context_encoder-l2"),
            ("mean training image", "context_encoder", "mean_{}"),
            ("nearest training image", "context_encoder", "nearest_{}"),
            ("no hole", "context_encoder", "true_{}"),
        ],
        {**FILLED, **SEEN, **FID},
    ),
    "tour-photographs": (
        [
            ("holes, joint loss", "context_encoder-photographs"),
            ("holes, mean patch", "context_encoder-photographs", "mean_{}"),
            ("holes, nearest patch", "context_encoder-photographs", "nearest_{}"),
            ("edges to photograph", "pix2pix-photographs"),
        ],
        FILLED,
    ),
    "tour-losses": (
        [
            ("L1 + cGAN", "pix2pix"),
            *(("L1", "pix2pix-l1"), ("GAN", "pix2pix-gan"), ("cGAN", "pix2pix-cgan")),
            ("L1 + GAN", "pix2pix-l1+gan"),
            ("the truth", "pix2pix", "true_{}"),
        ],
        {
            **{**SEEN, "L1, %": "l1", "PSNR, dB": "psnr"},
            "total variation": "total_variation",
        },
    ),
    "tour-cycle": (
        [
            ("`tour/cyclegan.py`", "cyclegan", "{}", "back_{}"),
            ("`--cycle-weight 0`", "cyclegan-no-cycle", "{}", "back_{}"),
            ("with pairs: `tour/pix2pix.py --inputs outlines`", "pix2pix-outlines"),
        ],
        {
            "digit seen, %": ("accuracy", "agreement"),
            "through the cycle, %": "cycle_accuracy",
            **{"L1, %": ("back_l1", "l1"), **FID},
        },
    ),
    "tour-growth": (
        [
            ("growing", "progan"),
            ("`--no-growth`", "progan-no-growth"),
            ("test images", "progan", "real_{}"),
        ],
        {
            **FID,
            **{f"patches at {n}x{n}": f"sliced_wasserstein_{n}" for n in (32, 16, 8)},
            **{"steps": "step", "minutes": "minutes"},
        },
    ),
    "tour-stacked": (
        [("`--stacked`", "progan-stacked")],
        {"combinations of 1,000": "combinations", "divergence": "combinations_kl"},
    ),
    "tour-paths": (
        [("Z", "stylegan", "{}_z"), ("W", "stylegan", "{}_w")],
        {"path length": "path_length"},
    ),
    "tour-psi": (
        [("1", "stylegan")]
        + [(psi, "stylegan", f"psi_{psi}_{{}}") for psi in ("0.7", "0.5", "0.3")]
        + [("1, noise of 0", "stylegan", "without_noise_{}")],
        STYLED,
    ),
    "tour-mixing": (
        [(f"up to {n}x{n}", "stylegan", f"mix_{n}_{{}}") for n in (4, 8, 16)],
        {
            f"{what} of the {source} image's": f"{source}_{name}"
            for name, what in (("class", "class, %,"), ("thickness", "thickness"))
            for source in ("coarse", "fine")
        },
    ),
    "tour-truncation": (
        [("none", "biggan")]
        + [
            (t, "biggan", f"truncation_{t}_{{}}")
            for t in ("2", "1", "0.5", "0.2", "0.1")
        ],
        CLASSED,
    ),
    "tour-scale": (
        [
            ("half the width", "biggan-narrow"),
            ("width 1, batch 64", "biggan"),
            ("twice the width", "biggan-wide"),
            ("batch 32", "biggan-batch-32"),
            ("batch 256", "biggan-batch-256"),
        ],
        {**CLASSED, "steps": "step", "minutes": "minutes"},
    ),
}


def read_runs(name, results=RESULTS):
    """Return the figures of the kept runs of that name, a list of dicts by seed."""
    folders = (results / "tour" / name).glob("seed-*")
    runs = sorted(folders, key=lambda path: int(path.name.removeprefix("seed-")))
    return [
        json.loads((run / "figures.json").read_text(encoding="utf-8")) for run in runs
    ]


def read_tour(results=RESULTS):
    """Return the figures of the kept runs: {script: [dict of figures by seed]}."""
    found = {script: read_runs(script, results) for script in TOUR}
    return {script: runs for script, runs in found.items() if runs}


def tabulate_comparison(name, results=RESULTS):
    """Return a table of COMPARISONS, of those of its runs that are kept."""
    places, columns = COMPARISONS[name]

    def write(runs, name):
        if name == "minutes":
            return quickest_minutes(runs)
        if name == "step":
            return f"{np.mean([run[name] for run in runs]):,.0f}"
        return spread(runs, name)

    lines = []
    for title, runs_name, *patterns in places:
        runs = read_runs(runs_name, results)
        kept = [{n for n, value in run.items() if value is not None} for run in runs]
        known = set.intersection(*kept) | {"minutes"} if runs else ()
        cells = []
        for names in columns.values():
            names = (names,) if isinstance(names, str) else names
            found = (p.format(n) for p in patterns or ("{}",) for n in names)
            cells.append(next((write(runs, n) for n in found if n in known), "–"))
        if set(cells) != {"–"}:
            lines.append((title, len(runs), *cells))
    return table(("", "seeds", *columns), lines, 1) if lines else "Not recorded yet."


def show_sheets(results=RESULTS):
    """Return tables of three sheets each, of seed 1 of each kept script."""
    shown = list(read_tour(results))
    tables = []
    for first in range(0, len(shown), 3):
        scripts = shown[first : first + 3]
        pictures = [
            f"![The last sheet](../results/tour/{script}/seed-1/sheet.png)"
            for script in scripts
        ]
        header = [f"`tour/{script}.py`" for script in scripts]
        tables.append(table(header, [pictures], n_left=len(scripts)))
    return "\n\n".join(tables)


def tabulate_tour(results=RESULTS):
    """Return what the kept runs of each script have in common."""
    lines = []
    for script, runs in read_tour(results).items():
        figures = ("judge_fid", "modes", "entropy", "sure", "total_variation")
        parameters = " / ".join(f"{n:,}" for n in runs[0]["parameters"].values())
        lines.append(
            (
                f"`python tour/{script}.py`",
                TOUR[script][0],
                len(runs),
                quickest_minutes(runs),
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
        cells = (f"`tour/{script}.py`", paper, figure, len(runs))
        lines.append((*cells, quickest_minutes(runs)))
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
    "tour-sheets": show_sheets,
    **{name: functools.partial(tabulate_comparison, name) for name in COMPARISONS},
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
