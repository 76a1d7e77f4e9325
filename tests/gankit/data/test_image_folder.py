import numpy as np
import pytest
from PIL import Image

from data_sets import NAMES, fails, save_image, write_folder
from gankit.data import arrays, load
from gankit.data.labels import check_labels
from parts import refused


def test_a_folder_of_grey_images(tmp_path, capsys):
    root = write_folder(tmp_path / "data")
    (root / ".hidden").mkdir()
    (root / "owl" / ".DS_Store").touch()
    (root / "notes.txt").touch()
    data = load.load_arrays(root)
    (X, y), (X_test, y_test) = data.train, data.test
    assert data.class_names == NAMES and data.n_classes == 3
    assert X.shape == (18, 20, 24, 1) and X.dtype == np.uint8
    assert y.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [-1] * 6
    assert X_test.shape == (6, 20, 24, 1) and y_test.tolist() == [0, 0, 1, 1, 2, 2]
    first = np.asarray(Image.open(root / "b dog" / "0.png"))
    np.testing.assert_array_equal(X[4, ..., 0], first)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("inside", [".", "unlabelled", "Unlabeled"])
def test_images_without_classes(inside, tmp_path):
    """For generators that need no labels."""
    images = [np.full((16, 20), 20 * i, np.uint8) for i in range(5)]
    for i, image in enumerate(images):
        save_image(tmp_path / inside / f"{i}.png", image)
    data = load.load_arrays(tmp_path)
    assert data.train[1].tolist() == [-1] * 5
    assert (data.test, data.n_classes, data.class_names) == (None, 1, None)
    np.testing.assert_array_equal(data.train[0][..., 0], images)
    line = refused(check_labels, data.train[1], 10, 1)
    assert "no image has a label" in line and "a sub-folder a class" in line
    # a link that leads to itself is no folder
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "loop: is " in fails(tmp_path)
    (tmp_path / "loop").unlink()
    # beside classes they are so in a folder of their own alone
    save_image(tmp_path / "owl" / "0.png", images[0])
    line = fails(tmp_path)
    if inside == ".":
        assert "0.png: is in no class's sub-folder" in line
    else:
        assert "has 1 sub-folders of classes; make one a class" in line


def test_one_colour_image_keeps_all_in_colour(tmp_path):
    root = write_folder(tmp_path / "data", tests=0)
    grey = load.load_arrays(root).train[0]
    assert grey.shape == (18, 20, 24, 1)
    colour = np.zeros((20, 24, 3), np.uint8)
    colour[..., 0] = 200
    save_image(root / "owl" / "9.png", colour)
    data = load.load_arrays(root)
    X = data.train[0]
    assert X.shape == (19, 20, 24, 3) and data.test is None
    np.testing.assert_array_equal(X[12], colour)
    np.testing.assert_array_equal(np.delete(X, 12, 0), np.repeat(grey, 3, axis=3))


def test_images_of_several_sizes(tmp_path, capsys):
    root = write_folder(tmp_path / "data", (21, 25))
    assert load.load_arrays(root).image_shape == (20, 24, 1)
    printed = capsys.readouterr().out
    assert printed == "The images, 21x25 (height x width), are resized to 20x24\n"
    save_image(root / "owl" / "5.png", np.full((50, 50), 77, np.uint8))
    line = fails(root)
    assert line.startswith(f"{root / 'owl' / '5.png'}: is 50x50, and ")
    assert "give --image-size" in line
    data = load.load_arrays(root, 16)
    assert data.image_shape == (16, 16, 1) and (data.train[0][12] == 77).all()


def test_what_a_folder_must_not_hold(tmp_path):
    def line_for(change):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        write_folder(root, n=1, tests=1, unlabelled=0)
        change(root)
        return fails(root).removeprefix(f"{root}/")

    def broken(root):
        (root / "owl" / "broken.png").write_bytes(b"no image")

    assert line_for(broken).startswith("owl/broken.png: not a PNG")
    line = line_for(lambda root: (root / "owl" / "list.csv").touch())
    assert line.startswith("owl/list.csv: is not named as a PNG or JPEG image (.png, ")
    assert line_for(lambda root: save_image(root / "x.png", np.eye(9) > 0)).startswith(
        "x.png: is in no class's sub-folder; move it into one, or out of /"
    )
    line = line_for(lambda root: (root / "test" / "fox").mkdir())
    assert line.startswith("test/fox: there is no class of this name; rename it, or")
    assert "can't be the name of a class; rename" in line_for(
        lambda root: (root / "a\nb").mkdir()
    )
    (tmp_path / "empty").mkdir()
    assert "empty: has 0 sub-folders of classes" in fails(tmp_path / "empty")
    for name in "ab":
        (tmp_path / "empty" / name).mkdir()
    assert "hold no images" in fails(tmp_path / "empty")


def test_links_are_followed_within_the_folder_only(tmp_path):
    root = write_folder(tmp_path / "data", n=1, tests=0, unlabelled=0)
    link = root / "owl" / "link.png"
    link.symlink_to(root / "b dog" / "0.png")
    X, y = load.load_arrays(root).train
    assert y.tolist() == [0, 1, 2, 2]
    np.testing.assert_array_equal(X[3], X[1])
    save_image(tmp_path / "outside.png", np.zeros((20, 24), np.uint8))
    for target, message in (
        (tmp_path / "outside.png", "is a link out of the data folder"),
        (root / "gone.png", "is not a file"),
        (link, "is not a file"),
    ):
        link.unlink()
        link.symlink_to(target)
        assert fails(root).startswith(f"{link}: {message}")
    link.unlink()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert fails(root).startswith(f"{root / 'linked'}: is a link; put the folder")


def test_no_remedy_destroys_images(tmp_path):
    """What is in the way may be a folder of images, or one that can be repaired."""

    def line_for(change):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        write_folder(root, n=1, tests=1, unlabelled=1)
        change(root)
        return fails(root), root

    def image(name):
        return lambda root: save_image(root / name, np.eye(9) > 0)

    for change in (
        image("x.png"),
        image("owl/2021/0.png"),
        image("unlabelled/2021/0.png"),
        image("test/fox/0.png"),
        image("test/owl/2021/0.png"),
        image("test/0.png"),
        lambda root: (root / "owl" / "0.png").rename(root / "owl" / "0.webp"),
        lambda root: (root / "owl" / "0.png").write_bytes(b"cut short"),
        lambda root: (root / "owl" / "gone.png").symlink_to("elsewhere.png"),
    ):
        line, root = line_for(change)
        assert "remove" not in line and "delete" not in line
        assert f"out of {root}" in line
    for name in ("train/cats/0.png", "labelled/cats/0.png"):
        line, root = line_for(image(name))
        assert "remove" not in line and f"sub-folders of {root} itself" in line


def test_reserved_names_in_any_spelling(tmp_path):
    expected = load.load_arrays(write_folder(tmp_path / "data"))
    for number, (unlabelled, test) in enumerate(
        [("Unlabelled", "Test"), ("unlabeled", "TEST"), ("UNLABELED", "test")]
    ):
        root = write_folder(tmp_path / str(number))
        # by another name, since a file system may not tell letters' cases apart
        for old, new in (("unlabelled", unlabelled), ("test", test)):
            (root / old).rename(root / "aside")
            (root / "aside").rename(root / new)
        data = load.load_arrays(root)
        assert data.class_names == NAMES
        for part, whole in ((data.train, expected.train), (data.test, expected.test)):
            np.testing.assert_array_equal(part[0], whole[0])
            np.testing.assert_array_equal(part[1], whole[1])
    write_folder(root, tests=0, unlabelled=2)  # both spellings
    assert load.load_arrays(root).train[1].tolist().count(-1) == 6 + 2


@pytest.mark.parametrize(
    "name",
    ["train", "Training", "train_set", "validation", "Valid", "val", "tests", "Testing"]
    + ["test set", "test-images", "test2", "unlabled", "un-labelled", "Unlabelled data"]
    + ["unlabeled_images", "labelled", "no labels", "holdout"],
)
def test_near_misses_of_reserved_names(name, tmp_path):
    root = write_folder(tmp_path / "data", n=1, tests=0, unlabelled=0)
    (root / name).mkdir()
    line = fails(root)
    assert line.startswith(f"{root / name}: is named like a part of the data")
    assert "reserved are `test` and `unlabelled` (or `unlabeled`)" in line


@pytest.mark.parametrize(
    "name", ["trains", "text", "vest", "table", "invalid", "test tube", "rain", "data"]
)
def test_names_that_are_only_alike(name, tmp_path):
    root = write_folder(tmp_path / "data", n=1, tests=0, unlabelled=0)
    (root / name).mkdir()
    assert name in load.load_arrays(root).class_names


def test_names_in_two_unicode_forms_are_one_class(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    root = tmp_path / "data"
    for i, folder in enumerate((decomposed, composed, f"test/{decomposed}")):
        save_image(root / folder / f"{i}.png", np.full((8, 8), 10 * i, np.uint8))
    save_image(root / "caff" / "3.png", np.zeros((8, 8), np.uint8))
    data = load.load_arrays(root)
    assert data.class_names == ["caff", composed]
    assert data.train[1].tolist() == [0, 1, 1] and data.test[1].tolist() == [1]
    assert sorted(data.train[0].max(axis=(1, 2, 3))) == [0, 0, 10]
    assert data.test[0].max() == 20


def test_files_of_operating_systems_are_left_out(tmp_path):
    root = write_folder(tmp_path / "data")
    expected = load.load_arrays(root)
    for folder in (root, root / "owl", root / "unlabelled", root / "test"):
        (folder / "__MACOSX").mkdir()
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "__MACOSX/._0.png"):
            (folder / name).touch()
    data = load.load_arrays(root)
    assert data.class_names == NAMES
    np.testing.assert_array_equal(data.train[0], expected.train[0])
    np.testing.assert_array_equal(data.test[0], expected.test[0])


def test_all_names_of_jpeg_files(tmp_path):
    root = write_folder(tmp_path / "data", n=1, tests=0, unlabelled=0)
    for suffix in ("jpg", "jpeg", "jpe", "jif", "JFIF"):
        path = root / "owl" / f"more.{suffix}"
        Image.fromarray(np.full((20, 24), 99, np.uint8)).save(path, "JPEG")
    X, y = load.load_arrays(root).train
    assert y.tolist() == [0, 1] + 6 * [2] and X[3:].mean() == 99


def test_grey_images_that_are_stored_with_colours(tmp_path):
    root = write_folder(tmp_path / "grey", unlabelled=0)
    expected = load.load_arrays(root)
    modes = ["RGB", "P", "RGBA", "L"]
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        with Image.open(path) as image:
            image = image.convert(modes[i % 4])
        image.save(path)
    for path in sorted(root.rglob("*.JPG")):
        with Image.open(path) as image:
            image = image.convert("RGB")
        image.save(path, quality=100)
    data = load.load_arrays(root)
    assert data.image_shape == (20, 24, 1)
    for part, whole in ((data.train, expected.train), (data.test, expected.test)):
        difference = part[0].astype(int) - whole[0]
        assert np.abs(difference[::2]).max() == 0  # .png
        assert np.abs(difference).max() < 8


def test_memory_for_images_is_bounded_before_it_is_taken(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "data", unlabelled=0, tests=0)
    monkeypatch.setattr(arrays, "LARGEST_ARRAY", 12 * 16 * 16)
    assert load.load_arrays(root, 16).image_shape == (16, 16, 1)
    assert "12 images of 20x20x1: more than" in fails(root, 20)
    colour = np.zeros((16, 16, 3), np.uint8)
    colour[..., 0] = 200
    save_image(root / "owl" / "0.png", colour)
    assert "x16x3: more than" in fails(root, 16)
