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

import keras
import numpy as np
import pytest

import sgan_mnist
from gankit import command
from gankit.folders import locked
from gankit.training import loop, records
from gankit.training.checkpoints import (
    checkpoint_paths,
    read_checked,
    restore_newest,
    save_checkpoint,
)

ROOT = os.path.dirname(os.path.abspath(sgan_mnist.__file__))


def options_of(small_data, out, *more):
    options = ("--data", small_data, "--batch", 20, "--labels", 20, "--seed", 5)
    options += ("--latent-dim", 4, "--out", out, "--verbose", 0)
    options += ("--threads", 1, *more)
    return [str(option) for option in options]


def final_state(run):
    """What must be equal, bit for bit, in an interrupted run and in a whole one."""
    arrays = read_checked(checkpoint_paths(run)[0])
    for name in ("plain", "history"):
        arrays.pop(name)
    state = {name: array.tobytes() for name, array in arrays.items()}
    for path in (run / "history.csv", *run.glob("generated_plot_*.png")):
        state[path.name] = path.read_bytes()
    return state


def assert_nothing_is_left(run):
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
    assert len(checkpoint_paths(run)) <= 2


# ---------------------------------------------------------------- the files


class Value:
    def __init__(self, value):
        self.value, self.shape = np.asarray(value), np.shape(value)

    def __array__(self, dtype=None, copy=None):
        return self.value

    def assign(self, value):
        self.value = value


def test_the_last_two_are_kept_and_the_newest_is_restored(tmp_path):
    for step in (600, 999_999, 1_000_000):
        record = {"rows": [["1", "x"]], "history": np.full((2, 5), step, np.float32)}
        save_checkpoint(tmp_path, [Value([step, 0.5]), Value(3)], step, record)
    names = [path.name for path in checkpoint_paths(tmp_path)]
    assert names == ["checkpoint-1000000.npz", "checkpoint-999999.npz"]
    variables = [Value([0.0, 0.0]), Value(0)]
    step, record = restore_newest(tmp_path, variables)
    assert step == 1_000_000 and record["rows"] == [["1", "x"]]
    np.testing.assert_array_equal(record["history"], np.full((2, 5), step))
    np.testing.assert_array_equal(variables[0], [step, 0.5])
    assert variables[1].value == 3
    with pytest.raises(command.InputError, match="is of other networks"):
        restore_newest(tmp_path, [Value([0.0]), Value(0)])
    assert restore_newest(tmp_path / "none", variables) == (0, None)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, capsys):
    for step in (1, 2):
        save_checkpoint(tmp_path, [Value([step] * 50)], step, {})
    newest, older = checkpoint_paths(tmp_path)
    whole = newest.read_bytes()
    damages = [whole[:n] for n in (0, 10, len(whole) // 2, len(whole) - 1)]
    rng = np.random.default_rng(0)
    for place in [0, len(whole) - 1, *rng.integers(0, len(whole), 100)]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        damages.append(bytes(flipped))
    for damaged in damages:
        newest.write_bytes(damaged)
        variable = Value([0] * 50)
        assert restore_newest(tmp_path, [variable]) == (1, {})
        assert variable.value.tolist() == [1] * 50
        assert f"{newest}: the checksum is wrong" in capsys.readouterr().err
    older.write_bytes(b"")
    with pytest.raises(command.InputError, match="no checkpoint is whole"):
        restore_newest(tmp_path, [variable])


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, [Value(1)], 1, {})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        save_checkpoint(tmp_path, [Value(2)], 2, {})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000001.npz"]


# ---------------------------------------------------------------- interrupted runs


@pytest.mark.parametrize(
    ("design", "precision", "threads"),
    [
        ("stacked", "float32", 2),
        ("shared", "float32", 1),
        ("multi-output", "float32", 1),
        ("stacked", "mixed_bfloat16", 1),
        ("multi-output", "mixed_float16", 1),
    ],
)
def test_resumed_is_uninterrupted(design, precision, threads, small_data, tmp_path):
    more = ["--discriminator", design, "--precision", precision]
    more += ["--batch", 6, "--threads", threads, "--max-steps"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    resume = ["--resume", str(cut), "--verbose", "0", "--max-steps", "5"]
    try:
        assert sgan_mnist.main(options_of(small_data, whole, *more, 5)) == 0
        assert sgan_mnist.main(options_of(small_data, cut, *more, 3)) == 0
        assert sgan_mnist.main(resume) == 0
    finally:
        keras.config.set_dtype_policy("float32")
    (cut / "generated_plot_0003.png").unlink()
    assert final_state(cut) == final_state(whole)
    assert_nothing_is_left(cut)


def slow_run(options, stepping):
    """A run with a checkpoint after each step, which takes its time to be written."""
    check_finite = records.check_finite

    stepped = []

    def note(*args):
        check_finite(*args)
        stepped.append(True)

    def slow_fsync(handle):
        if stepped:
            stepping.set()
            time.sleep(0.2)

    records.check_finite = note
    loop.CHECKPOINT_SECONDS = 0
    os.fsync = slow_fsync
    sys.exit(sgan_mnist.main(options))


def test_killed_twenty_times_and_resumed_is_uninterrupted(small_data, tmp_path, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert sgan_mnist.main(options_of(small_data, whole, "--epochs", 4)) == 0
    # from a process that has imported TensorFlow, to save its time
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sgan_mnist", "keras", "discriminators"])
    rng = random.Random(0)
    options = options_of(small_data, cut, "--epochs", 4)
    half_written = 0
    for kill in range(20):
        stepping = context.Event()
        run = context.Process(target=slow_run, args=[options, stepping], daemon=True)
        run.start()
        assert stepping.wait(120)
        time.sleep(rng.uniform(0, 0.3))
        if kill == 10:
            assert sgan_mnist.main(["--resume", str(cut)]) == 2
            assert "another run is at work there" in capsys.readouterr().err
        run.kill()
        run.join()
        assert run.exitcode == -signal.SIGKILL
        half_written += any(cut.glob(".checkpoint*"))
        options = ["--resume", str(cut), "--verbose", "0"]
    assert half_written
    assert checkpoint_paths(cut)
    assert sgan_mnist.main(options) == 0
    assert final_state(cut) == final_state(whole)
    assert_nothing_is_left(cut)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_finishes_the_step_and_saves(signum, status, small_data, tmp_path):
    out = tmp_path / "the run"
    options = options_of(small_data, out, "--epochs", 5000, "--verbose", 2)
    run = subprocess.Popen(
        [sys.executable, os.path.join(ROOT, "sgan_mnist.py"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in run.stdout:
        if line.startswith(">3,"):
            break
    run.send_signal(signum)
    printed, error = run.communicate(timeout=120)
    assert run.returncode == status
    last = error.splitlines()[-1]
    step = int(checkpoint_paths(out)[0].stem.split("-")[1])
    assert last == (
        f"sgan_mnist.py: saved after step {step}; go on with --resume '{out}'"
    )
    assert (out / "history.csv").read_text().splitlines()[-1].startswith(f"{step},")
    assert_nothing_is_left(out)


def test_the_second_signal_ends_at_once():
    code = (
        "import checkpoints, os, signal, time\n"
        "with command.noted_signals(lambda signum: print(signum, flush=True)):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(5)\n"
        "    print('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGINT and done.stdout == "2\n"


def test_ignored_signals_stay_ignored_and_handlers_come_back():
    handler = signal.getsignal(signal.SIGTERM)
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with command.noted_signals(print):
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != handler
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGINT, previous)


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


def test_a_locked_folder_is_refused(tmp_path):
    busy = pytest.raises(command.InputError, match="another run is at work there")
    with locked(tmp_path), busy, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


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
    options = {**sgan_mnist.DEFAULTS, **options}
    (tmp_path / "settings.json").write_text(json.dumps({"options": options}))
    try:
        status = sgan_mnist.main(["--resume", str(tmp_path)])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_data_may_move(small_data, cut_run, tmp_path):
    run, data = tmp_path / "run", tmp_path / "moved.npz"
    shutil.copytree(cut_run, run)
    shutil.copy(small_data, data)
    more = ["--data", str(data), "--max-steps", "3", "--verbose", "0"]
    assert sgan_mnist.main(["--resume", str(run), *more]) == 0


def test_fewer_epochs_are_refused(tmp_path, capsys):
    options = {**sgan_mnist.DEFAULTS, "epochs": 3}
    (tmp_path / "settings.json").write_text(json.dumps({"options": options}))
    assert sgan_mnist.main(["--resume", str(tmp_path), "--epochs", "2"]) == 2
    assert "started with epochs 3, not 2" in capsys.readouterr().err


def test_other_data_are_refused(small_data, tmp_path, capsys):
    data, out = tmp_path / "data.npz", tmp_path / "run"
    with np.load(small_data) as arrays:
        arrays = dict(arrays)
    np.savez(data, **arrays)
    assert sgan_mnist.main(options_of(data, out, "--max-steps", 1)) == 0
    arrays["x_train"][7, 14, 14] ^= 1
    np.savez(data, **arrays)
    assert sgan_mnist.main(["--resume", str(out)]) == 2
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
