"""What every script of the tour does; scripts are found, not named."""

import functools
import json
import os
import shutil
import signal
import unicodedata
from pathlib import Path

import keras
import metrics
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_sets import IDX_NAMES, idx_bytes, write_folder
from gankit.models.files import save_model
from gankit.training import loop
from parts import (
    assert_nothing_is_left,
    fails,
    final_state,
    read_csv,
    refused,
)
from tour_scripts import (
    EPOCH_OF,
    FEWER_OF,
    FIGURES_OF,
    SCRIPTS,
    TINY_OF,
    load_script,
)

TINY = ("--width", 0.05, "--threads", 1, "--precision", "float32", "--verbose", 0)
pytestmark = pytest.mark.usefixtures("precision")  # sets it back


@pytest.fixture(scope="module", params=SCRIPTS)
def name(request):
    """Each script's; pytest keeps its tests together, so that they share a run."""
    return request.param


def run(name, *arguments):
    return load_script(name).main([str(argument) for argument in arguments])


def is_conditional(name):
    return "classes" in load_script(name).Settings.__dataclass_fields__


def tiny(name, batch=16, measured=60):
    """Options of a run that is quick."""
    more = ("--batch", batch, "--measured", measured, *TINY_OF.get(name, ()))
    if "latent_dim" in load_script(name).Settings.__dataclass_fields__:
        more += ("--latent-dim", 4)
    return TINY + more


def options_of(name, data, out, *more):
    judge = ("--judge", metrics.SHIPPED_JUDGE)
    return ("--data", data, *judge, "--seed", 5, "--out", out, *tiny(name), *more)


@pytest.fixture(scope="module", autouse=True)
def quick_figures():
    """One judge for all runs, traced once, and figures of fewer images."""
    load_judge, judges = metrics.load_judge, {}

    def load_once(path=None, *, data=None):
        found = metrics.find_judge(path)
        if found not in judges:
            judges[found] = load_judge(found)
        if data is not None:
            metrics.check_fit(found, judges[found], data)
        return judges[found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "load_judge", load_once)
        few = functools.partial(metrics.within_class_ssim, n_pairs=3)
        patch.setattr(metrics, "within_class_ssim", few)
        for name, constants in FEWER_OF.items():
            for constant, value in constants.items():
                patch.setattr(load_script(name), constant, value)
        yield


@pytest.fixture(scope="module")
def finished(small_data, tmp_path_factory):
    """finished(name) -> the folder of a run of three steps, made once a script."""
    made = {}

    def finish(name):
        if name not in made:
            out = tmp_path_factory.mktemp("a run") / name
            more = ("--steps", 3, "--evaluate-every", 2)
            assert run(name, *options_of(name, small_data, out, *more)) == 0
            made[name] = out
        return made[name]

    return finish


def test_the_scripts_of_the_tour_are_found():
    known = {"gan", "dcgan", "cgan", "acgan", "infogan", "wgan", "wgan_gp"}
    assert known <= set(SCRIPTS)
    assert not {"common", "metrics", "judge", "diffs"} & set(SCRIPTS)


def test_three_steps_fill_a_folder(name, finished):
    out, script = finished(name), load_script(name)
    history, measures = read_csv(out / "history.csv"), read_csv(out / "measures.csv")
    assert list(history[0]) == ["step", *script.HISTORY]
    assert [row["step"] for row in history] == ["1", "2", "3"]
    assert [row["step"] for row in measures] == ["2", "3"]
    assert all(np.isfinite(float(row[c])) for row in history for c in script.HISTORY)
    assert list(measures[0])[:5] == ["epoch", "step", "judge_fid", "modes", "entropy"]
    n_images = EPOCH_OF.get(name, 200)
    assert float(measures[0]["epoch"]) == pytest.approx(2 * 16 / n_images)
    assert 0 < float(measures[1]["judge_fid"]) < 1e4
    figures = json.loads((out / "figures.json").read_text())
    assert figures["step"] == 3 and figures["judge_fid"] > 0
    assert all(count > 0 for count in figures["parameters"].values())
    given = {figure for figure, value in figures.items() if value is not None}
    assert FIGURES_OF.get(name, set()) <= given
    for file in ("curves.png", "animation.gif", "finished", "g_model_0003.keras"):
        assert (out / file).is_file(), file
    with Image.open(out / "generated_plot_0003.png") as sheet:
        shape = json.loads((out / "settings.json").read_text())["image_shape"]
        assert all(side % shape[0] == 0 for side in sheet.size)
        if shape[0] == 28:
            assert sheet.size == (560, 560)
    assert_nothing_is_left(out)


def test_a_run_that_is_stopped_and_resumed_has_equal_bits(
    name, finished, small_data, tmp_path, monkeypatch, capsys
):
    whole, cut = finished(name), tmp_path / "cut"
    check_finite = loop.check_finite

    def stop(step, *others):
        check_finite(step, *others)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "check_finite", stop)
        more = ("--steps", 3, "--evaluate-every", 2)
        assert run(name, *options_of(name, small_data, cut, *more)) == 143
    assert "saved after step 1" in capsys.readouterr().err
    assert not (cut / "figures.json").exists()
    assert run(name, "--resume", cut, "--verbose", 0) == 0
    assert final_state(cut) == final_state(whole)
    before, now = (
        json.loads((out / "figures.json").read_text()) for out in (whole, cut)
    )
    assert {**before, "seconds": 0} == {**now, "seconds": 0}


def test_samples_are_drawn_from_a_run(name, finished, tmp_path, capsys):
    out = finished(name)
    drawn = []
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        more = ("--n", 30, "--seed", seed, "--out", tmp_path / folder)
        assert run(name, "--sample", out, *more) == 0
        with np.load(tmp_path / folder / "samples.npz") as samples:
            drawn.append((samples["x_train"], samples["y_train"]))
        assert (tmp_path / folder / "samples.png").is_file()
    (a, labels), (b, _), (c, _) = drawn
    assert a.shape == (30, 28, 28, 1) and a.dtype == np.uint8
    assert np.array_equal(a, b)
    if a.min() < a.max():  # three steps of so narrow a network may give grey alone
        assert not np.array_equal(a, c)
    assert f"seed={seed}" in capsys.readouterr().out
    if is_conditional(name):
        assert labels.tolist() == np.repeat(np.arange(10), 3).tolist()
    else:
        assert set(labels) == {-1}


def test_truncation_changes_samples(name, finished, tmp_path):
    if "truncation" not in load_script(name).Settings.__dataclass_fields__:
        pytest.skip("does not truncate")
    drawn = []
    for truncation in (2, 0.1):
        out = tmp_path / str(truncation)
        more = ("--seed", 1, "--out", out, "--truncation", truncation)
        assert run(name, "--sample", finished(name), *more) == 0
        with np.load(out / "samples.npz") as samples:
            drawn.append(samples["x_train"])
    assert not np.array_equal(*drawn)


def test_classes_are_asked_for(name, finished, tmp_path, capsys):
    if not is_conditional(name):
        pytest.skip("is asked for no classes")
    more = ("--classes", 7, 3, "--n", 5, "--out", tmp_path / "out")
    assert run(name, "--sample", finished(name), *more) == 0
    with np.load(tmp_path / "out" / "samples.npz") as samples:
        assert samples["y_train"].tolist() == [3, 3, 7, 7, 7]
    capsys.readouterr()
    script = load_script(name)
    line = fails(script, capsys, "--sample", finished(name), "--classes", 10)
    assert line.endswith("--classes 10: no such class; there are 0 to 9\n")


def test_own_colour_images(name, tmp_path, capsys):
    data = write_folder(tmp_path / "own images", (12, 16, 3), n=6, tests=0)
    out = tmp_path / "out"
    options = ("--data", data, *tiny(name, batch=8, measured=20), "--seed", 1)
    assert run(name, *options, "--steps", 1, "--out", out) == 0
    assert "tour/judge.py" in capsys.readouterr().err
    (row,) = read_csv(out / "measures.csv")
    assert row["judge_fid"] == row["modes"] == "" and row["total_variation"] != ""
    assert run(name, "--sample", out, "--n", 4, "--out", tmp_path / "drawn") == 0
    with np.load(tmp_path / "drawn" / "samples.npz") as samples:
        assert samples["x_train"].shape == (4, 12, 16, 3)
        if "codes" not in load_script(name).Settings.__dataclass_fields__:
            assert list(samples["class_names"]) == ["a cat", "b dog", "owl"]


def test_labels_that_are_missing(name, tmp_path, capsys):
    if not hasattr(load_script(name), "load_labelled_images"):
        pytest.skip("needs none; some are missing in test_own_colour_images")
    data = tmp_path / "unlabelled.npz"
    x = np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8)
    np.savez(data, x_train=x, y_train=np.full(40, -1))
    options = ("--data", data, "--out", tmp_path / "out", "--steps", 1, *tiny(name))
    line = fails(load_script(name), capsys, *options)
    assert f"{data}: no image has a label" in line and "dcgan.py" in line
    # nor are there classes 0 to 4
    np.savez(data, x_train=x, y_train=5 + np.arange(40) % 2)
    assert "the first class is 0" in fails(load_script(name), capsys, *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--batch", 1), "batch 1: must"),
        (("--width", 0), "--width 0: must be from 0.01 to 100"),
        (("--minutes", 0), "--minutes 0: must be more than 0"),
        (("--n", 10**12, "--sample", "missing"), "--n 1000000000000: must be from"),
        (("--minutes", 1, "--steps", 5), "leave out --steps"),
        (("--n", 5), "--n: is for --sample RUN"),
        (("--judge", "missing.keras", "--threads", 1), "missing.keras: no such file"),
        (("--sample", "missing"), "missing"),
        (("--sample", "missing", "--steps", 9), "--steps: is for training"),
        (("--resume", "missing"), "missing"),
    ],
)
def test_bad_input_is_refused(name, options, problem, tmp_path, monkeypatch, capsys):
    if options == ("--batch", load_script(name).Settings.batch):
        pytest.skip("its batch has one image")
    monkeypatch.chdir(tmp_path)
    assert problem in fails(load_script(name), capsys, *options)
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_script_is_not_sampled(finished, tmp_path, capsys):
    out = finished("dcgan")
    capsys.readouterr()
    line = fails(load_script("gan"), capsys, "--sample", out)
    assert "is a run of dcgan, not of gan; draw from it with its own script" in line


def test_a_run_without_a_checkpoint_is_not_sampled(finished, tmp_path, capsys):
    (tmp_path / "settings.json").write_bytes(
        (finished("dcgan") / "settings.json").read_bytes()
    )
    capsys.readouterr()
    line = fails(load_script("dcgan"), capsys, "--sample", tmp_path, "--threads", 1)
    assert "has no checkpoint to draw from" in line


def test_help_does_not_wait_for_libraries(name, start, tmp_path):
    for library in ("tensorflow", "keras", "matplotlib", "scipy", "skimage"):
        (tmp_path / f"{library}.py").write_text("raise ImportError", encoding="utf-8")
    done = start(f"tour/{name}.py", "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {name}.py ") and "--sample" in done.stdout


def test_a_script_works_from_any_folder(start, small_data, tmp_path):
    folder = tmp_path / "some folder"
    folder.mkdir()
    options = options_of(
        "dcgan", small_data, "out", "--steps", 2, "--evaluate-every", 9
    )
    done = start("tour/dcgan.py", *options, "--minutes", 0.01, cwd=folder)
    assert done.returncode == 2 and "--minutes sets the steps" in done.stderr
    done = start("tour/dcgan.py", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "figures.json").is_file()


def test_minutes_set_the_steps_once(small_data, tmp_path, capsys, monkeypatch):
    script = load_script("dcgan")
    monkeypatch.setattr(load_script("common"), "fit_to_minutes", lambda *args: 4)
    options = options_of("dcgan", small_data, tmp_path / "out", "--minutes", 0.5)
    options = [str(option) for option in (*options, "--max-steps", 2)]
    assert script.main(options) == 0
    assert "4 steps fit in 0.5 minutes" in capsys.readouterr().out
    capsys.readouterr()
    line = fails(script, capsys, "--resume", tmp_path / "out", "--steps", 9000)
    assert "was started with minutes 0.5, which set its steps" in line
    monkeypatch.setattr(load_script("common"), "fit_to_minutes", lambda *args: 9)
    assert script.main(["--resume", str(tmp_path / "out"), "--verbose", "0"]) == 0
    assert (tmp_path / "out" / "finished").read_text() == "4\n"


def test_idx_files_are_trained_on(tmp_path, capsys):
    """As Fashion-MNIST comes; its judge is made first, by the data's own labels."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (rng.integers(0, 60, (60, 28, 28)) + 80 * y[:, None, None]).astype(np.uint8)
    for name, array in zip(IDX_NAMES, (x, y, x[:30], y[:30]), strict=True):
        (tmp_path / name).write_bytes(idx_bytes(array))
    judge = load_script("judge")
    options = ["--data", tmp_path, "--seed", 1, "--threads", 1, "--verbose", 0]
    made = [*options, "--epochs", 20, "--batch", 10, "--out", tmp_path / "judge"]
    assert judge.main([str(option) for option in made]) == 0
    made = [*options, "--judge", tmp_path / "judge", "--batch", 10, "--steps", 2]
    made += ["--width", 0.05, "--measured", 30, "--out", tmp_path / "out"]
    assert run("cgan", *made) == 0
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert 0 <= figures["agreement"] <= 100
    assert figures["nearest_neighbour_error"] <= 100
    # the digits' judge does not know them
    capsys.readouterr()
    made[made.index("--judge") + 1] = metrics.SHIPPED_JUDGE
    made[-1] = tmp_path / "other"
    line = fails(load_script("cgan"), capsys, *made)
    assert "judge" in line and not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["dcgan", "cgan"])
def test_train_is_called_without_a_run(name, tmp_path, monkeypatch, small_data, capsys):
    """As by a reader who has taken the functions into code of one's own."""
    monkeypatch.chdir(tmp_path)
    script = load_script(name)
    monkeypatch.setattr(script.GanRun, "conclude", lambda run, *others: run.folder)
    settings = script.Settings(width=0.05, latent_dim=4)
    models = script.define_models(settings, (28, 28, 1), 10)
    with np.load(small_data) as data:
        dataset = [data["x_train"][..., np.newaxis], data["y_train"].astype(np.int64)]
    out = script.train(*models, dataset, 4, 1, 16)
    (row,) = read_csv(out / "measures.csv")
    assert float(row["total_variation"]) >= 0 and row["judge_fid"] == ""


def test_a_saved_generator_is_a_plain_model_of_keras(small_data, tmp_path):
    out = tmp_path / "out"
    more = ("--steps", 1, "--format", "h5")
    assert run("gan", *options_of("gan", small_data, out, *more)) == 0
    model = keras.saving.load_model(out / "g_model_0001.h5")
    assert model.output_shape == (None, 28, 28, 1)


def test_a_run_has_one_judge(finished, small_data, tmp_path, capsys):
    """Two judges are two scales, which one table must not mix."""
    out = tmp_path / "cut"
    shutil.copytree(finished("dcgan"), out)
    other = tmp_path / "judge.keras"
    judge = load_script("judge").define_judge()
    judge.set_weights(keras.saving.load_model(metrics.SHIPPED_JUDGE).get_weights())
    save_model(judge, other)
    capsys.readouterr()
    script = load_script("dcgan")
    line = fails(script, capsys, "--resume", out, "--judge", other, "--verbose", 0)
    assert "was started with another judge_sha256" in line
    settings = json.loads((out / "settings.json").read_text())
    assert Path(settings["options"]["judge"]).is_absolute()


@pytest.mark.parametrize(
    "changes",
    [
        {"image_shape": [28, 28]},
        {"image_shape": [-4, 28, 7]},
        {"image_shape": [28, 28, 1 << 40]},
        {"n_classes": -1},
        {"n_classes": "10"},
        {"class_names": 5},
        {"class_names": ["a", "b"]},
        {"script": None},
        {"options": {"latent_dim": "many"}},
    ],
)
def test_damaged_settings_are_refused(changes, finished, tmp_path, capsys):
    described = json.loads((finished("cgan") / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(described | changes))
    capsys.readouterr()
    fails(load_script("cgan"), capsys, "--sample", tmp_path, "--threads", 1)


def test_classes_by_name():
    find = load_script("sampling").find_classes
    names = [unicodedata.normalize("NFC", "caf\u00e9"), "tea"]
    assert find([unicodedata.normalize("NFD", "caf\u00e9")], 2, names).tolist() == [0]
    assert find(["1", "tea"], 2, names).tolist() == [1, 1]
    # where names are numbers, numbers are names
    assert find(["2"], 3, ["1", "2", "3"]).tolist() == [1]
    assert "no such class" in refused(find, ["0"], 3, ["1", "2", "3"])


def test_images_that_are_measured_fit_in_memory():
    common = load_script("common")
    run = common.GanRun("dcgan", common.GanSettings(measured=10_000))
    for shape, n, times in (
        ((28, 28, 1), 10_000, 1),
        ((28, 28, 1), 50_000, 5),
        ((512, 512, 3), 341, 1),
        ((512, 512, 3), 341, 5),
    ):
        run.real = np.empty((0, *shape), np.uint8)
        assert run.count_measured(times) == n


@pytest.mark.parametrize(
    ("threads", "gpus", "jit", "expected"),
    [(1, 0, False, 1), (2, 0, False, 2), (4, 0, False, 1), (2, 1, False, 1)]
    + [(2, 0, True, 1)],
)
def test_two_threads_have_two_operations(threads, gpus, jit, expected, monkeypatch):
    """And with them the bits of one thread."""
    common = load_script("common")
    settings = common.GanSettings(threads=threads, precision="float32")
    run = common.GanRun("dcgan", settings)
    run.jit, devices = jit, ["GPU"] * gpus
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    assert run.side_by_side == expected


def test_networks_that_the_memory_cannot_hold_are_refused(
    name, small_data, tmp_path, monkeypatch, capsys
):
    sampling = load_script("sampling")
    monkeypatch.setattr(sampling, "memory_bytes", lambda: 16 * 1000)
    add_weight = keras.layers.Layer.add_weight
    options = options_of(name, small_data, tmp_path / "out", "--width", 1)
    line = fails(load_script(name), capsys, *options)
    assert "images of " in line and "million weights" in line and "--width" in line
    assert not (tmp_path / "out").exists()
    assert keras.layers.Layer.add_weight is add_weight
