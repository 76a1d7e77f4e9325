import os

import domains
import numpy as np
import pairs
import pytest
import skimage.filters

from data_sets import save_image, write_folder
from parts import refused

SIZE = (8, 12)


def settings_of(**given):
    return pairs.PairSettings(**{"batch": 2} | given)


def picture(level, shape=SIZE):
    return np.full(shape, level, np.uint8)


def write_pairs(root, n=4, tests=0, shape=SIZE, halves=False):
    """Pairs with levels 10 i and 10 i + 5; those for tests go on counting."""
    for i in range(n + tests):
        part = "test" if i >= n else ""
        a, b = picture(10 * i, shape), picture(10 * i + 5, shape)
        if halves:
            save_image(root / part / f"{i}.png", np.concatenate([a, b], axis=1))
        else:
            save_image(root / "a" / part / f"{i}.png", a)
            save_image(root / "b" / part / f"{i}.png", b)
    return [str(root / "a"), str(root / "b")]


def levels(part):
    """The level of each output and input of a Data's part."""
    X, _, inputs = part
    return X[:, 0, 0, 0].tolist(), inputs[:, 0, 0, 0].tolist()


def test_edges_are_sobels_of_each_image_alone():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (5, 9, 12, 1), np.uint8)
    for image, found in zip(X, pairs.edges(X), strict=True):
        wanted = skimage.filters.sobel(image[..., 0] / 255)
        assert np.array_equal(found[..., 0], np.rint(255 * wanted))
    # of colour, the luminance's
    colour = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    grey = colour / 255 @ np.array((0.299, 0.587, 0.114))
    for image, found in zip(grey, pairs.edges(colour), strict=True):
        assert np.array_equal(
            found[..., 0], np.rint(255 * skimage.filters.sobel(image))
        )


def test_edges_are_light_where_the_image_steps():
    X = np.zeros((1, 8, 8, 1), np.uint8)
    X[:, :, 4:] = 255
    found = pairs.edges(X)
    assert found.dtype == np.uint8 and found.shape == X.shape
    assert np.array_equal(found[0, 3, :, 0], [0, 0, 0, 180, 180, 0, 0, 0])
    # more images than are computed at once
    assert np.array_equal(
        pairs.edges(np.repeat(X, 600, 0)), np.repeat(found, 600, axis=0)
    )


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    for name, level in (("b.png", 20), ("a.png", 10), ("test/c.png", 30)):
        save_image(tmp_path / name, picture(level))
    X = pairs.read_folder(tmp_path)
    assert X.shape == (2, *SIZE, 1) and X.dtype == np.uint8
    assert X[:, 0, 0, 0].tolist() == [10, 20]
    assert pairs.read_folder(tmp_path / "test").shape == (1, *SIZE, 1)
    save_image(tmp_path / "d.png", np.full((5, 5, 3), (9, 0, 0), np.uint8))
    X = pairs.read_folder(tmp_path, 16)
    assert X.shape == (3, 16, 16, 3) and X[0, 8, 8].tolist() == [10, 10, 10]


def test_a_folder_without_pictures_is_one_line(tmp_path):
    missing = tmp_path / "missing"
    assert "no such folder" in refused(pairs.read_folder, missing)
    assert "holds no pictures" in refused(pairs.read_folder, tmp_path)
    save_image(tmp_path / "a.png", picture(1))
    assert "multiple of 4" in refused(pairs.read_folder, tmp_path, 10)
    save_image(tmp_path / "b.png", picture(1, (8, 8)))
    assert "give --image-size" in refused(pairs.read_folder, tmp_path)
    (tmp_path / "c.txt").write_text("c")
    assert "not named as a PNG" in refused(pairs.read_folder, tmp_path)
    os.remove(tmp_path / "c.txt")
    (tmp_path / "sub").mkdir()
    assert "sub: is a folder" in refused(pairs.read_folder, tmp_path)


def test_the_bundled_way_makes_edges_and_pads_both(tmp_path):
    data = write_folder(tmp_path, (20, 24, 3), n=3, tests=2)
    found = pairs.load_pairs(settings_of(data=data), 32)
    X, y, inputs = found.train
    assert X.shape == (15, 32, 32, 3) and inputs.shape == (15, 32, 32, 1)
    assert found.border == (6, 4) and found.image_shape == (32, 32, 3)
    assert sorted(set(y)) == [-1, 0, 1, 2] and found.class_names[0] == "a cat"
    inner = slice(6, 26), slice(4, 28)
    assert np.array_equal(inputs[:, *inner], pairs.edges(X[:, *inner]))
    X, y, inputs = found.test
    assert len(X) == len(y) == len(inputs) == 6
    assert np.array_equal(inputs[:, *inner], pairs.edges(X[:, *inner]))


def test_outlines_are_those_of_cyclegans_domain(tmp_path):
    data = write_folder(tmp_path, (32, 32, 3), n=3, tests=2)
    settings = settings_of(data=data, inputs="outlines")
    found = pairs.load_pairs(settings, 32)
    for X, _, inputs in (found.train, found.test):
        assert np.array_equal(inputs, domains.outlines(X)) and inputs.shape == X.shape
    assert settings.count_inputs(3) == 3 and settings_of().count_inputs(3) == 1


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_pairs_stay_together(halves, direction, tmp_path):
    folders = write_pairs(tmp_path, 3, tests=2, halves=halves)
    where = {"side_by_side": str(tmp_path)} if halves else {"pairs": folders}
    found = pairs.load_pairs(settings_of(direction=direction, **where), 32)
    a = [0, 10, 20], [30, 40]
    b = [5, 15, 25], [35, 45]
    inputs, outputs = (a, b) if direction == "AtoB" else (b, a)
    assert levels(found.train) == (outputs[0], inputs[0])
    assert levels(found.test) == (outputs[1], inputs[1])
    assert found.train[0].shape == (3, 32, 32, 1) and found.border == (12, 10)
    assert found.train[1].tolist() == [-1] * 3 and found.n_classes == 1


def test_pairs_have_as_many_channels_in_both(tmp_path):
    folders = write_pairs(tmp_path, 3)
    save_image(tmp_path / "b" / "2.png", np.full((*SIZE, 3), (9, 0, 7), np.uint8))
    found = pairs.load_pairs(settings_of(pairs=folders), 32)
    X, _, inputs = found.train
    assert X.shape == inputs.shape == (3, 32, 32, 3)
    assert X[:, 9, 9].tolist() == [[5] * 3, [15] * 3, [9, 0, 7]]
    assert inputs[1, 9, 9].tolist() == [10] * 3


def test_the_names_endings_may_differ(tmp_path):
    folders = write_pairs(tmp_path, 2)
    os.rename(tmp_path / "b" / "0.png", tmp_path / "b" / "0.jpg")
    assert len(pairs.load_pairs(settings_of(pairs=folders), 32).train[0]) == 2


def test_folders_as_the_authors_name_them(tmp_path):
    for part, level in (("train", 10), ("val", 20), ("test", 30)):
        for i in range(2):
            name = tmp_path / part / f"{i}.png"
            save_image(name, np.concatenate([picture(level), picture(0)], axis=1))
    settings = settings_of(side_by_side=str(tmp_path))
    found = pairs.load_pairs(settings, 32)
    assert levels(found.train)[1] == [10, 10] and levels(found.test)[1] == [30, 30]
    (tmp_path / "test").rename(tmp_path / "Val2")
    assert "Val2: is a folder" in refused(pairs.load_pairs, settings, 32)
    (tmp_path / "Val2").rename(tmp_path.parent / "Val2")
    assert levels(pairs.load_pairs(settings, 32).test)[1] == [20, 20]
    save_image(tmp_path / "x.png", picture(0))
    line = refused(pairs.load_pairs, settings, 32)
    assert "x.png: lies beside the sub-folder train" in line


def test_test_pairs_are_split_off_by_a_fixed_seed(tmp_path, capsys):
    folders = write_pairs(tmp_path, 23)
    one, other = (
        pairs.load_pairs(settings_of(pairs=folders, seed=seed), 32) for seed in (1, 2)
    )
    said = "2 of the 23 pairs, drawn with seed 0, are kept for tests"
    assert said in capsys.readouterr().out
    assert len(one.train[0]) == 21 and len(one.test[0]) == 2
    for a, b in zip(one.train + one.test, other.train + other.test, strict=True):
        assert np.array_equal(a, b)
    assert sorted(levels(one.train)[1] + levels(one.test)[1]) == [
        10 * i for i in range(23)
    ]
    few = write_pairs(tmp_path / "few", 19)
    assert pairs.load_pairs(settings_of(pairs=few), 32).test is None


def test_pairs_that_are_none_are_refused(tmp_path):
    folders = write_pairs(tmp_path, 3, tests=1)
    settings, a, b = settings_of(pairs=folders), tmp_path / "a", tmp_path / "b"

    def line():
        return refused(pairs.load_pairs, settings, 32)

    save_image(b / "1.png", picture(0, (8, 8)))
    assert f"{a / '1.png'}: is 8x12, and {b / '1.png'} 8x8" in line()
    os.rename(b / "1.png", b / "one.png")
    assert f"{a / '1.png'}: has no picture of the same name in {b} (2 " in line()
    os.remove(b / "one.png")
    os.remove(a / "1.png")
    save_image(b / "2.jpg", picture(0))
    assert "2.png: has the name of 2.jpg" in line()
    os.remove(b / "2.jpg")
    os.remove(b / "test" / "3.png")
    assert "test: holds no pictures" in line()
    os.rmdir(b / "test")
    assert f"has no picture of the same name in {b}" in line()
    settings.batch = 50
    os.rename(a / "test" / "3.png", a / "4.png")
    os.rmdir(a / "test")
    save_image(b / "4.png", picture(0))
    assert "batch 50: there are 3 images" in line()
    settings.image_size = 30
    assert "--image-size 30" in line()


def test_an_odd_width_holds_no_pair(tmp_path):
    save_image(tmp_path / "a.png", picture(0, (8, 15)))
    line = refused(pairs.load_pairs, settings_of(side_by_side=str(tmp_path)), 32)
    assert "a.png: is 15 pixels wide" in line
