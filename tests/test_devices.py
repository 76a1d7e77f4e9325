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
