"""The client: what it asks a child for, and what it makes of the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from enginery.errors import DiskFullError, IntegrityError
from enginery.toolchain import client
from enginery.toolchain.requests import (
    BuildRequest,
    BuildResult,
    Inspection,
    InspectRequest,
    Measurement,
    MeasureRequest,
    PointRequest,
    PointResult,
    RefitRequest,
    RefitResult,
    ToolchainInfo,
)
from tests.exact.toolchain.common import PYTHON, a_plan


class Child:
    """Records what a child is asked, and does what the test says."""

    asked: list[Any]
    facts: Mapping[str, Any]

    def __init__(self, python: Path, request: Mapping[str, Any], on_event: Any) -> None:
        self.given = (python, dict(request), on_event)
        self.warnings = ["one", "two"]

    def result(self, time_limit: float) -> dict[str, Any]:
        type(self).asked.append((*self.given, time_limit))
        return type(self).work(self.given[1])

    @classmethod
    def work(cls, request: Mapping[str, Any]) -> dict[str, Any]:
        return dict(cls.facts)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> type[Child]:
    class Fresh(Child):
        asked: list[Any] = []  # noqa: RUF012
        facts: Mapping[str, Any] = {}

    monkeypatch.setattr(client, "Child", Fresh)
    return Fresh


def test_a_probe(child: type[Child]) -> None:
    child.facts = {
        "runtime": "tensorrt",
        "version": "10.0",
        "python": "3.11",
        "platform": "linux",
        "features": ["a", "b"],
        "compute_capabilities": ["8.6"],
        "gpus": [{"gpu": "Card"}],
        "no_gpu": "why",
        "blind": True,
    }
    info = client.probe(PYTHON, "tensorrt", "GPU-1")
    assert info == ToolchainInfo(
        "tensorrt", "10.0", "3.11", "linux", ("a", "b"), ("8.6",), ({"gpu": "Card"},), "why", True
    )
    client.probe(PYTHON, "tensorrt_rtx")
    (python, request, on_event, limit), (_, other, _, _) = child.asked
    assert (python, request, limit) == (
        PYTHON,
        {"do": "probe", "runtime": "tensorrt", "gpu": "GPU-1"},
        120,
    )
    assert on_event({}) is None
    assert other == {"do": "probe", "runtime": "tensorrt_rtx", "gpu": None}


def build_request(folder: Path, runtime: str = "tensorrt") -> BuildRequest:
    return BuildRequest(
        runtime,
        Path("g.onnx"),
        folder / "p.plan",
        "g",
        compute_capability="8.9",
        profiles=({"x": {"min": [1]}},),
    )


RESULT = {
    "plan_bytes": 4,
    "weights_sha256": None,
    "seconds": 1.5,
    "peak_memory_mib": 2.5,
    "runtime_version": "10.0",
    "skipped_tactics": 3,
    "dla_fallback": ["a"],
    "refittable_weights": ["w"],
    "layers": [],
}


def writing(child: type[Child], field: str, data: bytes, **facts: Any) -> None:
    """The child writes this where it was asked to."""

    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        Path(request[field]).write_bytes(data)
        return {"plan_sha256": hashlib.sha256(data).hexdigest(), **facts}

    child.work = work  # type: ignore[method-assign, assignment]


def test_a_build(child: type[Child], tmp_path: Path) -> None:
    writing(child, "plan", b"plan", **RESULT)
    request = build_request(tmp_path)
    found = client.build(PYTHON, request, print, 9.5)
    assert found == BuildResult(
        hashlib.sha256(b"plan").hexdigest(),
        4,
        None,
        1.5,
        2.5,
        "10.0",
        3,
        ("a",),
        ("w",),
        ("one", "two"),
    )
    [(python, given, on_event, limit)] = child.asked
    assert (python, on_event, limit) == (PYTHON, print, 9.5)
    partial = given.pop("plan")
    assert (partial.parent, partial != request.plan) == (tmp_path, True)
    expected = asdict(request)
    del expected["plan"]
    assert given == {**expected, "do": "build"}
    assert [path.name for path in tmp_path.iterdir()] == ["p.plan"]
    assert request.plan.read_bytes() == b"plan"


@pytest.mark.parametrize(
    ("runtime", "data", "facts", "words"),
    [
        ("tensorrt_rtx", b"plan", RESULT, "is no TensorRT-RTX plan"),
        ("tensorrt", b"plan", {**RESULT, "plan_sha256": "0" * 64}, "a byte changed"),
    ],
)
def test_a_built_plan_is_checked_before_it_counts(
    child: type[Child],
    tmp_path: Path,
    runtime: str,
    data: bytes,
    facts: Mapping[str, Any],
    words: str,
) -> None:
    writing(child, "plan", data, **facts)
    with pytest.raises(IntegrityError, match=words):
        client.build(PYTHON, build_request(tmp_path, runtime), print, 9)
    assert list(tmp_path.iterdir()) == []


def test_a_built_plan_is_for_its_capability(child: type[Child], tmp_path: Path) -> None:
    a_plan(tmp_path / "made", 4)
    writing(child, "plan", (tmp_path / "made").read_bytes(), **RESULT)
    with pytest.raises(IntegrityError, match=r"for compute capability 8\.6, not 8\.9"):
        client.build(PYTHON, build_request(tmp_path, "tensorrt_rtx"), print, 9)
    assert not (tmp_path / "p.plan").exists()


def refit_request(folder: Path) -> RefitRequest:
    return RefitRequest(
        "tensorrt",
        Path("old.plan"),
        "abc",
        weights=Path("w.npz"),
        out=folder / "new.plan",
        ranges={"t": 1.0},
    )


def test_a_refit(child: type[Child], tmp_path: Path) -> None:
    writing(child, "out", b"new", plan_bytes=3, seconds=0.5, runtime_version="10.0")
    request = refit_request(tmp_path)
    found = client.refit(PYTHON, request, print, 8)
    assert found == RefitResult(hashlib.sha256(b"new").hexdigest(), 3, 0.5, "10.0")
    [(python, given, on_event, limit)] = child.asked
    assert (python, on_event, limit) == (PYTHON, print, 8)
    assert given.pop("out").parent == tmp_path
    expected = asdict(request)
    del expected["out"]
    assert given == {**expected, "do": "refit"}
    assert given["prefix"] == "weights/"
    assert [path.name for path in tmp_path.iterdir()] == ["new.plan"]
    writing(
        child,
        "out",
        b"new",
        plan_sha256="0" * 64,
        plan_bytes=3,
        seconds=0.5,
        runtime_version="10.0",
    )
    request.out.unlink()
    with pytest.raises(IntegrityError, match="a byte changed"):
        client.refit(PYTHON, request, print, 8)
    assert list(tmp_path.iterdir()) == []


def test_measuring_and_inspecting(child: type[Child]) -> None:
    point = PointRequest((1, 3, 8, 8), Path("i.npy"), Path("out"))
    measure = MeasureRequest("tensorrt", Path("a.plan"), "abc", "GPU-1", True, 1, points=(point,))
    inspect = InspectRequest("tensorrt", Path("a.plan"), "abc", shape=(1, 3, 8, 8))
    result = {"outputs": ["a"], "milliseconds": [0.5], "timing": None}
    child.facts = {"points": [result], "gpu": {"uuid": "GPU-1"}}
    assert client.measure(PYTHON, measure, print, 7) == Measurement(
        (PointResult(("a",), (0.5,)),), {"uuid": "GPU-1"}
    )
    child.facts = {"layers": ["a", {"Name": "b"}], "milliseconds": {"a": 1.0}, "device_memory": 3}
    assert client.inspect(PYTHON, inspect, repr, 6) == Inspection(
        ("a", {"Name": "b"}), {"a": 1.0}, 3
    )
    first, second = child.asked
    assert first == (PYTHON, {**asdict(measure), "do": "measure"}, print, 7)
    assert second == (PYTHON, {**asdict(inspect), "do": "inspect"}, repr, 6)
    assert (first[1]["runs"], first[1]["noisy"], first[1]["points"][0]["timed"]) == (
        200,
        1.25,
        True,
    )


def test_a_full_disk_is_said_by_a_build(child: type[Child], tmp_path: Path) -> None:
    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    child.work = work  # type: ignore[method-assign, assignment]
    with pytest.raises(DiskFullError, match=f"no room to write {tmp_path}/p.plan"):
        client.build(PYTHON, build_request(tmp_path), print, 9)
