import zipfile

import h5py
import keras
import numpy as np
import pytest

import discriminators
import load_classifier
import sgan_mnist
from gankit import command
from gankit.data import arrays
from gankit.models import classify, files


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
        '["\u00e9", "e\u0301"]',
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


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_names_in_a_model_file_are_compared_in_their_normal_form(suffix, tmp_path):
    _, c_model = discriminators.define_stacked_discriminators((8, 8, 1), 2)
    path = tmp_path / f"model{suffix}"
    # as some systems write the names of folders
    files.save_model(c_model, path, ["e\u0301te\u0301", "hiver"])
    names = files.matching_names(path, c_model)
    assert names == ["\u00e9t\u00e9", "hiver"]
    x, y = np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1])
    data = arrays.Data((x, y), None, 2, names)
    classify.check_fit(path, c_model, names, data)


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
