"""What the machine's processors can do, and how TensorFlow is set up for them."""

import platform
from pathlib import Path

from helpers import LazyModule

keras = LazyModule("keras")
tf = LazyModule("tensorflow")

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
JIT = ("auto", "on", "off")


def choose_precision(precision):
    """Return `precision`, with 'auto' replaced by what suits this machine."""
    if precision != "auto":
        return precision
    return "mixed_bfloat16" if has_native_bfloat16() else "float32"


def has_native_bfloat16():
    """Whether the GPUs, or the CPU where there are none, compute with bfloat16."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = map(tf.config.experimental.get_device_details, gpus)
        # from the Ampere generation on
        return all(d.get("compute_capability", (0, 0)) >= (8, 0) for d in details)
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_flags())


def cpu_flags():
    """Return the flags that Linux tells of the CPU, a set; empty elsewhere."""
    if platform.system() != "Linux":
        return set()
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(flags.split())
    return set()


def choose_jit(jit):
    """Return whether XLA compiles the step. 'auto' means on a GPU only.

    XLA makes these networks slower on a CPU.
    """
    if jit == "auto":
        return bool(tf.config.list_physical_devices("GPU"))
    return jit == "on"


def prepare_tensorflow(precision="float32"):
    """Set TensorFlow up for training; call it before anything is built."""
    for gpu in tf.config.list_physical_devices("GPU"):
        # the default takes the GPU's whole memory at once
        tf.config.experimental.set_memory_growth(gpu, True)
    # operations that run side by side share out their threads as it happens, and with
    # them the order of their sums: one at a time, the same seed gives the same bits
    if tf.config.threading.get_inter_op_parallelism_threads() != 1:
        tf.config.threading.set_inter_op_parallelism_threads(1)
    # TensorFlow's fusing of operations fails on this graph, with a line on stderr
    tf.config.optimizer.set_experimental_options({"remapping": False})
    keras.config.set_dtype_policy(precision)
