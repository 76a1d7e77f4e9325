import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import common  # noqa: E402
import growth  # noqa: E402
import step_time  # noqa: E402


def test_the_multiply_adds_of_a_step():
    g_model, d_model, *_ = common.define_models()
    d = [14 * 14 * 9 * 128, 7 * 7 * 9 * 128 * 128, 4 * 4 * 9 * 128 * 128, 2048 * 10]
    g = [
        100 * 128 * 49,
        7 * 7 * 16 * 128 * 128,
        14 * 14 * 16 * 128 * 128,
        28 * 28 * 49 * 128,
    ]
    assert common.count_layers(d_model) == d
    assert common.count_layers(g_model) == g
    assert common.count_step(g_model, d_model, 100) == 30_712_908_800


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


@pytest.mark.parametrize("script", ["step_time", "memory", "growth"])
def test_results_are_not_written_over(script, start, tmp_path):
    (tmp_path / f"{script}.md").write_text("kept")
    done = start(f"benchmarks/{script}.py", "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{script}.md: exists already" in done.stderr
    assert (tmp_path / f"{script}.md").read_text() == "kept"
