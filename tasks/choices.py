"""What TensorRT chose in a build, and what it takes to choose so again."""

from __future__ import annotations

import shutil
from typing import Any

from enginery.project.paths import kept_timing
from enginery.report.events import log
from enginery.system.files import atomic_write, sha256
from enginery.toolchain.precisions import fallen_back, shares
from enginery.toolchain.requests import BuildRequest, BuildResult


def choices(request: BuildRequest, result: BuildResult) -> dict[str, Any]:
    """For the record: the precisions of layers, and the timing cache, which is kept."""
    chosen: dict[str, Any] = {}
    if result.layers:
        chosen["precisions"] = shares(result.layers)
    fallback = fallen_back(result.layers, request.precision)
    if fallback:
        log(f"{len(fallback)} layers run in fp32: {', '.join(fallback[:5])}", "warning")
        chosen["fp32_fallback"] = fallback
    if request.timing_cache and request.timing_cache.is_file():
        digest = sha256(request.timing_cache)
        kept = kept_timing(request.timing_cache.parent, digest)
        kept.parent.mkdir(exist_ok=True)
        with atomic_write(kept) as partial:
            shutil.copyfile(request.timing_cache, partial)
        chosen["timing_cache_sha256"] = digest
    return chosen
