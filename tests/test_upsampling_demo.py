import numpy as np
import pytest

import upsampling_demo as demo


def test_upsampling_repeats_rows_and_columns():
    model = demo.define_upsampling_model()
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(demo.enlarge(model), expected)
    assert model.count_params() == 0


def test_upsampling_with_another_factor_a_side():
    output = demo.enlarge(demo.define_upsampling_model(size=(2, 3)))
    expected = [[1, 1, 1, 2, 2, 2]] * 2 + [[3, 3, 3, 4, 4, 4]] * 2
    np.testing.assert_array_equal(output, expected)


def test_bilinear_upsampling_mixes_neighbours():
    output = demo.enlarge(demo.define_upsampling_model(interpolation="bilinear"))
    # output pixel centres lie a quarter and three quarters of the way
    column = np.array([1, 1.25, 1.75, 2])
    np.testing.assert_allclose(output, column + 2 * (column[:, None] - 1))


def test_transposed_convolution_of_one_pixel():
    model = demo.define_transpose_model()
    expected = [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(demo.enlarge(model), expected)
    assert model.count_params() == 2
    unit = demo.enlarge(demo.define_transpose_model(strides=(1, 1)))
    np.testing.assert_array_equal(unit, demo.X)


def test_small_generators():
    upsampling = demo.define_upsampling_generator()
    transposed = demo.define_transpose_generator()
    for model in (upsampling, transposed):
        assert model.count_params() == 324_353
        assert model.output_shape == (None, 10, 10, 1)
        assert model.layers[0].count_params() == 323_200
        assert model.layers[-1].count_params() == 1_153
    valid = demo.define_transpose_generator(padding="valid")
    assert valid.output_shape == (None, 11, 11, 1)


def test_inserting_zeros():
    stuffed = demo.insert_zeros(np.array([[1, 2], [3, 4]]).reshape(1, 2, 2, 1))
    np.testing.assert_array_equal(stuffed[0, ..., 0], [[1, 0, 2], [0, 0, 0], [3, 0, 4]])


@pytest.mark.parametrize(("padding", "side"), [("valid", 11), ("same", 10)])
def test_a_transposed_convolution_is_one_over_the_zero_stuffed_input(padding, side):
    transposed, plain = demo.compare_both_ways(padding)
    assert transposed.shape == plain.shape == (2, side, side, 2)
    assert np.abs(transposed).max() > 1
    np.testing.assert_allclose(transposed, plain, atol=1e-5)


def test_the_script(start, tmp_path):
    # whatever the user's own settings say
    keras_home = tmp_path / "keras"
    keras_home.mkdir()
    settings = '{"image_data_format": "channels_first", "floatx": "float16"}'
    (keras_home / "keras.json").write_text(settings)
    done = start(
        *("upsampling_demo.py", "--out", "new folder"),
        cwd=tmp_path,
        KERAS_HOME=str(keras_home),
    )
    assert done.returncode == 0, done.stderr
    assert "retracing" not in done.stderr
    assert done.stdout.startswith("Input:\n[[1 2]\n [3 4]]\n")
    assert "[[1. 0. 2. 0.]\n [0. 0. 0. 0.]\n [3. 0. 4. 0.]" in done.stdout
    figure = tmp_path / "new folder" / "upsampling_demo.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "new folder").iterdir()) == [figure]
