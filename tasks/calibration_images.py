"""calibration-images: the list of a model's calibration images with their digests; none of them may
be a validation image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

from enginery.calibration.cache import SUFFIX
from enginery.errors import DataError
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.inputs import check_plain
from enginery.project.paths import calibration_images_file, images_file
from enginery.project.stage import Stage
from enginery.report.events import log
from enginery.system.files import read_json, sha256, write_json
from enginery.vision.folders import image_folder
from enginery.vision.tasks import Task, Truth


@dataclass(frozen=True)
class Parameters:
    """A folder of images (or a .cache in its place), and how many it must hold."""

    calibration: str
    minimum_images: int
    task: Task
    truth: Truth = "labels"  # without labels there are no folders of classes


def parameters(project: Project, stage: Stage) -> Parameters:
    """As params.yaml says under `int8`."""
    settings = project.int8(stage)
    model = project.model(stage)
    return Parameters(settings.calibration, settings.minimum_images, model.task, model.truth)


@step("calibration-images", version=1, of=("model",), parameters=parameters)
def list_calibration_images(job: Job[Parameters]) -> None:
    """Digest every image, refuse too few and those of the validation, write the list; a .cache in
    their place is digested.
    """
    from enginery.vision.images import list_images

    parameters, model = job.parameters, job.stage.model
    source = Path(parameters.calibration)
    check_plain(source)
    if source.suffix == SUFFIX:
        listed = {"cache_sha256": sha256(source), "images": {}}
        write_json(calibration_images_file(model), listed)
        log(f"{source} takes the place of calibration images")
        return
    images = list_images(source, parameters.task, "calibration", parameters.truth == "labels")
    if len(images) < parameters.minimum_images:
        asked = f"int8.{model}.minimum_images asks for {parameters.minimum_images}"
        cure = "Add images like those of production: with few, INT8's ranges are a guess"
        raise DataError(f"{source} holds {len(images)} images, {asked}", cure)
    digests = {
        Path(relpath(path, image_folder(source))).as_posix(): sha256(path) for path in images
    }
    _refuse_overlap(digests, read_json(images_file(model))["images"], source)
    write_json(calibration_images_file(model), {"images": digests})
    log(f"{len(images)} calibration images, none of them a validation image")


def _refuse_overlap(
    calibration: Mapping[str, str], validation: Mapping[str, str], source: Path
) -> None:
    checked = {digest: name for name, digest in validation.items()}
    common = [name for name, digest in calibration.items() if digest in checked]
    if common:
        first = f"{common[0]} is {checked[calibration[common[0]]]}"
        what = f"{len(common)} images of {source} are validation images too: {first}"
        raise DataError(what, "Calibrate with others, or the validation proves nothing")


if __name__ == "__main__":
    list_calibration_images.main()
