"""images: the list of a model's validation images with the digest of each image and its labels."""

from __future__ import annotations

from pathlib import Path

from enginery.project.paths import Step, images_file
from enginery.report.events import log
from enginery.system.files import sha256, sha256_tree, write_json
from enginery.vision.images import list_images
from enginery.vision.labels import check_format
from tasks.command import recipe, run_step


def list_validation_images(step: Step) -> None:
    """Read every label, digest every file, write the list."""
    wanted = recipe(step)
    folder = Path(wanted["validation"])
    images = list_images(folder, wanted["task"])
    check_format(images, wanted["task"])
    digests = {path.relative_to(folder).as_posix(): sha256(path) for path in images}
    write_json(images_file(step.model), {"images": digests, "tree_sha256": sha256_tree(folder)})
    log(f"{len(images)} validation images")


if __name__ == "__main__":
    run_step("images", list_validation_images, "model")
