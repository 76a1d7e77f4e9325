"""Checkpoints that no crash can spoil, the lock on a run's folder, and signals."""

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

import numpy as np

from helpers import InputError, write_atomically

try:
    import fcntl
except ImportError:  # Windows has no such locks: there nothing is locked
    fcntl = None

KEPT = 2
DIGEST_SIZE = hashlib.sha256().digest_size


class Interrupted(KeyboardInterrupt):
    """A run that was stopped by a signal, with all its work saved."""

    def __init__(self, signum, message):
        super().__init__(message)
        self.status = 128 + signum


def checkpoint_paths(folder):
    """Return the folder's checkpoints, the newest first."""
    steps = {}
    for path in Path(folder).glob("checkpoint-*.npz"):
        if match := re.fullmatch(r"checkpoint-(\d+)\.npz", path.name):
            steps[path] = int(match[1])
    return sorted(steps, key=steps.get, reverse=True)


def save_checkpoint(folder, variables, step, record):
    """Save all that the next step depends on, and remove all but two checkpoints.

    variables: the Keras variables; record: a dict of arrays and of what JSON can hold.
    The file is an .npz file followed by its SHA-256 checksum.
    """
    arrays = {f"v{i:03d}": np.asarray(value) for i, value in enumerate(variables)}
    plain = {}
    for name, value in record.items():
        (arrays if isinstance(value, np.ndarray) else plain)[name] = value
    file = io.BytesIO()
    np.savez(file, step=step, plain=json.dumps(plain), **arrays)
    content = file.getbuffer()
    path = Path(folder) / f"checkpoint-{step:06d}.npz"
    with write_atomically(path) as temporary, open(temporary, "wb") as target:
        target.write(content)
        target.write(hashlib.sha256(content).digest())
    for path in checkpoint_paths(folder)[KEPT:]:
        path.unlink()


def restore_newest(folder, variables):
    """Load the newest whole checkpoint; return step and record, (0, None) without one.

    A damaged one is passed over with a line on stderr. Raises InputError where all
    are damaged, or where they are of other networks.
    """
    paths, damaged = checkpoint_paths(folder), []
    for path in paths:
        try:
            arrays = read_checked(path)
        except (OSError, ValueError) as error:
            print(f"{path}: {error}; passed over", file=sys.stderr)
            if isinstance(error, ValueError):
                damaged.append(path)
            continue
        step, plain = int(arrays.pop("step")), json.loads(str(arrays.pop("plain")))
        names = sorted(name for name in arrays if re.fullmatch(r"v\d+", name))
        saved = [arrays.pop(name) for name in names]
        if [v.shape for v in saved] != [tuple(v.shape) for v in variables]:
            raise InputError(f"{path}: is of other networks; start anew with --out")
        for variable, value in zip(variables, saved, strict=True):
            variable.assign(value)
        # else they would take the place of a whole one
        for path in damaged:
            path.unlink()
        return step, {**plain, **arrays}
    if paths:
        raise InputError(f"{folder}: no checkpoint is whole; start anew with --out")
    return 0, None


def read_checked(path):
    """Return the arrays of a checkpoint, a dict; ValueError where it is damaged."""
    content = Path(path).read_bytes()
    content, digest = content[:-DIGEST_SIZE], content[-DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("the checksum is wrong, the file is damaged")
    with np.load(io.BytesIO(content), allow_pickle=False) as saved:
        return dict(saved)


@contextlib.contextmanager
def locked(folder):
    """Keep other runs out of the folder; InputError where one is at work there.

    The lock is the operating system's: it ends with the process, however that ends.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            lock(handle, wait=False)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another run is at work there; wait for it, or name a new "
                "folder"
            ) from None
        yield
    finally:
        os.close(handle)


def lock(handle, wait=True):
    """Lock an open file, where its file system and the operating system can.

    Without `wait`, raises BlockingIOError where another process holds the lock.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks


def remove_partials(folder):
    """Remove what write_atomically left unfinished when its process was killed."""
    for path in Path(folder).glob(".*.partial*"):
        path.unlink()


@contextlib.contextmanager
def noted_signals(note):
    """Call note(signum) on the first Ctrl-C or SIGTERM; the second ends the process.

    A signal that was ignored (as under nohup) stays ignored.
    """
    previous = {}

    def handle(signum, frame):
        for other in previous:
            signal.signal(other, signal.SIG_DFL)
        note(signum)

    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(signum) != signal.SIG_IGN:
                previous[signum] = signal.signal(signum, handle)
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
