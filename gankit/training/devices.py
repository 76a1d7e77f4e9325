"""What the machine's processors can do, and how TensorFlow is set up for them."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from gankit.backend import keras, tf

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
JIT = ("auto", "on", "off")
WSL_TOOLS = "/usr/lib/wsl/lib"  # which is not always on the path
NVIDIA_DEVICES = Path("/proc/driver/nvidia/gpus")


def choose_precision(precision):
    """Return `precision`, with 'auto' replaced by what suits this machine."""
    if precision != "auto":
        return precision
    return "mixed_bfloat16" if has_native_bfloat16() else "float32"


def has_native_bfloat16():
    """Whether the GPUs, or the CPU where there are none, are quicker with bfloat16."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = map(tf.config.experimental.get_device_details, gpus)
        # from the Ampere generation on
        return all(d.get("compute_capability", (0, 0)) >= (8, 0) for d in details)
    vendor, flags = cpu_vendor_and_flags()
    # Intel's AVX-512 instructions for it, without AMX, were measured to be slower
    # than those for float32
    return bool({"amx_bf16", "bf16"} & flags) or (
        vendor == "AuthenticAMD" and "avx512_bf16" in flags
    )


def cpu_vendor_and_flags():
    """Return what Linux tells of the CPU, a text and a set; both empty elsewhere."""
    described = _cpu_info()
    flags = described.get("flags") or described.get("Features", "")
    return described.get("vendor_id", ""), set(flags.split())


def processor_name():
    """Return what the system calls the processor, maybe ''.

    Linux's numbers of family and model are added: virtual machines often hide the name
    of the generation, between which speeds differ several times.
    """
    described = _cpu_info()
    name = described.get("model name") or platform.processor()
    if "cpu family" in described and "model" in described:
        name += f" (family {described['cpu family']}, model {described['model']})"
    return name


def _cpu_info():
    """Return what Linux tells of the first processor, a dict; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    described = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        described.setdefault(name.strip(), value.strip())
    return described


def count_cores():
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux tells
        return os.cpu_count() or 1


def count_gpus():
    """Return how many NVIDIA GPUs there are, without TensorFlow, which may take them.

    The driver's own tool tells, on Linux and in WSL 2; where it is missing, as in some
    containers, Linux's list of the driver's devices does.
    """
    tool = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=WSL_TOOLS)
    if tool:
        try:
            listed = subprocess.run(
                [tool, "--list-gpus"],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=60,
            )
        except (OSError, subprocess.TimeoutExpired):
            return 0
        return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return len(list(NVIDIA_DEVICES.glob("*")))


def choose_jit(jit):
    """Return whether XLA compiles the step. 'auto' means on a GPU only.

    XLA makes these networks slower on a CPU.
    """
    if jit == "auto":
        return bool(tf.config.list_physical_devices("GPU"))
    return jit == "on"


def count_parts(threads, jit, n_batch):
    """Return in how many parts a training step computes each batch.

    On a CPU one thread computes each part: the cores then share out a step with less
    waiting than when each operation is shared out. A GPU or XLA takes a batch whole.
    """
    if jit or tf.config.list_physical_devices("GPU"):
        return 1
    return min(threads, n_batch // 2)


def prepare_tensorflow(precision="float32", threads=1, n_parts=1):
    """Set TensorFlow up for training; call it before anything is built."""
    for gpu in tf.config.list_physical_devices("GPU"):
        # the default takes the GPU's whole memory at once
        tf.config.experimental.set_memory_growth(gpu, True)
    # operations that run side by side and share threads share them out as it happens,
    # and with them the order of their sums: so that the same seed gives the same bits,
    # either they have one thread each, or they run one after the other
    side_by_side, each = (n_parts, 1) if n_parts > 1 else (1, threads)
    now = tf.config.threading
    if (side_by_side, each) != (
        now.get_inter_op_parallelism_threads(),
        now.get_intra_op_parallelism_threads(),
    ):
        try:
            now.set_inter_op_parallelism_threads(side_by_side)
            now.set_intra_op_parallelism_threads(each)
        except RuntimeError:
            print(
                "TensorFlow is at work already, with other threads: the same seed may "
                "not give the same bits",
                file=sys.stderr,
            )
    # TensorFlow's fusing of operations fails on this graph, with a line on stderr
    tf.config.optimizer.set_experimental_options({"remapping": False})
    keras.config.set_dtype_policy(precision)
