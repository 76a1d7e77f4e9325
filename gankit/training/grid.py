"""Many runs side by side, on this machine or on a cluster."""

import contextlib
import csv
import datetime
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gankit.command import InputError, Interrupted, RunError, noted_signals
from gankit.folders import held, write_atomically
from gankit.training.devices import processor_name

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {
    "standalone": "standalone_classifier.py",
    "sgan": "sgan_mnist.py",
    "tuned": "sgan_tuned.py",
}
WITHOUT = "tuned-without-"


def script_of(method):
    """Return the script of a method and the options that make it this method."""
    if method.startswith(WITHOUT):
        return SCRIPTS["tuned"], ["--without", method.removeprefix(WITHOUT)]
    return SCRIPTS[method], []


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
            "requirements/cluster.txt, here and for the workers"
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


def runs_of(rows):
    """Return the runs that rows are of, a set of (method, labels, seed)."""
    return {(row["method"], int(row["labels"]), int(row["seed"])) for row in rows}


def define_task(root):
    """Return attempt() for workers and a scheduler that don't know this module."""

    def task(*arguments):
        if root not in sys.path:
            sys.path.insert(0, root)
        from gankit.training import grid

        return grid.attempt(*arguments)

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
