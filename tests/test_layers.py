"""What an engine is made of: an inspection as TensorRT 8.6 and 10 write it, by hand, into rows of
precision, time and share.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from enginery.report.layers import profile_layers, rows, summary
from enginery.toolchain.requests import Inspection

INT8, HALF = (
    "Thirty-two wide channel vectorized row major Int8 format",
    "Channel major FP16 format where channel % 8 == 0",
)
LINEAR = "Row major linear FP32"


def layer(name: str, *reads: str, writes: str = LINEAR, **more: Any) -> dict[str, Any]:
    inputs = [
        {
            "Name": f"{name} in",
            "Location": "Device",
            "Dimensions": [1, 64, 80, 80],
            "Format/Datatype": kind,
        }
        for kind in reads
    ]
    outputs = [
        {
            "Name": f"{name} out",
            "Location": "Device",
            "Dimensions": [1, 64, 80, 80],
            "Format/Datatype": writes,
        }
    ]
    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": inputs,
        "Outputs": outputs,
        **more,
    }


INSPECTION = Inspection(
    layers=(
        layer("reformat", LINEAR, writes=INT8, LayerType="Reformat", TacticName="copyPackedKernel"),
        layer("conv", INT8, writes=INT8, TacticName="sm90_xmma_fprop_i8i8"),
        layer("split", INT8, writes=HALF, TacticValue="0x0000000000000012"),
        layer("attention", HALF, HALF, writes=HALF, LayerType="kgen"),
        {"Name": "shape", "LayerType": "ShapeHostToDevice", "Inputs": [], "Outputs": []},
    ),
    milliseconds={"reformat": 0.5, "conv": 2.0, "split": 0.25, "attention": 1.25, "shape": 0.0},
    device_memory=1 << 20,
)
NAMES = Inspection(("conv", "reformat", "conv 2"), {"conv": 3.0, "reformat": 1.0}, 0)


def precision(*reads: str, writes: str = LINEAR) -> str:
    [found] = profile_layers(Inspection((layer("it", *reads, writes=writes),), {}, 0))
    return found.precision


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (INT8, "int8"),
        ("Four wide channel vectorized row major Int8 format", "int8"),
        ("Row major Int8 format", "int8"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Int8", "int8"),
        (HALF, "fp16"),
        ("Row major linear FP16 format", "fp16"),
        ("Two wide channel vectorized row major FP16 format", "fp16"),
        ("Half", "fp16"),
        (LINEAR, "fp32"),
        ("Channel major FP32 format", "fp32"),
        ("Float", "fp32"),
        ("BFloat16", "bf16"),
        ("Row major linear BF16", "bf16"),
        ("FP8", "fp8"),
        ("Row major linear Int32", "other"),
        ("Row major linear UInt8", "other"),
        ("Row major linear BOOL", "other"),
        ("Unknown format", "other"),
        ("", "other"),
        ("N/A due to dynamic shapes", "other"),
        ("Channel major INT8 format where channel % 16 == 0", "int8"),
    ],
)
def test_datatypes_as_the_inspector_writes_them(written: str, meant: str) -> None:
    assert precision(written) == meant


def test_a_layer_counts_as_the_narrowest_that_it_reads() -> None:
    assert precision(LINEAR, HALF) == precision(HALF, LINEAR) == "fp16"
    assert precision(HALF, INT8, LINEAR) == "int8"
    assert precision(LINEAR, writes=INT8) == "fp32"
    assert precision("Row major linear Int32", LINEAR) == "fp32"
    assert precision(writes=INT8) == "other"


def test_each_layer_in_the_order_of_execution() -> None:
    found = profile_layers(INSPECTION)
    assert [(fact.name, fact.precision) for fact in found] == [
        ("reformat", "fp32"),
        ("conv", "int8"),
        ("split", "int8"),
        ("attention", "fp16"),
        ("shape", "other"),
    ]
    assert [fact.kind for fact in found] == [
        "Reformat",
        "CaskConvolution",
        "CaskConvolution",
        "kgen",
        "ShapeHostToDevice",
    ]
    assert [fact.tactic for fact in found] == [
        "copyPackedKernel",
        "sm90_xmma_fprop_i8i8",
        "0x0000000000000012",
        "",
        "",
    ]
    assert [fact.share for fact in found] == pytest.approx([0.125, 0.5, 0.0625, 0.3125, 0.0])


def test_shares_are_of_the_whole() -> None:
    assert sum(fact.share for fact in profile_layers(INSPECTION)) == pytest.approx(1)
    assert sum(fact.share for fact in profile_layers(NAMES)) == pytest.approx(1)
    assert [fact.share for fact in profile_layers(Inspection(("a",), {"a": 0.0}, 0))] == [0]


def test_names_alone_are_layers_too() -> None:
    """What TensorRT tells of an engine that was built without detailed profiling."""
    found = profile_layers(NAMES)
    assert [(fact.name, fact.kind, fact.precision, fact.tactic) for fact in found] == [
        ("conv", "", "other", ""),
        ("reformat", "", "other", ""),
        ("conv 2", "", "other", ""),
    ]
    assert [fact.milliseconds for fact in found] == [3.0, 1.0, 0.0]


def test_rows_begin_with_what_takes_longest() -> None:
    found = profile_layers(INSPECTION)
    assert [row["layer"] for row in rows(found, None)] == [
        "conv",
        "attention",
        "reformat",
        "split",
        "shape",
    ]
    assert [row["layer"] for row in rows(found, 2)] == ["conv", "attention"]
    assert [row["layer"] for row in rows(found, 99)] == [
        "conv",
        "attention",
        "reformat",
        "split",
        "shape",
    ]
    assert rows(found, 1) == [
        {
            "layer": "conv",
            "kind": "CaskConvolution",
            "precision": "int8",
            "time": "2000.0 us",
            "share": "50.0%",
            "kernel": "sm90_xmma_fprop_i8i8",
        }
    ]
    assert found[0].name == "reformat"  # the order of execution stays


def test_a_summary_by_precision_narrowest_first() -> None:
    assert summary(profile_layers(INSPECTION)) == [
        {"precision": "int8", "layers": 2, "time": "2.250 ms", "share": "56.2%"},
        {"precision": "fp16", "layers": 1, "time": "1.250 ms", "share": "31.2%"},
        {"precision": "fp32", "layers": 1, "time": "0.500 ms", "share": "12.5%"},
        {"precision": "other", "layers": 1, "time": "0.000 ms", "share": "0.0%"},
    ]
    assert summary([]) == []


def test_json_has_plain_values() -> None:
    found = json.loads(json.dumps([asdict(layer) for layer in profile_layers(INSPECTION)]))
    assert found[1] == {
        "name": "conv",
        "kind": "CaskConvolution",
        "precision": "int8",
        "tactic": "sm90_xmma_fprop_i8i8",
        "milliseconds": 2.0,
        "share": 0.5,
    }
