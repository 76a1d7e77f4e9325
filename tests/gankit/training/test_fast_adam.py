import numpy as np
import pytest

from gankit.backend import keras, tf
from gankit.training.fast_adam import accelerate_adam


def train(optimizer, accelerated):
    """Make three updates of two weights; return these and the optimizer's variables."""
    if accelerated:
        accelerate_adam(optimizer)
    rng = np.random.default_rng(0)
    weights = [keras.Variable(rng.normal(size=n).astype("f4")) for n in ((3, 4), (5,))]
    optimizer.build(weights)

    @tf.function
    def step(*gradients):
        optimizer.apply(gradients, weights)

    for _ in range(3):
        gradients = [np.float32(rng.normal(size=weight.shape)) for weight in weights]
        gradients[1][0] = 1e-9  # where epsilon counts
        step(*map(tf.constant, gradients))
        optimizer.learning_rate = 0.01
    return [np.asarray(v) for v in (*weights, *optimizer.variables)]


@pytest.mark.parametrize("scaled", [False, True])
def test_weights_and_slots_move_as_with_keras(scaled):
    found = []
    for accelerated in (False, True):
        optimizer = keras.optimizers.Adam(0.02, beta_1=0.5)
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        found.append(train(optimizer, accelerated))
    for plain, quick in zip(*found, strict=True):
        np.testing.assert_allclose(quick, plain, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    "define",
    [
        lambda: keras.optimizers.Adam(0.02, amsgrad=True),
        lambda: keras.optimizers.AdamW(0.02),
        lambda: keras.optimizers.RMSprop(0.02),
    ],
)
def test_other_optimizers_stay_as_they_are(define):
    plain, left = (train(define(), accelerated) for accelerated in (False, True))
    for a, b in zip(plain, left, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_operation_a_weight():
    optimizer = keras.optimizers.Adam()
    accelerate_adam(optimizer)
    weight = keras.Variable(np.ones(3, "f4"))
    optimizer.build([weight])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [weight]))
    graph = step.get_concrete_function(tf.ones(3)).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("ResourceApplyAdam") == 1 and "Sqrt" not in kinds
