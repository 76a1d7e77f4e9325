"""Time one training step of each script of the tour against its multiply-adds' bound.

    python benchmarks/tour_steps.py                      # into results/tour_steps
    python benchmarks/tour_steps.py --scripts dcgan wgan --precisions float32 --out DIR

Each script has its own settings (batch, width, threads) and, for each precision, a
process of its own. There the steps take turns with a large matrix product of that
precision on the same threads: it gives the machine's rate, and the rate gives the
bound, the time of the step's multiply-adds.
"""

import importlib
import itertools
import json
import sys
import time

import numpy as np
from shared import (
    ROOT,
    count_layers,
    define_parser,
    describe_run,
    kernel_layers,
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

from common import GanRun, load_images  # noqa: E402

from gankit.backend import tf  # noqa: E402
from gankit.command import run_script  # noqa: E402
from gankit.training.batches import split_in_parts  # noqa: E402

# the product's type by precision
PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}
# scripts whose products count_step knows
COUNTED = ("gan", "dcgan", "cgan", "acgan", "infogan", "wgan", "wgan_gp")
# WGAN's critic has more updates in its first 25 steps and in each 500th
FIRST, UNUSUAL = 26, 500


def find_scripts():
    """Return the names of the tour's scripts that train a GAN, sorted."""
    return sorted(
        path.stem
        for path in TOUR.glob("*.py")
        if "\ndef define_models(" in path.read_text(encoding="utf-8")
    )


def count_step(script, models, n_batch):
    """Return the multiply-adds of one training step of a script, one of COUNTED.

    script: its module. models: what its define_models returned. An ordinary step of
    WGAN's, see FIRST. Products with padding count, work that is no product does not.
    """
    g, d = (count_layers(model) for model in models[:2])

    # forward pass, weights' gradient and inputs' gradient take equally many, and a
    # first layer's inputs need no gradient
    def train(layers):
        return 3 * sum(layers) - layers[0]

    # g is trained through d: forward pass, and inputs' gradient down to the images
    through_d = 2 * sum(d)
    if script.NAME in ("wgan", "wgan_gp"):
        # the critic's updates: g forward, the critic on real and generated images
        critic_update = sum(g) + 2 * train(d)
        if script.NAME == "wgan_gp":
            # The penalty: forward, gradient by the image, and the gradient of that one
            # by the weights. The latter is made of one product for each layer's inputs'
            # gradient W'e: with what comes back, u, it needs the weights' gradient
            # from u and e, and for the layer behind it Wu, as much as forward. The last
            # layer has none behind it, and its answer itself is not needed. (Leaky ReLU
            # has no curvature, so nothing goes back through the forward pass.)
            forward = sum(d) - d[-1]
            by_image = sum(d)
            second_order = 2 * sum(d) - d[-1]
            critic_update += forward + by_image + second_order
        return n_batch * (script.N_CRITIC * critic_update + train(g) + through_d)
    d_update = 2 * train(d)
    if script.NAME == "cgan":
        # d's first layer makes a map of the label, which is no way to the image
        through_d -= d[0]
    if script.NAME == "infogan":
        # q's own layers, behind those of d: trained on generated images; of real ones
        # the first is computed, whose batch normalisation follows them
        d_model, q_model = models[1:]
        shared = sum(layer in d_model.layers for layer in kernel_layers(q_model))
        q = count_layers(q_model)[shared:]
        d_update += q[0] + 3 * sum(q)
        through_d += 2 * sum(q)
    # one generated batch serves both updates
    return n_batch * (d_update + train(g) + through_d)


class TimedRun(GanRun):
    """A run whose steps are timed in turns with a product; it keeps nothing.

    product: () -> a tensor, set before the steps are made. seconds: of n_steps steps
    after n_warm_up others, and product_seconds: of as many products, once the steps
    are made.
    """

    def __init__(self, *args, n_steps, n_warm_up, **others):
        super().__init__(*args, **others)
        self._n_timed, self._n_warm_up = n_steps, n_warm_up
        self.product = None
        self.seconds, self.product_seconds = [], []

    def read(self):
        """No judge is needed."""

    def open(self):
        """No folder is needed."""

    def make(self, steps, dataset, summarize, **others):
        numbers = (i for i in itertools.count(FIRST) if i % UNUSUAL)
        for i in itertools.islice(numbers, self._n_warm_up + self._n_timed):
            for seconds, function in (
                (self.seconds, lambda i=i: steps(i, 1).numpy()),
                (self.product_seconds, self.product),
            ):
                start = time.perf_counter()
                function()
                seconds.append(time.perf_counter() - start)
        del self.seconds[: self._n_warm_up], self.product_seconds[: self._n_warm_up]

    def conclude(self, n_steps, models, figures=dict):
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
    script = importlib.import_module(name)
    settings = script.Settings(seed=1, precision=precision)
    data = load_images(settings)
    run = TimedRun(
        name,
        settings,
        data=data,
        n_steps=n_steps,
        n_warm_up=n_warm_up,
    )
    run.prepare()
    run.product = define_product(PRECISIONS[precision], size, run.side_by_side)
    models = script.define_models(settings, data.image_shape, data.n_classes)
    script.train(
        *models,
        data.train,
        settings.latent_dim,
        settings.steps,
        settings.batch,
        run=run,
    )
    multiply_adds = count_step(script, models, settings.batch)
    rate = 2 * size**3 / np.median(run.product_seconds)
    bound = 2 * multiply_adds / rate
    return {
        "script": name,
        "precision": precision,
        "batch": settings.batch,
        "width": settings.width,
        "threads": run.settings.threads,
        "multiply_adds": multiply_adds,
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
    for name in find_scripts():
        if name not in COUNTED:
            print(f"tour/{name}.py: left out, count_step does not know it")
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
    scripts = [name for name in find_scripts() if name in COUNTED]
    for option, names in (("--scripts", scripts), ("--precisions", list(PRECISIONS))):
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
