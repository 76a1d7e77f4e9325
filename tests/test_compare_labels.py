import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import psutil
import pytest

import compare_labels
from gankit.command import InputError
from gankit.folders import locked
from parts import default_signals, read_csv

ROOT = Path(compare_labels.__file__).resolve().parent


# ---------------------------------------------------------------- figures


def rows_of(method, labels, errors):
    return [
        {
            "method": method,
            "labels": str(labels),
            "seed": str(seed),
            "test_error": error,
        }
        for seed, error in enumerate(errors, 1)
    ]


def test_the_table():
    rows = rows_of("tuned", 100, ["1.000", "2.000", "6.000"])
    rows += rows_of("standalone", 100, ["9.500"])
    summary = compare_labels.summarise(rows)
    assert summary["tuned", 100] == {
        "draws": 3,
        "mean": 3.0,
        "sd": pytest.approx(np.sqrt(7)),
        "best": 1.0,
        "worst": 6.0,
    }
    table = compare_labels.describe(summary).splitlines()
    assert table[2] == "| 100 | `tuned` | 3 | 3.00 ± 2.65 | 1.00 | 6.00 |"
    assert table[3] == "| 100 | `standalone` | 1 | 9.50 | 9.50 | 9.50 |"
    assert "| 100 | Odena 2016, SGAN, published | | 7.20 | | |" in table
    assert "| 100 | Salimans et al. 2016, published | | 0.93 | | |" in table
    assert not any(line.startswith("| 50 ") for line in table)
    few = compare_labels.describe(compare_labels.summarise(rows_of("sgan", 20, ["5"])))
    assert few.splitlines()[2:] == [
        "| 20 | `sgan` | 1 | 5.00 | 5.00 | 5.00 |",
        "| 20 | Salimans et al. 2016, published | | 16.77 | | |",
    ]


def test_the_published_errors():
    # Odena gives accuracies, Salimans et al. the wrong ones of 10,000 images
    accuracies = {
        "CNN alone": {25: 0.750, 50: 0.859, 100: 0.895, 1000: 0.965},
        "SGAN": {25: 0.802, 50: 0.883, 100: 0.928, 1000: 0.964},
    }
    wrong = {20: 1677, 50: 221, 100: 93, 200: 90}
    errors = {
        f"Odena 2016, {name}": {n: 100 * (1 - a) for n, a in of.items()}
        for name, of in accuracies.items()
    } | {"Salimans et al. 2016": {n: w / 100 for n, w in wrong.items()}}
    assert compare_labels.PUBLISHED.keys() == errors.keys()
    for name, published in compare_labels.PUBLISHED.items():
        assert published == pytest.approx(errors[name])


def test_the_plot(tmp_path, monkeypatch):
    rows = rows_of("tuned", 100, ["1.000", "3.000"])
    rows += rows_of("tuned", 20, ["4.000"]) + rows_of("sgan", 50, ["8.000", "8.000"])
    plotted = []
    monkeypatch.setattr(
        compare_labels, "save_figure", lambda *args: plotted.append(args)
    )
    published = {"Someone 2016": {25: 19.8, 1000: 3.6}}
    compare_labels.plot(compare_labels.summarise(rows), tmp_path / "a.png", published)
    ((figure, path),) = plotted
    assert path == tmp_path / "a.png"
    (axes,) = figure.axes
    bars = {container.get_label(): container for container in axes.containers}
    lines = {name: bar.lines[0].get_xydata().tolist() for name, bar in bars.items()} | {
        line.get_label(): line.get_xydata().tolist() for line in axes.lines
    }
    assert lines["tuned"] == [[20, 4], [100, 2]] and lines["sgan"] == [[50, 8]]
    assert lines["Someone 2016"] == [[25, 19.8], [1000, 3.6]]
    # a standard deviation each way, none where there is one draw
    (one, two) = bars["tuned"].lines[2][0].get_segments()
    assert one.tolist() == [[20, 4], [20, 4]]
    np.testing.assert_allclose(two, [[100, 2 - 2**0.5], [100, 2 + 2**0.5]])
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(texts) == ["Someone 2016", "sgan", "tuned"]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylabel() == "test error, %"


def test_the_plot_is_the_same_whatever_matplotlibrc_says(tmp_path, monkeypatch):
    summary = compare_labels.summarise(rows_of("tuned", 100, ["1.000", "3.000"]))
    compare_labels.plot(summary, tmp_path / "a.png")
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    compare_labels.plot(summary, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_rows_of_an_earlier_start(tmp_path):
    path = tmp_path / "runs.csv"
    assert compare_labels.read_rows(path) == {}
    row = dict.fromkeys(compare_labels.COLUMNS, "1") | {"method": "sgan"}
    row |= {"labels": "20", "seed": "3", "processor": "Zürich, 2 GHz"}
    compare_labels.save_rows(path, [row, {**row, "seed": "4"}])
    rows = compare_labels.read_rows(path)
    assert rows == {"sgan-20-3": row, "sgan-20-4": {**row, "seed": "4"}}
    text = path.read_text(encoding="utf-8")
    for spoilt in (
        text.replace("seconds", "minutes"),
        text.replace("processor", "machine"),
        "method,labels\nsgan,many\n",
        *(text.replace(f"sgan,20,{x}", "sgan,20,x") for x in "34"),
        text.replace("sgan,20,4", "sgan,few,4"),
    ):
        assert spoilt != text
        path.write_text(spoilt, encoding="utf-8")
        with pytest.raises(InputError, match="not a table of this script"):
            compare_labels.read_rows(path)
    for name in ("test_error", "seconds"):
        compare_labels.save_rows(path, [{**row, name: "x"}])
        with pytest.raises(InputError, match="could not convert string"):
            compare_labels.read_rows(path)


def test_the_results_of_a_finished_run(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_labels, "processor_name", lambda: "A, 2 GHz")
    settings = {"options": {"threads": 3}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "accuracy.csv").write_text(
        "epoch,step,train_accuracy,test_accuracy,labelled_error,seconds\n"
        "1,5,90.000,91.000,0.0,7.5\n2,10,92.500,89.750,0.0,15.1\n"
    )
    # of the last step, not of the best
    assert compare_labels.read_results(tmp_path) == {
        "test_error": "10.250",
        "train_accuracy": "92.500",
        "step": "10",
        "seconds": "15.1",
        "threads": 3,
        "processor": "A, 2 GHz",
    }


# ---------------------------------------------------------------- runs


def options_of(data, out, *more):
    options = ("--data", data, "--labels", 20, "--max-steps", 2, "--threads", 1)
    return [str(option) for option in (*options, "--out", out, *more)]


@pytest.fixture(scope="module")
def comparison(small_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "all methods"
    options = options_of(small_data, out, "--draws", 1, "--jobs", 2)
    assert compare_labels.main(options) == 0
    return out


def test_each_run_has_a_row(comparison):
    rows = read_csv(comparison / "runs.csv")
    assert {row["method"] for row in rows} == set(compare_labels.SCRIPTS)
    assert len(rows) == 3
    for row in rows:
        assert row["labels"] == "20" and row["seed"] == "1" and row["step"] == "2"
        run = comparison / f"{row['method']}-20-1"
        last = read_csv(run / "accuracy.csv")[-1]
        error = 100 - float(last["test_accuracy"])
        assert float(row["test_error"]) == pytest.approx(error, abs=1e-6)
        settings = json.loads((run / "settings.json").read_text())
        assert settings["seed"] == 1 and len(settings["labelled_images"]) == 20
    # the same seed means the same labelled images
    labelled = {
        tuple(json.loads(path.read_text())["labelled_images"])
        for path in comparison.glob("*/settings.json")
    }
    assert len(labelled) == 1
    assert (comparison / "plot.png").stat().st_size > 10_000
    assert "| 20 | `tuned` | 1 |" in (comparison / "table.md").read_text("utf-8")


def test_runs_that_are_there_are_not_made_again(comparison, small_data, capsys):
    def times():
        return {path: path.stat().st_mtime_ns for path in comparison.glob("*-*/*")}

    before, rows = times(), read_csv(comparison / "runs.csv")
    options = options_of(small_data, comparison, "--draws", 1)
    assert compare_labels.main(options) == 0
    assert "3 of 3 runs are there already" in capsys.readouterr().out
    assert times() == before and read_csv(comparison / "runs.csv") == rows
    # a lost table is made again from the runs' own results
    (comparison / "runs.csv").unlink()
    assert compare_labels.main(options) == 0
    assert sorted(map(str, read_csv(comparison / "runs.csv"))) == sorted(map(str, rows))
    assert times() == before


def test_other_settings_are_refused(comparison, small_data, capsys):
    options = options_of(small_data, comparison)
    options[options.index("--max-steps") + 1] = "3"
    assert compare_labels.main(options) == 2
    assert "its runs have max_steps 2, not 3" in capsys.readouterr().err
    with locked(comparison):
        assert compare_labels.main(options_of(small_data, comparison)) == 2
    assert "another run is at work there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "magic"], "--methods magic: give standalone, sgan, tuned, or"),
        (["--methods", "tuned-without-luck"], "with a NAME of generator, consistency"),
        (["--labels", "25"], "25 labels: can't be shared out evenly"),
        (["--labels", "100000"], "--labels 100000: only 60000 images have a label"),
        (["--budget", "nan"], "--budget nan: must be more than 0"),
        (["--budget", "5", "--epochs", "2"], "--budget and --epochs: give one"),
        (["--cluster", "tcp://x:1", "--jobs", "2"], "--cluster and --jobs: give one"),
        (["--jobs", "0"], "--jobs 0: must be 1 or more"),
        (["--draws", "1000000000"], "--draws 1000000000: must be at most 10000"),
        (["--draws", "2", "--seeds", "1-2"], "--seeds and --draws: give one of them"),
        (["--data", "gone.npz"], "gone.npz: no such file"),
        (["--cluster", "tcp://127.0.0.1:1"], "no scheduler with workers answers"),
    ],
)
def test_bad_options(options, message, tmp_path, capfd):
    out = tmp_path / "out"
    assert compare_labels.main(["--out", str(out), *options]) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists() or not list(out.iterdir())


def test_a_run_is_started_with_the_options_of_the_comparison():
    shared = dict.fromkeys(compare_labels.SHARED) | {"budget": 2.5}
    shared |= {"image_size": 12, "changes": "general"}

    def command_of(method):
        run = compare_labels.define_run(method, 50, 3, shared, 2)
        assert run.name == f"{method}-50-3"
        assert run.facts == {"method": method, "labels": 50, "seed": 3}
        return " ".join(map(str, [run.script, *run.options])), run.resume

    tuned, resume = command_of("tuned-without-lines+balance")
    assert tuned == (
        "sgan_tuned.py --labels 50 --seed 3 --without lines+balance --threads 2 "
        "--image-size 12 --budget 2.5 --changes general"
    )
    assert resume == ()
    shared |= {"max_steps": 4, "epochs": 6, "budget": None}
    sgan, resume = command_of("sgan")
    assert sgan == (
        "sgan_mnist.py --labels 50 --seed 3 --threads 2 --image-size 12 --epochs 6 "
        "--max-steps 4"
    )
    assert resume == ("--max-steps", 4)
    standalone, resume = command_of("standalone")
    assert standalone == (
        "standalone_classifier.py --labels 50 --seed 3 --threads 2 --image-size 12 "
        "--max-steps 4"
    )
    assert resume is None
    shared["budget"], shared["epochs"] = 5.0, None
    assert "--budget 5.0" in command_of("tuned")[0]
    assert not any("--budget" in command_of(name)[0] for name in ("sgan", "standalone"))


def test_a_signal_makes_the_runs_save_and_end(small_data, tmp_path):
    out = tmp_path / "out"
    options = options_of(small_data, out, "--methods", "tuned", "--draws", 3)
    options[options.index("--max-steps") + 1] = "40"
    command = [sys.executable, str(ROOT / "compare_labels.py"), *options]
    run = subprocess.Popen(
        [*command, "--jobs", "2"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_signals,
    )
    runs = [out / f"tuned-20-{seed}" for seed in (1, 2)]
    deadline = time.monotonic() + 120
    while not all((folder / "history.csv").exists() for folder in runs):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, error = run.communicate(timeout=120)
    assert run.returncode == 143
    assert error == "compare_labels.py: interrupted; start again to go on\n"
    for folder in runs:
        last = read_csv(folder / "history.csv")[-1]["step"]
        assert (folder / f"checkpoint-{int(last):06d}.npz").exists()
    assert not (out / "tuned-20-3").exists()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_cluster_whose_worker_is_killed(small_data, tmp_path):
    """A real scheduler and two workers; each run is in the table once."""
    out, port = tmp_path / "out", free_port()
    address = f"tcp://127.0.0.1:{port}"

    def start(module, *arguments):
        # not in the project's folder, nor with a path to it
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments]
        with open(tmp_path / "log.txt", "a") as log:
            return subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)

    scheduler = start(
        *("dask_scheduler", "--host", "127.0.0.1", "--port", str(port)),
        *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
    )
    workers = [
        start(
            *("dask_worker", address, "--host", "127.0.0.1", "--nthreads", "1"),
            *("--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path)),
        )
        for _ in range(2)
    ]
    options = options_of(small_data, out, "--cluster", address, "--methods", "sgan")
    options[options.index("--max-steps") + 1] = "12"
    run = subprocess.Popen(
        [sys.executable, ROOT / "compare_labels.py", *options, "--draws", "3"]
    )
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("*/history.csv")):
            assert time.monotonic() < deadline and run.poll() is None
            time.sleep(0.05)
        workers[0].send_signal(signal.SIGKILL)
        assert run.wait(240) == 0
    finally:
        for process in (run, *workers, scheduler):
            process.kill()
            process.wait()
    rows = read_csv(out / "runs.csv")
    assert sorted(row["seed"] for row in rows) == ["1", "2", "3"]
    assert {row["step"] for row in rows} == {"12"}


def test_a_killed_comparison_goes_on_with_other_threads(small_data, tmp_path):
    out = tmp_path / "out"
    options = options_of(small_data, out, "--methods", "sgan", "--draws", 2)
    options[options.index("--max-steps") + 1] = "9"
    run = subprocess.Popen([sys.executable, ROOT / "compare_labels.py", *options])
    deadline = time.monotonic() + 120
    while not (out / "sgan-20-1" / "history.csv").exists():
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.05)
    scripts = psutil.Process(run.pid).children()
    for process in (run, *scripts):
        process.kill()
    run.wait()
    # what a kill in the middle of a write leaves
    (out / ".runs.partial.csv").write_text("half a ta")
    options[options.index("--threads") + 1] = "2"
    assert compare_labels.main(options) == 0
    rows = read_csv(out / "runs.csv")
    assert [row["threads"] for row in rows] == ["1", "2"]
    assert not list(out.glob("*partial*"))
    assert [(row["seed"], row["step"]) for row in rows] == [("1", "9"), ("2", "9")]


def test_a_run_that_lacks_its_last_files_is_finished(comparison, small_data, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(comparison, out)
    (out / "runs.csv").unlink()
    for name in ("animation.gif", "finished", "result.json"):
        (out / "sgan-20-1" / name).unlink()
    assert compare_labels.main(options_of(small_data, out, "--draws", 1)) == 0
    assert len(read_csv(out / "runs.csv")) == 3
    for name in ("animation.gif", "finished"):
        assert (out / "sgan-20-1" / name).exists()


def test_a_spoilt_table_is_refused(comparison, small_data, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(comparison, out)
    (out / "runs.csv").write_text("method,labels\nsgan,many\n")
    assert compare_labels.main(options_of(small_data, out)) == 2
    error = capsys.readouterr().err
    assert "runs.csv: not a table of this script" in error and error.count("\n") == 1


# ---------------------------------------------------------------- blocks


def test_the_mistakes_that_runs_share_are_shown(
    comparison, tmp_path, small_data, capsys
):
    # both folders' runs, of the same data
    other = tmp_path / "other"
    shutil.copytree(comparison, other, ignore=shutil.ignore_patterns("blocks"))
    options = ["--out", str(other), "--blocks", str(comparison)]
    assert compare_labels.main(options) == 0
    printed = capsys.readouterr().out
    out = other / "blocks"
    table = (out / "blocks.md").read_text(encoding="utf-8")
    assert table in printed
    header, _, *lines = table.splitlines()
    assert header.count(f"{other}: ") == header.count(f"{comparison}: ") == 3
    rows = read_csv(out / "blocks.csv")
    # after two steps most images are wrong
    assert len(lines) == len(list(out.glob("kind_*.png"))) == len(rows) / 6 > 2
    # the same runs err alike
    for first in range(0, len(rows), 6):
        wrong = [row["wrong"] for row in rows[first : first + 6]]
        assert wrong[:3] == wrong[3:]
    assert compare_labels.main(options) == 2
    assert "blocks: is there already; move it away" in capsys.readouterr().err


def test_folders_without_runs_have_no_blocks(comparison, tmp_path, capsys):
    assert compare_labels.main(["--out", str(tmp_path / "none"), "--blocks"]) == 2
    assert "holds no finished run with its classifier" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    # runs on other images
    other = tmp_path / "other"
    shutil.copytree(comparison, other, ignore=shutil.ignore_patterns("blocks"))
    for path in other.glob("*/settings.json"):
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings["options"]["data"] = None
        path.write_text(json.dumps(settings), encoding="utf-8")
    options = ["--out", str(other), "--blocks", str(comparison)]
    assert compare_labels.main(options) == 2
    assert "is of other images than" in capsys.readouterr().err
    # settings that are none
    for path in other.glob("*/settings.json"):
        path.write_text('{"options": {"data": null, "image_size": "28"}}')
    assert compare_labels.main(options) == 2
    assert "settings.json: can't be read" in capsys.readouterr().err
    assert not (other / "blocks").exists()
