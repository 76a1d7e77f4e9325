"""Make one page of the tour: each GAN with its images, curve, figures, words and diff.

    python tour/gallery.py                             # of the recorded runs
    python tour/gallery.py --runs runs/tour            # of one's own
    python tour/gallery.py --runs runs/A runs/B --out mine.html
    python tour/gallery.py --picture results/gallery.png # its top, as a picture

The page is one file with all pictures inside; it has no script and asks the network for
nothing. A GAN is on it once its script is on the ladder of tour/diffs.py. Runs that
differ in nothing but the seed are averaged; of these all count, each by its last step.
"""

import ast
import base64
import csv
import dataclasses
import html
import importlib
import importlib.util
import io
import json
import keyword
import math
import re
import shlex
import shutil
import sys
import tokenize
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import ROOT
from diffs import LADDER, changed_lines, read_lines
from papers import TOUR, spread

from gankit.backend import Image, LazyModule
from gankit.command import InputError, OneLineParser, RunError, run_script
from gankit.data.images import read_image
from gankit.folders import write_atomically
from gankit.models.files import step_of
from gankit.training.settings import option_name, read_options

playwright = LazyModule("playwright.sync_api")
png_plugin = LazyModule("PIL.PngImagePlugin")

RECORDED = ROOT / "results" / "tour"
STYLE = ROOT / "tour" / "gallery.css"
# in each file that this script makes: only such a one is replaced
MARK = "tour/gallery.py"
# the browser itself then refuses to fetch anything
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# of measures.csv and figures.json: how a reader is told of them
MEASURES = {
    "judge_fid": "judge-FID",
    "modes": "classes seen",
    "entropy": "entropy of the classes, nats",
    "sure": "judge is sure of, %",
    "total_variation": "total variation, real is 1",
    "agreement": "class asked for is seen, %",
}
NO_FIGURES = ("epoch", "step", "seconds", "threads", "modes", *MEASURES)
# options that say where and how often it was run, and nothing of the GAN
OF_THE_MACHINE = ("seed", "threads", "precision")
# numbers that are larger, or NaN, are no figures of a run
LARGEST = 1e12
# widest picture on the page and side of a thumbnail, in pixels
WIDEST, THUMBNAIL = 2400, 132
# a tree with more levels has narrow nodes
DEEP = 5
# of the picture of the page: size and number of colours
PICTURE, COLOURS = (1200, 1500), 128
# of a text: what is code
CODE = re.compile(
    r"`([^`]+)`|(?<!\w)--[a-z][\w-]*|\b[A-Za-z_]\w*\.[a-z]\w+\b|\b[a-z]+\d?_\w+\b"
)
# of a curve, in units of its own, which are scaled
CHART, MARGIN = (460, 300), (56, 14, 14, 44)


# ---------------------------------------------------------------- HTML


class Html(str):
    """Text that is HTML already; any other is escaped when it goes into an element."""


def to_html(part):
    """Return a text, or a nested list of parts, as Html; None is nothing."""
    if part is None:
        return Html()
    if isinstance(part, list | tuple):
        return Html("".join(map(to_html, part)))
    return part if isinstance(part, Html) else Html(html.escape(str(part)))


def element(tag, *parts, **attributes):
    """Return an element as Html; `class_` and `aria_label` are written as in HTML."""
    texts = [
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    ]
    start = f"<{tag}{''.join(texts)}>"
    if tag in ("img", "meta"):
        return Html(start)
    return Html(f"{start}{to_html(parts)}</{tag}>")


def write_code(text):
    """Return a text as Html: `this`, --options, files and functions as code."""
    parts, at = [], 0
    for found in CODE.finditer(text):
        parts += [text[at : found.start()], element("code", found[1] or found[0])]
        at = found.end()
    return to_html([*parts, text[at:]])


# ---------------------------------------------------------------- scripts


class Script(NamedTuple):
    """What a script's first lines say; statements: pairs of id and text."""

    name: str
    title: str
    about: str
    source: str
    year: int
    statements: list
    notes: list


def read_script(name, text):
    """Return the Script of a docstring's text."""
    first, *paragraphs = re.split(r"\n\s*\n", text.strip())
    found = re.fullmatch(r"(.+?): (.+) \((.+?)\)\.", " ".join(first.split()))
    title, about, source = found.groups() if found else (name, first, "")
    years = re.findall(r"\b(?:19|20)\d\d\b", source)
    statements, notes = [], []
    for paragraph in paragraphs:
        # a statement goes on in lines that are set in
        listed = re.findall(r"(?m)^([A-Z]+-\d+) (.*(?:\n[ \t]+.*)*)", paragraph)
        statements += [(key, " ".join(words.split())) for key, words in listed]
        if not listed and not paragraph.startswith((" ", "\t")):
            notes.append(" ".join(paragraph.split()))
    year = int(years[-1]) if years else 0
    return Script(name, title, about, source, year, statements, notes)


def find_scripts(ladder=LADDER, tour=TOUR):
    """Return the Scripts of the ladder by name, in the tour's order.

    What has no paper there yet comes behind what is not younger.
    """
    names = dict.fromkeys(name for pair in ladder for name in pair[:2])
    scripts = {}
    for name in names:
        text = ast.get_docstring(ast.parse("".join(read_lines(name))))
        scripts[name] = read_script(name, text)
    order = [name for name in tour if name in scripts]
    for name in names:
        if name not in order:
            older = [scripts[other].year <= scripts[name].year for other in order]
            order.insert(
                max((i + 1 for i, yes in enumerate(older) if yes), default=0), name
            )
    return {name: scripts[name] for name in order}


class Recorded(NamedTuple):
    """What a run's folder has.

    options: those that are not the script's defaults, but for the machine's, which are
    in `machine` with the processor. figures: of its last step. measures: the columns of
    measures.csv, lists of float or None by name. sheet, curves: paths, or None.
    """

    script: str
    seed: int
    options: dict
    machine: dict
    figures: dict
    measures: dict
    sheet: Path | None
    curves: Path | None
    finished: bool


def is_number(value):
    return type(value) in (int, float) and abs(value) <= LARGEST


def read_run(folder, scripts):
    """Return what a run's folder has, Recorded; None for a run of another script.

    Raises InputError where its files are damaged, or it has measured nothing yet.
    """
    path = folder / "settings.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        script, seed = described["script"], described["seed"]
        if not isinstance(script, str) or type(seed) is not int:
            raise TypeError("no script or seed")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: not the settings of a run; name another folder"
        ) from error
    if script not in scripts:
        return None
    settings = importlib.import_module(script).Settings
    saved = read_options(folder, settings)
    given = {
        field.name: saved[field.name]
        for field in dataclasses.fields(settings)
        if field.name in saved and saved[field.name] != field.default
    }
    measures = read_measures(folder / "measures.csv")
    finished = (folder / "figures.json").is_file()
    if finished:
        figures = read_figures(folder / "figures.json")
    else:
        figures = {name: column[-1] for name, column in measures.items()}
    sheets = sorted(folder.glob("generated_plot_*.png"), key=step_of)
    sheet = next(filter(Path.is_file, [folder / "sheet.png", *sheets[::-1]]), None)
    curves = folder / "curves.png"
    return Recorded(
        script,
        seed,
        {name: given[name] for name in given if name not in OF_THE_MACHINE},
        {name: saved.get(name) for name in OF_THE_MACHINE[1:]}
        | {"processor": figures.pop("processor", None)},
        figures,
        measures,
        sheet,
        curves if curves.is_file() else None,
        finished,
    )


def read_measures(path):
    """Return the columns of a measures.csv, lists of float or None by name."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file)
        columns = {
            name: [float(text) if text else None for text in column]
            for name, *column in zip(names, *rows, strict=True)
        }
        values = [value for column in columns.values() for value in column]
        if not all(value is None or abs(value) <= LARGEST for value in values):
            raise ValueError("it has a number that is none")
        if not rows or None in columns["step"] + columns["seconds"]:
            raise ValueError("it has no steps")
    except FileNotFoundError:
        raise InputError(f"{path}: is missing; let the run go on for longer") from None
    except (OSError, ValueError, LookupError, csv.Error) as error:
        raise InputError(
            f"{path}: not the measures of a run of the tour; name another folder"
        ) from error
    return columns


def read_figures(path):
    """Return the figures of a finished run: numbers by name, None where there is none.

    `parameters` is a dict of numbers, `processor` a text.
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        parameters, processor = figures["parameters"], figures["processor"]
        right = isinstance(processor, str) and is_number(figures["seconds"])
        for group in (parameters, figures):
            right &= all(
                value is None or is_number(value)
                for name, value in group.items()
                if name not in ("parameters", "processor")
            )
        if not right or None in parameters.values():
            raise ValueError("it has a figure that is no number")
    except (
        *(OSError, ValueError, LookupError),
        *(TypeError, AttributeError, RecursionError),
    ) as error:
        raise InputError(
            f"{path}: not the figures of a run of the tour; name another folder"
        ) from error
    return figures


def find_runs(folders, scripts):
    """Return the runs of the tour that folders are, or have in them, Recorded.

    A folder in a folder of runs that is a run of another script, or has measured
    nothing yet, is passed over. Raises InputError where there is none at all.
    """
    runs = []
    for folder in map(Path, folders):
        if (folder / "settings.json").is_file():
            run = read_run(folder, scripts)
            if run is None:
                raise InputError(
                    f"{folder}: is no run of a script of the tour; name such a run"
                )
            runs.append(run)
            continue
        found = [*folder.glob("*/settings.json"), *folder.glob("*/*/settings.json")]
        inside = [
            read_run(path.parent, scripts)
            for path in sorted(found)
            if (path.parent / "measures.csv").is_file()
        ]
        inside = [run for run in inside if run is not None]
        if not inside:
            raise InputError(
                f"{folder}: holds no run of the tour; name a run's folder, or a folder "
                "of runs"
            )
        runs += inside
    return runs


def group_runs(runs, script):
    """Return the runs of a script in groups that differ in the seed alone.

    Each is a list, sorted by seed, and has a seed once: of several runs the last one.
    Runs that are not finished count where none of their group is. The group with the
    fewest options comes first.
    """
    groups = {}
    for run in runs:
        if run.script == script:
            key = (sorted(run.options.items()), run.machine["precision"])
            groups.setdefault(repr(key), []).append(run)
    found = []
    for group in groups.values():
        finished = [run for run in group if run.finished]
        by_seed = {run.seed: run for run in finished or group}
        found.append([by_seed[seed] for seed in sorted(by_seed)])
    return sorted(found, key=lambda group: len(group[0].options))


def command_of(run):
    """Return the command that made a run."""
    words = ["python", f"tour/{run.script}.py"]
    given = run.options | {"seed": run.seed, "threads": run.machine["threads"]}
    for name, value in given.items():
        if value is None:
            continue
        words.append(option_name(name))
        if value is not True:
            words += map(str, value) if isinstance(value, list) else [str(value)]
    return shlex.join(words)


def summarize(group, name):
    """Return mean ± sd of a figure of a group's runs, a text; None without any."""
    known = [run.figures for run in group if run.figures.get(name) is not None]
    return spread(known, name) if known else None


def average(group, name):
    return float(np.mean([run.figures[name] for run in group]))


def write_time(seconds):
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes"


def enumerate_words(words):
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last


# ---------------------------------------------------------------- pictures


def embed(path, widest=WIDEST, part=1.0):
    """Return a picture's data: URI, width and height.

    It is made smaller where it is wider than `widest`. part: of its upper left corner,
    this share of its width, is taken as a square. Raises InputError for a damaged file.
    """
    pixels = read_image(path)
    content = path.read_bytes()
    side = round(part * pixels.shape[1])
    if part < 1:
        pixels = pixels[:side, :side]
    if pixels.shape[1] > widest or part < 1 or not content.startswith(b"\x89PNG"):
        grey = pixels.shape[2] == 1
        picture = Image.fromarray(pixels[..., 0] if grey else pixels)
        picture.thumbnail((widest, 4 * widest))
        file = io.BytesIO()
        picture.save(file, format="png", optimize=True)
        content, (width, height) = file.getvalue(), picture.size
    else:
        height, width = pixels.shape[:2]
    text = base64.b64encode(content).decode("ascii")
    return f"data:image/png;base64,{text}", width, height


def show_picture(path, text, class_=None, **how):
    """Return a picture as an element; text: what it shows, '' for an ornament."""
    source, width, height = embed(path, **how)
    return element(
        "img", src=source, alt=text, width=width, height=height, class_=class_
    )


def find_ticks(low, high, most=5):
    """Return round numbers from low to high, at the most so many."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(n for n in (1, 2, 5, 10) if n * step >= (high - low) / most)
    first = math.ceil(low / step - 1e-9)
    return [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]


def find_log_ticks(low, high):
    """Return numbers 1, 2 or 5 times a power of ten from low to high, at most six."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [n * 10.0**power for power in powers for n in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 6:
            return ticks
    return ticks[:: math.ceil(len(ticks) / 6)]


def draw_curve(lines, label, text):
    """Return a plot of lines as inline SVG.

    lines: a list of lists of (step, value), a line a seed. label: of the values; text:
    what is seen, in words. The values are on a logarithmic scale where they are
    positive and far apart.
    """
    points = [point for line in lines for point in line]
    last = max(step for step, _ in points) or 1
    low, high = (end(value for _, value in points) for end in (min, max))
    logarithmic = low > 0 and high / low > 5
    if logarithmic:
        low, high = low / 1.2, high * 1.2
        ticks, scale = find_log_ticks(low, high), math.log
    else:
        margin = 0.08 * (high - low) or max(abs(high), 1) / 10
        low, high = low - margin, high + margin
        ticks, scale = find_ticks(low, high), float
    (width, height), (left, top, right, bottom) = CHART, MARGIN

    def x_of(step):
        return left + (width - left - right) * step / last

    def y_of(value):
        share = (scale(value) - scale(low)) / (scale(high) - scale(low))
        return height - bottom - (height - top - bottom) * share

    parts = []
    for tick in ticks:
        y = f"{y_of(tick):.1f}"
        parts += [
            element("line", x1=left, x2=width - right, y1=y, y2=y, class_="grid"),
            element(
                *("text", f"{tick:,.6g}"),
                **dict(x=left - 8, y=y, dy="0.35em", text_anchor="end"),
            ),
        ]
    for tick in find_ticks(0, last, 4):
        place = dict(x=f"{x_of(tick):.1f}", y=height - bottom + 18)
        anchor = "middle" if tick < 0.97 * last else "end"
        parts.append(element("text", f"{tick:,.6g}", text_anchor=anchor, **place))
    middle = f"{x_of(last / 2):.1f}"
    parts.append(element("text", "step", x=middle, y=height - 6, text_anchor="middle"))
    for i, line in enumerate(lines):
        places = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
        dots = [
            element("circle", cx=f"{x_of(x):.1f}", cy=f"{y_of(y):.1f}", r=2.6)
            for x, y in line
        ]
        drawn = [element("polyline", points=places), *dots]
        parts.append(element("g", drawn, class_=f"line seed-{i % 5}"))
    return element(
        *("svg", parts),
        **dict(viewBox=f"0 0 {width} {height}", role="img", aria_label=text),
    )


def show_curve(group, title):
    """Return the curve of a group's runs, a figure; None where nothing was measured."""
    names = [name for name in group[0].measures if name not in ("epoch", "step")]
    for name in dict.fromkeys(("judge_fid", *names)):
        lines = []
        for run in group:
            values = run.measures.get(name, [None] * len(run.measures["step"]))
            pairs = zip(run.measures["step"], values, strict=True)
            lines.append([pair for pair in pairs if pair[1] is not None])
        if all(lines):
            break
    else:
        return None
    label = MEASURES.get(name, name)
    ends = [f"{line[0][1]:.3g} to {line[-1][1]:.3g}" for line in lines]
    seeds = enumerate_words(run.seed for run in group)
    of = f"seed {seeds}" if len(group) == 1 else f"a line a seed: {seeds}"
    text = f"{label} of {title} over the steps, first to last: {', '.join(ends)}"
    caption = element("figcaption", f"{label} over the steps; {of}")
    return element("figure", draw_curve(lines, label, text), caption, class_="curve")


# ---------------------------------------------------------------- diffs


def colour_code(lines):
    """Return lines of Python as Html: keywords, texts, comments and names marked."""
    marks, before = [[] for _ in range(len(lines) + 1)], ""
    for token in tokenize.generate_tokens(iter(lines).__next__):
        kind = tokenize.tok_name[token.type]
        class_ = {"COMMENT": "c", "STRING": "s"}.get(kind)
        if kind.startswith("FSTRING"):
            class_ = "s"
        elif kind == "NAME" and keyword.iskeyword(token.string):
            class_ = "k"
        elif kind == "NAME" and before in ("def", "class"):
            class_ = "n"
        before = token.string
        if class_ is None:
            continue
        (first, start), (last, end) = token.start, token.end
        for row in range(first, last + 1):
            a = start if row == first else 0
            b = end if row == last else len(lines[row - 1])
            marks[row - 1].append((a, b, class_))
    coloured = []
    for line, marked in zip(lines, marks, strict=False):
        line, at, parts = line.rstrip("\n"), 0, []
        for a, b, class_ in marked:
            parts += [line[at:a], element("span", line[a:b], class_=class_)]
            at = b
        coloured.append(to_html([*parts, line[at:]]))
    return coloured


def show_diff(parent, child):
    """Return the unified diff of two scripts as coloured lines."""
    before, after = read_lines(parent), read_lines(child)
    old, new = colour_code(before), colour_code(after)
    matcher = SequenceMatcher(None, before, after)
    rows = []

    def add(class_, sign, lines):
        for line in lines:
            rows.append(element("span", sign, line, "\n", class_=class_))

    for group in matcher.get_grouped_opcodes(3):
        (_, a, _, b, _), (_, _, c, _, d) = group[0], group[-1]
        add("at", "@@ ", [f"lines {a + 1} to {c} become {b + 1} to {d}"])
        for what, a, c, b, d in group:
            if what == "equal":
                add(None, " ", old[a:c])
            else:
                add("del", "-", old[a:c])
                add("add", "+", new[b:d])
    return element(
        *("pre", element("code", rows)),
        **dict(class_="diff", tabindex=0, role="region"),
        aria_label=f"diff of tour/{parent}.py and tour/{child}.py",
    )


# ---------------------------------------------------------------- the page


def show_tree(scripts, groups, ladder=LADDER):
    """Return the family tree of the ladder, nested lists with links, and its depth."""
    children, abouts = {}, {}
    for parent, child, about in ladder:
        if child not in abouts:
            children.setdefault(parent, []).append(child)
            abouts[child] = about

    def branch(name):
        script, runs = scripts[name], groups[name]
        sheet = runs and runs[0][0].sheet
        if sheet:
            picture = show_picture(sheet, "", "thumb", widest=THUMBNAIL, part=0.3)
        else:
            picture = element("span", class_="thumb", aria_hidden="true")
        title = [element("b", script.title), " ", element("i", script.year or "")]
        about = element("small", abouts[name]) if name in abouts else None
        node = element(
            *("a", picture, element("span", title), about),
            **dict(href=f"#{name}", class_="node" if runs else "node empty"),
        )
        below = [branch(child) for child in children.get(name, ())]
        depth = 1 + max((deep for _, deep in below), default=0)
        inner = element("ul", [item for item, _ in below]) if below else None
        return element("li", node, inner), depth

    roots = [name for name in scripts if name not in abouts]
    items = [branch(name) for name in roots]
    depth = max(deep for _, deep in items)
    tree = element("ul", [item for item, _ in items], class_="tree")
    class_ = "deep" if depth > DEEP else None
    style = f"--depth: {depth}"
    return element("nav", tree, aria_labelledby="family", class_=class_, style=style)


def show_ladder(scripts, groups):
    """Return the judge-FIDs of runs on MNIST among those of known images, as bars.

    None where there are none: other images have other judges.
    """
    rows = []
    for name, script in scripts.items():
        for group in groups[name][:1]:
            if {"data", "judge"} & set(group[0].options):
                continue
            known = [run for run in group if (run.figures.get("judge_fid") or 0) > 0]
            if known:
                link = element("a", script.title, href=f"#{name}")
                rows.append((average(known, "judge_fid"), link, "gan"))
    if not rows:
        return None
    record = json.loads((ROOT / "tour" / "judge.json").read_text(encoding="utf-8"))
    rows += [(value, text, None) for text, value in record["ladder"]]
    values = [value for value, *_ in rows]
    low, high = math.log(min(values) / 1.5), math.log(max(values))
    items = []
    for value, text, class_ in sorted(rows, key=lambda row: row[0]):
        share = 100 * (math.log(value) - low) / (high - low)
        bar = element("span", class_="bar", style=f"--share: {share:.1f}%")
        cells = (element("span", text), bar, element("span", f"{value:.3g}"))
        items.append(element("li", cells, class_=class_))
    about = element(
        "p",
        "The Fréchet distance of 10,000 generated and 10,000 real images, by the "
        "features of the tour's own judge; smaller is better, and it can't be compared "
        "with a published FID. Beside the GANs: what known images get. The scale is "
        "logarithmic.",
    )
    title = element("h2", "What a judge-FID is worth", id="worth")
    bars = element("ol", items, class_="worth")
    parts = (element("div", title, about), bars)
    return element("section", parts, class_="beside", aria_labelledby="worth")


def show_facts(pairs, class_="facts"):
    """Return names and what they are as a list; those that are None are left out."""
    rows = [
        element("div", element("dt", name), element("dd", text))
        for name, text in pairs
        if text is not None
    ]
    return element("dl", rows, class_=class_) if rows else None


def show_figure(name, group, tour=TOUR):
    """Return a script's own figure beside the published one; None without both."""
    if name not in tour:
        return None
    _, key, unit, about, published = tour[name]
    found = summarize(group, key)
    ours = f"{found} {unit}".strip() if found else "not measured"
    sd = " (mean ± sd)" if found and len(group) > 1 else ""
    theirs = f"{published} {unit}".strip() if published else "–"
    return element(
        "div",
        element("p", about[:1].upper() + about[1:], sd, class_="about"),
        show_facts([("here", ours), ("published", theirs)], "own"),
        class_="figure",
    )


def show_group(script, group, tour=TOUR):
    """Return the figures and the curve of the runs of one command."""
    parts = [show_figure(script.name, group, tour)]
    own = tour[script.name][1] if script.name in tour else None
    parts.append(
        show_facts(
            (label, summarize(group, name))
            for name, label in MEASURES.items()
            if name != own
        )
    )
    parts.append(show_curve(group, script.title))
    return element("div", parts, class_="told")


def show_code(command):
    """Return a command, which is broken between its words."""
    words = [[element("span", word), " "] for word in command.split(" ")]
    return element("pre", element("code", words), class_="command")


def show_command(group):
    """Return the command that made these runs, and where and how long it ran."""
    first = group[0]
    parts = [show_code(command_of(first))]
    seeds = enumerate_words(run.seed for run in group)
    # the quickest: others may have had other work beside them
    time = write_time(min(run.figures["seconds"] for run in group))
    machine = [f"{n} thread{'s' * (n > 1)}" for n in [first.machine["threads"]] if n]
    machine += [first.machine[name] for name in ("precision", "processor")]
    quickest = ", the quickest" if len(group) > 1 else ""
    lines = [f"Seed{'s' * (len(group) > 1)} {seeds}; {time}{quickest}"]
    lines += [text for text in machine if text]
    parts.append(element("p", ", ".join(lines), ".", class_="note"))
    if not first.finished:
        step = max(run.measures["step"][-1] for run in group)
        note = f"Not finished: these are the figures of step {step:,.0f}."
        parts.append(element("p", note, class_="note"))
    return element("div", parts, class_="made")


def show_run(script, group, tour=TOUR):
    """Return what the runs of one command made, and how."""
    first, shown = group[0], None
    if first.sheet:
        when = f"step {first.measures['step'][-1]:,.0f}, seed {first.seed}"
        text = f"Images that {script.title} made at {when}"
        caption = element("figcaption", f"Made at {when}")
        picture = show_picture(first.sheet, text, widest=1120)
        shown = element("figure", picture, caption, class_="sheet")
    parts = (shown, show_group(script, group, tour), show_command(group))
    return element("div", parts, class_="run")


def show_more(script, group):
    """Return what can be opened: all curves and all figures."""
    first, parts = group[0], []
    if first.curves:
        text = (
            f"Losses and measures of {script.title} over the steps, seed {first.seed}"
        )
        parts.append(
            element(
                "details",
                element("summary", f"All curves of seed {first.seed}"),
                element("div", show_picture(first.curves, text), class_="curves"),
            )
        )
    names = dict.fromkeys(name for run in group for name in run.figures)
    facts = [
        (name, summarize(group, name))
        for name in names
        if name not in NO_FIGURES and name != "parameters"
    ]
    counts = first.figures.get("parameters") or {}
    texts = ", ".join(f"{n:,} ({model})" for model, n in counts.items())
    facts.append(("parameters", texts or None))
    if found := show_facts(facts):
        parts.append(element("details", element("summary", "More figures"), found))
    return parts


def show_script(script, groups, scripts, ladder=LADDER, tour=TOUR):
    """Return a script's card."""
    name = script.name
    parents = [(parent, about) for parent, child, about in ladder if child == name]
    head = [
        element("p", script.source or "", class_="source"),
        element("h2", script.title, id=f"{name}-title"),
        element("p", script.about, class_="full"),
    ]
    for parent, about in parents:
        link = element("a", scripts[parent].title, href=f"#{parent}")
        head.append(element("p", "Beside ", link, f": {about}.", class_="adds"))
    body = []
    if groups:
        body.append(show_run(script, groups[0], tour))
    else:
        body += [
            element("p", "Not recorded yet.", class_="missing"),
            show_code(f"python tour/{name}.py"),
        ]
    if script.statements:
        items = [
            element("li", element("b", key), " ", element("span", write_code(text)))
            for key, text in script.statements
        ]
        title = "What the article says, and where it is in the script"
        body += [element("h3", title), element("ul", items, class_="statements")]
    body += [element("p", write_code(note), class_="prose") for note in script.notes]
    for group in groups[1:]:
        body.append(
            element(
                "details",
                element("summary", "With other settings: ", differ(group[0])),
                show_run(script, group, tour),
            )
        )
    if groups:
        body += show_more(script, groups[0])
    for parent, _ in parents:
        n = changed_lines(parent, name)
        title = f"The diff to {scripts[parent].title}: {n} lines of code"
        body.append(
            element("details", element("summary", title), show_diff(parent, name))
        )
    back = element("p", element("a", "Back to the tree", href="#family"), class_="back")
    return element(
        *("article", element("header", head), body, back),
        **dict(id=name, aria_labelledby=f"{name}-title"),
    )


def differ(run):
    """Return what tells a run's settings, as Html."""
    options = [f"{option_name(name)} {value}" for name, value in run.options.items()]
    return element("code", " ".join(options) or run.machine["precision"])


def make_page(runs, own=False):
    """Return the page of these runs, Recorded, as a text.

    own: whether they are the reader's, and not those that come with the scripts.
    """
    scripts = find_scripts()
    groups = {name: group_runs(runs, name) for name in scripts}
    n_shown = sum(map(bool, groups.values()))
    whose = "runs of your own" if own else "recorded runs"
    lede = (
        f"{len(scripts)} scripts, one a GAN, in the order in which they came about: "
        "what each makes, what it is measured at, what is said of it, and what it adds "
        f"to another. From {whose} of {n_shown} of them: the last step of each, no "
        "step, seed or setting chosen by a figure."
    )
    worth = show_ladder(scripts, groups)
    if worth:
        link = element("a", "What a judge-FID is worth", href="#worth")
        lede = (lede, " ", link, " stands at the end.")
    body = [
        element("header", element("h1", "A tour of GANs"), element("p", lede)),
        element(
            "section",
            element("h2", "The family", id="family"),
            element(
                "p",
                "Each script is a diff of the one before it in this tree; the words "
                "tell what it adds.",
                None if n_shown == len(scripts) else " Dashed: no run yet.",
            ),
            show_tree(scripts, groups),
            aria_labelledby="family",
        ),
        [show_script(scripts[name], groups[name], scripts) for name in scripts],
        worth,
    ]
    footer = element("p", "Made by ", element("code", f"python {MARK}"), ".")
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="generator", content=MARK),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", "A tour of GANs"),
        Html(f"<style>{STYLE.read_text(encoding='utf-8')}</style>"),
    ]
    parts = [element("main", body), element("footer", footer)]
    page = element("html", element("head", head), element("body", parts), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def take_picture(page, out):
    """Save a picture of the top of a page, a file, as a browser shows it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    width, height = PICTURE
    try:
        with playwright.sync_playwright() as player:
            window = player.chromium.launch(executable_path=browser)
            tab = window.new_page(
                viewport={"width": width, "height": height}, color_scheme="light"
            )
            tab.goto(page.resolve().as_uri())
            content = tab.screenshot()
            window.close()
    except playwright.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(
            f"--picture: the browser can't take it ({reason}); install Chromium"
        ) from error
    marks = png_plugin.PngInfo()
    marks.add_text("Software", MARK)
    with write_atomically(out) as path, Image.open(io.BytesIO(content)) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=0)
        few.save(path, pnginfo=marks, optimize=True)


def check_out(option, path, suffix):
    """Raise InputError where a file can't be written, or is another's work."""
    if path.suffix != suffix:
        raise InputError(f"--{option} {path}: must end in {suffix}; give such a name")
    if not path.parent.is_dir():
        raise InputError(
            f"--{option} {path}: no such folder; make it, or give another name"
        )
    if path.exists():
        if path.is_file():
            with open(path, "rb") as file:
                if MARK.encode() in file.read(4096):
                    return
        raise InputError(
            f"--{option} {path}: is there already, and not made by this script; give "
            "another name"
        )


def parse_arguments(argv):
    parser = OneLineParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--runs",
        nargs="+",
        metavar="FOLDER",
        help="folders of runs, or of several in one (default: the recorded runs)",
    )
    add(
        "--out",
        type=Path,
        default=Path("gallery.html"),
        metavar="FILE",
        help="the page; one that is there is replaced (default: gallery.html)",
    )
    add(
        "--picture",
        type=Path,
        metavar="FILE",
        help=".png file: the top of the page, as Chromium shows it; needs Playwright, "
        "requirements/browser.txt",
    )
    return parser.parse_args(argv)


def start(args):
    check_out("out", args.out, ".html")
    if args.picture is not None:
        check_out("picture", args.picture, ".png")
        if importlib.util.find_spec("playwright") is None:
            raise InputError(
                "--picture: playwright is not installed; pip install -r "
                "requirements/browser.txt, or leave it out"
            )
    own = args.runs is not None
    runs = find_runs(args.runs if own else [RECORDED], find_scripts())
    text = make_page(runs, own)
    with write_atomically(args.out) as path:
        path.write_text(text, encoding="utf-8")
    print(f"The page of {len(runs)} runs is {args.out}")
    if args.picture is not None:
        take_picture(args.out, args.picture)
        print(f"Its picture is {args.picture}")


def main(argv=None):
    return run_script("gallery.py", lambda: start(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
