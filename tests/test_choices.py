"""What TensorRT chose for an engine: precisions, beside those asked for, and the timing cache with
which it would choose so again; and the same engine again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enginery.errors import GateError
from enginery.evaluation.rebuilt import Rebuilt, compare_plans
from enginery.project.engine_name import EngineName
from enginery.system.files import sha256
from enginery.toolchain.precisions import BuiltLayer, fallen_back, read_layers, shares
from enginery.toolchain.requests import BuildRequest, BuildResult
from tasks.choices import choices
from tasks.register import Parameters, _check_precision
from tests.child import load_child, tensorrt

REAL = Path(__file__).parent / "data/tensorrt-8.6.0-int8-layers.json"
RESULT = BuildResult("0" * 64, 4, None, 1.0, 1.0, "8.6.0", 0, (), (), ())


def real_layers() -> tuple[BuiltLayer, ...]:
    """Some of an INT8 engine's, as TensorRT 8.6.0 told on an H200."""
    described = load_child("precisions").described
    return read_layers(described(layer) for layer in json.loads(REAL.read_text())["Layers"])


def layer(name: str, weights_type: str = "", weights: int = 0, *reads: str) -> BuiltLayer:
    return BuiltLayer(name, "CaskConvolution", reads, weights, weights_type)


def test_layers_as_tensorrt_tells_of_them() -> None:
    layers = real_layers()
    assert {each.precision for each in layers if each.weights} == {"int8", "fp16"}
    found = shares(layers)
    assert sum(found["layers"].values()) == pytest.approx(1, abs=0.001)
    assert found["weights"]["int8"] + found["weights"]["fp16"] == pytest.approx(1)
    assert not any(each.works for each in layers if each.kind in ("Reformat", "NoOp", "Constant"))
    assert fallen_back(layers, "int8") == []


def test_the_child_tells_of_a_plan_that_it_can_load() -> None:
    child, text = load_child("precisions"), json.loads(REAL.read_text())
    asked = {"version_compatible": True, "dla_core": 1}
    trt = tensorrt()
    assert child.layers_of(trt, None, b"plan", asked) == []
    [runtime] = trt.made["Runtime"]
    assert (runtime.engine_host_code_allowed, runtime.DLA_core) == (True, 1)
    assert child.layers_of(tensorrt(loads=False), None, b"plan", asked) == []
    assert child.described(text["Layers"][0])["name"] == text["Layers"][0]["Name"]
    assert child.described({"Name": "a", "Weights": None})["weights"] == 0


@pytest.mark.parametrize(
    ("layers", "precision", "fallback"),
    [
        ([layer("a", "Half", 9), layer("b", "Float", 1)], "fp16", ["b"]),
        ([layer("a", "Half", 9), layer("b", "Float", 1)], "fp32", []),
        ([layer("a", "Half", 9), layer("b", "Half", 1)], "int8", ["a", "b"]),
        ([layer("a", "Int8", 9), layer("b", "Half", 1)], "int8", []),
        ([layer("a", "", 0, "Row major linear FP32")], "fp16", []),
        ([], "int8", []),
    ],
)
def test_layers_that_fell_back(
    layers: Sequence[BuiltLayer], precision: str, fallback: list[str]
) -> None:
    assert fallen_back(layers, precision) == fallback


def test_shares_of_nothing_and_of_copies() -> None:
    copy = replace(layer("copy", "", 0, "Row major linear FP32"), kind="Reformat")
    assert shares([copy]) == {"layers": {}, "weights": {}}
    assert shares([copy, layer("a", "Half", 3), layer("b", "Float", 1)]) == {
        "layers": {"fp16": 0.5, "fp32": 0.5},
        "weights": {"fp16": 0.75, "fp32": 0.25},
    }


def test_the_timing_cache_is_kept_under_its_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timing = tmp_path / "builds.timing"
    request = BuildRequest(
        "tensorrt", tmp_path / "g", tmp_path / "p", "g", timing_cache=timing, precision="fp16"
    )
    assert choices(request, RESULT) == {}
    timing.write_bytes(b"measured")
    made = choices(request, replace(RESULT, layers=(layer("a", "Float", 1),)))
    assert made == {
        "precisions": {"layers": {"fp32": 1.0}, "weights": {"fp32": 1.0}},
        "fp32_fallback": ["a"],
        "timing_cache_sha256": sha256(timing),
    }
    assert (tmp_path / f"kept/{sha256(timing)}.timing").read_bytes() == b"measured"
    assert "1 layers run in fp32: a" in capsys.readouterr().out


def test_an_engine_that_fell_back_is_refused_where_the_target_says_so() -> None:
    name, built = EngineName("m", "h200", "fp16"), {"fp32_fallback": ["a", "b"]}
    limits = {"rms_relative": 0.1}
    _check_precision(name, built, Parameters(**limits))
    _check_precision(name, {}, Parameters(**limits, fp32_fallback="refuse"))
    with pytest.raises(GateError, match=r"is not registered: 2 layers run in fp32: a, b. Raise"):
        _check_precision(name, built, Parameters(**limits, fp32_fallback="refuse"))


def test_plans_beside_each_other(tmp_path: Path) -> None:
    for name, content in (("a", b"plan"), ("b", b"plan"), ("c", b"pLAn"), ("d", b"plans")):
        (tmp_path / name).write_bytes(content)
    same, other, longer = (compare_plans(tmp_path / "a", tmp_path / each) for each in "bcd")
    assert (same.passed, str(same)) == (True, "the same 4 bytes")
    assert (other.passed, str(other)) == (False, "2 of 4 bytes differ")
    assert (longer.passed, str(longer)) == (False, "5 bytes, 4 are registered")


def test_kernels_count_where_bytes_differ() -> None:
    found = Rebuilt((9, 9), 2, layers=3)
    assert found.passed
    text = "2 of 9 bytes differ; all 3 layers run the same kernels; outputs differ by 0 at most"
    assert str(found) == text
    assert "differ; the weights are the same; all" in str(replace(found, same_weights=True))
    other = replace(found, other_kernels=("a",), distance=0.25)
    assert not other.passed
    assert "1 of 3 layers run other kernels: a; outputs differ by 0.25" in str(other)


def test_each_layer_has_its_kernel() -> None:
    from enginery.actions.rebuild import _kernels

    layers: list[Any] = [*json.loads(REAL.read_text())["Layers"], "no details"]
    kernels = dict(_kernels(SimpleNamespace(layers=layers)))  # type: ignore[arg-type]
    assert len(kernels) == len({each["Name"] for each in layers[:-1]})
    assert any("imma" in kernel for kernel in kernels.values())
