"""Each statement of the article stands in its script, and a test holds it."""

import ast
import re
from pathlib import Path

import pytest

from tour_scripts import SCRIPTS, TOUR

# how many statements the article makes, by the beginning of their ids
STATEMENTS = {
    "gan": ("GAN", 8),
    "dcgan": ("DCGAN", 4),
    "cgan": ("CGAN", 3),
    "acgan": ("ACGAN", 3),
    "infogan": ("INFO", 4),
    "wgan": ("WGAN", 5),
    "context_encoder": ("CTX", 4),
    "stackgan": ("STACK", 4),
    "cyclegan": ("CYC", 10),
    "pix2pix": ("PIX", 5),
    "biggan": ("BIG", 4),
    "progan": ("PRO", 5),
    "stylegan": ("STYLE", 5),
}


def read_marks():
    """The ids of statements that tests are marked with, a dict: id -> tests."""
    marks = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                if ast.unparse(decorator).startswith("pytest.mark.statement("):
                    assert node.name.startswith("test_"), node.name
                    for argument in decorator.args:
                        name = ast.literal_eval(argument)
                        marks.setdefault(name, []).append(f"{path.name}::{node.name}")
    return marks


MARKS = read_marks()


def statements_of(name):
    """The ids in the docstring of tour/<name>.py, in their order."""
    text = ast.get_docstring(ast.parse((TOUR / f"{name}.py").read_text("utf-8")))
    return re.findall(r"^([A-Z]+-\d+) ", text, re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_docstring_has_each_statement(name):
    if name not in STATEMENTS:
        assert statements_of(name) == []
        return
    beginning, n = STATEMENTS[name]
    assert statements_of(name) == [f"{beginning}-{i}" for i in range(1, n + 1)]


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_each_statement_has_a_test(name):
    beginning, n = STATEMENTS[name]
    missing = [f"{beginning}-{i}" for i in range(1, n + 1)]
    assert [statement for statement in missing if statement not in MARKS] == []


def test_no_test_is_marked_with_another_statement():
    known = {f"{b}-{i}" for b, n in STATEMENTS.values() for i in range(1, n + 1)}
    assert set(MARKS) <= known
