"""images: the list of a model's validation images with the digest of each image and its labels."""

from __future__ import annotations

from pathlib import Path

from enginery.evaluation.images import check_images, list_images
from enginery.evaluation.labels import check_format
from enginery.files import sha256, sha256_tree, write_json
from enginery.layout import Step, images_file
from enginery.report.events import log
from tasks.command import recipe, run_step


def list_validation_images(step: Step) -> None:
    """Read every image and label, digest every file, write the list."""
    wanted = recipe(step)
    folder = Path(wanted["validation"])
    images = list_images(folder, wanted["task"])
    check_format(images, wanted["task"])
    check_images(images)
    digests = {path.relative_to(folder).as_posix(): sha256(path) for path in images}
    write_json(images_file(step.model), {"images": digests, "tree_sha256": sha256_tree(folder)})
    log(f"{len(images)} validation images")


if __name__ == "__main__":
    run_step("images", list_validation_images, "model")
