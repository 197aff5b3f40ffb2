"""The export for Isaac ROS. No ROS is here: its node's own source says what the parameters are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from enginery.actions.export_isaac_ros import export_isaac_ros
from enginery.actions.export_triton import Signature, Tensor
from enginery.errors import EngineryError
from enginery.system.files import sha256
from tests.registered import profile, register
from tests.team_registry.common import Captured, refused

NAME = "m/orin/fp16"
SIGNATURE = Signature(
    (Tensor("images", "FLOAT", (1, 3, 160, 160)),), (Tensor("output0", "FLOAT", (1, 84, 525)),)
)
# What TensorRTNode declares, with ROS 2's types.
DECLARED = {
    "engine_file_path": str,
    "model_file_path": str,
    "force_engine_update": bool,
    "input_tensor_names": list,
    "input_binding_names": list,
    "input_tensor_formats": list,
    "output_tensor_names": list,
    "output_binding_names": list,
    "output_tensor_formats": list,
    "max_batch_size": int,
    "verbose": bool,
    "dla_core": int,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_node_runs_this_plan_and_builds_none(tmp_path: Path) -> None:
    engine = register(NAME, dla_core=1)
    path = export_isaac_ros(engine, SIGNATURE, Path("robot"))
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert {key: type(value) for key, value in values.items()} == DECLARED
    assert Path(values["engine_file_path"]) == tmp_path / "robot/model.plan"
    assert sha256(Path("robot/model.plan")) == engine.manifest.plan.sha256
    assert (values["model_file_path"], values["force_engine_update"]) == ("", False)
    assert (values["input_binding_names"], values["output_binding_names"]) == (
        ["images"],
        ["output0"],
    )
    arguments = dict(
        line.split(":=") for line in Path("robot/encoder.args").read_text().splitlines()
    )
    assert (arguments["network_image_width"], arguments["image_stddev"]) == ("160", "[1.0,1.0,1.0]")
    assert arguments["final_tensor_name"] in values["input_tensor_names"]


@pytest.mark.parametrize(
    ("built", "why"),
    [
        ({"runtime": "tensorrt_rtx"}, "is of tensorrt_rtx, which Isaac ROS does not load"),
        ({"profile": profile(1, 2, 4)}, "takes 1x3x160x160 to 4x3x160x160, best at 2x3x160x160"),
        ({"profile": profile(2, 2, 2)}, "takes 2x3x160x160, and Isaac ROS' encoder gives one"),
    ],
)
def test_what_isaac_ros_cannot_run(built: dict[str, Any], why: str) -> None:
    with pytest.raises(EngineryError, match=why):
        export_isaac_ros(register(NAME, **built), SIGNATURE, Path("robot"))
    assert not Path("robot").exists()


def test_without_its_graph_there_are_no_names(capsys: Captured) -> None:
    register(NAME)
    line = refused(capsys, "export", "isaac-ros", NAME)
    assert line.startswith(f"error: {NAME}: the graph that names its inputs and outputs is not")
