"""What a reader of the tutorial finds, and what a reader of both scripts compares."""

import ast
import importlib
import inspect
import shutil
import subprocess

import pytest

import sgan_mnist
import sgan_tuned
from conftest import ROOT

SCRIPTS = sgan_mnist, sgan_tuned
SHAPE = "in_shape=(28, 28, 1)"

# the tutorial's functions as it calls them; 'name=value' has this default
TUTORIAL = [
    ("discriminators", "define_standard_discriminator", [SHAPE]),
    ("discriminators", "define_shared_discriminators", [SHAPE, "n_classes=10"]),
    ("discriminators", "define_multi_output_discriminator", [SHAPE, "n_classes=10"]),
    ("discriminators", "define_stacked_discriminators", [SHAPE, "n_classes=10"]),
    ("discriminators", "custom_activation", ["logits"]),
    ("sgan_mnist", "define_discriminator", [SHAPE, "n_classes=10"]),
    ("sgan_mnist", "define_generator", ["latent_dim"]),
    ("sgan_mnist", "define_gan", ["g_model", "d_model"]),
    ("helpers", "load_real_samples", []),
    (
        "helpers",
        "select_supervised_samples",
        ["dataset", "n_samples=100", "n_classes=10"],
    ),
    ("helpers", "generate_real_samples", ["dataset", "n_samples"]),
    ("helpers", "generate_latent_points", ["latent_dim", "n_samples"]),
    ("helpers", "generate_fake_samples", ["generator", "latent_dim", "n_samples"]),
    (
        "sgan_mnist",
        "summarize_performance",
        ["step", "g_model", "c_model", "latent_dim", "dataset", "n_samples=100"],
    ),
    (
        "sgan_mnist",
        "train",
        ["g_model", "d_model", "c_model", "gan_model", "dataset", "latent_dim"]
        + ["n_epochs=20", "n_batch=100"],
    ),
    ("load_classifier", "main", []),
]


def parameters_of(function):
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    TUTORIAL,
    ids=[f"{module}.{name}" for module, name, _ in TUTORIAL],
)
def test_the_tutorials_functions_are_called_as_it_calls_them(module, name, expected):
    function = getattr(importlib.import_module(module), name)
    parameters = parameters_of(function)
    leading, added = parameters[: len(expected)], parameters[len(expected) :]
    texts = [
        p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in leading
    ]
    assert texts == expected
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in leading)
    assert all(p.default is not p.empty for p in added)


def test_train_takes_at_most_three_arguments_more():
    assert len(parameters_of(sgan_mnist.train)) <= 8 + 3


def names_of(script):
    """The names that a script's top level defines, in order."""
    tree = ast.parse((ROOT / f"{script.__name__}.py").read_text(encoding="utf-8"))
    names = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                elements = getattr(target, "elts", [target])
                names += [element.id for element in elements]
    return names


def test_both_scripts_have_the_same_names_in_the_same_order():
    tutorials, tuned = map(names_of, SCRIPTS)
    common = [name for name in tutorials if name in tuned]
    assert common == [name for name in tuned if name in tutorials]
    # the tuned script takes this one from the tutorial's
    assert set(tutorials) - set(common) == {"summarize_performance"}
    assert sgan_tuned.summarize_performance is sgan_mnist.summarize_performance
    for name in ("train", "define_draw", "define_train_step"):
        assert name in common


def test_what_both_scripts_have_takes_the_same_arguments():
    for name in names_of(sgan_mnist):
        functions = [getattr(script, name) for script in SCRIPTS]
        if all(map(inspect.isfunction, functions)):
            ours, tuned = ([p.name for p in parameters_of(f)] for f in functions)
            n = min(len(ours), len(tuned))
            assert ours[:n] == tuned[:n], name


@pytest.mark.skipif(shutil.which("diff") is None, reason="there is no program `diff`")
def test_the_difference_of_both_scripts_is_short():
    paths = [ROOT / f"{script.__name__}.py" for script in SCRIPTS]
    done = subprocess.run(["diff", *paths], capture_output=True, encoding="utf-8")
    changed = [line for line in done.stdout.splitlines() if line[0] in "<>"]
    assert done.returncode == 1 and 0 < len(changed) <= 380


@pytest.mark.parametrize(
    ("name", "most"), [("sgan_mnist.py", 320), ("helpers.py", 140)]
)
def test_what_is_read_beside_the_tutorial_is_short(name, most):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count("\n") <= most
