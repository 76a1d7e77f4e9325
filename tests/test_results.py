"""The tables of the documents: worked out right, and from the recorded runs."""

import csv
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_sets import IDX_NAMES, idx_bytes
from gankit.command import InputError, RunError
from gankit.data import load

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("tables", ROOT / "results/tables.py")
tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tables)
# found where tables.py puts the tour
from run_all import EXPERIMENTS  # noqa: E402


def rows(header, *lines):
    names = header.split()
    return [dict(zip(names, line.split(), strict=True)) for line in lines]


@pytest.fixture
def results(tmp_path):
    """A folder with a few made-up results."""
    files = {
        "a.csv": [
            ("setting", "seed", "step", "validation_error"),
            ("none, it's plain", 7, 90, "3.10"),
            ("none, it's plain", 7, 100, "2.20"),
            ("none, it's plain", 8, 90, "4.40"),
            ("none, it's plain", 8, 100, "4.50"),
        ],
        "runs.csv": [
            ("method", "seed", "test_error"),
            ("sgan", 1, "1.500"),
            ("tuned", 1, "0.250"),
            ("sgan", 2, "4.500"),
        ],
    }
    for name, lines in files.items():
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)
    (tmp_path / "speed.md").write_text("| one |\n|---|\n| 1 |\n\nµ\n", encoding="utf-8")
    return tmp_path


# ---------------------------------------------------------------- what is recorded


@pytest.mark.parametrize("name", sorted(p.name for p in tables.TEMPLATES.iterdir()))
def test_the_documents_are_what_the_results_give(name):
    place = tables.PLACES.get(name, name)
    written = (ROOT / "docs" / place).read_text(encoding="utf-8")
    assert written == tables.documents()[place]
    assert "{{" not in written


def test_every_table_of_the_results_is_made_by_the_script():
    template = (tables.TEMPLATES / "results.md").read_text(encoding="utf-8")
    assert not re.findall(r"(?m)^\|", template)
    assert {f"{{{{{name}}}}}" for name in tables.TABLES} <= set(template.split("\n"))


def test_the_readme_has_the_headline_figures():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.make_table("headline") in readme


def test_the_documents_tell_the_measured_times_of_a_step():
    path = ROOT / "results" / "step_time" / "step_time.json"
    variants = json.loads(path.read_text(encoding="utf-8"))["variants"]
    median = {name: about["quartiles"][1] for name, about in variants.items()}
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    quick = f"[{median['float32']:.2f} and {median['mixed_bfloat16']:.2f} s]"
    theirs = f"and PyTorch {median['pytorch']:.2f} s"
    assert f"takes {quick}(docs/speed.md), {theirs}" in text
    text = " ".join((ROOT / "docs" / "speed.md").read_text(encoding="utf-8").split())
    slow = f"without it takes {median['no_onednn']:.3f} s"
    assert f"{slow} in place of {median['float32']:.3f} s" in text
    faster = variants["mixed_bfloat16"]["speed_up_over"]["pytorch"]
    assert f"In bfloat16 a step is {faster:.2f} times as fast as PyTorch's" in text


def test_the_documents_tell_what_the_shipped_classifiers_reach():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    document = (ROOT / "docs" / "classifier.md").read_text(encoding="utf-8")
    for path in (ROOT / "results").glob("*/c_model_*.keras"):
        rows = tables.read_rows(path.with_name("accuracy.csv"))
        accuracy = f"{float(rows[-1]['test_accuracy']):.2f}"
        assert f"{accuracy} %" in readme
        (row,) = re.findall(rf"(?m)^\| `results/{path.parent.name}` .*$", document)
        assert row.endswith(f"| {accuracy} |")


def test_the_tables_beside_the_runs_are_of_these_runs():
    """table.md has a row for each row of the documents' tables of methods."""
    for folder in ("comparison", "fashion"):
        recorded = tables.read_rows(ROOT / "results" / folder / "runs.csv")
        table = (ROOT / "results" / folder / "table.md").read_text(encoding="utf-8")
        for (method, labels), runs in tables.group(
            recorded, lambda row: (row["method"], row["labels"])
        ).items():
            errors = tables.errors_of(runs)
            start = f"| {labels} | `{method}` | {len(errors)} | "
            assert f"{start}{tables.mean_and_sd(errors)} |" in table


def test_it_says_where_a_document_differs(tmp_path):
    texts = {"a.md": "one\ntwo\n", "b.md": "one\n", "c.md": "same\n"}
    (tmp_path / "a.md").write_text("one\n2\n", encoding="utf-8")
    (tmp_path / "c.md").write_text("same\n", encoding="utf-8")
    found = tables.find_differences(texts, tmp_path)
    assert found == ["a.md: line 2", "b.md: is missing"]
    (tmp_path / "a.md").write_text("one\n", encoding="utf-8")
    assert tables.find_differences({"a.md": "one\ntwo\n"}, tmp_path) == ["a.md: line 2"]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The documents in a folder of the test, and plots not drawn."""
    docs = tmp_path / "docs"
    for name, text in tables.documents().items():
        docs.mkdir(exist_ok=True)
        (docs / name).parent.mkdir(exist_ok=True)
        (docs / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(tables, "DOCS", docs)
    monkeypatch.setattr(tables, "draw_plots", lambda: None)
    return docs


def test_check_and_write(copied, capsys):
    assert tables.main(["--check"]) == 0
    path = copied / "results.md"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("91.810", "91.910"), encoding="utf-8")
    assert tables.main(["--check"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "results.md: line " in line and "--write" in line
    assert tables.main(["--write"]) == 0
    assert path.read_text(encoding="utf-8") == before
    assert tables.main(["--check"]) == 0


def test_the_plots_are_drawn(tmp_path):
    epochs = rows(
        "epoch step train_accuracy test_accuracy seed seconds",
        *(f"{i} {i}00 {80 + i}.5 {79 + i}.5 1 {60 * i}" for i in range(1, 21)),
    )
    alone = rows("seconds test_error", "30 20.0", "40 21.0")
    tables.plot_epochs(epochs, tmp_path / "epochs.png")
    tables.plot_error_by_minutes({"a": epochs[:9]}, tmp_path / "minutes.png", alone)
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


# ---------------------------------------------------------------- worked by hand


def test_mean_and_standard_deviation():
    # mean 3, squared distances 1, 1 and 4, by n - 1 = 2: the root of 3 is 1.732
    assert tables.mean_and_sd([2.0, 2.0, 5.0]) == "3.00 ± 1.73"
    assert tables.mean_and_sd([4.125]) == "4.12"


def test_a_table():
    assert tables.table(("a", "b"), [("x", 1), ("y", 2)], n_left=1) == (
        "| a | b |\n|---|---:|\n| x | 1 |\n| y | 2 |"
    )


def test_the_headline():
    accuracies = rows("epoch test_accuracy", "1 95.000", "2 90.250")
    comparison = rows(
        "method labels test_error",
        *("tuned 100 1.000", "tuned 100 3.000", "tuned 50 9.000"),
        *("standalone 100 20.000", "standalone 1000 5.000"),
    )
    lines = tables.tabulate_headline(accuracies, comparison).split("\n")[2:]
    figures = [line.split(" | ")[1:] for line in lines]
    assert figures == [
        ["4.08", "95.92 |"],
        ["9.75", "90.25 |"],
        ["2.00 ± 1.41", "98.00 |"],
        ["20.00", "80.00 |"],
    ]
    assert "2 draws" in lines[2] and "1 draws" in lines[3]


def test_the_epochs():
    table = tables.tabulate_epochs(
        rows(
            "epoch step train_accuracy test_accuracy",
            *(f"{i} {600 * i} 80.{i:03} 90.{i:03}" for i in range(1, 21)),
        )
    ).split("\n")
    assert len(table) == 22
    assert table[2] == "| 1 | 600 | 85.543 | 80.001 | 90.001 |"
    assert table[-1] == "| 20 | 12000 | 92.180 | 80.020 | 90.020 |"
    with pytest.raises(ValueError, match="zip"):
        tables.tabulate_epochs(
            rows("epoch step train_accuracy test_accuracy", "1 600 80 90")
        )


def test_draws_by_their_last_epoch():
    table = tables.tabulate_draws(
        rows(
            "kind seed epoch test_accuracy",
            *("b 2 1 10.0", "b 2 2 90.0", "b 10 2 94.0"),
            *("a 10 2 50.0", "a 2 2 50.0"),
        ),
        "kind",
    )
    assert table.split("\n") == [
        "| kind | seed 2 | seed 10 | mean ± sd |",
        "|---|---:|---:|---:|",
        "| `b` | 90.00 | 94.00 | 92.00 ± 2.83 |",
        "| `a` | 50.00 | 50.00 | 50.00 ± 0.00 |",
    ]


def test_budgets():
    table = tables.tabulate_budgets(
        rows("budget_minutes test_error", "2 1.5", "2 2.5", "40 1.0")
    )
    assert table.split("\n")[2:] == [
        "| 2 | 2 | 2.00 ± 0.71 | 1.50 | 2.50 |",
        "| 40 | 1 | 1.00 | 1.00 | 1.00 |",
    ]


def test_methods_by_numbers_of_labels():
    table = tables.tabulate_labels(
        rows(
            "method labels test_error",
            *("tuned 100 1.0", "tuned 20 3.0", "tuned 20 5.0"),
            *("standalone 20 40.0", "sgan 20 7.0"),
        )
    )
    assert table.split("\n") == [
        "| labels | stand-alone | draws | range | tuned SGAN | draws | range |",
        "|---:|---:|---:|---:|---:|---:|---:|",
        "| 20 | 40.00 | 1 | 40.00 to 40.00 | 4.00 ± 1.41 | 2 | 3.00 to 5.00 |",
        "| 100 |  | 0 |  | 1.00 | 1 | 1.00 to 1.00 |",
    ]


def test_ablations():
    whole = rows("seed test_error step", "1 1.0 900", "2 2.0 1100", "3 9.0 5000")
    without = rows(
        "method seed test_error step",
        *("tuned-without-lines 1 2.0 800", "tuned-without-lines 2 4.0 1200"),
    )
    table = tables.tabulate_ablations(whole, without)
    assert table.split("\n") == [
        "| left out | seed 1 | seed 2 | mean | steps |",
        "|---|---:|---:|---:|---:|",
        "| nothing | 1.00 | 2.00 | 1.50 | 900 to 1,100 |",
        "| lines | 2.00 | 4.00 | 3.00 | 800 to 1,200 |",
    ]
    with pytest.raises(RunError, match="nothing"):
        tables.tabulate_ablations(whole[:1], without)


def test_the_parts_of_a_template(results):
    template = (
        "{{trial|a.csv|setting=none, it's plain|seed=7}}; "
        "{{errors|runs.csv|method=sgan}}; {{error|runs.csv|method=sgan}} "
        "{{value|a.csv|step|seed=8}} {{percent|runs.csv|test_error|seed=2}}\n"
        "{{include|speed.md}}\n"
    )
    assert tables.fill(template, results) == (
        "2.20; 1.50, 4.50; 3.00 ± 2.12 100 4.50\n| one |\n|---|\n| 1 |\n\nµ\n"
    )


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("{{nothing}}", "no such part"),
        ("{{trial}}", "no such part"),
        ("{{budgets|x}}", "no such part"),
        ("{{error|runs.csv|method=other}}", "has no row with method=other"),
        ("{{trial|a.csv|setting=none, it's plain}}", "more than one trial"),
    ],
)
def test_parts_that_are_not_there(part, said, results):
    with pytest.raises(RunError, match=said):
        tables.fill(f"text {part}", results)


# ---------------------------------------------------------------- make_folder.py


def write_fashion(folder, n_classes=10):
    """Write IDX files with 52 training and 2 test images of each class; return x, y."""
    folder.mkdir()
    y = np.arange(52 * n_classes) % n_classes
    x = np.random.default_rng(0).integers(0, 256, (len(y), 8, 8), np.uint8)
    tests = slice(0, 2 * n_classes)
    for name, array in zip(IDX_NAMES, (x, y, x[tests], y[tests]), strict=True):
        (folder / name).write_bytes(idx_bytes(array))
    return x, y


def test_fashion_mnist_as_a_folder_of_pictures(start, tmp_path):
    x, y = write_fashion(tmp_path / "idx")
    script = "results/fashion_folder/make_folder.py"
    done = start(script, tmp_path / "idx", "fashion", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    folder = tmp_path / "fashion"
    for i, name in ((0, "t-shirt"), (9, "ankle boot")):
        pictures = [*(folder / name).iterdir()]
        assert len(pictures) == 50
        for path in pictures:
            assert y[int(path.stem)] == i
            np.testing.assert_array_equal(Image.open(path), x[int(path.stem)])
        assert len([*(folder / "test" / name).iterdir()]) == 2
    data = load.load_arrays(folder)
    assert data.n_classes == 10 and np.count_nonzero(data.train[1] >= 0) == 500
    assert np.count_nonzero(data.train[1] == -1) == 20

    done = start(script, tmp_path / "idx", "fashion", cwd=tmp_path)
    line = "make_folder.py: fashion: holds files already; name a new folder\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    write_fashion(tmp_path / "other", 3)
    done = start(script, tmp_path / "other", "new", cwd=tmp_path)
    assert done.returncode == 2 and "other: not Fashion-MNIST; name" in done.stderr
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------- the tour


@pytest.fixture
def kept(tmp_path):
    """Made-up runs of two scripts of the tour, as keep.py keeps them."""
    for script, seed, figures in (
        ("dcgan", 1, {"judge_fid": 50.0, "feature_error": 6.0}),
        ("dcgan", 2, {"judge_fid": 54.0, "feature_error": 8.0}),
        ("dcgan", 10, {"judge_fid": 52.0, "feature_error": 7.0}),
        ("cgan", 1, {"judge_fid": 0.5, "agreement": 98.25}),
    ):
        folder = tmp_path / "tour" / script / f"seed-{seed}"
        folder.mkdir(parents=True)
        common = {"modes": 10.0, "entropy": 2.2, "sure": 70.0, "total_variation": 1.0}
        common |= {"seconds": 60.0 * seed, "parameters": {"g": 1000, "d": 20}}
        if script == "cgan":
            common |= dict.fromkeys(tables.CLASS_FIGURES, 0.25)
        text = json.dumps(common | figures)
        (folder / "figures.json").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_tours_runs_are_averaged(kept):
    lines = tables.make_table("tour", kept).splitlines()
    assert lines[2] == (
        "| `python tour/dcgan.py` | Radford et al. 2015 | 3 | 1 | 52.0 ± 2.0 | "
        "10.0 ± 0.0 | 2.20 ± 0.00 | 70.0 ± 0.0 | 1.00 ± 0.00 | 1,000 / 20 |"
    )
    assert lines[3].startswith(
        "| `python tour/cgan.py` | Mirza and Osindero 2014 | 1 | 1 | 0.500 |"
    )
    assert len(lines) == 4


def test_the_readme_has_the_tours_figures():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.make_table("tour-front") in readme


def test_each_seed_of_a_scripts_own_figure_is_shown(kept):
    lines = tables.make_table("tour-figures", kept).splitlines()
    assert "| 7.00 ± 1.00 % | 6.00, 8.00, 7.00 |" in lines[2]
    assert "| 98.2 % | 98.2 |" in lines[3]
    (row,) = tables.make_table("tour-classes", kept).splitlines()[2:]
    assert row == "| `tour/cgan.py` | 98.2 | 0.250 | 0.250 | 0.250 | 0.250 | 0.500 |"
    assert tables.fill("{{tour-mean|dcgan|feature_error}}", kept) == "7.00 ± 1.00"


def keep_figures(folder, **figures):
    folder.mkdir(parents=True)
    (folder / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


def test_runs_stand_side_by_side(tmp_path):
    assert tables.make_table("tour-cycle", tmp_path) == "Not recorded yet."
    runs = tmp_path / "tour"
    common = {"judge_fid": 3.0, "back_l1": 5.0, "l1": 9.0}
    keep_figures(runs / "cyclegan" / "seed-1", accuracy=40.0, **common)
    keep_figures(runs / "cyclegan" / "seed-2", accuracy=50.0, **common)
    keep_figures(runs / "pix2pix-outlines" / "seed-1", agreement=97.0, l1=2.0)
    assert tables.make_table("tour-cycle", tmp_path).splitlines()[2:] == [
        "| `tour/cyclegan.py` | 2 | 45.0 ± 7.1 | – | 5.00 ± 0.00 | 3.00 ± 0.00 |",
        "| with pairs: `tour/pix2pix.py --inputs outlines` | 1 | 97.0 | – | 2.00 | – |",
    ]
    paths = {"path_length_z": 200.0, "path_length_w": 90.0, "seconds": 90.0}
    keep_figures(runs / "stylegan" / "seed-1", **paths)
    lines = tables.make_table("tour-paths", tmp_path).splitlines()
    assert lines[2:] == ["| Z | 1 | 200.0 |", "| W | 1 | 90.0 |"]
    keep_figures(runs / "biggan-wide" / "seed-1", step=5000.0, seconds=90.0)
    (line,) = tables.make_table("tour-scale", tmp_path).splitlines()[2:]
    assert line == "| twice the width | 1 | – | – | – | 5,000 | 2 |"


def test_each_recorded_run_is_shown():
    shown = {
        name for places, _ in tables.COMPARISONS.values() for _, name, *_ in places
    }
    assert shown | set(tables.TOUR) == set(EXPERIMENTS)


def test_the_sheets_of_the_tour(kept):
    lines = tables.make_table("tour-sheets", kept).splitlines()
    assert lines[0] == "| `tour/dcgan.py` | `tour/cgan.py` |"
    assert lines[2].count("seed-1/sheet.png") == 2


def test_finished_runs_of_the_tour_are_kept_once(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("keep", ROOT / "results/keep.py")
    keep = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(keep)
    run, kept = tmp_path / "run", tmp_path / "kept"
    run.mkdir()
    with pytest.raises(InputError, match="no finished run of the tour"):
        keep.keep(run, kept)
    described = {"script": "gan", "seed": 3, "n_steps": 20}
    (run / "settings.json").write_text(json.dumps(described), encoding="utf-8")
    for name in ("measures.csv", "figures.json", "history.csv"):
        (run / name).write_text(name, encoding="utf-8")
    for name, level in (("curves", 9), ("generated_plot_0010", 1)):
        Image.new("L", (4, 2), level).save(run / f"{name}.png")
    Image.new("RGB", (4, 2), (200, 20, 2)).save(run / "generated_plot_0020.png")
    out = keep.keep(run, kept)
    assert out == kept / "gan" / "seed-3"
    files = {path.name for path in out.iterdir()}
    assert files == {*keep.FILES, "curves.png", "sheet.png"}
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.convert("RGB").getpixel((0, 0)) == (200, 20, 2)
    with pytest.raises(InputError, match="holds files already"):
        keep.keep(run, kept)
    # tour/run_all.py names runs of a script with other options
    (run / "result.json").write_text('{"run": "gan-other"}', encoding="utf-8")
    assert keep.keep(run, kept) == kept / "gan-other" / "seed-3"
