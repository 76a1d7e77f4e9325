"""What a generator makes of latent points, and ways between them."""

import numpy as np

from gankit.models.classify import batch_size


def generate(g_model, points):
    """Return images, float32 (n, h, w, c) in [-1, 1], of points (n, latent_dim)."""
    n_batch = batch_size(*g_model.output_shape[1:3])
    parts = [
        g_model.predict_on_batch(points[first : first + n_batch])
        for first in range(0, len(points), n_batch)
    ]
    return np.concatenate(parts, dtype=np.float32)


def walk_between(points, n_frames):
    """Return n_frames points on the way through all points and back to the first.

    points: (k, d). Returns float32 (n_frames, d), evenly spaced in time, the first
    being points[0]. Between two points the way is spherical.
    """
    k = len(points)
    places = np.arange(n_frames) * k / n_frames
    first = places.astype(int)
    a, b = points[first], points[(first + 1) % k]
    return np.float32(interpolate(a, b, (places - first)[:, np.newaxis]))


def interpolate(a, b, t):
    """Return points on the spherical ways from a to b, (n, d), at the share t, (n, 1).

    Nearly all points that a generator is trained on have nearly the same length, and
    those on the straight line are shorter (White 2016).
    """
    lengths = [np.linalg.norm(p, axis=1, keepdims=True) for p in (a, b)]
    cosine = np.sum(a * b, axis=1, keepdims=True) / np.maximum(
        np.prod(lengths, 0), 1e-9
    )
    angle = np.arccos(np.clip(cosine, -1, 1))
    sine = np.sin(angle)
    straight = sine < 1e-6
    sine = np.where(straight, 1, sine)
    from_a = np.where(straight, 1 - t, np.sin((1 - t) * angle) / sine)
    from_b = np.where(straight, t, np.sin(t * angle) / sine)
    return from_a * a + from_b * b
