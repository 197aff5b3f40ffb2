"""Which variables of the environment a step or a toolchain gets: an allow-list, and never a
credential.

`dvc` itself needs the remote's credentials, so a step inherits them and drops them before it reads
a model; a toolchain's child never gets them. This keeps them out of what a library, a plugin or a
crash report logs or sends. It is no wall: a process of the same user can still read the environment
of the command that started it (/proc), and files such as ~/.aws/credentials. Code that must not
know a secret belongs to another user, or into a container.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_NAMES = frozenset(
    {
        "COLORTERM",
        "COLUMNS",
        "FORCE_COLOR",
        "HOME",
        "HOSTNAME",
        "LANG",
        "LANGUAGE",
        "LINES",
        "LNAME",
        "LOGNAME",
        "NO_COLOR",
        "PATH",
        "PWD",
        "SHELL",
        "TEMP",
        "TERM",
        "TMP",
        "TMPDIR",
        "TZ",
        "USER",
        "USERNAME",
        "VIRTUAL_ENV",
    }
)
_PREFIXES = (
    "CONDA_",
    "CUBLAS_",
    "CUDA_",
    "CUDNN_",
    "ENGINERY_",
    "GOMP_",
    "KMP_",
    "LC_",
    "LD_",
    "MALLOC_",
    "MKL_",
    "MPL",
    "NVIDIA_",
    "OMP_",
    "ONNXRUNTIME_",
    "OPENBLAS_",
    "OPENCV_",
    "ORT_",
    "PYTHON",
    "PYTORCH_",
    "TENSORRT_",
    "TORCH_",
    "TRT_",
    "ULTRALYTICS_",
    "XDG_",
    "YOLO_",
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|PROXY", re.IGNORECASE)


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a step or a toolchain may have."""
    return {name: value for name, value in environment.items() if _is_allowed(name)}


def drop_credentials() -> None:
    """Take every other variable out of this process's environment, and so out of its children's."""
    for name in [name for name in os.environ if not _is_allowed(name)]:
        del os.environ[name]


def _is_allowed(name: str) -> bool:
    return (name in _NAMES or name.startswith(_PREFIXES)) and not _SECRET.search(name)
