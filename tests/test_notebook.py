from pathlib import Path

import nbclient
import nbformat
import pytest

from tour_scripts import load_script

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "sgan_mnist.ipynb"
TOUR = ROOT / "notebooks" / "tour.ipynb"


def run_fast(path, folder, monkeypatch):
    """Run a notebook from top to bottom in its fast mode; return it."""
    monkeypatch.setenv("FAST", "1")
    monkeypatch.setenv("RUNS", str(folder))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    return notebook


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    notebook = run_fast(NOTEBOOK, tmp_path, monkeypatch)
    (run,) = tmp_path.glob("*-notebook")
    assert (run / "c_model_0002.keras").exists()
    text = nbformat.writes(notebook)
    assert "Test accuracy after 2 steps" in text and "of the classifier's: 0" in text


def test_the_tours_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    notebook = run_fast(TOUR, tmp_path, monkeypatch)
    for name in ("gan", "dcgan", "cgan"):
        (run,) = tmp_path.glob(f"*-tour-{name}")
        assert (run / "g_model_0002.keras").exists()
        assert f"{name}, small: step 2, judge-FID" in str(notebook)
    (drawn,) = tmp_path.glob("*-tour-samples")
    assert (drawn / "samples.png").exists()
    shown = str([cell.get("outputs") for cell in notebook.cells])
    for parent, child, _ in load_script("diffs").LADDER:
        assert f"{parent}.py → {child}.py: " in shown
    assert "+def gradient_penalty(" in shown and "**CGAN-3** " in shown


@pytest.mark.parametrize(
    ("path", "pictures", "line"),
    [
        (NOTEBOOK, 6, "Test accuracy after 300 steps"),
        (TOUR, 10, "cgan, small: step 1500, judge-FID"),
    ],
    ids=lambda value: getattr(value, "stem", None),
)
def test_what_the_notebook_keeps(path, pictures, line):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    kinds = {output.get("name", output.output_type) for output in outputs}
    assert kinds <= {"stdout", "display_data", "execute_result"}
    found = sum("image/png" in output.get("data", {}) for output in outputs)
    assert found >= pictures
    assert line in str(outputs)
    # nothing of the machine that it was made on
    assert str(ROOT) not in str(outputs) and str(Path.home()) not in str(outputs)
    assert "/tmp" not in str(outputs) and "Warning" not in str(outputs)
