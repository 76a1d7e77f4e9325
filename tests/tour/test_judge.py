import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import judge
import metrics
import numpy as np
import pytest

import discriminators
from data_sets import NAMES, arrays, write_folder
from gankit.backend import keras
from gankit.data import load
from gankit.data.images import scale_images
from gankit.models.files import load_classifier, save_model
from parts import fails, read_csv, refused

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = metrics.SHIPPED_JUDGE


def train(data, out, *more):
    """Run the script for three steps; return the folder."""
    options = ("--data", data, "--out", out, "--seed", 5, "--batch", 50)
    options += ("--verbose", 0, "--threads", 1, "--max-steps", 3, *more)
    assert judge.main([str(option) for option in options]) == 0
    return out


@pytest.fixture(scope="module")
def short_run(small_data, tmp_path_factory):
    return train(small_data, tmp_path_factory.mktemp("judge") / "a run")


def copy_of(run, folder):
    """The two files of a judge, in a folder of their own."""
    folder.mkdir()
    for name in ("judge.keras", "judge.json"):
        shutil.copy(run / name, folder)
    return folder


# the script


def test_the_judge_is_of_the_size_that_is_stated():
    model = judge.define_judge()
    assert model.count_params() == 225_034
    assert model.output_shape == (None, 10)
    assert model.get_layer(metrics.FEATURES).output.shape == (None, 128)
    assert judge.define_judge((12, 16, 3), 2).output_shape == (None, 2)


def test_an_epoch_goes_through_all_images_once(monkeypatch):
    levels = np.arange(0, 250, 10, dtype=np.uint8)
    X, y = levels[:, None, None, None], np.arange(25) % 10
    fitted = []

    def fit(images, labels, *, batch_size, shuffle, verbose):
        assert (batch_size, shuffle, verbose) == (10, False, 0)
        fitted.append((images, labels))

    fake = SimpleNamespace(inputs=None, outputs=None, fit=fit, compile=None)
    fake.compile = lambda *arguments, **more: None
    monkeypatch.setattr(judge, "keras", SimpleNamespace(Model=lambda *_: fake))
    judge.train(fake, [X, y], 5, 10, np.random.default_rng(1))
    # 3 steps an epoch, so the second is cut short
    assert [len(labels) for _, labels in fitted] == [25, 20]
    drawn = [np.rint(x[:, 0, 0, 0] * 12.75 + 12.75).astype(int) for x, _ in fitted]
    assert sorted(drawn[0]) == list(range(25)) and len(set(drawn[1])) == 20
    assert not np.array_equal(drawn[0][:20], drawn[1])
    for places, (_, labels) in zip(drawn, fitted, strict=True):
        np.testing.assert_array_equal(labels, y[places])


def test_a_run_fills_its_folder(short_run, small_data):
    names = {path.name for path in short_run.iterdir()}
    assert names == {
        *("accuracy.csv", "finished", "judge.json", "judge.keras", "settings.json")
    }
    settings = json.loads((short_run / "settings.json").read_text())
    assert (settings["n_steps"], settings["n_batch"], settings["seed"]) == (3, 50, 5)
    record = json.loads((short_run / "judge.json").read_text())
    assert record["data_sha256"] == settings["data_sha256"]
    (row,) = read_csv(short_run / "accuracy.csv")
    data = load.load_arrays(small_data)
    loaded = metrics.load_judge(short_run, data=data)
    for name, (x, y) in (("train", data.train), ("test", data.test)):
        accuracy = metrics.agreement(loaded.answer(x)[1], y)
        assert record[f"{name}_accuracy"] == accuracy
        assert row[f"{name}_accuracy"] == f"{accuracy:.3f}"
    assert loaded.accuracy == record["test_accuracy"]
    ladder = metrics.ladder(loaded, data.train[0], data.test[0])
    assert loaded.ladder == [(text, pytest.approx(v, abs=1e-3)) for text, v in ladder]


def test_the_file_keeps_no_optimizer(short_run):
    with zipfile.ZipFile(short_run / "judge.keras") as archive:
        config = json.loads(archive.read("config.json"))
        assert not config.get("compile_config")
        size = archive.getinfo("model.weights.h5").file_size
    assert size < 1.1 * 4 * 225_034


def test_the_same_seed_gives_the_same_judge(short_run, small_data, tmp_path, capsys):
    keras.utils.set_random_seed(99)
    run = train(small_data, tmp_path / "run", "--format", "h5", "--verbose", 2)
    progress, printed = capsys.readouterr().out.split("\n", 1)
    # a line, as a file takes it, not a bar that is drawn over and over
    assert progress.startswith("3/3 - ") and progress.isprintable()
    one, two = (metrics.load_judge(folder) for folder in (short_run, run))
    assert (run / "judge.h5").is_file() and one.ladder == two.ladder
    (row,) = read_csv(run / "accuracy.csv")
    assert printed == (
        f"Train Accuracy: {row['train_accuracy']}%\n"
        f"Test Accuracy: {row['test_accuracy']}%\n"
        f"{metrics.describe_ladder(two.ladder)}\n"
        f"The run is in {run}\n"
    )
    X = load.load_arrays(small_data).test[0]
    for a, b in zip(one.answer(X), two.answer(X), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """A folder of images of three classes, some of them without label."""
    folder = tmp_path_factory.mktemp("own") / "my photos"
    return write_folder(folder, (20, 24, 3), n=6)


@pytest.fixture(scope="module")
def own_run(own_data, tmp_path_factory):
    before = keras.config.dtype_policy()
    options = ("--precision", "mixed_bfloat16")
    yield train(own_data, tmp_path_factory.mktemp("own") / "run", *options)
    keras.config.set_dtype_policy(before)


def test_images_of_ones_own(own_data, own_run):
    """Colour, other sides, names of classes, some images without label."""
    data = load.load_arrays(own_data)
    run = own_run
    loaded = metrics.load_judge(run, data=data)
    assert loaded.class_names == NAMES and loaded.image_shape == (20, 24, 3)
    features, probabilities = loaded.answer(data.train[0])
    assert features.shape == (24, 128) and probabilities.shape == (24, 3)
    # the same of images that are not rounded
    unrounded = loaded.features(scale_images(data.train[0]))
    np.testing.assert_allclose(unrounded, features, rtol=1e-4, atol=1e-5)
    for answers in (features, probabilities):
        assert answers.dtype == np.float32 and np.isfinite(answers).all()
    # the labelled ones alone are learnt from
    y = data.train[1]
    assert np.count_nonzero(y < 0) == 6
    (row,) = read_csv(run / "accuracy.csv")
    accuracy = metrics.agreement(probabilities[y >= 0], y[y >= 0])
    assert row["train_accuracy"] == f"{accuracy:.3f}"


def test_data_without_test_images(tmp_path):
    path = tmp_path / "data.npz"
    x = np.random.default_rng(0).integers(0, 256, (20, 12, 12), np.uint8)
    np.savez(path, x_train=x, y_train=np.arange(20) % 2)
    run = train(path, tmp_path / "run")
    record = json.loads((run / "judge.json").read_text())
    assert record["test_accuracy"] is None
    loaded = metrics.load_judge(run, data=load.load_arrays(path))
    assert loaded.accuracy == record["train_accuracy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"y_train": np.full(20, -1), "y_test": np.zeros(20, int)},
            "no image has a label",
        ),
        ({"y_train": np.zeros(20, int), "y_test": np.zeros(20, int)}, "of one class"),
        (
            {"y_train": np.arange(20) % 5 + np.arange(20) % 5 // 4 * 5},
            "class 4: has no image with a label",
        ),
        (
            {name: np.zeros((20, 8, 12), np.uint8) for name in ("x_train", "x_test")},
            "images of 8x12: a judge takes 12x12 and more; give --image-size",
        ),
    ],
)
def test_data_that_make_no_judge(changes, message, tmp_path, capsys):
    path, out = tmp_path / "data.npz", tmp_path / "run"
    np.savez(path, **arrays(**changes))
    assert message in fails(judge, capsys, "--data", path, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize("option", ["--epochs", "--batch", "--max-steps"])
def test_options_out_of_range(option, tmp_path, capsys):
    out = tmp_path / "run"
    assert fails(judge, capsys, option, 0, "--out", out) == (
        f"judge.py: {option} 0: must be 1 or more\n"
    )
    assert not out.exists()


def test_it_runs_from_any_folder_and_its_help_is_quick(tmp_path):
    """Neither TensorFlow nor SciPy are waited for."""
    for name in ("tensorflow", "keras", "scipy", "skimage", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise ImportError", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, ROOT / "tour" / "judge.py", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: judge.py ") and "--epochs N" in done.stdout


# the judge that is shipped


def test_the_shipped_judge_is_right(mnist):
    _, (x_test, y_test) = mnist
    loaded = metrics.load_judge()
    _, probabilities = loaded.answer(x_test[::5])
    assert metrics.agreement(probabilities, y_test[::5]) >= 99.1
    assert loaded.accuracy >= 99.1 and SHIPPED.stat().st_size < 1_200_000
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_shipped_judges_ladder_rises(mnist):
    """As far as 2,000 images tell, it is the one of this judge."""
    mnist_x = [x for x, _ in mnist]
    loaded = metrics.load_judge()
    steps = dict(loaded.ladder)
    assert len(steps) == 10
    order = ["training images", "shifted by 1 pixel", "shifted by 2 pixels"]
    order += ["5 of 10 classes", "the mean image"]
    values = [steps[name] for name in order]
    assert values == sorted(values) and values[0] < 1
    rng = np.random.default_rng(0)
    x, x_test = (images[rng.permutation(len(images))[:2000]] for images in mnist_x)
    real = metrics.describe_real(loaded, x_test)
    near, far = (
        metrics.measure_samples(loaded, images, real)["judge_fid"]
        for images in (x, np.roll(x, 2, axis=2))
    )
    assert 0 < near < 6 < far
    assert far == pytest.approx(steps["shifted by 2 pixels"], rel=0.25)


def test_the_shipped_judge_is_a_classifier_like_others():
    c_model = load_classifier(SHIPPED)
    assert c_model.count_params() == 225_034


def test_its_answers_do_not_depend_on_the_precision(precision, mnist):
    _, (x_test, _) = mnist
    expected = metrics.load_judge().answer(x_test[:9])
    precision("mixed_bfloat16")
    for a, b in zip(expected, metrics.load_judge().answer(x_test[:9]), strict=True):
        np.testing.assert_array_equal(a, b)


# what is refused


def test_a_file_that_is_missing_or_no_judge(tmp_path, monkeypatch):
    remedy = "make one with python tour/judge.py --data PATH"
    for path in (tmp_path / "none.keras", tmp_path):
        line = refused(metrics.load_judge, path)
        assert "no such file" in line and line.endswith(remedy)
    text = tmp_path / "judge.keras"
    text.write_text("no model")
    line = refused(metrics.load_judge, text)
    assert line == f"{text}: not a whole Keras model; {remedy}"
    _, c_model = discriminators.define_stacked_discriminators()
    path = tmp_path / "c_model.keras"
    save_model(c_model, path)
    line = refused(metrics.load_judge, path)
    assert "a classifier, but no judge" in line and line.endswith(remedy)
    # features of another number, and names for other classes
    model = judge.define_judge()
    monkeypatch.setattr(metrics, "N_FEATURES", 64)
    save_model(judge.define_judge(), path)
    monkeypatch.undo()
    assert "no layer 'features' of 128 outputs" in refused(metrics.load_judge, path)
    save_model(model, path, NAMES)
    line = refused(metrics.load_judge, path)
    assert "has 3 class names and 10 classes" in line and line.endswith(remedy)


def test_a_judge_that_is_damaged(short_run, tmp_path):
    run = copy_of(short_run, tmp_path / "run")
    content = (run / "judge.keras").read_bytes()
    (run / "judge.keras").write_bytes(content[: len(content) // 2])
    assert "not a whole Keras model" in refused(metrics.load_judge, run)


def test_a_judge_with_code_in_it(short_run, tmp_path):
    path = tmp_path / "judge.keras"
    with (
        zipfile.ZipFile(short_run / "judge.keras") as old,
        zipfile.ZipFile(path, "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = content.replace(b'"Flatten"', b'"Lambda"')
            new.writestr(name, content)
    line = refused(metrics.load_judge, path)
    assert "holds 'Lambda'" in line and line.endswith(metrics.REMEDY)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: [],
        lambda record: {**record, "ladder": [["a", "b"]]},
        lambda record: {**record, "ladder": [[1, 2.0]]},
        lambda record: {**record, "ladder": None},
        lambda record: {**record, "ladder": [["a", float("nan")]]},
        lambda record: {**record, "ladder": [["a", 10**400]]},
        lambda record: {**record, "test_accuracy": "99"},
        lambda record: {**record, "test_accuracy": float("nan")},
        lambda record: {**record, "train_accuracy": 10**400},
        lambda record: {"ladder": []},
    ],
)
def test_a_record_that_is_none(change, short_run, tmp_path):
    run = copy_of(short_run, tmp_path / "run")
    path = run / "judge.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    line = refused(metrics.load_judge, run)
    assert line.startswith(f"{path}: not the record of a judge; remove it, or make one")


def test_the_record_of_another_judge(short_run, tmp_path):
    run = copy_of(short_run, tmp_path / "run")
    shutil.copy(SHIPPED, run / "judge.keras")
    assert "is of another judge" in refused(metrics.load_judge, run)
    (run / "judge.json").unlink()
    loaded = metrics.load_judge(run)
    assert loaded.ladder is None and loaded.accuracy is None


def test_a_judge_that_is_always_wrong_fits_its_own_data(small_data):
    """It is held to its own accuracy on the test images, be that 0."""
    data = load.load_arrays(small_data)
    wrong = data._replace(test=[data.test[0], (data.test[1] + 1) % 10])
    loaded = metrics.load_judge(data=data)
    for accuracy, fits in ((99.0, False), (None, False), (0.0, True)):
        loaded.accuracy = accuracy
        if fits:
            metrics.check_fit("judge.keras", loaded, wrong)
        else:
            assert "is right in 0.0%" in refused(
                metrics.check_fit, "judge.keras", loaded, wrong
            )


def test_a_judge_of_other_images(tmp_path, small_data):
    """Of another shape, more classes, or of the same that it doesn't know."""

    def load_for(**changes):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays(**changes))
        data = load.load_arrays(path)
        return refused(lambda: metrics.load_judge(data=data))

    small = np.zeros((20, 32, 32, 3), np.uint8)
    line = load_for(x_train=small, x_test=small)
    assert "judges images of 28x28x1, and the data's are 32x32x3" in line
    line = load_for(y_train=np.arange(20) % 11)
    assert "tells 10 classes apart, and the data have 11" in line
    line = load_for()
    assert "is right in 10.0% of the data's labelled images" in line
    assert line.endswith(metrics.REMEDY)
    # digits that are fewer, or of which none has a label
    metrics.load_judge(data=load.load_arrays(small_data))
    with np.load(small_data) as file:
        unlabelled = {"x_train": file["x_train"], "y_train": np.full(200, -1)}
    np.savez(tmp_path / "unlabelled.npz", **unlabelled)
    metrics.load_judge(data=load.load_arrays(tmp_path / "unlabelled.npz"))


def test_a_judge_of_other_classes(own_data, own_run):
    data = load.load_arrays(own_data)._replace(class_names=["a cat", "b dog", "eagle"])
    line = refused(lambda: metrics.load_judge(own_run, data=data))
    assert "tells a cat, b dog, owl apart" in line and "eagle" in line
