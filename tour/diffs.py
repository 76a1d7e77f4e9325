"""Show what each GAN of the tour adds to another: their diff is the documentation.

python tour/diffs.py                # the ladder, with the number of changed lines
python tour/diffs.py dcgan cgan     # one diff
"""

import ast
import difflib
import sys
from pathlib import Path

TOUR = Path(__file__).resolve().parent
sys.path.insert(0, str(TOUR.parent))

from gankit.command import InputError, OneLineParser, run_script  # noqa: E402

# parent, child, what the diff shows
LADDER = (
    ("gan", "dcgan", "perceptrons to convolutions, and the optimizer"),
    ("dcgan", "cgan", "the class goes into both networks"),
    ("cgan", "acgan", "the class leaves d's input for its output: two losses"),
    ("cgan", "stackgan", "text in the place of the class, and two stages"),
    ("dcgan", "infogan", "codes, the network Q, mutual information"),
    ("dcgan", "wgan", "a linear critic, its loss, five updates, clipping"),
    ("dcgan", "context_encoder", "latent points to images with holes; a joint loss"),
    ("context_encoder", "pix2pix", "a U-Net, patches, pairs of pictures for holes"),
    ("pix2pix", "cyclegan", "no pairs: two of each network, the cycle, a buffer"),
    ("acgan", "biggan", "residual blocks, projection, hinge loss, truncation"),
    ("wgan", "wgan_gp", "the gradient penalty in the place of clipping"),
    ("wgan_gp", "progan", "networks that grow, and the layers that they need"),
    ("progan", "stylegan", "styles, a mapping network, noise; the logistic loss"),
)


def read_lines(name):
    """Return the lines of tour/<name>.py; InputError where there is none."""
    path = TOUR / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted({name for pair in LADDER for name in pair[:2]}))
        raise InputError(f"{name}: no script of the tour; there are {known}")
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


def read_code(name):
    """Return the lines of tour/<name>.py without docstrings and comments."""
    tree = ast.parse("".join(read_lines(name)))
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        if documented and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree).splitlines()


def changed_lines(parent, child):
    """Return how many lines of code a diff of the scripts takes away or adds.

    Docstrings and comments aside, and each statement on one line.
    """
    diff = difflib.unified_diff(read_code(parent), read_code(child), n=0)
    next(diff, None), next(diff, None)
    return sum(line[0] in "-+" for line in diff)


def draw_tree(ladder=LADDER):
    """Return the family tree of the scripts, a text with a line each.

    ladder: as LADDER; a parent comes before its children.
    """
    texts = {child: about for _, child, about in ladder}
    parents = {child: parent for parent, child, _ in ladder}
    (root,) = {parent for parent, *_ in ladder} - set(texts)
    lines = []

    def add(name, first, others):
        lines.append((first + name, texts.get(name, "")))
        children = [child for child in texts if parents[child] == name]
        for child in children:
            last = child == children[-1]
            add(
                child,
                others + ("└── " if last else "├── "),
                others + ("    " if last else "│   "),
            )

    add(root, "", "")
    width = max(len(begin) for begin, _ in lines)
    return "\n".join(f"{begin:{width}}  {text}".rstrip() for begin, text in lines)


def start(argv):
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help="two scripts")
    scripts = parser.parse_args(argv).scripts
    if len(scripts) not in (0, 2):
        raise InputError(f"{' '.join(scripts)}: give two scripts, or none")
    if scripts:
        before, after = map(read_lines, scripts)
        names = [f"tour/{name}.py" for name in scripts]
        sys.stdout.writelines(difflib.unified_diff(before, after, *names))
        return
    for parent, child, about in LADDER:
        n = changed_lines(parent, child)
        print(f"{parent:>6} -> {child:<8} {n:>4} lines of code: {about}")


def main(argv=None):
    return run_script("diffs.py", lambda: start(argv))


if __name__ == "__main__":
    sys.exit(main())
