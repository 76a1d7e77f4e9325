import keras
import numpy as np
import pytest
import tensorflow as tf

from gankit.data import images
from gankit.training import augmentation


def change(X, *maps, thickness=0.0, line=(0, 0, 0, 1, 0, 1)):
    maps = tf.constant([[*maps, *(0,) * (8 - len(maps))]], tf.float32)
    line = tf.constant([line], tf.float32)
    return np.array(augmentation.augment(X, maps, tf.constant([thickness]), line))


def test_changes_of_an_image(mnist):
    X = images.scale_images(mnist[0][0][:1])
    np.testing.assert_allclose(change(X, 1, 0, 0, 0, 1, 0), X, atol=1e-6)
    shifted = change(X, 1, 0, 2, 0, 1, 0)
    np.testing.assert_allclose(shifted[:, :, :-2], X[:, :, 2:], atol=1e-6)
    assert np.all(shifted[:, :, -2:] == -1)
    turned = change(X, 0, -1, 0, 1, 0, 0)
    np.testing.assert_allclose(turned[0], np.rot90(X[0]), atol=1e-4)
    halved = change(X, 2, 0, 0, 0, 2, 0)
    assert np.all(halved[:, :6] == -1) and np.all(halved[:, :, :6] == -1)
    assert np.max(halved[:, 7:21, 7:21]) > 0


def test_places_between_pixels():
    """A quarter of a pixel to the right, half of one down: of four pixels the mean."""
    X = np.random.default_rng(0).uniform(-1, 1, (1, 6, 8, 1)).astype("float32")
    seen = change(X, 1, 0, 0.25, 0, 1, 0.5)
    above, below = (
        0.75 * rows[:, :, :-1] + 0.25 * rows[:, :, 1:] for rows in (X[:, :-1], X[:, 1:])
    )
    np.testing.assert_allclose(seen[:, :-1, :-1], (above + below) / 2, atol=1e-6)


def test_perspective_keeps_the_centre():
    # brightness = 0.01 times the distance in columns from the centre
    u = np.arange(28) - 13.5
    X = np.broadcast_to(0.01 * u, (1, 28, 28))[..., None].astype("float32")
    p = 0.01
    seen = change(X, 1, 0, 0, 0, 1, 0, p, 0)[0, 13, :, 0]
    place = u / (1 + p * u)
    inside = np.abs(place) <= 13
    np.testing.assert_allclose(seen[inside], 0.01 * place[inside], atol=1e-5)


def test_thickness(mnist):
    X = images.scale_images(mnist[0][0][:1])
    same = (1, 0, 0, 0, 1, 0)
    padded = np.pad(X[0, ..., 0], 1, constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    thick, thin = change(X, *same, thickness=1.0), change(X, *same, thickness=-1.0)
    np.testing.assert_allclose(thick[0, ..., 0], windows.max(axis=(2, 3)), atol=1e-6)
    np.testing.assert_allclose(thin[0, ..., 0], windows.min(axis=(2, 3)), atol=1e-6)
    half = change(X, *same, thickness=0.5)
    np.testing.assert_allclose(half, (X + thick) / 2, atol=1e-6)


@pytest.mark.parametrize("ink", [-1, 0, 1])
def test_a_line(ink):
    """Upright, 6 pixels to the right of the centre, from 2 above to 2 below it."""
    X = np.full((1, 28, 28, 1), 0.25, "float32")
    line = (ink, 6 / 13.5, 0, 0, 1, 2)
    drawn = change(X, 1, 0, 0, 0, 1, 0, line=line)[0, ..., 0]
    expected = X[0, ..., 0].copy()
    rows, columns = np.mgrid[:28, :28] - 13.5
    beyond = np.maximum(np.abs(rows) - 2, 0)
    covered = np.clip(2 - np.hypot(columns - 6, beyond), 0, 1)
    if ink:
        expected += covered * (ink - expected)
        assert (drawn[12:16, 19:21] == ink).all()
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
    assert np.count_nonzero(drawn != 0.25) == (np.count_nonzero(covered) if ink else 0)


def test_drawn_changes_reach_their_bounds_and_stay_within():
    maps, thickness, lines = augmentation.draw_changes(5000, tf.constant([1, 2]))
    xx, xy, dx, yx, yy, dy, px, py = np.array(maps).T
    rotation = np.arctan2(yx, xx)
    scale_y = yy / np.cos(rotation)
    for drawn, largest in (
        (rotation, augmentation.ROTATION),
        (np.hypot(xx, yx) - 1, augmentation.SCALE),
        (scale_y - 1, augmentation.SCALE),
        (xy + np.sin(rotation) * scale_y, augmentation.SHEAR),
        (dx, augmentation.SHIFT),
        (dy, augmentation.SHIFT),
        (px, augmentation.PERSPECTIVE),
        (py, augmentation.PERSPECTIVE),
        (np.array(thickness), augmentation.THICKNESS),
    ):
        assert drawn.max() == pytest.approx(largest, rel=0.01)
        assert drawn.min() == pytest.approx(-largest, rel=0.01)
        assert abs(drawn.mean()) < 0.05 * largest
    again, *_ = augmentation.draw_changes(5000, tf.constant([1, 2]))
    np.testing.assert_array_equal(maps, again)
    ink, x, y, cosine, sine, half = np.array(lines).T
    for sign in (-1, 1):
        share = np.mean(ink == sign)
        assert share == pytest.approx(augmentation.LINES / 2, abs=0.02)
    for place in (x, y):
        assert place.max() == pytest.approx(2 / 3, rel=0.01)
        assert place.min() == pytest.approx(-2 / 3, rel=0.01)
    np.testing.assert_allclose(cosine**2 + sine**2, 1, atol=1e-5)
    assert half.min() == pytest.approx(1, abs=0.01)
    assert half.max() == pytest.approx(augmentation.HALF_LENGTH, abs=0.01)
    *_, lines = augmentation.draw_changes(500, tf.constant([1, 2]), 1.0, 0.0)
    assert not np.array(lines)[:, 0].any()


def test_every_image_has_a_change_of_its_own():
    X = np.random.default_rng(0).uniform(-1, 1, (3, 8, 12, 3)).astype("float32")
    changes = augmentation.draw_changes(3, tf.constant([1, 2]), 1.0, 1.0)
    together = augmentation.augment(tf.constant(X), *changes)
    for i in range(3):
        alone = augmentation.augment(
            tf.constant(X[i : i + 1]), *(change[i : i + 1] for change in changes)
        )
        np.testing.assert_allclose(together[i], alone[0], atol=1e-6)


def test_images_of_another_shape():
    """8 rows, 12 columns, three colours: a shift by two columns and one row."""
    X = np.random.default_rng(0).uniform(-1, 1, (1, 8, 12, 3)).astype("float32")
    shifted = change(X, 1, 0, 2, 0, 1, -1)
    np.testing.assert_allclose(shifted[:, 1:, :-2], X[:, :-1, 2:], atol=1e-6)
    assert np.all(shifted[:, 0] == -1) and np.all(shifted[:, :, -2:] == -1)
    turned = change(X, -1, 0, 0, 0, -1, 0)
    np.testing.assert_allclose(turned, X[:, ::-1, ::-1], atol=1e-5)


def test_weaker_changes_are_smaller_in_proportion():
    seed = tf.constant([3, 4])
    (full, thick, _), (half, half_thick, _) = (
        augmentation.draw_changes(50, seed, strength) for strength in (1.0, 0.5)
    )
    shifts = [2, 5, 6, 7]
    full, half = np.array(full)[:, shifts], np.array(half)[:, shifts]
    np.testing.assert_allclose(half, full / 2, rtol=1e-6)
    np.testing.assert_allclose(half_thick, thick / 2, rtol=1e-6)
    maps, thickness, _ = augmentation.draw_changes(5, seed, 0.0)
    np.testing.assert_array_equal(maps, [[1, 0, 0, 0, 1, 0, 0, 0]] * 5)
    assert not np.array(thickness).any()


def test_the_layer_computes_in_float32(precision):
    precision("mixed_bfloat16")
    layer = augmentation.DIGITS.layer((None, 8, 12, 1))
    shapes = ((8, 12, 1), (8,), (), (6,))
    inputs = [keras.Input(shape=shape) for shape in shapes]
    images = layer(inputs)
    assert images.shape == (None, 8, 12, 1) and images.dtype == "float32"


# ---------------------------------------------------------------- of any images


def alter(X, *, maps=(1, 0, 0, 0, 1, 0, 0, 0), colours=(0,) * 4, part=(0,) * 6):
    drawn = (tf.constant([row], tf.float32) for row in (maps, colours, part))
    return np.array(augmentation.change_general(tf.constant(X), *drawn))


@pytest.fixture
def coloured():
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 0.5, (1, 6, 8, 3)).astype("float32")


def test_what_is_outside_is_the_pixel_at_the_border(coloured):
    X = coloured
    np.testing.assert_allclose(alter(X), X, atol=1e-6)
    shifted = alter(X, maps=(1, 0, 2, 0, 1, -1, 0, 0))
    np.testing.assert_allclose(shifted[:, 1:, :-2], X[:, :-1, 2:], atol=1e-6)
    np.testing.assert_allclose(shifted[:, 1:, -1], X[:, :-1, -1], atol=1e-6)
    np.testing.assert_allclose(shifted[:, 0], shifted[:, 1], atol=1e-6)
    far = alter(X, maps=(1, 0, 100, 0, 1, 0, 0, 0))
    np.testing.assert_allclose(far, np.repeat(X[:, :, -1:], 8, axis=2), atol=1e-6)
    mirrored = alter(X, maps=(-1, 0, 0, 0, 1, 0, 0, 0))
    np.testing.assert_allclose(mirrored, X[:, :, ::-1], atol=1e-6)


def test_brightness_and_contrast(coloured):
    bright = alter(coloured, colours=(0.2, 0, 0, 0))
    np.testing.assert_allclose(bright, 1.2 * (coloured + 1) - 1, atol=1e-6)
    # black stays black, and white does not go beyond
    black = np.full_like(coloured, -1)
    for extreme in (black, -black):
        seen = alter(extreme, colours=(0.2, 0, 0, 0))
        np.testing.assert_allclose(seen, extreme, atol=1e-6)
    mean = coloured.mean()
    flat = alter(coloured, colours=(0, -0.5, 0, 0))
    np.testing.assert_allclose(flat, (coloured + mean) / 2, atol=1e-6)


def test_saturation_and_hue_leave_the_luma(coloured):
    weights = np.array([0.299, 0.587, 0.114])
    for colours in ((0, 0, 0.3, 0), (0, 0, 0, 0.3), (0, 0, -1, 0)):
        changed = alter(coloured, colours=colours)
        np.testing.assert_allclose(changed @ weights, coloured @ weights, atol=1e-3)
        assert not np.allclose(changed, coloured, atol=0.01)
    # without saturation all is grey, and a grey image has no hue
    assert np.ptp(changed, axis=-1).max() < 2e-3
    grey = np.repeat(coloured[..., :1], 3, axis=-1)
    turned = alter(grey, colours=(0, 0, 0.3, 0.3))
    np.testing.assert_allclose(turned, grey, atol=2e-3)
    # a whole turn is none
    turned = alter(coloured, colours=(0, 0, 0, 2 * np.pi))
    np.testing.assert_allclose(turned, coloured, atol=1e-5)
    one_channel = coloured[..., :1]
    changed = alter(one_channel, colours=(0, 0, 0.3, 0.3))
    np.testing.assert_allclose(changed, one_channel, atol=1e-6)


def test_a_part_is_erased(coloured):
    # a quarter of the height and a half of the width, in the middle
    erased = alter(coloured, part=(1, 0, 0, 0.5, 0.25, -0.7))
    inside = np.zeros((6, 8), bool)
    inside[2:4, 2:6] = True
    np.testing.assert_allclose(erased[0, inside], -0.7, atol=1e-6)
    np.testing.assert_allclose(erased[0, ~inside], coloured[0, ~inside], atol=1e-6)
    kept = alter(coloured, part=(0, 0, 0, 0.5, 0.25, -0.7))
    np.testing.assert_allclose(kept, coloured, atol=1e-6)


def test_general_changes_reach_their_bounds():
    n, seed = 5000, tf.constant([1, 2])
    options = {"side": 40, "mirrored": True}
    maps, colours, parts = map(
        np.array, augmentation.draw_general(n, seed, 1.0, 0.5, **options)
    )
    largest = (
        *(augmentation.BRIGHTNESS, augmentation.CONTRAST),
        *(augmentation.SATURATION, augmentation.HUE),
    )
    np.testing.assert_allclose(np.abs(colours).max(axis=0), largest, rtol=0.01)
    np.testing.assert_allclose(
        np.abs(maps[:, [2, 5]]).max(axis=0), 40 * augmentation.MOVE, rtol=0.01
    )
    # the sign of the area: mirrored or not
    mirrored = maps[:, 0] * maps[:, 4] - maps[:, 1] * maps[:, 3] < 0
    assert mirrored.mean() == pytest.approx(0.5, abs=0.03)
    assert (parts[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.03)
    sides = parts[:, 3:5]
    assert sides.min() == pytest.approx(augmentation.SMALLEST, abs=0.01)
    assert sides.max() == pytest.approx(augmentation.LARGEST, abs=0.01)
    options["mirrored"] = False
    maps, *_ = map(np.array, augmentation.draw_general(n, seed, 1.0, 0.5, **options))
    assert (maps[:, 0] * maps[:, 4] - maps[:, 1] * maps[:, 3] > 0).all()
    # no strength is no change at all, mirrored or not
    options["mirrored"] = True
    maps, colours, parts = map(
        np.array, augmentation.draw_general(n, seed, 0.0, 0.0, **options)
    )
    np.testing.assert_array_equal(maps, [[1, 0, 0, 0, 1, 0, 0, 0]] * n)
    assert not colours.any() and not parts[:, 0].any()


def test_no_changes():
    X = tf.zeros((2, 4, 4, 1))
    assert augmentation.NONE.draw(2, None, 1.0, 0.5) == ()
    assert augmentation.NONE.apply(X) is X


def test_strength_falls_where_it_has_a_last_one():
    general = augmentation.define_general((28, 28, 1), True)
    found = [
        general.strength_at(tf.constant(done)) for done in (0.0, 0.4, 0.6, 0.8, 1.0)
    ]
    expected = [(1, 0.5), (1, 0.5), (0.75, 0.25), (0.5, 0), (0.5, 0)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    digits = augmentation.DIGITS
    assert digits.strength_at(0.9) == (1.0, augmentation.LINES)
    assert digits.strength_at(0.9, "lines+generator") == (1.0, 0.0)
    assert digits.strength_at(0.9, "augmentation") == (0.0, 0.0)
    found = general.strength_at(tf.constant(0.6), "lines")
    np.testing.assert_allclose(found, (0.75, 0), atol=1e-6)
