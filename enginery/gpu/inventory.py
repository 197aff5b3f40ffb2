"""The machine's GPUs, as NVIDIA's management library tells: which there are, how free and how fast
they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pynvml

from enginery.errors import GpuError


@dataclass(frozen=True)
class Gpu:
    """A GPU; memory in MiB, clocks in MHz; None: it does not tell.

    `index` is in the order of the PCI bus, as nvidia-smi counts.
    """

    index: int
    uuid: str
    name: str
    compute_capability: str
    memory_mib: int | None
    driver: str
    cuda: str
    max_sm_clock: int | None
    max_memory_clock: int | None


@dataclass(frozen=True)
class GpuState:
    """A GPU just now: MiB free, MHz, degrees Celsius, watts, and the processes
    on it as (pid, MiB).
    """

    free_mib: int | None
    sm_clock: int | None
    memory_clock: int | None
    temperature: int | None
    power: float | None
    processes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Clocks:
    """What a GPU's clocks were while it was timed; every event goes on to `show`."""

    gpu: Gpu | None
    show: Callable[[Mapping[str, Any]], None]
    seen: list[dict[str, Any]] = field(default_factory=list)

    def follow(self, event: Mapping[str, Any]) -> None:
        """Look at the clocks whenever a timing begins or ends."""
        if self.gpu and str(event.get("phase", "")).startswith("timing"):
            now = state(self.gpu)
            self.seen.append(
                {
                    "sm": now.sm_clock,
                    "memory": now.memory_clock,
                    "celsius": now.temperature,
                    "watts": now.power,
                }
            )
        self.show(event)


def gpus() -> tuple[Gpu, ...]:
    """Every GPU that answers; none where there is no driver or it has no management library."""
    with _library() as library:
        listed = (
            [_ask(_gpu, index) for index in range(pynvml.nvmlDeviceGetCount())] if library else []
        )
    return tuple(gpu for gpu in listed if gpu)


def choose(asked: int | str | None, capability: str | None = None) -> Gpu | None:
    """The GPU with this index or UUID; or the first one visible (CUDA_VISIBLE_DEVICES), of a
    compute capability if one of these has it.

    None where none can be listed.

    Raises:
        GpuError: there are GPUs, and this is none of them.
    """
    present = gpus()
    if not present:
        return None
    given = os.environ.get("CUDA_VISIBLE_DEVICES") if asked is None else str(asked)
    names = (
        [str(gpu.index) for gpu in present]
        if given is None
        else [name.strip() for name in given.split(",")]
    )
    visible = [gpu for name in names for gpu in present if _is_called(gpu, name)]
    if not visible or not _is_called(visible[0], names[0]):
        known = ", ".join(f"{gpu.index} {gpu.name} {gpu.uuid}" for gpu in present)
        raise GpuError(
            f"there is no GPU {names[0] or '(CUDA_VISIBLE_DEVICES is empty)'} on this machine",
            f"It has {known}",
        )
    return next((gpu for gpu in visible if gpu.compute_capability == capability), visible[0])


def _is_called(gpu: Gpu, name: str) -> bool:
    return name == str(gpu.index) or (name.startswith("GPU-") and gpu.uuid.startswith(name))


def state(gpu: Gpu) -> GpuState:
    """How a GPU is doing just now.

    Raises:
        GpuError: it does not answer any more.
    """
    try:
        with _library():
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            memory = _ask(
                pynvml.nvmlDeviceGetMemoryInfo, handle
            )  # shared with the CPU, it is not told
            power = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
            return GpuState(
                free_mib=memory.free >> 20 if memory else None,
                sm_clock=_ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
                memory_clock=_ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
                temperature=_ask(
                    pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU
                ),
                power=None if power is None else power / 1000,
                processes=tuple(
                    (process.pid, (process.usedGpuMemory or 0) >> 20)
                    for process in _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
                ),
            )
    except pynvml.NVMLError as error:
        raise GpuError(
            f"GPU {gpu.index} ({gpu.name}, {gpu.uuid}) does not answer: {error}",
            "Look at nvidia-smi, then run again",
        ) from None


def check_room(gpu: Gpu, needed_mib: int) -> None:
    """Make sure that a GPU has memory free.

    Raises:
        GpuError: it has less than `needed_mib`; says what is on it.
    """
    now = state(gpu)
    if now.free_mib is not None and now.free_mib < needed_mib:
        users = (
            ", ".join(f"process {pid} with {mib} MiB" for pid, mib in now.processes)
            or "no process that can be seen"
        )
        what = (
            f"GPU {gpu.index} ({gpu.name}) has {now.free_mib} of {gpu.memory_mib} MiB free, "
            f"{needed_mib} are needed; on it: {users}"
        )
        raise GpuError(
            what, "Stop what uses it, or name another one: `gpu` of the target in params.yaml"
        )


@contextmanager
def _library() -> Iterator[bool]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    clock = partial(_ask, pynvml.nvmlDeviceGetMaxClockInfo, handle)
    version, memory = (
        pynvml.nvmlSystemGetCudaDriverVersion_v2(),
        _ask(pynvml.nvmlDeviceGetMemoryInfo, handle),
    )
    return Gpu(
        index=index,
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        compute_capability="{}.{}".format(*pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
        memory_mib=memory.total >> 20 if memory else None,
        driver=pynvml.nvmlSystemGetDriverVersion(),
        cuda=f"{version // 1000}.{version % 1000 // 10}",
        max_sm_clock=clock(pynvml.NVML_CLOCK_SM),
        max_memory_clock=clock(pynvml.NVML_CLOCK_MEM),
    )


def _ask(question: Callable[..., Any], *of: Any) -> Any:
    """What the library tells, or None where this GPU or driver does not know."""
    try:
        return question(*of)
    except pynvml.NVMLError:
        return None
