"""Measure the peak memory of a short run: sgan_mnist.py and the tutorial's loop.

    python benchmarks/memory.py                       # into results/memory

Each run is made on the whole MNIST in a process of its own and ends with measuring the
classifier's accuracy; sgan_mnist.py also saves its models, figures and a checkpoint.
"""

import contextlib
import importlib
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

from shared import (
    N_BATCH,
    define_loop,
    define_parser,
    describe_run,
    markdown_table,
    one_line,
    output_files,
    run_in_fresh_process,
    write_text,
)

import sgan_mnist
from gankit.command import run_script
from helpers import load_real_samples

RUNS = {
    "import": "importing TensorFlow, nothing else",
    "loop": "tutorial's loop, corrected",
    "float32": "sgan_mnist.py, float32",
    "mixed_bfloat16": "sgan_mnist.py, mixed_bfloat16",
}


def peak_mib():
    """Return the largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss may be that of the process which started this one
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["VmHWM"].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def run_loop(n_steps):
    dataset = load_real_samples()
    step, c_model = define_loop(dataset, N_BATCH)
    for _ in range(n_steps):
        step()
    c_model.evaluate(*dataset, verbose=0)


def run_ours(precision, n_steps):
    with tempfile.TemporaryDirectory() as folder:
        options = ["--batch", N_BATCH, "--max-steps", n_steps, "--verbose", 0]
        options += ["--precision", precision, "--seed", 1, "--out", folder]
        status = sgan_mnist.main([str(option) for option in options])
    if status != 0:
        raise RuntimeError(f"sgan_mnist.py ended with status {status}")


def measure(name, n_steps):
    """Make one of the RUNS; return the peak of this process, in MiB."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        if name == "import":
            importlib.import_module("tensorflow")
        elif name == "loop":
            run_loop(n_steps)
        else:
            run_ours(name, n_steps)
    return peak_mib()


def run(args, argv):
    json_path, markdown_path = output_files(args.out, "memory.json", "memory.md")
    description = describe_run("memory.py", argv)
    peaks = {name: run_in_fresh_process(measure, name, args.steps) for name in RUNS}
    results = {**description, "batch": N_BATCH, "steps": args.steps, "peak_mib": peaks}
    rows = [[RUNS[name], f"{peak:.0f}"] for name, peak in peaks.items()]
    table = markdown_table([f"{args.steps} steps", "peak memory, MiB"], rows)
    text = f"{table}\n{one_line(description)}"
    write_text(json_path, json.dumps(results, indent=1) + "\n")
    write_text(markdown_path, text)
    print(text, end="")


def main(argv=None):
    args = define_parser(__doc__.splitlines()[0], "memory", 20).parse_args(argv)
    return run_script("memory.py", lambda: run(args, argv))


if __name__ == "__main__":
    sys.exit(main())
