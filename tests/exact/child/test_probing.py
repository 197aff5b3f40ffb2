"""What a probe tells of an environment: versions, features, compute capabilities and GPUs."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import devices, probing

REAL = [
    "strong typing",
    "fp8",
    "timing cache",
    "editable timing cache",
    "refit",
    "optimization level",
    "sparsity",
    "version compatible",
    "hardware compatible",
    "DLA",
    "progress",
]


def test_what_this_environment_is(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real bindings of TensorRT-RTX."""
    monkeypatch.setattr(probing, "visible_gpus", lambda: ([], "no driver", False))
    probing.main({"runtime": "tensorrt_rtx"}, out)
    [found] = out.sent
    assert found["features"] == REAL
    assert found["compute_capabilities"] == ["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"]
    assert (found["event"], found["runtime"], found["version"]) == (
        "result",
        "tensorrt_rtx",
        "1.7.1.116",
    )
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["platform"] == f"{sys.platform}_{os.uname().machine}"
    assert set(found) == {
        "event",
        "runtime",
        "version",
        "python",
        "platform",
        "features",
        "compute_capabilities",
        "gpus",
        "no_gpu",
        "blind",
    }


def test_a_probe_with_gpus(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the bindings name no compute capabilities, those of the GPUs count."""
    monkeypatch.setattr(
        probing, "load", lambda runtime: tensorrt() if runtime == "tensorrt" else None
    )
    monkeypatch.setattr(
        probing, "full_version", lambda runtime, trt: f"{runtime} {trt.__version__}"
    )
    monkeypatch.setattr(
        probing, "visible_gpus", lambda: ([{"compute_capability": "8.6"}], "why", "blind")
    )
    probing.main({"runtime": "tensorrt"}, out)
    [found] = out.sent
    assert (found["version"], found["compute_capabilities"]) == ("tensorrt 10.16.1", ["8.6"])
    assert (found["gpus"], found["no_gpu"], found["blind"]) == (
        [{"compute_capability": "8.6"}],
        "why",
        "blind",
    )


WEAK = {
    "weak typing": True,
    "strong typing": True,
    "calibrators": True,
    "fp8": False,
    "timing cache": True,
    "editable timing cache": True,
    "refit": True,
    "optimization level": True,
    "sparsity": True,
    "version compatible": True,
    "hardware compatible": True,
    "DLA": True,
    "progress": True,
    "EfficientNMS": False,
}


def test_features_of_each_kind_of_bindings() -> None:
    assert probing.features(tensorrt()) == WEAK
    strong = probing.features(
        tensorrt(
            strong=True,
            without=("IInt8EntropyCalibrator2", "IProgressMonitor", "HardwareCompatibilityLevel"),
        )
    )
    changed = {name for name, has in strong.items() if has != WEAK[name]}
    assert changed == {
        "weak typing",
        "calibrators",
        "editable timing cache",
        "hardware compatible",
        "progress",
    }
    old = tensorrt()
    old.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    old.DataType = SimpleNamespace(FP8=6)
    old.BuilderFlag = SimpleNamespace(FP16=0)
    old.IBuilderConfig = object
    assert [name for name, has in probing.features(old).items() if has] == [
        "weak typing",
        "calibrators",
        "fp8",
        "hardware compatible",
        "progress",
    ]
    strong = tensorrt(strong=True)
    strong.NetworkDefinitionCreationFlag = object
    assert probing.features(strong)["strong typing"]


@pytest.mark.parametrize("kind", ["plugin_creator_list", "all_creators"])
def test_a_plugin_is_looked_for(kind: str) -> None:
    given: list[Any] = []
    registry = SimpleNamespace(**{kind: [SimpleNamespace(name="NMS"), SimpleNamespace(name="b")]})
    trt = SimpleNamespace(
        init_libnvinfer_plugins=lambda *asked: given.append(asked),
        get_plugin_registry=lambda: registry,
    )
    assert probing.has_plugin(trt, "NMS")
    assert not probing.has_plugin(trt, "other")
    assert given == [(None, "")] * 2
    assert not probing.has_plugin(SimpleNamespace(), "NMS")


def test_named_compute_capabilities() -> None:
    names = type(
        "Names", (), {"SM120": 1, "SM75": 2, "SM103": 3, "SMALL": 4, "CURRENT": 5, "XSM80": 6}
    )
    assert probing.named_capabilities(SimpleNamespace(ComputeCapability=names)) == [
        "7.5",
        "10.3",
        "12.0",
    ]
    assert probing.named_capabilities(SimpleNamespace()) == []


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"tensorrt_cu12": "10.16.1.11", "tensorrt_rtx_cu13": "1.7.1.116"}

    class MissingError(Exception):
        pass

    def version(package: str) -> str:
        if package not in installed:
            raise MissingError
        return installed[package]

    monkeypatch.setattr(
        probing, "metadata", SimpleNamespace(version=version, PackageNotFoundError=MissingError)
    )
    module = SimpleNamespace(__version__="8.6.1")
    assert probing.full_version("tensorrt", module) == "10.16.1.11"
    assert probing.full_version("tensorrt_rtx", module) == "1.7.1.116"
    installed.clear()
    assert probing.full_version("tensorrt", module) == "8.6.1"


def test_gpus_that_pycuda_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible", lambda: ([{"gpu": "Card"}], ""))
    assert probing.visible_gpus() == ([{"gpu": "Card"}], "", False)
    monkeypatch.setitem(sys.modules, "devices", None)
    for has in (True, False):
        monkeypatch.setattr(probing, "has_driver", lambda has=has: has)
        words = "NumPy or pycuda does not work: import of devices halted; None in sys.modules"
        assert probing.visible_gpus() == ([], words, has)


def test_a_driver_is_there_if_its_library_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(probing, "ctypes", SimpleNamespace(CDLL=names.append))
    assert probing.has_driver() is True

    def fail(name: str) -> None:
        names.append(name)
        raise OSError

    monkeypatch.setattr(probing, "ctypes", SimpleNamespace(CDLL=fail))
    assert probing.has_driver() is False
    assert names == ["libcuda.so.1"] * 2
