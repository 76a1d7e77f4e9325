"""Kinds of mistakes that classifiers share."""

import numpy as np
from PIL import Image

from gankit.training import blocks
from parts import read_csv


def draw_images():
    """80 images: class 0 with ink at the left, class 1 with a bar above or below."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 40, (80, 12, 12, 1), np.uint8)
    X[:20, :, :4] += 200
    X[20:50, :4] += 200
    X[50:, 8:] += 200
    return X, np.repeat([0, 1], [20, 60])


def test_mistakes_are_divided_by_class_answer_and_looks():
    X, y = draw_images()
    answers = np.tile(y, (3, 1))
    answers[:, 50:80] = 2  # a block that all three lose
    answers[1, 20:50] = 2  # one that the second loses
    answers[0, :10] = 1
    answers[2, 10:14] = 2  # too few
    answers[2, 14:17] = 1
    kinds = blocks.find_kinds(X, y, answers)
    assert [(kind.label, kind.answer) for kind in kinds] == [(1, 2), (1, 2), (0, 1)]
    assert [set(kind.images) for kind in kinds] == [
        set(range(50, 80)),
        set(range(20, 50)),
        {*range(10), 14, 15, 16},
    ]
    counts = [kind.wrong.sum(axis=1).tolist() for kind in kinds]
    assert counts == [[30, 30, 30], [0, 30, 0], [10, 0, 3]]


def test_images_that_most_get_wrong_come_first_and_unlabelled_ones_are_left_out():
    X, y = draw_images()
    y[0] = -1
    answers = np.tile(y, (4, 1))
    answers[:, 0] = 1
    answers[0, 1:11] = 1
    answers[1:3, 7] = answers[3, 4] = 1
    (kind,) = blocks.find_kinds(X, y, answers)
    assert kind.images.tolist() == [7, 4, 1, 2, 3, 5, 6, 8, 9, 10]
    assert kind.wrong.sum(axis=0).tolist() == [3, 2, 1, 1, 1, 1, 1, 1, 1, 1]


def test_no_mistakes_have_no_kinds(tmp_path):
    X, y = draw_images()
    assert blocks.find_kinds(X, y, np.tile(y, (2, 1))) == []
    table = blocks.save_kinds([], X, ["a", "b"], ["t"], ["r"], tmp_path)
    assert len(table.splitlines()) == 2


def test_the_table_has_a_column_a_trial(tmp_path):
    X, _ = draw_images()
    wrong = np.zeros((3, 5), bool)
    wrong[0, :4] = wrong[1, 0] = wrong[2] = True
    kind = blocks.Kind(1, 0, np.arange(20, 25), wrong)
    trials, runs = ["new", "old", "new"], ["new-1", "old-1", "new-2"]
    names = ["a one", "a two"]
    table = blocks.save_kinds([kind], X, names, trials, runs, tmp_path)
    assert table == (tmp_path / "blocks.md").read_text(encoding="utf-8")
    assert table.splitlines()[::2] == [
        "| kind | class | taken for | images | new | old |",
        "| 1 | a two | a one | 5 | 4.5 (4 to 5) | 1.0 (1 to 1) |",
    ]
    rows = read_csv(tmp_path / "blocks.csv")
    assert [(row["run"], row["wrong"]) for row in rows] == [
        ("new-1", "4"),
        ("old-1", "1"),
        ("new-2", "5"),
    ]
    with Image.open(tmp_path / "kind_01.png") as sheet:
        assert sheet.size == (2 * 20 * 12, 2 * 12)
        # grey is reversed
        assert sheet.getpixel((0, 0)) < 60 < 200 < sheet.getpixel((0, 20))
