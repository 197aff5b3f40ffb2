"""What a host finds out about itself, and which engines run there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from enginery.gpu import inventory
from enginery.registry.host import Card, Host, InstalledRuntime
from enginery.toolchain import host as looking
from enginery.toolchain.host import HostOptions, find_host
from enginery.toolchain.requests import ToolchainInfo

GPU = inventory.Gpu(0, "GPU-1", "NVIDIA L4", "8.9", 23034, "580.1", "13.0", None, None)
ORIN = {"gpu": "Orin", "compute_capability": "8.7"}


def test_this_host_has_what_its_own_interpreter_loads() -> None:
    host = find_host()
    assert InstalledRuntime("tensorrt_rtx", "1.7.1.116") in host.runtimes
    assert host.platform == f"{sys.platform}_{looking.platform.machine()}"


def test_gpus_of_the_driver_and_of_toolchains_and_a_jetsons_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(python: Path, runtime: str) -> ToolchainInfo:
        if python.name != "service" or runtime != "tensorrt":
            raise looking.ToolchainError("there is none")
        return ToolchainInfo(runtime, "10.3.0.30", "3.10", "linux_aarch64", (), (), (ORIN,))

    monkeypatch.setattr(looking, "probe", probe)
    monkeypatch.setattr(inventory, "gpus", lambda: (GPU,))
    board, release = tmp_path / "model", tmp_path / "nv_tegra_release"
    board.write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    release.write_text("# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic\n")
    monkeypatch.setattr(looking, "_BOARD_FILE", board)
    monkeypatch.setattr(looking, "_TEGRA_FILE", release)
    options = HostOptions(toolchains=[Path("service")], platform="linux_aarch64")
    assert find_host(options) == Host(
        "linux_aarch64",
        (Card("8.9", "NVIDIA L4"), Card("8.7", "Orin")),
        (InstalledRuntime("tensorrt", "10.3.0.30"),),
        ("driver 580.1 (CUDA 13.0)", "NVIDIA Jetson AGX Orin Developer Kit", "L4T 36.4.0"),
    )
    given = HostOptions("T4", "7.5", ["tensorrt==8.6", "tensorrt_rtx==1.7"])
    described = find_host(given)
    assert described.cards == (Card("7.5", "T4"),)
    assert str(described).startswith("T4 (7.5); tensorrt 8.6, tensorrt_rtx 1.7; ")
