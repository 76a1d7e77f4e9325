"""The scripts on data of one's own, from files to predictions."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import compare_labels
import discriminators
import load_classifier
import sgan_mnist
import sgan_tuned
import standalone_classifier
from data_sets import NAMES, save_image, write_folder
from gankit.models import files


@pytest.fixture(scope="module")
def colour_folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "own images", (20, 24, 3))


def train(script, data, out, *options):
    """Train two steps on a data set; return the folder."""
    more = ["--threads", 1, "--verbose", 0, "--seed", 1, *options]
    options = ["--data", data, "--out", out, "--max-steps", 2, *more]
    assert script.main([str(option) for option in options]) == 0
    return out


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (sgan_mnist, ("--discriminator", "multi-output", "--format", "h5")),
        (sgan_tuned, ()),
        (standalone_classifier, ()),
    ],
)
def test_colour_images_of_ones_own_train(
    script, options, colour_folder, tmp_path, capsys
):
    if script is not standalone_classifier:
        options = (*options, "--batch", 12)
    out = train(script, colour_folder, tmp_path / "run", *options)
    printed = capsys.readouterr()
    assert printed.out.startswith("(18, 20, 24, 3) (18,)\n")
    counts = "All 12 labels are used, there are no more; a cat: 4, b dog: 4, owl: 4\n"
    assert printed.err.startswith(counts)
    settings = json.loads((out / "settings.json").read_text())
    assert settings["class_names"] == NAMES and settings["image_shape"] == [20, 24, 3]
    assert settings["labelled_images"] == list(range(12))
    (model,) = out.glob("c_model_0002.*")
    assert files.read_class_names(model) == NAMES
    assert load_classifier.main([str(model), "--data", str(colour_folder)]) == 0
    train_line, test_line = capsys.readouterr().out.splitlines()
    with open(out / "accuracy.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    accuracy = f"Train Accuracy: {last['train_accuracy']}%"
    assert train_line == f"{accuracy} (of the 12 images with a label)"
    assert test_line == f"Test Accuracy: {last['test_accuracy']}%"
    if script is not standalone_classifier:
        sheet = np.asarray(Image.open(out / "generated_plot_0002.png"))
        assert sheet.shape == (400, 480, 3)


def test_the_report_names_the_classes(colour_folder, tmp_path, capsys):
    _, c_model = discriminators.define_stacked_discriminators((20, 24, 3), 3)
    path = tmp_path / "c_model.keras"
    files.save_model(c_model, path, NAMES)
    options = [path, "--data", colour_folder, "--report", "--out", tmp_path / "report"]
    assert load_classifier.main([str(option) for option in options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in lines[3:6]] == ["a cat", "b dog", "  owl"]
    assert (tmp_path / "report" / "mistakes.png").exists()


def test_a_classifier_without_test_images_and_names(tmp_path, capsys):
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    path = tmp_path / "data.npz"
    np.savez(path, x_train=x, y_train=np.arange(40) % 11 - 1)
    out = train(standalone_classifier, path, tmp_path / "run", "--labels", 10)
    printed = capsys.readouterr().out
    assert "% (of the 36 images with a label)\n" in printed and "Test" not in printed
    assert "class_names" not in json.loads((out / "settings.json").read_text())
    model = out / "c_model_0002.keras"
    assert files.read_class_names(model) is None
    arguments = [str(model), "--data", str(path)]
    assert load_classifier.main(arguments) == 0
    assert "Test" not in capsys.readouterr().out
    assert load_classifier.main([*arguments, "--report"]) == 2
    assert "has no test images, which --report" in capsys.readouterr().err
    # of the classes that no label names the data know nothing
    np.savez(path, x_train=x, y_train=np.arange(40) % 4)
    assert load_classifier.main(arguments) == 0
    np.savez(path, x_train=x, y_train=np.full(40, -1))
    assert load_classifier.main(arguments) == 2
    assert "has no labels to measure accuracy by" in capsys.readouterr().err
    np.savez(path, x_train=x, y_train=np.arange(40) % 4)
    assert compare_labels.main(["--data", str(path), "--out", str(tmp_path / "c")]) == 2
    assert "has no test images, whose error is compared" in capsys.readouterr().err


def test_a_run_on_a_folder_is_resumed(tmp_path, capsys):
    root = write_folder(tmp_path / "data", (9, 9), tests=0)
    save_image(root / "owl" / "x.png", np.zeros((30, 12), np.uint8))
    options = ["--batch", 12, "--image-size", 8, "--labels", 3, "--latent-dim", 5]
    out = train(sgan_mnist, root, tmp_path / "run", *options, "--epochs", 9)
    resume = ["--resume", str(out), "--max-steps", "3", "--verbose", "0"]
    capsys.readouterr()
    assert sgan_mnist.main([*resume, "--image-size", "12"]) == 2
    assert "was started with image_size 8, not 12" in capsys.readouterr().err
    (root / "owl").rename(root / "owls")
    assert sgan_mnist.main(resume) == 2
    assert "was started with another class_names" in capsys.readouterr().err
    (root / "owls").rename(root / "owl")
    assert sgan_mnist.main(resume) == 0
    assert len((out / "history.csv").read_text().splitlines()) == 4
    settings = json.loads((out / "settings.json").read_text())
    assert settings["options"]["image_size"] == 8 and settings["n_steps"] == 9
    assert settings["image_shape"] == [8, 8, 1]
    rows = (out / "accuracy.csv").read_text().splitlines()[1:]
    assert [row.split(",")[3] for row in rows] == [""] * len(rows)
    assert (out / "curves.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image-size", "32"], "--image-size: is for images of your own"),
        (["--data", "data", "--image-size", "30"], "must be a multiple of 4"),
        (["--data", "data", "--labels", "4"], "evenly among 3 classes"),
        (["--data", "unlabelled"], "class fox: has no image with a label"),
        (["--data", "data/owl"], "in a folder by a sub-folder a class"),
        (["--data", "gone"], "gone: no such file"),
    ],
)
def test_bad_input_to_the_scripts(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data", n=12)
    write_folder(tmp_path / "unlabelled")
    (tmp_path / "unlabelled" / "fox").mkdir()
    options += ["--batch", "12"]
    for main in (sgan_mnist.main, sgan_tuned.main):
        assert main(options) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_data_that_do_not_fit_the_classifier(colour_folder, tmp_path, capsys):
    def line_for(shape, n_classes, names):
        _, c_model = discriminators.define_stacked_discriminators(shape, n_classes)
        path = tmp_path / "c_model.keras"
        files.save_model(c_model, path, names)
        assert load_classifier.main([str(path), "--data", str(colour_folder)]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        return printed.err

    assert "takes images of 20x24x1, and the data's are 20x24x3" in line_for(
        (20, 24, 1), 3, NAMES
    )
    assert "tells 4 classes apart, and the data have 3" in line_for(
        (20, 24, 3), 4, None
    )
    others = ["a cat", "b dog", "fox"]
    assert "fox apart, and the data's classes are a cat, b dog, owl" in line_for(
        (20, 24, 3), 3, others
    )
    assert "has 3 class names and 4 classes" in line_for((20, 24, 3), 4, NAMES)
