"""The diff of two scripts is documentation: it holds what is new, and no more."""

import ast

import diffs
import pytest

from tour_scripts import SCRIPTS, TOUR

# child -> changed lines of code at the most, and the functions that it shares with its
# parent to the letter
NETWORKS = ["start_weights", "normalize"]
BUDGETS = {
    "dcgan": (120, []),
    "cgan": (76, [*NETWORKS, "define_optimizer", "describe_step"]),
    "acgan": (
        59,
        [*NETWORKS, "define_optimizer", "define_generator", "define_draw"]
        + ["define_sample", "define_models"],
    ),
    "stackgan": (382, [*NETWORKS, "define_optimizer"]),
    "infogan": (176, NETWORKS),
    "context_encoder": (214, NETWORKS),
    "cyclegan": (
        324,
        ["start_weights", "define_optimizer", "receptive_field", "count_layers"],
    ),
    "wgan": (107, [*NETWORKS, "define_generator"]),
    "pix2pix": (304, NETWORKS),
    "biggan": (344, []),
    "wgan_gp": (
        58,
        [*NETWORKS, "define_generator", "wasserstein_loss", "define_sample"]
        + ["define_models"],
    ),
    "progan": (339, ["wasserstein_loss", "gradient_penalty", "define_sample"]),
    "stylegan": (
        360,
        ["check_groups", "list_sizes", "count_maps", "fading", "fade", "pixel_norm"]
        + ["minibatch_stddev", "shrink", "define_optimizer", "grown", "define_critics"]
        + ["growth_at", "list_starts", "set_growth", "reset_optimizer"]
        + ["describe_step", "define_models"],
    ),
}


def functions_of(name):
    """The functions of a script as syntax trees, their docstrings left out."""
    tree = ast.parse((TOUR / f"{name}.py").read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:]
            found[node.name] = ast.dump(node)
    return found


def test_every_script_is_on_the_ladder():
    assert {child for _, child, _ in diffs.LADDER} | {"gan"} == set(SCRIPTS)
    assert {child for _, child, _ in diffs.LADDER} == set(BUDGETS)


@pytest.mark.parametrize(("parent", "child"), [pair[:2] for pair in diffs.LADDER])
def test_a_diff_is_short(parent, child):
    assert diffs.changed_lines(parent, child) <= BUDGETS[child][0]


@pytest.mark.parametrize(("parent", "child"), [pair[:2] for pair in diffs.LADDER])
def test_what_both_have_is_the_same(parent, child):
    before, after = functions_of(parent), functions_of(child)
    for name in BUDGETS[child][1]:
        assert before[name] == after[name], name


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_the_same_skeleton(name):
    skeleton = ["define_generator", "define_draw", "define_train_step", "define_sample"]
    skeleton += ["train", "describe_step", "define_models", "start", "main"]
    functions = list(functions_of(name))
    assert [function for function in functions if function in skeleton] == skeleton


def test_the_ladder_and_a_diff_are_printed(capsys):
    assert diffs.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(diffs.LADDER)
    (line,) = (line for line in lines if line.split()[:3] == ["wgan", "->", "wgan_gp"])
    assert f"{diffs.changed_lines('wgan', 'wgan_gp'):>4} lines of code" in line
    assert diffs.main(["wgan", "wgan_gp"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("--- tour/wgan.py\n+++ tour/wgan_gp.py\n")
    assert "+def gradient_penalty(" in out and "-def clip_weights(" in out


def test_the_tree_has_each_script_below_its_parent():
    ladder = (("a", "b", "one"), ("b", "c", "two"), ("a", "long", "three"))
    assert diffs.draw_tree(ladder).splitlines() == [
        "a",
        "├── b      one",
        "│   └── c  two",
        "└── long   three",
    ]
    lines = diffs.draw_tree().splitlines()
    assert lines[0].strip() == "gan" and len(lines) == len(SCRIPTS)


def test_docstrings_and_comments_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(diffs, "TOUR", tmp_path)
    (tmp_path / "a.py").write_text('"""One."""\nx = 1  # one\ny = (\n    2\n)\n')
    (tmp_path / "b.py").write_text('"""Two."""\nx = 1\ny = 2\nz = 3\n')
    assert diffs.changed_lines("a", "b") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(["dcgan"], "give two scripts"), (["dcgan", "dcgn"], "dcgn: no script")],
)
def test_bad_arguments_are_refused(arguments, problem, capsys):
    assert diffs.main(arguments) == 2
    assert problem in capsys.readouterr().err
