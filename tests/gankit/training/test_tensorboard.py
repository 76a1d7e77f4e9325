import collections
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import sgan_mnist
import toy_runs
from gankit.data import load
from gankit.models.files import load_classifier
from gankit.pictures import count_confusions, draw_confusions
from gankit.training import tensorboard
from gankit.training.run import LabelledRun
from parts import options_of, read_csv


class Classifier:
    """Takes the images for 0 to 6 and for nothing else."""

    layers = [keras.layers.Softmax()]
    output_shape = (None, 10)

    def predict_on_batch(self, X):
        return np.eye(10, dtype=np.float32)[np.arange(len(X)) % 7]


def make_run(out, n_steps, log, **options):
    """Make steps of a run whose figures are all that it has."""

    def summarize(run, step):
        toy_runs.measure(run, step)
        run.measure(Classifier(), None)
        return None, 50 + step + 0.125, 1.0

    return toy_runs.make(
        out,
        summarize,
        kind=LabelledRun,
        max_steps=n_steps,
        tensorboard=log,
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
        rows = read_csv(run / f"{table}.csv")
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


def test_confusions_are_those_of_the_images_measured_last(tmp_path):
    run = make_run(tmp_path / "run", 4, True)
    y = toy_runs.TEST[1]
    counts = count_confusions(y, np.arange(30) % 7, 10)
    (logged,) = read_log(run)["confusions"].values()
    assert logged.encoded_image_string == png(draw_confusions(counts))


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def test_the_script_logs_the_classifier_that_it_measures(small_data, tmp_path):
    run = tmp_path / "run"
    options = options_of(small_data, run, "--max-steps", 2, "--tensorboard")
    assert sgan_mnist.main(options) == 0
    log = assert_complete(run)
    assert_pictures(run, log, [2])
    # and saves
    c_model = load_classifier(run / "c_model_0002.keras")
    X, y = load.load_arrays(small_data).test
    images = (np.float32(X) - 127.5) / 127.5
    answers = c_model.predict(images, verbose=0).argmax(axis=-1)
    assert log["evaluation/test_accuracy"][2] == np.float32(100 * np.mean(answers == y))
    picture = png(draw_confusions(count_confusions(y, answers, 10)))
    assert log["confusions"][2].encoded_image_string == picture


def test_a_run_without_a_classifier_is_logged(tmp_path):
    run = toy_runs.make(tmp_path / "run", tensorboard=True)
    log = assert_complete(run)
    assert set(log) == {
        *("step/c_loss", "step/g_loss"),
        *("evaluation/fid", "evaluation/diversity", "samples"),
    }
    assert log["evaluation/fid"] == {4: 54.125, 8: 58.125}


def test_a_figure_that_was_not_measured_is_not_logged(tmp_path):
    run = toy_runs.make(tmp_path / "run", tensorboard=True, max_steps=5)
    log = assert_complete(run)
    assert set(log["evaluation/diversity"]) == {4}


def test_a_resumed_run_goes_on_with_its_log(tmp_path):
    run = make_run(tmp_path / "run", 5, True)
    make_run(run, 8, False, resume=True)
    assert len(assert_complete(run)["step/g_loss"]) == 8
    other = make_run(tmp_path / "other", 5, False)
    make_run(other, 8, False, resume=True)
    assert not (other / "tensorboard").exists()
    assert tensorboard.has_log(run) and not tensorboard.has_log(other)
