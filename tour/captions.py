"""Captions of images: made from classes and measures, read from files, made tokens.

A caption is a line of text. What it says of an image are values of attributes, numbers
from 0 on, and -1 for what it leaves out.
"""

import functools
import hashlib
import itertools
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import metrics
import numpy as np

from gankit.backend import layers
from gankit.command import InputError, printable
from gankit.data.arrays import Data, check_image_size, crop, warn_of_pixels
from gankit.data.image_folder import read_images
from gankit.data.images import find_images
from gankit.data.labels import normal_form
from gankit.models.classify import batch_size

KINDS = ("digits", "classes", "files")
# the sub-folder whose pictures are for tests
TEST = "test"
# different captions that stand for images with the same values, and of all together
MOST_OF_ONE, MOST_MADE = 64, 100_000
# words of a caption, of all captions, and bytes of a file of them
LONGEST, MOST_WORDS, LARGEST_TEXT = 64, 20_000, 1 << 16
SHORTEST = 16
# captions of files that settings.json keeps, to draw from without the data
MOST_KEPT = 2000


def words_of(text):
    """Return the words of a text, in small letters, without punctuation: a list."""
    return re.findall(r"\w+", normal_form(text).casefold())


@dataclass(frozen=True, eq=False)
class Wording:
    """How captions are worded; an image has a value of each of three attributes.

    attributes: their names, the first that of the kind of thing that is shown. phrases:
    for each attribute and each of its values, the phrases that stand for it; an
    attribute without values is always left out. nouns: what stands for a kind that is
    left out; () where it never is. patterns: texts, of which a part between | falls
    away where its attribute is left out.
    """

    attributes: tuple
    phrases: tuple
    nouns: tuple
    patterns: tuple

    def caption(self, kind, first, second, rng):
        """Return a caption of an image with these values; rng: a numpy Generator.

        First and second are left out now and then, kind only where both are named.
        """
        values = [kind, first, second]
        for i in (1, 2):
            if not self.phrases[i] or rng.random() < 0.15:
                values[i] = -1
        if self.nouns and min(values) >= 0 and rng.random() < 0.1:
            values[0] = -1
        named = {}
        for place, phrases, value in zip(
            ("kind", "first", "second"), self.phrases, values, strict=True
        ):
            if value >= 0:
                named[place] = phrases[value][rng.integers(len(phrases[value]))]
        if values[0] < 0:
            named["kind"] = self.nouns[rng.integers(len(self.nouns))]
        parts = self.patterns[rng.integers(len(self.patterns))].split("|")
        places = [re.findall(r"{(\w+)}", part) for part in parts]
        text = "".join(
            part.format(**named)
            for part, names in zip(parts, places, strict=True)
            if all(name in named for name in names)
        )
        if parts[0].startswith("a "):  # no class of this name
            text = re.sub(r"^a (?=(?!one\b|uni)[aeiou8])", "an ", text)
        return text

    def parse(self, text):
        """Return what a caption says, a list of three values.

        Of two values of an attribute the first counts; longer phrases come first.
        """
        phrases = self._spelt
        longest = max(map(len, phrases))
        words, found, i = words_of(text), [-1, -1, -1], 0
        while i < len(words):
            for n in range(longest, 0, -1):
                named = phrases.get(tuple(words[i : i + n]))
                if named is not None:
                    attribute, value = named
                    if found[attribute] < 0:
                        found[attribute] = value
                    i += n - 1
                    break
            i += 1
        return found

    @functools.cached_property
    def _spelt(self):
        """The phrases, a dict: tuple of words -> (attribute, value)."""
        return {
            tuple(words_of(phrase)): (attribute, value)
            for attribute, values in enumerate(self.phrases)
            for value, phrases in enumerate(values)
            for phrase in phrases
        }


NUMBERS = ["zero", "one", "two", "three", "four"]
NUMBERS += ["five", "six", "seven", "eight", "nine"]
DIGITS = Wording(
    ("digit", "thickness", "slant"),
    (
        tuple((name, str(i)) for i, name in enumerate(NUMBERS)),
        (("thin", "fine", "light"), ("medium", "regular"), ("thick", "bold", "heavy")),
        (
            ("leaning left", "tilted to the left", "slanting left"),
            ("upright", "straight", "standing upright"),
            ("leaning right", "tilted to the right", "slanting right"),
        ),
    ),
    ("digit", "number"),
    (
        "a |{first} |{kind}| {second}",
        "the |{first} |{kind}|, {second}",
        "|{first} |{kind}|, {second}",
        "a |{first} |{kind}| that is {second}",
        "a {kind}| {second}|, {first}",
        "{kind}|: {first}|, {second}",
        "a handwritten |{first} |{kind}| {second}",
        "this |{first} |{kind}| is {second}",
    ),
)
DARKNESS = ("dark", "dim"), ("pale", "bright")
BREADTH = ("narrow", "slim"), ("wide", "broad")
PATTERNS = (
    "|{first} |{second} |{kind}",
    "|{second} |{first} |{kind}",
    "{kind}|, {first}|, {second}",
    "a |{first} |{second} |{kind}",
    "the |{second} |{first} |{kind}",
    "a {kind}|, {second}|, {first}",
    "a |{first} |{kind}| that is {second}",
    "this |{second} |{kind}| is {first}",
)


def word_classes(names):
    """Return the Wording of classes with these names.

    Words of the wording that a name has, too, fall away, so that captions stay clear.
    Raises InputError for names that make no words, or the same words.
    """
    known = {}
    for name in names:
        words = tuple(words_of(name))
        if not words:
            raise InputError(
                f"class {printable(name)}: no letter or digit is in its name, so no "
                "caption can name it; rename it"
            )
        if words in known:
            raise InputError(
                f"class {printable(name)}: has the words of class "
                f"{printable(known[words])}; rename one"
            )
        known[words] = name
    taken = set(itertools.chain(*known))
    free = tuple(
        () if taken & {word for pair in values for word in pair} else values
        for values in (DARKNESS, BREADTH)
    )
    patterns = [
        pattern
        for pattern in PATTERNS
        if not taken & {*words_of(re.sub(r"{\w+}", " ", pattern))}
    ]
    kinds = tuple((" ".join(words),) for words in known)
    attributes = ("class", "darkness", "breadth")
    return Wording(attributes, (kinds, *free), (), tuple(patterns))


def measure_darkness(X):
    """Return the mean brightness of images, float64 (n,)."""
    found = []
    n = batch_size(*X.shape[1:3])
    for begin in range(0, len(X), n):
        found.append(X[begin : begin + n].mean(axis=(1, 2, 3)))
    return np.concatenate(found)


def measure_breadth(X):
    """Return how far what an image shows spreads sideways, float64 (n,).

    The standard deviation of the column, relative to the width, weighted by how much a
    pixel differs from the image's border, by its median; 0 for an image of one colour.
    """
    n, columns = batch_size(*X.shape[1:3]), np.arange(X.shape[2]) / X.shape[2]
    found = []
    for begin in range(0, len(X), n):
        x = X[begin : begin + n].mean(axis=3)
        sides = x[:, [0, -1]].reshape(len(x), -1), x[:, :, [0, -1]].reshape(len(x), -1)
        border = np.median(np.concatenate(sides, axis=1), axis=1)
        mass = np.abs(x - border[:, np.newaxis, np.newaxis]).sum(axis=1)
        mass /= np.maximum(mass.sum(axis=1, keepdims=True), 1e-9)
        centre = mass @ columns
        spread = (mass * (columns - centre[:, np.newaxis]) ** 2).sum(axis=1)
        found.append(np.sqrt(spread))
    return np.concatenate(found)


# kind of captions -> what is measured of images, and in how many parts of equal size
MEASURED = {
    "digits": ((metrics.thickness, metrics.slant), 3),
    "classes": ((measure_darkness, measure_breadth), 2),
}


def measure_attributes(kind, X):
    """Return what is measured of images, two arrays, float64 (n,).

    X: uint8 (n, h, w, c).
    """
    measures, _ = MEASURED[kind]
    return [measure(X) for measure in measures]


def find_borders(kind, measured):
    """Return where the values of the two measured attributes part, two lists of float.

    measured: measure_attributes' answer for the training images; each value has as many
    of them, as far as they differ.
    """
    _, n = MEASURED[kind]
    shares = np.arange(1, n) / n
    return [np.quantile(numbers, shares).tolist() for numbers in measured]


def find_values(measured, borders):
    """Return the values of the two measured attributes of images, int64 (n, 2)."""
    parts = zip(measured, borders, strict=True)
    return np.stack(
        [np.searchsorted(edges, numbers, side="right") for numbers, edges in parts],
        axis=1,
    )


class Captions:
    """The captions of a data set.

    Images with the same values, or of the same texts, are a group. kind: one of KINDS.
    wording: a Wording, None for texts from files. borders: what find_borders returned,
    or None. values: int (k, 3) of the k groups, of texts from files (k, 1); counts:
    int (k,), how many training images are in each. texts: a list of captions for each
    group. asked: int (m, 3) or (m, 1), what each of all captions says; first, size: int
    (k,), which of these are a group's. tokens: int32 (m, length).
    group_of: int (n,), the group of each training image, None where there are none.
    """

    def __init__(self, plain, group_of=None):
        """plain: a dict, as settings.json has it, see describe()."""
        self.plain, self.group_of = plain, group_of
        self.kind, self.words = plain["kind"], plain["words"]
        self.borders, self.length = plain["borders"], plain["length"]
        counts = np.array(plain["counts"])
        if self.kind == "files":
            self.wording, self.texts = None, plain["texts"]
            self.counts, self.values = counts, np.arange(len(counts))[:, np.newaxis]
        else:
            self.wording = find_wording(self.kind, plain["names"])
            n_parts = MEASURED[self.kind][1]
            counts = counts.reshape(-1, n_parts, n_parts)
            self.values = np.argwhere(counts)
            self.counts = counts[counts > 0]
            self.texts = make_texts(self.wording, self.values)
        self.size = np.array([len(texts) for texts in self.texts])
        self.first = np.cumsum(self.size) - self.size
        if self.wording is None:
            self.asked = np.repeat(self.values, self.size, axis=0)
        else:
            self.asked = np.array([self.wording.parse(text) for text in self._all()])

    def _all(self):
        return [text for texts in self.texts for text in texts]

    @property
    def n_words(self):
        """How many tokens there are: the words, 0 for none and 1 for unknown."""
        return len(self.words) + 2

    def check(self, texts, name="a caption"):
        """Raise InputError for an unknown word, and for no words or too many.

        It names the word, and those that are known. name: of where the texts stand.
        """
        known = frozenset(self.words)
        for words in map(words_of, texts):
            unknown = [word for word in words if word not in known]
            if unknown:
                listed = ", ".join(self.words)
                listed = listed if len(listed) <= 1000 else f"{listed[:1000]} ..."
                raise InputError(
                    f"{name} {', '.join(unknown)}: no word of the captions; known are "
                    f"{listed}"
                )
            if not 0 < len(words) <= self.length:
                raise InputError(
                    f"{name}: has {len(words)} words; give from 1 to {self.length}"
                )

    def read(self, texts):
        """Return the tokens of captions, int32 (n, length), 0 behind the last word.

        Raises what check does.
        """
        self.check(texts)
        return np.array(
            self._vectorize(np.array([" ".join(words_of(text)) for text in texts])),
            np.int32,
        )

    @functools.cached_property
    def tokens(self):
        # not before it is needed: TensorFlow must be set up
        return self.read(self._all())

    @functools.cached_property
    def _vectorize(self):
        return layers.TextVectorization(
            standardize=None,
            split="whitespace",
            vocabulary=self.words,
            output_sequence_length=self.length,
        )

    def measure(self, images):
        """Return the values of an image's two measured attributes, int64 (n, 2).

        images: uint8 (n, h, w, c), without a border.
        """
        return find_values(measure_attributes(self.kind, images), self.borders)

    def draw(self, n, rng, labels=None):
        """Return numbers of captions, int64 (n,), as often as images have them.

        rng: a numpy Generator. labels: int (n,), the values of their first attribute,
        -1 for any; None for any.
        """
        if labels is None or self.kind == "files":
            labels = np.full(n, -1)
        groups = np.empty(n, np.int64)
        for label in np.unique(labels):
            chosen = np.flatnonzero(labels == label)
            fits = self.counts * ((label < 0) | (self.values[:, 0] == label))
            groups[chosen] = rng.choice(len(fits), len(chosen), p=fits / fits.sum())
        return self.first[groups] + rng.integers(self.size[groups])

    def draw_unseen(self, n, rng):
        """Return captions that are none of these, n texts, and what they say.

        The second: int64 (n, 3). Groups are drawn as often as images are in them.
        """
        known = {text for texts in self.texts for text in texts}
        found = []
        weights = self.counts / self.counts.sum()
        for _ in range(20):
            for group in rng.choice(len(weights), n, p=weights):
                text = self.wording.caption(*self.values[group], rng)
                if text not in known:
                    found.append(text)
            if len(found) >= n:
                break
        found = found[:n]
        return found, np.array([self.wording.parse(text) for text in found])


def choose_kind(kind, data):
    """Return one of KINDS for --captions and --data.

    Raises InputError for texts from files where there can be none.
    """
    if kind == "auto":
        if data is None:
            return "digits"
        return "files" if has_texts(data) else "classes"
    if kind == "files" and (data is None or not has_texts(data)):
        raise InputError(
            "--captions files: no text lies beside a picture of --data; put a.txt "
            "beside a.png"
        )
    return kind


def find_wording(kind, names):
    """Return the Wording of captions of a kind, 'digits' or 'classes'."""
    return DIGITS if kind == "digits" else word_classes(names)


def make_texts(wording, values):
    """Return different captions for each group, a list of lists; always the same ones.

    values: int (k, 3), what images of the group are like.
    """
    rng = np.random.default_rng(0)
    most = max(4, min(MOST_OF_ONE, MOST_MADE // len(values)))
    texts = []
    for group in values.tolist():
        made = dict.fromkeys(wording.caption(*group, rng) for _ in range(most))
        # one that says nothing but what all images are has no image that it is wrong of
        texts.append([text for text in made if tells(wording.parse(text), values)])
    return texts


def tells(asked, values):
    """Whether there is a group that a caption does not fit."""
    asked = np.array(asked)
    return not ((asked < 0) | (asked == values)).all(axis=1).all()


def describe(kind, *, counts, texts, names=None, borders=None, digest=None):
    """Return what settings.json keeps of captions, plain data.

    counts: how many images are in each group, in files' order, or (classes, values,
    values) of the other kinds. texts: the captions of each group.
    """
    every = [words_of(text) for group in texts for text in group]
    words = sorted(set(itertools.chain(*every)))
    if len(words) > MOST_WORDS:
        raise InputError(
            f"the captions have {len(words)} different words; {MOST_WORDS} at the most"
        )
    return {
        "kind": kind,
        "names": names,
        "borders": borders,
        "length": max(SHORTEST, *map(len, every)),
        "counts": np.ravel(counts).tolist(),
        "words": words,
        "texts": texts if kind == "files" else None,
        "sha256": digest,
    }


def caption_classes(data, kind):
    """Return the Captions of images with labels, by class and measures.

    data: a Data whose training images all have labels. Raises InputError for classes
    that can't be named.
    """
    (X, y), n_classes = data.train, data.n_classes
    inner = crop(X, data.border)
    if kind == "digits" and n_classes != 10:
        raise InputError(
            f"--captions digits: the data have {n_classes} classes, not ten; leave it "
            "out"
        )
    names = None
    if kind == "classes":
        names = data.class_names or [str(i) for i in range(n_classes)]
    wording = find_wording(kind, names)
    measured = measure_attributes(kind, inner)
    borders = find_borders(kind, measured)
    values = np.column_stack([y, find_values(measured, borders)])
    n_parts = MEASURED[kind][1]
    counts = np.zeros((n_classes, n_parts, n_parts), np.int64)
    np.add.at(counts, tuple(values.T), 1)
    group_of = (np.cumsum(counts > 0) - 1).reshape(counts.shape)[tuple(values.T)]
    texts = make_texts(wording, np.argwhere(counts))
    plain = describe(kind, counts=counts, texts=texts, names=names, borders=borders)
    return Captions(plain, group_of)


# ---------------------------------------------------------------- files of texts


def text_of(path):
    """Return the Path of the text beside a picture: a.png has a.txt."""
    return path.with_suffix(".txt")


def has_texts(folder):
    """Whether a data set is a folder in which a text lies beside a picture."""
    return os.path.isdir(folder) and any(
        text_of(path).is_file() for path in find_images([folder])
    )


def read_text(path):
    """Return the captions in a file, one a line, empty lines left out.

    Raises InputError for a file that is missing, no text in UTF-8, empty or too large,
    or a caption with too many words.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path}: not a file; give a text file")
        with open(path, "rb") as file:
            content = file.read(LARGEST_TEXT + 1)
    except FileNotFoundError:
        raise InputError(
            f"{path}: is missing, and other pictures have a text; write one"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path}: can't be read ({error.strerror}); check its permissions"
        ) from error
    if len(content) > LARGEST_TEXT:
        raise InputError(f"{path}: has more than {LARGEST_TEXT >> 10} KiB; shorten it")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8; save it as such") from None
    texts = []
    for line in lines:
        n = len(words_of(line))
        if n > LONGEST:
            raise InputError(
                f"{path}: a caption has {n} words; {LONGEST} at the most, shorten it"
            )
        if n:
            texts.append(" ".join(words_of(line)))
    if not texts:
        raise InputError(f"{path}: holds no words; write a caption, one a line")
    return texts


def load_captioned_folder(folder, image_size=None):
    """Return the Data and the Captions of a folder of pictures with texts beside them.

    Sub-folders are looked through, and are no classes; pictures in the sub-folder
    `test` are for tests, and need no text. Raises InputError for what can't be read, a
    text that is missing, and where all pictures have the same captions.
    """
    check_image_size(folder, image_size)
    paths = find_images([folder])
    parts = [path.relative_to(folder).parts[0].casefold() for path in paths]
    train = [path for path, part in zip(paths, parts, strict=True) if part != TEST]
    tests = [path for path, part in zip(paths, parts, strict=True) if part == TEST]
    if not train:
        raise InputError(f"{folder}: all its pictures are in {TEST}; put some beside")
    texts = [read_text(text_of(path)) for path in train]
    group_of, texts = group_texts(texts)
    if len(texts) < 2:
        raise InputError(
            f"{folder}: all pictures have the same captions, so that none is wrong of "
            "any; write others"
        )
    X = read_images(train + tests, folder, image_size)
    warn_of_pixels(str(folder), X)
    n, unlabelled = len(train), np.full(len(X), -1)
    test = [X[n:], unlabelled[n:]] if tests else None
    data = Data([X[:n], unlabelled[:n]], test, 1, None)
    counts = np.bincount(group_of)
    digest = hashlib.sha256(json.dumps([texts, group_of.tolist()]).encode())
    plain = describe("files", counts=counts, texts=texts, digest=digest.hexdigest())
    return data, Captions(plain, group_of)


def group_texts(texts):
    """Return the group of each image, int64 (n,), and the captions of each group.

    texts: a list of captions for each image. Images that share a caption are of one
    group, and so are those that share one with these.
    """
    parent = list(range(len(texts)))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = {}
    for i, captions in enumerate(texts):
        for text in captions:
            parent[root(i)] = root(first.setdefault(text, i))
    _, group_of = np.unique([root(i) for i in range(len(texts))], return_inverse=True)
    grouped = [{} for _ in range(group_of.max() + 1)]
    for group, captions in zip(group_of, texts, strict=True):
        grouped[group] |= dict.fromkeys(captions)
    return group_of, [list(captions) for captions in grouped]


# ---------------------------------------------------------------- a run's captions


def shorten(plain):
    """Return what settings.json keeps: of very many groups of texts some alone."""
    if plain["kind"] != "files" or len(plain["texts"]) <= MOST_KEPT:
        return plain
    kept = np.random.default_rng(0).permutation(len(plain["texts"]))[:MOST_KEPT]
    return plain | {
        name: [plain[name][i] for i in sorted(kept)] for name in ("texts", "counts")
    }


def read_captions(folder):
    """Return the Captions that a run's settings.json has.

    Raises InputError where it has none. Whoever it comes from, it is read as data.
    """
    path = Path(folder) / "settings.json"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))["captions"]
        check_plain(plain)
        return Captions(plain)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: has no captions of a run of this script; name such a run's folder"
        ) from error


def check_plain(plain):
    """Raise ValueError, TypeError or KeyError unless `plain` is what describe makes."""

    def require(condition):
        if not condition:
            raise ValueError("it holds something else")

    def are_texts(items, most):
        require(isinstance(items, list) and 0 < len(items) <= most)
        require(all(isinstance(item, str) and item.strip() for item in items))

    counts, kind = plain["counts"], plain["kind"]
    require(kind in KINDS and isinstance(counts, list) and counts)
    require(all(type(n) is int and 0 <= n < 1 << 40 for n in counts) and any(counts))
    are_texts(plain["words"], MOST_WORDS)
    require(all(words_of(word) == [word] for word in plain["words"]))
    require(len(set(plain["words"])) == len(plain["words"]))
    require(type(plain["length"]) is int and SHORTEST <= plain["length"] <= LONGEST)
    if kind == "files":
        texts = plain["texts"]
        require(isinstance(texts, list) and len(texts) == len(counts) <= MOST_KEPT)
        for group in texts:
            are_texts(group, MOST_MADE)
        return
    if kind == "classes":
        are_texts(plain["names"], MOST_MADE)
    n_parts = MEASURED[kind][1]
    n_kinds = 10 if kind == "digits" else len(plain["names"])
    require(len(counts) == n_kinds * n_parts**2)
    require(len(plain["borders"]) == 2)
    for borders in plain["borders"]:
        require(len(borders) == n_parts - 1)
        require(all(type(border) is float for border in borders))
