"""What Enginery asks of a format of data sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from enginery.vision.folders import label_file, mask_file

Label = Path | bytes | None  # a label file, its content, or an image without any


class Labels(Protocol):
    """Where the labels of a data set's images are."""

    def of(self, image: Path, task: str) -> Label:
        """An image's labels in YOLO's text format.

        Raises:
            DataError: they cannot be labels of this task.
        """


class TextLabels:
    """YOLO's text files beside the images."""

    def of(self, image: Path, task: str) -> Label:
        """The file of an image, if there is one."""
        file = label_file(image)
        return file if file.is_file() else None


@dataclass(frozen=True)
class Dataset:
    """A data set's images, and the names of its classes where it says them.

    `own` is the folder with validation/ and calibration/ in it, if it is laid out as Enginery
    writes it.
    """

    validation: tuple[Path, ...]
    train: tuple[Path, ...]
    own: Path | None = None
    names: tuple[str, ...] = ()
    labels: Labels = field(default_factory=TextLabels)

    def has_labels(self, task: str) -> bool:
        """Whether any validation image has labels of a task; what classifies has folders."""
        if task == "tensors":
            return True  # the original's outputs are all that is asked for
        if task == "semantic":
            return any(mask_file(image).is_file() for image in self.validation)
        if task == "classify":
            return len({image.parent for image in self.validation}) > 1
        return any(self.labels.of(image, task) is not None for image in self.validation)

    def class_names(self, task: str) -> tuple[str, ...]:
        """The names of its classes; to classify, by default those of its folders, sorted, as
        torchvision's ImageFolder numbers them.
        """
        if self.names or task != "classify" or not self.has_labels(task):
            return self.names
        return tuple(sorted({image.parent.name for image in self.validation}))


class Format(Protocol):
    """A format of data sets; `title` is what a person calls it."""

    @property
    def title(self) -> str:
        """For people: `a data.yaml`."""

    def reads(self, path: Path) -> bool:
        """Whether a file or folder is of this format."""

    def read(self, path: Path) -> Dataset:
        """Read it.

        Raises:
            DataError: it is not whole, or has no validation images.
        """
