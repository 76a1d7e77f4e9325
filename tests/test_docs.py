"""What the documents say of files, commands and options is so."""

import contextlib
import importlib
import io
import re
import subprocess
from pathlib import Path

import pytest

import tour_scripts

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TOUR_README = ROOT / "tour" / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md")), TOUR_README]
NAMES = [path.name for path in DOCUMENTS]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if path.name != "helpers.py")
TOUR_SCRIPTS = [
    f"tour/{path.name}"
    for path in sorted((ROOT / "tour").glob("*.py"))
    if "\ndef main(" in path.read_text(encoding="utf-8")
]


def read(path):
    return path.read_text(encoding="utf-8")


def anchors(text):
    """Return the anchors that GitHub gives the headings of a document."""
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.fixture(scope="module")
def options():
    """{script: the options that its --help names}, at the top and of the tour."""
    found = {}
    for script in SCRIPTS + TOUR_SCRIPTS:
        module = importlib.import_module(Path(script).stem)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", "1000")
            with (
                contextlib.redirect_stdout(io.StringIO()) as said,
                pytest.raises(SystemExit) as end,
            ):
                module.main(["--help"])
        assert end.value.code in (None, 0)
        found[script] = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", said.getvalue()))
    return found


def commands(text):
    """Yield (script, its arguments) of the commands in a document."""
    text = re.sub(r"[ \t]*\\\n\s*", " ", text)
    code = [block for block in re.findall(r"(?ms)^ *```\w*\n(.*?)^ *```", text)]
    rest = re.sub(r"(?ms)^ *```.*?^ *```", "", text)
    code += [part.replace("\n", " ") for part in re.findall(r"`([^`]+)`", rest)]
    for line in "\n".join(code).splitlines():
        if match := re.search(r"\bpython ([\w/]+\.py)\b([^&|#]*)", line):
            yield match[1], match[2]


def test_the_readme_is_short():
    assert len(read(README).splitlines()) <= 150


def test_the_readme_and_ci_have_the_same_test_command():
    (command,) = read(ROOT / ".ci" / "test-command").splitlines()
    assert f"\n```\n{command}\n```\n" in read(README)
    assert "<.ci/test-command" in read(ROOT / ".ci" / "run")


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(document):
    text = read(document)
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?ms)^```.*?^```", "", text))
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists() and path.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(read(path)), link


def test_every_document_is_linked_in_the_readme():
    text = read(README)
    for document in DOCUMENTS[1:]:
        assert f"({document.relative_to(ROOT)})" in text, document.name


def test_every_script_is_in_the_readme():
    for script in SCRIPTS:
        assert f"`{script}" in read(README), script
    for name in tour_scripts.SCRIPTS:
        assert f"`tour/{name}.py`" in read(README), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_commands_have_the_options_that_they_are_given(document, options):
    for script, arguments in commands(read(document)):
        assert (ROOT / script).is_file(), script
        given = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", arguments))
        if script in options:
            assert given <= options[script], (script, given)


@pytest.mark.parametrize(
    ("name", "scripts"),
    [
        ("training.md", ("sgan_mnist.py", "sgan_tuned.py", "standalone_classifier.py")),
        ("training.md", ("compare_labels.py",)),
        ("classifier.md", ("load_classifier.py", "load_generator.py", "app.py")),
    ],
)
def test_every_option_is_described(name, scripts, options):
    text = read(ROOT / "docs" / name)
    for script in scripts:
        for option in options[script] - {"--help"}:
            assert re.search(rf"{option}(?![\w-])", text), (script, option)


@pytest.mark.parametrize("script", TOUR_SCRIPTS)
def test_every_option_of_the_tour_is_described(script, options):
    text = read(ROOT / "docs" / "tour.md") + read(ROOT / "docs" / "training.md")
    for option in options[script] - {"--help"}:
        assert re.search(rf"{option}(?![\w-])", text), (script, option)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_files_named_in_the_documents_exist(document):
    """Files of the code and the requirements, in backquotes."""
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", read(document))
    code = " ".join(re.findall(r"`([^`]+)`", text))
    named = re.findall(r"(?<![\w./-])(?:[\w-]+/)*[\w-]+\.(?:py|txt|ipynb)\b", code)
    for name in named:
        assert (ROOT / name).is_file(), name


def test_requirements_name_files_that_exist():
    for path in [*ROOT.glob("requirements*.txt"), *ROOT.glob("requirements/*.txt")]:
        for name in re.findall(r"(?m)^-r (.*)$", read(path)):
            assert (path.parent / name).is_file(), path


def test_ci_leaves_a_contributors_environment_alone(tmp_path):
    """The run's commands, with programs that only say what they were given."""
    checkout, log = tmp_path / "a checkout", tmp_path / "log"
    (checkout / ".ci").mkdir(parents=True)
    for name in ("run", "test-command"):
        (checkout / ".ci" / name).write_text(read(ROOT / ".ci" / name))
    mine = checkout / ".venv" / "mine"
    mine.parent.mkdir()
    mine.write_text("kept")
    programs = tmp_path / "programs"
    programs.mkdir()
    say = f'#!/bin/sh\necho "$0 $*" >> "{log}"\n'
    # what stands for python3 makes an environment of such programs
    make = (
        f'{say}if [ "$2" = venv ]; then mkdir -p "$3/bin"; for p in pip python ruff; '
        f'do cp "{programs}/dot" "$3/bin/$p"; done; fi\n'
    )
    for name in ("dot", "chromium", "python3"):
        (programs / name).write_text(make if name == "python3" else say)
        (programs / name).chmod(0o755)

    def run():
        return subprocess.run(
            ["bash", ".ci/run"],
            cwd=checkout,
            env={"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    said = log.read_text().splitlines()
    assert sum("python -m pytest" in line for line in said) == 1
    assert any("ruff check" in line for line in said)
    assert any("ruff format --check" in line for line in said)
    assert not any(f"{checkout}/.venv" in line or " .venv" in line for line in said)
    assert [*mine.parent.iterdir()] == [mine] and mine.read_text() == "kept"
    # nothing is left behind
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a checkout", "log", "programs")
    }
    # a step that fails fails the whole
    (programs / "dot").write_text(f'{say}case "$*" in *pytest*) exit 1;; esac\n')
    assert run().returncode != 0
