"""Which changes of images are chosen for a data set."""

import numpy as np
import pytest

from gankit.data.arrays import Data
from gankit.training import augmentation
from gankit.training.choose_changes import choose_changes, compare_mirrored


def data_of(X, y, names=None):
    return Data([X, y], None, 10, names)


@pytest.fixture
def digits(mnist):
    (X, y), _ = mnist
    return data_of(X[:600], y[:600])


def is_mirrored(changes):
    return changes.draw.keywords["mirrored"]


def test_the_bundled_digits_have_changes_of_digits(digits, capsys):
    assert choose_changes("auto", digits, True) is augmentation.DIGITS
    assert capsys.readouterr().out == ""


def test_digits_are_known_by_their_labels(digits, capsys):
    assert choose_changes("auto", digits, False) is augmentation.DIGITS
    printed = capsys.readouterr().out
    assert printed.startswith("Changes of images: of digits (")
    assert printed.endswith("% of the labelled images are read as digits)\n")
    X, y = digits.train
    # few labels are enough
    few = np.where(np.arange(600) < 40, y, -1)
    assert choose_changes("auto", data_of(X, few), False) is augmentation.DIGITS
    # other labels, no labels, names: other things
    for other in (data_of(X, (y + 3) % 10), data_of(X, np.full(600, -1))):
        assert choose_changes("auto", other, False) is not augmentation.DIGITS
    assert choose_changes("auto", data_of(X, y, list("0123456789")), False).name == (
        "digits"
    )
    named = data_of(X, y, [f"thing {i}" for i in range(10)])
    assert choose_changes("auto", named, False) is not augmentation.DIGITS
    assert "general, not mirrored\n" in capsys.readouterr().out


def test_images_are_mirrored_where_mirrored_ones_look_like_others(digits, capsys):
    X, y = digits.train
    assert compare_mirrored(X) > 1.25
    assert not is_mirrored(choose_changes("general", digits, False))
    # each digit and its mirror image in one
    both = np.maximum(X, X[:, :, ::-1])
    assert compare_mirrored(both) < 1.1
    changes = choose_changes("auto", data_of(both, y), False)
    assert is_mirrored(changes)
    assert "general, mirrored" in capsys.readouterr().out
    assert changes.draw.keywords["side"] == 28


def test_what_is_asked_for_is_taken(digits):
    assert choose_changes("none", digits, True) is augmentation.NONE
    assert choose_changes("general", digits, True).apply is augmentation.change_general
    X = np.zeros((9, 8, 8, 3), np.uint8)
    assert choose_changes("digits", data_of(X, None), False) is augmentation.DIGITS
    # of few images it can't be told
    assert not is_mirrored(choose_changes("auto", data_of(X, np.zeros(9, int)), False))
