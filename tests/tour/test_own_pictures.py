import numpy as np
import own_pictures
import pytest
from PIL import Image

from parts import refused


def save(path, shape=(6, 9), level=40):
    Image.fromarray(np.full(shape, level, np.uint8)).save(path)
    return path


def test_pictures_keep_their_size_and_get_the_channels(tmp_path):
    grey, colour = save(tmp_path / "a.png"), save(tmp_path / "b.jpg", (5, 7, 3))
    Image.fromarray(np.full((5, 7, 3), (255, 0, 0), np.uint8)).save(colour, quality=99)
    (a, as_colour), (b, kept) = own_pictures.read_pictures([tmp_path], 3)
    assert (a, b) == (grey, colour)
    assert as_colour.shape == (6, 9, 3) and (as_colour == 40).all()
    assert kept.shape == (5, 7, 3) and kept[0, 0, 0] > 250
    ((_, as_grey),) = own_pictures.read_pictures([colour], 1)
    # red weighs 0.299
    assert as_grey.shape == (5, 7, 1) and abs(int(as_grey[2, 3, 0]) - 76) <= 1


def test_no_picture_is_one_line(tmp_path):
    assert "holds no picture" in refused(own_pictures.read_pictures, [tmp_path], 1)
    missing = tmp_path / "missing.png"
    assert "no such file" in refused(own_pictures.read_pictures, [missing], 1)


def test_results_lie_beside_and_replace_nothing(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.v2.jpg"]
    beside = own_pictures.name_results(paths, "filled")
    assert [path.name for path in beside] == ["a-filled.png", "b.v2-filled.png"]
    out = own_pictures.name_results(paths, "filled", tmp_path / "out")
    assert out[0] == tmp_path / "out" / "a-filled.png" and out[0].parent.is_dir()
    save(beside[1])
    line = refused(own_pictures.name_results, paths, "filled")
    assert "b.v2-filled.png: is there already" in line
    both = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.jpg"]
    line = refused(own_pictures.name_results, both, "filled", tmp_path / "out")
    assert "would have the same name, a-filled.png" in line


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_written_as_it_is(channels, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 8, channels), np.uint8)
    own_pictures.write_picture(picture, tmp_path / "a.png")
    ((_, read),) = own_pictures.read_pictures([tmp_path], channels)
    assert np.array_equal(read, picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_padded_picture_is_found_again():
    picture = np.arange(5 * 8, dtype=np.uint8).reshape(5, 8, 1)
    padded, place = own_pictures.pad_picture(picture, 8)
    assert padded.shape == (8, 8, 1) and np.array_equal(padded[place], picture)
    assert np.array_equal(padded[0], picture[0])
    assert np.array_equal(padded[-1], picture[-1])
    assert own_pictures.pad_picture(padded, 4)[0].shape == (8, 8, 1)
