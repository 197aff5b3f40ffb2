"""Every task from weights to registered engines."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from enginery.actions import engine_session
from enginery.actions import predict as predicting
from enginery.actions import validate as validate_engine
from enginery.demo.dataset import write_dataset
from enginery.evaluation.runners import GraphRunner
from enginery.pipeline.step import load_step
from enginery.project.load import load_spec
from enginery.project.params import PARAMS_FILE
from enginery.project.paths import engine_folder, model_folder
from enginery.project.stage import Stage
from enginery.registry.store import find
from enginery.registry.task_metadata import read_task_metadata
from enginery.system.files import read_json
from enginery.toolchain.requests import Measurement, MeasureRequest, PointResult
from enginery.toolchain.selection import Choice, Toolchains
from enginery.vision.images import list_images
from enginery.vision.tasks import ULTRALYTICS_TASKS as TASKS
from enginery.vision.tasks import metric_of
from tests.conftest import ROOT
from tests.registered import timing
from tests.stages import fingerprinted
from tests.tasks.common import LARGEST, head
from tests.tiny import SIDE


@pytest.mark.parametrize("task", TASKS)
def test_from_weights_to_registered_engines(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    model = {
        "source": str(folder / f"{task}.pt"),
        "task": task,
        "height": SIDE,
        "width": SIDE,
        "validation": str(folder / task),
    }
    drawn = tmp_path / "calibration" / ("ant" if task == "classify" else "images")
    write_dataset(tmp_path / "drawn", range(10, 14), 120)
    drawn.parent.mkdir()
    (tmp_path / "drawn/images").rename(drawn)
    params["models"] = {"tiny": model}
    params["int8"] = {
        "tiny": {"calibration": "calibration", "minimum_images": 4, "rule": "yolo-head-2"}
    }
    params["matrix"].update(models=["tiny"], targets=["rtx-ampere"])
    params["validation"] = {"map50_95_drop": 1.0, "top1_drop": 1.0, "rms_relative": LARGEST}
    PARAMS_FILE.write_text(yaml.safe_dump(params))
    assert fingerprinted() == {}
    for of_model in ("export", "images", "simplify", "calibration-images", "calibrate"):
        load_step(of_model)(Stage(of_model, "tiny"))
    assert read_task_metadata("tiny") == head(task)
    assert len(list_images(tmp_path / "calibration", task)) == 4
    for precision in ("fp32", "fp16", "int8"):
        for of_graph in ("quantize", "validate"):
            load_step(of_graph)(Stage(of_graph, "tiny", precision=precision))
        for of_engine in ("build", "register"):
            load_step(of_engine)(Stage(of_engine, "tiny", "rtx-ampere", precision))
        manifest = read_json(engine_folder("tiny", "rtx-ampere", precision) / "manifest.json")
        metric = metric_of(task)
        assert manifest["metrics"].keys() == {
            metric.key,
            metric.secondary,
            f"reference_{metric.key}",
            "rms_relative",
        }
        assert manifest["metrics"][f"reference_{metric.key}"] > 0.01
        assert manifest["steps"]["export"].get("kpt_shape") == ([5, 3] if task == "pose" else None)
    check_engine_validation(monkeypatch)


def check_engine_validation(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int] = (SIDE, SIDE)
) -> None:
    """An engine's outputs come back as one file each, in its own order: here the original's own
    stand in for those of a GPU.
    """

    def measure(
        python: Path, request: MeasureRequest, on_event: Any, time_limit: float
    ) -> Measurement:
        [point] = request.points
        runner = GraphRunner(model_folder("tiny", "export") / "model.onnx", size)
        rows = [runner.run(image) for image in np.load(point.images)]
        for number, values in enumerate(reversed([*zip(*rows, strict=True)])):
            np.save(point.outputs / f"{number}.npy", np.concatenate(values))
        result = PointResult((*reversed(runner.outputs),), (1.0,), timing())
        return Measurement((result,), card)

    found, card = (
        find("fp32").manifest,
        {"gpu": "none", "uuid": "GPU-0", "compute_capability": "8.6"},
    )
    info = SimpleNamespace(
        gpus=[card], no_gpu="", version=found.runtime_version, platform=found.platform
    )
    monkeypatch.setattr(
        Toolchains, "choose", lambda self, name: Choice("this", Path(sys.executable), info, None)
    )  # type: ignore[arg-type]
    monkeypatch.setattr(engine_session, "measure", measure)
    report = validate_engine.validate_engine(load_spec(), find("fp32"))
    assert report.failures == ()
    assert report.report.closeness.max_abs == 0
    assert report.report.candidate == report.report.reference
    assert find("fp32").state == "validated"
    some = tuple(sorted(Path(load_spec().models["tiny"].validation).rglob("*.png"))[:2])
    wanted = predicting.PredictionRequest(some, Path("seen"), 0.25, 0.7)
    lines = list(predicting.predict(load_spec(), find("fp32"), wanted))
    assert [str(line).partition(":")[0] for line in lines] == [path.name for path in some]
    assert all("inference 0.5 ms" in str(line) for line in lines)
    assert sorted(path.name for path in Path("seen").iterdir()) == [path.name for path in some]
