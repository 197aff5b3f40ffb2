"""Features that a build asks for in vain."""

from __future__ import annotations

from typing import Any

from enginery import runtimes
from enginery.project.target import Target
from enginery.toolchain.requests import ToolchainInfo


def asked(version: str, *has: str, runtime: str = "tensorrt", **options: Any) -> list[str]:
    info = ToolchainInfo(runtime, version, "3.11", "linux", has, ())
    target = Target(runtime="tensorrt", **options)
    return list(runtimes.find(runtime).mistakes("mine", target, info))


def test_what_is_asked_for_in_vain() -> None:
    assert asked("8.4.3.1") == [
        "targets.mine: tensorrt 8.4.3.1 is too old; 8.5 to 11 are supported"
    ]
    assert asked("8.5") == asked("8.10.1") == asked("10.0") == asked("11.4.0.106") == []
    assert asked("7.9.9") == ["targets.mine: tensorrt 7.9.9 is too old; 8.5 to 11 are supported"]
    assert sorted(asked("8.5.1", sparsity=True, dla_core=0)) == [
        "targets.mine.dla_core: tensorrt 8.5.1 has no DLA: leave it out, or use TensorRT 10",
        "targets.mine.sparsity: tensorrt 8.5.1 has no sparsity: leave it out",
    ]
    assert asked("8.5.1", "sparsity", sparsity=True) == []
    assert asked("11.0", calibration="native") == [
        "targets.mine.calibration: 'native': tensorrt 11.0 has no calibrators: use `portable`, whose ranges become Q/DQ nodes"
    ]
    assert (
        asked("10.0", "calibrators", calibration="native")
        == asked("11.0", calibration="portable")
        == []
    )
    assert asked("1.0", runtime="tensorrt_rtx", sparsity=True) == []
