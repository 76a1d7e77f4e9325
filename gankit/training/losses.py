"""Losses of a semi-supervised GAN, and the course of their weights.

Logits are float32 (n, n_classes); with Z = sum(exp(logits)) they say that an image is
real with the probability D = Z / (Z + 1) (Salimans et al. 2016, section 5). Answers p
are class probabilities, float32 (n, n_classes). Each loss is a float32 scalar.
"""

import numpy as np

from gankit.backend import tf


def ramp_up(done, end):
    """Return exp(-5 (1 - t)^2), t going from 0 to 1 as `done` goes from 0 to `end`.

    done: the fraction of the steps that are made (Laine and Aila 2017, section 3.1).
    """
    return tf.exp(-5 * (1 - tf.minimum(done / end, 1)) ** 2)


def half_cosine(done):
    """Return what falls from 1 to 0 as `done` goes from 0 to 1, slowly at both ends."""
    return 0.5 * (1 + tf.cos(np.pi * done))


def real_loss(logits):
    """Return the mean of -log D."""
    return tf.reduce_mean(tf.nn.softplus(-tf.reduce_logsumexp(logits, axis=1)))


def generated_loss(logits):
    """Return the mean of -log(1 - D)."""
    return tf.reduce_mean(tf.nn.softplus(tf.reduce_logsumexp(logits, axis=1)))


def consistency_loss(p, p_teacher):
    """Return the mean squared distance of answers from those of a teacher."""
    return tf.reduce_mean(tf.reduce_sum((p - p_teacher) ** 2, 1))


def balance_loss(p):
    """Return the mean of -log of the classes' shares in a batch's answers.

    It is smallest, log(n_classes), for equal shares (Arazo et al. 2020, section 3.1).
    """
    return -tf.reduce_mean(tf.math.log(tf.reduce_mean(p, axis=0) + 1e-7))


def energy_distance(generated, real):
    """Return the energy distance of two samples, in real ones' mean distances.

    generated: float32 (m, ...), real: (n, ...). It compares the mean distances between
    and within the samples (Székely and Rizzo 2013; as a GAN's loss: Bellemare et al.
    2017), and is 0 on average where both are of one distribution, not only of one mean.
    """

    def distances(a, b):
        squares = tf.reduce_sum(a**2, 1)[:, None] + tf.reduce_sum(b**2, 1)
        squares -= 2 * tf.matmul(a, b, transpose_b=True)
        # the slope of the root is infinite at 0
        return tf.sqrt(tf.maximum(squares, 0) + 1e-6)

    def within(a):
        n = a.shape[0]
        return tf.reduce_sum(distances(a, a)) / (n * (n - 1))

    generated, real = (
        tf.reshape(tf.cast(sample, tf.float32), (sample.shape[0], -1))
        for sample in (generated, real)
    )
    between = 2 * tf.reduce_mean(distances(generated, real))
    return (between - within(generated)) / within(real) - 1


def saturation_loss(pixels, largest):
    """Return the mean square by which pixels before tanh exceed `largest` in size.

    Where tanh is flat a pixel can't be unlearnt, and d knows g by it.
    """
    excess = tf.nn.relu(tf.abs(tf.cast(pixels, tf.float32)) - largest)
    return tf.reduce_mean(excess**2)


def update_average(average_model, model, decay):
    """Let average_model's weights be a running average of the model's.

    decay: how much of them stays (Tarvainen and Valpola 2017).
    """
    for average, weight in zip(
        average_model.trainable_variables, model.trainable_variables, strict=True
    ):
        average.assign(weight + decay * (average - weight))
