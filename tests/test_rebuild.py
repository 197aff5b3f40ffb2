"""An engine built again from its own recipe, by TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

import json

from tests.conftest import Checkout

MODEL = "yolov8n-shapes"
ENGINE = f"{MODEL}/rtx-ada/fp16"


def test_the_same_engine_again(built: Checkout) -> None:
    before = sorted(path.name for path in (built.root / "artifacts").iterdir())
    found = built.run("enginery", "rebuild", ENGINE, "--verify", "--out", "again.plan")
    assert found.returncode == 0, found.stderr
    folder = built.root / "artifacts/engines" / ENGINE
    plan, again = folder / "model.plan", built.root / "again.plan"
    assert f"{ENGINE}: the same {plan.stat().st_size} bytes" in found.stdout
    assert plan.read_bytes() == again.read_bytes()
    assert sorted(path.name for path in (built.root / "artifacts").iterdir()) == before
    idle = built.run("enginery", "rebuild", ENGINE)
    assert (idle.returncode, "Give --verify to compare" in idle.stderr) == (1, True)


def test_what_it_was_built_from_is_another_now(built: Checkout) -> None:
    graphs = built.root / f"artifacts/models/{MODEL}"
    (graphs / "fp16/graph/model.onnx").unlink()
    (graphs / "fp16/graph/model.onnx").write_bytes((graphs / "fp32/graph/model.onnx").read_bytes())
    found = built.run("enginery", "rebuild", ENGINE, "--verify")
    assert found.returncode == 1
    assert f"{ENGINE}: its graph is another now. `enginery build` makes" in found.stderr
    manifest = built.root / f"artifacts/engines/{ENGINE}/manifest.json"
    content = json.loads(manifest.read_text())
    parameters = content["steps"]["build"]["recipe"]["parameters"]
    content["runtime_version"] = parameters["runtime_version"] = "1.2.3"
    manifest.unlink()
    manifest.write_text(json.dumps(content))
    other = built.run("enginery", "rebuild", ENGINE, "--verify")
    assert other.returncode == 1
    assert "is of tensorrt_rtx 1.2.3 for linux_x86_64, and toolchain this is" in other.stderr
