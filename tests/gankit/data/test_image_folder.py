import numpy as np
from PIL import Image

from data_sets import NAMES, fails, save_image, write_folder
from gankit.data import load


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
    assert line_for(broken).endswith(", or remove it")
    assert line_for(lambda root: (root / "owl" / "list.csv").touch()).startswith(
        "owl/list.csv: is not a PNG or JPEG file; remove it"
    )
    assert "owl/more: is not a file; remove" in line_for(
        lambda root: (root / "owl" / "more").mkdir()
    )
    assert line_for(lambda root: save_image(root / "x.png", np.eye(9) > 0)).startswith(
        "x.png: is in no class's sub-folder"
    )
    assert "test/fox: there is no class of this name" in line_for(
        lambda root: (root / "test" / "fox").mkdir()
    )
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
