"""What this host is: its GPUs, and the runtimes of its toolchains."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enginery import runtimes
from enginery.errors import EngineryError, ToolchainError
from enginery.gpu import inventory
from enginery.project.target import OWN_INTERPRETER
from enginery.registry.host import Card, Host, InstalledRuntime
from enginery.toolchain.client import probe
from enginery.toolchain.environments import FOLDER
from enginery.toolchain.requests import ToolchainInfo

_VERSION = re.compile(r"\d+(\.\d+)*")
_CAPABILITY = re.compile(r"\d+\.\d+")
_TEGRA = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
_TEGRA_FILE, _BOARD_FILE = Path("/etc/nv_tegra_release"), Path("/proc/device-tree/model")


@dataclass(frozen=True)
class HostOptions:
    """What to believe of a host instead of looking: the name and compute capability of its GPU, its
    runtimes (`tensorrt==10.16.1.11`) and platform; and interpreters to look into.
    """

    gpu: str | None = None
    compute_capability: str | None = None
    runtimes: Sequence[str] = ()
    platform: str | None = None
    toolchains: Sequence[Path] = ()


def find_host(options: HostOptions = HostOptions()) -> Host:
    """This host, or the one that the options describe.

    Raises:
        EngineryError: an option is not understood.
    """
    given = tuple(map(_runtime, options.runtimes))
    cards = _given_card(options)
    toolchains = [] if given and cards else list(_toolchains(options.toolchains))
    listed = [] if cards else inventory.gpus()
    seen = [Card(gpu["compute_capability"], gpu["gpu"]) for info in toolchains for gpu in info.gpus]
    own = [Card(gpu.compute_capability, gpu.name) for gpu in listed]
    probed = [InstalledRuntime(info.runtime, info.version) for info in toolchains]
    return Host(
        platform=options.platform or this_platform(),
        cards=cards or tuple(dict.fromkeys([*own, *seen])),
        runtimes=given or tuple(dict.fromkeys(probed)),
        notes=(*(f"driver {gpu.driver} (CUDA {gpu.cuda})" for gpu in listed[:1]), *_jetson()),
    )


def this_platform() -> str:
    """This host's system and processor: linux_x86_64."""
    return f"{sys.platform}_{platform.machine()}"


def _given_card(options: HostOptions) -> tuple[Card, ...]:
    capability = options.compute_capability
    if capability is None and options.gpu is None:
        return ()
    if capability is None or not _CAPABILITY.fullmatch(capability):
        what = f"--gpu {options.gpu} alone does not say what runs on it"
        if capability is not None:
            what = f"--compute-capability {capability!r} is none"
        raise EngineryError(what, "Add its compute capability: --compute-capability 8.9")
    return (Card(capability, options.gpu or ""),)


def _runtime(text: str) -> InstalledRuntime:
    name, _, version = text.partition("==")
    if name not in runtimes.names() or not _VERSION.fullmatch(version):
        known = ", ".join(f"{each}==VERSION" for each in runtimes.names())
        raise EngineryError(f"--runtime {text!r} is not understood", f"Give {known}")
    return InstalledRuntime(name, version)


def _toolchains(pythons: Sequence[Path]) -> Iterator[ToolchainInfo]:
    """What works of every interpreter at hand: a named one, those made here, and Enginery's own."""
    made = sorted(FOLDER.glob("*/bin/python"))
    asked = [
        (python, name) for python in (*pythons, *made, OWN_INTERPRETER) for name in runtimes.names()
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        yield from filter(None, pool.map(lambda each: _probe(*each), asked))


def _probe(python: Path, runtime: str) -> ToolchainInfo | None:
    with suppress(ToolchainError):  # it has no such runtime
        return probe(python, runtime)
    return None


def _jetson() -> Iterator[str]:
    with suppress(OSError):
        yield _BOARD_FILE.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    with suppress(OSError):
        release = _TEGRA.match(_TEGRA_FILE.read_text(encoding="utf-8", errors="replace"))
        if release:
            yield f"L4T {release[1]}.{release[2]}"
