import json
from types import SimpleNamespace

import numpy as np
import pytest

import standalone_classifier
from gankit.backend import keras
from gankit.data import images, load
from gankit.models.classify import measure_accuracy
from gankit.models.files import load_classifier
from parts import read_csv


def train(data, out, *more):
    """Run the script on a data set with 20 labels; return the folder."""
    options = ("--data", data, "--out", out, "--labels", 20, "--seed", 5)
    options += ("--verbose", 0, "--threads", 1, *more)
    assert standalone_classifier.main([str(option) for option in options]) == 0
    return out


@pytest.fixture(scope="module")
def short_run(small_data, tmp_path_factory):
    return train(small_data, tmp_path_factory.mktemp("alone") / "a run", "--steps", 3)


@pytest.mark.parametrize("n_steps", [1, 500, 1001])
def test_the_steps_are_of_50_labelled_images(n_steps):
    """Drawn with replacement, each with its label, scaled to [-1, 1]."""
    levels = np.arange(0, 250, 10, dtype=np.uint8)
    X, y = levels[:, None, None, None], np.arange(25) % 10
    seen, options = [], []

    def fit(images, labels, **more):
        seen.append((images, labels))
        options.append(more)

    standalone_classifier.train(
        SimpleNamespace(fit=fit), [X, y], n_steps, np.random.default_rng(1)
    )
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*seen, strict=True))
    assert pixels.shape == (50 * n_steps, 1, 1, 1) and pixels.dtype == np.float32
    drawn = np.rint(pixels[:, 0, 0, 0] * 127.5 + 127.5).astype(int) // 10
    np.testing.assert_allclose(pixels, images.scale_images(X[drawn]))
    np.testing.assert_array_equal(labels, y[drawn])
    # as they come: what is drawn is in a random order already
    assert all(o["batch_size"] == 50 and not o["shuffle"] for o in options)
    # 50 of 25 images with replacement: some are left out, but none over time
    assert len(set(drawn[:50])) < 25
    if n_steps > 1:
        counts = np.bincount(drawn, minlength=25)
        assert counts.min() > 0.8 * counts.mean() and counts.max() < 1.2 * counts.mean()
        assert not np.array_equal(drawn[:50], drawn[50:100])


def test_it_sees_the_labelled_images_alone(short_run, small_data, tmp_path):
    labelled = json.loads((short_run / "settings.json").read_text())["labelled_images"]
    assert len(labelled) == 20
    with np.load(small_data) as file:
        arrays = dict(file)
    others = np.full_like(arrays["x_train"], 255)
    others[labelled] = arrays["x_train"][labelled]
    path = tmp_path / "others.npz"
    np.savez(path, **{**arrays, "x_train": others})
    run = train(path, tmp_path / "run", "--steps", 3)
    one, two = (
        load_classifier(folder / "c_model_0003.keras") for folder in (short_run, run)
    )
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    untrained = train(path, tmp_path / "short", "--steps", 1) / "c_model_0001.keras"
    weights = load_classifier(untrained).get_weights()
    assert not any(map(np.array_equal, one.get_weights(), weights))


def test_it_learns_the_labelled_images(small_data, tmp_path, capsys):
    run = train(small_data, tmp_path / "run", "--steps", 100, "--verbose", 2)
    (row,) = read_csv(run / "accuracy.csv")
    assert float(row["labelled_error"]) == 0 and float(row["test_accuracy"]) > 40
    printed = capsys.readouterr().out
    # a line, as a file takes it, not a bar that is drawn over and over
    assert not {"\x1b", "\b", "\r"} & set(printed)
    assert "\n100/100 - " in printed
    assert printed.endswith(
        f"Train Accuracy: {row['train_accuracy']}%\n"
        f"Test Accuracy: {row['test_accuracy']}%\n"
        f"The run is in {run}\n"
    )


def test_a_run_fills_its_folder(short_run, small_data):
    names = ["accuracy.csv", "c_model_0003.keras", "settings.json"]
    assert set(names) <= {path.name for path in short_run.iterdir()}
    (row,) = read_csv(short_run / "accuracy.csv")
    assert (row["epoch"], row["step"]) == ("", "3") and float(row["seconds"]) > 0
    data = load.load_arrays(small_data)
    c_model = load_classifier(short_run / "c_model_0003.keras")
    for name, (x, y) in (("train", data.train), ("test", data.test)):
        accuracy = measure_accuracy(c_model, images.scale_images(x), y)
        assert row[f"{name}_accuracy"] == f"{accuracy:.3f}"
    settings = json.loads((short_run / "settings.json").read_text())
    assert settings["n_steps"] == 3 and settings["seed"] == 5


def test_the_same_seed_gives_the_same_weights(short_run, small_data, tmp_path):
    """Whatever was computed before; --max-steps stops as --steps does."""
    keras.utils.set_random_seed(99)
    options = ("--steps", 7, "--max-steps", 3, "--format", "h5")
    run = train(small_data, tmp_path / "run", *options)
    one, two = (
        load_classifier(path).get_weights()
        for path in (short_run / "c_model_0003.keras", run / "c_model_0003.h5")
    )
    assert all(map(np.array_equal, one, two))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", 0], "--steps 0: must be 1 or more"),
        (["--labels", 15], "15 labels: can't be shared out evenly"),
        (["--seed", -1], "--seed -1: must be from 0 to"),
    ],
)
def test_bad_options(options, message, small_data, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ("--data", small_data, "--out", out, *options)
    assert standalone_classifier.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_a_folder_that_is_not_empty(small_data, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    arguments = ("--data", small_data, "--out", tmp_path, "--steps", 1)
    assert standalone_classifier.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert "holds files already" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
