"""How an image becomes a graph's input, where that is not Ultralytics' own way: as a frozen value
that params.yaml, recipes and manifests hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:  # every command reads params.yaml, and few need NumPy
    import numpy as np
    from numpy.typing import NDArray

Mode = Literal["letterbox", "stretch", "resize_crop"]
_IMAGENET: Mapping[str, Any] = {
    "mode": "resize_crop",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
# `ultralytics` is what a model has without `preprocess`: no value stands for it.
PRESETS: Mapping[str, Mapping[str, Any]] = {"torchvision": _IMAGENET, "imagenet": _IMAGENET}
_SHORT_SIDE = 256 / 224  # what torchvision's transforms keep of an image before they crop it
_CHANNELS = {"rgb": 3, "bgr": 3, "grey": 1}


@dataclass(frozen=True)
class Preprocess:
    """`mode` fits an image into height and width: on grey, stretched, or its short side to `resize`
    and the middle cut out. Values from 0 to 1 then become (value - mean) / std; with `dtype` uint8
    they stay as they are, 0 to 255.
    """

    mode: Mode = "letterbox"
    resize: int | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    color: Literal["rgb", "bgr", "grey"] = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32", "float16", "uint8"] = "float32"

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    @property
    def channels(self) -> int:
        """How many values a pixel has."""
        return _CHANNELS[self.color]

    def __str__(self) -> str:
        """For people: `letterbox, rgb, nchw, float32`."""
        words: list[str] = [self.mode, self.color, self.layout, self.dtype]
        words += [f"mean {list(self.mean)}, std {list(self.std)}"] if self.dtype != "uint8" else []
        return ", ".join(words)

    def shape(self, batch: int, height: int, width: int) -> list[int]:
        """The input's shape."""
        size = [height, width]
        return [
            batch,
            *([self.channels, *size] if self.layout == "nchw" else [*size, self.channels]),
        ]

    def size_of(self, shape: tuple[Any, ...]) -> tuple[Any, Any]:
        """Height and width in an input's shape."""
        height, width = shape[2:4] if self.layout == "nchw" else shape[1:3]
        return height, width

    def fit(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """A BGR image as (height, width, 3) BGR."""
        from enginery.vision.images import letterbox

        if self.mode == "letterbox":
            return letterbox(image, height, width)
        return self._resized(image, height, width)

    def fit_mask(self, mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """A class for each pixel, fitted as its image is; 255 where the image has nothing."""
        from enginery.vision.images import letterbox

        if self.mode == "letterbox":
            return letterbox(mask, height, width, fill=255, smooth=False)
        return self._resized(mask, height, width, smooth=False)

    def finish(self, fitted: NDArray[np.uint8]) -> NDArray[Any]:
        """A fitted BGR image as the graph takes it, without its batch."""
        import cv2
        import numpy as np

        if self.color == "grey":
            values = cv2.cvtColor(fitted, cv2.COLOR_BGR2GRAY)[:, :, None]
        else:
            # OpenCV turns the channels many times faster than a reversed view is copied.
            values = cv2.cvtColor(fitted, cv2.COLOR_BGR2RGB) if self.color == "rgb" else fitted
        if self.layout == "nchw":
            values = values.transpose(2, 0, 1)
        if self.dtype == "uint8":
            return np.ascontiguousarray(values)
        axes = (-1, 1, 1) if self.layout == "nchw" else (1, 1, -1)
        mean, std = (np.array(part, np.float32).reshape(axes) for part in (self.mean, self.std))
        scaled = (values.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(scaled, self.dtype)

    def apply(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
        """A BGR image as the graph takes it, without its batch."""
        return self.finish(self.fit(image, height, width))

    def _resized(
        self, image: NDArray[np.uint8], height: int, width: int, smooth: bool = True
    ) -> NDArray[np.uint8]:
        """By Pillow, as torchvision resizes; channels are resized each alone: BGR stays BGR."""
        import numpy as np
        from PIL import Image

        names = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        how = names[self.interpolation] if smooth else Image.Resampling.NEAREST
        rows, columns = image.shape[:2]
        picture = Image.fromarray(image)
        if self.mode == "stretch":
            return np.asarray(picture.resize((width, height), how), np.uint8)
        short = self.resize or round(min(height, width) * _SHORT_SIDE)
        long = int(short * max(rows, columns) / min(rows, columns))
        new_rows, new_columns = (short, long) if rows <= columns else (long, short)
        resized = np.asarray(picture.resize((new_columns, new_rows), how), np.uint8)
        return _middle(resized, height, width)


@dataclass(frozen=True)
class Feeding:
    """How samples become inputs: as the task wants its images, or as `how` says; to `size` (height,
    width) where the graph is open. `image` names the input that takes them, if it is not the only
    one with four axes.
    """

    task: str
    size: tuple[int, int]
    how: Preprocess | None = None
    image: str | None = None


def _middle(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The middle of an image; black (of a mask: 255) around one that is too small."""
    import numpy as np

    rows, columns = image.shape[:2]
    if rows < height or columns < width:
        above, left = max(height - rows, 0) // 2, max(width - columns, 0) // 2
        below, right = max(height - rows, 0) - above, max(width - columns, 0) - left
        edges = [(above, below), (left, right), *[(0, 0)] * (image.ndim - 2)]
        image = np.pad(image, edges, constant_values=0 if image.ndim == 3 else 255)
        rows, columns = image.shape[:2]
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    return image[top : top + height, left : left + width]


def parse(value: Any) -> Any:
    """What params.yaml says: the name of a preset, or values, with those of a `preset` as their
    defaults. None stands for Ultralytics' own way.

    Raises:
        ValueError: there is no such preset.
    """
    given = {"preset": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or "preset" not in given:
        return value
    name = given["preset"]
    if name == "ultralytics" and len(given) == 1:
        return None
    if name not in PRESETS:
        raise ValueError(f"{', '.join(PRESETS)} or ultralytics is expected")
    return {**PRESETS[name], **{key: each for key, each in given.items() if key != "preset"}}


def mistakes(how: Preprocess) -> list[tuple[str, str]]:
    """What in it does not fit together: the key, and why."""
    wrong = []
    for key, values in (("mean", how.mean), ("std", how.std)):
        if len(values) not in (1, how.channels):
            wrong.append((key, f"1 or {how.channels} values are expected for {how.color}"))
    if not all(value > 0 for value in how.std):
        wrong.append(("std", "every value must be above 0"))
    if how.dtype == "uint8" and (any(how.mean) or {*how.std} != {1.0}):
        wrong.append(("dtype", "uint8 takes pixels as they are: leave out mean and std"))
    if how.resize is not None and how.mode != "resize_crop":
        wrong.append(("resize", f"mode {how.mode} has none; leave it out"))
    return wrong
