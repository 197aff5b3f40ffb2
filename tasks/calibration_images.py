"""calibration-images: the list of a model's calibration images with their digests; none of them may
be a validation image.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from enginery.calibration.cache import SUFFIX
from enginery.errors import DataError
from enginery.project.inputs import check_plain
from enginery.project.paths import Step, calibration_images_file, images_file
from enginery.report.events import log
from enginery.system.files import read_json, sha256, write_json
from enginery.vision.images import image_folder, list_images
from tasks.command import recipe, run_step


def list_calibration_images(step: Step) -> None:
    """Digest every image, refuse too few and those of the validation, write the list; a .cache in
    their place is digested.
    """
    wanted = recipe(step)
    source = Path(wanted["calibration"])
    check_plain(source)
    if source.suffix == SUFFIX:
        write_json(
            calibration_images_file(step.model), {"cache_sha256": sha256(source), "images": {}}
        )
        log(f"{source} takes the place of calibration images")
        return
    images = list_images(source, wanted["task"])
    if len(images) < wanted["minimum_images"]:
        what = f"{source} holds {len(images)} images, int8.{step.model}.minimum_images asks for {wanted['minimum_images']}"
        raise DataError(
            what, "Add images like those of production: with few, INT8's ranges are a guess"
        )
    digests = {path.relative_to(image_folder(source)).as_posix(): sha256(path) for path in images}
    _refuse_overlap(digests, read_json(images_file(step.model))["images"], source)
    write_json(calibration_images_file(step.model), {"images": digests})
    log(f"{len(images)} calibration images, none of them a validation image")


def _refuse_overlap(
    calibration: Mapping[str, str], validation: Mapping[str, str], source: Path
) -> None:
    checked = {digest: name for name, digest in validation.items()}
    common = [name for name, digest in calibration.items() if digest in checked]
    if common:
        what = f"{len(common)} images of {source} are validation images too: {common[0]} is {checked[calibration[common[0]]]}"
        raise DataError(what, "Calibrate with others, or the validation proves nothing")


if __name__ == "__main__":
    run_step("calibration-images", list_calibration_images, "model", "precision")
