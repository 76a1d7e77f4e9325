import argparse
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from gankit.command import InputError, RunError
from gankit.folders import held, locked
from gankit.training import grid
from gankit.training.grid import Grid, GridRun
from parts import default_signals

# what a script does, without a network: it can fail, wait for a signal, and go on
SCRIPT = """
import argparse, json, os, signal, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("out", "resume", "verbose", "seed", "more", "do"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
folder = Path(args.resume or args.out)
folder.mkdir(exist_ok=True)
gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
with open(folder.parent / f"{folder.name}.log", "a") as log:
    log.write(json.dumps([*sys.argv[1:], gpus]) + "\\n")
if args.do == "fail":
    sys.exit("a line before\\nscript: the machine is on fire")
if args.do == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if args.do == "wait" and not args.resume:
    def save(signum, frame):
        # a second signal ends it at once
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        time.sleep(0.3)
        (folder / "settings.json").write_text("{}")
        sys.exit(128 + signum)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, save)
    (folder / "begun").write_text(f"in group {os.getpgid(0) - os.getpid()}")
    (folder / "begun").rename(folder / "waiting")
    time.sleep(60)
(folder / "finished").write_text("")

"""
READER = "def read(folder):\n    return {'seconds': 4, 'name': folder.name}\n"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The path of a script that trains nothing, with a module that reads its runs."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "tiny.py").write_text(SCRIPT)
    (folder / "tiny_reader.py").write_text(READER)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder / "tiny.py"
    sys.modules.pop("tiny_reader", None)


def define_run(script, seed, do="finish", resume=("--more", 1)):
    return GridRun(
        name=f"tiny-{seed}",
        script=str(script),
        options=("--seed", seed, "--do", do),
        resume=resume,
        read="tiny_reader:read",
        facts={"method": do, "seed": seed},
    )


def make(out, runs, rows=None, *, shared=None, **options):
    """Make a grid's runs; return its rows and what record() was called with."""
    rows, recorded = {} if rows is None else rows, []

    def record(row):
        recorded.append(row)
        return f"took {row['seconds']} s"

    with Grid(out, shared or {"budget": 2.5}) as one:
        one.make(runs, rows, record, kind="method", **options)
    one.tell_end()
    return rows, recorded


def starts(out, name):
    """Return the command lines that a run's script was started with, then the GPUs."""
    return [json.loads(line) for line in (out / f"{name}.log").read_text().splitlines()]


# ---------------------------------------------------------------- the runs


def test_each_run_is_made_once(script, tmp_path, capsys):
    out, runs = tmp_path / "out", [define_run(script, seed) for seed in (1, 2, 3)]
    rows, recorded = make(out, runs, jobs=2)
    row = {"method": "finish", "seed": 2, "seconds": 4, "name": "tiny-2"}
    assert rows["tiny-2"] == row and list(row) == list(rows["tiny-2"])
    assert sorted(rows) == ["tiny-1", "tiny-2", "tiny-3"]
    assert sorted(map(str, recorded)) == sorted(map(str, rows.values()))
    assert json.loads((out / "tiny-2" / "result.json").read_text()) == row
    assert json.loads((out / "shared.json").read_text()) == {"budget": 2.5}
    (start,) = starts(out, "tiny-1")
    assert start[:4] == ["--seed", "1", "--do", "finish"]
    assert start[4:-1] == ["--out", str(out / "tiny-1"), "--verbose", "0"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0 of 3 runs are there already"
    assert "tiny-2: took 4 s" in lines
    assert lines[-1] == f"The results are in {out}"

    # not with its row, nor with its own result where the rows are lost
    for kept, n_new in ((rows, 0), ({"tiny-3": rows["tiny-3"]}, 2)):
        again, recorded = make(out, runs, kept)
        assert again["tiny-2"] == row and len(recorded) == n_new
        assert capsys.readouterr().out.startswith(f"{3 - n_new} of 3 runs are there")
    # the result is what the machine that made the run wrote
    (out / "tiny-2" / "result.json").write_text(json.dumps({**row, "seconds": 9}))
    assert make(out, runs, {})[0]["tiny-2"] == {**row, "seconds": 9}
    # nor where its script had come to its end
    (out / "tiny-1" / "result.json").unlink()
    make(out, runs, {})
    assert all(len(starts(out, run.name)) == 1 for run in runs)


@pytest.mark.parametrize(
    ("files", "finished"),
    [
        (["finished"], True),
        (["settings.json", "history.csv", "accuracy.csv", "animation.gif"], False),
        ([], False),
    ],
)
def test_the_mark_of_a_finished_run(files, finished, tmp_path):
    for name in files:
        (tmp_path / name).write_text("")
    assert grid.is_finished(tmp_path) is finished


@pytest.mark.parametrize("resume", [("--more", 7), ()])
def test_a_stopped_run_goes_on(resume, script, tmp_path):
    out, run = tmp_path / "out", define_run(script, 1, resume=resume)
    make(out, [], {})
    (out / run.name).mkdir()
    (out / run.name / "settings.json").write_text("{}")
    # what a kill in the middle of a write leaves
    (out / ".runs.partial.csv").write_text("half a ta")
    make(out, [run])
    assert not (out / ".runs.partial.csv").exists()
    (start,) = starts(out, run.name)
    more = [str(option) for option in resume]
    assert start[:-1] == ["--resume", str(out / run.name), *more, "--verbose", "0"]


@pytest.mark.parametrize(
    ("left", "resume"), [("history.csv", ()), ("settings.json", None)]
)
def test_a_run_that_cannot_go_on_begins_anew(left, resume, script, tmp_path):
    out, run = tmp_path / "out", define_run(script, 1, resume=resume)
    make(out, [], {})
    (out / run.name).mkdir()
    (out / run.name / left).write_text("{}")
    make(out, [run])
    (start,) = starts(out, run.name)
    assert "--out" in start and "--resume" not in start
    assert not (out / run.name / left).exists()


@pytest.mark.parametrize(
    ("do", "reason"),
    [("fail", "script: the machine is on fire"), ("kill", "ended by SIGKILL")],
)
def test_a_failed_run_is_named_and_the_others_go_on(
    do, reason, script, tmp_path, capsys
):
    out, rows = tmp_path / "out", {}
    runs = [define_run(script, 1, do), define_run(script, 2)]
    with pytest.raises(RunError, match="1 runs failed; start again to go on with them"):
        make(out, runs, rows)
    assert list(rows) == ["tiny-2"]
    assert capsys.readouterr().err == f"tiny-1: {script}: {reason}\n"
    assert not (out / "tiny-1" / "result.json").exists()


def test_a_result_that_cannot_be_read_is_a_failed_run(script, tmp_path, capsys):
    script.with_name("tiny_reader.py").write_text("def read(folder):\n    int('a b')\n")
    with pytest.raises(RunError, match="1 runs failed"):
        make(tmp_path / "out", [define_run(script, 1)])
    assert "tiny-1: invalid literal for int()" in capsys.readouterr().err


def test_runs_that_share_other_settings_are_refused(script, tmp_path):
    out = tmp_path / "out"
    make(out, [], shared={"budget": 2.5, "epochs": None})
    with pytest.raises(InputError, match="its runs have budget 2.5, not 3; name a new"):
        make(out, [], shared={"budget": 3})
    # of an option that is younger than the folder
    with pytest.raises(InputError, match="its runs have size None, not 12; name a new"):
        make(out, [], shared={"budget": 2.5, "size": 12})
    make(out, [], shared={"budget": 2.5, "size": None})
    with locked(out), pytest.raises(InputError, match="another run is at work there"):
        make(out, [])
    for text in ("[1]", "{", ""):
        (out / "shared.json").write_text(text)
        with pytest.raises(InputError, match="shared.json: can't be read; name a new"):
            make(out, [])
    # it was let go each time
    with locked(out):
        pass


@pytest.mark.parametrize("name", ["thesis.txt", ".thesis.partial.txt"])
def test_a_folder_with_other_files_is_refused(name, tmp_path):
    (tmp_path / name).write_text("kept")
    with pytest.raises(InputError, match="holds other files"):
        make(tmp_path, [])
    assert (tmp_path / name).read_text() == "kept"


class LosingExecutor(ThreadPoolExecutor):
    """As a cluster's: the first call is lost with its workers."""

    def __init__(self, lose):
        super().__init__(1)
        self._lose = lose

    def submit(self, *arguments):
        if self._lose is None:
            return super().submit(*arguments)
        call, lose = Future(), self._lose
        self._lose = None
        lose(call)
        return call


def test_a_lost_worker_is_named_and_the_others_go_on(
    script, tmp_path, capsys, monkeypatch
):
    def lose(call):
        call.set_exception(Exception("four workers\ndied over it. They were old"))

    losing = nullcontext((LosingExecutor(lose), 1))
    monkeypatch.setattr(grid, "engine", lambda *arguments: losing)
    rows = {}
    with pytest.raises(RunError, match="1 runs failed"):
        make(tmp_path / "out", [define_run(script, seed) for seed in (1, 2)], rows)
    assert capsys.readouterr().err == "tiny-1: four workers died over it\n"
    assert list(rows) == ["tiny-2"]


def test_a_lost_scheduler_is_told(script, tmp_path, monkeypatch):
    def lose(call):
        call.cancel()
        call.set_running_or_notify_cancel()

    losing = nullcontext((LosingExecutor(lose), 1))
    monkeypatch.setattr(grid, "engine", lambda *arguments: losing)
    with pytest.raises(RunError, match="^the scheduler was lost; start again to go on"):
        make(tmp_path / "out", [define_run(script, 1)])


DRIVER = """
import sys
from gankit.command import run_script
from gankit.training.grid import Grid, GridRun

def work():
    runs = [
        GridRun(f"tiny-{n}", sys.argv[2], ("--do", "wait"), (), "tiny_reader:read", {})
        for n in (1, 2, 3)
    ]
    with Grid(sys.argv[1], {}) as grid:
        grid.make(runs, {}, str, kind="method", jobs=2)
        print("the grid goes on to its end")
    grid.tell_end()

sys.exit(run_script("driver.py", work))
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_nothing_more_is_begun(signum, script, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, out, script],
        env={**os.environ, "PYTHONPATH": str(grid.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_signals,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not all((out / f"tiny-{n}" / "waiting").exists() for n in (1, 2)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    # Ctrl-C, which a terminal sends to a group, reaches the scripts once
    assert (out / "tiny-1" / "waiting").read_text() == "in group 0"
    os.killpg(process.pid, signum)
    printed, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert error == "driver.py: interrupted; start again to go on\n"
    assert printed.endswith("the grid goes on to its end\n")
    for n in (1, 2):
        # saved, not ended at once
        assert (out / f"tiny-{n}" / "settings.json").exists()
    assert not (out / "tiny-3").exists()

    runs = [
        dataclasses.replace(define_run(script, n, "wait"), facts={"method": "wait"})
        for n in (1, 2)
    ]
    rows, _ = make(out, runs, shared={"budget": None})
    assert sorted(rows) == ["tiny-1", "tiny-2"]
    assert [("--resume" in start) for start in starts(out, "tiny-1")] == [False, True]


# ---------------------------------------------------------------- GPUs


def test_one_gpu_a_run(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6,-1,8")
    monkeypatch.setattr(grid.tempfile, "gettempdir", lambda: str(tmp_path))
    with grid.one_gpu() as (first, _), grid.one_gpu() as (other, _):
        assert first["CUDA_VISIBLE_DEVICES"] == "4"
        assert other["CUDA_VISIBLE_DEVICES"] == "6"
        with grid.one_gpu() as (none, lock):
            assert none["CUDA_VISIBLE_DEVICES"] == "4, 6,-1,8" and lock is None
    with grid.one_gpu() as (third, lock):
        assert third["CUDA_VISIBLE_DEVICES"] == "4" and lock is not None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with grid.one_gpu() as (none, lock):
        assert none["CUDA_VISIBLE_DEVICES"] == "-1" and lock is None


def test_parts_of_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-5c/1/0,MIG-GPU-5c/2/0")
    monkeypatch.setattr(grid.tempfile, "gettempdir", lambda: str(tmp_path))
    with grid.one_gpu() as (first, _), grid.one_gpu() as (other, _):
        assert first["CUDA_VISIBLE_DEVICES"] == "MIG-GPU-5c/1/0"
        assert other["CUDA_VISIBLE_DEVICES"] == "MIG-GPU-5c/2/0"


@pytest.mark.parametrize("n_gpus", [0, 1, 2])
def test_the_gpus_of_the_machine(n_gpus, monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(grid, "count_gpus", lambda: n_gpus)
    monkeypatch.setattr(grid.tempfile, "gettempdir", lambda: str(tmp_path))
    with grid.one_gpu() as (first, _), grid.one_gpu() as (other, _):
        seen = [one.get("CUDA_VISIBLE_DEVICES") for one in (first, other)]
    assert seen == (["0", "1"] if n_gpus == 2 else [None, None])


def test_runs_side_by_side_have_a_gpu_each(script, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(grid.tempfile, "gettempdir", lambda: str(tmp_path))
    out = tmp_path / "out"
    make(out, [define_run(script, seed) for seed in range(1, 5)], jobs=2)
    gpus = [start[-1] for n in range(1, 5) for start in starts(out, f"tiny-{n}")]
    assert set(gpus) <= {"4", "6"} and len(gpus) == 4


# ---------------------------------------------------------------- the status line


def runs_of(method, seeds):
    return [
        GridRun(f"{method}-{seed}", "", (), None, "", {"method": method})
        for seed in seeds
    ]


def test_the_time_left():
    runs = runs_of("sgan", range(1, 5))
    row = {"method": "sgan", "seconds": "100.0"}
    # of numbers of labels that are no longer asked for, too
    rows = {"sgan-1": row, "sgan-2": row, "sgan-20-1": {**row, "seconds": "100.0"}}
    running = {"sgan-3": 0.25}
    assert grid.seconds_left(runs, rows, running, "method", 1) == 175
    assert grid.seconds_left(runs, rows, running, "method", 2) == 87.5
    assert grid.seconds_left(runs, {}, running, "method", 1) is None
    mixed = [*runs, *runs_of("tuned", [1])]
    assert grid.seconds_left(mixed, rows, running, "method", 1) is None
    rows["tuned-2"] = {"method": "tuned", "seconds": "7"}
    rows["sgan-20-1"]["seconds"] = "400.0"
    assert grid.seconds_left(mixed, rows, running, "method", 1) == 357


def write_progress(folder, step, n_steps=40, max_steps=None):
    folder.mkdir(exist_ok=True)
    settings = {"n_steps": n_steps, "options": {"max_steps": max_steps}}
    (folder / "settings.json").write_text(json.dumps(settings))
    lines = ["step,c_loss", *(f"{i},{'0.5' * 100}" for i in range(1, step + 1))]
    (folder / "history.csv").write_text("\n".join(lines) + "\n")


def test_the_progress_of_a_run(tmp_path):
    folder = tmp_path / "tiny-1"
    write_progress(folder, 10)
    assert grid.progress_of(folder) is None
    with held(grid.lock_of(folder)):
        assert grid.progress_of(folder) == 0.25
        write_progress(folder, 10, max_steps=20)
        assert grid.progress_of(folder) == 0.5
        write_progress(folder, 80)
        assert grid.progress_of(folder) == 1.0
        write_progress(folder, 0)
        assert grid.progress_of(folder) == 0.0
        shutil.rmtree(folder)
        assert grid.progress_of(folder) == 0.0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_line_that_is_kept_up_to_date(tmp_path, monkeypatch):
    runs = runs_of("a-method-of-a-long-name", range(1, 5))
    rows = {runs[0].name: {"method": runs[0].facts["method"], "seconds": "120"}}
    for run in runs[1:3]:
        write_progress(tmp_path / run.name, 10)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    write_progress(tmp_path / runs[0].name, 40)
    with (
        # the first has its row, and is just about to end
        held(grid.lock_of(tmp_path / runs[0].name)),
        held(grid.lock_of(tmp_path / runs[1].name)),
        grid.Status(tmp_path, runs, rows, "method", 2) as status,
    ):
        line = status.line()
        status._update(line)
        status.print("a result")
    assert line == "1 of 4 done, 0:02:45 left; runs: a-method-of-a-long-name-2 25 %"
    shown = terminal.getvalue().split("\r")
    # as wide as the terminal, but for its last column, and gone at the end
    assert shown[1] == line[:59]
    assert shown[-3:] == ["a result\n", " " * 59, ""]
    assert all(len(part) <= 59 for part in shown)


def test_without_a_terminal_no_line_is_kept(tmp_path, capsys):
    with grid.Status(tmp_path, [], {}, "method", 1) as status:
        status.print("a result")
    assert capsys.readouterr().out == "a result\n"


def test_nothing_here_knows_this_projects_methods():
    text = Path(grid.__file__).read_text(encoding="utf-8")
    assert not any(word in text for word in ("sgan", "tuned", "labels"))


def test_seeds():
    assert grid.seeds_of("1-3,7") == [1, 2, 3, 7]
    assert grid.seeds_of("4") == [4]
    for text in ("", "5-1", "x", "1-", "-1"):
        with pytest.raises(argparse.ArgumentTypeError, match="give seeds as 1-10"):
            grid.seeds_of(text)
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 2147483647"):
        grid.seeds_of("2147483648")
    with pytest.raises(argparse.ArgumentTypeError, match="at most 10000 seeds"):
        grid.seeds_of("0-2147483647")
