import csv

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import discriminators
import load_generator
import parts
import sgan_mnist
import sgan_tuned
from gankit.folders import locked
from gankit.models import files
from gankit.models.classify import class_probabilities
from helpers import generate_latent_points

LATENT_DIM = 5


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run's folder with a generator and its classifier."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("cwd") / "runs" / "a run"
    folder.mkdir(parents=True)
    (folder / "settings.json").touch()
    sgan_mnist.define_generator(LATENT_DIM).save(folder / "g_model_0600.keras")
    _, c_model = discriminators.define_stacked_discriminators()
    c_model.save(folder / "c_model_0600.keras")
    return folder


def start(*arguments):
    return load_generator.main([str(argument) for argument in arguments])


def fails(capsys, *arguments):
    """Run the script on bad input; return its one line."""
    return parts.fails(load_generator, capsys, *arguments)


@pytest.mark.parametrize("script", [sgan_mnist, sgan_tuned])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_every_generator_and_format_loads(script, suffix, policy, precision, tmp_path):
    precision(policy)
    g_model = script.define_generator(LATENT_DIM, image_shape=(8, 12, 3))
    precision("float32")
    path = tmp_path / f"g_model.{suffix}"
    g_model.save(path)
    loaded = load_generator.load_generator(path)
    z = generate_latent_points(LATENT_DIM, 3, np.random.default_rng(0))
    images = load_generator.generate(loaded, z)
    assert images.shape == (3, 8, 12, 3) and images.dtype == np.float32
    np.testing.assert_array_equal(images, np.float32(g_model.predict_on_batch(z)))


def test_sheet_walk_and_what_the_classifier_says(run_folder, monkeypatch, capsys):
    monkeypatch.chdir(run_folder.parents[1])
    arguments = ("--n", 7, "--walk", 3, "--frames", 4, "--seed", 2)
    assert start(*arguments, "--out", "samples") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Generator: runs/a run/g_model_0600.keras"
    assert lines[1] == "Classifier: runs/a run/c_model_0600.keras"
    with open("samples/samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["sample"], r["row"], r["column"]) for r in rows] == [
        (str(i), str(i // 3), str(i % 3)) for i in range(7)
    ]

    # each cell of the sheet is the sample of its row in the file
    with Image.open("samples/samples.png") as sheet:
        cells = np.asarray(sheet.resize((84, 84), Image.Resampling.BOX))
    X = np.stack(
        [
            cells[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
            for row, column in ((int(r["row"]), int(r["column"])) for r in rows)
        ]
    )
    X = (255 - X)[..., np.newaxis]
    c_model = files.load_classifier(run_folder / "c_model_0600.keras")
    # the sheet's pixels are rounded
    expected = class_probabilities(c_model, X).max(axis=1)
    found = [float(r["probability"]) for r in rows]
    np.testing.assert_allclose(found, expected, atol=2e-3)

    counts = [line.split() for line in lines[3:14]]
    assert [count[0] for count in counts] == [*map(str, range(10)), "all"]
    for label, count, mean in counts[:10]:
        of_class = [float(r["probability"]) for r in rows if r["class"] == label]
        assert int(count) == len(of_class)
        if of_class:
            assert float(mean) == pytest.approx(np.mean(of_class), abs=6e-4)

    with Image.open("samples/walk.gif") as walk:
        assert (walk.n_frames, walk.size, walk.info["loop"]) == (4, (168, 168), 0)

    # all follows from the seed, and the walk does not depend on the number of samples
    assert start(*arguments[2:], "--n", 2, "--out", "again") == 0
    again = run_folder.parents[1] / "again"
    walks = [path / "walk.gif" for path in (again, again.with_name("samples"))]
    assert walks[0].read_bytes() == walks[1].read_bytes()
    with open(again / "samples.csv", newline="") as file:
        assert [r["probability"] for r in csv.DictReader(file)] == [
            r["probability"] for r in rows[:2]
        ]


def test_a_folder_that_another_process_fills_is_left_alone(
    run_folder, tmp_path, capsys
):
    path = run_folder / "g_model_0600.keras"
    with locked(tmp_path):
        line = fails(capsys, path, "--n", 1, "--seed", 3, "--out", tmp_path)
    assert f"{tmp_path}: another run is at work there" in line
    assert not list(tmp_path.iterdir())


def test_without_a_classifier(run_folder, tmp_path, capsys):
    alone = tmp_path / "g_model_0600.keras"
    alone.write_bytes((run_folder / "g_model_0600.keras").read_bytes())
    out = tmp_path / "out"
    assert start(alone, "--n", 1, "--frames", 1, "--out", out) == 0
    assert capsys.readouterr().out.startswith("seed=")
    assert {path.name for path in out.iterdir()} == {"samples.png", "walk.gif"}
    given = ("--classifier", run_folder / "c_model_0600.keras")
    out = tmp_path / "given"
    assert start(alone, "--n", 1, "--frames", 1, "--out", out, *given) == 0
    assert (out / "samples.csv").exists()


def test_a_run_folder_stands_for_its_newest_models(run_folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ("--n", 1, "--frames", 1, "--seed", 1, "--out")
    assert start(run_folder, "--classifier", run_folder, *arguments, out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Generator: {run_folder / 'g_model_0600.keras'}"
    assert lines[1] == f"Classifier: {run_folder / 'c_model_0600.keras'}"
    assert "holds no g_model" in fails(capsys, out)
    assert "holds no c_model" in fails(
        capsys, run_folder, "--classifier", out, *arguments, tmp_path / "again"
    )
    assert not (tmp_path / "again").exists()


def test_the_frames_of_a_walk_are_enlarged_as_far_as_they_are_small(tmp_path):
    sizes = {}
    for size in (28, 100, 512):
        images = np.zeros((2, size, size // 2, 1), np.float32)
        load_generator.save_walk(images, tmp_path / "walk.gif")
        with Image.open(tmp_path / "walk.gif") as walk:
            sizes[size] = walk.size
    assert sizes == {28: (84, 168), 100: (300, 600), 512: (256, 512)}


def test_no_generator(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("SHIPPED_RUN", "SHIPPED_GENERATOR"):
        monkeypatch.setattr(files, name, tmp_path)
    assert "runs: holds no generator, and none is shipped" in fails(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_wrong_model(suffix, run_folder, tmp_path, capsys):
    def line_for(model, name="model"):
        model.save(tmp_path / f"{name}.{suffix}")
        return fails(capsys, tmp_path / f"{name}.{suffix}", "--out", tmp_path / "out")

    d_model, c_model = discriminators.define_stacked_discriminators()
    assert "it is a classifier or a discriminator" in line_for(c_model)
    assert "it is a classifier or a discriminator" in line_for(d_model)
    in_lat = keras.Input((LATENT_DIM,))
    flat = layers.Dense(28)(in_lat)
    assert "is no batch of images" in line_for(keras.Model(in_lat, flat))
    two = keras.Model([in_lat, keras.Input((3,))], flat)
    assert "takes 2 inputs, not one" in line_for(two)
    code = layers.Lambda(lambda x: x)(layers.Reshape((4, 7, 1))(flat))
    line = line_for(keras.Model(in_lat, code))
    assert "holds 'Lambda'" in line and "no part of a generator" in line

    small = sgan_mnist.define_generator(LATENT_DIM, image_shape=(8, 8, 1))
    path = tmp_path / f"small.{suffix}"
    small.save(path)
    line = fails(capsys, path, "--classifier", run_folder / "c_model_0600.keras")
    assert "the generator makes (8, 8, 1)" in line
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(path) in fails(capsys, path)
    assert not (tmp_path / "out").exists()


def test_classes_of_a_file_are_not_trusted(run_folder, tmp_path, capsys):
    def change(config):
        config["config"]["layers"][1]["module"] = "evil_module"

    path = parts.with_config(
        run_folder / "g_model_0600.keras", tmp_path / "g_model.keras", change
    )
    assert "of module 'evil_module', which is no part" in fails(capsys, path)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--n", 0), "--n 0: must be from 1 to 10000"),
        (("--walk", 1), "--walk 1: must be from 2 to 10000"),
        (("--frames", 20_000), "--frames 20000: must be from 1 to 10000"),
        (("--seed", -1), "--seed -1: must be from 0"),
        (("--classifier", "gone.keras"), "gone.keras: no such file"),
        (("--out", "."), "holds files already"),
    ],
)
def test_other_bad_input(arguments, text, run_folder, monkeypatch, capsys):
    monkeypatch.chdir(run_folder)
    assert text in fails(capsys, "g_model_0600.keras", *arguments)
    assert {path.name for path in run_folder.iterdir()} == {
        "settings.json",
        "g_model_0600.keras",
        "c_model_0600.keras",
    }
