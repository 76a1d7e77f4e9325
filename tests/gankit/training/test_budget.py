from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from gankit.training import budget
from gankit.training.batches import Steps
from parts import moved, refused, values

X, Y = np.zeros((200, 4, 4, 1), np.uint8), np.arange(200) % 10


class Clock:
    """A clock that only the work moves on: 1/2 s a step, 1/1000 s an image."""

    def __init__(self, monkeypatch):
        self.now, self.made, self.state = 100.0, [], [tf.Variable(1.0)]
        time = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr(budget, "time", time)
        monkeypatch.setattr(budget, "class_probabilities", self.classify)

    def __call__(self, first, n):
        self.now += 0.5 * n
        self.made.append((first, n))
        self.state[0].assign_add(n)
        return tf.zeros((n, 1))

    def classify(self, c_model, images):
        self.now += 0.001 * len(images)


def fit(minutes, clock, n=200, test=None, evaluate_every=None):
    dataset = [np.zeros((n, 1)), np.zeros(n)]
    return budget.fit_to_budget(minutes, clock, None, dataset, test, evaluate_every)


def test_the_steps_fill_the_time(monkeypatch):
    # 60 s less 1 s of the first 2 steps, 10 s of 20 timed ones, and thrice 0.2 s of
    # the images: to warm up, to time it, and at the end. 48.4 s at 0.5 s a step
    clock = Clock(monkeypatch)
    assert fit(1, clock) == 96
    assert clock.made == [(0, 2), (0, 20)]


def test_evaluations_take_their_part(monkeypatch):
    # 100 test images every 4 steps: 0.025 s more a step; 48.4 s at 0.525 s
    test = [np.zeros((100, 1)), np.zeros(100)]
    assert fit(1, Clock(monkeypatch), test=test, evaluate_every=4) == 92


def test_a_long_budget_is_timed_longer(monkeypatch):
    # a thirtieth of 9 minutes is 18 s: 40 steps, 20 s. 540 s less 1 s, 20 s, 0.5 s and
    # 2 s of images, and 3 s of all 3000 images at the end: 513.5 s at 0.5 s
    clock = Clock(monkeypatch)
    assert fit(9, clock, n=3000) == 1027
    assert clock.made == [(0, 2), (0, 20), (20, 20)]


def test_one_step_is_the_least(monkeypatch):
    assert fit(1e-9, Clock(monkeypatch)) == 1


def test_the_state_is_set_back(monkeypatch):
    clock = Clock(monkeypatch)
    fit(1, clock)
    assert float(clock.state[0]) == 1.0


def test_a_model_and_its_optimizer_are_set_back():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dropout(0.5)]
        + [keras.layers.Dense(10, activation="softmax")]
    )
    model.compile(keras.optimizers.Adam(0.1))
    model.optimizer.build(model.trainable_variables)

    def train_step(step, images):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(tf.math.log(model(images, training=True)[:, 0]))
        weights = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, weights), weights)
        return (loss,)

    steps = Steps(
        lambda draws: (draws.uniform((3, 4, 4, 1)),),
        train_step,
        [model, model.optimizer],
        columns=("loss",),
        **{"seed": 1, "draws": 1, "passes": 1, "jit": False, "n_parts": 1},
    )
    before = values(steps.state)
    steps(0, 1)
    assert any(moved(before, steps.state))
    before = values(steps.state)
    assert budget.fit_to_budget(1e-9, steps, model, [X, Y], None, 4) == 1
    assert not any(moved(before, steps.state))


@pytest.mark.parametrize("minutes", [None, 0.01, 10_000])
def test_budgets_that_can_be_met(minutes):
    budget.check_budget(minutes)


@pytest.mark.parametrize("minutes", [0, -1, 10_001, float("nan"), float("inf")])
def test_budgets_that_can_not_be_met(minutes):
    line = refused(budget.check_budget, minutes)
    assert line.startswith(f"--budget {minutes:g}: must be more than 0 and at most 100")


def test_steps_and_evaluations_fill_the_minutes(monkeypatch):
    # 60 s less 1 s of the first 2 steps, 10 s of 20 timed ones and 6 s of two
    # evaluations, 3 s each and one every 10 steps: 43 s at 0.8 s a step
    clock = Clock(monkeypatch)

    def evaluate():
        clock.now += 3

    assert budget.fit_to_minutes(1, clock, evaluate, 10, first=100) == 53
    assert clock.made == [(100, 2), (100, 20)]
    assert float(clock.state[0]) == 1
