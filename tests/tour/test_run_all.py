import csv
import json

import metrics
import pytest
import run_all

from parts import refused
from tour_scripts import SCRIPTS, load_script

TINY = ("--width", 0.05, "--latent-dim", 4, "--batch", 16, "--measured", 40)


def test_every_script_has_recorded_runs():
    made = {experiment.script for experiment in run_all.EXPERIMENTS.values()}
    assert made == set(SCRIPTS)
    for name, experiment in run_all.EXPERIMENTS.items():
        assert experiment.seeds >= (1 if experiment.options else 3)
        # its default command is one of them
        assert name.startswith(experiment.script)
    plain = {e.script for e in run_all.EXPERIMENTS.values() if not e.options}
    assert plain == set(SCRIPTS)


@pytest.mark.parametrize("name", run_all.EXPERIMENTS)
def test_a_run_is_a_start_that_its_script_takes(name, tmp_path):
    shared = dict.fromkeys(run_all.SHARED)
    shared |= {"judge": str(tmp_path), "max_steps": 7}
    run = run_all.define_run(name, 3, shared, 2, tmp_path)
    script = load_script(run_all.EXPERIMENTS[name].script)
    settings = script.Settings.parse([str(option) for option in run.options])
    assert (settings.seed, settings.threads, settings.max_steps) == (3, 2, 7)
    assert run.name == f"{name}-3" and run.resume == ("--max-steps", 7)


def test_runs_are_made_once_and_summarised(small_data, tmp_path, monkeypatch, capsys):
    tiny = {"a": run_all.Experiment("dcgan", (*TINY, "--steps", 2))}
    monkeypatch.setattr(run_all, "EXPERIMENTS", tiny)
    out = tmp_path / "all runs"
    arguments = ["--data", small_data, "--judge", metrics.SHIPPED_JUDGE, "--out", out]
    arguments += ["--runs", "a", "--seeds", "4,6", "--jobs", 2, "--threads", 1]
    arguments = [str(argument) for argument in arguments]
    assert run_all.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "a-4: judge-FID" in printed and "| `a` | 2 | judge_fid" in printed
    with open(out / "figures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["seed"] for row in rows) == ["4", "6"]
    kept = [json.loads((out / f"a-{n}" / "figures.json").read_text()) for n in (4, 6)]
    by_seed = {int(row["seed"]): float(row["judge_fid"]) for row in rows}
    assert by_seed == {n: f["judge_fid"] for n, f in zip((4, 6), kept, strict=True)}
    assert (out / "a-4" / "generated_plot_0002.png").is_file()
    # again: nothing is made anew
    assert run_all.main(arguments) == 0
    assert "2 of 2 runs are there already" in capsys.readouterr().out
    # with other settings it is another folder's
    assert run_all.main([*arguments, "--max-steps", "1"]) == 2
    assert "max_steps None, not 1" in capsys.readouterr().err


def test_photographs_are_made_for_the_runs_that_need_them(
    tmp_path, monkeypatch, capsys
):
    start = run_all.subprocess.run

    def start_with_few(command, **options):
        return start([*command, "--train", "40", "--tests", "20"], **options)

    monkeypatch.setattr(run_all.subprocess, "run", start_with_few)
    options = (*TINY[:2], *TINY[4:], "--steps", 2)
    tiny = run_all.Experiment("context_encoder", options, 1, run_all.PHOTOGRAPHS)
    monkeypatch.setattr(run_all, "EXPERIMENTS", {"a": tiny})
    arguments = ["--runs", "a", "--out", str(tmp_path / "out"), "--threads", "1"]
    for _ in range(2):
        assert run_all.main(arguments) == 0
    assert "1 of 1 runs are there already" in capsys.readouterr().out
    described = json.loads((tmp_path / "out" / "a-1" / "settings.json").read_text())
    assert described["options"]["data"].endswith("photographs.npz")
    assert described["image_shape"] == [64, 64, 3]


def test_means_are_of_all_seeds():
    rows = [
        {"run": "a", "seed": seed, "judge_fid": fid, "step": 5.0, "other": other}
        for seed, fid, other in ((1, 4.0, None), (2, 6.0, 3.0))
    ]
    text = run_all.describe(rows)
    assert text.splitlines()[-1] == "| `a` | 2 | judge_fid 5 ± 1.41, other 3 |"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--runs", "dcgn"), "--runs: invalid choice"),
        (("--seeds", "3-1"), "give seeds as 1-10"),
        (("--jobs", "0"), "--jobs 0: must be"),
        (("--data", "missing"), "missing: no such file"),
        (("--image-size", "32"), "--image-size"),
        (("--cluster", "tcp://x:1", "--jobs", "2"), "give one of them"),
    ],
)
def test_bad_input_is_refused(options, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = run_all.main(list(options))
    except SystemExit as exit:  # argparse's
        status = exit.code
    printed = capsys.readouterr()
    assert status == 2 and problem in printed.err and printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "a-1").mkdir()
    (tmp_path / "a-1" / "result.json").write_text("[]")
    assert "not the result of a run" in refused(run_all.read_rows, tmp_path)
