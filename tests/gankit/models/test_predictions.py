import csv
import json
import os
import shutil
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

import load_classifier
import sgan_tuned
from gankit import command
from gankit.models import predictions


class Model:
    """Says class 3 of images brighter than grey on average, and class 1 of others."""

    input_shape = (None, 8, 8, 1)

    def __init__(self):
        self.batches = []

    def predict_on_batch(self, batch):
        self.batches.append(len(batch))
        answers = np.full((len(batch), 10), 0.01)
        mean = batch.mean(axis=(1, 2, 3))
        answers[:, 3] = 0.45 + 0.45 * mean
        answers[:, 1] = 0.45 - 0.45 * mean
        return answers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, border, middle in (("dark", 0, 255), ("light", 255, 0)):
        image = np.full((8, 8), border, np.uint8)
        image[2:5, 2:5] = middle
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    return tmp_path


def predict(paths=(".",), model=None, **options):
    files = predictions.list_images(paths)
    predictions.predict_images(model or Model(), files, **options)


def test_table(folder, capsys):
    predict()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["File", "Class", "Probability", "Runner-up", "Probability"],
        ["dark.png", "1", "77.34%", "3", "12.66%"],
        ["light.png", "3", "77.34%", "1", "12.66%"],
    ]
    predict(class_names=list("abcdefghi") + ["a long name"])
    assert "light.png  d" in capsys.readouterr().out


def test_json_and_csv_hold_the_same(folder, capsys):
    predict(form="json")
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predict(form="csv")
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [record["class"] for record in records] == [1, 3]
    for record, row in zip(records, rows, strict=True):
        probabilities = record.pop("probabilities")
        assert len(probabilities) == 10
        assert record["probability"] == probabilities[record["class"]]
        assert record["runner_up_probability"] == probabilities[record["runner_up"]]
        assert list(record) == list(row)
        assert [float(value) for value in list(row.values())[1:]] == pytest.approx(
            list(record.values())[1:]
        )


def test_names_of_files_and_classes_are_exact_in_json_only(folder, capsys):
    odd = os.fsdecode(b"-\xff\x1b[31m\n,\xc3\xa9.png")
    os.rename("dark.png", odd)
    names = [f"class\a{i}" for i in range(10)]
    predict([odd], class_names=names, form="json")
    record = json.loads(capsys.readouterr().out)
    assert record["file"] == odd and record["class"] == "class\a1"
    for form in (None, "csv"):
        predict([odd], class_names=names, form=form)
        printed = capsys.readouterr().out
        assert r"-\udcff\x1b[31m\n,é.png" in printed and r"class\x071" in printed
        assert len(printed.splitlines()) == 2


def test_inverting(folder, capsys):
    def classes(invert):
        predict(form="csv", invert=invert)
        printed = capsys.readouterr()
        rows = csv.DictReader(printed.out.splitlines())
        return [int(row["class"]) for row in rows], printed.err

    assert classes("no") == ([1, 3], "")
    assert classes("yes") == ([3, 1], "")
    assert classes("auto") == ([1, 1], "")
    os.remove("dark.png")
    _, hint = classes("no")
    assert "1 of 1 images look dark on light" in hint and "--invert auto" in hint


def test_images_that_cannot_be_read_are_named_and_skipped(folder, capsys):
    (folder / "b.png").write_text("text")
    with pytest.raises(command.RunError, match="1 of 3 images were skipped"):
        predict()
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    assert printed.err == (
        "skipped b.png: not a PNG or JPEG image; save it as one of these\n"
    )
    with pytest.raises(command.InputError, match="none of the 2 images"):
        predict(["b.png", "gone.png"])
    assert capsys.readouterr().out == ""
    os.mkdir("empty")
    with pytest.raises(command.InputError, match="empty: holds no image"):
        predict(["empty"])


def test_batches_are_bounded(folder, monkeypatch):
    small, large = Model(), Model()
    predict(["dark.png"] * 1001, small)
    assert small.batches == [500, 500, 1]
    large.input_shape = (None, 512, 512, 3)
    predict(["dark.png"] * 5, large)
    assert large.batches == [1] * 5


def test_probabilities_that_are_no_numbers(folder, capsys):
    class Broken(Model):
        def predict_on_batch(self, batch):
            return np.full((len(batch), 10), np.nan)

    with pytest.raises(command.InputError, match="no finite numbers"):
        predict(model=Broken())
    assert capsys.readouterr().out == ""


def test_progress_is_for_terminals(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    predict()
    shown = capsys.readouterr().err
    assert "\r1/2 [##########..........]" in shown and shown.endswith("\r\033[K")


@pytest.fixture(scope="module")
def c_model(tmp_path_factory):
    """A .keras file of a classifier of ten classes, whose answer is always 6."""
    _, model = sgan_tuned.define_discriminator()
    bias = model.get_layer("logits").weights[1]
    bias.assign(100 * keras.ops.one_hot(6, 10))
    path = tmp_path_factory.mktemp("model") / "c_model_0001.keras"
    model.save(path)
    return path


def test_the_script(folder, c_model, capsys):
    assert load_classifier.main([str(c_model), "--predict", "*.png", "--csv"]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(printed.out.splitlines()))
    assert [row["file"] for row in rows] == ["dark.png", "light.png"]
    assert [row["class"] for row in rows] == ["6", "6"] and printed.err == ""
    (folder / "b.png").touch()
    assert load_classifier.main([str(c_model), "--predict", "."]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    assert printed.err.endswith("load_classifier.py: 1 of 3 images were skipped\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predict", "gone.png"], "none of the 1 images can be read"),
        (["--predict", ".", "--report"], "--report: is no use with --predict"),
        (["--predict", ".", "--data", "x"], "--data: is no use with --predict"),
        (["--predict", ".", "--image-size", "8"], "--image-size: is no use with"),
        (["--json"], "--json: is for --predict; give both"),
        (["--invert", "auto"], "--invert: is for --predict; give both"),
    ],
)
def test_unusable_input(arguments, message, folder, c_model, capsys):
    assert load_classifier.main([str(c_model), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err.splitlines()[-1]


def test_class_names_come_from_the_model(folder, c_model, capsys):
    names = [f"kind {i}" for i in range(10)]
    path = folder / "named.keras"

    def with_names(text):
        shutil.copy(c_model, path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("class_names.json", text)

    with_names(json.dumps(names))
    assert load_classifier.main([str(path), "--predict", "dark.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class"] == "kind 6"
    for text in ("[", "{}", "[1, 2]", '"text"', json.dumps(["x" * 60_000])):
        with_names(text)
        assert load_classifier.main([str(path), "--predict", "dark.png"]) == 2
        assert "its class names can't be read" in capsys.readouterr().err
    with_names(json.dumps(names[:8]))
    assert load_classifier.main([str(path), "--predict", "dark.png"]) == 2
    assert "has 8 class names and 10 classes" in capsys.readouterr().err
    keras_model = keras.saving.load_model(c_model)
    keras_model.save(folder / "named.h5")
    with h5py.File(folder / "named.h5", "a") as file:
        file.attrs["class_names"] = json.dumps(names)
    path = str(folder / "named.h5")
    assert load_classifier.main([path, "--predict", "dark.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class"] == "kind 6"
