"""How overlapping boxes become one: the numbers with which an engine, or Ultralytics, does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

MOST = 1000  # rows an image: beyond it, raw outputs are smaller


@dataclass(frozen=True)
class Nms:
    """The least confidence, the overlap from which two boxes of a class are one, and how many
    detections an image has at most.
    """

    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.25
    iou: Annotated[float, Field(gt=0, le=1)] = 0.7
    detections: Annotated[int, Field(ge=1, le=MOST)] = 300

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
