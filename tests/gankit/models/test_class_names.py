import zipfile

import h5py
import keras
import numpy as np
import pytest

import discriminators
import load_classifier
import sgan_mnist
from gankit import command
from gankit.data import images
from gankit.models import classify, files


def test_accuracy_is_of_the_labelled_images():
    class Model:
        def predict_on_batch(self, batch):
            return np.eye(12)[batch[:, 0, 0, 0].astype(int)]

    X = np.arange(12, dtype=np.float32).reshape(12, 1, 1, 1)
    y = np.array([-1, 1, 2, 0, -1, 5, -1, -1, -1, -1, -1, 11])
    assert classify.measure_accuracy(Model(), X, y, n_classes=12) == 80


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


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_class_names_in_a_model_file(suffix, tmp_path):
    _, model = discriminators.define_stacked_discriminators((8, 8, 1), 3)
    path = tmp_path / f"model{suffix}"
    files.save_model(model, path)
    assert files.read_class_names(path) is None
    names = ["cat", "dög", "犬"]
    files.save_model(model, path, names)
    assert files.read_class_names(path) == names
    loaded = keras.saving.load_model(path, compile=False)
    X = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict_on_batch(X), model.predict_on_batch(X))
    for text in (
        "no JSON",
        '{"a": 1}',
        "[]",
        "[1, 2]",
        '["a", "a"]',
        '["\\n", "b"]',
        '["' + "x" * 60_000 + '"]',
        "[" * 50_000,
    ):
        if suffix == ".h5":
            with h5py.File(path, "w") as file:
                # too long for an attribute as it stands by default
                file.attrs.create(
                    "class_names", text[:60_001], dtype=h5py.string_dtype()
                )
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("class_names.json", text)
        with pytest.raises(command.InputError, match="its class names can't be read"):
            files.read_class_names(path)
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.attrs["class_names"] = ["cat", "dog"]
        with pytest.raises(command.InputError, match="not one text"):
            files.read_class_names(path)
    path.write_bytes(b"neither archive nor HDF5")
    with pytest.raises(command.InputError, match="its class names can't be read"):
        files.read_class_names(path)


@pytest.mark.parametrize("design", ["stacked", "shared", "multi-output"])
def test_the_number_of_classes_of_a_classifier(design, tmp_path):
    for n_classes in (2, 10, 11):
        d_model, c_model = sgan_mnist.define_discriminator(
            (8, 8, 3), n_classes, design=design
        )
        path = tmp_path / "c_model.keras"
        c_model.save(path)
        loaded = load_classifier.load_classifier(path)
        for model in (c_model, loaded):
            assert classify.count_classes(model) == n_classes
        assert loaded.output_shape[1] == n_classes + (design == "multi-output")
        assert loaded.input_shape == (None, 8, 8, 3)


def test_classifiers_whose_layers_have_no_names():
    in_image = keras.Input((28, 28, 1))
    features = keras.layers.Flatten()(in_image)
    for n_outputs, n_classes in ((10, 10), (11, 10), (12, 12)):
        out_layer = keras.layers.Dense(n_outputs, activation="softmax")(features)
        model = keras.Model(in_image, out_layer)
        assert classify.count_classes(model) == n_classes
