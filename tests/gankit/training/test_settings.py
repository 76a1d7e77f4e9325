import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import sgan_mnist
import sgan_tuned
import standalone_classifier
from gankit.command import InputError
from gankit.training.budget import budget_option
from gankit.training.settings import (
    RunSettings,
    TrainingSettings,
    option,
    read_options,
)
from parts import fails, refused

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = (sgan_mnist, sgan_tuned, standalone_classifier)


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train a toy."""

    epochs: int = option(20, "passes", least=1, resume="grow")
    rate: float = option(0.5, "a rate", least=0, most=1)
    budget: float | None = budget_option()
    without: str | None = option(None, "leave out", several=("lines", "average"))


def write(folder, **options):
    """Write what a run's folder keeps of its options; return the folder, a text."""
    text = json.dumps({"options": options})
    (folder / "settings.json").write_text(text, encoding="utf-8")
    return str(folder)


def error_of(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        Settings.parse([str(text) for text in argv])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


# ---------------------------------------------------------------- the command line


def test_without_options_all_have_their_defaults():
    assert Settings.parse([]) == Settings()
    assert (Settings().epochs, Settings().rate, Settings().budget) == (20, 0.5, None)


def test_options_of_each_kind_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.parse(
        ["--epochs", "3", "--rate", "1", "--max-steps", "7", "--tensorboard"]
        + ["--without", "lines+average", "--data", "a.npz", "--out", "b"]
    )
    assert settings == Settings(
        epochs=3,
        rate=1.0,
        max_steps=7,
        tensorboard=True,
        without="lines+average",
        data="a.npz",
        out="b",
    )
    assert type(settings.rate) is float
    # found from wherever it is resumed
    assert settings.options["data"] == str(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--epochs", "x"], "invalid int value: 'x'"),
        (["--precision", "half"], "invalid choice: 'half'"),
        (["--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_what_cannot_be_read_is_one_line(argv, line, capsys):
    assert line in error_of(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--epochs", "0"], "--epochs 0: must be 1 or more"),
        (["--rate", "1.5"], "--rate 1.5: must be from 0 to 1"),
        (["--rate", "-0.5"], "--rate -0.5: must be from 0 to 1"),
        (["--seed", "-1"], "--seed -1: must be from 0 to 2147483647"),
        (["--seed", "2147483648"], "must be from 0 to 2147483647"),
        (["--max-steps", "0"], "--max-steps 0: must be 1 or more"),
        (["--without", "lines+x+w"], "--without w, x: not of lines, average"),
        (["--without", ""], "--without '': holds an empty name; leave that out"),
        (["--without", "lines+"], "--without 'lines+': holds an empty name; leave"),
        (["--data", ""], "--data '': holds an empty name; leave that out"),
        (["--out", ""], "--out '': holds an empty name; leave that out"),
        (["--budget", "0"], "--budget 0: must be more than 0"),
        (["--budget", "nan"], "--budget nan: must be more than 0"),
        (["--budget", "1", "--epochs", "2"], "--budget sets the epochs; leave out"),
        (["--resume", "a", "--out", "b"], "names the folder already; leave out --out"),
    ],
)
def test_what_cannot_be_used_is_one_line(argv, line):
    assert line in refused(Settings.parse, argv)


def test_the_ends_of_a_range_belong_to_it():
    for seed in (0, 2**31 - 1):
        assert Settings.parse(["--seed", str(seed)]).seed == seed
    for rate in (0, 1):
        assert Settings(rate=rate).rate == rate
    assert Settings.parse(["--epochs", "1", "--threads", "1"]).epochs == 1


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": "3"},
        {"epochs": 3.0},
        {"epochs": True},
        {"epochs": None},
        {"rate": "0.5"},
        {"precision": 32},
        {"precision": "half"},
        {"seed": [3]},
        {"verbose": 1},
        {"verbose": "3"},
        {"tensorboard": 1},
        {"without": ["lines"]},
    ],
)
def test_values_of_another_type_are_refused_in_code_too(options):
    (name,) = options
    assert refused(lambda: Settings(**options)).startswith(f"--{name} ")


def test_a_path_is_taken_for_a_folder(tmp_path):
    assert Settings(out=tmp_path).out == tmp_path


@pytest.mark.parametrize(
    ("given", "terminal", "verbosity"),
    [("auto", True, 1), ("auto", False, 2), ("0", True, 0), ("2", True, 2)],
)
def test_verbosity(given, terminal, verbosity, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert Settings(verbose=given).verbosity == verbosity


# ---------------------------------------------------------------- help


def test_help_names_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit):
        Settings.parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Train a toy." in text
    assert "--epochs N passes (default: 20)" in text
    assert "--rate N a rate (default: 0.5)" in text
    assert text.endswith("--without NAME[+NAME] leave out")
    assert "--max-steps N stop after N steps " in text
    assert "--budget MINUTES train as long" in text
    assert "drawn and printed) --out" in text  # said once
    assert "--tensorboard keep a log" in text and "(default: False)" not in text


def test_options_are_known_without_tensorflow():
    code = (
        "import sys, contextlib\n"
        "import sgan_mnist, sgan_tuned, standalone_classifier\n"
        "for script in (sgan_mnist, sgan_tuned, standalone_classifier):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        script.main(['--help'])\n"
        "    script.Settings.parse(['--seed', '1', '--labels', '20'])\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


# ---------------------------------------------------------------- resuming


def test_a_run_has_the_options_that_it_was_started_with(tmp_path):
    started = Settings(
        epochs=3, rate=0.25, seed=7, without="lines", out="x", tensorboard=True
    )
    folder = write(tmp_path, **started.options)
    assert Settings.parse(["--resume", folder]) == Settings(
        epochs=3, rate=0.25, seed=7, without="lines", resume=folder
    )


def test_what_holds_for_one_start_is_not_kept(tmp_path):
    started = Settings(max_steps=5, verbose="0", out="x", tensorboard=True)
    for name in ("verbose", "out", "tensorboard", "resume"):
        assert name not in started.options
    resumed = Settings.resumed(write(tmp_path, **started.options))
    assert resumed.max_steps is None and resumed.verbose == "auto"


def test_an_option_that_is_younger_than_a_run_has_its_default_there(tmp_path):
    folder = write(tmp_path, epochs=3, seed=None)
    assert Settings.resumed(folder) == Settings(epochs=3, resume=folder)
    assert Settings.resumed(write(tmp_path)) == Settings(resume=folder)


@pytest.mark.parametrize("script", SCRIPTS[:2])
def test_each_option_of_a_script_may_be_younger(script, tmp_path):
    options = script.Settings(epochs=3, seed=4).options
    for name in options:
        others = {k: v for k, v in options.items() if k != name}
        resumed = script.Settings.resumed(write(tmp_path, **others))
        default = getattr(script.Settings(), name)
        # older runs changed their images as digits are
        older = "digits" if name == "changes" else default
        assert resumed.options == {**options, name: older}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"seed": 8}, "was started with seed 7, not 8"),
        ({"rate": 0.75}, "was started with rate 0.5, not 0.75"),
        ({"without": "lines"}, "was started with without None, not lines"),
        ({"epochs": 2}, "was started with epochs 3, not 2"),
        ({"jit": "on"}, "was started with jit auto, not on"),
    ],
)
def test_what_a_run_was_started_with_stays(given, line, tmp_path):
    folder = write(tmp_path, epochs=3, seed=7)
    error = refused(lambda: Settings.resumed(folder, **given))
    assert error == f"{folder}: {line}; resume it without that option"


def test_what_may_change_does(tmp_path):
    folder = write(tmp_path, epochs=3, seed=7, max_steps=9, data="a")
    given = {"epochs": 4, "seed": 7, "max_steps": 2, "data": "b", "verbose": "1"}
    given |= {"tensorboard": True}
    assert Settings.resumed(folder, **given) == Settings(resume=folder, **given)
    assert Settings.resumed(folder, epochs=3).epochs == 3


def test_auto_is_the_precision_that_it_stood_for(tmp_path, monkeypatch):
    from gankit.training import devices

    folder = write(tmp_path, precision="mixed_bfloat16")
    monkeypatch.setattr(devices, "has_native_bfloat16", lambda: True)
    assert Settings.resumed(folder, precision="auto").precision == "mixed_bfloat16"
    monkeypatch.setattr(devices, "has_native_bfloat16", lambda: False)
    with pytest.raises(InputError, match="started with precision mixed_bfloat16"):
        Settings.resumed(folder, precision="auto")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        "{}",
        '{"options": null}',
        '{"options": []}',
        '{"options": ""}',
        '{"options": ["epochs"]}',
        '{"options": {"epochs": "3"}}',
        '{"options": {"epochs": [3]}}',
        '{"options": {"epochs": {}}}',
        '{"options": {"epochs": 0}}',
        '{"options": {"epochs": 1e3}}',
        '{"options": {"epochs": true}}',
        '{"options": {"rate": NaN}}',
        '{"options": {"seed": -1}}',
        '{"options": {"precision": "half"}}',
        '{"options": {"without": "x"}}',
        '{"options": {"out": "elsewhere"}}',
        '{"options": {"a\\nb\\u001b": 1}}',
        "[" * 100_000,
    ],
)
def test_settings_that_are_none_are_one_line(text, tmp_path):
    (tmp_path / "settings.json").write_text(text, encoding="utf-8")
    assert refused(read_options, tmp_path, Settings) == (
        f"{tmp_path / 'settings.json'}: not the settings of a run of this script; name "
        "a run's folder"
    )


def test_settings_of_other_bytes(tmp_path):
    (tmp_path / "settings.json").write_bytes(b'{"options": {"data": "\xff"}}')
    assert "not the settings of a run" in refused(read_options, tmp_path, Settings)


@pytest.mark.parametrize("make", [False, True], ids=["typo", "empty"])
def test_a_folder_without_a_run_is_refused(make, tmp_path, capsys):
    folder = tmp_path / "typo"
    if make:
        folder.mkdir()
    assert "name a run's folder" in refused(Settings.resumed, folder)
    for script in SCRIPTS[:2]:
        assert str(folder) in fails(script, capsys, "--resume", folder)
    assert folder.exists() == make and (not make or not any(folder.iterdir()))


def test_a_run_of_another_script_is_refused(tmp_path, capsys):
    for script, other in ((sgan_mnist, sgan_tuned), (sgan_tuned, sgan_mnist)):
        write(tmp_path, **other.Settings().options)
        error = fails(script, capsys, "--resume", tmp_path)
        assert "not the settings of a run of this script" in error
    write(tmp_path, **standalone_classifier.Settings().options)
    assert "of this script" in fails(sgan_mnist, capsys, "--resume", tmp_path)


def test_a_training_that_cannot_go_on_has_no_such_option():
    assert not hasattr(TrainingSettings, "resumed")
    assert TrainingSettings().resume is None


@dataclass(kw_only=True)
class Several(RunSettings):
    """Have an option with several values."""

    classes: list[str] | None = option(None, "classes", metavar="CLASS")


def test_an_option_with_several_values(tmp_path):
    assert Several.parse([]).classes is None
    settings = Several.parse(["--classes", "3", "a cat", "--seed", "1"])
    assert (settings.classes, settings.seed) == (["3", "a cat"], 1)
    assert settings.options["classes"] == ["3", "a cat"]
    with pytest.raises(InputError, match="--classes .*must be of type list"):
        Several(classes=[3])
    with pytest.raises(InputError, match="--classes '3': must be of type list"):
        Several(classes="3")


def test_paths_are_kept_so_that_any_folder_finds_them(tmp_path, monkeypatch):
    @dataclass(kw_only=True)
    class Named(Settings):
        """Train on what is named."""

        judge: str | None = option(None, "a file", path=True)
        pairs: list[str] | None = option(None, "folders", metavar="DIR", path=True)

    monkeypatch.chdir(tmp_path)
    options = Named(data="d.npz", judge="j", pairs=["a", "b"]).options
    assert options["data"] == str(tmp_path / "d.npz")
    assert options["judge"] == str(tmp_path / "j")
    assert options["pairs"] == [str(tmp_path / "a"), str(tmp_path / "b")]
    none = Named().options
    assert none["data"] is none["judge"] is none["pairs"] is None
