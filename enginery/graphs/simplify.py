"""onnxsim, in a child process; its graph is used only if its outputs equal the original's on real
images.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from enginery.errors import DiskFullError, EngineryError
from enginery.graphs.external import SUFFIX, write_graph
from enginery.graphs.inspect import info_of, read_graph, strip_metadata
from enginery.graphs.session import open_session
from enginery.system.files import is_full, scratch

MAX_DIFFERENCE = 1e-4  # of the largest value of each output
_FULL = 28  # the child's exit code where it had no room to write
Feeds = Iterable[Mapping[str, NDArray[np.float32]]]


def simplify(source: Path, out: Path, feeds: Feeds, time_limit: float) -> dict[str, Any]:
    """Write the simplified graph, or, where that fails for any reason, the original; `simplified`
    and `reason` say which.
    """
    original = read_graph(source)
    kept = {entry.key: entry.value for entry in original.metadata_props}
    with scratch(out.parent) as folder:  # it may be larger than TMPDIR
        candidate = folder / "simplified.onnx"
        reason = _run(source, candidate, time_limit)
        outcome: dict[str, Any] = {
            "simplified": not reason,
            "reason": reason,
            "nodes_before": info_of(original).nodes,
        }
        if not reason:
            outcome |= _compare(source, candidate, feeds)
        chosen = read_graph(candidate) if outcome["simplified"] else original
        write_graph(strip_metadata(chosen, kept), out)
    return {**outcome, "nodes_after": info_of(chosen).nodes}


def _run(source: Path, out: Path, time_limit: float) -> str:
    """Run onnxsim; returns why it failed, or nothing."""
    command = [sys.executable, "-m", "enginery.graphs.simplify", str(source), str(out)]
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"onnxsim was stopped at its time limit of {time_limit:g} s"
    if child.returncode == _FULL:
        raise DiskFullError(out)
    if child.returncode:
        last = child.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return f"onnxsim ended with {child.returncode}: {last[0]}"
    return ""


def _compare(source: Path, candidate: Path, feeds: Feeds) -> dict[str, Any]:
    try:
        # One after the other: a large graph takes as much memory as it has bytes.
        images = [dict(feed) for feed in feeds]
        reason, worst = _difference(_run_all(source, images), _run_all(candidate, images))
    except EngineryError as error:
        return {"simplified": False, "reason": str(error)}
    if reason:
        return {"simplified": False, "reason": reason}
    return {"max_difference": worst}


def _run_all(graph: Path, images: Iterable[Mapping[str, Any]]) -> list[NDArray[Any]]:
    """Every output for every image."""
    session = open_session(graph)
    return [np.asarray(output) for image in images for output in session.run(None, dict(image))]


def _difference(before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]]) -> tuple[str, float]:
    """Why outputs count as different, or nothing, and the largest difference relative to each
    output's largest value.
    """
    if [output.shape for output in before] != [output.shape for output in after]:
        return "its outputs have other shapes", math.nan
    worst = 0.0
    for expected, actual in zip(before, after, strict=True):
        if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
            return "an output has NaN or infinite values", math.nan
        if expected.dtype.kind != "f":
            expected, actual = expected.astype(np.float64), actual.astype(np.float64)
        largest = max(float(np.max(np.abs(expected), initial=0)), 1e-12)
        worst = max(worst, float(np.max(np.abs(expected - actual), initial=0) / largest))
    if worst > MAX_DIFFERENCE:
        return f"its outputs differ by {worst:.2g} of the largest value", worst
    return "", worst


def _main(source: str, out: str) -> None:
    import onnxsim

    try:
        if Path(source + SUFFIX).exists():  # no message of protobuf holds it
            onnxsim.simplify(source, output_path=out)
            return
        simplified, _ = onnxsim.simplify(onnx.load(source))
        Path(out).write_bytes(simplified.SerializeToString())
    except OSError as error:
        if is_full(error):
            sys.exit(_FULL)
        raise


if __name__ == "__main__":
    _main(*sys.argv[1:])
