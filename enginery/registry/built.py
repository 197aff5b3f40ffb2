"""What a manifest says of the build: for what, how, and what TensorRT made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enginery.errors import EngineError
from enginery.project.values import Runtime
from enginery.registry.records import Count, Record, Sha256, Shape, Share, StepRecord
from enginery.vision.nms import Nms


class Profile(Record):
    """The input's shape (batch, 3, height, width) at min, opt and max."""

    min: Shape
    opt: Shape
    max: Shape

    @property
    def text(self) -> str:
        """For people: 1x3x640x640, or what lies between min and max."""
        low, opt, high = ("x".join(map(str, shape)) for shape in (self.min, self.opt, self.max))
        return opt if low == high else f"{low} to {high}, best at {opt}"


class BuildParameters(Record):
    """What the plan was built for, and how."""

    runtime: Runtime
    runtime_version: str
    platform: str
    compute_capability: str | None
    gpu: str | None = None
    profile: Profile | None
    profiles: tuple[Profile, ...] = ()
    arrays: Mapping[str, Mapping[str, tuple[int, ...]]] | None = None
    input: str | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla_core: int | None = None
    optimization_level: int | None = None
    pixels: Mapping[str, Any] | None = None
    nms: Mapping[str, Any] | None = None

    @property
    def takes_pixels(self) -> bool:
        """Whether the engine takes uint8, in memory (batch, height, width, channels)."""
        return self.pixels is not None

    @property
    def detections(self) -> Nms | None:
        """How the engine makes boxes detections; None: it gives what its model gives."""
        return None if self.nms is None else Nms(**self.nms)

    @property
    def shapes(self) -> list[Mapping[str, Sequence[int]]]:
        """The shapes at min, opt and max of every profile; none where no input takes images."""
        own = (self.profile,) if self.profile else ()
        return [profile.to_json() for profile in self.profiles or own]

    @property
    def image_profile(self) -> Profile:
        """The shapes of the one input, which takes images.

        Raises:
            EngineError: there are others, or it takes none.
        """
        if self.profile is None or self.arrays:
            what = "the engine takes arrays, and only images are fed to an engine on its GPU here"
            raise EngineError(
                what, "Compare it with your own code: its graph was checked on the CPU"
            )
        return self.profile


class Precisions(Record):
    """The share of an engine's layers, and of its weights, in each precision."""

    layers: Mapping[str, Share]
    weights: Mapping[str, Share]


class BuildRecord(StepRecord[BuildParameters]):
    """The plan."""

    plan_sha256: Sha256
    plan_bytes: Count
    weights_sha256: Sha256 | None
    graph_sha256: Sha256
    messages: tuple[str, ...]
    skipped_tactics: Count = 0
    refittable_weights: tuple[str, ...] = ()
    structure_sha256: str | None = None
    refitted_from: Sha256 | None = None
    native_cache: str | None = None
    precisions: Precisions | None = None
    fp32_fallback: tuple[str, ...] = ()
    timing_cache_sha256: Sha256 | None = None
