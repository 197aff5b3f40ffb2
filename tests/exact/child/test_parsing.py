"""Networks that the parser fills, and what a failed parse or build means."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import base, building, refused, request
from tests.recorder.building import ILogger, INetworkDefinition, OldParserError, ParserError


@pytest.fixture
def onnx(tmp_path: Path) -> str:
    (tmp_path / "g.onnx").write_bytes(b"\xffgraph")
    return str(tmp_path / "g.onnx")


def parsed(onnx: str, trt: Any, **changed: Any) -> Any:
    return building.parse(trt, trt.Builder(None), "logger", request(onnx=onnx, **changed))


@pytest.mark.parametrize(
    ("options", "strong", "flags"),
    [
        ({}, False, 1),
        ({"strongly_typed": True}, False, 3),
        ({"runtime": "tensorrt_rtx"}, False, 0),
        ({}, True, 0),
        ({"strongly_typed": True}, True, 2),
        ({"runtime": "tensorrt_rtx", "strongly_typed": True}, False, 2),
    ],
)
def test_networks_are_created_with_what_the_version_has(
    onnx: str, options: dict[str, Any], strong: bool, flags: int
) -> None:
    trt = tensorrt(strong=strong)
    network, parser = parsed(onnx, trt, name="mine", **options)
    assert (network._flags, network.name, trt.made["parsed"]) == (flags, "mine", [b"\xffgraph"])
    assert (parser._network, parser._logger) == (network, "logger")


def test_an_old_version_has_no_strong_typing(onnx: str) -> None:
    trt = tensorrt()
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    assert parsed(onnx, trt, strongly_typed=True)[0]._flags == 1


def test_what_cannot_be_parsed(onnx: str) -> None:
    two = (ParserError("no  such op", "n/1", "Odd"), OldParserError("second"))
    with refused("parse", "Odd n/1 no such op; second"):
        parsed(onnx, tensorrt(parsed=False, errors=two))
    with refused("parse", "second"):
        parsed(onnx, tensorrt(errors=two[1:]))  # it said yes, and told an error
    with refused("parse", "the graph has no outputs"):
        parsed(onnx, tensorrt(outputs=0))
    with refused("parse", "the graph has no outputs"):
        parsed(onnx, tensorrt(parsed=False))


def test_a_builder_that_does_not_start(out: Out) -> None:
    def fail(logger: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt = tensorrt()
    logger = base.make_logger(trt, out)
    assert building.make_builder(trt, logger)._logger is logger
    trt.Builder = fail
    with refused("driver", "TensorRT does not start: it gave no reason"):
        building.make_builder(trt, logger)
    logger.log(ILogger.ERROR, "CUDA initialization failure with error: 100")
    with refused("driver", "TensorRT does not start: CUDA initialization failure with error: 100"):
        building.make_builder(trt, logger)


@pytest.mark.parametrize(
    ("errors", "skipped", "kind"),
    [
        ([], 0, "build"),
        (["odd"], 5, "build"),
        (["CUDA Out Of Memory"], 0, "memory"),
        (["cudaErrorMemoryAllocation OutOfMemory"], 0, "memory"),
        (["insufficient workspace"], 0, "memory"),
        (["Unable to load library libx"], 0, "library"),
        (["Could not find any implementation for node a"], 0, "build"),
        (["Could not find any implementation for node a"], 1, "memory"),
        (
            ["Unable to load library libx", "Could not find any implementation for node a"],
            1,
            "library",
        ),
        (["out of memory", "Unable to load library libx"], 0, "memory"),
        (["insufficient", "workspace"], 0, "memory"),
    ],
)
def test_what_a_failed_build_means(errors: list[str], skipped: int, kind: str) -> None:
    assert building.meaning(SimpleNamespace(errors=errors, skipped=skipped)) == kind


def test_nothing_of_the_network_is_assumed() -> None:
    """The recorder's network has as many layers as it was given."""
    assert INetworkDefinition(0, ("a",), 1, (1,)).num_layers == 1
