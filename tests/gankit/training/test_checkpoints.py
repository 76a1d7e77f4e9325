import os

import numpy as np
import pytest

from gankit import command
from gankit.training.checkpoints import (
    checkpoint_paths,
    read_newest,
    restore_newest,
    save_checkpoint,
)


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


def test_each_of_many_variables_is_restored_into_its_own_place(tmp_path):
    save_checkpoint(tmp_path, [Value(i) for i in range(1200)], 1, {})
    variables = [Value(-1) for _ in range(1200)]
    assert restore_newest(tmp_path, variables) == (1, {})
    assert [int(variable.value) for variable in variables] == list(range(1200))


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
        # else it would take the place of a whole one
        assert checkpoint_paths(tmp_path) == [older]
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


def test_reading_the_newest_whole_one_changes_nothing(tmp_path, capsys):
    for step in (1, 2):
        save_checkpoint(tmp_path, [np.full(3, step)], step, {"note": "x"})
    newest = tmp_path / "checkpoint-000002.npz"
    newest.write_bytes(newest.read_bytes()[:-1] + b"!")
    path, step, values, record, damaged = read_newest(tmp_path)
    assert (path.name, step, damaged) == ("checkpoint-000001.npz", 1, [newest])
    assert values[0].tolist() == [1, 1, 1] and record["note"] == "x"
    assert newest.exists() and "passed over" in capsys.readouterr().err
    assert read_newest(tmp_path / "empty") is None
