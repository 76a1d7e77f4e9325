"""Time one training step of each script of the tour against its multiply-adds' bound.

    python benchmarks/tour_steps.py                      # into results/tour_steps
    python benchmarks/tour_steps.py --scripts dcgan wgan --precisions float32 --out DIR

Each script has its own settings (batch, width, threads) and, for each precision, a
process of its own. There the steps take turns with a large matrix product of that
precision on the same threads: it gives the machine's rate, and the rate gives the
bound, the time of the step's multiply-adds. The steps are the last ones of a run, so
that a script with phases or sizes is in its last one.
"""

import importlib
import json
import math
import sys
import time
from unittest import mock

import numpy as np
from shared import (
    ROOT,
    define_parser,
    describe_run,
    markdown_table,
    one_line,
    output_files,
    positive,
    quartiles,
    run_in_fresh_process,
    write_text,
)

TOUR = ROOT / "tour"
sys.path.append(str(TOUR))

from common import GanRun  # noqa: E402

from gankit.backend import tf  # noqa: E402
from gankit.command import run_script  # noqa: E402
from gankit.training.batches import Draws, split_in_parts  # noqa: E402

# the product's type by precision
PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}
# WGAN's critic has more updates in each 500th step
UNUSUAL = 500


def find_scripts():
    """Return the names of the tour's scripts that train a GAN, sorted."""
    return sorted(
        path.stem
        for path in TOUR.glob("*.py")
        if "\ndef define_models(" in path.read_text(encoding="utf-8")
    )


def reached(graph):
    """Return the operations of a graph that its outputs and side effects need."""
    found, left = {}, [*(t.op for t in graph.outputs), *graph.control_outputs]
    while left:
        op = left.pop()
        if op.name not in found:
            found[op.name] = op
            left += [*(t.op for t in op.inputs), *op.control_inputs]
    return found.values()


def count_rounds(loop, n_rounds):
    """Return how many rounds a While has, n_rounds where the graph doesn't say."""
    most = tf.get_static_value(loop.inputs[1])
    return n_rounds if most is None or most < 0 else int(most)


def count_products(graph, n_rounds=1):
    """Return the multiply-adds of a graph's matrix products and convolutions.

    n_rounds: of loops of which the graph doesn't say it, as WGAN's updates of the
    critic. Products with padding count, work that is no product does not. Raises
    ValueError for a kind of product that is not known.
    """
    count = 0
    for op in reached(graph):
        shapes = [t.shape for t in op.inputs]
        if op.type in ("While", "StatelessWhile"):
            body = graph._get_function(op.get_attr("body").name).graph
            count += count_rounds(op, n_rounds) * count_products(body, n_rounds)
        elif op.type in ("PartitionedCall", "StatefulPartitionedCall"):
            body = graph._get_function(op.get_attr("f").name).graph
            count += count_products(body, n_rounds)
        elif op.type == "MatMul":
            inner = shapes[0][0 if op.get_attr("transpose_a") else 1]
            count += math.prod(op.outputs[0].shape) * inner
        elif op.type == "BatchMatMulV2":
            inner = shapes[0][-2 if op.get_attr("adj_x") else -1]
            count += math.prod(op.outputs[0].shape) * inner
        elif op.type == "Conv2D":
            count += math.prod(op.outputs[0].shape[:3]) * math.prod(shapes[1])
        elif op.type == "Conv2DBackpropInput":
            count += math.prod(shapes[2][:3]) * math.prod(shapes[1])
        elif op.type == "Conv2DBackpropFilter":
            count += math.prod(shapes[2][:3]) * math.prod(op.outputs[0].shape)
        elif "Conv" in op.type or "MatMul" in op.type or op.type == "Einsum":
            raise ValueError(f"{op.type}: a product that is not counted")
    return count


class TimedRun(GanRun):
    """A run whose last steps are timed in turns with a product; it keeps nothing.

    size: of the product's matrices. seconds: of n_timed steps after n_warm_up others,
    and product_seconds: of as many products, once the steps are made; then also
    multiply_adds, a step's.
    """

    def __init__(self, *args, n_timed, n_warm_up, size, **others):
        super().__init__(*args, **others)
        self._n_timed, self._n_warm_up, self._size = n_timed, n_warm_up, size
        self.seconds, self.product_seconds = [], []

    def read(self):
        """No judge is needed."""

    def open(self):
        """No folder is needed."""

    def compile(self, draw, train_step, state, *, draws, **others):
        # of a run in phases the last one's stay
        self._step = draw, train_step, draws
        return super().compile(draw, train_step, state, draws=draws, **others)

    def count_step(self):
        """Return the multiply-adds of one of the steps."""
        draw, train_step, draws = self._step
        step = tf.constant(self.n_steps - 1)
        batch = draw(Draws(self.seed, step, draws))
        graph = tf.function(train_step).get_concrete_function(step, *batch).graph
        script = sys.modules[train_step.__module__]
        return count_products(graph, getattr(script, "N_CRITIC", 1))

    def make(self, steps, dataset, summarize, *, n_steps, **others):
        product = define_product(
            PRECISIONS[self.settings.precision], self._size, self.side_by_side
        )
        usual = [i for i in range(n_steps) if i % UNUSUAL]
        for i in usual[-(self._n_warm_up + self._n_timed) :]:
            for seconds, function in (
                (self.seconds, lambda i=i: steps(i, 1).numpy()),
                (self.product_seconds, product),
            ):
                start = time.perf_counter()
                function()
                seconds.append(time.perf_counter() - start)
        del self.seconds[: self._n_warm_up], self.product_seconds[: self._n_warm_up]
        self.multiply_adds = self.count_step()

    def conclude(self, n_steps, models, figures=dict, **others):
        """Nothing is kept."""


def define_product(dtype, size, n_parts=1):
    """Return product(), which makes its matrices when it is first called.

    n_parts: in how many parts it is computed, for threads that have one each.
    """
    matrices = []

    @tf.function
    def multiply(a, b):
        parts = split_in_parts(a, n_parts)
        return tf.concat([tf.matmul(part, b) for part in parts], 0)

    def product():
        if not matrices:
            for _ in range(2):
                matrices.append(tf.cast(tf.random.normal((size, size)), dtype))
        return multiply(*matrices)

    return product


def time_script(name, precision, n_steps, n_warm_up, size):
    """Return what was measured of a script's step, a dict; in a process of its own."""
    script, runs = importlib.import_module(name), []
    settings = script.Settings(seed=1, precision=precision)
    start_run = script.start_run

    def make_run(*args, **options):
        sizes = {"n_timed": n_steps, "n_warm_up": n_warm_up, "size": size}
        runs.append(TimedRun(*args, **options, **sizes))
        return runs[-1]

    def start_timed_run(*args, **options):
        start_run(*args, **{**options, "run_class": make_run})

    with mock.patch.object(script, "start_run", start_timed_run):
        script.start(settings)
    (run,) = runs
    rate = 2 * size**3 / np.median(run.product_seconds)
    bound = 2 * run.multiply_adds / rate
    return {
        "script": name,
        "precision": precision,
        "batch": settings.batch,
        "width": settings.width,
        "threads": run.settings.threads,
        "multiply_adds": run.multiply_adds,
        "quartiles": quartiles(run.seconds),
        "bound": bound,
        "share_of_bound": bound / np.median(run.seconds),
        "flops_per_second": rate,
        "seconds": run.seconds,
        "product_seconds": run.product_seconds,
    }


def describe(results):
    """Return the Markdown of what time_script returned of each script and precision."""
    rows, rates = [], {}
    for result in results:
        low, median, high = result["quartiles"]
        rows.append(
            [
                f"{result['script']}.py, {result['precision']}",
                str(result["batch"]),
                f"{result['multiply_adds'] / 1e9:.2f}",
                f"{median:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{result['bound']:.3f}",
                f"{100 * result['share_of_bound']:.0f} %",
            ]
        )
        of_type = rates.setdefault(PRECISIONS[result["precision"]], [])
        of_type.append(result["flops_per_second"] / 1e9)
    header = [
        "one step",
        "images a batch",
        "multiply-adds, 1e9",
        "median, s",
        "quartiles, s",
        "bound, s",
        "share of bound",
    ]
    texts = (f"{name} {min(r):.0f} to {max(r):.0f}" for name, r in rates.items())
    return (
        f"{markdown_table(header, rows)}\n"
        "Large matrix products in turns with the steps reach, in GFLOP/s: "
        f"{', '.join(texts)}.\n\n"
    )


def run(args, argv):
    json_path, markdown_path = output_files(
        args.out, "tour_steps.json", "tour_steps.md"
    )
    description = describe_run("tour_steps.py", argv)
    sizes = args.steps, args.warm_up, args.matrix
    results = [
        run_in_fresh_process(time_script, name, precision, *sizes)
        for name in dict.fromkeys(args.scripts)
        for precision in dict.fromkeys(args.precisions)
    ]
    text = describe(results) + one_line(description)
    found = {
        **description,
        "warm_up": args.warm_up,
        "matrix": args.matrix,
        "steps": results,
    }
    write_text(json_path, json.dumps(found, indent=1) + "\n")
    write_text(markdown_path, text)
    print(text, end="")


def main(argv=None):
    parser = define_parser(__doc__.splitlines()[0], "tour_steps", 20)
    add = parser.add_argument
    add("--warm-up", type=positive, default=3, metavar="N", help="steps before those")
    for option, names in (
        ("--scripts", find_scripts()),
        ("--precisions", list(PRECISIONS)),
    ):
        add(
            option,
            nargs="+",
            choices=names,
            default=names,
            metavar="NAME",
            help=f"of {', '.join(names)}",
        )
    add("--matrix", type=positive, default=4096, metavar="N", help="products are NxN")
    args = parser.parse_args(argv)
    return run_script("tour_steps.py", lambda: run(args, argv))


if __name__ == "__main__":
    sys.exit(main())
