"""A checkout of each test's own, and a build in it with a toolchain that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest

import tasks.build
import tasks.calibrate
import tasks.calibration_images
import tasks.images
import tasks.quantize
import tasks.refitting
import tasks.simplify
import tasks.validate
from enginery.calibration import cache
from enginery.gpu.inventory import Gpu
from enginery.project.paths import WORKPLACE
from enginery.project.stage import Stage
from enginery.system.files import write_json
from enginery.toolchain.requests import BuildRequest, BuildResult
from tests.exact.steps.common import HEAD, MODEL, TOOLCHAIN, network, write_recipe


@pytest.fixture(autouse=True)
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A checkout of this test's own; what the steps say."""
    monkeypatch.chdir(tmp_path)
    lines: list[tuple[str, str]] = []

    def log(message: str, severity: str = "info") -> None:
        lines.append((message, severity))

    for module in (
        tasks.build,
        tasks.calibrate,
        tasks.calibration_images,
        tasks.images,
        tasks.quantize,
        tasks.refitting,
        tasks.simplify,
        tasks.validate,
    ):
        monkeypatch.setattr(module, "log", log)
    return lines


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Build for real, but for the toolchain and the GPU; what was asked of them is in `asked`."""
    asked: list[Any] = []

    @contextmanager
    def reserved(gpu: Gpu | None, needed: int, on_wait: Any) -> Iterator[None]:
        assert on_wait is tasks.build.log
        asked.append(("reserved", gpu, needed))
        yield
        asked.append("given back")

    def build_plan(python: Path, request: BuildRequest, on_event: Any, limit: float) -> BuildResult:
        assert on_event is tasks.build.emit
        asked.append((python, request, limit))
        for given in (request.cache, request.native_images):
            result.files.append(given.read_bytes() if given and given.is_file() else None)
        if request.native_images and request.cache:
            request.cache.write_text("TRT-101601-EntropyCalibration2\nimages: 1\n")
        request.plan.write_bytes(b"plan")
        return result.made

    class Built:
        def __init__(self) -> None:
            self.toolchain, self.files, self.asked = TOOLCHAIN, list[Any](), asked
            self.made = BuildResult(
                "p", 4_000_000, None, 12.3456, 2048.7, "10.16.1.11", 0, (), ("w",), ("a warning",)
            )

        def __call__(
            self, precision: str = "fp16", batch: int | str = 1, own: bool = False, **changed: Any
        ) -> BuildRequest:
            step = Stage("build", MODEL, "rtx-ada", precision)
            parameters = {
                "runtime": "tensorrt",
                "runtime_version": "10.16.1.11",
                "platform": "linux",
                "compute_capability": "8.6",
                "gpu": "Card",
                "input": None,
                "profile": {"min": [1, 3, 4, 4], "opt": [1, 3, 4, 4], "max": [1, 3, 4, 4]},
                "workspace_mib": None,
                "optimization_level": None,
                **changed,
            }
            self.recipe = write_recipe(step, **parameters)
            in_use = {"rtx-ada": {"toolchain": self.toolchain.model_dump(mode="json")}}
            write_json(WORKPLACE, {"targets": in_use})
            for name in ("fp32", "fp16", "int8"):
                folder = Path(f"artifacts/models/{MODEL}/{name}/graph")
                folder.mkdir(parents=True, exist_ok=True)
                onnx.save(network(batch), folder / "model.onnx")
            write_json(
                folder / "record.json",
                {"calibration": {"own_quantization": own}, "excluded": [HEAD]},
            )
            cache.write(
                cache.from_thresholds({"images": 1.0, "r": 127.0}), folder / "calibration.cache"
            )
            asked.clear()
            self.files.clear()
            tasks.build.build(step)
            self.folder = f"artifacts/build/{MODEL}/rtx-ada/{precision}"
            return next(each[1] for each in asked if isinstance(each[0], Path))

    monkeypatch.setattr(tasks.build, "reserved", reserved)
    monkeypatch.setattr(tasks.build, "build_plan", build_plan)
    result = Built()
    return result
