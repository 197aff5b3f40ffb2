"""A graph's inputs from a data set's samples: images, arrays (.npy, .npz), or both.

A sample is an image, or an .npz with an array for each input by its name; of a graph with one
input, an .npy. An image's further inputs are in an .npz of the same name beside it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.errors import DataError, ModelError
from enginery.graphs.inspect import TensorInfo, graph_info
from enginery.vision.folders import ARRAYS
from enginery.vision.images import preprocess, read_image
from enginery.vision.preprocess import Feeding, Preprocess

Row = Mapping[str, NDArray[Any]]  # each input by its name, without the batch
_SPOILED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)
# As ONNX Runtime calls types, and as ONNX does.
_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "FLOAT": "float32",
    "FLOAT16": "float16",
    "DOUBLE": "float64",
}


@dataclass(frozen=True)
class Input:
    """A graph's input; a size is a number, or anything else where it is open."""

    name: str
    dtype: str
    shape: tuple[Any, ...]

    @classmethod
    def of(cls, name: str, kind: str, shape: Sequence[Any]) -> Input:
        """From what ONNX or ONNX Runtime say of it."""
        plain = kind.removeprefix("tensor(").removesuffix(")").lower()
        return cls(name, _TYPES.get(kind, plain), tuple(shape))


class Feeder:
    """Makes the inputs of a graph."""

    def __init__(self, inputs: Sequence[Input], feeding: Feeding) -> None:
        self._inputs = {each.name: each for each in inputs}
        self._feeding = feeding
        self.image = _image_input(inputs, feeding.image)
        first = self._inputs[self.image] if self.image else inputs[0]
        self.batch = _fixed(first.shape[0], 1) if first.shape else 1
        self.size = self._size(first) if self.image else feeding.size

    def row(self, sample: Path) -> Row:
        """A sample's inputs.

        Raises:
            DataError: it cannot be read, or is not what the graph takes.
        """
        if sample.suffix.lower() in ARRAYS:
            return self._from_arrays(sample, self._inputs)
        if self.image is None:
            names = ", ".join(self._inputs)
            what = f"{sample} is an image, and the graph takes arrays ({names})"
            raise DataError(what, "Give an .npz with an array for each")
        image = preprocess(read_image(sample), *self.size, self._feeding.task, self._feeding.how)
        others = {name: each for name, each in self._inputs.items() if name != self.image}
        arrays = self._from_arrays(sample.with_suffix(".npz"), others) if others else {}
        return {self.image: self.checked(image), **arrays}

    def checked(self, image: NDArray[Any]) -> NDArray[Any]:
        """A prepared image, if the graph's input takes it.

        Raises:
            ModelError: it has another shape or type.
        """
        assert self.image is not None
        own = self._inputs[self.image]
        fits = len(own.shape) == image.ndim + 1 and all(
            _fixed(size, given) == given
            for size, given in zip(own.shape[1:], image.shape, strict=True)
        )
        if not fits or own.dtype != image.dtype:
            takes = f"{list(own.shape)} of {own.dtype}"
            what = f"input {own.name} takes {takes}, and `preprocess` makes"
            made = f"{[self.batch, *image.shape]} of {image.dtype}"
            raise ModelError(
                f"{what} {made}", "Correct preprocess, height or width of the model in params.yaml"
            )
        return image

    def stack(self, rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
        """Rows as a graph is run with: a fixed batch is filled with copies of the last."""
        filled = [*rows, *[rows[-1]] * (self.batch - len(rows))]
        return {
            name: np.stack([row[name] for row in filled])
            if self._is_batched(each)
            else np.asarray(rows[0][name])
            for name, each in self._inputs.items()
        }

    def _size(self, image: Input) -> tuple[int, int]:
        height, width = self._feeding.size
        open_ = self._feeding.how.size_of(image.shape) if self._feeding.how else image.shape[2:4]
        return _fixed(open_[0], height), _fixed(open_[1], width)

    def _is_batched(self, own: Input) -> bool:
        return bool(own.shape) and _fixed(own.shape[0], self.batch) == self.batch

    def _from_arrays(self, path: Path, inputs: Mapping[str, Input]) -> Row:
        if path.suffix == ".npy" and len(inputs) != 1:
            what = f"{path} is one array, and the graph takes {', '.join(inputs)}"
            raise DataError(what, "Save an .npz with an array for each")
        arrays = _read(path, next(iter(inputs)))
        missing = [name for name in inputs if name not in arrays]
        if missing:
            what = f"{path} has no array {missing[0]!r}, which the graph takes"
            raise DataError(f"{what}; it has {', '.join(arrays) or 'none'}", "Add it")
        return {name: self._fitted(path, arrays[name], own) for name, own in inputs.items()}

    def _fitted(self, path: Path, array: NDArray[Any], own: Input) -> NDArray[Any]:
        """An array as a row; it may have a batch of one."""
        expected = own.shape[1:] if self._is_batched(own) else own.shape
        row = array[0] if array.ndim == len(expected) + 1 and len(array) == 1 else array
        fits = row.ndim == len(expected) and all(
            _fixed(size, given) == given for size, given in zip(expected, row.shape, strict=True)
        )
        if not fits:
            what = f"{path}: {own.name} has the shape {list(array.shape)}, and the graph takes"
            raise DataError(f"{what} {list(expected)}", "Save it in that shape, one sample a file")
        if row.dtype != own.dtype:
            what = f"{path}: {own.name} is {row.dtype}, and the graph takes {own.dtype}"
            raise DataError(what, f"Save it as {own.dtype}")
        return np.asarray(row)


def inputs_of(tensors: Sequence[TensorInfo]) -> list[Input]:
    """The inputs of a graph that was read."""
    return [Input.of(each.name, each.dtype, each.shape) for each in tensors]


def feeds(
    onnx: Path,
    samples: Sequence[Path],
    task: str,
    size: tuple[int, int],
    how: Preprocess | None = None,
    image: str | None = None,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Each sample as {input name: (batch, ...)}; a static batch repeats it, `size` is for open
    sizes.
    """
    feeder = Feeder(inputs_of(graph_info(onnx).inputs), Feeding(task, size, how, image))
    for sample in samples:
        yield feeder.stack([feeder.row(sample)])


def extents(shape: Sequence[Any], size: tuple[int, int]) -> tuple[int, int, int]:
    """Batch, height and width with which a graph is fed: its input's own where they are fixed, else
    1 and `size` (height, width).
    """
    batch, height, width = (
        _fixed(own, open_) for own, open_ in zip((shape[0], *shape[2:]), (1, *size), strict=True)
    )
    return batch, height, width


def _fixed(size: Any, otherwise: int) -> int:
    return size if isinstance(size, int) else otherwise


def _image_input(inputs: Sequence[Input], named: str | None) -> str | None:
    """The input that takes images: the named one, or the only one with four axes."""
    if named:
        return named
    with_four = [each.name for each in inputs if len(each.shape) == 4]
    return with_four[0] if len(with_four) == 1 else None


def _read(path: Path, only: str) -> Mapping[str, NDArray[Any]]:
    """The arrays of a file by name; the one of an .npy is called `only`."""
    if not path.is_file():
        raise DataError(f"{path} is missing: it has the inputs that are no image", "Add it")
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {only: content}
        with content as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _SPOILED as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read: {reason}", "Save it again with NumPy") from None
