"""demo-data: draw the demo's validation and calibration images. No scene is in both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.stage import Stage
from enginery.report.events import log
from enginery.system.files import atomic_folder

FIRST_SEED = {"validation": 1, "calibration": 500_001}


@dataclass(frozen=True)
class Parameters:
    """How many images are drawn."""

    validation_images: int
    calibration_images: int


def parameters(project: Project, stage: Stage) -> Parameters:
    """As params.yaml says under `demo`."""
    demo = project.spec.demo
    assert demo is not None  # params.yaml without it has no such stage: checked before
    return Parameters(demo.validation_images, demo.calibration_images)


@step("demo-data", version=1, tools=("numpy", "opencv-python"), parameters=parameters)
def demo_data(job: Job[Parameters]) -> None:
    """Draw the images and their labels."""
    from enginery.demo.dataset import write_dataset

    counts = {
        "validation": job.parameters.validation_images,
        "calibration": job.parameters.calibration_images,
    }
    for kind, first in FIRST_SEED.items():
        with atomic_folder(Path("data/demo") / kind) as folder:
            count = write_dataset(folder, range(first, first + counts[kind]))
        log(f"drew {count} {kind} images")


if __name__ == "__main__":
    demo_data.main()
