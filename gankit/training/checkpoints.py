"""Checkpoints that no crash can spoil."""

import hashlib
import io
import json
import re
import sys
from pathlib import Path

import numpy as np

from gankit.command import InputError
from gankit.folders import write_atomically

KEPT = 2
DIGEST_SIZE = hashlib.sha256().digest_size


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
    found = read_newest(folder)
    if found is None:
        return 0, None
    path, step, saved, record, damaged = found
    fill(path, saved, variables)
    # else they would take the place of a whole one
    for path in damaged:
        path.unlink()
    return step, record


def read_newest(folder):
    """Return path, step, the variables' values and record of the newest whole one.

    And the paths of those that are damaged; None where there is no checkpoint. Says and
    raises what restore_newest does.
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
        # by number: as texts, v1000 comes before v101
        names = sorted(
            (name for name in arrays if re.fullmatch(r"v\d+", name)),
            key=lambda name: int(name[1:]),
        )
        saved = [arrays.pop(name) for name in names]
        return path, step, saved, {**plain, **arrays}, damaged
    if paths:
        raise InputError(f"{folder}: no checkpoint is whole; start anew with --out")
    return None


def fill(path, saved, variables):
    """Assign values from the checkpoint `path`; InputError where they don't fit."""
    if [v.shape for v in saved] != [tuple(v.shape) for v in variables]:
        raise InputError(f"{path}: is of other networks; start anew with --out")
    for variable, value in zip(variables, saved, strict=True):
        variable.assign(value)


def read_checked(path):
    """Return the arrays of a checkpoint, a dict; ValueError where it is damaged."""
    content = Path(path).read_bytes()
    content, digest = content[:-DIGEST_SIZE], content[-DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("the checksum is wrong, the file is damaged")
    with np.load(io.BytesIO(content), allow_pickle=False) as saved:
        return dict(saved)
