import asyncio
import base64
import html.parser
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import app
import discriminators
import load_classifier
import parts
import sgan_mnist
from gankit.data.images import fit_image
from gankit.models import files
from gankit.models.digits import fit_digit
from gankit.models.files import save_model

LATENT_DIM = 8
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
BROWSER_OPTIONS = (
    "--no-sandbox",  # as root it does not start with one
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def needs(*packages, browser=False):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if browser and BROWSER is None:
        missing.append("chromium")
    reason = f"needs {', '.join(missing)}, see requirements/browser.txt"
    return pytest.mark.skipif(bool(missing), reason=reason)


needs_gradio = needs("gradio")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run's folder with both models, after steps 2 and 10."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    _, c_model = discriminators.define_stacked_discriminators()
    g_model = sgan_mnist.define_generator(LATENT_DIM)
    for step in (2, 10):
        save_model(c_model, folder / f"c_model_{step:04d}.keras")
        save_model(g_model, folder / f"g_model_{step:04d}.keras")
    return folder


@pytest.fixture(scope="module")
def page(run_folder):
    return app.Page(*app.find_models(run_folder))


@pytest.fixture(scope="module")
def shipped():
    return load_classifier.load_classifier(files.SHIPPED_RUN / "c_model_12000.keras")


@pytest.fixture(scope="module")
def served(page, tmp_path_factory):
    """The page, served; its address."""
    before, port = dict(os.environ), free_port()
    app.settle_environment(tmp_path_factory.mktemp("gradio"))
    try:
        blocks = app.serve(page, port, wait=False)
        yield f"http://{app.HOST}:{port}/"
        blocks.close()
    finally:
        os.environ.clear()
        os.environ.update(before)


def free_port():
    with socket.socket() as free:
        free.bind((app.HOST, 0))
        return free.getsockname()[1]


def on_paper(digits):
    """Digits (n, 28, 28, 1) as somebody may draw them: large and dark, off centre."""
    pages = []
    for digit in digits:
        picture = Image.fromarray(255 - digit[..., 0]).resize((140, 140))
        page = Image.new("L", (320, 240), 240)
        page.paste(picture, (15, 90))
        pages.append(np.asarray(page)[..., np.newaxis])
    return pages


def test_digits_are_fitted_as_mnists_are(mnist, shipped):
    _, (x, y) = mnist
    x, y = x[:200], y[:200]
    fitted = np.stack([fit_digit(image) for image in on_paper(x)])
    assert fitted.shape == (200, 28, 28, 1) and fitted.dtype == np.uint8
    # nearly what they were made from, but for the smoothing
    differences = np.abs(fitted.astype(int) - x).mean(axis=(1, 2, 3))
    assert np.median(differences) < 12
    used = fitted[..., 0] > 50
    for axis in (1, 2):
        places = used.any(axis=axis)
        assert (places.sum(axis=1) <= 20).all()
    answers = app.class_probabilities(shipped, fitted).argmax(axis=1)
    before = app.class_probabilities(shipped, x).argmax(axis=1)
    assert np.mean(before == y) > 0.8
    assert np.mean(answers == y) > np.mean(before == y) - 0.04


def test_odd_images_are_fitted():
    assert fit_digit(np.full((50, 40, 3), 200, np.uint8)) is None
    line = np.full((300, 300, 1), 255, np.uint8)
    line[10:290, 150] = 0
    assert fit_digit(line).any()
    dot = np.zeros((1, 1, 1), np.uint8)
    assert fit_digit(dot) is None
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert fit_digit(noise).shape == (28, 28, 1)


def test_the_canvas(page):
    def answer(pixels):
        return page.answer_drawing(base64.b64encode(pixels.tobytes()).decode())

    drawn = np.full((280, 280), 255, np.uint8)
    assert page.answer_drawing(None) == page.answer_drawing("") == (None, None)
    assert answer(drawn) == (None, None)
    drawn[40:200, 100:120] = 0
    drawn[180:200, 100:180] = 0
    assert_answered(page, answer(drawn), drawn[..., np.newaxis])
    for odd in ("#", "AAAA", ["AAAA"], 3):
        with pytest.raises(app.InputError, match="not what this page sends"):
            page.answer_drawing(odd)


def assert_answered(page, answer, image):
    """What is said of an image is what the classifier says of it, fitted."""
    probabilities, picture = answer
    fitted = fit_digit(image)
    expected = page.c_model.predict_on_batch(fitted[np.newaxis] / 127.5 - 1)[0]
    assert list(probabilities) == [*"0123456789"]
    np.testing.assert_allclose([*probabilities.values()], expected, atol=1e-5)
    assert max(expected) > min(expected) + 0.01
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.kron(fitted[..., 0], np.ones((10, 10))))


def test_an_image_file(page, tmp_path, mnist):
    assert page.answer_file(None) == (None, None)
    image = on_paper(mnist[1][0][:1])[0]
    colours = image.repeat(3, axis=2)
    Image.fromarray(colours).save(tmp_path / "digit.png")
    assert_answered(page, page.answer_file(str(tmp_path / "digit.png")), image)
    Image.new("RGB", (90, 80), "white").save(tmp_path / "blank.png")
    assert page.answer_file(str(tmp_path / "blank.png")) == (None, None)


def test_other_images_than_digits_are_seen_whole(page, tmp_path):
    path = tmp_path / "c_model_0001.keras"
    save_model(page.c_model, path, class_names=[*"abcdefghij"])
    other = app.Page(path, None)
    image = np.zeros((56, 56, 1), np.uint8)
    image[:20, :20] = 200
    Image.fromarray(image[..., 0]).save(tmp_path / "image.png")
    probabilities, picture = other.answer_file(str(tmp_path / "image.png"))
    assert list(probabilities) == [*"abcdefghij"]
    whole = fit_image(image, 28, 28, 1)[..., 0]
    np.testing.assert_array_equal(picture, np.kron(whole, np.ones((10, 10))))
    # MNIST's digits are centred
    _, picture = page.answer_file(str(tmp_path / "image.png"))
    assert picture[140, 140] > 200 > 50 > picture[20, 20]


@needs_gradio
def test_a_file_that_is_no_image(page, tmp_path):
    path = tmp_path / "text.png"
    path.write_text("not a picture")
    with pytest.raises(app.gr.Error, match="not a PNG or JPEG image") as caught:
        page.answer_file(str(path))
    assert str(tmp_path) not in str(caught.value)


def test_directions(page):
    directions = page.directions
    assert directions.shape == (6, LATENT_DIM)
    np.testing.assert_allclose(directions @ directions.T, np.eye(6), atol=1e-5)
    kernel = np.array(page.g_model.layers[1].kernel)
    effects = np.linalg.norm(directions @ kernel, axis=1)
    assert (np.diff(effects) <= 1e-5).all()
    # no other step of this length changes the first layer more
    others = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    assert np.linalg.norm(others @ kernel, axis=1).max() <= effects[0] + 1e-5
    # nor does one that leaves these directions alone, more than the last of them
    others -= others @ directions.T @ directions
    others = others[np.linalg.norm(others, axis=1) > 0.1]
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert np.linalg.norm(others @ kernel, axis=1).max() <= effects[-1] + 1e-5


def test_pictures_of_latent_points(page):
    def generated(point):
        images = page.g_model.predict_on_batch(np.float32(point)[np.newaxis])
        grey = np.rint(127.5 - 127.5 * images[0, ..., 0])
        return np.kron(grey, np.ones((10, 10)))

    point, *amounts = page.new_sample()
    assert len(point) == LATENT_DIM and amounts == [0.0] * 6
    json.dumps(point)  # as the page keeps it
    other, *_ = page.new_sample()
    assert other != point
    pictures = [
        page.answer_sliders(point, *amounts),
        page.answer_sliders(other, *amounts),
    ]
    for drawn, where in zip(pictures, (point, other), strict=True):
        assert drawn.shape == (280, 280) and drawn.dtype == np.uint8
        np.testing.assert_allclose(drawn, generated(where), atol=1)
    assert (pictures[0] != pictures[1]).any()
    # each slider moves along its direction
    for i, direction in enumerate(page.directions):
        amounts = [0.0] * 6
        amounts[i] = 4.0
        moved = page.answer_sliders(point, *amounts)
        np.testing.assert_allclose(moved, generated(point + 4 * direction), atol=1)
        assert (moved != pictures[0]).any()


def test_pictures_are_enlarged_to_about_the_same_size():
    for shape, times in (
        ((28, 28), 10),
        ((32, 20, 3), 8),
        ((200, 300, 3), 1),
        ((8, 8), 35),
    ):
        image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        squares = np.ones((times, times, 1)[: len(shape)], np.uint8)
        np.testing.assert_array_equal(app.enlarge(image), np.kron(image, squares))


def test_the_models_of_a_named_run(run_folder, tmp_path):
    names = [path.name for path in app.find_models(run_folder)]
    assert names == ["c_model_0010.keras", "g_model_0010.keras"]
    (tmp_path / "g_model_0002.keras").touch()
    assert app.find_models(tmp_path) == (None, tmp_path / "g_model_0002.keras")
    (tmp_path / "empty").mkdir()
    with pytest.raises(app.InputError, match="holds no c_model and no g_model"):
        app.find_models(tmp_path / "empty")


def test_the_newest_models_or_those_shipped(tmp_path, monkeypatch):
    shipped, tuned = tmp_path / "sgan_mnist", tmp_path / "sgan_tuned"
    monkeypatch.setattr(files, "SHIPPED_RUN", shipped)
    monkeypatch.setattr(files, "SHIPPED_TUNED", tuned)
    monkeypatch.setattr(files, "SHIPPED_GENERATOR", tmp_path / "no generator")
    monkeypatch.chdir(tmp_path)

    def add(folder, *names):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("settings.json", *names):
            (folder / name).touch()

    with pytest.raises(app.InputError, match="train one with sgan_mnist.py"):
        app.find_models(None)
    add(shipped, "c_model_12000.keras")
    assert app.find_models(None) == (shipped / "c_model_12000.keras", None)
    add(shipped, "g_model_12000.keras")
    add(tuned, "c_model_4000.keras")
    tutorials = shipped / "g_model_12000.keras"
    assert app.find_models(None) == (tuned / "c_model_4000.keras", tutorials)
    runs = Path("runs")
    add(runs / "a", "c_model_0600.keras", "c_model_1200.keras")
    classifier = runs / "a" / "c_model_1200.keras"
    assert app.find_models(None) == (classifier, tutorials)
    add(runs / "a", "g_model_0600.keras")
    assert app.find_models(None) == (classifier, runs / "a" / "g_model_0600.keras")


def test_the_page_with_what_is_shipped_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    c_path, g_path = app.find_models(None)
    assert c_path.parent in (files.SHIPPED_TUNED, files.SHIPPED_RUN)
    page = app.Page(c_path, g_path)
    assert page.class_names == [*"0123456789"]


def test_bad_input(tmp_path, run_folder, capsys, monkeypatch):
    line = parts.fails(app, capsys, "--port", 80)
    assert "--port 80: must be from 1024 to 65535" in line
    if importlib.util.find_spec("gradio"):
        assert "holds no c_model" in parts.fails(app, capsys, tmp_path)
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    assert "requirements/app.txt" in parts.fails(app, capsys, run_folder)


def test_the_environment_of_the_page(monkeypatch, tmp_path):
    environment = {"GRADIO_ALLOWED_PATHS": "/", "http_proxy": "x", "NO_PROXY": "y"}
    monkeypatch.setattr(os, "environ", environment)
    app.settle_environment(tmp_path)
    assert environment == {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
    }


# ---------------------------------------------------------------- served


def test_the_policy_goes_with_each_answer():
    sent = []

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": scope["status"]})
        await send({"type": "http.response.body", "body": b"text"})

    async def send(message):
        sent.append(message)

    for status in (200, 404):
        asyncio.run(app.OwnContentOnly(answer)({"status": status}, None, send))
    policy = (b"content-security-policy", app.CONTENT_POLICY.encode())
    body = {"type": "http.response.body", "body": b"text"}
    for status, message in zip((200, 404), sent[::2], strict=True):
        assert message["status"] == status and message["headers"] == [policy]
    assert sent[1::2] == [body, body]
    # only what the page itself has, of whatever kind
    assert app.CONTENT_POLICY.startswith("default-src 'self'")
    for rule in app.CONTENT_POLICY.split("; "):
        assert set(rule.split()[1:]) <= {
            *("'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'"),
            *("data:", "blob:"),
        }


class Fetched(html.parser.HTMLParser):
    """Collects what a browser fetches for a page, or sends to."""

    def __init__(self, text):
        super().__init__()
        self.addresses = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        names = ("src", "href", "action", "srcset", "data", "poster")
        self.addresses += [value for name, value in attributes if name in names]


def get(address):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        address
    ) as answer:
        assert app.CONTENT_POLICY in answer.headers["content-security-policy"]
        return answer.read().decode()


def is_own(address):
    return not re.match(r"(?i)\s*([a-z][a-z0-9+.-]*:|//)", address)


@needs_gradio
def test_the_served_page_fetches_nothing_from_elsewhere(served):
    page = get(served)
    assert "Semi-supervised GAN" in page
    addresses = Fetched(page).addresses
    assert len(addresses) > 2
    assert [address for address in addresses if not is_own(address)] == []
    config = json.loads(get(served + "config"))
    assert config["analytics_enabled"] is False
    assert [style for style in config["stylesheets"] or () if not is_own(style)] == []
    sheets = [address for address in addresses if address.endswith(".css")]
    for sheet in ("theme.css", *sheets):
        style = get(urllib.parse.urljoin(served, sheet))
        fetched = re.findall(
            r"url\(\s*[\"']?([^\"')]*)|@import\s+[\"'](.*?)[\"']", style
        )
        for address in map("".join, fetched):
            assert is_own(address) or address.startswith("data:"), address


@needs_gradio
def test_the_served_page_shows_nothing_else(served, tmp_path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(served + "docs")
    assert caught.value.code == 404
    assert app.CONTENT_POLICY in caught.value.headers["content-security-policy"]
    info = json.loads(get(served + "gradio_api/info"))
    assert info == {"named_endpoints": {}, "unnamed_endpoints": {}}
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for path in (f"gradio_api/file={secret}", "monitoring"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(served + path)
        assert caught.value.code == 403


@needs_gradio
def test_what_the_page_holds(run_folder, page):
    def labels(page):
        return [
            component["props"].get("label")
            for component in page.build().get_config_file()["components"]
            if component["type"] in ("label", "image", "slider", "file")
        ]

    classifier = ["PNG or JPEG", "Probabilities", "As the classifier sees it"]
    generator = ["Generated", *(f"Direction {i}" for i in range(1, 7))]
    assert labels(page) == classifier + generator
    c_path, g_path = app.find_models(run_folder)
    assert labels(app.Page(c_path, None)) == classifier
    assert labels(app.Page(None, g_path)) == generator


@needs_gradio
def test_a_port_in_use(page):
    with socket.socket() as other:
        other.bind((app.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(app.InputError, match=f"--port {port}: can't be used"):
            app.serve(page, port, wait=False)


@needs_gradio
def test_the_script(run_folder, tmp_path):
    port = free_port()
    with subprocess.Popen(
        [sys.executable, app.__file__, run_folder, "--port", str(port)],
        cwd=tmp_path,
        # of a user whose requests go elsewhere
        env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": ""},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=parts.default_signals,
    ) as script:
        try:
            lines = [script.stdout.readline() for _ in range(3)]
            assert lines[0] == f"Classifier: {run_folder / 'c_model_0010.keras'}\n"
            assert lines[1] == f"Generator: {run_folder / 'g_model_0010.keras'}\n"
            assert lines[2].startswith(f"Open http://127.0.0.1:{port} in a browser")
            assert "Semi-supervised GAN" in get(f"http://{app.HOST}:{port}/")
            script.send_signal(signal.SIGINT)
            script.communicate(timeout=60)
            assert script.returncode == 0
        finally:
            script.kill()


@needs("gradio", "playwright", browser=True)
def test_in_a_browser(served, tmp_path, mnist):
    from playwright.sync_api import expect, sync_playwright

    upload = tmp_path / "digit.png"
    Image.fromarray(mnist[1][0][0, ..., 0]).save(upload)
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    requests, errors = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=[*BROWSER_OPTIONS]
        )
        tab = browser.new_page()
        tab.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("pageerror", lambda error: errors.append(error))
        tab.goto(served)
        # the generator's picture comes by itself, and changes
        picture = tab.locator("#generated img")
        expect(picture).to_be_visible()
        source = picture.get_attribute("src")
        tab.get_by_role("button", name="New sample").click()
        expect(picture).not_to_have_attribute("src", source)
        source = picture.get_attribute("src")
        tab.get_by_role("slider").first.fill("3")
        expect(picture).not_to_have_attribute("src", source)

        box = tab.locator("#drawing canvas").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 4
        tab.mouse.move(x, y)
        tab.mouse.down()
        tab.mouse.move(x, y + box["height"] / 2, steps=10)
        tab.mouse.up()
        answer = tab.locator("#answer")
        expect(answer).to_contain_text("%")
        expect(tab.locator("#seen img")).to_be_visible()
        tab.get_by_role("button", name="Clear", exact=True).click()
        expect(answer).not_to_contain_text("%")
        expect(tab.locator("#seen img")).to_have_count(0)

        tab.get_by_role("tab", name="Drop an image").click()
        tab.locator("input[type=file]").set_input_files(upload)
        expect(answer).to_contain_text("%")
        tab.get_by_label("Clear").first.click()
        expect(answer).not_to_contain_text("%")
        tab.locator("input[type=file]").set_input_files(text)
        expect(tab.get_by_text("not a PNG or JPEG image")).to_be_visible()

        # the browser refuses what is not the page's own
        refused = tab.evaluate(
            """() => new Promise((resolve) => {
                addEventListener("securitypolicyviolation",
                                 (event) => resolve(event.blockedURI));
                const image = new Image();
                image.onerror = () => setTimeout(resolve, 1000, "not refused");
                image.src = "http://127.0.0.2:9/foreign.png";
            })"""
        )
        assert refused == "http://127.0.0.2:9/foreign.png"
        browser.close()
    foreign = [
        url for url in requests if not url.startswith((served, "blob:", "data:"))
    ]
    assert foreign in ([], ["http://127.0.0.2:9/foreign.png"])
    assert not errors
