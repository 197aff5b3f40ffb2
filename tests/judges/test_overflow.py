"""A layer whose values FP16 cannot hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enginery.errors import ConfigError, GateError
from enginery.pipeline.step import load_step
from enginery.project.paths import model_folder
from enginery.project.stage import Stage
from enginery.registry.store import find
from enginery.sources.ultralytics_compat import silence
from enginery.system.files import read_json
from tests.judges.common import change_model, draw, project, run_steps


def write_loud(path: Path) -> Path:
    """The first convolution gives what FP16 cannot hold, the second takes it back."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 5),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3),
        torch.nn.Conv2d(4, 4, 3),
    )
    with torch.no_grad():
        network[0].weight.abs_().mul_(8e4)
        network[2].weight.abs_().mul_(1e-5)
    names = {"input_names": ["image"], "output_names": ["output"]}
    given = (torch.zeros(1, 3, 16, 16),)
    with silence():
        torch.onnx.export(network, given, str(path), opset_version=17, dynamo=False, **names)
    return path


def test_the_layer_that_overflows_is_named_and_stays_in_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_loud(tmp_path / "loud.onnx")
    draw(tmp_path / "data", range(2))
    draw(tmp_path / "calibration", range(2, 6))
    model: dict[str, Any] = {"source": "loud.onnx", "task": "tensors", "validation": "data"}
    model |= {"height": 16, "width": 16}
    project(tmp_path, monkeypatch, model)
    with pytest.raises(GateError, match="FP16 overflows, first in") as error:
        run_steps(("fp16",))
    assert "overflows, first in /0/Conv (Conv), which reaches " in str(error.value)
    assert "and FP16 holds 65504: name it in `fp32_layers` of the model" in str(error.value)
    change_model(fp32_layers=["^/0/", "^/1/", "/2/Conv$"])
    run_steps()
    assert read_json(model_folder("tiny", "fp16") / "graph/record.json")["fp32_layers"] == [
        "/0/Conv",
        "/1/Relu",
        "/2/Conv",
    ]
    assert find("int8").manifest.steps.quantize.quantized == ("/3/Conv",)
    assert find("int8").manifest.steps.validation.report.closeness.rms_relative < 0.1
    change_model(fp32_layers=["nothing of this name"])
    with pytest.raises(ConfigError, match=r"fp32_layers: 'nothing of this name': finds no layer"):
        load_step("quantize")(Stage("quantize", "tiny", precision="fp16"))
    with pytest.raises(ConfigError, match=r"fp32_layers\.0: '\(': no regular expression"):
        change_model(fp32_layers=["("])
