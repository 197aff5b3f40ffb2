"""Where an engine's report lies, and its shape."""

from __future__ import annotations

from typing import Any

from enginery.project.paths import engine_report

PATH = engine_report("m", "server", "fp16")
Report = dict[str, Any]
