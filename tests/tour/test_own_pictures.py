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


# holes

# where a network may have its hole: in the middle of 16x16, or in any place of 16x24
CENTRE = (16, 16, 3), [(5, 11, 6, 6), (5, 11, 6, 6)]
ANYWHERE = (16, 24, 3), [(0, 16, 6, 8), (0, 24, 9, 12)]
by_network = pytest.mark.parametrize(
    ("window_shape", "limits"), [CENTRE, ANYWHERE], ids=["centre", "anywhere"]
)


def hole_at(shape, x, y, width, height):
    return own_pictures.read_mask(f"{x},{y},{width},{height}", "a.png", shape)


class Filled:
    """Takes the place of a network: fills with 200, and keeps what it was given."""

    def __call__(self, X, masks):
        self.window, self.mask = X[0], masks[0]
        assert X.dtype == np.uint8 and masks.dtype == bool
        return np.where(masks, np.uint8(200), X)


@by_network
@pytest.mark.parametrize("size", [(50, 70), (16, 24), (17, 9), (5, 90)])
def test_only_the_hole_is_filled_wherever_it_is(window_shape, limits, size):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 100, (*size, 3), np.uint8)
    for _ in range(40):
        height, width = (
            rng.integers(1, min(limit[3], side - 1), endpoint=True)
            for limit, side in zip(limits, size, strict=True)
        )
        y, x = rng.integers(size[0] - height + 1), rng.integers(size[1] - width + 1)
        hole, box = hole_at(picture.shape, x, y, width, height)
        given, fill = picture.copy(), Filled()
        given[hole] = 255  # what nobody may look at
        own_pictures.fill_picture(given, hole, box, fill, window_shape, limits)
        assert (given[hole] == 200).all()
        assert np.array_equal(given[~hole], picture[~hole])
        assert fill.window.shape == window_shape and fill.window.max() < 100
        for axis, (begin, end, least, most) in enumerate(limits):
            (masked,) = np.nonzero(fill.mask[..., 0].any(axis=1 - axis))
            assert begin <= masked[0] and masked[-1] < end
            assert least <= len(masked) <= most
            assert masked[-1] - masked[0] == len(masked) - 1


def test_the_window_is_around_the_hole_and_repeats_the_border():
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    before, fill = picture.copy(), Filled()
    place = hole_at(picture.shape, 30, 20, 4, 4)
    own_pictures.fill_picture(picture, *place, fill, *CENTRE)
    visible = ~fill.mask[..., 0]
    assert np.array_equal(fill.window[visible], before[14:30, 24:40][visible])
    # in a corner the hole is moved in the window, and then the window leaves it
    place = hole_at(picture.shape, 66, 0, 4, 4)
    own_pictures.fill_picture(picture, *place, fill, *CENTRE)
    padded = np.pad(before, ((7, 9), (9, 7), (0, 0)), mode="edge")
    visible[:11] = False  # above the hole there are only colours of its neighbours
    assert np.array_equal(fill.window[11:], padded[2 + 11 : 18, 68 : 68 + 16][:])
    # where a hole may be anywhere the window stays in the picture
    picture = before.copy()
    own_pictures.fill_picture(picture, *place, fill, *ANYWHERE)
    visible = ~fill.mask[..., 0]
    assert np.array_equal(fill.window[visible], before[:16, 46:][visible])


def test_a_hole_of_any_form():
    picture = np.zeros((20, 20, 3), np.uint8)
    image = np.zeros((20, 20), np.uint8)
    image[8:12, 9:13] = np.eye(4) * 255
    fill = Filled()
    hole, box = image > 127, (slice(8, 12), slice(9, 13))
    own_pictures.fill_picture(picture, hole, box, fill, *CENTRE)
    assert np.array_equal(picture[..., 0], np.where(image, 200, 0))


def test_a_mask_is_read(tmp_path):
    hole, box = hole_at((6, 9, 3), 2, 1, 4, 3)
    assert hole.sum() == 12 and box == (slice(1, 4), slice(2, 6))
    assert hole[1:4, 2:6].all()
    pixels = np.full((6, 9, 3), 100, np.uint8)
    pixels[1, 2], pixels[4, 7] = (255, 255, 255), (200, 130, 128)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    hole, box = own_pictures.read_mask(str(tmp_path / "mask.png"), "a.png", (6, 9, 3))
    assert np.argwhere(hole).tolist() == [[1, 2], [4, 7]]
    assert box == (slice(1, 5), slice(2, 8))


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        ("0,0,9,6", "hides all of a.png"),
        ("3,3,0,2", "hides nothing of a.png"),
        ("3,3,7,2", "reaches out of a.png, which has 9x6 pixels (width x height)"),
        ("3,3,2,4", "reaches out of a.png"),
        ("9" * 5000 + ",0,1,1", "must be x,y,w,h, whole numbers, or a picture"),
        ("1,2,3", "must be x,y,w,h"),
        ("1.5,2,3,4", "must be x,y,w,h"),
        ("nothing.png", "nothing.png: no such file"),
        (".", ".: not a file"),
        (__file__, "not a PNG or JPEG image"),
        ("black.png", "hides nothing of a.png"),
        ("small.png", "small.png: has 4x5 pixels, and a.png has 9x6"),
    ],
)
def test_bad_masks_are_refused(mask, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "black.png", level=127)
    save(tmp_path / "small.png", (5, 4))
    line = refused(own_pictures.read_mask, mask, "a.png", (6, 9, 3))
    assert problem in line


def test_all_pictures_are_looked_at_before_one_is_filled(tmp_path):
    a, b = save(tmp_path / "a.png", (20, 30)), save(tmp_path / "b.png", (20, 30, 3))
    grey = (16, 16, 1), CENTRE[1]

    def fill_all(mask, shape=grey):
        arguments = ([a, b], mask, tmp_path / "out", Filled(), *shape)
        return refused(own_pictures.fill_pictures, *arguments)

    line = fill_all("1,1,7,3")
    assert f"{a}: the hole is 7x3 pixels (width x height)" in line
    assert "fills up to 6x6" in line
    Image.fromarray(np.full((20, 30, 3), (9, 9, 8), np.uint8)).save(b)
    assert f"{b}: is in colour, and the network fills grey" in fill_all("1,1,3,3")
    assert not (tmp_path / "out").exists()
    own_pictures.fill_pictures([a], "1,2,3,4", None, Filled(), *grey)
    filled = np.asarray(Image.open(tmp_path / "a-filled.png"))
    assert filled.shape == (20, 30) and (filled == 200).sum() == 12
