from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "sgan_mnist.ipynb"


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.setenv("FAST", "1")
    monkeypatch.setenv("RUNS", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    client.execute()
    (run,) = tmp_path.glob("*-notebook")
    assert (run / "c_model_0002.keras").exists()
    text = nbformat.writes(notebook)
    assert "Test accuracy after 2 steps" in text and "of the classifier's: 0" in text


def test_what_the_notebook_keeps():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    kinds = {output.get("name", output.output_type) for output in outputs}
    assert kinds <= {"stdout", "display_data", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 6
    assert "Test accuracy after 300 steps" in str(outputs)
    # nothing of the machine that it was made on
    assert str(ROOT) not in str(outputs) and str(Path.home()) not in str(outputs)
    assert "/tmp" not in str(outputs) and "Warning" not in str(outputs)
