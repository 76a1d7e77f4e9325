import numpy as np
import pytest

from gankit import command
from gankit.data import labels
from parts import refused


def test_fewer_labels_than_asked_for_are_all_used(capsys):
    y = np.array([1, -1, 0, 1, 2, -1, 1])
    chosen = labels.select_labels(y, 100, 3, class_names=["cat", "dog", "owl"])
    assert chosen.tolist() == [0, 2, 3, 4, 6]
    error = capsys.readouterr().err
    assert error == "All 5 labels are used, there are no more; cat: 1, dog: 3, owl: 1\n"
    labels.select_labels(y, 5, 3)
    assert "; 0: 1, 1: 3, 2: 1\n" in capsys.readouterr().err
    # where it can be, the choice is balanced
    assert sorted(y[labels.select_labels(y, 3, 3)]) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    with pytest.raises(command.InputError, match="evenly among 3"):
        labels.select_labels(y, 4, 3)
    for n_classes, names, message in (
        (4, None, "class 3: has no image with a label"),
        (4, ["cat", "dog", "owl", "fox"], "class fox: has no"),
        (1, None, "all of one class"),
    ):
        with pytest.raises(command.InputError, match=message):
            labels.check_labels(y, 100, n_classes, names)


def test_supervised_samples_follow_the_seed(mnist):
    y = mnist[0][1]

    def draw(seed):
        return labels.select_supervised_indices(y, rng=np.random.default_rng(seed))

    assert draw(1).shape == (100,)
    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (105, "evenly"),
        (0, "evenly"),
        (-10, "evenly"),
        (54220, "5422 images of class 5, and there are 5421"),
    ],
)
def test_labels_that_cannot_be_drawn(mnist, n, message):
    with pytest.raises(command.InputError, match=message):
        labels.select_supervised_indices(mnist[0][1], n)


def test_what_is_said_of_images_without_label():
    y = np.array([-1, 1, 2, 0, -1, 5, -1, -1, -1, -1, -1, 11])
    assert labels.describe_labelled(y) == " (of the 5 images with a label)"
    assert labels.describe_labelled(y[1:4]) == ""


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([-1, -1], "no image has a label: all 2 labels are -1; label some"),
        ([0, 0, -1], "the labels are all of one class"),
        ([7, 7, -1], "the labels are all of one class"),
        ([1, 2, 3, -1], "from 1 to 3, and the first class is 0; subtract 1 from each"),
        ([5, 7, 6], "from 5 to 7, and the first class is 0; subtract 5 from each"),
        ([0, 1, 3], "class 2: has no image with a label; label some, or number the"),
    ],
)
def test_labels_that_do_not_name_every_class(y, message):
    y = np.array(y)
    n_classes = max(1, y.max() + 1)
    for function in (labels.check_labels, labels.select_labels):
        assert message in refused(function, y, 100, n_classes)


def test_no_label_at_all_is_not_blamed_on_a_class():
    line = refused(labels.check_labels, np.full(9, -1), 3, 3, ["cat", "dog", "owl"])
    assert line.startswith("no image has a label: all 9 labels are -1")
    # a class's name says what its number would not
    line = refused(labels.check_labels, np.array([1, 2]), 3, 3, ["cat", "dog", "owl"])
    assert line.startswith("class cat: has no image with a label")


def test_the_draw_of_a_seed():
    """Runs that were started long ago go on with the same labels."""
    y = np.arange(60) % 3
    y[::4] = -1
    rng = np.random.default_rng(7)
    chosen = labels.select_labels(y, 6, 3, rng)
    assert chosen.tolist() == [54, 39, 49, 34, 14, 47] and rng.integers(1000) == 300
