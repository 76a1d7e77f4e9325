import collections
import csv
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import sgan_mnist
from gankit.pictures import save_sheet
from gankit.training import loop, settings
from gankit.training.tensorboard import EventLog

COLUMNS = ("step", "c_loss", "g_loss")
TEST_DATASET = [np.zeros((30, 28, 28, 1), np.uint8), np.arange(30) % 10]


class Classifier:
    def predict_on_batch(self, X):
        return np.eye(10, dtype=np.float32)[np.arange(len(X)) % 7]


def make_run(out, n_steps, log, **options):
    """Make steps of a run whose figures are all that it has."""

    def train_steps(first, n):
        steps = np.arange(int(first) + 1, int(first) + int(n) + 1)
        return tf.constant(np.float32([1 / steps, np.sqrt(steps)]).T)

    def evaluate(step, out):
        save_sheet(np.full((4, 28, 28, 1), step / 10, np.float32), out / sheet(step))
        return ["", f"{50 + step}.125", "1.000"]

    settings = {name: None for name in loop.FIXED}
    return loop.make_run(
        train_steps,
        [],
        evaluate,
        {**settings, "options": {}, "versions": {}},
        columns=COLUMNS,
        describe=str,
        n_steps=8,
        epoch_steps=4,
        out=out,
        max_steps=n_steps,
        verbose=0,
        log=EventLog(Classifier(), TEST_DATASET, 10) if log else None,
        **options,
    )


def sheet(step):
    return f"generated_plot_{step:04d}.png"


def read_log(run):
    """Return {tag: {step: value}}; no step has a tag twice."""
    log = collections.defaultdict(dict)
    for path in (run / "tensorboard").iterdir():
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                assert event.step not in log[value.tag]
                kind = value.WhichOneof("value")
                log[value.tag][event.step] = getattr(value, kind)
    return log


def assert_complete(run):
    """Compare the log's numbers with the run's tables; return the log."""
    log = read_log(run)
    for table, group in (("history", "step"), ("accuracy", "evaluation")):
        with open(run / f"{table}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        for name in rows[0]:
            if name in ("epoch", "step", "seconds"):
                continue
            expected = {int(r["step"]): np.float32(r[name]) for r in rows if r[name]}
            assert log[f"{group}/{name}"] == expected, name
    return log


def assert_pictures(run, log, steps):
    assert sorted(log["samples"]) == sorted(log["confusions"]) == steps
    for step, picture in log["samples"].items():
        assert picture.encoded_image_string == (run / sheet(step)).read_bytes()
    for picture in log["confusions"].values():
        with Image.open(io.BytesIO(picture.encoded_image_string)) as image:
            assert image.size == (picture.width, picture.height) == (600, 600)


def test_all_of_a_run_is_logged(tmp_path):
    run = make_run(tmp_path / "run", 8, True)
    log = assert_complete(run)
    assert len(log["step/g_loss"]) == 8
    assert_pictures(run, log, [4, 8])


@pytest.mark.parametrize("lost", ["nothing", "the end", "all"])
def test_a_resumed_run_has_each_step_once(lost, tmp_path):
    run = make_run(tmp_path / "run", 5, True)
    (path,) = (run / "tensorboard").iterdir()
    content = path.read_bytes()
    # a process that was killed had made another step, and was writing the next
    late = tf.compat.v1.Event(
        step=6,
        summary=tf.compat.v1.Summary(
            value=[tf.compat.v1.Summary.Value(tag="step/g_loss", simple_value=9.0)]
        ),
    )
    with tf.io.TFRecordWriter(str(tmp_path / "late")) as writer:
        writer.write(late.SerializeToString())
    record = (tmp_path / "late").read_bytes()
    if lost == "nothing":
        path.write_bytes(content + record + record[:20])
        # nor had one before it removed what had been copied
        path.with_name(f"{path.name}.2").write_bytes(content)
    elif lost == "the end":
        # the first steps, before the first picture
        path.write_bytes(content[:200])
    else:
        path.unlink()

    make_run(run, 8, True, resume=True)
    log = assert_complete(run)
    assert len(log["step/g_loss"]) == 8
    assert_pictures(run, log, [4, 5, 8] if lost == "nothing" else [8])


def test_a_log_can_begin_late(tmp_path):
    run = make_run(tmp_path / "run", 5, False)
    assert not (run / "tensorboard").exists()
    make_run(run, 8, True, resume=True)
    assert_pictures(run, assert_complete(run), [8])


def test_the_script_logs_the_classifier_that_it_measures(small_data, tmp_path):
    run = tmp_path / "run"
    arguments = ("--data", small_data, "--labels", 20, "--latent-dim", 4, "--out", run)
    arguments += ("--threads", 1, "--verbose", 0, "--max-steps", 2, "--tensorboard")
    assert sgan_mnist.main([str(argument) for argument in arguments]) == 0
    assert_pictures(run, assert_complete(run), [2])


def test_a_resumed_run_goes_on_with_its_log(tmp_path):
    def keeps_log(*arguments):
        arguments = sgan_mnist.parse_arguments(list(arguments))
        return settings.keeps_log(arguments)

    assert keeps_log("--tensorboard") and not keeps_log()
    assert not keeps_log("--resume", str(tmp_path))
    (tmp_path / "tensorboard").mkdir()
    assert keeps_log("--resume", str(tmp_path))
