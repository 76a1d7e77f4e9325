import json
from types import SimpleNamespace

import metrics
import numpy as np
import pytest
import stacked

from gankit.data.arrays import Data
from parts import fails, refused
from tour_scripts import load_script

pytestmark = pytest.mark.usefixtures("precision")  # sets it back


def grey_data(n=40, n_classes=4, seed=0, **others):
    """Images of one level each, ten times their class."""
    y = np.random.default_rng(seed).permutation(np.arange(n) % n_classes)
    X = np.tile(np.uint8(10 * y)[:, None, None, None], (1, 8, 8, 1))
    return Data(
        **{"train": [X, y], "test": None} | others,
        n_classes=n_classes,
        class_names=None,
    )


def a_run(n_classes=4, measured=100):
    """A StackedRun of such images without a folder."""

    def answer(images):
        found = images[:, 0, 0, 0] // 10
        return None, np.eye(n_classes)[found]

    run = object.__new__(stacked.StackedRun)
    run.border, run.n_classes = (0, 0), n_classes**3
    run.judge = SimpleNamespace(n_classes=n_classes, answer=answer)
    run.real, run.seed = np.zeros((9, 8, 8, 3), np.uint8), 1
    run.settings = SimpleNamespace(measured=measured)
    return run


def test_channels_are_images_of_their_classes():
    data = grey_data()
    found = stacked.stack_data(data, "some")
    X, y = found.train
    assert X.shape == (40, 8, 8, 3) and X.dtype == np.uint8
    assert found.n_classes == 64 and found.class_names is None and found.test is None
    levels = X[:, 0, 0] // 10
    assert np.array_equal(y, levels @ [16, 4, 1])
    for channel in range(3):  # each image is used once in each colour
        counts = np.bincount(levels[:, channel]).tolist()
        assert counts == [10, 10, 10, 10]
    assert len(np.unique(y)) > 20  # at random, not three times the same
    again = stacked.stack_data(data, "some")
    assert np.array_equal(again.train[0], X)


def test_images_without_a_label_are_left_out():
    X, y = grey_data().train
    y = np.where(np.arange(40) < 8, -1, y)
    found = stacked.stack_data(grey_data(train=[X, y], test=[X, y]), "some")
    assert len(found.train[0]) == len(found.test[0]) == 32
    assert found.train[1].min() >= 0


def test_channels_are_measured_one_by_one():
    data = stacked.stack_data(grey_data(), "some")
    run = a_run()
    images = run.inner(data.train[0])
    assert images.shape == (120, 8, 8, 1)
    assert np.array_equal(images[:3, 0, 0, 0], data.train[0][0, 0, 0])
    judged = run.judged(data)
    assert judged.n_classes == 4 and judged.test is None
    assert np.array_equal(judged.train[0], images)
    assert np.array_equal(judged.train[1], images[:, 0, 0, 0] // 10)


def test_combinations_are_counted():
    run, (_, y) = a_run(), stacked.stack_data(grey_data(), "some").train

    def images_of(combinations):
        digits = np.stack(np.unravel_index(combinations, (4, 4, 4)), axis=1)
        return np.tile(np.uint8(10 * digits)[:, None, None], (1, 8, 8, 1))

    def sample(n, rng, labels):
        return images_of(np.arange(n) % 64)

    found = stacked.measure_combinations(sample, [None, y], run)
    assert found["combinations"] == 64
    # of 256 images, four of each combination, as the real ones' shares are
    assert found["combinations_kl"] == pytest.approx(0, abs=1e-12)
    # half the combinations, each twice as often
    found = stacked.measure_combinations(
        lambda n, rng, labels: images_of(np.arange(n) % 32), [None, y], run
    )
    assert found == {"combinations": 32, "combinations_kl": pytest.approx(np.log(2))}
    one = stacked.measure_combinations(
        lambda n, rng, labels: images_of(np.full(n, 5)), [None, y], run
    )
    assert one == {"combinations": 1, "combinations_kl": pytest.approx(np.log(64))}


def test_other_runs_have_no_combinations():
    run = SimpleNamespace(judge=None)
    assert stacked.measure_combinations(None, None, run) == {}
    run = a_run()
    run.judge = None
    assert stacked.measure_combinations(None, None, run) == {}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            grey_data(train=[np.zeros((8, 8, 8, 3), np.uint8), np.zeros(8, int)]),
            "in colour",
        ),
        (grey_data(n=44, n_classes=22), "has 22 classes"),
        (grey_data(train=[np.zeros((8, 8, 8, 1), np.uint8), np.full(8, -1)]), "label"),
    ],
)
def test_what_can_not_be_stacked_is_refused(data, problem):
    line = refused(stacked.stack_data, data, "some.npz")
    assert line.startswith("some.npz: ") and problem in line and "--stacked" in line


def test_a_run_on_stacked_images(small_data, tmp_path, capsys):
    script, out = load_script("progan"), tmp_path / "out"
    options = ["--data", small_data, "--judge", metrics.SHIPPED_JUDGE]
    options += ["--stacked", "--steps", 1, "--batch", 8, "--width", 0.05, "--seed", 1]
    options += ["--latent-dim", 4, "--measured", 20, "--threads", 1, "--verbose", 0]
    options += ["--precision", "float32", "--out", out]
    assert script.main([str(option) for option in options]) == 0
    described = json.loads((out / "settings.json").read_text())
    assert described["n_classes"] == 1000
    assert described["image_shape"] == [32, 32, 3]
    figures = json.loads((out / "figures.json").read_text())
    assert 1 <= figures["combinations"] <= 51 and figures["combinations_kl"] > 0
    assert 1 <= figures["modes"] <= 10 and figures["judge_fid"] > 0
    drawn = ["--sample", str(out), "--n", "4", "--out", str(tmp_path / "drawn")]
    assert script.main(drawn) == 0
    with np.load(tmp_path / "drawn" / "samples.npz") as samples:
        assert samples["x_train"].shape == (4, 28, 28, 3)


def test_colours_of_one_s_own_are_refused(tmp_path, capsys):
    data = tmp_path / "colour.npz"
    np.savez(data, x_train=np.zeros((8, 8, 8, 3), np.uint8), y_train=np.zeros(8, int))
    options = ("--data", data, "--stacked", "--batch", 8, "--out", tmp_path / "out")
    line = fails(load_script("progan"), capsys, *options)
    assert f"{data}: its images are in colour" in line
    assert not (tmp_path / "out").exists()
