"""Compare classifiers over numbers of labels, methods and draws of the labels.

    python compare_labels.py                              # all, one run after another
    python compare_labels.py --methods tuned --labels 100 --seeds 1-10
    python compare_labels.py --out DIR                    # DIR goes on where it stopped
    python compare_labels.py --jobs 2 --threads 1         # two runs side by side
    python compare_labels.py --cluster tcp://HOST:8786    # on a Dask cluster

Methods: `standalone`, the tutorial's classifier on the labelled images alone; `sgan`,
the tutorial's SGAN; `tuned`, the tuned one; `tuned-without-NAME`, the tuned one with an
ingredient left out. Each run is one start of that method's script. The same seed means
the same labelled images for all methods. No run is left out, and each figure is that of
a run's last step: no step is chosen by test accuracy.
"""

import argparse
import contextlib
import csv
import datetime
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from checkpoints import Interrupted, lock, locked, noted_signals, remove_partials
from datasets import load_arrays
from devices import PRECISIONS, count_cores, processor_name
from helpers import (
    InputError,
    LazyModule,
    OneLineParser,
    RunError,
    check_labels,
    run_script,
    warn_of_labels,
    writable_folder,
    write_atomically,
)
from run_folder import write_rows
from sgan_tuned import INGREDIENTS, check_budget
from training_run import add_data_options, check_positive

figure = LazyModule("matplotlib.figure")

ROOT = Path(__file__).resolve().parent
SCRIPTS = {
    "standalone": "standalone_classifier.py",
    "sgan": "sgan_mnist.py",
    "tuned": "sgan_tuned.py",
}
WITHOUT = "tuned-without-"
MAX_DRAWS = 10_000
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
# what all the runs of a folder share
SHARED = ("data", "image_size", "budget", "epochs", "precision", "max_steps")


def script_of(method):
    """Return the script of a method and the options that make it this method."""
    if method.startswith(WITHOUT):
        return SCRIPTS["tuned"], ["--without", method.removeprefix(WITHOUT)]
    return SCRIPTS[method], []


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
    add("--jobs", type=int, metavar="N", help="runs side by side (default: 1)")
    add(
        "--threads",
        type=int,
        metavar="N",
        help="threads a run (default: the cores shared out; 1 on a cluster)",
    )
    add("--cluster", metavar="ADDRESS", help="a Dask scheduler, instead of --jobs")
    add_data_options(parser)
    add(
        "--epochs", type=int, metavar="N", help="of sgan and tuned (default: their own)"
    )
    add("--budget", type=float, metavar="MINUTES", help="of each tuned run")
    add("--precision", choices=PRECISIONS, help="of each run (default: float32)")
    add("--max-steps", type=int, metavar="N", help="of each run, for a quick try")
    return parser.parse_args(argv)


def seeds_of(text):
    """'1-3,7' -> [1, 2, 3, 7]; for --seeds."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = map(int, (match[1], match[2] or match[1])) if match else (0, -1)
        if last < first:
            raise argparse.ArgumentTypeError(f"{text}: give seeds as 1-10 or 1,4,7")
        if last >= 2**31:
            raise argparse.ArgumentTypeError(f"{last}: must be from 0 to 2147483647")
        if last - first >= MAX_DRAWS:
            raise argparse.ArgumentTypeError(f"{part}: give at most {MAX_DRAWS} seeds")
        seeds += range(first, last + 1)
    return seeds


def check_arguments(args):
    """Raise InputError for a grid that can't be run; return its seeds."""
    for method in args.methods:
        left_out = method.removeprefix(WITHOUT).split("+")
        if method not in SCRIPTS and (
            not method.startswith(WITHOUT) or set(left_out) - set(INGREDIENTS)
        ):
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


def make_one_run(start, out, method, n_labels, seed, shared, threads):
    """Make one run, or go on with it; return its row for runs.csv, a dict.

    start: what starts a script, as subprocess.Popen does. out: the folder of the
    comparison. Runs in a thread of this process, or in a worker of a cluster, maybe on
    another machine with the same file system.
    """
    folder = Path(out) / run_name(method, n_labels, seed)
    result = folder / "result.json"
    with held(lock_of(folder)) as handle:
        if result.exists():
            return json.loads(result.read_text())
        if not is_finished(folder, method):
            run_training(start, folder, method, n_labels, seed, shared, threads, handle)
        settings = json.loads((folder / "settings.json").read_text())
        with open(folder / "accuracy.csv", newline="") as file:
            last = list(csv.DictReader(file))[-1]
        row = {
            "method": method,
            "labels": n_labels,
            "seed": seed,
            "test_error": f"{100 - float(last['test_accuracy']):.3f}",
            "train_accuracy": last["train_accuracy"],
            "step": last["step"],
            "seconds": last["seconds"],
            "threads": settings["options"]["threads"],
            "processor": processor_name(),
        }
        with write_atomically(result) as temporary:
            temporary.write_text(json.dumps(row) + "\n")
    return row


def is_finished(folder, method):
    """Whether a run's script had come to its end; it writes this file last."""
    last = "accuracy.csv" if method == "standalone" else "animation.gif"
    return (folder / last).exists()


def run_training(start, folder, method, n_labels, seed, shared, threads, locked_file):
    """Start a run's script, or let it go on, and wait for its end."""
    script, more = script_of(method)
    left_out = {"standalone": ("epochs", "budget"), "sgan": ("budget",)}.get(method, ())
    if method != "standalone" and (folder / "settings.json").exists():
        command = ["--resume", folder]
        if shared["max_steps"] is not None:
            command += ["--max-steps", shared["max_steps"]]
    else:
        # what a run left that had not come to its first checkpoint
        shutil.rmtree(folder, ignore_errors=True)
        command = ["--labels", n_labels, "--seed", seed, "--out", folder, *more]
        command += ["--threads", threads]
        for name, value in shared.items():
            if value is not None and name not in left_out:
                command += [f"--{name.replace('_', '-')}", value]
    command = [sys.executable, ROOT / script, *command, "--verbose", 0]
    with one_gpu() as (environment, gpu):
        process = start(
            list(map(str, command)),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # with these it holds the locks as long as it lives, even if this process
            # is killed
            pass_fds=[handle for handle in (locked_file, gpu) if handle is not None],
        )
        _, error = process.communicate()
    if process.returncode != 0:
        reason = (error.strip().splitlines() or ["no reason given"])[-1]
        if process.returncode < 0:
            reason = f"ended by {signal.Signals(-process.returncode).name}"
        raise RunError(f"{script}: {reason}")


def lock_of(folder):
    """Return the file whose lock says that a process is at work on a run."""
    return folder.with_name(f".{folder.name}.lock")


@contextlib.contextmanager
def held(path, wait=True):
    """Hold the lock on the file `path`, which is made; yield its handle.

    Without `wait`, raises BlockingIOError where another process holds it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        lock(handle, wait)
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def one_gpu():
    """Yield an environment with a GPU that no other run here uses, and its lock.

    Without several GPUs, or where all are taken, the environment is this process's
    and the lock None.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        named = ",".join(map(str, range(count_gpus())))
    gpus = [gpu for gpu in named.split(",") if gpu not in ("", "-1")]
    with contextlib.ExitStack() as stack:
        for gpu in gpus if len(gpus) > 1 else ():
            # a file of this user's, since others may not open it
            user = os.getuid() if hasattr(os, "getuid") else 0
            name = f"compare_labels-{user}-gpu-{gpu}.lock"
            path = Path(tempfile.gettempdir(), name)
            try:
                handle = stack.enter_context(held(path, wait=False))
            except BlockingIOError:
                continue
            yield {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}, handle
            return
        yield dict(os.environ), None


def count_gpus():
    """Return how many NVIDIA GPUs the driver lists on this Linux machine."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


class Scripts:
    """The scripts at work for this process, which a signal to it makes save and end."""

    def __init__(self):
        self.signum = None
        self._running = []
        self._lock = threading.Lock()

    def start(self, command, **options):
        """Start a script as subprocess.Popen does; Interrupted after stop()."""
        with self._lock:
            if self.signum is not None:
                raise Interrupted(self.signum, "not begun")
            # out of reach of a terminal's Ctrl-C: a second signal would end it at once
            process = subprocess.Popen(command, start_new_session=True, **options)
            self._running.append(process)
        return process

    def stop(self, signum):
        """Pass a signal on, once; no script is started from then on."""
        with self._lock:
            if self.signum is None:
                self.signum = signum
                for process in self._running:
                    process.send_signal(signum)


@contextlib.contextmanager
def engine(args, scripts):
    """Yield a concurrent.futures executor and how many calls it makes side by side.

    Its calls are made by threads here, each of which waits for a script of its own, or
    by the workers of a Dask cluster. scripts: those here, made to end by an exception.
    """
    if args.cluster is None:
        jobs = args.jobs or 1
        with ThreadPoolExecutor(jobs) as executor, noted_signals(scripts.stop):
            try:
                yield executor, jobs
            except BaseException:
                scripts.stop(signal.SIGTERM)
                raise
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "--cluster: dask.distributed is not installed; pip install -r "
            "requirements-cluster.txt, here and for the workers"
        ) from error
    # it logs the traceback of a lost connection, which is told in a line here
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        client = Client(args.cluster, timeout=10)
        client.wait_for_workers(1, timeout=30)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--cluster {args.cluster}: no scheduler with workers answers; start "
            "`dask scheduler`, and `dask worker ADDRESS --nthreads 1` where runs are "
            "to be made"
        ) from error
    with client:
        yield client.get_executor(pure=False), sum(client.ncores().values())


class Status(threading.Thread):
    """Keeps a line on a terminal up to date: what runs, what is done, time left."""

    def __init__(self, out, grid, rows, jobs):
        super().__init__(daemon=True)
        self._out, self._grid, self._rows, self._jobs = out, grid, rows, jobs
        self._ended = threading.Event()

    def __enter__(self):
        if sys.stdout.isatty():
            self.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        if self.is_alive():
            self.join()
            print(f"\r{'':<99}\r", end="", flush=True)

    def run(self):
        while not self._ended.wait(2):
            print(f"\r{self.line()[:99]:<99}", end="", flush=True)

    def line(self):
        """Return the line: runs at work with their progress, done, and time left."""
        done = runs_of(self._rows)
        running = {}
        for run in self._grid:
            fraction = progress_of(self._out / run_name(*run))
            if run not in done and fraction is not None:
                running[run] = fraction
        parts = [f"{run_name(*run)} {100 * f:.0f} %" for run, f in running.items()]
        left = seconds_left(self._grid, self._rows, running, self._jobs)
        text = f"{sum(run in done for run in self._grid)} of {len(self._grid)} done"
        if left is not None:
            text += f", {datetime.timedelta(seconds=round(left))} left"
        return f"{text}; runs: {', '.join(parts)}"


def progress_of(folder):
    """Return how much of a run that is at work is done, from 0 to 1, else None."""
    try:
        with held(lock_of(folder), wait=False):
            return None
    except BlockingIOError:
        pass  # a process is at work there
    except OSError:
        return None
    try:
        settings = json.loads((folder / "settings.json").read_text())
        options = settings["options"]
        n_steps = settings["n_steps"]
        n_steps = min(n_steps, options.get("max_steps") or n_steps)
        with open(folder / "history.csv", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 400))
            step = int(file.read().splitlines()[-1].split(b",")[0])
        return min(1.0, step / n_steps)
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0


def seconds_left(grid, rows, running, jobs):
    """Return an estimate from the runs that are done; None where there is none.

    rows: those of runs.csv; running: {run: how much is done}.
    """
    seconds = {}
    for row in rows:
        seconds.setdefault(row["method"], []).append(float(row["seconds"]))
    done = runs_of(rows)
    left = 0.0
    for run in grid:
        if run not in done:
            if run[0] not in seconds:
                return None
            left += np.mean(seconds[run[0]]) * (1 - running.get(run, 0.0))
    return left / jobs


def read_rows(path):
    """Return the rows of runs.csv, dicts; [] where there is none yet."""
    if not path.exists():
        return []
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        summarise(rows), runs_of(rows)
        if rows and tuple(rows[0]) != COLUMNS:
            raise ValueError("other columns")
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path}: not a table of this script ({error}); name another --out"
        ) from error
    return rows


def runs_of(rows):
    """Return the runs that rows are of, a set of (method, labels, seed)."""
    return {(row["method"], int(row["labels"]), int(row["seed"])) for row in rows}


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
    with write_atomically(path) as temporary:
        fig.savefig(temporary, dpi=120)


def save_results(out, rows, published):
    save_rows(out / "runs.csv", rows)
    summary = summarise(rows)
    with write_atomically(out / "table.md") as temporary:
        temporary.write_text(describe(summary, published), encoding="utf-8")
    plot(summary, out / "plot.png", published)
    return summary


def check_shared(out, shared):
    """Raise InputError where `out` holds runs with other settings, or other files."""
    path = out / "shared.json"
    if not path.exists():
        # but for what a kill leaves of that file
        if any(not other.match(".shared.partial*") for other in out.iterdir()):
            raise InputError(f"{out}: holds other files; name a new folder, --out")
        return
    try:
        # the folder may be older than this option
        before = {"image_size": None, **json.loads(path.read_text())}
        differing = [name for name in SHARED if before[name] != shared[name]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: can't be read; name a new folder, --out") from error
    for name in differing:
        raise InputError(
            f"{out}: its runs have {name} {before[name]}, not {shared[name]}; name a "
            "new folder, --out"
        )


def save_shared(out, shared):
    with write_atomically(out / "shared.json") as temporary:
        temporary.write_text(json.dumps(shared, indent=1) + "\n")


def run(args):
    seeds = check_arguments(args)
    if args.data is not None:
        args.data = str(Path(args.data).resolve())
    shared = {name: vars(args)[name] for name in SHARED}
    threads = args.threads
    if threads is None:
        threads = 1 if args.cluster else max(1, count_cores() // (args.jobs or 1))
    grid = [(m, n, s) for n in args.labels for m in args.methods for s in seeds]
    grid = list(dict.fromkeys(grid))
    out = writable_folder(args.out).resolve()
    # those are of MNIST
    published = PUBLISHED if args.data is None else {}
    failures = []
    with locked(out):
        check_shared(out, shared)
        remove_partials(out)
        rows = read_rows(out / "runs.csv")
        done = runs_of(rows)
        missing = [one for one in grid if one not in done]
        print(f"{len(grid) - len(missing)} of {len(grid)} runs are there already")
        scripts = Scripts()
        task, start = attempt, scripts.start
        if args.cluster:
            task, start = define_task(str(ROOT)), subprocess.Popen
        with (
            engine(args, scripts) as (executor, jobs),
            Status(out, grid, rows, jobs),
        ):
            save_shared(out, shared)
            calls = {
                executor.submit(task, start, out, *one, shared, threads): one
                for one in missing
            }
            for call in as_completed(calls):
                row = result_of(call, run_name(*calls[call]))
                if isinstance(row, str):
                    if scripts.signum is None:
                        failures.append(row)
                        print(f"\r{row}", file=sys.stderr, flush=True)
                    continue
                rows.append(row)
                save_results(out, rows, published)
                name = run_name(row["method"], row["labels"], row["seed"])
                error, seconds = float(row["test_error"]), float(row["seconds"])
                line = f"{name}: test error {error:.2f} %, {seconds:.0f} s"
                print(f"\r{line:<99}", flush=True)
        if rows:
            print(describe(save_results(out, rows, published), published))
    if scripts.signum is not None:
        raise Interrupted(scripts.signum, "interrupted; start again to go on")
    print(f"The results are in {out}")
    if failures:
        raise RunError(f"{len(failures)} runs failed; start again to go on with them")


def define_task(root):
    """Return attempt() for workers and a scheduler that don't know this module."""

    def task(*arguments):
        if root not in sys.path:
            sys.path.insert(0, root)
        import compare_labels

        return compare_labels.attempt(*arguments)

    return task


def attempt(start, *arguments):
    """Return make_one_run's row, or what went wrong as text: the others go on."""
    try:
        return make_one_run(start, *arguments)
    except (RunError, Interrupted, OSError, ValueError, LookupError) as error:
        return f"{run_name(*arguments[1:4])}: {error}"


def result_of(call, name):
    """Return what a call of attempt() for the run `name` gave, or what ended it."""
    if call.cancelled():
        raise RunError("the scheduler was lost; start again to go on")
    error = call.exception()
    if error is None:
        return call.result()
    # workers that were killed over it, or one that can't read the scripts
    reason, *_ = " ".join(str(error).split()).split(". ")
    return f"{name}: {reason}"


def main(argv=None):
    return run_script("compare_labels.py", lambda: run(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
