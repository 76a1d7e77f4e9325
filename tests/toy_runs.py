"""Runs of a few sums, which take no time: what a run does beside its mathematics."""

import numpy as np

from gankit.backend import tf
from gankit.data.arrays import Data
from gankit.training.run import LabelledRun, Run
from gankit.training.settings import RunSettings

COLUMNS = ("c_loss", "g_loss")
EPOCH_STEPS = 4
TEST = [np.zeros((30, 28, 28, 1), np.uint8), np.arange(30) % 10]
DATASET = [np.zeros((40, 28, 28, 1), np.uint8), np.arange(40) % 10]


class FewFigures(Run):
    """A run of a GAN, which has no classifier."""

    evaluations = ("fid", "diversity")


def toy_settings(out, resume=False, **options):
    options = {"verbose": "0", **options}
    if resume:
        return RunSettings.resumed(out, **options)
    return RunSettings(out=str(out), seed=3, threads=1, **options)


def make(
    out,
    summarize=None,
    *,
    kind=FewFigures,
    n_steps=8,
    figure=None,
    describe=str,
    evaluate_every=None,
    each_epoch=True,
    **options,
):
    """Make a run of n_steps, or go on with it; return its folder.

    summarize: run, step -> figures. figure: step, total -> the second figure of a
    step. options: of toy_settings.
    """
    test = TEST if issubclass(kind, LabelledRun) else None
    data = Data(DATASET, test, 10, None)
    run = kind("toy", toy_settings(out, **options), data=data)
    run.labelled = [1, 2]
    # what a step depends on: the sum of all that was drawn
    total = tf.Variable(0.0)

    def train_step(step, z):
        total.assign_add(tf.reduce_sum(z))
        second = total + 0.0 if figure is None else figure(step, total)
        return 1 / (tf.cast(step, tf.float32) + 1), second

    steps = run.compile(
        lambda draws: (draws.points(3, 2),),
        train_step,
        [[total]],
        columns=COLUMNS,
        draws=1,
    )
    return run.make(
        steps,
        DATASET,
        lambda step: (summarize or measure)(run, step),
        describe=describe,
        n_steps=run.plan(n_steps),
        epoch_steps=EPOCH_STEPS,
        n_batch=2,
        evaluate_every=evaluate_every,
        each_epoch=each_epoch,
    )


def measure(run, step):
    """Save a sheet; return what a run with two evaluations measures."""
    run.save(step, np.full((4, 28, 28, 1), step / 10, np.float32))
    return 50 + step + 0.125, None if step % EPOCH_STEPS else 1.0
