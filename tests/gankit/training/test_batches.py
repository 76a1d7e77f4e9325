import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gankit.data.images import scale_images
from gankit.training.batches import (
    Draws,
    Phases,
    Steps,
    answer_in_parts,
    check_batch,
    define_take,
    derive_seed,
    mean_in_parts,
    seed_generators,
    split_in_parts,
    update,
)
from parts import refused


def images_with_all_values(n=40):
    """Return uint8 (n, 8, 4, 3) with each value, and words of 255 alone."""
    X = np.random.default_rng(1).integers(0, 256, (n, 8, 4, 3), dtype=np.uint8)
    X[0], X[1] = 255, 0
    assert len(np.unique(X)) == 256
    return X


@pytest.mark.parametrize("jit", [False, True])
def test_bytes_are_taken_as_scaling_them_would_give(jit):
    X = images_with_all_values()
    take = tf.function(define_take(X), jit_compile=jit)
    indices = [39, 0, 1, 7, 7, *range(40)]
    images = take(tf.constant(indices)).numpy()
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, scale_images(X)[indices])


def test_scaled_images_are_taken_unchanged():
    X = scale_images(images_with_all_values())
    images = define_take(X)(tf.constant([3, 0, 3])).numpy()
    np.testing.assert_array_equal(images, X[[3, 0, 3]])


@pytest.mark.parametrize("of", [np.copy, scale_images], ids=["bytes", "floats"])
def test_the_images_can_lie_on_a_gpu(of):
    """TensorFlow keeps int32 in the host's memory, and has no tf.gather of uint8."""
    take = tf.function(define_take(of(images_with_all_values())))
    graph = take.get_concrete_function(tf.TensorSpec((5,), tf.int32)).graph
    held = [tensor for tensor, _ in graph.captures]
    assert max(tensor.shape.num_elements() for tensor in held) >= 40 * 8 * 4 * 3 / 8
    assert {tensor.dtype for tensor in held} <= {tf.float32, tf.int64}


# ---------------------------------------------------------------- draws


def drawn(seed, step, of=4):
    draws = Draws(seed, tf.constant(step), of)
    return [
        draws.indices(50, 7).numpy(),
        draws.points(50, 3).numpy(),
        draws.uniform((50,), 2.0, 3.0).numpy(),
        draws.points(50, 3).numpy(),
    ]


def test_draws_are_what_they_are_said_to_be():
    indices, points, uniform, _ = drawn(3, 0)
    assert indices.dtype == np.int32 and set(indices) == set(range(7))
    assert points.shape == (50, 3) and points.dtype == np.float32
    assert abs(points.mean()) < 0.3 and 0.8 < points.std() < 1.2
    assert uniform.min() >= 2 and uniform.max() < 3 and uniform.std() > 0.2


def test_draws_follow_from_seed_step_and_order():
    first = drawn(3, 5)
    for ours, again in zip(first, drawn(3, 5), strict=True):
        np.testing.assert_array_equal(ours, again)
    points = [first[1], first[3]]
    points += [drawn(*other)[i] for other in ((3, 6), (4, 5)) for i in (1, 3)]
    assert len({array.tobytes() for array in points}) == 6


def test_no_seed_is_used_twice():
    seeds = set()
    for step in range(5):
        draws = Draws(3, tf.constant(step), 4)
        seeds |= {tuple(draws.seed().numpy()) for _ in range(4)}
    assert seeds == {(3, n) for n in range(20)}
    # the next would be the next step's
    with pytest.raises(ValueError, match="more than 4 draws a step"):
        draws.seed()


# ---------------------------------------------------------------- random layers

SHAPE = (2, 30)


def random_models():
    """Two models that share a Dropout; one holds a model that holds another."""
    shared = layers.Dropout(0.5, name="shared")
    inputs = keras.Input(SHAPE[1:])
    inner = keras.Model(inputs, layers.Dropout(0.5, name="inner")(inputs))
    outputs = [shared(inputs), layers.Dropout(0.5, name="own")(inputs)]
    outputs += [inner(inputs), layers.GaussianNoise(1.0, name="noise")(inputs)]
    first = keras.Model(inputs, outputs)
    second = keras.Model(
        inputs, [shared(inputs), layers.GaussianDropout(0.5, name="second")(inputs)]
    )
    return first, second


def masks_of(seed=3, steps=2, passes=1, n_parts=1, start=0):
    """What steps make of ones, bit for bit: a list of outputs a step."""
    models = random_models()
    ones, made = tf.ones(SHAPE), []

    def train_step(step):
        outputs = []
        for _ in range(passes):
            for model in models:
                for part in [ones] * n_parts:
                    outputs += model(part, training=True)
        return [
            value
            for output in outputs
            for value in tf.unstack(tf.reshape(output, (-1,)))
        ]

    n = passes * n_parts * 6 * SHAPE[0] * SHAPE[1]
    make = Steps(
        lambda draws: (),
        train_step,
        list(models),
        columns=[str(i) for i in range(n)],
        seed=seed,
        draws=1,
        passes=2 * passes,  # both models pass the shared layer
        jit=False,
        n_parts=n_parts,
    )
    for figures in make(start, steps).numpy():
        made += [array.tobytes() for array in np.split(figures, n // 60)]
    return made


def test_every_random_layer_is_found_once():
    first, second = random_models()
    generators = seed_generators([first, second, first])
    assert len(generators) == len({id(generator) for generator in generators}) == 5
    found = [
        layer for layer in first._flatten_layers() if hasattr(layer, "seed_generator")
    ]
    assert {layer.name for layer in found} == {"shared", "own", "inner", "noise"}
    for layer in found:
        assert any(layer.seed_generator is generator for generator in generators)


def test_all_masks_of_a_run_differ():
    made = masks_of(steps=2)
    assert len(made) == 12 and len(set(made)) == 12


def test_masks_of_passes_and_parts_differ():
    made = masks_of(steps=3, passes=2, n_parts=2)
    assert len(made) == 72 and len(set(made)) == 72


def test_masks_follow_from_seed_and_step():
    made = masks_of(steps=3)
    assert masks_of(steps=3) == made
    assert masks_of(steps=1, start=2) == made[12:]
    assert not set(masks_of(seed=4, steps=3)) & set(made)


# ---------------------------------------------------------------- steps


def steps_of(train_step, columns=("a", "b"), state=(), **others):
    others = {"seed": 3, "draws": 1, "passes": 1, "jit": False, "n_parts": 1, **others}
    draw = others.pop("draw", lambda draws: (draws.points(2, 2),))
    return Steps(draw, train_step, list(state), columns=columns, **others)


@pytest.mark.parametrize("jit", [False, True])
def test_steps_in_one_call_are_those_of_many(jit):
    def train_step(step, z):
        return tf.cast(step, tf.float32), tf.reduce_sum(z)

    steps = steps_of(train_step, jit=jit)
    once = steps(0, 6).numpy()
    assert once.shape == (6, 2) and once.dtype == np.float32
    np.testing.assert_array_equal(once[:, 0], np.arange(6))
    assert len(set(once[:, 1])) == 6
    parts = [steps(first, n).numpy() for first, n in ((0, 1), (1, 3), (4, 2))]
    np.testing.assert_array_equal(np.concatenate(parts), once)
    # what is drawn is the same within XLA and without
    plain = steps_of(train_step)(0, 6).numpy()
    np.testing.assert_allclose(once, plain, rtol=1e-6)


@pytest.mark.parametrize("figures", [(1.0,), (1.0, 2.0, 3.0)])
def test_a_figure_for_each_column_is_needed(figures):
    with pytest.raises(ValueError, match="zip"):
        steps_of(lambda step, z: figures)(0, 1)


def test_the_state_is_all_variables_in_their_order():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dropout(0.5)(layers.Dense(2)(inputs)))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    others = [tf.Variable(1.0), tf.Variable(2.0)]
    steps = steps_of(lambda step, z: (0, 0), state=[model, optimizer, others])
    wanted = [*model.variables, *optimizer.variables, *others]
    assert [id(variable) for variable in steps.state] == [id(v) for v in wanted]
    assert steps.columns == ("a", "b")


def test_masks_have_a_seed_of_their_own():
    seeds = [derive_seed(seed) for seed in (0, 1, 2, 2**31 - 1)]
    assert len({*seeds, 0, 1, 2, 2**31 - 1}) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(1) == seeds[1]


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("n", "n_parts", "sizes"),
    [(6, 3, [2, 2, 2]), (7, 3, [3, 2, 2]), (2, 3, [1, 1]), (5, 1, [5])],
)
def test_parts_have_near_sizes(n, n_parts, sizes):
    batch = tf.range(float(n))
    parts = split_in_parts(batch, n_parts)
    assert [len(part) for part in parts] == sizes
    np.testing.assert_array_equal(tf.concat(parts, 0), batch)
    mean = mean_in_parts(
        lambda x, y: tf.reduce_mean(x - 3 * y), (batch, batch), n_parts
    )
    np.testing.assert_allclose(mean, -(n - 1), rtol=1e-6)


def test_several_outputs_are_answered_in_parts():
    batch = tf.reshape(tf.range(10.0), (5, 2))

    def network(part, training):
        assert training
        return part, tf.reduce_sum(part, axis=1)

    whole, sums = answer_in_parts(network, batch, 2, True)
    np.testing.assert_array_equal(whole, batch)
    np.testing.assert_array_equal(sums, [1, 5, 9, 13, 17])


@pytest.mark.parametrize(
    ("n_batch", "divisor", "problem"),
    [
        (2, 2, None),
        (100, 2, None),
        (8, 4, None),
        (0, 2, "multiple of 2 from 2 on"),
        (5, 2, "multiple of 2 from 2 on"),
        (4, 4, "multiple of 4 from 8 on"),
        (10, 4, "multiple of 4 from 8 on"),
        (-2, 2, "multiple of 2 from 2 on"),
        (102, 2, "there are 100 images"),
    ],
)
def test_a_batch_has_whole_parts(n_batch, divisor, problem):
    if problem is None:
        check_batch(n_batch, 100, divisor)
    else:
        error = refused(check_batch, n_batch, 100, divisor)
        assert error.startswith(f"batch {n_batch}: ") and problem in error


@pytest.mark.parametrize("scaled", [False, True], ids=["float32", "float16"])
def test_an_update_moves_by_the_losses_gradients(scaled):
    inputs = keras.Input((2,))
    network = keras.Model(inputs, layers.Dense(1, kernel_initializer="ones")(inputs))
    optimizer = keras.optimizers.SGD(0.5)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(network.trainable_variables)
    other = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(tf.constant([[1.0, 2.0]]))) * other
    update(network, optimizer, tape, loss)
    weights, bias = network.get_weights()
    np.testing.assert_allclose(weights[:, 0], [0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(bias, [-0.5], atol=1e-6)
    assert other.numpy() == 1


# ---------------------------------------------------------------- phases


def test_each_step_is_made_by_its_phase():
    shared, own = (tf.Variable(0.0) for _ in range(2))

    def phase(number, *state):
        def train_step(step, z):
            shared.assign_add(1.0)
            return tf.cast(step, tf.float32), float(number)

        return steps_of(train_step, state=[list(state)])

    starts = [0, 3, 3, 5]
    three = [phase(0, shared), phase(1), phase(2, own, shared), phase(3)]
    steps = Phases(three, lambda: starts)
    assert [id(v) for v in steps.state] == [id(shared), id(own)]
    assert steps.columns == ("a", "b")
    made = steps(0, 7).numpy()
    assert made.tolist() == [[0, 0], [1, 0], [2, 0], [3, 2], [4, 2], [5, 3], [6, 3]]
    assert shared.numpy() == 7
    assert steps(4, 2).numpy().tolist() == [[4, 2], [5, 3]]
    starts[1:] = [1, 1, 1]
    assert steps(1, 1).numpy().tolist() == [[1, 3]]
