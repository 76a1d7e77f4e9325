import keras
import numpy as np
import pytest
from keras import layers

import discriminators
from gankit.data import images
from gankit.models import classify


class Model:
    """Keeps the sizes of its batches; says class 3 of all."""

    def __init__(self):
        self.batches = []

    def predict_on_batch(self, batch):
        self.batches.append(len(batch))
        return np.eye(10)[[3] * len(batch)]


def test_the_class_unknown_is_never_the_answer():
    class Model:
        def predict_on_batch(self, batch):
            return np.eye(11)[[10, 3]] * 0.9 + 0.01 * np.arange(11)

    X = np.zeros((2, 28, 28, 1), np.float32)
    assert classify.class_probabilities(Model(), X).argmax(axis=-1).tolist() == [9, 3]


def test_images_of_bytes_are_scaled_as_float_images_are(mnist):
    (x, _), _ = mnist
    x = x[:1001]

    class Model:
        def predict_on_batch(self, batch):
            assert batch.dtype == np.float32 and len(batch) <= 500
            return batch.reshape(len(batch), -1)[:, 300:311]

    expected = images.scale_images(x).reshape(1001, -1)[:, 300:310]
    for X in (x, images.scale_images(x)):
        probabilities = classify.class_probabilities(Model(), X)
        np.testing.assert_array_equal(probabilities, expected)


def test_accuracy_is_of_the_labelled_images():
    class Model:
        def predict_on_batch(self, batch):
            return np.eye(12)[batch[:, 0, 0, 0].astype(int)]

    X = np.arange(12, dtype=np.float32).reshape(12, 1, 1, 1)
    y = np.array([-1, 1, 2, 0, -1, 5, -1, -1, -1, -1, -1, 11])
    assert classify.measure_accuracy(Model(), X, y, n_classes=12) == 80


@pytest.mark.parametrize(
    ("shape", "n", "batches"),
    [
        ((8, 8, 1), 1001, [500, 500, 1]),
        ((28, 28, 1), 1001, [500, 500, 1]),
        ((56, 56, 3), 126, [125, 1]),
        ((96, 96, 3), 100, [42, 42, 16]),
        ((512, 512, 3), 3, [1, 1, 1]),
        ((2048, 2048, 1), 2, [1, 1]),
    ],
)
def test_batches_are_bounded(shape, n, batches):
    """500 of MNIST's images at once, and no more pixels than these have."""
    X = np.broadcast_to(np.uint8(0), (n, *shape))
    model = Model()
    assert classify.class_probabilities(model, X).shape == (n, 10)
    assert sorted(model.batches, reverse=True) == batches
    model = Model()
    y = np.arange(n) % 10
    y[::2] = -1
    accuracy = classify.measure_accuracy(model, X, y)
    assert accuracy == pytest.approx(100 * np.mean(y[y >= 0] == 3))
    assert max(model.batches) <= max(batches) and sum(model.batches) == n // 2


def test_classes_are_counted():
    d_and_c = {
        "stacked": discriminators.define_stacked_discriminators(n_classes=11),
        "shared": discriminators.define_shared_discriminators(n_classes=11),
    }
    for _, c_model in d_and_c.values():
        assert classify.count_classes(c_model) == 11

    def model(n_outputs, **options):
        image = keras.Input((2, 2, 1))
        answer = layers.Dense(n_outputs, **options)(layers.Flatten()(image))
        return keras.Model(image, answer)

    assert classify.count_classes(model(6, name=classify.UNKNOWN)) == 5
    assert classify.count_classes(model(11, name=classify.CLASSES)) == 11
    # that of a layer without a name of its own is a guess
    assert classify.count_classes(model(11)) == 10
    assert classify.count_classes(model(10)) == 10
