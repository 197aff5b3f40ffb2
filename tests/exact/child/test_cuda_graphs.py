"""CUDA graphs: captured, launched and given back, or not captured at all."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from tests.exact.child.common import base, refused, running


class Driver:
    """The driver's calls for CUDA graphs; `fails` are the names that do not succeed."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.calls = fails, list[Any]()

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any) -> int:
            self.calls.append((name, *[getattr(value, "value", value) for value in given]))
            if name == "cuStreamEndCapture" and name not in self.fails:
                given[1]._obj.value = 11
            if name == "cuGraphInstantiateWithFlags" and name not in self.fails:
                given[0]._obj.value = 22
            return 1 if name in self.fails else 0

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*fails: str) -> Driver:
        found = Driver(*fails)
        names: list[str] = []
        fake = SimpleNamespace(
            CDLL=lambda name: names.append(name) or found,
            c_void_p=ctypes.c_void_p,
            c_ulonglong=ctypes.c_ulonglong,
            byref=ctypes.byref,
        )
        monkeypatch.setattr(running, "ctypes", fake)
        found.names = names  # type: ignore[attr-defined]
        return found

    return make


def a_runner(fails: bool = False) -> Any:
    runs: list[int] = []

    def enqueue() -> None:
        runs.append(1)
        if fails:
            raise base.RefusedError("engine", "no")

    return SimpleNamespace(stream=SimpleNamespace(handle=7), enqueue=enqueue, runs=runs)


def test_a_cuda_graph_is_captured_launched_and_given_back(driver: Any) -> None:
    cuda_driver, runner = driver(), a_runner()
    with running.CapturedGraph(runner) as captured:
        assert captured.ready is True
        captured.launch()
        assert runner.runs == [1]
    assert cuda_driver.names == ["libcuda.so.1"]
    begin, end, instantiate, launch, *destroyed = cuda_driver.calls
    assert begin == ("cuStreamBeginCapture_v2", 7, 2)
    assert end[:2] == ("cuStreamEndCapture", 7)
    assert (instantiate[0], instantiate[2:]) == ("cuGraphInstantiateWithFlags", (11, 0))
    assert launch == ("cuGraphLaunch", 22, 7)
    assert destroyed == [("cuGraphExecDestroy", 22), ("cuGraphDestroy", 11)]


@pytest.mark.parametrize(
    ("fails", "refuses", "names"),
    [
        (("cuStreamBeginCapture_v2",), False, ["cuStreamBeginCapture_v2"]),
        ((), True, ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy"]),
        (("cuStreamEndCapture",), False, ["cuStreamBeginCapture_v2", "cuStreamEndCapture"]),
        (
            ("cuGraphInstantiateWithFlags",),
            False,
            [
                "cuStreamBeginCapture_v2",
                "cuStreamEndCapture",
                "cuGraphInstantiateWithFlags",
                "cuGraphDestroy",
            ],
        ),
    ],
)
def test_what_cannot_be_captured(
    driver: Any, fails: tuple[str, ...], refuses: bool, names: list[str]
) -> None:
    cuda_driver, runner = driver(*fails), a_runner(refuses)
    with running.CapturedGraph(runner) as captured:
        assert captured.ready is False
    assert [call[0] for call in cuda_driver.calls] == names


def test_a_graph_that_does_not_launch(driver: Any) -> None:
    driver("cuGraphLaunch")
    with (
        running.CapturedGraph(a_runner()) as captured,
        refused("engine", "the CUDA graph did not launch"),
    ):
        captured.launch()
