import hashlib

import numpy as np

import helpers


def test_the_bundled_data_are_the_real_mnist(mnist):
    (x, y), (x_test, y_test) = mnist
    header = {
        3: bytes([0, 0, 8, 3]),
        1: bytes([0, 0, 8, 1]),
    }

    def digest(array):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        data = array.astype(np.uint8).tobytes()
        return hashlib.sha256(header[array.ndim] + sizes + data).hexdigest()

    arrays = x[..., 0], y, x_test[..., 0], y_test
    ends = [(digest(a)[:8], digest(a)[-4:]) for a in arrays]
    assert ends == [
        ("ba891046", "76db"),
        ("65a50cbb", "01c5"),
        ("0fa7898d", "4ce7"),
        ("ff7bcfd4", "33f2"),
    ]


def test_load_real_samples(mnist, capsys):
    X, y = helpers.load_real_samples()
    assert capsys.readouterr().out == "(60000, 28, 28, 1) (60000,)\n"
    assert X.shape == (60000, 28, 28, 1) and X.dtype == np.float32
    assert X.min() == -1 and X.max() == 1
    x = mnist[0][0][:100].astype("float64")
    np.testing.assert_allclose(X[:100], (x - 127.5) / 127.5, atol=1e-7)


def test_supervised_samples_are_balanced_and_never_twice_the_same(mnist):
    y = mnist[0][1]
    # numbered images, so that a repeat shows
    X = np.arange(60000).reshape(-1, 1, 1, 1)
    chosen, labels = helpers.select_supervised_samples(
        [X, y], 50000, rng=np.random.default_rng(1)
    )
    assert len(np.unique(chosen)) == 50000
    assert np.bincount(labels).tolist() == [5000] * 10
    np.testing.assert_array_equal(y[chosen.ravel()], labels)


def test_real_and_fake_samples():
    X, y = np.arange(50).reshape(50, 1, 1, 1), np.arange(50)
    (images, labels), target = helpers.generate_real_samples([X, y], 200)
    np.testing.assert_array_equal(images.ravel(), labels)
    assert target.shape == (200, 1) and (target == 1).all()
    # 200 of 50: with replacement, and every part of the set
    assert len(np.unique(labels)) > 40

    class Generator:
        def predict_on_batch(self, z):
            return z[:, :1]

    images, target = helpers.generate_fake_samples(Generator(), 7, 30)
    assert images.shape == target.shape == (30, 1) and (target == 0).all()


def test_latent_points_are_standard_normal():
    z = helpers.generate_latent_points(100, 2000, np.random.default_rng(0))
    assert z.shape == (2000, 100) and z.dtype == np.float32
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
