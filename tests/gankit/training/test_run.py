import dataclasses
import json
import re

import keras
import numpy as np
import pytest

import toy_runs
from gankit.command import InputError
from gankit.data.arrays import Data
from gankit.models.files import read_class_names
from gankit.training import devices, run
from gankit.training.run import LabelledRun, Run
from gankit.training.settings import RunSettings, option
from parts import refused


def settings_of(out, **options):
    return RunSettings(**{"out": str(out), "seed": 3, "threads": 1, **options})


# ---------------------------------------------------------------- seed and settings


def test_what_was_not_given_is_drawn_or_asked_of_the_machine(monkeypatch):
    monkeypatch.setattr(run, "count_cores", lambda: 99)
    monkeypatch.setattr(devices, "has_native_bfloat16", lambda: True)
    first, second = (Run("toy", RunSettings(precision="auto")) for _ in range(2))
    assert first.seed != second.seed and 0 <= first.seed < 2**31
    assert first.settings == dataclasses.replace(
        RunSettings(), seed=first.seed, threads=16, precision="mixed_bfloat16"
    )
    assert Run("toy").settings.threads == 16
    monkeypatch.setattr(run, "count_cores", lambda: 3)
    assert Run("toy").settings.threads == 3
    assert (first.jit, first.n_parts, first.folder) == (False, 1, None)


def test_a_drawn_seed_is_printed_once(tmp_path, capsys):
    drawn = Run("toy", settings_of(tmp_path / "a", seed=None))
    assert capsys.readouterr().out == ""
    for _ in range(2):
        drawn.open()
    assert capsys.readouterr().out == f"seed={drawn.seed}\n"
    Run("toy", settings_of(tmp_path / "b")).open()
    assert capsys.readouterr().out == ""


def test_a_resumed_run_prints_no_seed(tmp_path, capsys):
    out = tmp_path / "run"
    toy_runs.make(out, max_steps=3)
    # as it is where the seed was drawn
    described = json.loads((out / "settings.json").read_text())
    assert described["options"]["seed"] == described["seed"] == 3
    toy_runs.make(out, resume=True)
    assert "seed=" not in capsys.readouterr().out


def test_what_is_drawn_follows_from_the_seed(tmp_path):
    first, same, other = (Run("toy", settings_of(tmp_path, seed=n)) for n in (3, 3, 4))
    points = first.sheet_points(5, 20)
    assert points.shape == (20, 5) and points.dtype == np.float32
    np.testing.assert_array_equal(first.sheet_points(5, 20), points)
    np.testing.assert_array_equal(same.sheet_points(5, 20), points)
    assert not np.array_equal(other.sheet_points(5, 20), points)
    assert first.sheet_points(6).shape == (100, 6)


# ---------------------------------------------------------------- folder


def test_a_new_run_makes_its_folder(tmp_path, monkeypatch):
    named = Run("toy", settings_of(tmp_path / "a" / "b"))
    assert not (tmp_path / "a").exists()
    named.open()
    assert named.folder == tmp_path / "a" / "b" and named.folder.is_dir()
    monkeypatch.chdir(tmp_path)
    dated = Run("toy", RunSettings(seed=3))
    dated.open()
    assert re.fullmatch(r"runs/\d{8}-\d{6}-toy", str(dated.folder))


@pytest.mark.parametrize("make", [False, True], ids=["typo", "empty"])
def test_a_folder_without_a_run_is_refused(make, tmp_path):
    folder = tmp_path / "typo"
    if make:
        folder.mkdir()
    assert str(folder) in refused(RunSettings.resumed, folder)
    settings = RunSettings(resume=str(folder), seed=3)
    for start in (Run("toy", settings).open, Run("toy", settings).prepare):
        assert refused(start) == f"{folder}: holds no run; name a run's folder"
    with pytest.raises(InputError), Run("toy", settings).filling():
        pass
    assert folder.exists() == make and (not make or not any(folder.iterdir()))


def test_a_folder_that_another_run_took_is_refused(tmp_path):
    ours = Run("toy", settings_of(tmp_path))
    ours.open()
    (tmp_path / "theirs").touch()
    with pytest.raises(InputError, match="holds files already"), ours.filling():
        pass


def test_what_a_killed_process_left_is_removed_at_a_resume(tmp_path):
    out = toy_runs.make(tmp_path / "run", max_steps=3)
    (out / ".c_model_0003.partial.keras").touch()
    toy_runs.make(out, resume=True)
    assert not list(out.glob(".*"))


# ---------------------------------------------------------------- what is kept


def small_classifier(n_classes=3):
    return keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten()]
        + [keras.layers.Dense(n_classes, activation="softmax", name="classes")]
    )


@pytest.mark.parametrize("file_format", ["keras", "h5"])
def test_models_and_sheet_are_named_by_the_step(file_format, tmp_path):
    names = ["a", "b", "c"]
    data = Data(toy_runs.DATASET, None, 3, names)
    kept = Run("toy", settings_of(tmp_path, format=file_format), data=data)
    kept.open()
    model = small_classifier()
    saved = kept.save(7, np.zeros((4, 8, 8, 1)), g_model=model, c_model=model)
    assert saved == ["generated_plot_0007.png"] + [
        f"{name}_0007.{file_format}" for name in ("g_model", "c_model")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(saved)
    assert read_class_names(tmp_path / saved[2]) == names
    assert read_class_names(tmp_path / saved[1]) is None
    assert kept.pictures(7) == {"samples": (tmp_path / saved[0]).read_bytes()}
    assert kept.pictures(8) == {}


def test_all_that_a_run_depends_on_is_described(tmp_path):
    X, y = np.zeros((6, 8, 4, 3), np.uint8), np.arange(6)
    data = Data([X, y], [X[:2], y[:2]], 6, list("abcdef"))
    ours = LabelledRun("toy", settings_of(tmp_path, max_steps=2), data=data)
    ours.labelled, ours.jit, ours.n_parts = np.array([5, 1]), True, 4
    described = ours.describe(data.train, n_batch=2, n_steps=9)
    assert json.loads(json.dumps(described)) == described
    versions = described.pop("versions")
    assert set(versions) == {*("python", "keras", "tensorflow", "numpy"), "machine"} | {
        "gpus"
    }
    digest = described.pop("data_sha256")
    assert described == {
        "script": "toy",
        "options": ours.settings.options,
        "seed": 3,
        "n_batch": 2,
        "jit": True,
        "n_parts": 4,
        "image_shape": [8, 4, 3],
        "n_steps": 9,
        "class_names": list("abcdef"),
        "labelled_images": [5, 1],
    }
    for i in range(4):
        arrays = [X.copy(), y.copy(), X[:2].copy(), y[:2].copy()]
        assert run.digest_of(arrays[:2], arrays[2:]) == digest
        arrays[i].flat[-1] += 1
        assert run.digest_of(arrays[:2], arrays[2:]) != digest
    assert run.digest_of([X, y], None) != digest
    assert "class_names" not in Run("toy").describe([X, y], n_batch=2, n_steps=9)


# ---------------------------------------------------------------- measuring


class Knower:
    """Takes an image for the class that its first pixel names."""

    output_shape = (None, 10)
    layers = [keras.layers.Softmax()]

    def predict_on_batch(self, X):
        named = np.rint(127.5 + 127.5 * X[:, 0, 0, 0]).astype(int)
        return np.eye(10, dtype=np.float32)[named]


def images_of(classes):
    X = np.zeros((len(classes), 4, 4, 1), np.uint8)
    X[:, 0, 0, 0] = classes
    return X


def test_each_figure_is_measured_on_its_own_images(tmp_path):
    train = [images_of([0, 1, 2, 3, 9]), np.array([0, 1, 2, 4, -1])]
    test = [images_of([1, 1, 1, 7, 7]), np.array([1, 7, 2, 7, 9])]
    ours = LabelledRun("toy", settings_of(tmp_path), data=Data(train, test, 10, None))
    assert ours.measure(Knower(), None) == (None, 40.0, None)
    ours.supervised = [images_of([5, 5, 5, 5]), np.array([5, 5, 5, 6])]
    assert ours.measure(Knower(), train) == (75.0, 40.0, 25.0)
    untested = LabelledRun("toy", settings_of(tmp_path))
    assert untested.measure(Knower(), train) == (75.0, None, None)
    assert LabelledRun.evaluations == (
        "train_accuracy",
        "test_accuracy",
        "labelled_error",
    )


def test_confusions_are_true_by_predicted(tmp_path, monkeypatch):
    test = [images_of([1, 1, 7]), np.array([1, 7, 7])]
    data = Data(test, test, 10, list("abcdefghij"))
    ours = LabelledRun("toy", settings_of(tmp_path), data=data)
    ours.open()
    drawn = []
    monkeypatch.setattr(run, "draw_confusions", lambda *args: drawn.append(args))
    ours.save(1, np.zeros((1, 4, 4, 1)))
    assert set(ours.pictures(1)) == {"samples"} and not drawn
    ours.measure(Knower(), None)
    assert set(ours.pictures(1)) == {"samples", "confusions"}
    ((counts, names),) = drawn
    assert names == data.class_names and counts.sum() == 3
    assert counts[1, 1] == counts[7, 1] == counts[7, 7] == 1


# ---------------------------------------------------------------- how many steps


@dataclasses.dataclass(kw_only=True)
class Budgeted(RunSettings):
    """Train a toy."""

    budget: float | None = option(None, "minutes")


def planned(settings):
    ours = Run("toy", settings)
    state = [[toy_runs.tf.Variable(0.0)]]
    ours.compile(lambda draws: (), lambda step: (0.0,), state, columns=("a",), draws=1)
    return ours


def test_the_done_part_is_of_the_planned_steps():
    ours = planned(RunSettings(seed=3))
    assert ours.plan(40) == 40
    assert float(ours.done(10)) == 0.25


def test_a_budget_is_fitted_once(tmp_path):
    def fit(minutes):
        return int(100 * minutes)

    assert planned(Budgeted(seed=3)).plan(40, fit) == 40
    ours = planned(Budgeted(seed=3, budget=0.5))
    assert ours.plan(40, fit) == 50 and float(ours.done(25)) == 0.5
    # and then kept
    path = tmp_path / "settings.json"
    path.write_text('{"options": {"budget": 0.5}, "n_steps": 60}')
    resumed = planned(Budgeted(seed=3, budget=0.5, resume=str(tmp_path)))
    assert resumed.plan(40, fit) == 60
    for text in ("{", "{}", "[]", '{"n_steps": null}', '{"n_steps": "x"}'):
        path.write_text(text)
        assert "not the settings of a run" in refused(resumed.plan, 40, fit)


# ---------------------------------------------------------------- parts and precision


def test_preparing_chooses_how_a_step_is_computed(tmp_path, monkeypatch):
    prepared = []
    monkeypatch.setattr(run, "prepare_tensorflow", lambda *args: prepared.append(args))
    split = Run("toy", settings_of(tmp_path / "a", threads=3))
    split.prepare(100)
    assert (split.jit, split.n_parts) == (False, 3) and split.folder is not None
    whole = Run("toy", settings_of(tmp_path / "b", threads=3))
    whole.prepare()
    assert whole.n_parts == 1
    compiled = Run("toy", settings_of(tmp_path / "c", threads=3, jit="on"))
    compiled.prepare(100)
    assert (compiled.jit, compiled.n_parts) == (True, 1)
    assert prepared == [("float32", 3, 3), ("float32", 3, 1), ("float32", 3, 1)]


def test_what_is_built_after_preparing_follows_from_the_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "prepare_tensorflow", lambda *args: None)
    weights = []
    for i, seed in enumerate((3, 3, 4)):
        Run("toy", settings_of(tmp_path / str(i), seed=seed)).prepare()
        weights.append(small_classifier().get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_a_batch_is_computed_in_the_runs_parts(tmp_path):
    ours = Run("toy", settings_of(tmp_path))
    ours.n_parts = 3
    batch = toy_runs.tf.reshape(toy_runs.tf.range(7.0), (7, 1))
    seen = []

    def network(part, training):
        seen.append((len(part), training))
        return 2 * part

    np.testing.assert_array_equal(ours.answer(network, batch, training=True), 2 * batch)
    assert seen == [(3, True), (2, True), (2, True)]
    mean = ours.in_parts(lambda x, y: toy_runs.tf.reduce_mean(x * y), batch, batch)
    np.testing.assert_allclose(mean, 13.0, rtol=1e-6)
