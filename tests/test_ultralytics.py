"""Engines for Ultralytics: what its own reader makes of the header, for every kind of head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery.actions.export_ultralytics import metadata
from enginery.cli.main import main
from enginery.evaluation.runners import GraphRunner
from enginery.project.paths import model_folder
from enginery.sources.export import ExportSettings, export
from enginery.sources.ultralytics_compat import import_torchvision, silence
from enginery.system.files import write_json
from enginery.vision.tasks import TaskMetadata
from tests import registered as registry
from tests.registered import DIGEST, enter, recipe, records
from tests.tiny import KEYPOINTS, NAMES, SIDE

Registered = Callable[..., None]


def graph(shapes: Sequence[tuple[int, ...]], operator: str, declared: str = "") -> onnx.ModelProto:
    """Gives zeros of these shapes, whatever the image; `declared`: what it calls the last size of
    each, as dynamic exports do.
    """
    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), f"zeros{number}")
        for number, shape in enumerate(shapes)
    ]
    nodes = [
        helper.make_node("Identity", [f"zeros{number}"], [f"output{number}"])
        for number in range(len(shapes))
    ]
    nodes.append(helper.make_node(operator, ["images"], ["unused"]))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    outputs = [
        helper.make_tensor_value_info(
            f"output{number}", TensorProto.FLOAT, [*shape[:-1], declared or shape[-1]]
        )
        for number, shape in enumerate(shapes)
    ]
    own = helper.make_graph(nodes, "own", [image], outputs, weights)
    return helper.make_model(own, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registered:
    """Registers an engine of the model `own` in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def register(task: str, source: str, model: onnx.ModelProto) -> None:
        images = Path("validation/ant" if task == "classify" else "validation/images")
        images.mkdir(parents=True)
        cv2.imwrite(str(images / "1.png"), np.full((SIDE, SIDE, 3), 200, np.uint8))
        exported = {
            "task": task,
            "stride": 32,
            "names": {str(index): name for index, name in NAMES.items()},
            "source_sha256": DIGEST,
            "recipe": recipe("export", source=source),
            **({"kpt_shape": list(KEYPOINTS)} if task == "pose" else {}),
        }
        write_json(model_folder("own", "export") / "record.json", exported)
        onnx.save(model, model_folder("own", "export") / "model.onnx")
        Path("plan").write_bytes(b"plan")
        shape = [1, 3, SIDE, SIDE]
        made_of = records(Path("plan"), profile={"min": shape, "opt": shape, "max": shape})
        made_of["validate"]["recipe"] = recipe("validate", validation="validation")
        enter("own/server/fp16", Path("plan"), {**made_of, "export": exported})

    return register


def as_ultralytics_reads(path: Path) -> Any:
    """Its backend with the header of a file, as its TensorRT backend applies it before it looks at
    the engine.
    """
    from ultralytics.nn.backends.base import BaseBackend

    class Reader(BaseBackend):
        def load_model(self, weight: Any) -> None:
            start, found = self.engine_header(weight)
            assert Path(weight).read_bytes()[start:] == b"plan"
            self.apply_metadata(found)

        def forward(self, im: Any) -> None: ...

    return Reader(path, "cpu")


PROTOTYPES = (1, 32, 24, 24)
RAW = {
    "detect": [(1, 7, 189)],
    "segment": [(1, 39, 189), PROTOTYPES],
    "pose": [(1, 22, 189)],
    "obb": [(1, 8, 189)],
    "classify": [(1, 3)],
}
FINAL = {
    "detect": [(1, 300, 6)],
    "segment": [(1, 300, 38), PROTOTYPES],
    "pose": [(1, 300, 21)],
    "obb": [(1, 300, 7)],
}


@pytest.mark.parametrize(
    ("task", "shapes", "operator", "end2end", "nms"),
    [
        *((task, shapes, "NonZero", False, None) for task, shapes in RAW.items()),
        *((task, shapes, "Relu", True, False) for task, shapes in FINAL.items()),
        *((task, shapes, "NonZero", True, True) for task, shapes in FINAL.items()),
    ],
)
def test_ultralytics_takes_an_own_graphs_outputs_for_what_they_are(
    registered: Registered,
    task: str,
    shapes: list[tuple[int, ...]],
    operator: str,
    end2end: bool,
    nms: bool | None,
) -> None:
    from ultralytics.utils.nms import non_max_suppression

    registered(task, "own.onnx", graph(shapes, operator, declared="anchors"))
    assert main(["export", "ultralytics", "own/server/fp16", "--out", "own.engine"]) == 0
    found = as_ultralytics_reads(Path("own.engine"))
    assert (found.end2end, found.metadata["args"]["nms"], found.task, found.imgsz) == (
        end2end,
        nms,
        task,
        [SIDE, SIDE],
    )
    if task != "classify":
        import torch

        [boxes] = non_max_suppression(
            torch.full(shapes[0], 0.5),
            nc=len(NAMES),
            max_det=300,
            end2end=found.end2end,
            rotated=task == "obb",
        )
        assert boxes.shape == (
            (300, shapes[0][2]) if end2end else (1, 6 + shapes[0][1] - 7)
        )  # all as they are, or one left by NMS


def test_an_own_graph_that_has_changed_since_is_no_measure(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    registered("detect", "own.onnx", graph(FINAL["detect"], "Relu"))
    write_json(model_folder("own", "export") / "record.json", {})
    assert main(["export", "ultralytics", "own/server/fp16", "--out", "own.engine"]) == 1
    assert "its model has changed since it was built" in capsys.readouterr().err
    assert not Path("own.engine").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("images", "x", "its input is called x, and YOLO() feeds only one called images"),
        (
            "output0",
            "z",
            "its outputs are z, output1, and YOLO() takes them in the order of their names",
        ),
    ],
)
def test_an_own_graph_that_yolo_cannot_feed(
    registered: Registered,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    words: str,
) -> None:
    model = graph(RAW["segment"], "Relu")
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    registered("segment", "own.onnx", model)
    assert main(["export", "ultralytics", "own/server/fp16", "--out", "own.engine"]) == 1
    assert words in capsys.readouterr().err
    assert not Path("own.engine").exists()


def test_an_engine_for_a_dla_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert metadata(registry.register("own/server/fp16", dla_core=0).manifest, None)["dla"] == 0
    assert "dla" not in metadata(registry.register("own/server/int8").manifest, None)


@pytest.mark.parametrize("architecture", ["yolo26n", "yolov10n"])
def test_weights_are_exported_with_raw_outputs_and_need_no_graph_here(
    registered: Registered,
    tmp_path: Path,
    architecture: str,
) -> None:
    import_torchvision()
    from ultralytics import YOLO

    with silence():
        model = YOLO(f"{architecture}.yaml")
        model.save(str(tmp_path / "model.pt"))
    facts = export(
        tmp_path / "model.pt",
        ExportSettings("detect", (SIDE, SIDE), 1, False, 17),
        tmp_path / "model.onnx",
    )
    outputs = GraphRunner(tmp_path / "model.onnx", (SIDE, SIDE)).run(
        np.zeros((3, SIDE, SIDE), np.float32)
    )
    assert not TaskMetadata("detect", dict(enumerate(facts["names"]))).end2end(
        [output.shape for output in outputs]
    )
    registered("detect", "model.pt", onnx.ModelProto())
    (model_folder("own", "export") / "model.onnx").unlink()
    assert main(["export", "ultralytics", "own/server/fp16", "--out", "own.engine"]) == 0
    found = as_ultralytics_reads(Path("own.engine"))
    assert (found.end2end, found.metadata["args"]["nms"]) == (False, None)
