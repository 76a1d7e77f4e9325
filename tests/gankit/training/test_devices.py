import os
import sys

import pytest

from gankit.training import devices


@pytest.mark.parametrize(
    ("vendor", "flags", "precision"),
    [
        ("AuthenticAMD", {"avx2"}, "float32"),
        ("AuthenticAMD", {"avx512_bf16"}, "mixed_bfloat16"),
        ("GenuineIntel", {"avx512_bf16"}, "float32"),
        ("GenuineIntel", {"avx512_bf16", "amx_bf16"}, "mixed_bfloat16"),
        ("", {"asimd", "bf16"}, "mixed_bfloat16"),
    ],
)
def test_auto_takes_bfloat16_where_the_cpu_is_quicker_with_it(
    vendor, flags, precision, monkeypatch
):
    monkeypatch.setattr(devices, "cpu_vendor_and_flags", lambda: (vendor, flags))
    assert devices.choose_precision("auto") == precision
    for given in devices.PRECISIONS[:3]:
        assert devices.choose_precision(given) == given


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (7, 5)], "float32"),
        ([None], "float32"),
    ],
)
def test_auto_takes_bfloat16_where_all_gpus_have_it(
    capabilities, precision, monkeypatch
):
    class Config:
        @staticmethod
        def list_physical_devices(kind):
            return capabilities

        class experimental:
            @staticmethod
            def get_device_details(gpu):
                return {"compute_capability": gpu} if gpu else {}

    monkeypatch.setattr(devices, "tf", type("tf", (), {"config": Config}))
    monkeypatch.setattr(devices, "cpu_vendor_and_flags", lambda: ("", {"bf16"}))
    assert devices.choose_precision("auto") == precision
    assert devices.choose_jit("auto")
    assert devices.count_parts(4, False, 100) == 1


def test_jit_is_off_on_a_cpu_unless_asked_for():
    assert not devices.choose_jit("auto") and not devices.choose_jit("off")
    assert devices.choose_jit("on")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_the_flags_of_this_cpu():
    vendor, flags = devices.cpu_vendor_and_flags()
    assert {"sse2", "asimd"} & flags
    assert vendor in ("GenuineIntel", "AuthenticAMD") or "asimd" in flags


def test_on_a_cpu_a_batch_has_a_part_a_thread():
    assert devices.count_parts(4, False, 100) == 4
    assert devices.count_parts(4, False, 6) == 3
    assert devices.count_parts(4, True, 100) == 1
    assert 1 <= devices.count_cores() <= os.cpu_count()


@pytest.mark.parametrize(
    ("described", "name"),
    [
        (
            {"model name": "AMD EPYC", "cpu family": "25", "model": "1"},
            "AMD EPYC (family 25, model 1)",
        ),
        ({"model name": "Cortex"}, "Cortex"),
    ],
)
def test_the_processor_is_named_with_its_generation(described, name, monkeypatch):
    monkeypatch.setattr(devices, "_cpu_info", lambda: described)
    assert devices.processor_name() == name


# ---------------------------------------------------------------- counting GPUs

LISTED = """\
GPU 0: NVIDIA A100 80GB PCIe (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)
  MIG 1g.10gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
GPU 1: NVIDIA A100 80GB PCIe (UUID: GPU-0f1e2d3c-d268-c3f3-1b07-005d5ae1dc3f)
"""


def add_tool(folder, body):
    folder.mkdir()
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    tool.chmod(0o755)
    return str(folder)


@pytest.fixture
def no_gpu(tmp_path, monkeypatch):
    """A machine without a driver."""
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setattr(devices, "WSL_TOOLS", str(tmp_path / "nowhere"))
    monkeypatch.setattr(devices, "NVIDIA_DEVICES", tmp_path / "nowhere")


@pytest.mark.parametrize("place", ["PATH", "WSL_TOOLS"])
@pytest.mark.parametrize(
    ("body", "n"),
    [
        (f"[ $1 = --list-gpus ] && /bin/cat <<END\n{LISTED}END", 2),
        ("echo 'No devices were found'", 0),
        ("echo 'NVIDIA-SMI has failed'; exit 9", 0),
    ],
)
def test_the_drivers_tool_counts_the_gpus(
    place, body, n, no_gpu, tmp_path, monkeypatch
):
    folder = add_tool(tmp_path / "tools", body)
    if place == "PATH":
        monkeypatch.setenv("PATH", folder)
    else:  # as in WSL 2, where there is no list of devices
        monkeypatch.setattr(devices, "WSL_TOOLS", folder)
    assert devices.count_gpus() == n


def test_without_the_tool_the_listed_devices_count(no_gpu, tmp_path, monkeypatch):
    assert devices.count_gpus() == 0
    for name in ("0000:3b:00.0", "0000:5e:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    monkeypatch.setattr(devices, "NVIDIA_DEVICES", tmp_path / "gpus")
    assert devices.count_gpus() == 2


def test_a_tool_that_cannot_be_run_counts_none(no_gpu, tmp_path, monkeypatch):
    (tmp_path / "tools").mkdir()
    broken = tmp_path / "tools" / "nvidia-smi"
    broken.write_bytes(b"\x00")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    assert devices.count_gpus() == 0


def test_training_computes_in_the_precision_that_it_is_told(precision):
    before = devices.keras.config.dtype_policy().name
    assert before == "float32"
    devices.prepare_tensorflow("mixed_bfloat16", threads=1)
    assert devices.keras.config.dtype_policy().name == "mixed_bfloat16"
