"""Many runs of scripts side by side, on this machine or on a cluster.

A grid is a folder with a folder for each of its runs. What is finished there stays,
what was stopped goes on. The scripts are any that have --out, --verbose and, where
they can go on, --resume.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import logging
import os
import pkgutil
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import takewhile
from pathlib import Path

from gankit.command import (
    InputError,
    Interrupted,
    RunError,
    noted_signals,
    printable,
)
from gankit.folders import (
    held,
    locked,
    remove_partials,
    writable_folder,
    write_atomically,
)
from gankit.training.devices import count_cores, count_gpus
from gankit.training.records import FINISHED
from gankit.training.settings import option_name

ROOT = Path(__file__).resolve().parents[2]
MAX_DRAWS = 10_000


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


def add_engine_options(parser):
    """Add the options of what makes the runs: side by side here, or on a cluster."""
    add = parser.add_argument
    add("--jobs", type=int, metavar="N", help="runs side by side (default: 1)")
    add(
        "--threads",
        type=int,
        metavar="N",
        help="threads a run (default: the cores shared out; 1 on a cluster)",
    )
    add("--cluster", metavar="ADDRESS", help="a Dask scheduler, instead of --jobs")


def count_threads(args):
    """Return how many threads a run has, as add_engine_options's options say."""
    if args.threads is not None:
        return args.threads
    return 1 if args.cluster else max(1, count_cores() // (args.jobs or 1))


def write_options(values):
    """Return a script's options of values by name, a list; None is left out."""
    given = [(name, value) for name, value in values.items() if value is not None]
    return [part for name, value in given for part in (option_name(name), value)]


@dataclasses.dataclass(frozen=True)
class GridRun:
    """One run of a grid: a script, started once and gone on with where it stopped.

    name: the run's and its folder's, one a grid.
    script: the script's path from the repository's top.
    options: what a new run is started with, beside --out and --verbose.
    resume: what a run is gone on with, beside --resume and --verbose; None where the
    script can only begin anew.
    read: "module:function", of a module beside the script or at the top. The function
    is called with a finished run's folder, on the machine that made the run, and
    returns its results: a dict for JSON, with "seconds" among them.
    facts: what the run's row has before these results, a dict for JSON.
    """

    name: str
    script: str
    options: tuple
    resume: tuple | None
    read: str
    facts: dict


class Grid:
    """The folder of a grid, locked in a with statement.

    Raises InputError where it can't be written, is at work, holds other files, or runs
    that share other settings: shared, a dict for JSON; None stands for an option's
    default, and for one that is younger than the folder.
    """

    def __init__(self, out, shared):
        self.out = writable_folder(out).resolve()
        self._shared = shared
        self._failures, self._signum = [], None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self.out))
            check_shared(self.out, self._shared)
            remove_partials(self.out)
            self._lock = stack.pop_all()
        return self

    def __exit__(self, *exception):
        self._lock.close()

    def begin(self):
        """Mark the folder as this grid's; before other files are put there."""
        save_shared(self.out, self._shared)

    def make(self, runs, rows, record, *, kind, jobs=None, cluster=None):
        """Make the runs that have no row yet, side by side.

        runs: list of GridRun. rows: {name: row} of those that are finished, to which
        new ones are added. record(row): called here after each new row, to save what
        is to be saved; returns a text about the row, which is printed. kind: the fact
        of which runs take about equally long, for an estimate of the time left.
        jobs: how many runs at a time (default: 1). cluster: the address of a Dask
        scheduler, whose workers make the runs instead.

        A run that fails is told on stderr, and the others go on. Ctrl-C and SIGTERM
        make the runs on this machine save and end. Raises InputError where no cluster
        answers, RunError where it is lost.
        """
        missing = [run for run in runs if run.name not in rows]
        print(f"{len(runs) - len(missing)} of {len(runs)} runs are there already")
        scripts = Scripts()
        task, start = attempt, scripts.start
        if cluster is not None:
            task, start = define_task(str(ROOT)), subprocess.Popen
        with (
            engine(jobs, cluster, scripts) as (executor, n_jobs),
            Status(self.out, runs, rows, kind, n_jobs) as status,
        ):
            self.begin()
            calls = {
                executor.submit(
                    task, start, str(self.out), dataclasses.asdict(run)
                ): run.name
                for run in missing
            }
            for call in as_completed(calls):
                name = calls[call]
                row = result_of(call, name)
                if not isinstance(row, str):
                    rows[name] = row
                    status.print(f"{name}: {record(row)}")
                elif scripts.signum is None:
                    self._failures.append(name)
                    status.print(printable(row), file=sys.stderr)
        self._signum = scripts.signum

    def tell_end(self):
        """Print where the results are; Interrupted or RunError where some are not."""
        if self._signum is not None:
            raise Interrupted(self._signum, "interrupted; start again to go on")
        print(f"The results are in {self.out}")
        if self._failures:
            raise RunError(
                f"{len(self._failures)} runs failed; start again to go on with them"
            )


def check_shared(out, shared):
    """Raise InputError where `out` holds runs with other settings, or other files."""
    path = out / "shared.json"
    if not path.exists():
        # but for what a kill leaves of that file
        if any(not other.match(".shared.partial*") for other in out.iterdir()):
            raise InputError(f"{out}: holds other files; name a new folder, --out")
        return
    try:
        before = {**json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: can't be read; name a new folder, --out") from error
    for name, value in shared.items():
        if before.get(name) != value:
            raise InputError(
                f"{out}: its runs have {name} {before.get(name)}, not {value}; name a "
                "new folder, --out"
            )


def save_shared(out, shared):
    with write_atomically(out / "shared.json") as temporary:
        temporary.write_text(json.dumps(shared, indent=1) + "\n", encoding="utf-8")


def attempt(start, out, description):
    """Return make_one_run's row, or what went wrong as text: the others go on.

    description: the fields of a GridRun, a dict.
    """
    run = GridRun(**description)
    try:
        return make_one_run(start, Path(out), run)
    except (RunError, Interrupted, OSError, ValueError, LookupError) as error:
        return f"{run.name}: {error}"


def make_one_run(start, out, run):
    """Make one run, or go on with it; return its row, a dict.

    start: what starts a script, as subprocess.Popen does. out: the grid's folder.
    Runs in a thread of this process, or in a worker of a cluster, maybe on another
    machine with the same file system.
    """
    folder = out / run.name
    result = folder / "result.json"
    with held(lock_of(folder)) as handle:
        if result.exists():
            return json.loads(result.read_text(encoding="utf-8"))
        if not is_finished(folder):
            run_training(start, folder, run, handle)
        row = {**run.facts, **reader_of(run)(folder)}
        with write_atomically(result) as temporary:
            temporary.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return row


def is_finished(folder):
    """Whether a run's script had come to its end."""
    return (folder / FINISHED).exists()


def reader_of(run):
    """Return the function that run.read names."""
    beside = str((ROOT / run.script).parent)
    if beside not in sys.path:
        sys.path.insert(0, beside)
    return pkgutil.resolve_name(run.read)


def run_training(start, folder, run, locked_file):
    """Start a run's script, or let it go on, and wait for its end."""
    if run.resume is not None and (folder / "settings.json").exists():
        options = ["--resume", folder, *run.resume]
    else:
        # what a run left that had not come to its first checkpoint
        shutil.rmtree(folder, ignore_errors=True)
        options = [*run.options, "--out", folder]
    command = [sys.executable, ROOT / run.script, *options, "--verbose", 0]
    with one_gpu() as (environment, gpu):
        process = start(
            list(map(str, command)),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            # with these it holds the locks as long as it lives, even if this process
            # is killed
            pass_fds=[handle for handle in (locked_file, gpu) if handle is not None],
        )
        _, error = process.communicate()
    if process.returncode != 0:
        reason = (error.strip().splitlines() or ["no reason given"])[-1]
        if process.returncode < 0:
            reason = f"ended by {signal.Signals(-process.returncode).name}"
        raise RunError(f"{run.script}: {reason}")


def lock_of(folder):
    """Return the file whose lock says that a process is at work on a run."""
    return folder.with_name(f".{folder.name}.lock")


@contextlib.contextmanager
def one_gpu():
    """Yield an environment with a GPU that no other run here uses, and its lock.

    Without several GPUs, or where all are taken, the environment is this process's
    and the lock None.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        named = ",".join(map(str, range(count_gpus())))
    names = map(str.strip, named.split(","))
    # CUDA sees none from the first on that is not there
    gpus = list(takewhile(lambda gpu: gpu not in ("", "-1"), names))
    with contextlib.ExitStack() as stack:
        for gpu in gpus if len(gpus) > 1 else ():
            # a file of this user's, since others may not open it; the name of a part of
            # a GPU has slashes
            name = f"gankit-{os.getuid()}-gpu-{gpu.replace('/', '_')}.lock"
            path = Path(tempfile.gettempdir(), name)
            try:
                handle = stack.enter_context(held(path, wait=False))
            except BlockingIOError:
                continue
            yield {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}, handle
            return
        yield dict(os.environ), None


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
def engine(jobs, cluster, scripts):
    """Yield a concurrent.futures executor and how many calls it makes side by side.

    Its calls are made by threads here, each of which waits for a script of its own, or
    by the workers of a Dask cluster. scripts: those here, made to end by an exception.
    """
    if cluster is None:
        jobs = jobs or 1
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
            "requirements/cluster.txt, here and for the workers"
        ) from error
    # it logs the traceback of a lost connection, which is told in a line here
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        client = Client(cluster, timeout=10)
        client.wait_for_workers(1, timeout=30)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--cluster {cluster}: no scheduler with workers answers; start "
            "`dask scheduler`, and `dask worker ADDRESS --nthreads 1` where runs are "
            "to be made"
        ) from error
    with client:
        yield client.get_executor(pure=False), sum(client.ncores().values())


def define_task(root):
    """Return attempt() for workers and a scheduler that don't know this module."""

    def task(*arguments):
        if root not in sys.path:
            sys.path.insert(0, root)
        from gankit.training import grid

        return grid.attempt(*arguments)

    return task


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


class Status(threading.Thread):
    """Keeps a line on a terminal up to date: what runs, what is done, time left."""

    def __init__(self, out, runs, rows, kind, jobs):
        super().__init__(daemon=True)
        self._out, self._runs, self._rows = out, runs, rows
        self._kind, self._jobs = kind, jobs
        self._ended = threading.Event()

    def __enter__(self):
        if sys.stdout.isatty():
            self.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        if self.is_alive():
            self.join()
            self._update("")
            print("\r", end="", flush=True)

    def run(self):
        while not self._ended.wait(2):
            self._update(self.line())

    def print(self, text, file=None):
        """Print a line of text, in the place of the line that is kept up to date."""
        if self.is_alive():
            self._update("")
            print("\r", end="", flush=True)
        print(text, file=file, flush=True)

    @staticmethod
    def _update(line):
        # in the last column some terminals go on to the next line
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:<{width}}", end="", flush=True)

    def line(self):
        """Return the line: runs at work with their progress, done, and time left."""
        done = dict(self._rows)
        running = {}
        for run in self._runs:
            fraction = progress_of(self._out / run.name)
            if run.name not in done and fraction is not None:
                running[run.name] = fraction
        parts = [f"{name} {100 * f:.0f} %" for name, f in running.items()]
        left = seconds_left(self._runs, done, running, self._kind, self._jobs)
        n_done = sum(run.name in done for run in self._runs)
        text = f"{n_done} of {len(self._runs)} done"
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
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        options = settings["options"]
        n_steps = settings["n_steps"]
        n_steps = min(n_steps, options.get("max_steps") or n_steps)
        with open(folder / "history.csv", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 400))
            step = int(file.read().splitlines()[-1].split(b",")[0])
        return min(1.0, step / n_steps)
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0


def seconds_left(runs, rows, running, kind, jobs):
    """Return an estimate from the rows that are there; None where there is none.

    rows: {name: row}; running: {name: how much is done}; kind: the fact of which runs
    take about equally long.
    """
    seconds = {}
    for row in rows.values():
        seconds.setdefault(row[kind], []).append(float(row["seconds"]))
    left = 0.0
    for run in runs:
        if run.name not in rows:
            if run.facts[kind] not in seconds:
                return None
            mean = statistics.fmean(seconds[run.facts[kind]])
            left += mean * (1 - running.get(run.name, 0.0))
    return left / jobs
