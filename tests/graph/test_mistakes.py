"""A wrong, damaged or missing dvc.yaml is one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from enginery.errors import ConfigError, EngineryError
from enginery.pipeline.graph import check_graph
from enginery.project.load import load_spec
from enginery.project.params import Spec
from tests.conftest import ROOT
from tests.graph.common import MODEL, add, change, dvcs


def mistakes(spec: Spec) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        check_graph(dvcs(), spec)
    return error.value.mistakes


def test_the_demos_stage_and_its_key_go_together() -> None:
    change("dvc.yaml", lambda content: content["stages"].pop("demo-data"))
    what = "demo: dvc.yaml has no stage demo-data for it"
    assert mistakes(load_spec()) == (f"{what}: take this key out, too, or put the stage back",)
    change("params.yaml", lambda params: params.pop("demo"))
    check_graph(dvcs(), load_spec())
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    what = "demo: missing: dvc.yaml has the stage demo-data"
    assert mistakes(load_spec()) == (f"{what}: take that out, too, or put this key back",)


def test_stages_that_params_yaml_asks_for_are_missing() -> None:
    def edit(content: dict[str, Any]) -> None:
        del content["stages"]["simplify"]
        content["stages"]["register"]["foreach"] = {
            "x": {"model": MODEL, "target": "rtx-ada", "precision": "fp16"}
        }

    change("dvc.yaml", edit)
    change("params.yaml", lambda params: params.update(time_limit_s={"exprot": 5, "export": 6}))
    found = mistakes(load_spec())
    assert found[0] == "dvc.yaml has no stage of the step simplify: put it back"
    assert len([line for line in found if "has no stage that registers" in line]) == 8
    assert found[-1].startswith("time_limit_s.exprot: dvc.yaml has no such step; it has build, ")


CYCLE = {
    "one": {"cmd": "true", "deps": ["b"], "outs": ["a"]},
    "two": {"cmd": "true", "deps": ["a"], "outs": ["b"]},
}
TWICE = {"one": {"cmd": "true", "outs": ["a"]}, "two": {"cmd": "true", "outs": ["a"]}}


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (CYCLE, ["both a dependency and an output", "one", "two", ". Correct"]),
        (TWICE, ["'a'", "one", "two"]),
        (
            {"one": {"cmd": "true", "meta": {"step": "export", "modle": "m"}}},
            ["the meta of one has modle", "Enginery knows around, model, precision, step, target"],
        ),
        ({"one": {"command": "true"}}, ["stages.one", "command", "cmd"]),
        ({"one": {"cmd": "python ${nothing}"}}, ["nothing"]),
    ],
)
def test_a_wrong_stage_is_one_line(stages: dict[str, Any], words: list[str]) -> None:
    add(**stages)
    with pytest.raises(EngineryError) as error:
        dvcs()
    [line] = str(error.value).splitlines()
    assert line.startswith("dvc.yaml: "), line
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize("content", ["stages: 1\n", "a: [\n", "- 1\n", "\x00", "stages: {a: 1}\n"])
def test_a_damaged_dvc_yaml_is_one_line(content: str) -> None:
    Path("dvc.yaml").write_text(content)
    with pytest.raises(EngineryError) as error:
        dvcs()
    [line] = str(error.value).splitlines()
    assert line.startswith("dvc.yaml: "), line


def test_a_missing_dvc_yaml_is_one_line() -> None:
    Path("dvc.yaml").unlink()
    with pytest.raises(EngineryError, match=r"^dvc\.yaml is missing\. Take it from git again$"):
        dvcs()


@pytest.mark.parametrize("content", ["", "stages: {}\n"])
def test_a_dvc_yaml_without_stages_has_all_its_mistakes_said(content: str) -> None:
    Path("dvc.yaml").write_text(content)
    assert "dvc.yaml has no stage of the step export: put it back" in mistakes(load_spec())
