import json

import captions
import common
import numpy as np
import pytest

from data_sets import save_image
from gankit.data.arrays import Data
from parts import refused

DIGITS = captions.DIGITS
CELLS = [(k, a, b) for k in range(10) for a in range(3) for b in range(3)]


def digits(n=90):
    """Captions of n black images of digits, each cell as often as the others."""
    plain = {
        "kind": "digits",
        "names": None,
        "borders": [[2.0, 2.5], [0.0, 9.0]],
        "counts": [n // 90] * 90,
    }
    texts = captions.make_texts(DIGITS, np.array(CELLS))
    return captions.Captions(
        captions.describe(plain.pop("kind"), texts=texts, **plain),
        np.repeat(np.arange(90), n // 90),
    )


def write_pictures(folder, texts):
    """Fill a folder with pictures of one level each, 10 times their number."""
    for i, (name, text) in enumerate(texts.items()):
        save_image(folder / f"{name}.png", np.full((8, 8), 10 * i, np.uint8))
        if text is not None:
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a thick seven leaning left", [7, 2, 0]),
        ("A bold 7, tilted to the LEFT!", [7, 2, 0]),
        ("the number, upright", [-1, -1, 1]),
        ("fine four", [4, 0, -1]),
        ("a regular nine that is slanting right", [9, 1, 2]),
        ("nothing of it", [-1, -1, -1]),
    ],
)
def test_what_a_caption_says_is_read(text, values):
    assert DIGITS.parse(text) == values


def test_captions_say_what_they_are_made_of():
    rng = np.random.default_rng(0)
    left_out, made = np.zeros(3), set()
    for values in CELLS * 10:
        text = DIGITS.caption(*values, rng)
        said = DIGITS.parse(text)
        assert all(v in (-1, value) for v, value in zip(said, values, strict=True))
        assert max(said) >= 0, text
        left_out += np.equal(said, -1)
        made.add(text)
    assert 0.02 < left_out[0] / 900 < 0.15
    assert ((left_out[1:] / 900 > 0.1) & (left_out[1:] / 900 < 0.2)).all()
    assert len(made) > 700
    words = {word for text in made for word in captions.words_of(text)}
    phrases = [p for values in DIGITS.phrases for value in values for p in value]
    assert words >= {word for phrase in phrases for word in captions.words_of(phrase)}


def test_articles_are_right():
    rng = np.random.default_rng(1)
    made = " / ".join(DIGITS.caption(k, 0, 1, rng) for k in (1, 8) * 300)
    assert "an eight" in made and "an 8" in made and "a one" in made
    assert "a eight" not in made and "a 8" not in made and "an one" not in made


def test_a_caption_follows_from_its_generator():
    made = [DIGITS.caption(3, 1, 2, np.random.default_rng(7)) for _ in range(2)]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("names", "text", "values"),
    [
        (["T-shirt/top", "Boot", "Ankle boot"], "A pale, wide ankle boot", [2, 1, 1]),
        (["T-shirt/top", "Boot", "Ankle boot"], "a dark t shirt top", [0, 0, -1]),
        (["caf\u00e9", "tea"], "slim CAFE\u0301", [0, -1, 0]),
    ],
)
def test_captions_of_classes_name_them(names, text, values):
    assert captions.word_classes(names).parse(text) == values


@pytest.mark.parametrize(
    "names",
    [
        ["boot", "ankle boot", "sneaker"],
        list("abcdefghijklmnopqrstuvwxyz"),  # 'a' is an article, too
        ["dark", "pale", "wide receiver"],  # these are said of others
        ["this", "that", "is", "the"],
        [str(i) for i in range(12)],
    ],
)
def test_captions_of_any_classes_are_clear(names):
    wording, rng = captions.word_classes(names), np.random.default_rng(0)
    for kind in range(len(names)):
        for _ in range(40):
            said = wording.parse(wording.caption(kind, 1, 0, rng))
            assert said[0] == kind and said[1] in (-1, 1) and said[2] in (-1, 0)
    if "pale" in names:
        assert wording.phrases[1:] == ((), ())


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["cat", "Cat!"], "class Cat!: has the words of class cat; rename one"),
        (["cat", "+"], "class +: no letter or digit is in its name"),
    ],
)
def test_classes_that_no_caption_can_tell_apart(names, problem):
    assert problem in refused(captions.word_classes, names)


def test_thirds_hold_as_many_images_each(mnist):
    X = mnist[0][0][:1500]
    measured = captions.measure_attributes("digits", X)
    borders = captions.find_borders("digits", measured)
    values = captions.find_values(measured, borders)
    for column in values.T:
        assert (np.abs(np.bincount(column, minlength=3) - 500) <= 1).all()
    thickness, slant = (values[:, i] for i in (0, 1))
    measured = captions.metrics.thickness(X), captions.metrics.slant(X)
    for value, measure in zip((thickness, slant), measured, strict=True):
        means = [measure[value == i].mean() for i in range(3)]
        assert means == sorted(means)


def test_breadth_and_brightness():
    X = np.zeros((3, 12, 20, 1), np.uint8)
    X[0, 2:10, 9:11] = X[1, 2:10, 4:16] = 200
    X[2] = 255 - X[1]
    thin, wide, inverse = captions.measure_breadth(X)
    # of so many columns side by side, in widths of the image
    assert thin == pytest.approx(np.std([9, 10]) / 20)
    assert wide == pytest.approx(np.std(np.arange(12)) / 20)
    assert inverse == pytest.approx(wide)
    assert captions.measure_breadth(np.full((1, 8, 8, 3), 9, np.uint8))[0] == 0
    darkness = captions.measure_darkness(X)
    assert darkness[0] == pytest.approx(200 * 16 / 240)
    assert darkness[2] == pytest.approx(255 - darkness[1])


def test_images_get_the_captions_of_their_class_and_measures():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (60, 16, 16, 3), np.uint8)
    y = np.arange(60) % 2
    X[y == 1, 4:12, 4:12] = 0
    data = Data([np.pad(X, ((0, 0), (4, 4), (4, 4), (0, 0)))] + [y], None, 2, None)
    found = captions.caption_classes(data._replace(border=(4, 4)), "classes")
    values = np.column_stack([y, found.measure(X)])
    np.testing.assert_array_equal(found.values[found.group_of], values)
    np.testing.assert_array_equal(found.counts, np.bincount(found.group_of))
    assert found.wording.phrases[0] == (("0",), ("1",))
    line = refused(captions.caption_classes, data, "digits")
    assert line.startswith("--captions digits: the data have 2 classes")


def test_unknown_words_are_named_with_those_that_are_known():
    found = digits()
    line = refused(found.check, ["a purple seven, leaning Leftish"], "--say")
    assert line.startswith("--say purple, leftish: no word of the captions; known are ")
    known = line.partition("known are ")[2].split(", ")
    assert {"seven", "7", "thick", "leaning", "upright"} < set(known)
    assert known == sorted(found.words)
    for text in ("a seven " * 9, "!?"):
        assert "--say: has" in refused(found.check, [text], "--say")
    found.check(["a thick seven leaning left"], "--say")


def test_tokens_are_numbers_of_words():
    found = digits()
    (tokens,) = found.read(["A thick SEVEN!"])
    assert tokens.dtype == np.int32 and tokens.shape == (found.length,)
    expected = [2 + found.words.index(word) for word in ("a", "thick", "seven")]
    assert tokens.tolist() == expected + [0] * (found.length - 3)
    assert found.tokens.shape == (found.size.sum(), found.length)
    # 1 would be an unknown word
    assert not (found.tokens == 1).any() and found.tokens.max() < found.n_words
    np.testing.assert_array_equal(found.tokens[:1], found.read(found.texts[0][:1]))


def test_captions_are_drawn_of_the_classes_asked_for():
    found, rng = digits(), np.random.default_rng(0)
    labels = np.repeat([3, 5, -1], 300)
    asked = found.asked[found.draw(900, rng, labels)]
    for label in (3, 5):
        assert set(asked[labels == label, 0]) == {-1, label}
    assert set(asked[labels == -1, 0]) == {-1, *range(10)}
    assert set(found.asked[found.draw(600, rng), 1]) == {-1, 0, 1, 2}


def test_unseen_captions_are_new():
    found = digits()
    texts, asked = found.draw_unseen(300, np.random.default_rng(0))
    known = {text for group in found.texts for text in group}
    assert len(texts) == len(asked) == 300 and not known & set(texts)
    found.check(texts)
    assert [DIGITS.parse(text) for text in texts] == asked.tolist()


def test_a_caption_that_fits_all_images_is_none():
    values = np.array([[3, 0, 1], [5, 0, 1]])
    texts = captions.make_texts(DIGITS, values)
    said = [DIGITS.parse(text) for text in texts[0]]
    # else 'a thin digit, upright' would be among them
    assert said and all(value[0] == 3 for value in said)


def test_pictures_that_share_a_caption_are_a_group():
    group_of, texts = captions.group_texts(
        [["a", "b"], ["c"], ["b", "d"], ["e"], ["d"], ["c"]]
    )
    assert group_of.tolist() == [0, 1, 0, 2, 0, 1]
    assert texts == [["a", "b", "d"], ["c"], ["e"]]


def test_texts_beside_pictures_are_their_captions(tmp_path):
    texts = {
        "a": "A red bird.\n\nIt flies\n",
        "sub/b": "\ufeffa blue bird",
        "sub/c": "a red bird",
        "test/d": None,
    }
    folder = write_pictures(tmp_path / "birds", texts)
    assert captions.choose_kind("auto", folder) == "files"
    data, found = captions.load_captioned_folder(folder)
    assert data.train[0].shape == (3, 8, 8, 1) and set(data.train[1]) == {-1}
    groups = dict(zip(data.train[0][:, 0, 0, 0], found.group_of, strict=True))
    assert groups[0] == groups[20] != groups[10]
    assert found.texts[groups[0]] == ["a red bird", "it flies"]
    assert found.texts[groups[10]] == ["a blue bird"]
    assert found.words == ["a", "bird", "blue", "flies", "it", "red"]
    assert data.test[0][0, 0, 0, 0] == 30


def test_kinds_of_captions(tmp_path):
    plain = write_pictures(tmp_path / "plain", {"x/a": None, "y/b": None})
    assert captions.choose_kind("auto", None) == "digits"
    assert captions.choose_kind("auto", str(plain)) == "classes"
    assert captions.choose_kind("digits", str(plain)) == "digits"
    for data in (None, str(plain)):
        line = refused(captions.choose_kind, "files", data)
        assert "no text lies beside a picture" in line


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "b.txt: is missing, and other pictures have a text"),
        (b"\n!\n", "b.txt: holds no words"),
        (b"\xff\xfe\x00", "b.txt: is no text in UTF-8"),
        (b"word " * 65, "a caption has 65 words; 64 at the most"),
        (b"a\n" * 40_000, "has more than 64 KiB"),
        (b"one bird", "all pictures have the same captions"),
    ],
)
def test_texts_that_are_refused(content, problem, tmp_path):
    folder = write_pictures(tmp_path, {"a": "one bird", "b": None})
    if content is not None:
        (folder / "b.txt").write_bytes(content)
    assert problem in refused(captions.load_captioned_folder, folder)


def test_a_text_that_is_a_folder(tmp_path):
    write_pictures(tmp_path, {"a": "one bird", "b": None})
    (tmp_path / "b.txt").mkdir()
    assert "b.txt: not a file" in refused(captions.load_captioned_folder, tmp_path)


def write_settings(folder, plain):
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({"captions": plain}))
    return folder


def test_a_run_keeps_its_captions(tmp_path):
    before = digits()
    plain = captions.shorten(before.plain)
    assert plain["texts"] is None
    found = captions.read_captions(write_settings(tmp_path / "run", plain))
    assert found.words == before.words and found.texts == before.texts
    np.testing.assert_array_equal(found.tokens, before.tokens)


def test_of_many_texts_a_run_keeps_some(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "MOST_KEPT", 2)
    texts = [["a red bird"], ["a blue bird"], ["a cat", "the cat"]]
    plain = captions.describe("files", counts=[1, 2, 3], texts=texts)
    kept = captions.shorten(plain)
    found = captions.read_captions(write_settings(tmp_path / "run", kept))
    assert found.words == sorted({"a", "red", "bird", "blue", "cat", "the"})
    pairs = list(zip(found.texts, found.counts, strict=True))
    assert len(pairs) == 2 and all(texts[n - 1] == text for text, n in pairs)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "poems"},
        {"counts": [1] * 89},
        {"counts": [-1] * 90},
        {"counts": ["9"] * 90},
        {"counts": [0] * 90},
        {"words": []},
        {"words": ["a", "a"]},
        {"words": ["two words"]},
        {"length": 10**9},
        {"borders": [[1.0, 2.0]]},
        {"borders": [[1.0], [2.0, 3.0]]},
        {"kind": "files", "texts": None},
        {"kind": "files", "texts": [["a"], [5]], "counts": [1, 1]},
        {"kind": "files", "texts": [["a"], []], "counts": [1, 1]},
        {"kind": "classes", "names": [["a"]]},
        {
            "kind": "classes",
            "counts": [1] * 8,
            "names": ["a", "A"],
            "borders": [[1.0]] * 2,
        },
    ],
)
def test_damaged_captions_are_refused(changes, tmp_path):
    plain = captions.shorten(digits().plain)
    folder = write_settings(tmp_path / "run", {**plain, **changes})
    line = refused(captions.read_captions, folder)
    assert "has no captions of a run of this script" in line


def test_too_many_words_are_refused(monkeypatch):
    monkeypatch.setattr(captions, "MOST_WORDS", 3)
    line = refused(lambda: captions.describe("files", counts=[1], texts=[["a b c d"]]))
    assert "the captions have 4 different words; 3 at the most" in line


def test_a_border_is_no_part_of_what_is_measured(mnist):
    X, y = (part[:600] for part in mnist[0])
    data = common.pad_data(Data([X, y], None, 10, None), 8)
    padded = captions.caption_classes(data, "digits")
    assert data.image_shape == (32, 32, 1)
    plain = captions.caption_classes(Data([X, y], None, 10, None), "digits")
    assert padded.plain == plain.plain
    np.testing.assert_array_equal(padded.group_of, plain.group_of)
