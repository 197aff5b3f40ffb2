"""Deterministic detection scenes: coloured shapes over clutter, with scale, rotation, occlusion,
blur and noise.

A scene depends on its seed and size only (NumPy's PCG64 and OpenCV's integer rasteriser), so two
machines draw the same pixels. Objects are measured in pixels, not in shares of the image: a
320-pixel scene looks like a crop of a 640-pixel one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("disc", "square", "triangle", "star", "cross")
_PIXELS_PER_OBJECT = 45_000
_SUBPIXEL = 4  # cv2's `shift`: polygon corners in 1/16 pixel

Image = NDArray[np.uint8]
Polygon = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """One object: class index and its box (x1, y1, x2, y2) in pixels, clipped to the image."""

    label: int
    xyxy: tuple[float, float, float, float]

    def yolo_line(self, size: int) -> str:
        """Class, then centre and size of the box as shares of the image's side."""
        x1, y1, x2, y2 = self.xyxy
        values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        return " ".join([str(self.label), *(f"{value / size:.6f}" for value in values)])


def scene(seed: int, size: int = 640) -> tuple[Image, list[Box]]:
    """Draw scene `seed`: a (size, size, 3) BGR image and the boxes of its objects."""
    rng = np.random.default_rng(seed)
    image = _background(rng, size)
    _clutter(rng, image)
    count = max(1, rng.poisson(size * size / _PIXELS_PER_OBJECT))
    boxes: list[Box] = []
    for _ in range(count):
        box = _place(rng, image, boxes)
        if box is not None:
            boxes.append(box)
    return _camera(rng, image), boxes


def _background(rng: np.random.Generator, size: int) -> Image:
    """Smooth colour fields: a few random pixels, enlarged, plus finer texture."""
    coarse = rng.integers(20, 236, (4, 4, 3), dtype=np.uint8)
    fine = rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    field = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    texture = cv2.resize(fine, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.int16) - 128
    strength = int(rng.integers(2, 12))
    blended: Image = np.clip(field + texture // strength, 0, 255).astype(np.uint8)
    return blended


def _clutter(rng: np.random.Generator, image: Image) -> None:
    """Lines, arcs and specks that belong to no class."""
    size = image.shape[0]
    for _ in range(size // 20):
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        a, b = rng.integers(0, size, (2, 2))
        if rng.random() < 0.5:
            reach = (b - a) // 4
            cv2.line(
                image, _point(a), _point(a + reach), colour, int(rng.integers(1, 5)), cv2.LINE_AA
            )
        else:
            axes = tuple(int(v) for v in rng.integers(4, 40, 2))
            start = int(rng.integers(0, 360))
            cv2.ellipse(
                image,
                _point(a),
                axes,
                int(rng.integers(0, 180)),
                start,
                start + 140,
                colour,
                2,
                cv2.LINE_AA,
            )


def _place(rng: np.random.Generator, image: Image, others: list[Box]) -> Box | None:
    """Draw one object; None where it would hide too much of another or lie mostly outside."""
    size = image.shape[0]
    label = int(rng.integers(len(CLASSES)))
    radius = float(np.exp(rng.uniform(np.log(9.0), np.log(70.0))))
    centre = rng.uniform(0, size, 2)
    polygon = _outline(label, rng) * radius + centre
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    clipped_low, clipped_high = np.clip(low, 0, size), np.clip(high, 0, size)
    if np.prod(clipped_high - clipped_low) < 0.5 * np.prod(high - low):
        return None
    box = Box(label, (*(float(v) for v in clipped_low), *(float(v) for v in clipped_high)))  # type: ignore[arg-type]
    if any(_hidden_share(other, box) > 0.35 for other in others):
        return None
    _paint(rng, image, polygon)
    return box


def _outline(label: int, rng: np.random.Generator) -> Polygon:
    """The class's corners around the origin, unit radius, randomly turned and squeezed."""
    turns = {0: 48, 1: 4, 2: 3, 3: 10, 4: 12}[label]
    angles = np.arange(turns) * 2 * np.pi / turns
    radii = np.ones(turns)
    if label == 3:
        radii[1::2] = 0.45
    corners = np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)
    if label == 4:
        w = 0.3
        corners = np.array(
            [
                (w, 1),
                (w, w),
                (1, w),
                (1, -w),
                (w, -w),
                (w, -1),
                (-w, -1),
                (-w, -w),
                (-1, -w),
                (-1, w),
                (-w, w),
                (-w, 1),
            ]
        )
    squeeze = np.array([1.0, rng.uniform(0.75, 1.0)])
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    return np.asarray((corners * squeeze) @ rotation.T)


def _paint(rng: np.random.Generator, image: Image, polygon: Polygon) -> None:
    """Fill with a colour that differs from what lies below; sometimes see-through, sometimes with
    an edge.
    """
    fixed = [np.round(polygon * (1 << _SUBPIXEL)).astype(np.int32)]
    centre = np.clip(polygon.mean(axis=0), 0, image.shape[0] - 1).astype(int)
    below = image[centre[1], centre[0]].astype(int)
    colour = tuple(int(v) for v in (below + rng.integers(70, 186, 3)) % 256)
    layer = image.copy()
    cv2.fillPoly(layer, fixed, colour, cv2.LINE_AA, _SUBPIXEL)
    if rng.random() < 0.4:
        edge = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.polylines(layer, fixed, True, edge, 2, cv2.LINE_AA, _SUBPIXEL)
    opacity = float(rng.uniform(0.7, 1.0))
    cv2.addWeighted(layer, opacity, image, 1 - opacity, 0, dst=image)


def _camera(rng: np.random.Generator, image: Image) -> Image:
    """Blur and sensor noise."""
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), 0), dtype=np.uint8)
    noise = rng.integers(-1, 2, image.shape) * int(rng.integers(0, 14))
    noisy: Image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return noisy


def _hidden_share(under: Box, over: Box) -> float:
    """Share of `under`'s box that `over`'s box covers."""
    ax1, ay1, ax2, ay2 = under.xyxy
    bx1, by1, bx2, by2 = over.xyxy
    width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    return max(0.0, width) * max(0.0, height) / max((ax2 - ax1) * (ay2 - ay1), 1e-9)


def _point(xy: NDArray[np.int64]) -> tuple[int, int]:
    return int(xy[0]), int(xy[1])
