"""The scripts below benchmarks/trouble: what they compare, when they kill, how they name a step."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from benchmarks.trouble import cases, inputs, kill_round, killer, kills, models, places
from benchmarks.trouble.cases import data as data_cases
from benchmarks.trouble.checkouts import ROOT
from benchmarks.trouble.outputs import differences, partial_files
from benchmarks.trouble.processes import Ended, follow, kill_all, working_in
from enginery.project.load import load_spec
from tests.stages import stages_of

LOCK = "schema: '2.0'\nstages:\n  a:\n    cmd: x\n    outs:\n    - path: b\n      md5: c\n"


def test_a_stage_is_called_as_a_run_calls_it() -> None:
    """kills.py finds stages by their command in DVC's run-cache, by their title
    in a run's lines.
    """
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    titles = set()
    for stage in stages_of(load_spec(ROOT / "params.yaml")):
        content = declared[
            "quantize-int8"
            if stage.precision == "int8" and stage.step == "quantize"
            else stage.step
        ]
        command = content.get("cmd") or content["do"]["cmd"]
        for word, value in {
            "${key}": stage.model,
            "${item.model}": stage.model,
            "${item.target}": stage.target,
            "${item.precision}": stage.precision,
        }.items():
            command = command.replace(word, value)
        assert killer.title_of(command) == stage.title
        titles.add(stage.title)
    assert len(titles) > 20


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("", "empty"),
        ("\n", "empty"),
        (LOCK, "whole"),
        (LOCK[:-40], "half"),
        (LOCK[:16], "half"),
        ("a: [", "half"),
        ("text", "half"),
    ],
)
def test_states_of_a_lock(tmp_path: Path, text: str, state: str) -> None:
    assert killer.lock_state(tmp_path / "dvc.lock") == "missing"
    (tmp_path / "dvc.lock").write_text(text)
    assert killer.lock_state(tmp_path / "dvc.lock") == state


def test_a_seed_and_a_name_are_a_moment() -> None:
    about = kill_round.Undisturbed(((2.0, "a"), (5.0, "b"), (6.0, "c")), 7.0, {}, ("x", "y"))
    moments = [
        kill_round.draw("random", about, random.Random(f"1/{number}")) for number in range(300)
    ]
    again = [
        kill_round.draw("random", about, random.Random(f"1/{number}")) for number in range(300)
    ]
    assert moments == again
    assert {moment.after_steps for moment in moments} == {0, 1, 2, 3}
    assert all(0 <= moment.delay_s <= 3 for moment in moments)
    aimed = [kill_round.draw("aimed", about, random.Random(number)) for number in range(50)]
    assert {moment.writing for moment in aimed} == {1, 2}


def test_a_command_that_does_not_end_is_stopped_with_its_children() -> None:
    command = "echo one; sleep 100 & echo two; sleep 100"
    process = subprocess.Popen(
        ["sh", "-c", command], stdout=subprocess.PIPE, start_new_session=True
    )
    heard: list[str] = []
    ended = follow(process, 3, heard.append)
    assert (ended.code, heard) == (None, ["one", "two"])
    assert ended.seconds < 60


def test_a_command_has_ended_though_its_child_holds_the_pipe(tmp_path: Path) -> None:
    command = ["sh", "-c", "sleep 90 & echo done; exit 7"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path)
    ended = follow(process, 120)
    kill_all(working_in(tmp_path))
    assert (ended.code, ended.text) == (7, "done")
    assert ended.seconds < 60


def test_failures_are_the_last_words() -> None:
    lines = ("Completed a", "Failed    b  1 s", "          because", "Skipped c", "1 Failed")
    assert Ended(1, 1, tuple((0.0, line) for line in lines)).last() == "Failed    b  1 s | because"
    assert Ended(1, 1, ((0.0, "error: no"),)).last() == "error: no"


def test_differences_and_partial_files(tmp_path: Path) -> None:
    found = differences({"a": "1", "b": "2"}, {"b": "3", "c": "4"})
    assert found == ["a is missing", "c is new", "b differs"]
    for name in ("a/.model.onnx.12.part", "b.tmp", "c.plan"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert partial_files(tmp_path) == ["a/.model.onnx.12.part", "b.tmp"]


def test_a_loop_of_three_turns_is_a_valid_graph_that_changes_nothing() -> None:
    """With 2^40 turns it would be as valid, and as harmless, if anybody could wait for it."""
    value = helper.make_tensor_value_info
    weights = numpy_helper.from_array(np.full((1, 3, 1, 1), 2, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w"], ["output"], "conv")],
        "g",
        [value("images", TensorProto.FLOAT, [1, 3, 2, 2])],
        [value("output", TensorProto.FLOAT, [1, 1, 2, 2])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    models.loop(3)(model)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString())
    [output] = session.run(None, {"images": np.ones((1, 3, 2, 2), np.float32)})
    assert output.tolist() == [[[[6.0, 6.0], [6.0, 6.0]]]]


@pytest.mark.parametrize(
    "names",
    [
        lambda: [case.name for case in cases.cases()],
        lambda: list(places.names()),
    ],
)
def test_names_are_unique(names: Callable[[], list[str]]) -> None:
    assert len(set(names())) == len(names())


def test_there_are_sixty_bad_inputs_and_eight_full_places() -> None:
    assert len(list(cases.cases())) >= 60
    assert len(places.FULL) == 8


def test_a_picture_is_a_png() -> None:
    data = np.frombuffer(data_cases.picture(130, 250), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (250, 130, 3)


@pytest.mark.parametrize("script", [inputs, kills, places])
def test_each_says_how_it_is_used(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit, match="0"):
        script.main()
    assert f"-m {script.__name__}" in capsys.readouterr().out
