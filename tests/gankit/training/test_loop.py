import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import sgan_mnist
import sgan_tuned
import toy_runs
from gankit import command
from gankit.training import loop, records
from gankit.training.checkpoints import (
    checkpoint_paths,
    read_checked,
    save_checkpoint,
)
from parts import (
    assert_nothing_is_left,
    default_signals,
    fails,
    final_state,
    options_of,
    read_csv,
    refused,
)

ROOT = Path(__file__).resolve().parents[3]


# ---------------------------------------------------------------- interrupted runs


@pytest.mark.parametrize(
    ("design", "policy", "threads", "middle", "end"),
    [
        ("stacked", "float32", 2, 3, 5),
        ("stacked", "mixed_bfloat16", 1, 3, 5),
        # whose products are slow on a CPU
        ("multi-output", "mixed_float16", 1, 1, 2),
    ],
)
@pytest.mark.usefixtures("precision")  # sets it back
def test_resumed_is_uninterrupted(
    design, policy, threads, middle, end, small_data, tmp_path
):
    more = ["--discriminator", design, "--precision", policy]
    more += ["--batch", 6, "--threads", threads, "--max-steps"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    resume = ["--resume", str(cut), "--verbose", "0", "--max-steps", str(end)]
    assert sgan_mnist.main(options_of(small_data, whole, *more, end)) == 0
    assert sgan_mnist.main(options_of(small_data, cut, *more, middle)) == 0
    assert sgan_mnist.main(resume) == 0
    (cut / f"generated_plot_{middle:04d}.png").unlink()
    assert final_state(cut) == final_state(whole)
    assert_nothing_is_left(cut)


def slow_run(out, resume, stepping):
    """A run with a checkpoint after each step, which takes its time to be written."""
    default_signals()
    check_finite, stepped = records.check_finite, []

    def note(*args):
        check_finite(*args)
        stepped.append(True)

    def slow_fsync(handle):
        if stepped:
            stepping.set()
            time.sleep(0.2)

    loop.check_finite = note
    loop.CHECKPOINT_SECONDS = 0
    os.fsync = slow_fsync
    toy_runs.make(out, n_steps=40, resume=resume)


def test_killed_seven_times_and_resumed_is_uninterrupted(tmp_path):
    whole, cut = toy_runs.make(tmp_path / "whole", n_steps=40), tmp_path / "cut"
    # from a process that has imported TensorFlow, to save its time
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras", "toy_runs"])
    rng = random.Random(0)
    half_written = 0
    for kill in range(7):
        stepping = context.Event()
        arguments = [cut, kill > 0, stepping]
        run = context.Process(target=slow_run, args=arguments, daemon=True)
        run.start()
        assert stepping.wait(120)
        time.sleep(rng.uniform(0, 0.3))
        if kill == 3:
            line = refused(toy_runs.make, cut, n_steps=40, resume=True)
            assert "another run is at work there" in line
        run.kill()
        run.join()
        assert run.exitcode == -signal.SIGKILL
        half_written += any(cut.glob(".checkpoint*"))
    assert half_written
    assert checkpoint_paths(cut)
    toy_runs.make(cut, n_steps=40, resume=True)
    assert final_state(cut) == final_state(whole)
    assert_nothing_is_left(cut)


def test_a_signal_finishes_the_step_and_saves(small_data, tmp_path):
    out = tmp_path / "the run"
    options = options_of(small_data, out, "--epochs", 5000, "--verbose", 2)
    run = subprocess.Popen(
        [sys.executable, ROOT / "sgan_mnist.py", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_signals,
    )
    for line in run.stdout:
        if line.startswith(">3,"):
            break
    run.send_signal(signal.SIGINT)
    printed, error = run.communicate(timeout=120)
    assert run.returncode == 130
    last = error.splitlines()[-1]
    step = int(checkpoint_paths(out)[0].stem.split("-")[1])
    assert last == (
        f"sgan_mnist.py: saved after step {step}; go on with --resume '{out}'"
    )
    assert (out / "history.csv").read_text().splitlines()[-1].startswith(f"{step},")
    assert_nothing_is_left(out)


@pytest.mark.parametrize(
    ("file_format", "room"), [("keras", 4_500_000), ("h5", 100_000)]
)
def test_a_full_disk(file_format, room, small_data, tmp_path, capfd):
    """A limit on the size of files makes writes fail as a full disk does."""
    out = tmp_path / "run"
    more = ("--epochs", 1, "--format", file_format)
    assert sgan_mnist.main(options_of(small_data, out, *more, "--max-steps", 8)) == 0
    before = checkpoint_paths(out)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    capfd.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        status = sgan_mnist.main(["--resume", str(out), "--verbose", "0"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1
    error = capfd.readouterr().err.splitlines()
    assert error[-1].startswith(f"sgan_mnist.py: {out}: can't be written (")
    assert "--resume" in error[-1]
    assert checkpoint_paths(out) == before
    assert_nothing_is_left(out)
    assert sgan_mnist.main(["--resume", str(out), "--verbose", "0"]) == 0
    assert (out / f"c_model_0010.{file_format}").exists()


# ---------------------------------------------------------------- resuming otherwise


@pytest.fixture(scope="module")
def cut_run(small_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("cut") / "run"
    options = options_of(small_data, out, "--epochs", 1, "--max-steps", 2)
    assert sgan_mnist.main(options) == 0
    return out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "50"], "started with batch 20, not 50"),
        (["--seed", "6"], "started with seed 5, not 6"),
        (["--labels", "30"], "started with labels 20, not 30"),
        (["--precision", "mixed_bfloat16"], "started with precision float32"),
        (["--discriminator", "shared"], "started with discriminator stacked"),
        (["--jit", "on"], "started with jit auto, not on"),
        (["--threads", "3"], "started with threads 1, not 3"),
    ],
)
def test_other_settings_are_refused(options, message, cut_run, capsys):
    before = {path: path.read_bytes() for path in cut_run.iterdir()}
    assert sgan_mnist.main(["--resume", str(cut_run), *options]) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in cut_run.iterdir()} == before


def test_steps_already_made_are_refused(cut_run, capsys):
    assert sgan_mnist.main(["--resume", str(cut_run), "--max-steps", "2"]) == 2
    assert "has made 2 steps already; give more" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [{"epochs": "x"}, {"discriminator": "x"}, {"labels": [1]}, {"data": "/gone.npz"}],
)
def test_settings_that_were_spoilt(options, tmp_path, capsys):
    options = {**sgan_mnist.Settings().options, **options}
    (tmp_path / "settings.json").write_text(json.dumps({"options": options}))
    fails(sgan_mnist, capsys, "--resume", tmp_path)


def test_data_may_move(small_data, cut_run, tmp_path):
    run, data = tmp_path / "run", tmp_path / "moved.npz"
    shutil.copytree(cut_run, run)
    shutil.copy(small_data, data)
    more = ["--data", str(data), "--max-steps", "3", "--verbose", "0"]
    assert sgan_mnist.main(["--resume", str(run), *more]) == 0


def test_fewer_epochs_are_refused(tmp_path, capsys):
    options = {**sgan_mnist.Settings().options, "epochs": 3}
    (tmp_path / "settings.json").write_text(json.dumps({"options": options}))
    assert sgan_mnist.main(["--resume", str(tmp_path), "--epochs", "2"]) == 2
    assert "started with epochs 3, not 2" in capsys.readouterr().err


def test_other_data_are_refused(small_data, cut_run, tmp_path, capsys):
    data = tmp_path / "data.npz"
    with np.load(small_data) as arrays:
        arrays = dict(arrays)
    arrays["x_train"][7, 14, 14] ^= 1
    np.savez(data, **arrays)
    assert sgan_mnist.main(["--resume", str(cut_run), "--data", str(data)]) == 2
    assert "was started with another data_sha256" in capsys.readouterr().err


def test_epochs_may_grow(small_data, tmp_path, capsys):
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    assert sgan_mnist.main(options_of(small_data, whole, "--epochs", 2)) == 0
    assert sgan_mnist.main(options_of(small_data, grown, "--epochs", 1)) == 0
    more = ["--epochs", "2", "--verbose", "0"]
    assert sgan_mnist.main(["--resume", str(grown), *more]) == 0
    assert final_state(grown) == final_state(whole)
    settings = json.loads((grown / "settings.json").read_text())
    assert settings["options"]["epochs"] == 2


# ---------------------------------------------------------------- older runs

OLD_OPTIONS = {
    sgan_mnist: ("epochs", "batch", "labels", "latent_dim", "seed", "data")
    + ("image_size", "discriminator", "precision", "jit", "threads", "max_steps")
    + ("format",),
    sgan_tuned: ("epochs", "labels", "latent_dim", "seed", "data", "image_size")
    + ("precision", "jit", "threads", "max_steps", "format", "batch", "budget")
    + ("without",),
}


def make_old(run, script):
    """Give a run's folder the form that it had before settings named their script."""

    def old_form(described):
        options = described["options"]
        assert set(options) - {"changes"} == set(OLD_OPTIONS[script])
        options = {name: options[name] for name in OLD_OPTIONS[script]}
        younger = ("script", "options", "changes_of_images")
        others = {k: v for k, v in described.items() if k not in younger}
        return {"options": options, **others}

    path = run / "settings.json"
    described = old_form(json.loads(path.read_text()))
    path.write_text(json.dumps(described))
    arrays = read_checked(checkpoint_paths(run)[0])
    step, plain = int(arrays.pop("step")), json.loads(str(arrays.pop("plain")))
    history = arrays.pop("history")
    assert plain["accuracy"] and plain["settings"]["script"] == script.__name__
    rows = [records.evaluation_row(row) for row in plain["accuracy"]]
    record = {
        "settings": old_form(plain["settings"]),
        "seconds": plain["seconds"],
        "accuracy": [[str(text) for text in row] for row in rows],
        "history": history,
    }
    save_checkpoint(run, list(arrays.values()), step, record)
    (run / records.FINISHED).unlink()


@pytest.mark.parametrize(
    ("script", "batch"), [(sgan_mnist, 6), (sgan_tuned, 8)], ids=["tutorial", "tuned"]
)
def test_a_run_of_the_old_form_goes_on_with_the_same_bits(
    script, batch, small_data, tmp_path, capsys
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    more = ["--batch", batch, "--max-steps"]
    for out, steps in ((whole, 5), (cut, 3)):
        assert script.main(options_of(small_data, out, *more, steps)) == 0
    make_old(cut, script)
    capsys.readouterr()
    resume = ["--resume", str(cut), "--verbose", "0", "--max-steps", "5"]
    assert script.main(resume) == 0
    assert capsys.readouterr().err == ""
    (before, now), (last,) = (
        read_csv(cut / "accuracy.csv"),
        read_csv(whole / "accuracy.csv"),
    )
    assert before["step"] == "3" and float(before["test_accuracy"]) >= 0
    now.pop("seconds"), last.pop("seconds")
    assert now == last
    (cut / "generated_plot_0003.png").unlink()
    assert final_state(cut) == final_state(whole)


# ---------------------------------------------------------------- runs of any columns


def test_a_run_without_a_classifier_ends_well(tmp_path):
    run = toy_runs.make(tmp_path / "run", max_steps=6)
    assert read_csv(run / "history.csv")[5].keys() == {"step", "c_loss", "g_loss"}
    rows = read_csv(run / "accuracy.csv")
    for row in rows:
        assert float(row.pop("seconds")) >= 0
    assert rows == [
        {"epoch": "1", "step": "4", "fid": "54.125", "diversity": "1.000"},
        {"epoch": "1.5", "step": "6", "fid": "56.125", "diversity": ""},
    ]
    assert (run / "curves.png").stat().st_size > 1000
    assert (run / "animation.gif").stat().st_size > 100
    assert (run / "finished").read_text() == "6\n"


@pytest.mark.parametrize("figures", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_as_many_figures_as_were_declared_are_needed(figures, tmp_path):
    with pytest.raises(ValueError, match="figures for"):
        toy_runs.make(tmp_path / "run", lambda run, step: figures)
    assert len(read_csv(tmp_path / "run" / "history.csv")) == 4
    assert not (tmp_path / "run" / "finished").exists()


class NoFigures(toy_runs.Run):
    """A run that measures nothing."""


@pytest.mark.parametrize("kind", [toy_runs.FewFigures, NoFigures])
def test_wherever_it_is_cut_a_run_is_the_same(kind, tmp_path, capsys):
    def summarize(run, step):
        figures = toy_runs.measure(run, step)
        return figures if run.evaluations else ()

    whole = toy_runs.make(tmp_path / "whole", summarize, kind=kind)
    cut = tmp_path / "cut"
    toy_runs.make(cut, summarize, kind=kind, max_steps=1)
    for n in (2, 3, 4, 5, 7, 8):
        toy_runs.make(cut, summarize, kind=kind, max_steps=n, resume=True)
        assert (cut / "finished").read_text() == f"{n}\n"
        if n % 4:
            (cut / f"generated_plot_{n:04d}.png").unlink()
    (cut / "generated_plot_0001.png").unlink()
    assert final_state(cut) == final_state(whole)
    assert capsys.readouterr().err == ""
    assert_nothing_is_left(cut)


def test_evaluations_are_due_every_so_many_steps_and_after_each_epoch(tmp_path):
    run = toy_runs.make(tmp_path / "run", n_steps=10, evaluate_every=3)
    steps = [row["step"] for row in read_csv(run / "accuracy.csv")]
    assert steps == ["3", "4", "6", "8", "9", "10"]
    epochs = [row["epoch"] for row in read_csv(run / "accuracy.csv")]
    assert epochs == ["0.75", "1", "1.5", "2", "2.25", "2.5"]


def test_a_resumed_run_counts_its_seconds_on(tmp_path):
    run = toy_runs.make(tmp_path / "run", max_steps=4)
    path = checkpoint_paths(run)[0]
    arrays = read_checked(path)
    step, record = int(arrays.pop("step")), json.loads(str(arrays.pop("plain")))
    record |= {"seconds": 1000.0, "history": arrays.pop("history")}
    # older runs kept the texts of the table
    record["accuracy"] = [["1", "4", "54.125", "", "999.9"]]
    save_checkpoint(run, list(arrays.values()), step, record)
    toy_runs.make(run, resume=True)
    before, now = read_csv(run / "accuracy.csv")
    assert list(before.values()) == ["1", "4", "54.125", "", "999.9"]
    assert 1000 <= float(now["seconds"]) < 2000


def test_each_step_draws_anew_and_is_recorded_by_its_own_name(tmp_path):
    rows = read_csv(toy_runs.make(tmp_path / "run") / "history.csv")
    assert [float(row["c_loss"]) for row in rows] == [
        float(f"{np.float32(1 / n):.9g}") for n in range(1, 9)
    ]
    assert [row["step"] for row in rows] == [str(n) for n in range(1, 9)]
    drawn = np.diff([0, *(float(row["g_loss"]) for row in rows)])
    assert len(set(np.round(drawn, 4))) == 8


def test_other_parts_and_jit_are_gone_on_with_and_told(tmp_path, capsys):
    class OnAGPU(toy_runs.FewFigures):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.jit, self.n_parts = True, 2

    whole = toy_runs.make(tmp_path / "whole")
    run = toy_runs.make(tmp_path / "run", max_steps=3)
    assert capsys.readouterr().err == ""
    toy_runs.make(run, kind=OnAGPU, resume=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"{run}: was started with other jit, n_parts: the bits may differ from an "
        "uninterrupted run's"
    )
    now, uninterrupted = (
        [float(row["g_loss"]) for row in read_csv(folder / "history.csv")]
        for folder in (run, whole)
    )
    np.testing.assert_allclose(now, uninterrupted, rtol=1e-5)
    described = json.loads((run / "settings.json").read_text())
    assert described["jit"] is True and described["n_parts"] == 2


def test_other_versions_are_told(tmp_path, capsys, monkeypatch):
    run = toy_runs.make(tmp_path / "run", max_steps=3)
    monkeypatch.setattr("keras.__version__", "3.0")
    toy_runs.make(run, resume=True)
    assert "was started with other keras: the bits may" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("seed", {"seed": 4}),
        ("n_batch", {"n_batch": 4}),
        ("class_names", {"class_names": ["a"]}),
        ("labelled_images", {"labelled_images": [1]}),
        ("data_sha256", {"data_sha256": ""}),
    ],
)
def test_a_run_of_something_else_is_refused(name, change):
    same = {"versions": {}, "jit": False, "n_parts": 1}
    same |= {"seed": 3, "n_batch": 2, "data_sha256": "a", "labelled_images": [2]}
    loop.check_same("run", same, dict(same))
    assert f"run: was started with another {name}; " in refused(
        loop.check_same, "run", same, {**same, **change}
    )


def test_names_of_an_older_run_are_compared_in_their_normal_form():
    before = {"class_names": ["e\u0301te\u0301", "hiver"], "versions": {}}
    now = {"class_names": ["\u00e9t\u00e9", "hiver"], "versions": {}}
    for name in loop.MOVING:
        before[name] = now[name] = 1
    loop.check_same("run", before, now)
    now["class_names"][0] = "ete"
    refused(loop.check_same, "run", before, now)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_stops_the_run(value, tmp_path):
    def figure(step, total):
        return toy_runs.tf.where(step == 5, float(value), total)

    out = tmp_path / "run"
    with pytest.raises(records.DivergedError) as caught:
        toy_runs.make(out, figure=figure)
    assert str(caught.value) == (
        f"step 6: g_loss is {value}; stopped, with what was saved kept. "
        "Try another --seed"
    )
    assert caught.value.status == 1
    assert read_csv(out / "history.csv")[-1]["g_loss"] == value
    assert checkpoint_paths(out)[0].name == "checkpoint-000004.npz"
    assert not (out / "finished").exists()
    assert_nothing_is_left(out)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_run_that_can_go_on(signum, status, tmp_path):
    def interrupted(run, step):
        os.kill(os.getpid(), signum)
        return toy_runs.measure(run, step)

    run, before = tmp_path / "run", signal.getsignal(signum)
    # as it may be ignored in a process that a script started in the background
    signal.signal(signum, signal.default_int_handler)
    try:
        with pytest.raises(command.Interrupted, match="saved after step 4") as caught:
            toy_runs.make(run, interrupted)
    finally:
        signal.signal(signum, before)
    assert caught.value.status == status
    assert not (run / "finished").exists()
    assert checkpoint_paths(run)[0].name == "checkpoint-000004.npz"
    # a run that was stopped can be ended where it stands
    toy_runs.make(run, resume=True, max_steps=4)
    assert (run / "finished").read_text() == "4\n"
    with pytest.raises(command.InputError, match="has made 4 steps already"):
        toy_runs.make(run, resume=True, max_steps=4)
    whole = toy_runs.make(tmp_path / "whole")
    assert final_state(toy_runs.make(run, resume=True)) == final_state(whole)


def test_a_signal_within_an_epoch_ends_the_step_and_saves_it(tmp_path):
    def interrupted(figures):
        if figures[0] == 0.5:
            os.kill(os.getpid(), signal.SIGTERM)
        return ""

    run = tmp_path / "run"
    with pytest.raises(command.Interrupted, match="saved after step 2"):
        toy_runs.make(run, describe=interrupted, verbose="2")
    assert [path.name for path in checkpoint_paths(run)] == ["checkpoint-000002.npz"]
    assert len(read_csv(run / "history.csv")) == 2
    assert read_csv(run / "accuracy.csv") == []


def test_a_signal_in_the_last_step_comes_too_late(tmp_path):
    def interrupted(run, step):
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return toy_runs.measure(run, step)

    run = toy_runs.make(tmp_path / "run", interrupted)
    assert (run / "finished").read_text() == "8\n"


@pytest.mark.parametrize(("seconds", "kept"), [(0, [8, 7]), (120, [8, 4])])
def test_a_checkpoint_is_due_after_two_minutes_and_an_evaluation(
    seconds, kept, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", seconds)
    run = toy_runs.make(tmp_path / "run")
    steps = [int(path.stem.split("-")[1]) for path in checkpoint_paths(run)]
    assert steps == kept


def test_a_folder_at_work_is_left_alone(tmp_path):
    out = tmp_path / "run"
    caught = []

    def second(run, step):
        for resume in (False, True):
            with pytest.raises(command.InputError) as error:
                toy_runs.make(out, resume=resume)
            caught.append(str(error.value))
        return toy_runs.measure(run, step)

    whole = toy_runs.make(tmp_path / "whole")
    toy_runs.make(out, second)
    assert "holds files already" in caught[0]
    assert "another run is at work there" in caught[1]
    assert final_state(out) == final_state(whole)


def test_a_run_can_be_evaluated_every_so_many_steps_alone(tmp_path):
    run = toy_runs.make(
        tmp_path / "run", n_steps=10, evaluate_every=3, each_epoch=False
    )
    steps = [row["step"] for row in read_csv(run / "accuracy.csv")]
    assert steps == ["3", "6", "9", "10"]


def test_evaluations_go_into_the_table_that_the_run_names(tmp_path):
    class Named(toy_runs.FewFigures):
        table = "measures.csv"

    run = toy_runs.make(tmp_path / "cut", kind=Named, max_steps=4)
    toy_runs.make(run, kind=Named, resume=True)
    assert [row["step"] for row in read_csv(run / "measures.csv")] == ["4", "8"]
    assert not (run / "accuracy.csv").exists() and (run / "curves.png").exists()
