"""demo-data: draw the demo's validation and calibration images. No scene is in both."""

from __future__ import annotations

from pathlib import Path

from enginery.demo.dataset import write_dataset
from enginery.project.paths import Step
from enginery.report.events import log
from enginery.system.files import replacing_folder
from tasks.command import recipe, run_step

FIRST_SEED = {"validation": 1, "calibration": 500_001}


def demo_data(step: Step) -> None:
    """Draw the images and their labels."""
    counts = recipe(step)
    for kind, first in FIRST_SEED.items():
        with replacing_folder(Path("data/demo") / kind) as folder:
            count = write_dataset(folder, range(first, first + counts[f"{kind}_images"]))
        log(f"drew {count} {kind} images")


if __name__ == "__main__":
    run_step("demo-data", demo_data)
