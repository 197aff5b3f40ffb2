"""A step of a few lines, run as dvc.yaml does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

LOG = "artifacts/logs/export-m.txt"


def step(checkout: Path, work: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step of these lines, as dvc.yaml does; its job is `job`."""
    lines = "\n".join(f"    {line}" for line in work.splitlines())
    code = (
        "from enginery.pipeline.step import step\n"
        f"@step('export', version=1, of=('model',))\ndef work(job):\n{lines}\nwork.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", code, "m"]
    return subprocess.run(
        command,
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
