"""The page of the tour: what is on it, and that a browser shows all of it."""

import difflib
import html.parser
import importlib.util
import json
import re
import shutil

import diffs
import gallery
import numpy as np
import papers
import pytest
from PIL import Image

from parts import fails
from tour_scripts import SCRIPTS, load_script

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# elements that HTML has no end of
VOID = ("img", "meta")


def browser_is_missing():
    missing = importlib.util.find_spec("playwright") is None or BROWSER is None
    return pytest.mark.skipif(
        missing, reason="needs playwright and chromium, see requirements/browser.txt"
    )


class Page(html.parser.HTMLParser):
    """A page's elements: (tag, attributes, text within), in their order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        found = (tag, dict(attributes), [])
        self.elements.append(found)
        if tag not in VOID:
            self._open.append(found)

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for found in self._open:
            found[2].append(data)

    def all(self, tag, **wanted):
        wanted = {name.rstrip("_"): value for name, value in wanted.items()}
        return [
            (attributes, "".join(texts))
            for kind, attributes, texts in self.elements
            if kind == tag and wanted.items() <= attributes.items()
        ]

    def card(self, name):
        """The text of a script's card."""
        ((_, text),) = self.all("article", id=name)
        return text


@pytest.fixture(scope="module")
def recorded():
    """The page of the recorded runs: its text, and itself."""
    scripts = gallery.find_scripts()
    runs = gallery.find_runs([gallery.RECORDED], scripts)
    text = gallery.make_page(runs)
    return text, Page(text)


def write_run(folder, script="dcgan", seed=1, figures=(), measures=(), **options):
    """A small folder as a run of a script leaves it; figures None: not finished."""
    folder.mkdir(parents=True)
    settings = load_script(script).Settings(seed=seed, threads=1, **options)
    described = {"script": script, "seed": seed, "options": settings.options}
    (folder / "settings.json").write_text(json.dumps(described), encoding="utf-8")
    rows = ["step,judge_fid,modes,seconds", *(measures or ("5,40,9,6", "10,20,10,12"))]
    (folder / "measures.csv").write_text("\n".join(rows), encoding="utf-8")
    Image.new("L", (40, 30), 200).save(folder / "generated_plot_0010.png")
    Image.new("L", (40, 30), 100).save(folder / "generated_plot_0005.png")
    Image.new("RGB", (60, 20), "red").save(folder / "curves.png")
    if figures is not None:
        found = {"judge_fid": 20.0, "seconds": 120.0, "parameters": {"g": 1234}}
        found |= {"processor": "a processor"} | dict(figures)
        (folder / "figures.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def page_of(*folders):
    scripts = gallery.find_scripts()
    return Page(gallery.make_page(gallery.find_runs(folders, scripts), own=True))


# ---------------------------------------------------------------- what is on it


def test_every_script_is_on_the_page_in_the_tours_order(recorded):
    names = [attributes["id"] for attributes, _ in recorded[1].all("article")]
    assert sorted(names) == SCRIPTS
    tour = [name for name in papers.TOUR if name in names]
    assert [name for name in names if name in tour] == tour
    links = [attributes["href"] for attributes, _ in recorded[1].all("a")]
    assert {f"#{name}" for name in names} <= set(links)
    for parent, child, about in diffs.LADDER:
        assert about in recorded[1].card(child)
        assert f"The diff to {gallery.find_scripts()[parent].title}" in (
            recorded[1].card(child)
        )


def test_a_script_without_a_paper_comes_behind_what_is_not_younger():
    tour = {name: papers.TOUR[name] for name in ("gan", "dcgan", "cgan", "wgan")}
    ladder = [("gan", name, "") for name in (*tour, "acgan") if name != "gan"]
    found = gallery.find_scripts(ladder, tour)
    assert list(found) == ["gan", "dcgan", "cgan", "acgan", "wgan"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_statements_are_the_docstrings(name, recorded):
    script = gallery.find_scripts()[name]
    docstring = load_script(name).__doc__
    ids = re.findall(r"(?m)^([A-Z]+-\d+) ", docstring)
    assert [key for key, _ in script.statements] == ids
    card = " ".join(recorded[1].card(name).split())
    for key, text in script.statements:
        assert len(text) > 10 and f"{key} {text.replace('`', '')}" in card
    assert script.year > 2010 and script.source in card


def test_a_docstring_is_taken_apart():
    text = """TinyGAN: a small GAN (Doe and Roe 2015).

    python tour/tiny.py

What the article says of it, and where it is here:
TINY-1 one thing: here,
    and `there`.
Five tips:
TINY-2 another.

A note
in two lines.
"""
    script = gallery.read_script("tiny", text)
    assert script == gallery.Script(
        "tiny",
        "TinyGAN",
        "a small GAN",
        "Doe and Roe 2015",
        2015,
        [("TINY-1", "one thing: here, and `there`."), ("TINY-2", "another.")],
        ["A note in two lines."],
    )


@pytest.mark.parametrize("pair", diffs.LADDER, ids=lambda pair: pair[1])
def test_the_diffs_are_those_of_diffs(pair):
    page = Page(gallery.show_diff(*pair[:2]))
    ((attributes, text),) = page.all("pre", class_="diff")
    assert attributes["tabindex"] == "0" and attributes["aria-label"]
    ours = [line for line in text.splitlines() if not line.startswith("@@")]
    theirs = difflib.unified_diff(*map(diffs.read_lines, pair[:2]))
    theirs = [line.rstrip("\n") for line in theirs][2:]
    assert ours == [line for line in theirs if not line.startswith("@@")]
    added = [text.rstrip("\n") for _, text in page.all("span", class_="add")]
    assert added == [line for line in ours if line[0] == "+"]


def test_code_is_coloured():
    lines = ["def f(x):  # <b>\n", '    """Two\n', '    lines."""\n', "    return 1\n"]
    assert gallery.colour_code(lines) == [
        '<span class="k">def</span> <span class="n">f</span>(x):  '
        '<span class="c"># &lt;b&gt;</span>',
        '    <span class="s">&quot;&quot;&quot;Two</span>',
        '<span class="s">    lines.&quot;&quot;&quot;</span>',
        '    <span class="k">return</span> 1',
    ]


def test_recorded_figures_are_beside_the_published_ones(recorded):
    for name, (_, key, _, about, published) in papers.TOUR.items():
        found = [
            json.loads(path.read_text(encoding="utf-8"))
            for path in gallery.RECORDED.glob(f"{name}/*/figures.json")
        ]
        card = recorded[1].card(name) if name in SCRIPTS else ""
        if not found or not card:
            continue
        assert about[1:] in card and published in card
        assert f"{papers.spread(found, key)}" in card
    kept = {
        json.loads(path.read_text(encoding="utf-8"))["script"]
        for path in gallery.RECORDED.glob("*/*/settings.json")
    }
    for name in SCRIPTS:
        assert ("Not recorded yet" in recorded[1].card(name)) == (name not in kept)


# ---------------------------------------------------------------- one's own runs


def test_seeds_are_averaged_and_other_settings_stand_apart(tmp_path):
    for seed, error in ((1, 4.0), (2, 6.0), (3, 8.0)):
        figures = {"feature_error": error, "seconds": 120.0 * seed}
        write_run(tmp_path / f"a{seed}", seed=seed, figures=figures)
    write_run(tmp_path / "b", seed=1, figures={"feature_error": 77.0}, width=0.5)
    # the same seed again: the last one counts
    write_run(tmp_path / "a0", seed=1, figures={"feature_error": 99.0})
    page = page_of(tmp_path)
    card = page.card("dcgan")
    assert "6.00 ± 2.00 %" in card and "99" not in card
    assert "Seeds 1, 2 and 3; 2 minutes, the quickest" in card
    assert "With other settings: --width 0.5" in card and "77.0 %" in card
    assert "python tour/dcgan.py --seed 1 --threads 1" in card
    assert "python tour/dcgan.py --width 0.5 --seed 1 --threads 1" in card
    assert "Not recorded yet" not in card and "Not recorded yet" in page.card("gan")
    assert "1,234 (g)" in card and "a processor" in card
    assert len(page.all("g", class_="line seed-2")) == 1


def test_a_run_that_is_not_finished_has_its_last_measures(tmp_path):
    folder = write_run(tmp_path / "a", figures=None)
    card = page_of(folder).card("dcgan")
    assert "Not finished: these are the figures of step 10" in card
    assert "judge-FID20.0" in card and "not measured" in card
    # beside a finished one it does not count
    write_run(tmp_path / "b", seed=2, figures={"judge_fid": 30.0})
    card = page_of(tmp_path).card("dcgan")
    assert "judge-FID30.0" in card and "Not finished" not in card


def test_runs_without_a_judge_are_shown(tmp_path):
    write_run(tmp_path / "a", figures={"judge_fid": None}, measures=("5,,9,6",))
    page = page_of(tmp_path)
    assert "classes seen over the steps" in page.card("dcgan")
    assert "judge-FID" not in page.card("dcgan")
    assert not page.all("ol", class_="worth")
    # images of one's own are not those that the scale is of
    own = write_run(tmp_path / "b", figures={"judge_fid": 3.0}, data="/b")
    assert not page_of(own).all("ol", class_="worth")
    write_run(tmp_path / "c", seed=4, figures={"judge_fid": 3.25})
    ((_, text),) = page_of(tmp_path / "c").all("li", class_="gan")
    assert text == "DCGAN3.25"


def test_the_newest_sheet_is_shown(tmp_path):
    run = gallery.read_run(write_run(tmp_path / "a"), gallery.find_scripts())
    assert run.sheet.name == "generated_plot_0010.png"


def test_other_folders_in_a_folder_of_runs_are_passed_over(tmp_path):
    write_run(tmp_path / "a")
    other = write_run(tmp_path / "b")
    (other / "settings.json").write_text('{"script": "sgan_mnist", "seed": 1}')
    begun = write_run(tmp_path / "c", figures=None)
    (begun / "measures.csv").unlink()
    (tmp_path / "d").mkdir()
    assert len(gallery.find_runs([tmp_path], gallery.find_scripts())) == 1


def test_what_files_say_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>&\"'"
    folder = write_run(
        tmp_path / "a",
        figures={"processor": evil, evil: 3.0, "parameters": {evil: 5}},
        data=str(tmp_path / evil),
    )
    text = gallery.make_page(gallery.find_runs([folder], gallery.find_scripts()), True)
    assert "<script" not in text and "<img src=x" not in text
    assert evil in Page(text).card("dcgan")
    # that of a builder of elements holds for whatever goes through it
    built = gallery.element("p", "<b>", [None, gallery.element("i", "&")], title='"<')
    assert built == '<p title="&quot;&lt;">&lt;b&gt;<i>&amp;</i></p>'


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("settings.json", "{", "not the settings of a run"),
        ("settings.json", "[1]", "not the settings of a run"),
        ("settings.json", '{"script": ["dcgan"], "seed": 1}', "not the settings"),
        ("settings.json", '{"script": "dcgan", "seed": 1}', "not the settings"),
        (
            "settings.json",
            '{"script": "dcgan", "seed": 1, "options": {"steps": "a"}}',
            "not the settings of a run",
        ),
        ("settings.json", '{"script": "sgan_mnist", "seed": 1}', "is no run of"),
        ("settings.json", "[" * 100_000, "not the settings of a run"),
        ("figures.json", "", "not the figures of a run"),
        ("figures.json", '{"seconds": 1}', "not the figures of a run"),
        *(
            ("figures.json", json.dumps(figures), "not the figures of a run")
            for figures in (
                {"seconds": float("nan"), "parameters": {}, "processor": ""},
                {"seconds": 1, "parameters": [], "processor": ""},
                {"seconds": 1, "parameters": {"g": None}, "processor": ""},
                {"seconds": 1, "parameters": {}, "processor": 3},
                {"seconds": 1, "parameters": {}, "processor": "", "modes": "<b>"},
            )
        ),
        ("measures.csv", "", "not the measures of a run"),
        ("measures.csv", "step,seconds\n", "not the measures of a run"),
        ("measures.csv", "step,judge_fid\n5,4\n", "not the measures of a run"),
        ("measures.csv", "step,seconds\n5\n", "not the measures of a run"),
        ("measures.csv", "step,seconds\n5,inf\n", "not the measures of a run"),
        ("measures.csv", "step,seconds\n5,x\n", "not the measures of a run"),
        ("generated_plot_0010.png", "text", "not a PNG or JPEG image"),
        ("curves.png", "text", "not a PNG or JPEG image"),
    ],
)
def test_damaged_files_end_in_one_line(name, content, problem, tmp_path, capsys):
    folder = write_run(tmp_path / "run")
    (folder / name).write_text(content, encoding="utf-8")
    out = tmp_path / "page.html"
    line = fails(gallery, capsys, "--runs", folder, "--out", out)
    assert problem in line and name.partition("_")[0] in line or "is no run" in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_that_has_measured_nothing_is_refused_by_name(tmp_path, capsys):
    folder = write_run(tmp_path / "run", figures=None)
    (folder / "measures.csv").unlink()
    line = fails(gallery, capsys, "--runs", folder, "--out", tmp_path / "page.html")
    assert "measures.csv: is missing; let the run go on" in line


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "missing"):
        assert "holds no run of the tour" in fails(gallery, capsys, "--runs", folder)


# ---------------------------------------------------------------- its curves


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        # far apart: by powers of ten
        ([400, 100, 4], ["5", "10", "20", "50", "100", "200"]),
        ([400, 30], ["50", "100", "200"]),
        ([1e-9, 1e9], ["1e-09", "1e-05", "0.1", "1,000", "1e+07"]),
        ([200, 100, 60], ["50", "100", "150", "200"]),
        ([0.1, 0.5, -0.3], ["-0.2", "0", "0.2", "0.4"]),
        ([10, 10], ["9", "9.5", "10", "10.5", "11"]),
        ([0], ["-0.1", "-0.05", "0", "0.05", "0.1"]),
    ],
)
def test_curves_stay_in_their_frame(values, ticks):
    lines = [list(zip(range(0, 100 * len(values), 100), values, strict=True))]
    page = Page(gallery.draw_curve(lines, "it", "what is seen"))
    ((svg, _),) = page.all("svg")
    assert svg["aria-label"] == "what is seen" and svg["role"] == "img"
    (width, height), (left, *_) = gallery.CHART, gallery.MARGIN
    dots = [(float(dot["cx"]), float(dot["cy"])) for dot, _ in page.all("circle")]
    assert all(left <= x < width and 0 < y < height for x, y in dots)
    seen = [text for _, text in page.all("text", x=str(left - 8))]
    assert seen == ticks
    assert len(page.all("line", class_="grid")) == len(ticks)
    # the larger, the higher
    order = np.argsort(values, kind="stable")
    assert (np.diff([dots[i][1] for i in order]) <= 0).all()


# ---------------------------------------------------------------- its file


def test_only_what_this_script_made_is_replaced(tmp_path, capsys):
    folder = write_run(tmp_path / "run")
    out = tmp_path / "page.html"
    out.write_text("my own page")
    arguments = ("--runs", str(folder), "--out", str(out))
    assert "not made by this script" in fails(gallery, capsys, *arguments)
    assert out.read_text() == "my own page"
    out.unlink()
    assert gallery.main(arguments) == 0
    before = out.read_bytes()
    assert gallery.main(arguments) == 0
    assert out.read_bytes() == before
    assert before.startswith(b'<!DOCTYPE html>\n<html lang="en">')


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--out", "page.txt"), "must end in .html"),
        (("--out", "missing/page.html"), "no such folder"),
        (("--picture", "page.jpg"), "must end in .png"),
    ],
)
def test_other_outputs_are_refused(arguments, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert problem in fails(gallery, capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_without_a_browser_no_picture_is_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gallery.importlib.util, "find_spec", lambda name: None)
    line = fails(gallery, capsys, "--picture", "a.png")
    assert "requirements/browser.txt" in line
    assert not list(tmp_path.iterdir())


def test_the_page_asks_for_nothing(recorded):
    text, page = recorded
    assert "<script" not in text and "@import" not in text and "url(" not in text
    for tag, attributes, _ in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name)
    (policy,) = [
        attributes["content"]
        for attributes, _ in page.all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_page_can_be_heard(recorded):
    _, page = recorded
    assert all("alt" in attributes for attributes, _ in page.all("img"))
    levels = [int(tag[1]) for tag, *_ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    named = [
        a["aria-labelledby"] for _, a, _ in page.elements if "aria-labelledby" in a
    ]
    assert named and set(named) <= set(ids)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out(scheme):
    """WCAG's 4.5 : 1, in both colour schemes."""
    style = gallery.STYLE.read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    colours = dict(re.findall(r"--(\w+): (#\w{6});", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--(\w+): (#\w{6});", dark))
    texts = {"ink": ("paper", "card", "soft"), "muted": ("paper", "card", "place")}
    texts |= {"accent": ("paper", "card")}
    texts["muted"] += ("soft",)
    for name in ("ink", "keyword", "string", "comment"):
        texts[name] = (*texts.get(name, ()), "card", "added", "removed")
    for text, grounds in texts.items():
        for ground in grounds:
            a, b = (luminance(colours[name]) for name in (text, ground))
            ratio = (max(a, b) + 0.05) / (min(a, b) + 0.05)
            assert ratio >= 4.5, (text, ground, ratio)


@browser_is_missing()
def test_in_a_browser(recorded, tmp_path):
    from playwright.sync_api import sync_playwright

    wide = write_run(
        tmp_path / "wide",
        figures={"a_figure_with_a_long_name" * 9: 1.0, "processor": "p" * 200},
        data="/" + "x" * 300,
    )
    runs = gallery.find_runs([wide], gallery.find_scripts())
    pages = {"recorded": recorded[0], "own": gallery.make_page(runs, own=True)}
    requests, errors = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--disable-gpu"]
        )
        for name, text in pages.items():
            path = tmp_path / f"{name}.html"
            path.write_text(text, encoding="utf-8")
            for width, scheme in ((360, "dark"), (1200, "light")):
                tab = browser.new_page(
                    viewport={"width": width, "height": 800},
                    color_scheme=scheme,
                    reduced_motion="reduce",  # links lead there at once
                )
                tab.set_default_timeout(60_000)
                tab.on("request", lambda request: requests.append(request.url))
                tab.on("pageerror", lambda error: errors.append(str(error)))
                tab.on("console", lambda message: errors.append(message.text))
                tab.goto(path.as_uri())
                check_what_is_seen(tab, width)
                tab.close()
        browser.close()
    assert not errors
    foreign = [url for url in requests if not url.startswith(("data:", "file:"))]
    assert not foreign
    files = {url for url in requests if url.startswith("file:")}
    assert files == {(tmp_path / f"{name}.html").as_uri() for name in pages}


def check_what_is_seen(tab, width):
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.evaluate("Promise.all([...document.images].map(i => i.decode()))")
    assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    sizes = "[document.documentElement.scrollWidth, document.body.scrollWidth]"
    assert tab.evaluate(sizes) == [width, width]
    # nothing is cut off either, and only diffs can be moved to the side
    outside = """() => [...document.querySelectorAll('body *')].filter(e =>
        !e.closest('.diff') && !e.closest('svg')
        && (e.getBoundingClientRect().right > innerWidth + 1
            || e.getBoundingClientRect().left < -1
            || (e.clientWidth && e.scrollWidth > e.clientWidth + 1
                && getComputedStyle(e).display != 'inline'))
    ).map(e => e.outerHTML.slice(0, 200))"""
    assert tab.evaluate(outside) == []
    broken = """() => [...document.querySelectorAll('a')].filter(a =>
        !document.getElementById(a.getAttribute('href').slice(1))).length"""
    assert tab.evaluate(broken) == 0
    # a link of the tree leads to its card
    tab.locator(".tree a").last.click()
    name = tab.evaluate("location.hash.slice(1)")
    place = f"document.getElementById('{name}').getBoundingClientRect().top"
    assert abs(tab.evaluate(place)) < 400
    # the colours follow the reader's
    grounds = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (int(re.findall(r"\d+", grounds)[0]) < 100) == dark


@browser_is_missing()
def test_a_picture_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--runs", str(write_run(tmp_path / "run")), "--picture", "page.png"]
    assert gallery.main(arguments) == 0
    with Image.open("page.png") as picture:
        assert picture.size == gallery.PICTURE
        assert len(picture.convert("RGB").getcolors(256)) > 10
    # and is made anew
    assert gallery.main(arguments) == 0


def test_the_shipped_picture_is_small():
    path = gallery.ROOT / "results" / "gallery.png"
    assert path.stat().st_size <= 300_000
    with Image.open(path) as picture:
        assert picture.size == gallery.PICTURE
