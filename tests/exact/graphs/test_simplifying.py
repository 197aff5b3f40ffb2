"""The simplifier, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from enginery.errors import ModelError
from enginery.graphs import simplify
from tests.exact.graphs.common import convolution


def test_the_simplifier_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Any] = []

    def run(command: list[str], **named: Any) -> Any:
        assert command[-2:] == ["a.onnx", "b.onnx"]
        assert (command[0], named["timeout"], named["check"]) == (sys.executable, 9.5, False)
        end = ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return SimpleNamespace(returncode=end[0], stderr=end[1], stdout="")

    monkeypatch.setattr(simplify.subprocess, "run", run)
    ends += [
        (0, ""),
        (3, "one\ntwo\n\n"),
        (-11, ""),
        subprocess.TimeoutExpired(["x"], 9.5),
    ]
    found = [simplify._run(Path("a.onnx"), Path("b.onnx"), 9.5) for _ in range(4)]
    assert found == [
        "",
        "onnxsim ended with 3: two",
        "onnxsim ended with -11: it said nothing",
        "onnxsim was stopped at its time limit of 9.5 s",
    ]


def test_the_simplifier_writes_its_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    onnx.save(convolution(), tmp_path / "a.onnx")
    asked: list[Any] = []
    fake = SimpleNamespace(simplify=lambda given: asked.append(given) or (convolution(18), True))
    monkeypatch.setitem(sys.modules, "onnxsim", fake)
    simplify._main(str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"))
    assert onnx.load(tmp_path / "b.onnx") == convolution(18)
    assert asked == [convolution()]
    assert json.dumps(simplify.MAX_DIFFERENCE) == "0.0001"


def test_a_simplified_graph_that_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> Any:
        raise ModelError("it cannot run", "mend it")

    monkeypatch.setattr(simplify, "_run_all", fail)
    found = simplify._compare(Path("a"), Path("b"), [])
    assert found == {"simplified": False, "reason": "it cannot run. mend it"}


def test_a_difference_at_the_limit_is_none() -> None:
    limit = simplify.MAX_DIFFERENCE
    one = [np.array([1.0])]
    assert simplify._difference(one, [np.array([1.0]) + 0]) == ("", 0.0)
    exact = [np.array([0.0, 1.0])], [np.array([limit, 1.0])]
    assert simplify._difference(*exact) == ("", limit)


def test_a_large_graph_is_simplified_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxsim

    asked: list[Any] = []
    (tmp_path / "a.onnx.data").touch()
    monkeypatch.setattr(onnxsim, "simplify", lambda *given, **named: asked.append((given, named)))
    simplify._main(str(tmp_path / "a.onnx"), "b.onnx")
    assert asked == [((str(tmp_path / "a.onnx"),), {"output_path": "b.onnx"})]


def test_onnxsim_is_read_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(command: Any, **named: Any) -> Any:
        asked.append(named)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(simplify.subprocess, "run", run)
    simplify._run(Path("a"), Path("b"), 9.5)
    assert asked == [
        {"capture_output": True, "text": True, "errors": "replace", "timeout": 9.5, "check": False}
    ]


def test_an_operator_is_described_with_its_domain() -> None:
    from enginery.graphs.inspect import _described

    assert _described(helper.make_node("Op", ["x"], ["y"], "n", domain="own")) == "own.Op (node n)"
    assert _described(helper.make_node("Op", ["x"], ["y"])) == "Op (node y)"
