"""The loop over the steps of a run, which can be interrupted and go on."""

import contextlib
import shlex
import sys
import time

import numpy as np

from gankit.backend import tf
from gankit.command import InputError, Interrupted, noted_signals
from gankit.data.labels import normal_form
from gankit.pictures import plot_history, save_animation
from gankit.training.checkpoints import restore_newest, save_checkpoint
from gankit.training.progress import Progress
from gankit.training.records import FINISHED, Records, check_finite, read_evaluation
from gankit.training.tensorboard import EventLog, has_log

CHECKPOINT_SECONDS = 120
# what a resumed run must share with its first part, and what moves its bits alone
FIXED = ("seed", "n_batch", "data_sha256", "class_names", "labelled_images")
# likewise, but a run that is older than them has none
FIXED_WHERE_KNOWN = ("judge_sha256", "captions", "changes_of_images")
MOVING = ("jit", "n_parts")


def make_steps(
    run,
    steps,
    dataset,
    summarize,
    *,
    describe,
    n_steps,
    epoch_steps,
    n_batch,
    evaluate_every=None,
    each_epoch=True,
):
    """Make a run's steps and fill its folder; return its Path.

    run: a run.Run. steps: its batches.Steps. dataset: [X, y] that it is trained on.
    summarize: step -> the figures of a row of run.table, a number or None for each of
    run.evaluations; called every evaluate_every steps, after each epoch (of
    epoch_steps) unless each_epoch is False, and after the last step. describe: a
    step's figures -> text.

    Raises InputError for what can't be used, RunError where the run can't go on (a
    loss that is not finite, a full disk), Interrupted after Ctrl-C or SIGTERM, when
    the step is finished and saved.
    """
    described = run.describe(dataset, n_batch=n_batch, n_steps=n_steps)
    signals = []
    with (
        run.filling(),
        noted_signals(signals.append),
        Progress(run.verbose, describe) as progress,
        EventLog(run.folder, steps.columns, run.evaluations)
        if run.settings.tensorboard or (run.resumed and has_log(run.folder))
        else contextlib.nullcontext() as log,
    ):
        loop = Loop(run, steps, described, log)
        last_step = min(n_steps, run.settings.max_steps or n_steps)
        loop.begin()
        progress.begin(loop.step, last_step)
        every = [evaluate_every or epoch_steps]
        if each_epoch:
            every.append(epoch_steps)
        while loop.step < last_step:
            due = min((loop.step // size + 1) * size for size in every)
            loop.advance(min(due, last_step) - loop.step, progress)
            evaluating = loop.step in (due, last_step)
            if evaluating:
                progress.end_line()
                loop.evaluate(summarize, epoch_steps)
            stopping = bool(signals) and loop.step < last_step
            loop.save_if_due(evaluating or stopping)
            if stopping:
                raise Interrupted(
                    signals[0],
                    f"saved after step {loop.step}; go on with --resume "
                    f"{shlex.quote(str(run.folder))}",
                )
        plot_history(run.folder, run.table)
        save_animation(run.folder)
        loop.records.finish(loop.step)
    return run.folder


class Loop:
    """What changes while a run is made: step, tables, time, checkpoints."""

    def __init__(self, run, steps, described, log):
        self._run, self._steps, self._described = run, steps, described
        self._log = log
        self.records = Records(run.folder, steps.columns, run.evaluations, run.table)
        self.step = 0
        # a GPU idles between calls, a CPU does not
        self._most_steps = 50 if tf.config.list_logical_devices("GPU") else 1

    def begin(self):
        """Start the run, or restore the newest whole checkpoint."""
        run, seconds, history, accuracy = self._run, 0.0, [], []
        if run.resumed:
            finished = (run.folder / FINISHED).exists()
            self.step, record = restore_newest(run.folder, self._steps.state)
            if record is not None:
                check_same(run.folder, record["settings"], self._described)
                history, seconds = record["history"], record["seconds"]
                accuracy = map(read_evaluation, record["accuracy"])
            most = run.settings.max_steps
            if most is not None and most < self.step + finished:
                raise InputError(
                    f"max_steps {most}: the run in {run.folder} has made {self.step} "
                    "steps already; give more"
                )
        run.write_settings(self._described)
        self.records.begin(history, accuracy)
        if self._log:
            self._log.begin(self.records)
        self._started = time.perf_counter() - seconds
        self._saved = time.perf_counter()

    def advance(self, n, progress):
        """Make at most n steps, in one call; record and show them."""
        n = min(n, self._most_steps)
        figures = self._steps(self.step, n).numpy()
        self.records.add_steps(figures)
        rows = list(enumerate(figures, self.step + 1))
        if self._log:
            self._log.add_steps(rows)
        for step, row in rows:
            progress.show(step, row)
            check_finite(step, row, self._steps.columns)
        self.step += n

    def evaluate(self, summarize, epoch_steps):
        """Measure, and record the figures."""
        figures = summarize(self.step)
        self.records.add_evaluation(
            self.step / epoch_steps, self.step, figures, self._seconds()
        )
        if self._log:
            self._log.add_evaluation(
                self.records.accuracy[-1], self._run.pictures(self.step)
            )

    def save_if_due(self, due):
        """Save a checkpoint where it is due, or the last one is two minutes old."""
        if not due and time.perf_counter() - self._saved <= CHECKPOINT_SECONDS:
            return
        record = {
            "settings": self._described,
            "seconds": self._seconds(),
            "accuracy": self.records.accuracy,
            "history": np.array(self.records.history, np.float32),
        }
        save_checkpoint(self._run.folder, self._steps.state, self.step, record)
        self._saved = time.perf_counter()

    def _seconds(self):
        return time.perf_counter() - self._started


def check_same(folder, before, now):
    """Raise InputError where a checkpoint belongs to a run with other settings.

    A line on stderr tells what else differs: versions, machine, parts of a batch.
    """
    if before.get("class_names"):  # of a run that kept them as they were written
        before = {**before, "class_names": [*map(normal_form, before["class_names"])]}
    younger = [name for name in FIXED_WHERE_KNOWN if name in before]
    for name in (*FIXED, *younger):
        if before.get(name) != now.get(name):
            raise InputError(
                f"{folder}: was started with another {name}; resume it with the same "
                "data and settings"
            )
    changed = [
        name
        for name, value in now["versions"].items()
        if before["versions"].get(name) != value
    ]
    changed += [name for name in MOVING if before.get(name) != now[name]]
    if changed:
        print(
            f"{folder}: was started with other {', '.join(changed)}: the bits may "
            "differ from an uninterrupted run's",
            file=sys.stderr,
        )
