import os

import keras
import pytest

from gankit.command import InputError
from gankit.models import files
from parts import refused


def make_run(folder, *names, age=0):
    folder.mkdir(parents=True)
    (folder / "settings.json").touch()
    os.utime(folder / "settings.json", (10**9 - age, 10**9 - age))
    for name in names:
        (folder / name).touch()


def test_the_newest_run_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, (run, steps) in enumerate(
        [("b-empty", []), ("c", [600, 10200, 9600]), ("d-older", [12000])]
    ):
        folder = tmp_path / "runs" / run
        names = [f"c_model_{step:04d}.keras" for step in steps]
        unfinished = (".c_model_99999.partial.keras", "c_model_best.keras")
        make_run(folder, *names, *unfinished, age=age)
    assert str(files.newest_model("classifier")) == "runs/c/c_model_10200.keras"


def test_runs_of_a_comparison_are_found_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compared = tmp_path / "runs" / "compare_labels" / "sgan-100-1"
    make_run(compared, "c_model_12000.keras", "g_model_12000.keras", age=5)
    newest = files.newest_model("classifier")
    assert str(newest) == "runs/compare_labels/sgan-100-1/c_model_12000.keras"
    make_run(tmp_path / "runs" / "older", "c_model_0600.h5", age=9)
    assert files.newest_model("classifier") == newest
    make_run(tmp_path / "runs" / "newer", "c_model_0600.h5")
    assert str(files.newest_model("classifier")) == "runs/newer/c_model_0600.h5"
    newest = files.newest_model("generator")
    assert str(newest) == "runs/compare_labels/sgan-100-1/g_model_12000.keras"


def test_a_run_of_the_tour_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "20260101-dcgan", "g_model_5000.keras")
    assert files.newest_model("generator").parent == files.SHIPPED_GENERATOR
    names = "c_model_0600.keras", "g_model_0600.keras"
    make_run(tmp_path / "runs" / "older", *names, age=9)
    assert str(files.newest_model("generator")) == "runs/older/g_model_0600.keras"


def test_what_is_shipped_comes_after_all_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mnist, tuned = tmp_path / "shipped" / "mnist", tmp_path / "shipped" / "tuned"
    monkeypatch.setattr(files, "SHIPPED_RUN", mnist)
    monkeypatch.setattr(files, "SHIPPED_TUNED", tuned)
    generators = tmp_path / "shipped" / "generators"
    monkeypatch.setattr(files, "SHIPPED_GENERATOR", generators)
    for is_tuned in (False, True):
        with pytest.raises(InputError, match="runs: holds no classifier, and none is"):
            files.newest_model("classifier", tuned=is_tuned)
    make_run(mnist, "c_model_12000.keras", "g_model_12000.keras")
    for is_tuned in (False, True):
        newest = files.newest_model("classifier", tuned=is_tuned)
        assert newest == mnist / "c_model_12000.keras"
    make_run(tuned, "c_model_18000.keras")
    assert files.newest_model("classifier").parent == mnist
    newest = files.newest_model("classifier", tuned=True)
    assert newest == tuned / "c_model_18000.keras"
    assert files.newest_model("generator", tuned=True).parent == mnist
    (mnist / "g_model_12000.keras").unlink()
    make_run(generators, "c_model_12000.keras", "g_model_12000.keras")
    assert files.newest_model("generator").parent == generators
    assert files.newest_model("classifier").parent == mnist
    make_run(tmp_path / "runs" / "a run", "c_model_0001.keras", age=10**8)
    newest = files.newest_model("classifier", tuned=True)
    assert str(newest) == "runs/a run/c_model_0001.keras"


def test_a_model_is_named_by_file_folder_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "a run"
    make_run(run, "c_model_0600.keras", "c_model_1200.keras", "g_model_0600.keras")

    def found(given, kind="classifier"):
        return str(files.find_model(given, kind).resolve().relative_to(run))

    assert found("runs/a run") == found(run) == "c_model_1200.keras"
    assert found(None) == found("runs/a run/") == "c_model_1200.keras"
    assert found(run, "generator") == "g_model_0600.keras"
    assert found(run / "c_model_0600.keras") == "c_model_0600.keras"
    assert found(run / "gone.keras") == "gone.keras"
    with pytest.raises(InputError, match="^runs: holds no g_model_<step>"):
        files.find_model("runs", "generator")


@pytest.mark.parametrize("named", ["run", "file"])
def test_a_generator_of_the_tour_has_its_own_script(named, tmp_path):
    run = tmp_path / "a run"
    run.mkdir()
    path = run / "g_model_0005.keras"
    path.write_bytes(b"")
    (run / "settings.json").write_text('{"script": "dcgan"}')
    given = run if named == "run" else path
    line = refused(files.find_model, given, "generator")
    assert f"tour/dcgan.py --sample '{run}'" in line and str(path) in line
    for text in ('{"script": "sgan_mnist"}', '{"script": "../x"}', "[]", "{}", "\xff"):
        (run / "settings.json").write_text(text, encoding="latin-1")
        assert files.find_model(given, "generator") == path


def test_h5_is_saved_without_advice(tmp_path, capfd, caplog):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    files.save_model(model, tmp_path / "a.h5")
    assert "legacy" not in capfd.readouterr().err + caplog.text
    assert keras.saving.load_model(tmp_path / "a.h5").output_shape == (None, 1)
