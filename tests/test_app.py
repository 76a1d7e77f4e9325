import base64
import importlib.util
import shutil
import socket

import keras
import numpy as np
import pytest
from PIL import Image

import app
import discriminators
import load_classifier
import sgan_mnist
from gankit.models.files import save_model

LATENT_DIM = 8
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    BROWSER is None
    or any(importlib.util.find_spec(name) is None for name in ("gradio", "playwright")),
    reason="needs gradio, playwright and a browser",
)


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
    return load_classifier.load_classifier(
        load_classifier.SHIPPED_RUN / "c_model_12000.keras"
    )


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
    fitted = np.stack([app.fit_digit(image) for image in on_paper(x)])
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
    assert np.mean(answers == y) > np.mean(before == y) - 0.04


def test_odd_images_are_fitted():
    assert app.fit_digit(np.full((50, 40, 3), 200, np.uint8)) is None
    line = np.full((300, 300, 1), 255, np.uint8)
    line[10:290, 150] = 0
    assert app.fit_digit(line).any()
    dot = np.zeros((1, 1, 1), np.uint8)
    assert app.fit_digit(dot) is None
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert app.fit_digit(noise).shape == (28, 28, 1)
    # other networks get other images
    assert app.prepare(noise, (32, 32, 3)).shape == (32, 32, 3)


def test_the_canvas(page):
    def answer(pixels):
        return page.answer_drawing(base64.b64encode(pixels.tobytes()).decode())

    drawn = np.full((280, 280), 255, np.uint8)
    assert page.answer_drawing(None) == page.answer_drawing("") == (None, None)
    assert answer(drawn) == (None, None)
    drawn[40:200, 100:120] = 0
    probabilities, picture = answer(drawn)
    assert list(probabilities) == [*"0123456789"]
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert picture.shape == (280, 280) and picture.max() > 200
    for odd in ("#", "AAAA", ["AAAA"], 3):
        with pytest.raises(app.InputError, match="not what this page sends"):
            page.answer_drawing(odd)


def test_directions_and_pictures(page):
    directions = page.directions
    np.testing.assert_allclose(directions @ directions.T, np.eye(6), atol=1e-5)
    kernel = np.array(page.g_model.layers[1].kernel)
    effects = np.linalg.norm(directions @ kernel, axis=1)
    assert (np.diff(effects) <= 1e-5).all()
    # no other step of this length changes the first layer more
    others = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    assert np.linalg.norm(others @ kernel, axis=1).max() <= effects[0] + 1e-5

    point, *amounts = page.new_sample()
    assert len(point) == LATENT_DIM and amounts == [0.0] * 6
    picture = page.answer_sliders(point, *amounts)
    assert picture.shape == (280, 280) and picture.dtype == np.uint8
    moved = page.answer_sliders(point, 4.0, *amounts[1:])
    there = page.answer_sliders(point + 4 * directions[0], *amounts)
    np.testing.assert_array_equal(moved, there)
    assert (moved != picture).any() or page.new_sample()[0] != point


def test_the_newest_models_of_a_run(run_folder, tmp_path, monkeypatch, capsys):
    names = [path.name for path in app.find_models(run_folder)]
    assert names == ["c_model_0010.keras", "g_model_0010.keras"]
    monkeypatch.chdir(tmp_path)
    assert app.find_models(None) == (
        load_classifier.SHIPPED_RUN / "c_model_12000.keras",
        None,
    )
    with pytest.raises(app.InputError, match="holds no c_model and no g_model"):
        app.find_models(tmp_path)
    assert app.main(["--port", "80"]) == 2
    assert "--port 80: must be from 1024" in capsys.readouterr().err


def test_without_gradio(run_folder, monkeypatch, capsys):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    assert app.main([str(run_folder)]) == 2
    assert "requirements/app.txt" in capsys.readouterr().err


@needs_browser
def test_in_a_browser(page, tmp_path, monkeypatch, mnist):
    from playwright.sync_api import expect, sync_playwright

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    with socket.socket() as free:
        free.bind((app.HOST, 0))
        port = free.getsockname()[1]
    own = f"http://{app.HOST}:{port}/"
    upload = tmp_path / "digit.png"
    Image.fromarray(mnist[1][0][0, ..., 0]).save(upload)
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    requests = []
    blocks = app.serve(page, port, wait=False)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=BROWSER, args=["--no-sandbox"]
            )
            tab = browser.new_page()
            tab.set_default_timeout(60_000)
            expect.set_options(timeout=60_000)
            tab.on("request", lambda request: requests.append(request.url))
            tab.goto(own)
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
            tab.screenshot(path=tmp_path / "drawn.png", full_page=True)
            tab.get_by_role("button", name="Clear", exact=True).click()
            expect(answer).not_to_contain_text("%")
            expect(tab.locator("#seen img")).to_have_count(0)

            tab.get_by_role("tab", name="Drop an image").click()
            tab.locator("input[type=file]").set_input_files(upload)
            expect(answer).to_contain_text("%")
            tab.screenshot(path=tmp_path / "dropped.png", full_page=True)
            tab.get_by_label("Clear").first.click()
            expect(answer).not_to_contain_text("%")
            tab.locator("input[type=file]").set_input_files(text)
            expect(tab.get_by_text("not a PNG or JPEG image")).to_be_visible()
            browser.close()
    finally:
        blocks.close()
    foreign = [url for url in requests if not url.startswith((own, "blob:", "data:"))]
    assert not foreign
