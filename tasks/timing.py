"""timing: what the builds of a toolchain measured of TensorRT's kernels, for DVC to keep. The
builds themselves write it.

In a new checkout DVC restores it before this is run; what is run then finds nothing there because
nothing was kept yet.
"""

from __future__ import annotations

from enginery.project.paths import ARTIFACTS, Step
from enginery.report.events import log
from enginery.system.files import sweep_below
from tasks.command import run_step


def keep_timings(step: Step) -> None:
    """Make sure that there is a folder to keep, and say what is in it."""
    folder = ARTIFACTS / "timing" / step.toolchain
    folder.mkdir(parents=True, exist_ok=True)
    sweep_below(folder)  # DVC would keep what a killed build left there
    log(f"{len(list(folder.rglob('*.timing')))} timing caches of {step.toolchain}")


if __name__ == "__main__":
    run_step("timing", keep_timings, "toolchain")
