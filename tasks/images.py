"""images: the list of a model's validation images with the digest of each image and its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.project.paths import images_file
from enginery.project.stage import Stage
from enginery.report.events import log
from enginery.system.files import sha256, sha256_tree, write_json
from enginery.vision.tasks import Judging, Task, TaskMetadata


@dataclass(frozen=True)
class Parameters:
    """The folder of images, and what its labels are for."""

    validation: str
    task: Task
    judging: Judging | None = None


def parameters(project: Project, stage: Stage) -> Parameters:
    """As the model says."""
    model = project.model(stage)
    return Parameters(model.validation, model.task, model.judging())


@step("images", version=1, of=("model",), parameters=parameters)
def list_validation_images(job: Job[Parameters]) -> None:
    """Read every image and label, digest every file, write the list."""
    from enginery.vision.images import check_images, list_images
    from enginery.vision.labels import check_format

    folder, task = Path(job.parameters.validation), job.parameters.task
    head = TaskMetadata(task, {}, judging=job.parameters.judging or Judging())
    images = list_images(folder, task, labelled=head.has_labels)
    if head.has_text_labels:
        check_format(images, task)
    check_images(images)
    digests = {path.relative_to(folder).as_posix(): sha256(path) for path in images}
    listed = {"images": digests, "tree_sha256": sha256_tree(folder)}
    write_json(images_file(job.stage.model), listed)
    log(f"{len(images)} validation images")
    if not head.has_labels:
        log("no labels: what the FP32 original finds counts as right (agreement)", "warning")


if __name__ == "__main__":
    list_validation_images.main()
