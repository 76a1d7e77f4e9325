import keras
import numpy as np

import discriminators
import standalone_classifier
from gankit.data import labels, load
from parts import read_csv


def test_the_standalone_classifier_sees_the_labelled_images_alone(small_data):
    X, y = load.load_arrays(small_data).train
    labelled = labels.select_supervised_indices(y, 20, rng=np.random.default_rng(0))
    ends = []
    for others in (0, 255):
        images = np.full_like(X, others)
        images[labelled] = X[labelled]
        keras.utils.set_random_seed(1)
        _, c_model = discriminators.define_stacked_discriminators()
        before = c_model.get_weights()
        accuracy = standalone_classifier.train(
            c_model, [images, y], labelled, 20, np.random.default_rng(2)
        )
        assert 0 <= accuracy <= 100
        ends.append(c_model.get_weights())
    for b, one, two in zip(before, *ends, strict=True):
        assert not np.array_equal(b, one)
        np.testing.assert_array_equal(one, two)


def test_the_standalone_classifier_learns_the_labelled_images(
    start, small_data, tmp_path
):
    done = start(
        *("standalone_classifier.py", "--data", small_data, "--seed", 4),
        *("--steps", 150, "--labels", 20, "--out", "run", "--threads", 1),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (row,) = read_csv(tmp_path / "run" / "accuracy.csv")
    assert float(row["labelled_error"]) == 0 and float(row["test_accuracy"]) > 40
    assert f"Test Accuracy: {row['test_accuracy']}%" in done.stdout
    assert (tmp_path / "run" / "c_model_0150.keras").exists()
