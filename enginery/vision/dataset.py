"""A validation data set as Ultralytics reads it, through links in a temporary folder: nothing is
written into the user's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.errors import DataError
from enginery.sources.ultralytics_compat import import_torchvision, silence
from enginery.system.files import temporary_folder
from enginery.vision.folders import label_file
from enginery.vision.images import check_images, list_images
from enginery.vision.labels import check_labels
from enginery.vision.tasks import TaskMetadata

_IMAGES = "images"  # Ultralytics finds labels/ by this name


class ValidationSet:
    """Checked images and labels.

    Iterating gives every image, (3, height, width), with its batch of one, in the order of their
    names.
    """

    def __init__(
        self, root: Path, images: Sequence[Path], head: TaskMetadata, size: tuple[int, int]
    ) -> None:
        self._root, self._images, self._head, self._size = root, images, head, size
        self._loader: Any = None
        self._loader = self._open()

    def _open(self) -> Any:
        try:
            loader = self.validator().dataloader
            taken = {int(Path(file).stem) for file in _files(loader.dataset)}
        except (RuntimeError, FileNotFoundError):  # how it says that there is nothing left
            taken = set()
        for number, image in enumerate(self._images):
            if number not in taken:
                raise DataError(
                    f"{image} is no image that Ultralytics takes",
                    "Save it again in the format that its name says",
                )
        return loader

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> Path:
        """The file of an image, counted from 0 in the order of their names."""
        return self._images[index]

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], dict[str, Any]]]:
        validator = self.validator()
        for index in range(len(self)):  # a loader of classified images would shuffle them
            batch = validator.preprocess(self._loader.collate_fn([self._loader.dataset[index]]))
            yield batch["img"][0].numpy(), batch

    def validator(self) -> Any:
        """A fresh Ultralytics validator of the task, ready for postprocess, update_metrics and
        get_stats.
        """
        with silence():
            return self._ready(_validator_class(self._head.task))

    def _ready(self, kind: Any) -> Any:
        import torch

        names = dict(self._head.names)
        # The constructor takes one number; the data set then takes height and width.
        validator = kind(
            args={"task": self._head.task, "mode": "val", "imgsz": max(self._size), **_ARGUMENTS},
            save_dir=self._root,
        )
        validator.args.imgsz = list(self._size)
        validator.training, validator.device, validator.stride, validator.names = (
            False,
            torch.device("cpu"),
            32,
            names,
        )
        validator.data = {
            "names": names,
            "nc": len(names),
            "channels": 3,
            "kpt_shape": list(self._head.kpt_shape or (0, 0)),
        }
        # Batches of one: Ultralytics' NMS stops after a time, and keeps what it found in the first
        # image whatever it takes.
        validator.dataloader = self._loader or validator.get_dataloader(
            str(self._root / _IMAGES), 1
        )
        validator.init_metrics(SimpleNamespace(names=names))
        return validator


_ARGUMENTS = {
    "batch": 1,
    "workers": 0,
    "rect": False,
    "plots": False,
    "verbose": False,
    "device": "cpu",
}


@contextmanager
def open_validation_set(
    folder: Path, head: TaskMetadata, size: tuple[int, int], few: int | None = None
) -> Iterator[ValidationSet]:
    """A folder's images and labels, fitted to (height, width); only so many images, from all over
    the folder, if `few` is given.

    Raises:
        DataError: images or labels cannot be used. ModelError: labels have what the model has not.
    """
    images = list_images(folder, head.task, labelled=head.has_labels)
    if head.has_labels:
        check_labels(images, head)  # of all, even then: few images may have none
    if few and few < len(images):
        images = tuple(images[number * len(images) // few] for number in range(few))
    check_images(images)
    with temporary_folder() as root:
        _link(images, head, root)
        yield ValidationSet(root, images, head, size)


def _link(images: Sequence[Path], head: TaskMetadata, root: Path) -> None:
    """images/NUMBER.jpg and labels/NUMBER.txt, or images/CLASS/NUMBER.jpg: the numbers keep the
    order whatever the names are. Without labels, all are of one class: it does not count.
    """
    for number, image in enumerate(images):
        name = f"{number:08d}"
        label = image.parent.name if head.has_labels else head.names[0]
        place = root / _IMAGES / label if head.task == "classify" else root / _IMAGES
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}{image.suffix.lower()}").symlink_to(image.resolve())
        if head.task != "classify" and head.has_labels and label_file(image).is_file():
            (root / "labels").mkdir(exist_ok=True)
            (root / "labels" / f"{name}.txt").symlink_to(label_file(image).resolve())


def _files(dataset: Any) -> list[str]:
    return (
        dataset.im_files if hasattr(dataset, "im_files") else [file for file, *_ in dataset.samples]
    )


def _validator_class(task: str) -> Any:
    import_torchvision()
    from ultralytics.models.yolo import classify, detect, obb, pose, segment

    return {
        "detect": detect.DetectionValidator,
        "segment": segment.SegmentationValidator,
        "pose": pose.PoseValidator,
        "obb": obb.OBBValidator,
        "classify": classify.ClassificationValidator,
    }[task]
