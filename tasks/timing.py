"""timing: what a toolchain's builds measured of TensorRT's kernels, for DVC to keep.

The builds themselves write it. In a new checkout DVC restores it before this is run; what is run
then finds nothing, because nothing was kept yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.paths import ARTIFACTS
from enginery.project.stage import Stage
from enginery.report.events import log
from enginery.system.files import sweep_below


@dataclass(frozen=True)
class Parameters:
    """Whose kernels."""

    toolchain: str


def parameters(project: Project, stage: Stage) -> Parameters:
    """Nothing but the toolchain's name."""
    return Parameters(stage.toolchain)


@step("timing", version=1, of=("toolchain",), parameters=parameters)
def keep_timings(job: Job[Parameters]) -> None:
    """Make sure that there is a folder to keep, and say what is in it."""
    name = job.parameters.toolchain
    folder = ARTIFACTS / "timing" / name
    folder.mkdir(parents=True, exist_ok=True)
    sweep_below(folder)  # DVC would keep what a killed build left there
    log(f"{len(list(folder.rglob('*.timing')))} timing caches of {name}")


if __name__ == "__main__":
    keep_timings.main()
