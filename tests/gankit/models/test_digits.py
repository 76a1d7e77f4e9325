import json

import numpy as np
import pytest
from PIL import Image

import discriminators
import load_classifier
from gankit.models import digits
from gankit.models.files import SHIPPED_RUN

SHIPPED = SHIPPED_RUN / "c_model_12000.keras"


def on_paper(digit, size, corner, paper):
    """A digit (28, 28, 1), drawn dark and `size` pixels large on a white sheet."""
    drawn = Image.fromarray(255 - digit[..., 0]).resize((size, size))
    sheet = Image.new("L", (paper, paper), 255)
    sheet.paste(drawn, corner)
    return sheet


def accuracy(capsys, folder, y, *arguments):
    """Percentage of the images in a folder that the shipped classifier names right."""
    arguments = [SHIPPED, "--predict", folder, "--json", *arguments]
    assert load_classifier.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr()
    answers = [json.loads(line)["class"] for line in printed.out.splitlines()]
    return 100 * np.mean(np.array(answers) == y), printed.err


@pytest.mark.parametrize(
    ("size", "corner", "paper"), [(400, (200, 200), 800), (280, (20, 220), 560)]
)
def test_large_drawings_are_classified_as_well_as_mnists(
    size, corner, paper, mnist, tmp_path, capsys
):
    x, y = (part[:40] for part in mnist[1])
    for i, digit in enumerate(x):
        on_paper(digit, size, corner, paper).save(tmp_path / f"{i:02}.png")
    right, said = accuracy(capsys, tmp_path, y)
    assert right >= 85
    assert said.startswith("40 of 40 images were taken for a drawn digit")
    assert said.count("\n") == 1 and "--digit no" in said
    whole, said = accuracy(capsys, tmp_path, y, "--digit", "no", "--invert", "auto")
    assert whole < 60 and said == ""


def test_mnists_own_images_are_left_as_they_are(mnist, tmp_path, capsys):
    x, y = (part[:40] for part in mnist[1])
    for i, digit in enumerate(x):
        Image.fromarray(digit[..., 0]).save(tmp_path / f"{i:02}.png")
    arguments = [str(SHIPPED), "--predict", str(tmp_path), "--json"]
    assert load_classifier.main(arguments) == 0
    by_itself = capsys.readouterr()
    assert load_classifier.main([*arguments, "--digit", "no"]) == 0
    assert capsys.readouterr() == by_itself and by_itself.err == ""


def test_which_images_are_drawings(mnist):
    digit = mnist[1][0][0]
    paper = np.asarray(on_paper(digit, 100, (30, 10), 200))[..., np.newaxis]
    assert digits.is_drawing(paper) and digits.is_drawing(255 - paper)
    assert digits.is_drawing(paper.repeat(3, axis=-1))
    # grain, and a shadow over the paper
    rng = np.random.default_rng(0)
    grain = rng.integers(-9, 10, paper.shape)
    assert digits.is_drawing(np.uint8(np.clip(paper + grain, 0, 255)))
    across = np.linspace(0, 1, 200)[:, np.newaxis]
    assert not digits.is_drawing(np.uint8(paper * (0.4 + 0.6 * across)))
    # what fills the image, with a border or without, or has nothing on it
    framed = np.full((50, 50, 1), 255, np.uint8)
    framed[2:-2, 2:-2] = 90
    assert not digits.is_drawing(framed)
    assert not digits.is_drawing(paper[40:100, 60:110])
    assert not digits.is_drawing(np.full((50, 50, 1), 99, np.uint8))
    # noise, and a smooth picture as of sky and ground
    assert not digits.is_drawing(rng.integers(0, 256, (200, 200, 3), np.uint8))
    picture = 128 + 100 * np.sin(6 * across) * np.cos(5 * across.T)
    assert not digits.is_drawing(np.uint8(picture)[..., np.newaxis])
    # one of MNIST's size, and one of one row
    assert not digits.is_drawing(digit) and not digits.is_drawing(255 - digit)
    assert not digits.is_drawing(np.full((1, 999, 1), 255, np.uint8))


def test_large_images_are_fitted_from_smaller_ones(mnist):
    digit = mnist[1][0][0]
    small = np.asarray(on_paper(digit, 200, (60, 100), 400))[..., np.newaxis]
    large = small.repeat(9, axis=0).repeat(9, axis=1)
    fitted = [digits.fit_digit(image).astype(int) for image in (small, large)]
    assert np.abs(fitted[0] - fitted[1]).mean() < 3


def test_which_classifiers_know_digits(tmp_path):
    path = tmp_path / "c_model_0001.keras"
    _, c_model = discriminators.define_shared_discriminators()
    # without a run around it, by what it takes and gives
    assert digits.knows_digits(path, c_model, None)
    assert not digits.knows_digits(path, c_model, [*"abcdefghij"])
    for shape, n_classes in (((32, 32, 1), 10), ((28, 28, 3), 10), ((28, 28, 1), 9)):
        _, other = discriminators.define_shared_discriminators(shape, n_classes)
        assert not digits.knows_digits(path, other, None)
    settings = tmp_path / "settings.json"
    for data, expected in ((None, True), ("/data/fashion", False)):
        settings.write_text(json.dumps({"options": {"data": data}}))
        assert digits.knows_digits(path, c_model, None) is expected
    for odd in ("", "[]", "{}", '{"options": 3}', "\0"):
        settings.write_text(odd)
        assert digits.knows_digits(path, c_model, None)


def test_classifiers_of_own_images_see_them_whole(mnist, tmp_path, capsys):
    _, c_model = discriminators.define_shared_discriminators()
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.json").write_text('{"options": {"data": "/data/fashion"}}')
    c_model.save(run / "c_model_0001.keras")
    image = tmp_path / "a.png"
    on_paper(mnist[1][0][0], 100, (30, 10), 200).save(image)

    def answer(*arguments):
        arguments = [str(run), "--predict", str(image), "--json", *arguments]
        assert load_classifier.main(arguments) == 0
        return capsys.readouterr()

    by_itself, whole, cut_out = answer(), answer("--digit", "no"), answer("--digit=yes")
    assert by_itself == whole and "taken for a drawn" not in by_itself.err
    assert cut_out.out != whole.out and "1 of 1 images were taken for" in cut_out.err


def test_unusable_input(tmp_path, capsys):
    blank, drawn = tmp_path / "blank.png", tmp_path / "drawn.png"
    Image.new("L", (50, 50), 200).save(blank)
    Image.fromarray(np.diag(np.full(50, 255, np.uint8))).save(drawn)
    arguments = [str(SHIPPED), "--predict", str(blank), str(drawn), "--csv", "--digit"]
    assert load_classifier.main([*arguments, "yes"]) == 1
    printed = capsys.readouterr()
    assert "blank.png: shows no digit" in printed.err
    assert len(printed.out.splitlines()) == 2
    assert load_classifier.main([*arguments, "auto"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    _, c_model = discriminators.define_shared_discriminators((32, 32, 3))
    c_model.save(tmp_path / "c_model.keras")
    arguments[0] = str(tmp_path / "c_model.keras")
    assert load_classifier.main([*arguments, "yes"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "takes 32x32x3; leave it out" in printed.err
    assert load_classifier.main([str(SHIPPED), "--digit", "yes"]) == 2
    assert "--digit: is for --predict; give both" in capsys.readouterr().err
