import csv
import json
import os
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import discriminators
import load_classifier


@pytest.fixture(scope="module")
def c_model_path(tmp_path_factory):
    keras.utils.set_random_seed(0)
    _, c_model = discriminators.define_stacked_discriminators()
    path = tmp_path_factory.mktemp("models") / "c_model_0600.keras"
    c_model.save(path)
    return path


def with_config(source, target, change):
    """Copy a .keras file with its configuration changed by change(config)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config)
            new.writestr(name, content)
    return target


def fails(arguments, capsys):
    """Run the script on bad input; return its one line."""
    assert load_classifier.main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("load_classifier.py: ")
    return printed.err


def test_the_two_lines(tiny_run, small_data, start):
    run, _ = tiny_run
    done = start(
        "load_classifier.py", run / "c_model_0004.keras", "--data", small_data, cwd=run
    )
    assert done.returncode == 0, done.stderr
    with open(run / "accuracy.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert done.stdout == (
        f"Train Accuracy: {last['train_accuracy']}%\n"
        f"Test Accuracy: {last['test_accuracy']}%\n"
    )


def test_the_shipped_classifier(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert load_classifier.main([]) == 0
    model, train, test = capsys.readouterr().out.splitlines()
    shipped = load_classifier.SHIPPED_RUN
    assert model.startswith(f"Classifier: {shipped}")
    with open(shipped / "accuracy.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    # another machine may round a few images to the other side
    for line, part in ((train, "train"), (test, "test")):
        prefix, value = line.split(": ")
        assert prefix == f"{part.title()} Accuracy"
        expected = float(last[f"{part}_accuracy"])
        assert float(value.removesuffix("%")) == pytest.approx(expected, abs=0.05)


def test_the_newest_run_is_found(tmp_path, monkeypatch, c_model_path):
    monkeypatch.chdir(tmp_path)
    for age, (run, steps) in enumerate(
        [("b-empty", []), ("c", [600, 10200, 9600]), ("d-older", [12000])]
    ):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True)
        (folder / "settings.json").touch()
        os.utime(folder / "settings.json", (10**9 - age, 10**9 - age))
        for step in steps:
            shutil.copy(c_model_path, folder / f"c_model_{step:04d}.keras")
        (folder / ".c_model_99999.partial.keras").touch()
        (folder / "c_model_best.keras").touch()
    assert str(load_classifier.newest_classifier()) == "runs/c/c_model_10200.keras"


@pytest.mark.parametrize("design", ["stacked", "shared", "multi-output"])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_every_design_and_format_loads(design, suffix, tmp_path):
    import sgan_mnist

    _, c_model = sgan_mnist.define_discriminator(design=design)
    path = tmp_path / f"c_model.{suffix}"
    c_model.save(path)
    X = np.random.default_rng(0).uniform(-1, 1, (5, 28, 28, 1)).astype("float32")
    loaded = load_classifier.load_classifier(path)
    np.testing.assert_array_equal(
        loaded.predict_on_batch(X), c_model.predict_on_batch(X)
    )


def test_the_class_unknown_is_never_the_answer():
    from helpers import class_probabilities

    class Model:
        def predict_on_batch(self, batch):
            return np.eye(11)[[10, 3]] * 0.9 + 0.01 * np.arange(11)

    X = np.zeros((2, 28, 28, 1), np.float32)
    assert class_probabilities(Model(), X).argmax(axis=-1).tolist() == [9, 3]


def test_report(c_model_path, small_data, tmp_path, capsys):
    out = tmp_path / "report"
    arguments = [c_model_path, "--data", small_data, "--report", "--out", out]
    assert load_classifier.main([str(argument) for argument in arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[3:13]]
    assert [row[:2] for row in rows] == [[str(i), "10"] for i in range(10)]
    right = sum(int(row[2]) for row in rows)
    assert lines[1] == f"Test Accuracy: {right:.3f}%"
    assert {path.name for path in out.iterdir()} == {"confusion.png", "mistakes.png"}


@pytest.mark.parametrize("name", ["gone.keras", "gone.h5", "folder.keras"])
def test_missing_files(name, tmp_path, capsys):
    (tmp_path / "folder.keras").mkdir()
    assert "no such file" in fails([tmp_path / name], capsys)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated_files(suffix, share, tmp_path, capsys):
    _, c_model = discriminators.define_stacked_discriminators()
    path = tmp_path / f"c_model.{suffix}"
    c_model.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    line = fails([path], capsys)
    assert str(path) in line


def test_foreign_files(tmp_path, c_model_path, capsys):
    text = tmp_path / "text.keras"
    text.write_text("not a model")
    assert "not a whole Keras model" in fails([text], capsys)
    text = text.rename(tmp_path / "text.h5")
    assert "not a whole Keras model" in fails([text], capsys)
    text = text.rename(tmp_path / "text.txt")
    assert "not a .keras or .h5 file" in fails([text], capsys)
    np.savez(tmp_path / "archive.npz", x=np.zeros(3))
    archive = (tmp_path / "archive.npz").rename(tmp_path / "archive.keras")
    assert "holds 'x.npy', which is no part of a model" in fails([archive], capsys)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.zeros(3)
    assert "not a whole Keras model" in fails([tmp_path / "data.h5"], capsys)
    for config in ([], {"config": 3}, {"config": {"layers": []}}, "text"):
        path = tmp_path / "odd.keras"
        with zipfile.ZipFile(path, "w") as odd:
            odd.writestr("config.json", json.dumps(config))
        assert "not a whole Keras model" in fails([path], capsys)


def test_the_wrong_model(tmp_path, capsys):
    import sgan_mnist

    def line_for(model, suffix="keras"):
        path = tmp_path / f"model.{suffix}"
        model.save(path)
        return fails([path], capsys)

    g_model = sgan_mnist.define_generator(100)
    assert "it is a generator" in line_for(g_model)
    assert "it is a generator" in line_for(g_model, "h5")
    d_model, _ = discriminators.define_stacked_discriminators()
    assert "'CustomActivation'" in line_for(d_model)
    standard = discriminators.define_standard_discriminator()
    assert "output has shape (None, 1)" in line_for(standard)
    multi_output = discriminators.define_multi_output_discriminator()
    assert "has two outputs" in line_for(multi_output)
    _, larger = discriminators.define_stacked_discriminators(in_shape=(32, 32, 3))
    assert "takes images of 32x32x3, and the data's are 28x28x1" in line_for(larger)
    _, flat = discriminators.define_stacked_discriminators(in_shape=(28, 28, 2))
    assert "inputs of shape (28, 28, 2), not images of 1 or 3" in line_for(flat)
    _, more = discriminators.define_stacked_discriminators(n_classes=12)
    assert "tells 12 classes apart, and the data have 10" in line_for(more)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_code_in_a_model_file_is_never_run(suffix, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "trace"
    in_image = keras.Input((28, 28, 1))
    x = layers.Flatten()(in_image)
    x = layers.Lambda(lambda x: (os.mkdir("trace"), x)[1], output_shape=(784,))(x)
    model = keras.Model(in_image, layers.Dense(10, activation="softmax")(x))
    path = tmp_path / f"lambda.{suffix}"
    model.save(path)
    model(np.zeros((1, 28, 28, 1)))
    trace.rmdir()
    assert "holds 'Lambda'" in fails([path], capsys)
    assert not trace.exists()


def dense(config):
    return next(
        layer for layer in config["config"]["layers"] if layer["class_name"] == "Dense"
    )


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("custom class", "class_name", "Evil"),
        ("no class", "class_name", None),
        ("foreign module", "module", "evil_module"),
        ("registered class", "registered_name", "evil>Dense"),
        (
            "nested",
            "activation",
            {"module": "builtins", "class_name": "function", "config": "eval"},
        ),
        ("code", "kernel_constraint", {"class_name": "__lambda__", "config": {}}),
    ],
)
def test_classes_and_modules_of_a_file_are_not_trusted(
    name, key, value, c_model_path, tmp_path, monkeypatch, capsys
):
    trace = tmp_path / "trace"
    (tmp_path / "evil_module.py").write_text(f"open({str(trace)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)

    def change(config):
        layer = dense(config)
        (layer["config"] if key in layer["config"] else layer)[key] = value

    path = with_config(c_model_path, tmp_path / "evil.keras", change)
    assert "which is no part of a classifier" in fails([path], capsys)
    assert not trace.exists()


def test_other_bad_input(c_model_path, small_data, tmp_path, capsys):
    arguments = [c_model_path, "--data", tmp_path / "gone.npz"]
    assert "gone.npz: no such file" in fails(arguments, capsys)
    (tmp_path / "file").touch()
    assert "give both" in fails([c_model_path, "--out", tmp_path / "x"], capsys)
    arguments = [c_model_path, "--data", small_data, "--report", "--out", tmp_path]
    assert "holds files already" in fails(arguments, capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_configuration_far_too_large_is_not_read(c_model_path, tmp_path, capsys):
    path = with_config(
        c_model_path,
        tmp_path / "large.keras",
        lambda config: config.update(filler=" " * (2 << 20)),
    )
    assert "not a whole Keras model" in fails([path], capsys)
