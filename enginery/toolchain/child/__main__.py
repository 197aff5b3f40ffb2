"""The child program of a toolchain: one TensorRT, one request, then gone. Self-contained: Python
3.8+, the TensorRT module, and NumPy and pycuda where a GPU is touched.

One JSON request comes in on standard input, in one line (serving.py reads on); JSON lines go out
on standard output:
    {"event": "log", "severity": ..., "message": ...}    what TensorRT says
    {"event": "progress", "phase": ..., "step": ..., "steps": ...}
and last {"event": "result", ...} (exit 0) or {"event": "error", "kind": ..., "message": ...} (exit
1).
"""

import ctypes
import importlib
import json
import signal
import sys

from base import Out, RefusedError, read_plan

PR_SET_PDEATHSIG = 1
WORK = {
    "probe": "probing",
    "build": "building",
    "refit": "refitting",
    "measure": "running",
    "inspect": "inspecting",
    "serve": "serving",
}


def die_with_parent():
    """A builder without its client would go on for minutes and write for nobody."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main():
    die_with_parent()
    out = Out()
    request = json.loads(sys.stdin.readline())
    try:
        if "plan_sha256" in request:
            request["data"] = read_plan(request)
        importlib.import_module(WORK[request["do"]]).main(request, out)
    except RefusedError as refused:
        return fail(out, refused.kind, refused)
    except ImportError as error:
        return fail(out, "pycuda", error)
    except MemoryError:
        return fail(out, "memory", "out of memory")
    except OSError as error:
        return fail(
            out,
            "file",
            "{}: {}".format(error.strerror or error, error.filename or request.get("plan", "")),
        )
    except Exception as error:
        if not type(error).__module__.startswith("pycuda"):
            raise
        return fail(out, "gpu", error)
    return 0


def fail(out, kind, message):
    out.send("error", kind=kind, message=" ".join(str(message).split()))
    return 1


if __name__ == "__main__":
    sys.exit(main())
