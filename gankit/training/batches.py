"""Batches drawn, computed in parts and trained on in a compiled graph."""

import numpy as np

from gankit.backend import keras, tf
from gankit.command import InputError
from gankit.data.images import scale_images
from gankit.training.fast_conv import accelerate


def define_take(X):
    """Return take(indices) for use in a graph: images of X, float32 in [-1, 1].

    X: float32 (n, h, w, c) in [-1, 1], or uint8 in [0, 255] with a multiple of 8
    values an image.
    """
    if X.dtype != np.uint8:
        images = tf.constant(X)
        return lambda indices: tf.gather(images, indices)
    # a table, since TensorFlow may round a division by a constant otherwise
    levels = tf.constant(scale_images(np.arange(256, dtype=np.uint8)))
    # eight bytes in a word: on a GPU tf.gather takes words only, and TensorFlow keeps
    # int32 in the host's memory, from where each step would copy all images
    words = tf.constant(np.ascontiguousarray(X).reshape(len(X), -1).view(np.int64))

    def take(indices):
        pixels = tf.bitcast(tf.gather(words, indices), tf.uint8)
        images = tf.reshape(pixels, (-1, *X.shape[1:]))
        return tf.gather(levels, tf.cast(images, tf.int32))

    return take


class Draws:
    """The random draws of one step in a graph; each has a seed of its own.

    seed: the run's; step: int32, the number of steps made before; of: how many draws
    a step has. Which number is drawn follows from these and from the order of the
    draws, and from nothing else.
    """

    def __init__(self, seed, step, of):
        self.step = step
        self._seed, self._of, self._made = seed, of, 0

    def seed(self):
        """Return the seed of the next draw, int32 (2,)."""
        if self._made == self._of:
            raise ValueError(f"more than {self._of} draws a step; declare as many")
        self._made += 1
        return tf.stack([self._seed, self._of * self.step + self._made - 1])

    def indices(self, n, size):
        """Return n numbers from 0 to size - 1, int32 (n,)."""
        return tf.random.stateless_uniform((n,), self.seed(), 0, size, tf.int32)

    def points(self, n, latent_dim):
        """Return standard normal numbers, float32 (n, latent_dim)."""
        return tf.random.stateless_normal((n, latent_dim), self.seed())

    def uniform(self, shape, low=0.0, high=1.0):
        """Return numbers from low to high, float32 of this shape."""
        return tf.random.stateless_uniform(shape, self.seed(), low, high)


def answer_in_parts(network, batch, n_parts, training):
    """Return network(batch), computed part by part; it may have several outputs."""
    parts = split_in_parts(batch, n_parts)
    outputs = [network(part, training=training) for part in parts]
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *outputs)


def check_batch(n_batch, n_images, divisor, least=None):
    """Raise InputError for a batch that has no whole parts, or more than the data.

    divisor: of so many equal parts a batch is made up. least: the smallest batch; None
    for two images a part.
    """
    if least is None:
        least = 2 if divisor == 2 else 2 * divisor
    if n_batch < least or n_batch % divisor:
        raise InputError(
            f"batch {n_batch}: must have {divisor} equal parts; give a multiple of "
            f"{divisor} from {least} on"
        )
    if n_batch > n_images:
        raise InputError(
            f"batch {n_batch}: there are {n_images} images; give a smaller batch"
        )


def derive_seed(seed):
    """Return another seed, from 0 to 2**31 - 1, for dropout.

    Its masks depend on the parts that a batch is computed in, a run's draws do not.
    """
    return int(np.random.SeedSequence((seed, 1)).generate_state(1)[0] >> 1)


def split_in_parts(batch, n_parts):
    """Return n_parts tensors, or one an image where those are fewer, of near sizes."""
    smaller, n_larger = divmod(batch.shape[0], n_parts)
    sizes = [smaller + 1] * n_larger + [smaller] * (n_parts - n_larger)
    return tf.split(batch, [size for size in sizes if size])


def mean_in_parts(objective, batch, n_parts):
    """Return the mean of objective(*batch) over the batch, computed part by part."""
    parts = zip(*(split_in_parts(tensor, n_parts) for tensor in batch), strict=True)
    n = batch[0].shape[0]
    return tf.add_n([objective(*part) * (part[0].shape[0] / n) for part in parts])


def update(network, optimizer, tape, loss):
    """Move a network's trainable weights by the gradients of a loss on the tape."""
    prepare_update(network, optimizer, tape, loss)()


def prepare_update(network, optimizer, tape, loss):
    """Compute an update's gradients now; return a function that moves the weights."""
    weights = network.trainable_variables
    # in float16 the optimizer scales the loss, and the gradients back
    scale = optimizer.scale_loss(tf.ones(()))
    gradients = tape.gradient(loss, weights, scale)
    return lambda: optimizer.apply(gradients, weights)


def seed_generators(models):
    """Return the seed generators of all random layers in the models, each once.

    Dropout, GaussianNoise and every other layer that draws numbers have one.
    """
    found = {}
    for model in models:
        for layer in model._flatten_layers():
            for value in vars(layer).values():
                if isinstance(value, keras.random.SeedGenerator):
                    found[id(value)] = value
    return list(found.values())


class Steps:
    """The training steps of a run: steps(first, n) makes n of them in one graph.

    draw: Draws -> the batch of a step, a tuple of tensors; train_step: (step, *batch)
    -> its figures, one for each of `columns`. state: the models, optimizers and lists
    of variables that a step depends on; the models' random layers draw anew in each
    step. draws: the draws of a step; passes: how often a step passes such a layer.
    jit: compile the step with XLA. n_parts: in how many parts a batch is computed.
    first: int32, the number of steps already made; n: int32. Returns float32
    (n, len(columns)). Every random number follows from seed and the step's number.
    """

    def __init__(
        self, draw, train_step, state, *, columns, seed, draws, passes, jit, n_parts
    ):
        models = [item for item in state if isinstance(item, keras.Model)]
        for model in models:
            accelerate(model)
        self.columns = columns
        self.state = [
            variable
            for item in state
            for variable in (item if isinstance(item, list) else item.variables)
        ]
        generators, mask_seed = seed_generators(models), derive_seed(seed)

        # XLA has other normal numbers: batches are drawn outside it, the same for both
        @tf.function(jit_compile=jit)
        def make_step(step, *batch):
            for i, generator in enumerate(generators):
                number = passes * n_parts * (len(generators) * step + i)
                generator.state.assign(tf.stack([mask_seed, number]))
            figures = train_step(step, *batch)
            named = zip(columns, figures, strict=True)
            return tf.stack([figure for _, figure in named])

        @tf.function
        def make_steps(first, n):
            figures = tf.TensorArray(tf.float32, n, element_shape=(len(columns),))
            for i in tf.range(n):
                step = first + i
                batch = draw(Draws(seed, step, draws))
                figures = figures.write(i, make_step(step, *batch))
            return figures.stack()

        self._make_steps = make_steps

    def __call__(self, first, n):
        return self._make_steps(tf.constant(first), tf.constant(n))


class Phases:
    """The training steps of a run in phases, which are called as Steps are.

    phases: a Steps for each phase, all with the same columns. starts: () -> the first
    step of each phase, ascending from 0, which is asked at each call.
    """

    def __init__(self, phases, starts):
        self._phases, self._starts = phases, starts
        self.columns = phases[0].columns
        variables = [variable for steps in phases for variable in steps.state]
        self.state = list({id(variable): variable for variable in variables}.values())

    def __call__(self, first, n):
        figures = []
        ends = [*self._starts()[1:], first + n]
        for steps, end in zip(self._phases, ends, strict=True):
            made = min(end - first, n)
            if made > 0:
                figures.append(steps(first, made))
                first, n = first + made, n - made
        return tf.concat(figures, 0)
