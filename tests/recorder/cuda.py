"""What records the GPU in place of pycuda: memory, streams, events and copies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np


class Memory:
    """Bytes on the GPU, at an address of their own."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.cuda, self.size, self.freed = cuda, size, False
        self.address = 1000 + len(cuda.memory)
        self.values: Any = None

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        assert not self.freed
        self.freed = True


class Event:
    """Each event comes a millisecond (or what the test says) after the one before."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.at: float | None = None
        self.waited = False

    def record(self, stream: Any) -> None:
        assert stream in self.cuda.streams
        self.at = self.cuda.clock()

    def synchronize(self) -> None:
        self.waited = True

    def time_since(self, other: Event) -> float:
        assert self.waited
        assert self.at is not None
        assert other.at is not None
        return self.at - other.at


class Stream:
    """A stream with its handle."""

    def __init__(self, number: int) -> None:
        self.handle = number
        self.waits = 0

    def synchronize(self) -> None:
        self.waits += 1


class Cuda:
    """pycuda.driver as the child program uses it."""

    class Error(Exception):
        """What pycuda raises."""

    def __init__(self, devices: int = 1) -> None:
        self.memory: list[Memory] = []
        self.streams: list[Stream] = []
        self.pinned: list[Any] = []
        self.calls: list[Any] = []
        self.now = 0.0
        outer = self

        class Device:
            """The GPU of this index."""

            def __init__(self, index: int) -> None:
                assert index < devices
                self.index = index

            @staticmethod
            def count() -> int:
                return devices

            def name(self) -> str:
                return f"Card {self.index}"

            def compute_capability(self) -> tuple[int, int]:
                return (8, 6 + self.index)

            def total_memory(self) -> int:
                return (24564 << 20) + 5

            def retain_primary_context(self) -> Any:
                outer.calls.append(("retain", self.index))
                return SimpleNamespace(
                    push=lambda: outer.calls.append("push"),
                    detach=lambda: outer.calls.append("detach"),
                )

        self.Device = Device
        self.Context = SimpleNamespace(pop=lambda: outer.calls.append("pop"))

    def init(self) -> None:
        self.calls.append("init")

    def get_driver_version(self) -> int:
        return 12080

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def mem_alloc(self, size: int) -> Memory:
        self.memory.append(Memory(self, size))
        return self.memory[-1]

    def pagelocked_zeros(self, shape: tuple[int, ...], kind: Any) -> Any:
        self.pinned.append(np.zeros(shape, kind))
        return self.pinned[-1]

    def Stream(self) -> Stream:  # noqa: N802
        self.streams.append(Stream(77 + len(self.streams)))
        return self.streams[-1]

    def Event(self) -> Event:  # noqa: N802
        return Event(self)

    def memcpy_htod(self, memory: Memory, values: Any) -> None:
        assert values.flags.c_contiguous
        memory.values = np.array(values)

    def memcpy_htod_async(self, memory: Memory, values: Any, stream: Stream) -> None:
        assert stream in self.streams
        memory.values = np.array(values)
        self.calls.append(("to the GPU", int(memory)))

    def memcpy_dtoh_async(self, values: Any, memory: Memory, stream: Stream) -> None:
        assert stream in self.streams
        values[...] = memory.values
        self.calls.append(("from the GPU", int(memory)))
