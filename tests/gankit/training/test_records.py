import numpy as np
import pytest

from gankit.command import RunError
from gankit.training.records import (
    DivergedError,
    Records,
    check_finite,
    evaluation_row,
    read_evaluation,
    writing_to,
)
from parts import read_csv

ROWS = [[1.0, 4, 50.0, None, 12.34], [1.5, 6, 100 / 3, 0.25, 20.0]]
# what checkpoints held before, and accuracy.csv holds
TEXTS = [["1", "4", "50.000", "", "12.3"], ["1.5", "6", "33.333", "0.250", "20.0"]]


def begun(folder, history=(), accuracy=()):
    records = Records(folder, ("loss", "other"), ("fid", "error"))
    records.begin(history, accuracy)
    return records


def test_tables_have_the_columns_that_are_declared(tmp_path):
    begun(tmp_path)
    assert (tmp_path / "history.csv").read_text() == "step,loss,other\n"
    assert (tmp_path / "accuracy.csv").read_text() == "epoch,step,fid,error,seconds\n"


def test_a_float32_is_told_exactly(tmp_path):
    figures = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
    records = begun(tmp_path)
    for part in (figures[:1], figures[1:30], figures[30:]):
        records.add_steps(part)
    rows = read_csv(tmp_path / "history.csv")
    assert [row["step"] for row in rows] == [str(n) for n in range(1, 51)]
    read = np.float32([[row["loss"], row["other"]] for row in rows])
    np.testing.assert_array_equal(read, figures)
    np.testing.assert_array_equal(records.history, figures)


def test_a_resumed_run_begins_with_its_tables(tmp_path):
    history = np.float32([[1, 2], [3, 4]])
    (tmp_path / "history.csv").write_text("step,loss\n9,1\n")
    (tmp_path / "finished").write_text("2\n")
    records = begun(tmp_path, history, ROWS)
    assert not (tmp_path / "finished").exists()
    assert (tmp_path / "history.csv").read_text() == "step,loss,other\n1,1,2\n2,3,4\n"
    records.add_steps(np.float32([[5, 6]]))
    records.add_evaluation(2.0, 8, (None, 1), 30)
    assert (tmp_path / "history.csv").read_text().endswith("\n3,5,6\n")
    table = (tmp_path / "accuracy.csv").read_text().splitlines()[1:]
    assert table == [",".join(row) for row in TEXTS] + ["2,8,,1.000,30.0"]


def test_figures_are_numbers_until_they_are_written(tmp_path):
    records = begun(tmp_path)
    records.add_evaluation(*ROWS[1][:2], tuple(ROWS[1][2:4]), ROWS[1][4])
    assert records.accuracy == [ROWS[1]]


def test_rows_of_older_checkpoints_are_read():
    assert [evaluation_row(row)[1:] for row in ROWS] == [
        [int(row[1]), *row[2:]] for row in TEXTS
    ]
    read = [read_evaluation(row) for row in TEXTS]
    assert read == [[1.0, 4, 50.0, None, 12.3], [1.5, 6, 33.333, 0.25, 20.0]]
    assert [[str(text) for text in evaluation_row(row)] for row in read] == TEXTS
    assert all(type(row[1]) is int for row in read)
    assert [read_evaluation(row) for row in ROWS] == ROWS
    # a run that counts no epochs
    assert read_evaluation(["", "9", "1.000", "2.000", "3.0"])[:2] == [None, 9]
    assert evaluation_row([None, 9, 1, 2, 3])[:2] == ["", 9]


def test_a_small_figure_keeps_three_digits():
    row = [1, 1, 0.01234, -0.0004567, 0.0, 0.1234, 0]
    assert evaluation_row(row)[2:-1] == ["0.0123", "-0.000457", "0.000", "0.123"]


def test_the_finished_run_says_its_step(tmp_path):
    begun(tmp_path).finish(1234)
    assert (tmp_path / "finished").read_text() == "1234\n"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(value):
    check_finite(7, np.float32([0, 1e38]), ("a", "b"))
    with pytest.raises(DivergedError, match=f"^step 7: b is {value}; stopped"):
        check_finite(7, np.float32([0, value]), ("a", "b"))
    with pytest.raises(ValueError, match="zip"):
        check_finite(7, np.float32([0, 1]), ("a",))


def test_a_failed_write_is_one_line(tmp_path):
    with pytest.raises(RunError) as caught, writing_to(tmp_path, "Make room"):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == (
        f"{tmp_path}: can't be written (No space left on device); what was saved is "
        "kept. Make room"
    )
    # of stdout, not of a file
    with pytest.raises(BrokenPipeError), writing_to(tmp_path):
        raise BrokenPipeError(32, "Broken pipe")
