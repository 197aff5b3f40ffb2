"""onnxsim, in a child process; its graph is used only if its outputs equal the original's on real images."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from enginery.errors import EngineryError
from enginery.files import replacing
from enginery.graphs.inspect import clean, info_of, read_graph, save
from enginery.graphs.session import open_session

MAX_DIFFERENCE = 1e-4  # of the largest value of each output
Feeds = Iterable[Mapping[str, NDArray[np.float32]]]


def simplify(source: Path, out: Path, feeds: Feeds, time_limit: float) -> dict[str, Any]:
    """Write the simplified graph, or, where that fails for any reason, the original; `simplified` and `reason` say which."""
    original = read_graph(source)
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / "simplified.onnx"
        reason = _run(source, candidate, time_limit)
        facts: dict[str, Any] = {"simplified": not reason, "reason": reason, "nodes_before": info_of(original).nodes}
        if not reason:
            facts |= _compare(source, candidate, feeds)
        chosen = read_graph(candidate) if facts["simplified"] else original
    kept = {entry.key: entry.value for entry in original.metadata_props}
    with replacing(out) as partial:
        save(clean(chosen, kept), partial)
    return {**facts, "nodes_after": info_of(chosen).nodes}


def _run(source: Path, out: Path, time_limit: float) -> str:
    """Run onnxsim; returns why it failed, or nothing."""
    command = [sys.executable, "-m", "enginery.graphs.simplify", str(source), str(out)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=time_limit, check=False)
    except subprocess.TimeoutExpired:
        return f"onnxsim was stopped at its time limit of {time_limit:g} s"
    if child.returncode:
        last = child.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return f"onnxsim ended with {child.returncode}: {last[0]}"
    return ""


def _compare(source: Path, candidate: Path, feeds: Feeds) -> dict[str, Any]:
    try:
        worst = _difference(source, candidate, feeds)
    except EngineryError as error:
        return {"simplified": False, "reason": str(error)}
    # A comparison with NaN is false: NaN counts as a difference.
    if not worst <= MAX_DIFFERENCE:
        return {"simplified": False, "reason": f"its outputs differ by {worst:.2g} of the largest value"}
    return {"max_difference": worst}


def _difference(source: Path, candidate: Path, feeds: Feeds) -> float:
    before, after = open_session(source), open_session(candidate)
    worst = 0.0
    for feed in feeds:
        for expected, found in zip(before.run(None, dict(feed)), after.run(None, dict(feed)), strict=True):
            worst = max(worst, float(np.max(np.abs(expected - found)) / max(float(np.max(np.abs(expected))), 1e-12)))
    return worst


def _main(source: str, out: str) -> None:
    import onnxsim

    simplified, _ = onnxsim.simplify(onnx.load(source))
    Path(out).write_bytes(simplified.SerializeToString())


if __name__ == "__main__":
    _main(*sys.argv[1:])
