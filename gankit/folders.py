"""Folders that runs fill: made, written atomically, locked."""

import contextlib
import datetime
import itertools
import os
import tempfile
from pathlib import Path

from gankit.command import InputError


def new_folder(out):
    """Create the folder `out`, which must be new or empty; return its Path.

    Raises InputError where it holds files or can't be written.
    """
    out = writable_folder(out)
    if any(out.iterdir()):
        raise InputError(f"{out}: holds files already; name a new folder")
    return out


def writable_folder(out):
    """Create the folder `out` where it is missing; return its Path.

    Raises InputError where it can't be written.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(
            f"{out}: can't be written ({error.strerror}); name another folder"
        ) from error
    return out


def dated_folder(parent, name):
    """Create a new folder parent/<date>-<time>-name, maybe with a number; return it.

    It belongs to the caller alone, however many processes ask for one at once. Call it
    when the input has been checked, lest an empty folder is left behind. Raises
    InputError where `parent` can't be written.
    """
    parent = writable_folder(parent)
    stem = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{name}"
    for n in itertools.count(1):
        out = parent / (stem if n == 1 else f"{stem}-{n}")
        with contextlib.suppress(FileExistsError):
            out.mkdir()
            return out


@contextlib.contextmanager
def write_atomically(path):
    """Yield a temporary path beside `path`, and move it into place on success.

    The temporary name keeps the suffix, which some writers read; it is removed if
    the block raises.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    temporary.unlink(missing_ok=True)  # of a process that was killed
    try:
        yield temporary
        # on the disk before it takes its name, should the power fail
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder):
    """Keep other runs out of the folder; InputError where one is at work there.

    The lock is the operating system's: it ends with the process, however that ends.
    """
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


@contextlib.contextmanager
def claimed(out):
    """Create the folder `out` as new_folder does; yield it, locked meanwhile.

    Of several processes that ask for one folder at once, one gets it. Raises
    InputError in the others.
    """
    out = new_folder(out)
    with locked(out):
        yield new_folder(out)  # again: another may have been quicker


def lock(handle, wait=True):
    """Lock an open file, where its file system and the operating system can.

    Without `wait`, raises BlockingIOError where another process holds the lock.
    """
    import fcntl  # which Windows lacks

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks


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


def remove_partials(folder):
    """Remove what write_atomically left unfinished when its process was killed."""
    for path in Path(folder).glob(".*.partial*"):
        path.unlink()
