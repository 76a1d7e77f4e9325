import numpy as np

from gankit.data.arrays import Data, crop_data, pad_data


def some_data(height, width, test=True):
    rng = np.random.default_rng(0)
    train, others = (
        [rng.integers(0, 256, (n, height, width, 1), np.uint8), np.arange(n)]
        for n in (5, 3)
    )
    return Data(train, others if test else None, 5, None)


def test_images_are_padded_to_a_multiple():
    data = some_data(28, 20)
    padded = pad_data(data, 8)
    assert padded.image_shape == (32, 24, 1) and padded.border == (2, 2)
    assert padded.test[0].shape == (3, 32, 24, 1)
    X, before = padded.train[0], data.train[0]
    assert np.array_equal(X[:, 2:-2, 2:-2], before)
    for line in (X[:, 0, 2:-2], X[:, 1, 2:-2]):
        assert np.array_equal(line, before[:, 0])
    assert np.array_equal(X[:, -1, -1], before[:, -1, -1])
    assert padded.train[1] is data.train[1]


def test_images_that_fit_stay():
    data = some_data(32, 16)
    assert pad_data(data, 16) is data


def test_the_border_is_taken_off_again():
    for data in (some_data(28, 32), some_data(32, 28, test=False)):
        again = crop_data(pad_data(data, 8))
        assert again.border == (0, 0)
        assert np.array_equal(again.train[0], data.train[0])
        if data.test is None:
            assert again.test is None
        else:
            assert np.array_equal(again.test[0], data.test[0])
