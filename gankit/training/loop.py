"""The loop over the steps of a run, which can be interrupted and go on."""

import contextlib
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from gankit.backend import tf
from gankit.command import InputError, Interrupted, noted_signals
from gankit.folders import locked, new_folder, remove_partials, write_atomically
from gankit.pictures import plot_history, save_animation
from gankit.training.checkpoints import restore_newest, save_checkpoint
from gankit.training.progress import Progress
from gankit.training.records import (
    ACCURACY,
    append_rows,
    check_finite,
    history_row,
    write_rows,
    writing_to,
)

CHECKPOINT_SECONDS = 120
# settings that a resumed run must share with its first part
FIXED = (
    "seed",
    "n_batch",
    "jit",
    "n_parts",
    "data_sha256",
    "class_names",
    "labelled_images",
)


def resume_run(out, state, settings):
    """Restore the variables in `state` from the newest whole checkpoint in `out`.

    Returns step, history (list of (5,) arrays), accuracy (rows) and seconds so far.
    Raises InputError where the checkpoint belongs to a run with other settings.
    """
    remove_partials(out)
    step, record = restore_newest(out, state)
    if record is None:
        return 0, [], [], 0.0
    for name in FIXED:
        if record["settings"].get(name) != settings.get(name):
            raise InputError(
                f"{out}: was started with another {name}; resume it with the same data "
                "and settings"
            )
    before, now = record["settings"]["versions"], settings["versions"]
    changed = [name for name in now if now[name] != before.get(name)]
    if changed:
        print(
            f"{out}: was started with another version of {', '.join(changed)}: the "
            "bits may differ from an uninterrupted run's",
            file=sys.stderr,
        )
    return step, list(record["history"]), record["accuracy"], record["seconds"]


def make_run(
    train_steps,
    state,
    evaluate,
    settings,
    *,
    columns,
    describe,
    n_steps,
    epoch_steps,
    evaluate_every=None,
    out,
    max_steps=None,
    verbose=2,
    resume=False,
    log=None,
):
    """Make a run's steps and fill its folder, `out`; return its Path.

    train_steps: (first, n) -> float32 (n, len(columns) - 1), makes n steps.
    state: the variables that a step depends on. evaluate: (step, out) -> the accuracies
    of a row of accuracy.csv, called every evaluate_every steps, after each
    epoch (of epoch_steps) and after the last step. settings: see describe_settings.
    columns: those of history.csv; describe: a step's figures -> text.
    log: a tensorboard_log.EventLog to fill, or None.
    out, max_steps, verbose, resume, errors raised: as in sgan_mnist.train.
    """
    out = Path(out)
    evaluate_every = evaluate_every or epoch_steps
    if not resume:
        new_folder(out)
    signals, progress = [], Progress(verbose, describe)
    with (
        locked(out),
        noted_signals(signals.append),
        progress,
        writing_to(out),
        log or contextlib.nullcontext(),
    ):
        if resume:
            step, history, accuracy, seconds = resume_run(out, state, settings)
            finished = (out / "animation.gif").exists()
            if max_steps is not None and max_steps < step + finished:
                raise InputError(
                    f"max_steps {max_steps}: the run in {out} has made {step} steps "
                    "already; give more"
                )
        else:
            new_folder(out)  # again, since another run may have been quicker
            step, history, accuracy, seconds = 0, [], [], 0.0
        with write_atomically(out / "settings.json") as path:
            path.write_text(json.dumps(settings, indent=1) + "\n")
        write_rows(
            out / "history.csv",
            [columns, *(history_row(i, row) for i, row in enumerate(history, 1))],
        )
        write_rows(out / "accuracy.csv", [ACCURACY, *accuracy])
        if log:
            log.begin(out, columns, history, accuracy)
        started = time.perf_counter() - seconds
        saved = time.perf_counter()

        # a GPU idles between calls, a CPU does not
        steps_per_call = 50 if tf.config.list_logical_devices("GPU") else 1
        last_step = min(n_steps, max_steps or n_steps)
        progress.begin(step, last_step)
        while step < last_step:
            next_evaluation = min(
                (step // size + 1) * size for size in (evaluate_every, epoch_steps)
            )
            n = min(steps_per_call, next_evaluation - step, last_step - step)
            figures = train_steps(tf.constant(step), tf.constant(n)).numpy()
            history.extend(figures)
            rows = list(enumerate(figures, step + 1))
            append_rows(out / "history.csv", [history_row(i, row) for i, row in rows])
            if log:
                log.add_steps(rows)
            for i, row in rows:
                progress.show(i, row)
                check_finite(i, row, columns)
            step += n
            evaluating = step in (next_evaluation, last_step)
            if evaluating:
                progress.end_line()
                accuracies = evaluate(step, out)
                epoch = f"{step / epoch_steps:g}"
                elapsed = f"{time.perf_counter() - started:.1f}"
                accuracy.append([epoch, str(step), *accuracies, elapsed])
                append_rows(out / "accuracy.csv", accuracy[-1:])
                if log:
                    log.add_evaluation(accuracy[-1])
            stopping = bool(signals) and step < last_step
            due = time.perf_counter() - saved > CHECKPOINT_SECONDS
            if evaluating or stopping or due:
                record = {
                    "settings": settings,
                    "seconds": time.perf_counter() - started,
                    "accuracy": accuracy,
                    "history": np.array(history, np.float32),
                }
                save_checkpoint(out, state, step, record)
                saved = time.perf_counter()
            if stopping:
                resumption = f"--resume {shlex.quote(str(out))}"
                if not settings["options"]:
                    resumption = f"resume=True, out={str(out)!r}"
                raise Interrupted(
                    signals[0], f"saved after step {step}; go on with {resumption}"
                )
        plot_history(out)
        save_animation(out)
    return out
