"""Compare classifiers over numbers of labels, methods and draws of the labels.

    python compare_labels.py                              # all, one run after another
    python compare_labels.py --methods tuned --labels 100 --seeds 1-10
    python compare_labels.py --out DIR                    # DIR goes on where it stopped
    python compare_labels.py --jobs 2 --threads 1         # two runs side by side
    python compare_labels.py --cluster tcp://HOST:8786    # on a Dask cluster
    python compare_labels.py --out DIR --blocks           # the mistakes runs share

Methods: `standalone`, the tutorial's classifier on the labelled images alone; `sgan`,
the tutorial's SGAN; `tuned`, the tuned one; `tuned-without-NAME`, the tuned one with an
ingredient left out. Each run is one start of that method's script. The same seed means
the same labelled images for all methods. No run is left out, and each figure is that of
a run's last step: no step is chosen by test accuracy.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from gankit.backend import figure
from gankit.command import InputError, OneLineParser, printable, run_script
from gankit.data.labels import check_labels, warn_of_labels
from gankit.data.load import load_arrays
from gankit.folders import claimed, write_atomically
from gankit.models.classify import check_fit, class_probabilities
from gankit.models.files import load_classifier, matching_names, newest_in
from gankit.pictures import plain_style, save_figure
from gankit.training.blocks import find_kinds, save_kinds
from gankit.training.budget import check_budget
from gankit.training.choose_changes import CHANGES
from gankit.training.devices import PRECISIONS, processor_name
from gankit.training.grid import (
    MAX_DRAWS,
    Grid,
    GridRun,
    add_engine_options,
    count_threads,
    seeds_of,
    write_options,
)
from gankit.training.records import write_rows
from gankit.training.settings import DataSettings, add_options, check_positive
from sgan_tuned import INGREDIENTS

SCRIPTS = {
    "standalone": "standalone_classifier.py",
    "sgan": "sgan_mnist.py",
    "tuned": "sgan_tuned.py",
}
WITHOUT = "tuned-without-"
COLUMNS = (
    "method",
    "labels",
    "seed",
    "test_error",
    "train_accuracy",
    "step",
    "seconds",
    "threads",
    "processor",
)
# test error, percent; Odena 2016 (table 1, accuracies there), Salimans et al. 2016
# (table 1, mean of ten draws)
PUBLISHED = {
    "Odena 2016, CNN alone": {25: 25.0, 50: 14.1, 100: 10.5, 1000: 3.5},
    "Odena 2016, SGAN": {25: 19.8, 50: 11.7, 100: 7.2, 1000: 3.6},
    "Salimans et al. 2016": {20: 16.77, 50: 2.21, 100: 0.93, 200: 0.90},
}
# options that all the runs of a folder share, and those of them that a script lacks
SHARED = (
    *("data", "image_size", "budget", "epochs", "changes", "precision", "max_steps"),
)
LACKING = {
    "standalone": ("budget", "epochs", "changes"),
    "sgan": ("budget", "changes"),
}


def parse_arguments(argv):
    parser = OneLineParser(
        description="Compare classifiers over labels, methods and label draws."
    )
    add = parser.add_argument
    add("--methods", nargs="+", default=list(SCRIPTS), metavar="METHOD")
    add("--labels", nargs="+", type=int, default=[20, 50, 100, 200, 1000], metavar="N")
    add("--draws", type=int, metavar="N", help="label draws: seeds 1 to N (default: 5)")
    add("--seeds", type=seeds_of, metavar="A-B", help="these seeds: 1-10 or 1,4,7")
    add(
        "--out",
        default="runs/compare_labels",
        metavar="DIR",
        help="folder of the runs and results; runs already there are not made again "
        "(default: runs/compare_labels)",
    )
    add_engine_options(parser)
    add_options(parser, DataSettings, "data", "image_size")
    add(
        "--epochs", type=int, metavar="N", help="of sgan and tuned (default: their own)"
    )
    add("--budget", type=float, metavar="MINUTES", help="of each tuned run")
    add("--changes", choices=CHANGES, help="of images, in each tuned run")
    add("--precision", choices=PRECISIONS, help="of each run (default: float32)")
    add("--max-steps", type=int, metavar="N", help="of each run, for a quick try")
    add(
        "--blocks",
        nargs="*",
        metavar="DIR",
        help="make no runs: show the kinds of test images that the finished runs of "
        "--out, and of these folders, get wrong, as sheets in blocks/",
    )
    return parser.parse_args(argv)


def is_method(name):
    left_out = set(name.removeprefix(WITHOUT).split("+"))
    return name in SCRIPTS or (
        name.startswith(WITHOUT) and left_out <= set(INGREDIENTS)
    )


def check_arguments(args):
    """Raise InputError for a grid that can't be run; return its seeds."""
    for method in args.methods:
        if not is_method(method):
            raise InputError(
                f"--methods {method}: give {', '.join(SCRIPTS)}, or {WITHOUT}NAME with "
                f"a NAME of {', '.join(INGREDIENTS)}"
            )
    check_positive(vars(args), ("jobs", "threads", "draws", "epochs", "max_steps"))
    check_budget(args.budget)
    for one, other in (
        ("budget", "epochs"),
        ("seeds", "draws"),
        ("cluster", "jobs"),
    ):
        if vars(args)[one] is not None and vars(args)[other] is not None:
            raise InputError(f"--{one} and --{other}: give one of them")
    if (args.draws or 0) > MAX_DRAWS:
        raise InputError(f"--draws {args.draws}: must be at most {MAX_DRAWS}")
    seeds = args.seeds or list(range(1, (args.draws or 5) + 1))
    data = load_arrays(args.data, args.image_size)
    if data.test is None:
        raise InputError(
            f"{args.data}: has no test images, whose error is compared; add some"
        )
    y, names = data.train[1], data.class_names
    n_given = np.count_nonzero(y >= 0)
    if max(args.labels) > n_given:
        raise InputError(
            f"--labels {max(args.labels)}: only {n_given} images have a label; ask for "
            "no more"
        )
    if any([check_labels(y, n, data.n_classes, names) for n in args.labels]):
        warn_of_labels(y, names)
    return seeds


def run_name(method, n_labels, seed):
    return f"{method}-{n_labels}-{seed}"


def define_run(method, n_labels, seed, shared, threads):
    """Return the GridRun of a method, a number of labels and a draw of them."""
    left_out = []
    if method.startswith(WITHOUT):
        left_out = ["--without", method.removeprefix(WITHOUT)]
    options = ["--labels", n_labels, "--seed", seed, *left_out, "--threads", threads]
    lacking = LACKING.get(method, ())
    options += write_options(
        {name: value for name, value in shared.items() if name not in lacking}
    )
    steps = shared["max_steps"]
    resume = [] if steps is None else ["--max-steps", steps]
    return GridRun(
        name=run_name(method, n_labels, seed),
        script=SCRIPTS["tuned" if left_out else method],
        options=tuple(options),
        # a stand-alone run is too short to go on with
        resume=None if method == "standalone" else tuple(resume),
        read="compare_labels:read_results",
        facts={"method": method, "labels": n_labels, "seed": seed},
    )


def read_results(folder):
    """Return what a finished run's row says of its last step and of the machine."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    with open(folder / "accuracy.csv", newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    return {
        "test_error": f"{100 - float(last['test_accuracy']):.3f}",
        "train_accuracy": last["train_accuracy"],
        "step": last["step"],
        "seconds": last["seconds"],
        "threads": settings["options"]["threads"],
        "processor": processor_name(),
    }


def read_rows(path):
    """Return the rows of runs.csv by their runs' names; {} where there is none yet."""
    if not path.exists():
        return {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if rows and tuple(rows[0]) != COLUMNS:
            raise ValueError("other columns")
        summarise(rows), [float(row["seconds"]) for row in rows]
        return {
            run_name(row["method"], int(row["labels"]), int(row["seed"])): row
            for row in rows
        }
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path}: not a table of this script ({error}); name another --out"
        ) from error


def save_rows(path, rows):
    write_rows(path, [COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])


def summarise(rows):
    """Return {(method, labels): figures of the test errors, in percent}."""
    errors = {}
    for row in rows:
        key = (row["method"], int(row["labels"]))
        errors.setdefault(key, []).append(float(row["test_error"]))
    return {
        key: {
            "draws": len(values),
            "mean": np.mean(values),
            "sd": np.std(values, ddof=1) if len(values) > 1 else np.nan,
            "best": min(values),
            "worst": max(values),
        }
        for key, values in errors.items()
    }


def describe(summary, published=PUBLISHED):
    """Return the Markdown table, published figures included."""
    lines = [
        "| labels | method | draws | test error, % (mean ± sd) | best | worst |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for n_labels in sorted({labels for _, labels in summary}):
        for (method, labels), f in summary.items():
            if labels == n_labels:
                sd = "" if np.isnan(f["sd"]) else f" ± {f['sd']:.2f}"
                lines.append(
                    f"| {labels} | `{method}` | {f['draws']} | {f['mean']:.2f}{sd} "
                    f"| {f['best']:.2f} | {f['worst']:.2f} |"
                )
        for name, errors in published.items():
            if n_labels in errors:
                error = f"{errors[n_labels]:.2f}"
                lines.append(f"| {n_labels} | {name}, published | | {error} | | |")
    return "\n".join(lines) + "\n"


@plain_style()
def plot(summary, path, published=PUBLISHED):
    """Save the plot of test error against labels, with a standard deviation's bars."""
    fig = figure.Figure(figsize=(7, 4.5), layout="constrained")
    axes = fig.subplots()
    for method in dict.fromkeys(method for method, _ in summary):
        points = sorted(
            (labels, f["mean"], f["sd"])
            for (name, labels), f in summary.items()
            if name == method
        )
        labels, means, sds = zip(*points, strict=True)
        axes.errorbar(
            labels, means, np.nan_to_num(sds), fmt="o-", capsize=3, label=method
        )
    for name, errors in published.items():
        axes.plot(*zip(*errors.items(), strict=True), "x--", alpha=0.5, label=name)
    axes.set(
        xlabel="labelled images", ylabel="test error, %", xscale="log", yscale="log"
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save_figure(fig, path)


def save_results(out, rows, published):
    save_rows(out / "runs.csv", rows)
    summary = summarise(rows)
    with write_atomically(out / "table.md") as temporary:
        temporary.write_text(describe(summary, published), encoding="utf-8")
    plot(summary, out / "plot.png", published)
    return summary


def run(args):
    seeds = check_arguments(args)
    if args.data is not None:
        args.data = str(Path(args.data).resolve())
        # which older runs didn't have
        args.changes = args.changes or "auto"
    shared = {name: vars(args)[name] for name in SHARED}
    threads = count_threads(args)
    choices = [(m, n, s) for n in args.labels for m in args.methods for s in seeds]
    runs = [define_run(*one, shared, threads) for one in dict.fromkeys(choices)]
    # those are of MNIST
    published = PUBLISHED if args.data is None else {}
    with Grid(args.out, shared) as grid:
        rows = read_rows(grid.out / "runs.csv")

        def save():
            return save_results(grid.out, list(rows.values()), published)

        def record(row):
            save()
            error, seconds = float(row["test_error"]), float(row["seconds"])
            return f"test error {error:.2f} %, {seconds:.0f} s"

        grid.make(
            runs, rows, record, kind="method", jobs=args.jobs, cluster=args.cluster
        )
        if rows:
            print(describe(save(), published))
    grid.tell_end()


# ---------------------------------------------------------------- blocks


def find_runs(out):
    """Return the rows of a folder's finished runs, each with its 'folder', a list."""
    rows = read_rows(Path(out) / "runs.csv")
    found = [
        {**row, "folder": Path(out) / name}
        for name, row in rows.items()
        if is_method(row["method"])
    ]
    found = [row for row in found if newest_in(row["folder"], "classifier")]
    if not found:
        raise InputError(
            f"{out}: holds no finished run with its classifier; name a folder that "
            "compare_labels.py has filled, --out"
        )
    return found


def load_test(runs, args):
    """Return the Data that all these runs were trained on, with test images.

    args: with the data and image_size where they are now, or None.
    """
    if args.data is not None:
        return check_test(load_arrays(args.data, args.image_size), args.data)
    used = set()
    for run in runs:
        path = run["folder"] / "settings.json"
        try:
            options = json.loads(path.read_text(encoding="utf-8"))["options"]
            data, size = options["data"], options["image_size"]
            if not isinstance(data, str | None) or type(size) not in (int, type(None)):
                raise TypeError("no path, or no size")
            used.add((data, size))
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise InputError(f"{path}: can't be read; name another --out") from error
    if len(used) > 1:
        raise InputError(
            f"{runs[-1]['folder']}: is of other images than {runs[0]['folder']}; "
            "compare runs of the same, or name with --data where these images are"
        )
    return check_test(load_arrays(*used.pop()), runs[0]["folder"])


def check_test(data, name):
    if data.test is None:
        raise InputError(f"{name}: no test images; name data that have some, --data")
    return data


def show_blocks(args):
    """Save and print the kinds of test images that finished runs get wrong."""
    folders = dict.fromkeys(Path(out).resolve() for out in (args.out, *args.blocks))
    runs = [run for out in folders for run in find_runs(out)]
    blocks = Path(args.out) / "blocks"
    if blocks.exists():
        raise InputError(f"{blocks}: is there already; move it away")
    data = load_test(runs, args)
    X, y = data.test
    names = data.class_names or list(map(str, range(data.n_classes)))
    answers = []
    for run in runs:
        path = newest_in(run["folder"], "classifier")
        c_model = load_classifier(path)
        check_fit(path, c_model, matching_names(path, c_model), data)
        found = class_probabilities(c_model, X, n_classes=data.n_classes)
        answers.append(found.argmax(axis=1))
    places = {run["folder"].parent for run in runs}
    titles = [
        (f"{run['folder'].parent}: " if len(places) > 1 else "")
        + f"`{run['method']}`, {run['labels']} labels"
        for run in runs
    ]
    kinds = find_kinds(X, y, np.array(answers))
    folders = [run["folder"] for run in runs]
    with claimed(blocks) as out:
        table = save_kinds(kinds, X, names, titles, folders, out)
    print("Mistakes of each kind a run, mean (least to most):\n")
    print("\n".join(printable(line) for line in table.splitlines()) + "\n")
    print(f"Their images, those first that most runs get wrong, are in {out}")


def start(args):
    if args.blocks is None:
        run(args)
    else:
        show_blocks(args)


def main(argv=None):
    return run_script("compare_labels.py", lambda: start(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
