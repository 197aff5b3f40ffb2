"""What every part of the child program needs: the event stream, refusals, TensorRT's log, and
files.
"""

import contextlib
import glob
import hashlib
import importlib
import json
import os

NO_RANGE = "Missing scale and zero-point for tensor"
# Said at severity ERROR by 8.6 of every timing cache that it wrote itself; the rest of the cache is
# used.
HARMLESS = ("myelinCache.h::deserializeFromBuffer", "The timing cache will not be used")
SKIPPED = ("Skipping tactic", "insufficient memory")  # with both, once for each tactic
NO_ROOM = "insufficient to use tactic"  # said before it


class RefusedError(Exception):
    """The request cannot be done; `kind` tells the client which error to raise."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Out:
    """The event stream. File descriptor 1 itself goes to standard error, for
    libraries that print.
    """

    def __init__(self):
        self.stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event, **fields):
        self.stream.write(json.dumps(dict(fields, event=event)) + "\n")
        self.stream.flush()


def load(runtime):
    try:
        return importlib.import_module(runtime)
    except (
        ImportError,
        OSError,
    ) as error:  # a package that loads its libraries itself raises the second
        raise RefusedError("toolchain", "cannot import {}: {}".format(runtime, error))


def load_plugins(trt, logger):
    """Register NVIDIA's own plugins, EfficientNMS among them."""
    trt.init_libnvinfer_plugins(logger, "")


def make_logger(trt, out):
    class Logger(trt.ILogger):
        """Passes TensorRT's messages on; `errors` are kept, tactics without room are counted in
        `skipped`.
        """

        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors = []
            self.skipped = 0

        def log(self, severity, message):
            if any(words in message for words in HARMLESS):
                out.send("log", severity="debug", message=message)
            elif severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)
                out.send("log", severity="error", message=message)
            elif all(words in message for words in SKIPPED):
                self.skipped += 1
                out.send("log", severity="debug", message=message)
            elif NO_ROOM in message:
                out.send("log", severity="debug", message=message)
            elif severity == trt.ILogger.WARNING and message.startswith(NO_RANGE):
                out.send(
                    "log", severity="debug", message=message
                )  # one line for each tensor around a layer in fp16
            elif severity == trt.ILogger.WARNING:
                out.send("log", severity="warning", message=message)
            elif severity == trt.ILogger.INFO:
                out.send("log", severity="debug", message=message)

        def reason(self):
            """The last errors in one line."""
            return "; ".join(self.errors[-3:])

    return Logger()


def read_plan(request):
    """A plan's bytes. An engine is code: its digest comes before the load."""
    with open(request["plan"], "rb") as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != request["plan_sha256"]:
        raise RefusedError("integrity", "its digest is not the one recorded")
    return data


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path, data):
    """As `enginery.system.files.replacing`, and with its names: either finds what a killed one left
    behind.
    """
    folder, name = os.path.split(os.path.abspath(path))
    sweep(folder, name)
    partial = os.path.join(folder, ".{}.{}.part".format(name, os.getpid()))
    try:
        write(partial, data)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    sync_folder(folder)


def sweep(folder, name):
    pattern = os.path.join(glob.escape(folder), ".{}.*.part".format(glob.escape(name)))
    for partial in glob.glob(pattern):
        pid = partial.split(".")[-2]
        if pid.isdecimal() and not os.path.exists("/proc/" + pid):
            with contextlib.suppress(OSError):
                os.unlink(partial)


def sync_folder(folder):
    """Wait until a folder's names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
