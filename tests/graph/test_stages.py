"""The stages that DVC has for params.yaml, their order, and parts of their graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enginery.errors import ConfigError
from enginery.orchestration.preparation import Selection
from enginery.pipeline.graph import check_graph, read_graph
from enginery.pipeline.matrix import write_matrix
from enginery.pipeline.repository import open_repository
from enginery.project.load import load_spec
from enginery.project.stage import Stage, record_file
from tests.graph.common import (
    MODEL,
    OTHER,
    Edit,
    add,
    another_model,
    change,
    dvcs,
    nothing,
    with_toolchains,
    without_int8,
)
from tests.stages import stages_of


def test_titles_and_recipes() -> None:
    stage = Stage("build", "yolov8n", "rtx-ada", "fp16")
    assert (stage.title, stage.key) == ("build yolov8n fp16 for rtx-ada", "yolov8n-rtx-ada-fp16")
    assert stage.recipe.as_posix() == "artifacts/recipes/build/yolov8n-rtx-ada-fp16.json"
    assert Stage("demo-data").recipe.as_posix() == "artifacts/recipes/demo-data/recipe.json"
    timing = Stage("timing", toolchain="trt10")
    assert (timing.title, timing.key) == ("timing trt10", "trt10")
    record = record_file(Stage("quantize", "m", precision="int8"))
    assert record.as_posix() == "artifacts/models/m/int8/graph/record.json"


@pytest.mark.parametrize(
    "edit",
    [
        nothing,
        without_int8,
        with_toolchains,
        another_model(),
        another_model(targets=["rtx-ada"], precisions=["fp16"]),
        another_model(targets=["rtx-ada", "rtx-ampere"], precisions=["int8"]),
    ],
)
def test_dvc_has_a_stage_for_all_that_params_yaml_asks_and_no_other(edit: Edit) -> None:
    """With the words, the address and the recipe that the stage's own parts make."""
    change("params.yaml", edit)
    graph = dvcs()
    expected = stages_of(load_spec())
    assert sorted(map(repr, graph.stages())) == sorted(map(repr, expected))
    for node in graph:
        stage = node.stage
        assert node.title == stage.title
        name = "quantize-int8" if (stage.step, stage.precision) == ("quantize", "int8") else ""
        key = stage.model if name else stage.key
        assert node.address == f"{name or stage.step}{'@' if key else ''}{key}"
    check_graph(graph, load_spec())


def test_a_stage_reads_its_own_recipe_and_what_its_record_is_written_to_is_its_output() -> None:
    """So a changed parameter makes its stage stale, and DVC keeps what a manifest quotes."""
    write_matrix(load_spec())
    repository = open_repository(Path())
    nodes = {node.address: node for node in read_graph(repository)}
    for stage in repository.stage.load_all("dvc.yaml"):
        if stage.addressing == "fingerprint":
            continue
        read = [dependency.def_path for dependency in stage.deps]
        known = nodes[stage.addressing].stage
        assert [path for path in read if "recipes" in path] == [known.recipe.as_posix()]
        if known.step not in ("demo-data", "images", "calibration-images", "timing"):
            record = record_file(known)
            outs = [Path(out.def_path) for out in stage.outs]
            assert any(out in (record, *record.parents) for out in outs), stage.addressing
    repository.close()


def test_every_stage_comes_after_those_it_needs() -> None:
    change("params.yaml", with_toolchains)
    graph = dvcs()
    places = {node.address: index for index, node in enumerate(graph)}
    for node in graph:
        assert all(places[need] < places[node.address] for need in node.needs), node
    needs = {node.address: node.needs for node in graph}
    engine = f"{MODEL}-rtx-ada-fp16"
    assert {f"build@{engine}", f"validate@{MODEL}-fp16"} <= set(needs[f"register@{engine}"])
    assert f"build@{MODEL}-rtx-ampere-fp16" not in needs[f"register@{engine}"]
    assert {f"quantize@{MODEL}-fp16", f"quantize@{MODEL}-fp32"} <= set(needs[f"build@{engine}"])
    assert f"quantize-int8@{MODEL}" not in needs[f"build@{engine}"]
    around = [node for node in graph if node.around]
    assert [node.stage for node in around] == [
        Stage("timing", toolchain="trt10"),
        Stage("timing", toolchain="trt8-6"),
    ]
    assert {need for node in around for need in node.needs} == {"fingerprint"}
    assert not any(node.address in needs[other] for node in around for other in needs)


@pytest.mark.parametrize(
    ("precisions", "made"),
    [
        (["fp32"], ["fp32"]),
        (["fp16"], ["fp32", "fp16"]),
        (["int8"], ["fp32", "int8"]),
        (["int8", "fp16"], ["fp32", "fp16", "int8"]),
    ],
)
def test_only_graphs_that_something_reads_are_made(precisions: list[str], made: list[str]) -> None:
    def edit(params: dict[str, Any]) -> None:
        params["matrix"]["precisions"] = precisions
        if "int8" not in precisions:
            params["int8"] = {}

    change("params.yaml", edit)
    graph = dvcs()
    found = {node.stage.precision for node in graph if node.stage.step == "quantize"}
    assert found == set(made)
    validated = {node.stage.precision for node in graph if node.stage.step == "validate"}
    assert validated == set(precisions)
    read = {need for node in graph for need in node.needs}
    ends = {node.stage.step for node in graph if node.address not in read}
    assert ends == {"register"}


@pytest.mark.parametrize(
    ("asked", "builds"),
    [
        ({}, 12),
        ({"models": [MODEL]}, 9),
        ({"targets": ["rtx-ada"]}, 4),
        ({"targets": ["rtx-ada", "rtx-ampere"]}, 8),
        ({"precisions": ["fp16", "int8"]}, 9),
        ({"models": [OTHER], "precisions": ["fp16"]}, 3),
        ({"models": [MODEL, OTHER], "targets": ["rtx-ada"], "precisions": ["int8", "fp16"]}, 3),
    ],
)
def test_a_part_has_all_that_its_stages_read(asked: dict[str, list[str]], builds: int) -> None:
    change("params.yaml", with_toolchains)
    change("params.yaml", another_model(precisions=["fp16"]))
    graph = dvcs()
    part = Selection(**asked).part_of(graph, load_spec())
    addresses = {node.address for node in part}
    assert {need for node in part for need in node.needs} <= addresses
    chosen = [node.stage for node in part if node.stage.step == "build"]
    assert len(chosen) == builds
    for stage in chosen:
        for kind, names in asked.items():
            assert getattr(stage, kind.removesuffix("s")) in names
    assert {"fingerprint", "timing@trt10", "timing@trt8-6"} <= addresses
    if "int8" not in asked.get("precisions", ["int8"]):
        assert not [each for each in addresses if each.startswith("calibrat")]
    if asked.get("models") == [OTHER]:
        assert not [each for each in addresses if MODEL in each or each == "demo-data"]


def test_a_part_that_params_yaml_does_not_build() -> None:
    selection = Selection(models=["nano", MODEL], targets=["rtx-ada", "h100"], precisions=["int4"])
    with pytest.raises(ConfigError) as error:
        selection.part_of(dvcs(), load_spec())
    assert error.value.mistakes == (
        f"--model nano: not in params.yaml's matrix, which has {MODEL}",
        "--target h100: not in params.yaml's matrix, which has rtx-ampere, rtx-ada, rtx-blackwell",
        "--precision int4: not in params.yaml's matrix, which has fp32, fp16, int8",
    )


def test_a_stage_of_the_teams_own_is_called_as_dvc_yaml_calls_it() -> None:
    engine = f"artifacts/engines/{MODEL}/rtx-ada/fp16"
    add(notify={"cmd": "true", "deps": [engine]}, tell={"cmd": "true", "desc": "tell\n  all"})
    graph = dvcs()
    check_graph(graph, load_spec())
    nodes = {node.address: node for node in graph}
    notify, tell = nodes["notify"], nodes["tell"]
    assert (notify.title, notify.stage, notify.needs) == (
        "notify",
        Stage(""),
        (f"register@{MODEL}-rtx-ada-fp16",),
    )
    assert (tell.title, tell.needs) == ("tell all", ())
    assert not [stage for stage in graph.stages() if not stage.step]
    part = graph.only({"target": ["rtx-ada"]})
    assert not {"notify", "tell"} & {node.address for node in part}


def test_what_comes_before_a_stage() -> None:
    add(
        sharpen={
            "cmd": "true",
            "meta": {"step": "sharpen", "model": MODEL},
            "deps": [f"artifacts/models/{MODEL}/export"],
            "outs": ["sharp.onnx"],
        }
    )
    earlier = dvcs().before()
    assert set(earlier[Stage("sharpen", MODEL)]) >= {Stage("export", MODEL), Stage("fingerprint")}
    register = earlier[Stage("register", MODEL, "rtx-ada", "fp16")]
    assert Stage("sharpen", MODEL) not in register
    assert Stage("simplify", MODEL) in register


def test_models_that_are_not_quantized_need_no_calibration() -> None:
    change("params.yaml", without_int8)
    for name in ("calibrate", "calibration-images", "quantize-int8"):
        change("dvc.yaml", lambda content, name=name: content["stages"].pop(name))  # type: ignore[misc]
    check_graph(dvcs(), load_spec())


def test_a_meta_that_is_the_teams_own_is_left_alone() -> None:
    """DVC allows anything in it."""
    add(one={"cmd": "true", "meta": {"owner": "me"}}, two={"cmd": "true", "meta": "ours"})
    found = {node.address: node.stage for node in dvcs()}
    assert (found["one"], found["two"]) == (Stage(""), Stage(""))
