"""Whose turn it is on a GPU, among all runs of Enginery on this machine."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from enginery.errors import GpuError
from enginery.gpu.inventory import Gpu, check_room

TURNS = Path("/tmp")  # the same for every user of the machine, whatever their TMPDIR


@contextmanager
def reserved(gpu: Gpu | None, needed_mib: int, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Have a GPU to oneself, with memory free: beside other work TensorRT's timings are false. No
    GPU: nothing to wait for.

    Raises:
        GpuError: it has no room.
    """
    if not gpu:
        yield
        return
    with gpu_lock(gpu.uuid, on_wait):
        check_room(gpu, needed_mib)
        yield


@contextmanager
def gpu_lock(name: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Have a GPU to oneself, among all runs of Enginery on this machine; `on_wait` is told whom one
    waits for.

    The lock is the kernel's: it goes with the process that holds it, however that ends.

    Raises:
        GpuError: something else lies in the place of the lock.
    """
    path = TURNS / f"enginery-{name}.lock"
    descriptor = _locked(path, name, on_wait)
    try:
        with suppress(OSError):  # opened for reading only: it is another user's
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path, name: str, on_wait: Callable[[str], None]) -> int:
    """The lock's file, open and held."""
    while True:
        descriptor = _open_lock(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait(f"waiting for GPU {name}: {_holder(descriptor)} uses it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _lies_at(path, descriptor):  # one that was removed meanwhile keeps nobody out
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """Open the lock that all users of the machine share, or make it.

    Everybody can write in its folder: what another user planted in its place is neither followed
    nor changed.

    Raises:
        GpuError: it is no plain file, or cannot be opened.
    """
    careful = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    made = os.O_RDWR | os.O_CREAT | os.O_EXCL
    for flags in (os.O_RDWR, os.O_RDONLY, made) * 3:  # another run may make it at this very moment
        try:
            descriptor = os.open(path, flags | careful, 0o666)
        except (PermissionError, FileNotFoundError, FileExistsError) as error:
            refused = str(error.strerror)
            continue
        except OSError as error:
            raise _no_lock(path, str(error.strerror)) from None
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            os.close(descriptor)
            raise _no_lock(path, "it is no plain file, or has a second name")
        if flags == made:
            os.fchmod(descriptor, 0o666)  # other users' runs wait here, too, whatever the umask
        return descriptor
    raise _no_lock(path, refused)


def _no_lock(path: Path, why: str) -> GpuError:
    what = f"{path} cannot serve as the lock of the GPU: {why}"
    return GpuError(what, "Remove it, or have its owner remove it, then run again")


def _lies_at(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _holder(descriptor: int) -> str:
    """Who says in the lock's file that it holds it; a run that could only read the file cannot say
    so.
    """
    said = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
    return (
        f"process {said}"
        if said.isascii() and said.isdecimal() and Path(f"/proc/{said}").exists()
        else "another process"
    )
