import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import discriminators

DIAGRAMS = {
    "discriminator_plot",
    "discriminator1_plot",
    "discriminator2_plot",
    "multioutput_discriminator_plot",
    "stacked_discriminator1_plot",
    "stacked_discriminator2_plot",
}


def references(model):
    return {id(variable) for variable in model.variables}


def test_parameter_counts_and_shapes():
    standard = discriminators.define_standard_discriminator()
    shared_d, shared_c = discriminators.define_shared_discriminators()
    multi = discriminators.define_multi_output_discriminator()
    stacked_d, stacked_c = discriminators.define_stacked_discriminators()
    assert standard.count_params() == 298_497
    assert shared_d.count_params() == 298_497
    assert shared_c.count_params() == 316_938
    assert multi.count_params() == 321_036
    assert stacked_d.count_params() == stacked_c.count_params() == 316_938
    assert standard.output_shape == shared_d.output_shape == (None, 1)
    assert shared_c.output_shape == stacked_c.output_shape == (None, 10)
    assert stacked_d.output_shape == (None, 1)
    assert multi.output_shape == [(None, 1), (None, 11)]


def test_losses_and_optimizers():
    shared = discriminators.define_shared_discriminators()
    stacked = discriminators.define_stacked_discriminators()
    multi = discriminators.define_multi_output_discriminator()
    standard = discriminators.define_standard_discriminator()
    binary, classes = "binary_crossentropy", "sparse_categorical_crossentropy"
    assert standard.loss == shared[0].loss == stacked[0].loss == binary
    assert shared[1].loss == stacked[1].loss == classes
    assert multi.loss == [binary, classes]
    for model in (*shared, *stacked, multi, standard):
        assert isinstance(model.optimizer, keras.optimizers.Adam)
        assert float(model.optimizer.learning_rate) == pytest.approx(0.0002)
        assert model.optimizer.beta_1 == 0.5
    assert shared[0].optimizer is not shared[1].optimizer
    assert stacked[0].optimizer is not stacked[1].optimizer


def test_which_weights_are_shared():
    stacked_d, stacked_c = discriminators.define_stacked_discriminators()
    assert references(stacked_d) == references(stacked_c)
    shared_d, shared_c = discriminators.define_shared_discriminators()
    both = references(shared_d) & references(shared_c)
    trunk = [v for layer in shared_c.layers[:-1] for v in layer.variables]
    assert both == {id(v) for v in trunk}


@pytest.mark.parametrize(
    ("logit", "expected"),
    [
        (-10.0, 0.00013618124143106674),
        (-1.0, 0.5246331135813284),
        (0.0, 0.75),
        (1.0, 0.890768227426964),
        (10.0, 0.9999848669190928),
    ],
)
def test_custom_activation_gives_the_published_values(logit, expected):
    value = discriminators.custom_activation(np.full((1, 3), logit))
    assert value.shape == (1, 1)
    assert float(value[0, 0]) == pytest.approx(expected, rel=1e-14)


def test_custom_activation_is_stable():
    logits = np.linspace(-1000, 1000, 41, dtype="float32")[:, None] + np.float32(
        [0.0, -0.5, 0.25]
    )
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = discriminators.custom_activation(x)
    gradient = tape.gradient(y, x).numpy()
    # float64, with both factors written so that nothing overflows
    log_z = np.logaddexp.reduce(logits.astype("float64"), axis=-1, keepdims=True)
    real = np.exp(-np.logaddexp(0, -log_z))
    generated = np.exp(-np.logaddexp(0, log_z))
    np.testing.assert_allclose(y, real, rtol=2e-6, atol=1e-37)
    np.testing.assert_allclose(
        gradient, real * generated * np.exp(logits - log_z), rtol=1e-4, atol=1e-7
    )


def test_a_discriminator_that_is_sure_and_wrong_still_learns():
    d_model, _ = discriminators.define_stacked_discriminators()
    head = d_model.layers[-2]
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias + 100])
    with tf.GradientTape() as tape:
        prediction = d_model(np.zeros((4, 28, 28, 1), "float32"))
        loss = keras.losses.BinaryCrossentropy()(tf.zeros((4, 1)), prediction)
    gradient = tape.gradient(loss, head.bias)
    assert float(loss) == pytest.approx(100 + np.log(10), rel=1e-5)
    np.testing.assert_allclose(gradient, 0.1, rtol=1e-4)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_unsupervised_model_reloads_under_safe_mode(tmp_path, suffix):
    d_model, _ = discriminators.define_stacked_discriminators()
    path = tmp_path / f"d_model.{suffix}"
    d_model.save(path)
    reloaded = keras.saving.load_model(path, safe_mode=True)
    X = np.random.default_rng(0).uniform(-1, 1, (5, 28, 28, 1)).astype("float32")
    np.testing.assert_array_equal(
        reloaded.predict_on_batch(X), d_model.predict_on_batch(X)
    )


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's dot")
def test_the_script_prints_the_values_and_writes_every_diagram(start, tmp_path):
    done = start("discriminators.py", "--out", "new/folder", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    values = [float(line) for line in done.stdout.splitlines()[:5]]
    expected = [0.000136181241431067, 0.524633113581328, 0.75, 0.890768227426964]
    assert values == [*expected, 0.999984866919093]
    for count in ("298,497", "316,938", "321,036"):
        assert f"Total params: {count}" in done.stdout
    written = {path.name for path in (tmp_path / "new/folder").iterdir()}
    assert written == {f"{name}.png" for name in DIAGRAMS}
    for path in (tmp_path / "new/folder").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_without_dot_the_diagrams_are_written_as_text(start, tmp_path):
    done = start("discriminators.py", cwd=tmp_path, PATH="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is not installed") == 1
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {f"{name}.dot" for name in DIAGRAMS}
    text = (tmp_path / "stacked_discriminator1_plot.dot").read_text()
    assert text.startswith("digraph") and "CustomActivation" in text


def test_without_pydot_the_summaries_are_written(monkeypatch, tmp_path, capsys):
    find_spec = discriminators.importlib.util.find_spec
    monkeypatch.setattr(
        discriminators.importlib.util,
        "find_spec",
        lambda name: None if name == "pydot" else find_spec(name),
    )
    assert discriminators.main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("pydot is not installed") == 1
    assert {path.name for path in tmp_path.iterdir()} == {f"{n}.txt" for n in DIAGRAMS}
    text = (tmp_path / "multioutput_discriminator_plot.txt").read_text()
    assert "Total params: 321,036" in text


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert discriminators.main(["--out", str(tmp_path / "file" / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "can't be written" in error
