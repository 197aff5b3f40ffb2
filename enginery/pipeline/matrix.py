"""artifacts/matrix.yaml: every graph and engine of params.yaml, written out for dvc.yaml.

DVC's own `matrix` is a full product, and a model may have its own targets and precisions. So
dvc.yaml makes its stages from this file by `foreach`. Commit it: `dvc repro` reads it before
anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from enginery.errors import EngineryError
from enginery.project.engine_name import INT8
from enginery.project.params import Spec
from enginery.project.paths import MATRIX
from enginery.system.files import atomic_write

_HEAD = "# Written by Enginery from params.yaml. Commit it: dvc.yaml makes its stages from it.\n"
_FLOATS = ("fp32", "fp16")
Named = Mapping[str, Mapping[str, str]]


def matrix(spec: Spec) -> dict[str, Named]:
    """What dvc.yaml's stages are made from, by the name that DVC puts behind the @."""
    engines = spec.engines()
    models = list(dict.fromkeys(engine.model for engine in engines))
    graphs = {(engine.model, engine.precision) for engine in engines}
    return {
        "models": {
            name: {"source": spec.models[name].source, "validation": spec.models[name].validation}
            for name in models
        },
        "calibrated": {
            name: {"calibration": spec.int8[name].calibration}
            for name in models
            if (name, INT8) in graphs
        },
        # A weakly typed TensorRT builds every precision from the graph in fp32.
        "graphs": {
            f"{name}-{precision}": {"model": name, "precision": precision}
            for name in models
            for precision in _FLOATS
            if precision == "fp32" or (name, precision) in graphs
        },
        "validations": {
            f"{engine.model}-{engine.precision}": {
                "model": engine.model,
                "precision": engine.precision,
            }
            for engine in engines
        },
        "engines": {
            f"{engine.model}-{engine.target}-{engine.precision}": {
                "model": engine.model,
                "target": engine.target,
                "precision": engine.precision,
            }
            for engine in engines
        },
        "toolchains": {name: {"toolchain": name} for name in spec.toolchains},
    }


def write_matrix(spec: Spec) -> bool:
    """Bring the file up to date; whether it was not."""
    text = matrix_text(spec)
    if MATRIX.is_file() and MATRIX.read_text(encoding="utf-8") == text:
        return False
    MATRIX.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(MATRIX) as partial:
        partial.write_text(text, encoding="utf-8")
    return True


def check_matrix(spec: Spec) -> None:
    """Make sure that DVC read what params.yaml asks for now.

    Raises:
        EngineryError: it read an older file, which is brought up to date.
    """
    if write_matrix(spec):
        what = f"params.yaml asks for other engines than {MATRIX}, which is written anew"
        raise EngineryError(what, "Run `dvc repro` again, and commit both files")


def matrix_text(spec: Spec) -> str:
    """The file."""
    values: dict[str, Any] = {"stages": matrix(spec)}
    return _HEAD + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
