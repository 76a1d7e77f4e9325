"""Make the recorded runs of the tour, or those of one's own data.

    python tour/run_all.py                                # all, one after another
    python tour/run_all.py --runs dcgan cgan --seeds 1-3 --jobs 2 --threads 1
    python tour/run_all.py --out DIR                      # DIR goes on where it stopped
    python tour/run_all.py --cluster tcp://HOST:8786      # on a Dask cluster

Each run is a folder in --out, as its script makes it. figures.csv there has a row a
run, and table.md the mean and standard deviation of each figure over the seeds. Where
there are several GPUs, each run at work has one to itself.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import ROOT, last_row

from gankit.command import InputError, OneLineParser, run_script
from gankit.data.load import load_arrays
from gankit.folders import write_atomically
from gankit.training.devices import PRECISIONS
from gankit.training.grid import (
    Grid,
    GridRun,
    add_engine_options,
    count_threads,
    seeds_of,
    write_options,
)
from gankit.training.records import write_rows
from gankit.training.settings import DataSettings, add_options, check_positive

# options that all the runs of a folder share
SHARED = ("data", "image_size", "judge", "precision", "max_steps")
# of a run's row, before its figures
COLUMNS = ("run", "script", "options", "seed", "threads", "processor")


PHOTOGRAPHS = "photographs.npz"


class Experiment(NamedTuple):
    """A script of the tour and how it is started; seeds: how many are recorded.

    data: a file in the folder of the runs that it is trained on, in the place of
    --data; None for that.
    """

    script: str
    options: tuple = ()
    seeds: int = 3
    data: str | None = None


EXPERIMENTS = {
    "gan": Experiment("gan"),
    "dcgan": Experiment("dcgan"),
    "cgan": Experiment("cgan"),
    "infogan": Experiment("infogan", seeds=5),
    "acgan": Experiment("acgan"),
    "wgan": Experiment("wgan"),
    "wgan_gp": Experiment("wgan_gp"),
    "stackgan": Experiment("stackgan"),
    "context_encoder": Experiment("context_encoder"),
    # what the adversarial loss is for
    "context_encoder-l2": Experiment("context_encoder", ("--adversarial", 0)),
    # twenty minutes of real photographs
    "context_encoder-photographs": Experiment(
        "context_encoder", ("--steps", 6000), 1, PHOTOGRAPHS
    ),
    "pix2pix": Experiment("pix2pix"),
    # what each part of the loss is for
    "pix2pix-l1": Experiment("pix2pix", ("--loss", "l1")),
    "pix2pix-gan": Experiment("pix2pix", ("--loss", "gan")),
    "pix2pix-cgan": Experiment("pix2pix", ("--loss", "cgan")),
    "pix2pix-l1+gan": Experiment("pix2pix", ("--loss", "l1+gan")),
    "pix2pix-photographs": Experiment("pix2pix", ("--steps", 5500), 1, PHOTOGRAPHS),
    # the cure for another AC-GAN's collapse
    "acgan-real": Experiment("acgan", ("--class-loss", "real"), 1),
    # with pairs, what CycleGAN does without: its bound
    "pix2pix-outlines": Experiment("pix2pix", ("--inputs", "outlines")),
    "cyclegan": Experiment("cyclegan"),
    # what the cycle is for
    "cyclegan-no-cycle": Experiment("cyclegan", ("--cycle-weight", 0)),
    "progan": Experiment("progan"),
    # what growth is for, at about equal minutes
    "progan-no-growth": Experiment("progan", ("--no-growth", "--minutes", 27)),
    "progan-stacked": Experiment("progan", ("--stacked",), 1),
    "stylegan": Experiment("stylegan"),
    "biggan": Experiment("biggan"),
    # width and batch at equal images
    "biggan-narrow": Experiment("biggan", ("--width", 0.5), 1),
    "biggan-wide": Experiment("biggan", ("--width", 2), 1),
    "biggan-batch-32": Experiment("biggan", ("--batch", 32, "--steps", 10_000), 1),
    "biggan-batch-256": Experiment("biggan", ("--batch", 256, "--steps", 1250), 1),
    # which training is stable without batch normalisation in the generator
    "dcgan-plain": Experiment("dcgan", ("--generator-norm", "no")),
    "wgan-plain": Experiment("wgan", ("--generator-norm", "no")),
    # what is missing where a figure falls short: time, width, or neither
    "gan-long": Experiment("gan", ("--steps", 90_000, "--evaluate-every", 6000), 1),
    "dcgan-long": Experiment("dcgan", ("--steps", 15_000), 1),
    "dcgan-wide": Experiment("dcgan", ("--width", 2), 1),
    "cgan-long": Experiment("cgan", ("--steps", 15_000), 1),
    "acgan-long": Experiment("acgan", ("--steps", 15_000), 1),
    "biggan-g-rate-5e-5": Experiment("biggan", ("--g-rate", 5e-5), 1),
    "stylegan-short": Experiment(
        "stylegan", ("--steps", 6000, "--evaluate-every", 500), 1
    ),
    "wgan-norm-not-clipped": Experiment("wgan", ("--clip-norm", "no"), 1),
}


def parse_arguments(argv):
    parser = OneLineParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--runs",
        nargs="+",
        default=list(EXPERIMENTS),
        choices=list(EXPERIMENTS),
        metavar="NAME",
        help=f"which: {', '.join(EXPERIMENTS)} (default: all)",
    )
    add(
        "--seeds",
        type=seeds_of,
        metavar="A-B",
        help="these seeds: 1-3 or 1,4,7 (default: as many as are recorded of each)",
    )
    add(
        "--out",
        default="runs/tour",
        metavar="DIR",
        help="folder of the runs and figures; runs already there are not made again "
        "(default: runs/tour)",
    )
    add_engine_options(parser)
    add_options(parser, DataSettings, "data", "image_size")
    add("--judge", metavar="FILE", help="of each run, for --data of one's own")
    add("--precision", choices=PRECISIONS, help="of each run (default: auto)")
    add("--max-steps", type=int, metavar="N", help="of each run, for a quick try")
    return parser.parse_args(argv)


def check_arguments(args):
    """Raise InputError for runs that can't be made."""
    check_positive(vars(args), ("jobs", "threads", "max_steps"))
    if args.cluster is not None and args.jobs is not None:
        raise InputError("--cluster and --jobs: give one of them")
    for name in ("data", "judge"):
        if vars(args)[name] is not None:
            path = Path(vars(args)[name])
            if not path.exists():
                raise InputError(f"--{name} {path}: no such file; check the name")
            setattr(args, name, str(path.resolve()))


def define_run(name, seed, shared, threads, out):
    """Return the GridRun of an experiment and a seed; out: the folder of the runs."""
    experiment = EXPERIMENTS[name]
    options = ["--seed", seed, *experiment.options, "--threads", threads]
    if experiment.data is not None:
        own = {"data": str(out / experiment.data), "image_size": None, "judge": None}
        shared = {**shared, **own}
    options += write_options(shared)
    steps = shared["max_steps"]
    return GridRun(
        name=f"{name}-{seed}",
        script=f"tour/{experiment.script}.py",
        options=tuple(options),
        resume=() if steps is None else ("--max-steps", steps),
        read="run_all:read_results",
        facts={
            "run": name,
            "script": experiment.script,
            "options": " ".join(map(str, experiment.options)),
            "seed": seed,
        },
    )


def make_photographs(path):
    """Make the file of photographs' patches, unless it is there."""
    if path.exists():
        return
    script = ROOT / "tour" / "photographs.py"
    done = subprocess.run(
        [sys.executable, script, "--out", path], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise InputError(done.stderr.strip().splitlines()[-1])


def read_results(folder):
    """Return what a run's row says: the figures of its last step, and the machine.

    A run that was cut short by --max-steps has the measures of its last step alone.
    """
    path = folder / "figures.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: value for name, value in found.items() if name != "parameters"}
    return last_row(folder / "measures.csv")


def read_rows(folder):
    """Return the rows of the runs that a folder has, by their folders' names."""
    rows = {}
    for path in sorted(folder.glob("*/result.json")):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            float(row["seconds"]), row["run"], int(row["seed"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{path}: not the result of a run of this script; name another --out"
            ) from error
        rows[path.parent.name] = row
    return rows


def figures_of(rows):
    """Return the names of the figures that rows have, in their order."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name not in COLUMNS]


def save_rows(folder, rows):
    """Write figures.csv, with a row a run, and table.md, a row an experiment."""
    names = [*COLUMNS, *figures_of(rows)]
    write_rows(
        folder / "figures.csv",
        [names, *([row.get(name) for name in names] for row in rows)],
    )
    with write_atomically(folder / "table.md") as path:
        path.write_text(describe(rows), encoding="utf-8")


def describe(rows):
    """Return each experiment's figures as Markdown, mean ± standard deviation."""
    by_run = {}
    for row in rows:
        by_run.setdefault(row["run"], []).append(row)
    lines = ["| run | seeds | figures of the last step |", "|---|---:|---|"]
    for name, of_run in by_run.items():
        texts = []
        for figure in figures_of(of_run):
            values = [row[figure] for row in of_run if row.get(figure) is not None]
            if values and figure not in ("epoch", "step"):
                sd = f" ± {np.std(values, ddof=1):.3g}" if len(values) > 1 else ""
                texts.append(f"{figure} {np.mean(values):.4g}{sd}")
        lines.append(f"| `{name}` | {len(of_run)} | {', '.join(texts)} |")
    return "\n".join(lines) + "\n"


def start(args):
    check_arguments(args)
    load_arrays(args.data, args.image_size)
    shared = {name: vars(args)[name] for name in SHARED}
    threads = count_threads(args)
    with Grid(args.out, shared) as grid:
        runs = [
            define_run(name, seed, shared, threads, grid.out)
            for name in dict.fromkeys(args.runs)
            for seed in args.seeds or range(1, EXPERIMENTS[name].seeds + 1)
        ]
        rows = read_rows(grid.out)
        if any(EXPERIMENTS[name].data == PHOTOGRAPHS for name in args.runs):
            grid.begin()
            make_photographs(grid.out / PHOTOGRAPHS)

        def record(row):
            save_rows(grid.out, list(rows.values()))
            fid = row.get("judge_fid")
            figure = "" if fid is None else f"judge-FID {fid:.3g}, "
            return f"{figure}{row['seconds'] / 60:.1f} minutes"

        grid.make(runs, rows, record, kind="run", jobs=args.jobs, cluster=args.cluster)
        if rows:
            save_rows(grid.out, list(rows.values()))
            print(describe(list(rows.values())))
    grid.tell_end()


def main(argv=None):
    return run_script("run_all.py", lambda: start(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
