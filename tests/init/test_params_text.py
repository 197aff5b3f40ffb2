"""params.yaml as text: edits keep its comments, and a model is added to every layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from enginery.errors import ConfigError
from enginery.project.load import load_spec
from enginery.project.models import (
    TARGETS,
    NewModel,
    first_params,
    further_params,
    guessed_task,
    model_name,
    new_targets,
)
from enginery.project.yaml_text import LayoutError, YamlText, block
from tests.init.common import MODEL, PARAMS


def test_edits_leave_comments_and_all_other_lines_alone() -> None:
    text = YamlText(PARAMS)
    text.append(("matrix", "models"), "two")
    text.insert(("models",), block({"two": {"source": "a b.pt", "batch": [1, 2, 4]}}))
    text.insert(("toolchains",), "trt: { python: p }\n")
    after = [line for line in text.text.splitlines() if line not in PARAMS.splitlines()]
    assert after == [
        "  models: [yolov8n-shapes, two]",
        "  two:",
        "    source: a b.pt",
        "    batch: [1, 2, 4]",
        "toolchains:",
        "  trt: { python: p }",
    ]
    assert text.value()["toolchains"] == {"trt": {"python": "p"}}


def test_a_key_goes_with_its_comment_and_a_block_may_become_a_line() -> None:
    text = YamlText("# first\na: 1 # one\n\n# of b\nb:\n  c: 2\n  # last\n\n# of d\nd: [x]\n")
    text.remove(("a",))
    text.set(("b",), {})
    assert text.text == "# of b\nb: {}\n  # last\n\n# of d\nd: [x]\n"
    with pytest.raises(LayoutError):
        text.append(("b",), "item")
    with pytest.raises(LayoutError):
        text.set(("no", "such"), 1)


LAYOUTS = {
    "inline list": "matrix:\n  models: [a]\nmodels:\n  a: {x: 1}\nint8: {}\n",
    "list of lines": "matrix:\n  models:\n    - a # first\nmodels:\n    a:\n        x: 1\nint8:\n",
    "inline mappings": "matrix: {models: [a]}\nmodels: {a: {x: 1}}\nint8: {a: {x: 1}} # c\n",
    "no int8": "# top\nmatrix: {models: [a]}\nmodels: {a: {x: 1}}\n",
}
LAYOUTS = {name: f"{text}targets:\n  t: 1\n" for name, text in LAYOUTS.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_is_added_to_every_layout(layout: str) -> None:
    before = yaml.safe_load(LAYOUTS[layout])
    after = further_params(LAYOUTS[layout], MODEL)
    value = yaml.safe_load(after)
    assert value["matrix"]["models"] == ["a", "best"]
    assert value["models"] == {**before["models"], "best": MODEL.settings()}
    assert value["int8"] == {**(before.get("int8") or {}), "best": MODEL.int8_settings()}
    assert value["targets"] == {"t": 1}
    assert after.count("#") == LAYOUTS[layout].count("#")
    with pytest.raises(ConfigError, match="there is one already"):
        further_params(after, MODEL)


def test_the_teams_model_takes_the_demos_place(tmp_path: Path) -> None:
    targets = new_targets(["rtx-ada", "l4", "box=8.6"])
    text = first_params(PARAMS, MODEL, targets, ["fp32", "fp16", "int8"])
    assert "demo" not in text and "shapes" not in text
    (tmp_path / "params.yaml").write_text(text)
    spec = load_spec(tmp_path / "params.yaml")
    assert spec.matrix.targets == tuple(spec.targets) == ("rtx-ada", "l4", "box")
    assert spec.models["best"].validation == "data/best/validation"
    assert spec.int8["best"].minimum_images == 300
    comments = [line.split("#", 1)[1] for line in PARAMS.splitlines() if "#" in line]
    kept = [comment for comment in comments if comment in text]
    assert len(kept) == len(comments) - 2  # the demo's images, and how few they are


def test_an_onnx_has_its_own_opset_and_without_images_there_is_no_int8(tmp_path: Path) -> None:
    model = NewModel("net", "data/net/net.onnx", "classify", "data/net/validation", None)
    (tmp_path / "params.yaml").write_text(
        first_params(PARAMS, model, new_targets(["rtx-ada"]), ["fp32", "fp16"])
    )
    spec = load_spec(tmp_path / "params.yaml")
    assert (spec.models["net"].size, dict(spec.int8)) == ((224, 224), {})


def test_targets_are_known_gpus_or_say_their_compute_capability() -> None:
    assert [target.runtime for target in new_targets(["orin", "rtx-ada"])] == [
        "tensorrt",
        "tensorrt_rtx",
    ]
    with pytest.raises(ConfigError) as error:
        new_targets(["rtx-4090", "x=sm_89", "A=8.9"])
    unknown, capability, name = error.value.mistakes
    assert unknown.startswith("--target rtx-4090: unknown; known are rtx-turing, ")
    assert "'sm_89' is no such as 8.9" in capability and "small letters" in name
    assert all(target.name == name for name, target in TARGETS.items())


def test_names_and_tasks_come_from_the_file() -> None:
    assert [model_name(stem) for stem in ("best", "YOLO11n Seg.v2", "--")] == [
        "best",
        "yolo11n-seg-v2",
        "model",
    ]
    assert [guessed_task(stem) for stem in ("yolo11n-seg", "best", "yolov8n-cls")] == [
        "segment",
        "detect",
        "classify",
    ]
