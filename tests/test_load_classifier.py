import json
import os
import shutil
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import discriminators
import load_classifier
import parts
from gankit.folders import locked
from gankit.models import files
from gankit.models.files import SHIPPED_RUN


@pytest.fixture(scope="module")
def c_model_path(tmp_path_factory):
    keras.utils.set_random_seed(0)
    _, c_model = discriminators.define_stacked_discriminators()
    path = tmp_path_factory.mktemp("models") / "c_model_0600.keras"
    c_model.save(path)
    return path


def fails(arguments, capsys):
    """Run the script on bad input; return its one line."""
    return parts.fails(load_classifier, capsys, *arguments)


def test_the_two_lines(tiny_run, small_data, start):
    run, _ = tiny_run
    done = start(
        "load_classifier.py", run / "c_model_0004.keras", "--data", small_data, cwd=run
    )
    assert done.returncode == 0, done.stderr
    last = parts.read_csv(run / "accuracy.csv")[-1]
    assert done.stdout == (
        f"Train Accuracy: {last['train_accuracy']}%\n"
        f"Test Accuracy: {last['test_accuracy']}%\n"
    )


def test_the_shipped_classifier(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert load_classifier.main([]) == 0
    model, train, test = capsys.readouterr().out.splitlines()
    # the tutorial's, whatever else is shipped
    assert model.startswith(f"Classifier: {SHIPPED_RUN}")
    last = parts.read_csv(SHIPPED_RUN / "accuracy.csv")[-1]
    # another machine may round a few images to the other side
    for line, part in ((train, "train"), (test, "test")):
        prefix, value = line.split(": ")
        assert prefix == f"{part.title()} Accuracy"
        expected = float(last[f"{part}_accuracy"])
        assert float(value.removesuffix("%")) == pytest.approx(expected, abs=0.05)


def test_images_are_classified_by_the_best_that_is_shipped(
    c_model_path, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    path = shutil.copy(c_model_path, shipped)
    monkeypatch.setattr(files, "SHIPPED_TUNED", shipped)
    Image.new("L", (28, 28)).save("a.png")
    assert load_classifier.main(["--predict", "a.png"]) == 0
    assert capsys.readouterr().err == f"Classifier: {path}\n"
    shutil.rmtree(shipped)
    assert load_classifier.main(["--predict", "a.png"]) == 0
    assert capsys.readouterr().err.startswith(f"Classifier: {SHIPPED_RUN}")


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


def test_a_model_that_takes_a_list_of_one_input_loads_quietly(c_model_path, tmp_path):
    c_model = load_classifier.load_classifier(c_model_path)
    path = tmp_path / "c_model.keras"
    keras.Model([c_model.input], c_model.output).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_classifier.load_classifier(path)
    X = np.random.default_rng(0).uniform(-1, 1, (5, 28, 28, 1)).astype("float32")
    np.testing.assert_array_equal(
        loaded.predict_on_batch(X), c_model.predict_on_batch(X)
    )


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


def test_a_folder_that_another_report_fills_is_left_alone(
    c_model_path, small_data, tmp_path, capsys
):
    arguments = [c_model_path, "--data", small_data, "--report", "--out", tmp_path]
    with locked(tmp_path):
        line = fails(arguments, capsys)
    assert f"{tmp_path}: another run is at work there" in line
    assert not list(tmp_path.iterdir())


def test_names_and_missing_labels_in_a_report(tmp_path, monkeypatch):
    """A name is no formula, and an image without label is no mistake."""

    class Model:
        output_shape, layers = (None, 2), [keras.layers.Softmax()]

        def predict_on_batch(self, batch):
            return np.tile([0.75, 0.25], (len(batch), 1))

    titles = []
    save = load_classifier.save_figure

    def note(fig, path):
        titles.append([axes.get_title() for axes in fig.axes if axes.get_title()])
        save(fig, path)

    monkeypatch.setattr(load_classifier, "save_figure", note)
    X, y = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, -1, 1])
    load_classifier.write_report(Model(), X, y, tmp_path, ["$5_$10", "$0-$5"])
    assert titles == [[], ["$0-$5 → $5_$10, 75.0%"] * 2]
    assert {path.name for path in tmp_path.iterdir()} == {
        "confusion.png",
        "mistakes.png",
    }


@pytest.mark.parametrize("name", ["gone.keras", "gone.h5"])
def test_missing_files(name, tmp_path, capsys):
    assert "no such file" in fails([tmp_path / name], capsys)


def test_a_run_folder_stands_for_its_newest_classifier(
    tiny_run, small_data, tmp_path, capsys
):
    run, _ = tiny_run
    path = run / "c_model_0004.keras"
    arguments = [path, "--data", small_data]
    assert load_classifier.main([*map(str, arguments)]) == 0
    by_file = capsys.readouterr().out
    arguments = [run, "--data", small_data]
    assert load_classifier.main([*map(str, arguments)]) == 0
    assert capsys.readouterr().out == f"Classifier: {path}\n{by_file}"
    (tmp_path / "folder.keras").mkdir()
    line = fails([tmp_path / "folder.keras"], capsys)
    assert "folder.keras: holds no c_model_<step>.keras or .h5" in line


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
    _, more = discriminators.define_stacked_discriminators(n_classes=8)
    assert "tells 8 classes apart, and the data have 10" in line_for(more)
    inputs = [keras.Input((28, 28, 1)), keras.Input((28, 28, 1))]
    answer = layers.Dense(10, activation="softmax")(layers.Flatten()(inputs[0]))
    assert "takes 2 inputs, not one" in line_for(keras.Model(inputs, answer))


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

    path = parts.with_config(c_model_path, tmp_path / "evil.keras", change)
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
    path = parts.with_config(
        c_model_path,
        tmp_path / "large.keras",
        lambda config: config.update(filler=" " * (2 << 20)),
    )
    assert "not a whole Keras model" in fails([path], capsys)
