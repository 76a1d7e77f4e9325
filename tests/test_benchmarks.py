import importlib.util
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest

import helpers
from gankit.backend import tf
from gankit.data import images, load
from gankit.training import devices
from parts import moved, read_csv, values
from tour_scripts import load_script

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import growth  # noqa: E402
import memory  # noqa: E402
import shared  # noqa: E402
import step_time  # noqa: E402
import tour_steps  # noqa: E402
from common import GanSettings  # noqa: E402


class Clock:
    """Stands for the module `time`: it goes on when it is told to, or at a sleep."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def here(monkeypatch, precision, small_data):
    """Have a benchmark measure in this process, with few images."""
    # as one part, whose graph is made sooner
    monkeypatch.setattr(devices, "count_cores", lambda: 1)
    # what a variant and a process of its own set
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    small = load.load_arrays(small_data)
    for module in (growth, step_time):
        monkeypatch.setattr(module, "load_arrays", lambda: small)
    for module in (growth, memory, step_time, tour_steps):
        monkeypatch.setattr(module, "run_in_fresh_process", lambda f, *args: f(*args))
    monkeypatch.setattr(step_time, "fresh_process", lambda: ThreadPoolExecutor(1))
    step_time.define_step.cache_clear()
    yield small
    step_time.define_step.cache_clear()


def small_dataset(small_data):
    x, y = load.load_arrays(small_data).train
    return [x, y]


# ---------------------------------------------------------------- what they share


def test_the_multiply_adds_of_a_step():
    g_model, d_model, *_ = shared.define_models()
    d = [14 * 14 * 9 * 128, 7 * 7 * 9 * 128 * 128, 4 * 4 * 9 * 128 * 128, 2048 * 10]
    g = [
        100 * 128 * 49,
        7 * 7 * 16 * 128 * 128,
        14 * 14 * 16 * 128 * 128,
        28 * 28 * 49 * 128,
    ]
    assert shared.count_layers(d_model) == d
    assert shared.count_layers(g_model) == g
    assert shared.count_step(g_model, d_model, 100) == 30_712_908_800


def test_the_share_of_the_bound():
    # 2000 floating-point operations in 1 s and in 0.5 s
    seconds = {
        "loop": [8.0, 8.0, 4.0],
        "float32": [4.0, 2.0, 4.0],
        "mixed_bfloat16": [2.0, 2.0, 2.0],
        "float32_product": [1.0, 1.0, 9.0],
        "bfloat16_product": [0.5, 0.5, 0.5],
    }
    rates, variants = step_time.summarise(seconds, 2000, 10)
    assert rates == {"float32_product": 2000, "bfloat16_product": 4000}
    assert variants["float32"]["bound"] == 2.0
    assert variants["float32"]["share_of_bound"] == 0.5
    assert variants["float32"]["speed_up_over"] == {"loop": 2.0}
    assert variants["mixed_bfloat16"]["share_of_bound"] == 0.5
    assert "pytorch" not in variants

    seconds = {"no_onednn": [2.0], "float32_product": [1.0]}
    rates, variants = step_time.summarise(seconds, 2000, 10)
    assert rates == {"float32_product": 2000}
    assert variants["no_onednn"]["bound"] == 2.0


def test_larger_images():
    x = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    padded = growth.resize(x, 32)
    np.testing.assert_array_equal(padded[:, 2:30, 2:30], x)
    assert padded[:, :2].max() == padded[:, 30:].max() == 0
    larger = growth.resize(x, 64)
    np.testing.assert_array_equal(larger[:, 4:60:2, 5:60:2], x)


@pytest.mark.parametrize("script", ["step_time", "memory", "growth", "tour_steps"])
def test_results_are_not_written_over(script, start, tmp_path):
    (tmp_path / f"{script}.md").write_text("kept")
    done = start(f"benchmarks/{script}.py", "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{script}.md: exists already" in done.stderr
    assert (tmp_path / f"{script}.md").read_text() == "kept"


def test_the_loop_makes_the_tutorials_updates(small_data, monkeypatch):
    x, y = small_dataset(small_data)
    models = shared.define_models()
    monkeypatch.setattr(shared, "define_models", lambda: models)
    step, c_model = shared.define_loop([images.scale_images(x), y], 4)
    g_model, d_model, _, gan_model = models
    assert c_model is models[2]
    before = values(g_model.trainable_variables + c_model.trainable_variables)
    step()
    assert all(moved(before, g_model.trainable_variables + c_model.trainable_variables))
    updates = [int(m.optimizer.iterations) for m in (c_model, d_model, gan_model)]
    assert updates == [1, 2, 1]


def test_our_step_trains(small_data, monkeypatch):
    models = shared.define_models()
    monkeypatch.setattr(shared, "define_models", lambda shape: models)
    monkeypatch.setattr(devices, "count_cores", lambda: 1)
    g_model, d_model, c_model, gan_model = models
    labelled = []

    def select(dataset, n_samples):
        labelled.append(n_samples)
        return helpers.select_supervised_samples(dataset, n_samples)

    monkeypatch.setattr(shared, "select_supervised_samples", select)
    step, count = shared.define_our_step(small_dataset(small_data), 4, 20)
    assert labelled == [20]
    assert count == shared.count_step(g_model, d_model, 4)
    before = values(g_model.trainable_variables + c_model.trainable_variables)
    figures = [step(), step()]
    assert all(moved(before, g_model.trainable_variables + c_model.trainable_variables))
    assert np.isfinite(figures).all() and np.shape(figures) == (2, 5)
    updates = [int(m.optimizer.iterations) for m in (c_model, d_model, gan_model)]
    assert updates == [2, 4, 2]
    # each step has images of its own
    for model in (c_model, d_model, gan_model):
        model.optimizer.learning_rate = 0.0
    assert (step() != step()).any()


def test_tensorflow_is_set_up_as_the_script_does(monkeypatch):
    monkeypatch.setattr(devices, "count_cores", lambda: 3)
    given = []
    monkeypatch.setattr(devices, "prepare_tensorflow", lambda *args: given.append(args))
    shared.prepare("mixed_bfloat16")
    assert given == [("mixed_bfloat16", 3, devices.count_parts(3, False, 100))]


def test_a_process_of_its_own_has_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    pid = shared.run_in_fresh_process(os.getpid)
    assert pid != os.getpid() and pid != shared.run_in_fresh_process(os.getpid)
    assert shared.run_in_fresh_process(os.getenv, "CUDA_VISIBLE_DEVICES") == "-1"


def test_texts_of_results(monkeypatch):
    assert shared.quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == [2.0, 3.0, 4.0]
    table = shared.markdown_table(["a", "b", "c"], [["x", "1", "2"], ["y", "3", "4"]])
    assert (
        table == "| a | b | c |\n| --- | ---: | ---: |\n| x | 1 | 2 |\n| y | 3 | 4 |\n"
    )
    description = shared.describe_run("growth.py", ["--steps", 2])
    assert description["command"] == "python benchmarks/growth.py --steps 2"
    assert description["versions"]["keras"] == keras.__version__
    assert description["machine"]["cores"] == os.cpu_count()
    if Path("/proc/meminfo").exists():
        text = Path("/proc/meminfo").read_text()
        kib = int(text.partition("MemTotal:")[2].split()[0])
        assert description["machine"]["memory_gib"] == pytest.approx(kib / 2**20)
    description["machine"] |= {"processor": "A", "cores": 2, "memory_gib": 7.6}
    description["versions"] = {"python": "3.11", "keras": "3.15"}
    assert shared.one_line(description) == (
        "A, 2 cores, 8 GiB; python 3.11, keras 3.15; "
        "`python benchmarks/growth.py --steps 2`\n"
    )
    monkeypatch.setattr(sys, "argv", ["growth.py", "--out", "x"])
    command = shared.describe_run("growth.py", None)["command"]
    assert command == "python benchmarks/growth.py --out x"


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("growth", ["--steps", "0"], "0: must be 1 or more"),
        ("memory", ["--steps", "-1"], "-1: must be 1 or more"),
        ("step_time", ["--batch", "5"], "5: give an even number from 2 on"),
        ("step_time", ["--batch", "0"], "0: give an even number from 2 on"),
        ("step_time", ["--variants", "magic"], "invalid choice: 'magic'"),
        ("tour_steps", ["--scripts", "magic"], "invalid choice: 'magic'"),
        ("tour_steps", ["--precisions", "float16"], "invalid choice: 'float16'"),
    ],
)
def test_bad_options(script, options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        globals()[script].main(options)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


# ---------------------------------------------------------------- step_time.py


def test_a_step_is_timed_and_its_warm_up_left_out(monkeypatch):
    clock, made = Clock(), []
    monkeypatch.setattr(step_time, "time", clock)

    def define_step(name, n_batch, size):
        def step():
            made.append(name)
            clock.now += {"loop": 3, "float32": 2}[name] + (len(made) <= 4) * 100

        assert (n_batch, size) == (4, 16)
        return step

    monkeypatch.setattr(step_time, "define_step", define_step)
    monkeypatch.setattr(step_time, "fresh_process", lambda: ThreadPoolExecutor(1))
    seconds = step_time.measure(["loop", "float32"], 8, 2, 4, 16)
    assert seconds == {"loop": [3] * 8, "float32": [2] * 8}
    # they take turns, in changing order
    turns = {tuple(made[i : i + 2]) for i in range(0, 20, 2)}
    assert turns == {("loop", "float32"), ("float32", "loop")}


def test_a_variant_is_made_once(here, monkeypatch):
    monkeypatch.setattr(step_time, "define_loop", lambda *args: (object(), None))
    one = step_time.define_step("loop", 4, 16)
    assert step_time.define_step("loop", 4, 16) is one
    assert step_time.define_step("loop", 6, 16) is not one


def test_the_products():
    for name, dtype in step_time.PRODUCTS.items():
        product = step_time.define_step(name, 4, 8)()
        assert product.shape == (8, 8) and product.dtype == dtype


def test_what_each_variant_sets(here, monkeypatch):
    made = []
    for name in ("define_our_step", "define_loop"):

        def note(dataset, n_batch, name=name):
            onednn = os.environ["TF_ENABLE_ONEDNN_OPTS"]
            made.append((name, dataset[0].dtype.name, n_batch, onednn))
            return None, None

        monkeypatch.setattr(step_time, name, note)
    monkeypatch.setattr(step_time, "prepare", made.append)
    for variant in ("loop", "float32", "mixed_bfloat16", "no_onednn"):
        step_time.define_step(variant, 4, 16)
    assert made == [
        ("define_loop", "float32", 4, "1"),
        "float32",
        ("define_our_step", "uint8", 4, "1"),
        "mixed_bfloat16",
        ("define_our_step", "uint8", 4, "1"),
        "float32",
        ("define_our_step", "uint8", 4, "0"),
    ]


def test_step_time_writes_its_results(here, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(step_time, "REST", 0)
    monkeypatch.setattr(step_time.importlib.util, "find_spec", lambda name: None)
    out = tmp_path / "results"
    options = ["--steps", 2, "--warm-up", 1, "--batch", 4, "--matrix", 16, "--out", out]
    options += ["--variants", "loop", "float32", "pytorch"]
    assert step_time.main([str(option) for option in options]) == 0
    results = json.loads((out / "step_time.json").read_text(encoding="utf-8"))
    names = ["loop", "float32"]
    assert list(results["variants"]) == names
    assert list(results["seconds"]) == [*names, "float32_product"]
    assert all(len(times) == 2 for times in results["seconds"].values())
    g_model, d_model, *_ = shared.define_models()
    count = shared.count_step(g_model, d_model, 4)
    assert results["multiply_adds"] == count
    assert (results["batch"], results["warm_up"], results["matrix"]) == (4, 1, 16)
    medians = {name: np.median(times) for name, times in results["seconds"].items()}
    rate = 2 * 16**3 / medians["float32_product"]
    assert results["flops_per_second"] == {"float32_product": pytest.approx(rate)}
    for name, figures in results["variants"].items():
        assert figures["bound"] == pytest.approx(2 * count / rate)
        assert figures["share_of_bound"] == pytest.approx(
            figures["bound"] / medians[name]
        )
        ratios = np.divide(results["seconds"]["loop"], results["seconds"][name])
        assert figures["speed_up_over"] == {"loop": pytest.approx(np.median(ratios))}
    text = (out / "step_time.md").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert printed == f"PyTorch is not installed: its step is left out\n{text}"
    assert [line.split(" | ")[0] for line in text.splitlines()[2:4]] == [
        f"| {step_time.VARIANTS[name][0]}" for name in names
    ]
    assert f"A step takes {count / 1e9:.2f}e9 multiply-adds." in text
    assert step_time.main(["--variants", "pytorch", "--out", str(tmp_path / "b")]) == 2
    assert "pip install -r requirements/benchmarks.txt" in capsys.readouterr().err
    assert step_time.main(["--batch", "202", "--out", str(tmp_path / "c")]) == 2
    assert "--batch 202: there are 200 images" in capsys.readouterr().err
    assert not (tmp_path / "b").exists() and not (tmp_path / "c").exists()


def test_the_table_of_step_times():
    figures = {
        "title": "ours",
        "quartiles": [1.0, 2.0, 3.5],
        "bound": 1.5,
        "share_of_bound": 0.75,
    }
    variants = {
        "float32": {**figures, "speed_up_over": {"loop": 1.47, "pytorch": 1.94}},
        "no_onednn": {**figures, "speed_up_over": {}},
    }
    text = step_time.describe({"float32_product": 3e9}, variants, 2e9).splitlines()
    cells = "| ours | 2.000 | 1.000 to 3.500 | 1.500 | 75 % |"
    assert text[2:4] == [f"{cells} 1.47 | 1.94 |", f"{cells}  |  |"]
    assert text[-2] == (
        "A step takes 2.00e9 multiply-adds. Large matrix products reach, in GFLOP/s: "
        "float32 3."
    )


# in a process without TensorFlow, beside which PyTorch may crash
TORCH = """
import json
import numpy as np
import torch
import torch_step

d, g = torch_step.define_discriminator(), torch_step.define_generator(6)
torch_step.define_discriminator = lambda: d
torch_step.define_generator = lambda latent_dim: g
networks = [d, g]
X = np.linspace(-1, 1, 20 * 784, dtype=np.float32).reshape(20, 28, 28, 1)
dataset = [X, np.arange(20) % 10]
updates, update = [], torch_step.update

def note(network, optimizer, loss):
    before = [[w.detach().clone() for w in one.parameters()] for one in networks]
    update(network, optimizer, loss)
    moved = [
        {bool((b != w).any() and w.isfinite().all()) for b, w in zip(*weights)}
        for weights in zip(before, [one.parameters() for one in networks])
    ]
    updates.append([sorted(one) for one in moved])

torch_step.update = note
torch_step.define_step(dataset, dataset, 6, 4)()
sizes = [[w.numel() for w in one.parameters()] for one in networks]
shape = list(g(torch.randn(3, 6)).shape)
print(json.dumps([updates, sizes, shape]))
"""


def test_pytorchs_step_trains_networks_of_the_same_sizes():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed; see requirements/benchmarks.txt")
    done = subprocess.run(
        [sys.executable, "-c", TORCH], cwd=BENCHMARKS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    updates, sizes, shape = json.loads(done.stdout)
    # all weights of d three times, then all of g: the others stay
    assert updates == [[[True], [False]]] * 3 + [[[False], [True]]]
    g_model, _, c_model, _ = shared.define_models()
    keras_sizes = [
        [math.prod(weight.shape) for weight in model.trainable_variables]
        for model in (c_model, g_model)
    ]
    keras_sizes[1][0] = 6 * 128 * 49
    assert sizes == keras_sizes
    assert shape == [3, 1, 28, 28]


# ---------------------------------------------------------------- tour_steps.py


def test_the_multiply_adds_of_a_graph_by_hand():
    kernel = tf.Variable(tf.ones((3, 3, 2, 5)))

    @tf.function
    def train(x, a, b):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.nn.conv2d(x, kernel, 2, "SAME") ** 2)
        by_kernel, by_x = tape.gradient(loss, [kernel, x])
        for _ in tf.range(4):
            a = tf.linalg.matmul(a, b, transpose_a=True)
        tf.linalg.matmul(a, b)  # of no use
        return loss, by_kernel, by_x, a

    shapes = (7, 6, 8, 2), (11, 11), (11, 11)
    graph = train.get_concrete_function(*map(tf.ones, shapes)).graph
    # forward, by the kernel, by the images: 3x4 places each, then the loop
    convolutions = 3 * 7 * (3 * 4) * (9 * 2 * 5)
    # the graph doesn't say how many rounds there are
    assert tour_steps.count_products(graph, 4) == convolutions + 4 * 11**3

    @tf.function
    def multiply(a, b):
        return tf.matmul(a, b)

    @tf.function
    def call(a, b):
        return tf.while_loop(
            lambda a: True, lambda a: multiply(a, b), [a], maximum_iterations=6
        )

    stacked = tf.ones((3, 5, 5))
    graph = call.get_concrete_function(stacked, stacked).graph
    assert tour_steps.count_products(graph) == 6 * 3 * 5**3
    with pytest.raises(ValueError, match="Conv3D: a product that is not counted"):
        ones = tf.ones((1, 1, 1, 1, 1))
        conv = tf.function(lambda: tf.nn.conv3d(ones, ones, [1] * 5, "SAME"))
        tour_steps.count_products(conv.get_concrete_function().graph)


def tiny_script(name, small_data, monkeypatch):
    """Return a script of the tour whose settings are small ones by themselves."""
    monkeypatch.setattr("gankit.training.run.count_cores", lambda: 1)
    script = load_script(name)
    settings = partial(script.Settings, data=str(small_data), width=0.05, batch=4)
    monkeypatch.setattr(script, "Settings", settings)
    return script


def train_once(layers):
    """Return the multiply-adds of a training pass through layers, an image each."""
    # forward, weights' and inputs' gradient; none of the first inputs
    return 3 * sum(layers) - layers[0]


@pytest.mark.parametrize("name", ["dcgan", "wgan"])
def test_a_tour_steps_multiply_adds(name, here, small_data, monkeypatch):
    script = tiny_script(name, small_data, monkeypatch)
    result = tour_steps.time_script(name, "float32", 1, 1, 16)
    found = result["multiply_adds"] / 4
    assert len(result["seconds"]) == len(result["product_seconds"]) == 1
    models = script.define_models(script.Settings(), (28, 28, 1), 10)
    g, d = map(shared.count_layers, models[:2])
    through_d = 2 * sum(d)
    of_d = 2 * train_once(d)
    if name == "wgan":
        of_d = script.N_CRITIC * (sum(g) + of_d)
    assert found == of_d + train_once(g) + through_d


def test_the_last_phases_step_is_counted(monkeypatch):
    run = tour_steps.TimedRun(
        "progan",
        GanSettings(precision="float32", threads=1, seed=1),
        **{"n_timed": 3, "n_warm_up": 2, "size": 16},
    )
    monkeypatch.setattr(tour_steps.GanRun, "compile", lambda *args, **options: options)
    for n in (2, 3):
        weights = tf.ones((n, 5))
        made = run.compile(
            lambda draws, n=n: (draws.points(7, n),),
            lambda step, batch, weights=weights: (tf.matmul(batch, weights),),
            [],
            columns=["loss"],
            draws=1,
        )
    assert made == {"columns": ["loss"], "draws": 1}
    run._n_steps = 9
    assert run.count_step() == 7 * 3 * 5


def test_tour_steps_are_timed_in_turns_with_products(monkeypatch):
    clock, made = Clock(), []
    monkeypatch.setattr(tour_steps, "time", clock)

    def product():
        made.append("product")
        clock.now += 2 + (len(made) <= 4) * 100

    def steps(first, n):
        made.append((first, n))
        clock.now += 3 + (len(made) <= 4) * 100
        return tf.zeros((n, 3))

    given = []
    monkeypatch.setattr(
        tour_steps, "define_product", lambda *args: given.append(args) or product
    )
    monkeypatch.setattr(tour_steps.TimedRun, "count_step", lambda run: 9)
    run = tour_steps.TimedRun(
        "wgan",
        GanSettings(precision="float32", threads=1),
        **{"n_timed": 3, "n_warm_up": 2, "size": 16},
    )
    run.make(steps, None, None, n_steps=503)
    assert given == [("float32", 16, 1)]
    assert (run.seconds, run.product_seconds) == ([3] * 3, [2] * 3)
    assert run.multiply_adds == 9
    # the last ones, but for those in which WGAN's critic has more updates
    assert made[::2] == [(i, 1) for i in (497, 498, 499, 501, 502)]
    assert set(made[1::2]) == {"product"}


def test_wgans_steps_that_are_timed_have_as_many_updates_as_are_counted():
    wgan = load_script("wgan")
    unusual = tour_steps.UNUSUAL
    steps = [i for i in range(26, 3 * unusual) if i % unusual]
    assert {wgan.count_critic_updates(i) for i in steps} == {wgan.N_CRITIC}


def test_tour_steps_writes_its_results(here, small_data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_script("dcgan", small_data, monkeypatch)
    monkeypatch.setattr(tour_steps.TimedRun, "count_step", lambda run: 1000)
    out = tmp_path / "results"
    options = ["--steps", 2, "--warm-up", 1, "--matrix", 16, "--out", out]
    options += ["--scripts", "dcgan", "dcgan", "--precisions", "float32"]
    assert tour_steps.main([str(option) for option in options]) == 0
    results = json.loads((out / "tour_steps.json").read_text(encoding="utf-8"))
    assert (results["warm_up"], results["matrix"]) == (1, 16)
    (result,) = results["steps"]
    assert len(result["seconds"]) == len(result["product_seconds"]) == 2
    median = np.median(result["seconds"])
    rate = 2 * 16**3 / np.median(result["product_seconds"])
    assert result["multiply_adds"] == 1000
    assert result["flops_per_second"] == pytest.approx(rate)
    assert result["bound"] == pytest.approx(2000 / rate)
    assert result["share_of_bound"] == pytest.approx(2000 / rate / median)
    given = ("dcgan", "float32", 4, 0.05, 1)
    names = ("script", "precision", "batch", "width", "threads")
    assert tuple(result[name] for name in names) == given
    text = (out / "tour_steps.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == text
    # no folder of a run is made
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_the_table_of_tour_steps():
    result = {
        "script": "gan",
        "precision": "float32",
        "batch": 100,
        "multiply_adds": 5e9,
        "quartiles": [1.0, 2.0, 3.5],
        "bound": 1.5,
        "share_of_bound": 0.75,
        "flops_per_second": 3e9,
    }
    other = {**result, "precision": "mixed_bfloat16", "flops_per_second": 9e9}
    text = tour_steps.describe([result, other, {**result, "flops_per_second": 4e9}])
    cells = "100 | 5.00 | 2.000 | 1.000 to 3.500 | 1.500 | 75 % |"
    assert text.splitlines()[2:4] == [
        f"| gan.py, float32 | {cells}",
        f"| gan.py, mixed_bfloat16 | {cells}",
    ]
    assert text.splitlines()[-2] == (
        "Large matrix products in turns with the steps reach, in GFLOP/s: float32 3 to "
        "4, bfloat16 9 to 9."
    )


def test_the_product_of_a_precision():
    for n_parts in (1, 3):
        product = tour_steps.define_product("bfloat16", 8, n_parts)
        assert product().shape == (8, 8) and product().dtype == "bfloat16"


# ---------------------------------------------------------------- growth.py


def test_growth_times_all_settings_in_turns(here, monkeypatch):
    clock, made = Clock(), []
    monkeypatch.setattr(growth, "time", clock)
    monkeypatch.setattr(growth, "prepare", made.append)

    def define_our_step(dataset, n_batch, n_labels):
        name = (dataset[0].shape, n_batch, n_labels)

        def step():
            made.append(name)
            clock.now += n_batch + (len(made) <= 5) * 100

        return step, n_batch * n_labels

    monkeypatch.setattr(growth, "define_our_step", define_our_step)
    settings = [growth.Setting(batch=4), growth.Setting(batch=6, labels=20, size=32)]
    results = growth.measure(settings, 3, 2)
    assert results == [([4, 4, 4], 400), ([6, 6, 6], 120)]
    shapes = [((200, 28, 28, 1), 4, 100), ((200, 32, 32, 1), 6, 20)]
    assert made == ["float32", *(shapes * 5)]


def test_growth_writes_its_results(here, tmp_path, capsys, monkeypatch):
    factors = {
        "batch": ("images a batch", (4, 100)),
        "labels": ("labelled images", (20, 100)),
        "size": ("height and width, pixels", (28,)),
    }
    monkeypatch.setattr(growth, "FACTORS", factors)
    plotted = []
    monkeypatch.setattr(growth, "save_figure", lambda *args: plotted.append(args))
    measured = []

    def measure(settings, n_steps, n_warm_up):
        measured.extend((*settings, n_steps, n_warm_up))
        # the slowest step is 5 times as long as the quickest
        return [([i + 1.0, i + 2.0, i + 5.0], 10**9 * i) for i in range(len(settings))]

    monkeypatch.setattr(growth, "measure", measure)
    out = tmp_path / "results"
    assert growth.main(["--steps", "3", "--warm-up", "2", "--out", str(out)]) == 0
    default = growth.Setting()
    assert default == (100, 100, 28)
    assert measured == [(4, 100, 28), default, (100, 20, 28), 3, 2]
    rows = read_csv(out / "growth.csv")
    assert [tuple(row.values()) for row in rows] == [
        ("batch", "4", "1.5", "2.0", "3.5", "0"),
        ("batch", "100", "2.5", "3.0", "4.5", "1000000000"),
        ("labels", "20", "3.5", "4.0", "5.5", "2000000000"),
        ("labels", "100", "2.5", "3.0", "4.5", "1000000000"),
        ("size", "28", "2.5", "3.0", "4.5", "1000000000"),
    ]
    assert tuple(rows[0]) == growth.COLUMNS
    text = (out / "growth.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == text
    assert text.splitlines()[4] == (
        "| labelled images | 20 | 4.000 | 3.500 to 5.500 | 2.00 |"
    )
    ((figure, path),) = plotted
    assert path == out / "growth.png"
    lines = [axes.lines[0].get_xydata().tolist() for axes in figure.axes]
    assert lines == [[[4, 2], [100, 3]], [[20, 4], [100, 3]], [[28, 3]]]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        t for t, _ in factors.values()
    ]
    bands = [axes.collections[0].get_paths()[0].vertices for axes in figure.axes]
    assert [(band[:, 1].min(), band[:, 1].max()) for band in bands] == [
        (1.5, 4.5),
        (2.5, 5.5),
        (2.5, 4.5),
    ]


def test_growth_measures_real_steps(here):
    ((seconds, count),) = growth.measure([growth.Setting(4, 20, 32)], 2, 1)
    g_model, d_model, *_ = shared.define_models((32, 32, 1))
    assert count == shared.count_step(g_model, d_model, 4)
    assert len(seconds) == 2 and min(seconds) > 0


def test_the_plot_is_the_same_whatever_matplotlibrc_says(tmp_path, monkeypatch):
    rows = [(factor, 4, 1.0, 2.0, 3.0, 5) for factor in growth.FACTORS]
    growth.plot(rows, tmp_path / "a.png")
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    growth.plot(rows, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# ---------------------------------------------------------------- memory.py


def test_the_peak_is_that_of_the_process():
    code = (
        "import memory; before = memory.peak_mib(); b'x' * (300 * 2**20); "
        "print(memory.peak_mib() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True
    )
    # the bytes are gone, their peak stays
    assert 290 < float(done.stdout) < 330, done.stderr


def test_memory_writes_its_results(here, small_data, tmp_path, capsys, monkeypatch):
    main, given = memory.sgan_mnist.main, []

    def main_with_few_images(options):
        given.append(options)
        return main([*options, "--data", str(small_data), "--threads", "1"])

    def load_few():
        print("the shapes")
        return helpers.load_real_samples(small_data)

    monkeypatch.setattr(memory.sgan_mnist, "main", main_with_few_images)
    monkeypatch.setattr(memory, "load_real_samples", load_few)
    monkeypatch.setattr(memory, "N_BATCH", 20)
    peaks = iter([10.0, 20.4, 40.0, 30.0])
    monkeypatch.setattr(memory, "peak_mib", lambda: next(peaks))
    out = tmp_path / "results"
    assert memory.main(["--steps", "1", "--out", str(out)]) == 0
    results = json.loads((out / "memory.json").read_text(encoding="utf-8"))
    peaks = dict(zip(memory.RUNS, (10.0, 20.4, 40.0, 30.0), strict=True))
    assert results["peak_mib"] == peaks
    assert (results["batch"], results["steps"]) == (20, 1)
    text = (out / "memory.md").read_text(encoding="utf-8")
    # nothing of the runs
    assert capsys.readouterr().out == text
    assert text.splitlines()[:4] == [
        "| 1 steps | peak memory, MiB |",
        "| --- | ---: |",
        "| importing TensorFlow, nothing else | 10 |",
        "| tutorial's loop, corrected | 20 |",
    ]
    for options, precision in zip(given, ("float32", "mixed_bfloat16"), strict=True):
        named = dict(zip(options[::2], options[1::2], strict=True))
        assert (named["--precision"], named["--batch"]) == (precision, "20")
        assert named["--max-steps"] == "1"
        # the run's files are gone
        assert not Path(named["--out"]).exists()


def test_a_run_that_fails_is_not_measured(monkeypatch):
    monkeypatch.setattr(memory.sgan_mnist, "main", lambda options: 1)
    with pytest.raises(RuntimeError, match="ended with status 1"):
        memory.run_ours("float32", 1)


def test_the_loops_run_makes_its_steps_and_measures_accuracy(monkeypatch):
    made = []

    class Classifier:
        def evaluate(self, *dataset, verbose):
            made.append(dataset)

    def define_loop(dataset, n_batch):
        return lambda: made.append(n_batch), Classifier()

    monkeypatch.setattr(memory, "load_real_samples", lambda: ["X", "y"])
    monkeypatch.setattr(memory, "define_loop", define_loop)
    memory.run_loop(3)
    assert made == [100, 100, 100, ("X", "y")]
