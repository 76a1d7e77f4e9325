"""What of Keras's own settings reaches the networks: nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = """
import discriminators
model = discriminators.define_standard_discriminator()
"""
TELL = """
import json
import os
import keras
print(json.dumps({
    "parameters": model.count_params(),
    "policy": model.layers[1].dtype_policy.name,
    "format": keras.config.image_data_format(),
    "epsilon": keras.config.epsilon(),
    "floatx": keras.config.floatx(),
    "backend": keras.config.backend(),
    "epochs": keras.config.max_epochs(),
    "steps": keras.config.max_steps_per_epoch(),
    "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
    "precision": [name for name in os.environ if "FPMATH" in name],
}))
"""
OURS = {
    "parameters": 298_497,
    "policy": "float32",
    "format": "channels_last",
    "epsilon": 1e-7,
    "floatx": "float32",
    "backend": "tensorflow",
    "epochs": None,
    "steps": None,
    "onednn": "0",
    "precision": [],
}


@pytest.fixture
def run_code(tmp_path):
    """Run Python code in a process whose Keras has these settings."""

    def run(code, settings, **environment):
        home = tmp_path / "keras"
        home.mkdir(exist_ok=True)
        text = settings if isinstance(settings, str) else json.dumps(settings)
        (home / "keras.json").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={
                **os.environ,
                "KERAS_HOME": str(home),
                "TF_ENABLE_ONEDNN_OPTS": "0",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        # the user's own file is left alone
        assert (home / "keras.json").read_text(encoding="utf-8") == text
        return done

    return run


@pytest.mark.parametrize(
    ("first", "settings", "environment"),
    [
        (
            "",
            {
                "image_data_format": "channels_first",
                "floatx": "float16",
                "epsilon": 0.01,
                "backend": "torch",
                "nnx_enabled": True,
            },
            {
                "KERAS_BACKEND": "jax",
                "KERAS_NNX_ENABLED": "true",
                "KERAS_MAX_EPOCHS": "many",
                "KERAS_MAX_STEPS_PER_EPOCH": "3",
                "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
                "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
            },
        ),
        # another handle is used first
        (
            "from gankit.backend import tf; tf.constant(1)",
            {"floatx": "float64", "image_data_format": "channels_first"},
            {"KERAS_BACKEND": "jax"},
        ),
        ("from gankit.backend import layers; layers.Dense", {"backend": "jax"}, {}),
        # the user's own code was there before
        (
            "import keras; keras.layers.Dense(2)",
            {"image_data_format": "channels_first", "floatx": "float16"},
            {"KERAS_MAX_EPOCHS": "2", "KERAS_MAX_STEPS_PER_EPOCH": "3"},
        ),
    ],
)
def test_settings_of_keras_change_no_network(first, settings, environment, run_code):
    done = run_code(f"{first}{BUILD}{TELL}", settings, **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == OURS


def test_a_policy_that_code_has_set_is_kept(run_code):
    first = "import keras; keras.config.set_dtype_policy('mixed_bfloat16')"
    done = run_code(f"{first}{BUILD}{TELL}", {"floatx": "float16"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {**OURS, "policy": "mixed_bfloat16"}


@pytest.mark.parametrize("settings", [{"epsilon": 1}, [], {"floatx": []}])
def test_broken_settings_of_keras_are_one_line(settings, run_code):
    code = """
import sys
from gankit.backend import keras
from gankit.command import run_script
sys.exit(run_script("a.py", lambda: keras.Input))
"""
    done = run_code(code, settings)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("a.py: ") and "keras.json: Keras can't be imported" in line
    assert "Traceback" not in done.stderr


def test_keras_on_another_backend_is_refused(monkeypatch):
    from gankit import backend
    from gankit.command import InputError

    class Config:
        @staticmethod
        def backend():
            return "jax"

    monkeypatch.setitem(sys.modules, "keras", type("keras", (), {"config": Config}))
    with pytest.raises(InputError, match="runs on jax here.*KERAS_BACKEND=tensorflow"):
        backend.prepare_keras.__wrapped__()


@pytest.mark.parametrize(
    ("machine", "given", "chosen"),
    [
        ("x86_64", None, "1"),
        ("AMD64", None, "1"),
        ("x86_64", "0", "0"),
        ("arm64", None, None),
    ],
)
@pytest.mark.parametrize("handle", ["keras", "layers", "tf"])
def test_onednn_is_chosen_before_tensorflow_is_imported(
    machine, given, chosen, handle, monkeypatch
):
    from gankit import backend

    class Imported(Exception):
        pass

    def imported(name):
        raise Imported(os.environ.get(variable))

    variable = "TF_ENABLE_ONEDNN_OPTS"
    monkeypatch.setattr(backend.platform, "machine", lambda: machine)
    monkeypatch.setattr(backend.importlib, "import_module", imported)
    backend.prepare_keras.cache_clear()
    if given is None:
        monkeypatch.delenv(variable, raising=False)
    else:
        monkeypatch.setenv(variable, given)
    try:
        with pytest.raises(Imported) as caught:
            getattr(backend, handle).attribute  # noqa: B018
    finally:
        monkeypatch.undo()
        backend.prepare_keras()
    assert caught.value.args == (chosen,)


@pytest.mark.parametrize(
    ("given", "taken", "first"),
    [
        ("Qt4Agg", False, ""),
        ("Qt4Agg", False, "from gankit.backend import keras; keras.Input"),
        ("svg", True, ""),
        ("module://my.own", True, ""),
    ],
)
def test_a_backend_that_matplotlib_lacks_stops_no_figure(given, taken, first, run_code):
    code = f"""
import os
{first}
from gankit.backend import figure
figure.Figure().savefig(os.devnull, format="png")
import matplotlib
name = os.environ["MPLBACKEND"]
print(name, matplotlib.rcParams["backend"] == name)
"""
    done = run_code(code, {}, MPLBACKEND=given)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{given} {taken}\n"
    assert first or not done.stderr  # TensorFlow writes lines of its own


@pytest.mark.parametrize("handle", ["keras.Input", "tf.constant", "figure.Figure"])
def test_a_matplotlibrc_that_is_no_text_is_named(handle, run_code, tmp_path):
    path = tmp_path / "matplotlibrc"
    path.write_bytes("font.family: Café".encode("latin-1"))
    code = f"""
import sys
from gankit.backend import figure, keras, tf
from gankit.command import run_script
sys.exit(run_script("a.py", lambda: {handle}))
"""
    done = run_code(code, {}, MATPLOTLIBRC=str(path), MPLBACKEND="agg")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"a.py: {path}: Matplotlib can't be imported with it, which")
