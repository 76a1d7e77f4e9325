"""Which file may import which: what a reader can count on, going from file to file.

backend, command <- folders <- data <- models <- pictures <- training <- helpers
<- scripts, tour
"""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDER = [
    ("gankit", "gankit.backend", "gankit.command"),
    ("gankit.folders",),
    ("gankit.data",),
    ("gankit.models",),
    ("gankit.pictures",),
    ("gankit.training",),
    ("helpers",),
]
# what the scripts of the tour share
TOUR_ROOMS = [
    f"tour.{name}"
    for name in (
        "captions",
        "common",
        "diffs",
        "domains",
        "figures",
        "metrics",
        "own_pictures",
        "pairs",
        "papers",
        "sampling",
        "stacked",
    )
]
# script -> the scripts that it may import, beside discriminators
SCRIPTS = {
    "discriminators": (),
    "upsampling_demo": (),
    "sgan_mnist": (),
    "sgan_tuned": ("sgan_mnist",),
    "standalone_classifier": (),
    "compare_labels": ("sgan_tuned",),  # the names of its ingredients
    "load_classifier": (),
    "load_generator": ("load_classifier",),
    "app": ("load_classifier", "load_generator"),
}
# take them from gankit.backend, which sets them up
HANDLED = ("keras", "tensorflow", "tf_keras", "h5py", "matplotlib", "PIL")


def source_files():
    """The checked files, a dict: module's name -> Path."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("tour/*.py"), *ROOT.glob("gankit/**/*.py")]
    names = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


FILES = source_files()


def read_imports(text):
    """Yield (module, name or None) of each import in a file's text.

    Those within functions count, and those by name, as lazy handles do it.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            for alias in node.names:
                yield node.module, alias.name
        elif isinstance(node, ast.Call) and node.args:
            function = getattr(node.func, "attr", getattr(node.func, "id", None))
            if function in ("LazyModule", "import_module", "__import__"):
                name = node.args[0]
                if isinstance(name, ast.Constant):
                    yield name.value, None


def imported_module(module, name, importer=""):
    """The name of the project's module that an import takes, None for another's."""
    candidates = [f"{module}.{name}", module]
    if importer.startswith("tour."):  # where a script's own folder comes first
        candidates = [f"tour.{module}", *candidates]
    return next((known for known in candidates if known in FILES), None)


def rank_of(module):
    """The place of a module in ORDER, counted from 0; None for scripts."""
    for rank, members in enumerate(ORDER):
        for member in members:
            wing = member if member.count(".") else None
            if module == member or (wing and module.startswith(f"{wing}.")):
                return rank
    return None


def faults_of(importer, text):
    """What is wrong with the imports of a file, a list of lines."""
    faults = []
    rank = rank_of(importer)
    for module, name in read_imports(text):
        full = module if name is None else f"{module}.{name}"
        if module.partition(".")[0] in HANDLED and importer != "gankit.backend":
            lazily = f'LazyModule("{module}")' in text and name is None
            kept = module.partition(".")[0] in ("matplotlib", "PIL")
            if not (lazily and kept):
                faults.append(f"{importer} imports {full}: use gankit.backend's handle")
        if (
            importer.startswith("gankit.data.")
            and module == "gankit.backend"
            and name in ("keras", "layers", "tf")
            and (importer, name) != ("gankit.data.load", "keras")
        ):
            faults.append(f"{importer} imports {full}: data know no Keras")
        target = imported_module(module, name, importer)
        if target is None or target == importer:
            continue
        other = rank_of(target)
        if rank is not None:
            allowed = other is not None and other <= rank
        elif other is not None or target == "discriminators":
            allowed = True
        elif importer.startswith("tour."):
            allowed = target in TOUR_ROOMS
        else:
            allowed = target in SCRIPTS.get(importer, ())
        if not allowed:
            faults.append(f"{importer} imports {target}")
    return faults


def test_the_scripts_are_known():
    scripts = {name for name in FILES if "." not in name} - {"gankit", "helpers"}
    assert scripts == set(SCRIPTS)


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_go_one_way(module):
    assert not faults_of(module, FILES[module].read_text(encoding="utf-8"))


def test_no_file_needs_itself():
    graph = {
        importer: {
            imported_module(*imported, importer)
            for imported in read_imports(path.read_text(encoding="utf-8"))
        }
        - {None, importer}
        for importer, path in FILES.items()
    }
    assert graph["sgan_mnist"] > {"discriminators", "gankit.backend"}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("importer", "text", "fault"),
    [
        ("gankit.folders", "from gankit.data import load", "gankit.data.load"),
        ("gankit.command", "import gankit.folders", "gankit.folders"),
        ("gankit.data.npz", "from gankit.models.files import x", "gankit.models.files"),
        ("gankit.data.npz", "from gankit.backend import keras", "data know no Keras"),
        ("gankit.data.npz", "def f():\n    import keras", "gankit.backend's handle"),
        ("gankit.models.files", "from gankit.training import run", "training.run"),
        ("gankit.models.files", "from gankit import pictures", "gankit.pictures"),
        ("gankit.pictures", "import matplotlib.pyplot", "gankit.backend's handle"),
        ("gankit.training.run", "import helpers", "imports helpers"),
        ("gankit.training.run", "h = LazyModule('helpers')", "imports helpers"),
        ("gankit.training.run", "def f():\n    import sgan_mnist", "sgan_mnist"),
        ("gankit.training.run", "import discriminators", "imports discriminators"),
        ("helpers", "from sgan_mnist import train", "imports sgan_mnist"),
        ("sgan_mnist", "import sgan_tuned", "imports sgan_tuned"),
        ("sgan_mnist", "tf = LazyModule('tensorflow')", "gankit.backend's handle"),
        ("load_classifier", "import load_generator", "imports load_generator"),
        ("tour.gan", "import sgan_mnist", "imports sgan_mnist"),
    ],
)
def test_imports_against_the_order_are_found(importer, text, fault):
    (line,) = faults_of(importer, text)
    assert fault in line


@pytest.mark.parametrize(
    ("importer", "text"),
    [
        ("gankit.data.load", "def f():\n    from gankit.backend import keras"),
        ("gankit.data.idx", "from gankit.data import arrays\nimport gzip"),
        ("gankit.training.run", "from gankit.training.loop import make_run"),
        ("gankit.pictures", 'matplotlib = LazyModule("matplotlib")'),
        ("sgan_tuned", "import sgan_mnist, discriminators, helpers, numpy"),
        ("tour.gan", "import discriminators\nfrom gankit.training import run"),
    ],
)
def test_imports_along_the_order_are_right(importer, text):
    assert not faults_of(importer, text)


def test_importing_a_module_only_defines():
    """--help is quick, and oneDNN can be chosen before TensorFlow is imported."""
    code = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
        f"    heavy = {{'gradio', *{HANDLED}}} & set(sys.modules)\n"
        "    assert not heavy, (module, heavy)\n"
    )
    # a tour script is imported from its own folder
    modules = [name for name in FILES if not name.startswith("tour.")]
    done = subprocess.run(
        [sys.executable, "-c", code, *sorted(modules)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_does_not_wait_for_tensorflow(script, start, tmp_path):
    for name in ("tensorflow", "keras", "matplotlib", "gradio"):
        (tmp_path / f"{name}.py").write_text("raise ImportError", encoding="utf-8")
    done = start(f"{script}.py", "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {script}.py ")
