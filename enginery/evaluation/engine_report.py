"""The report of an engine on its own GPU: what it must hold, and whether its own numbers pass.

A report makes an engine `validated`. It is a file in git that people merge and may edit: nothing in
it is believed that its other numbers deny, and the tolerance that counts is the one that the engine
was registered with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from enginery.evaluation.reports import (
    ClosenessRecord,
    ReportRecord,
    ToleranceRecord,
    refusals,
    too_far,
)
from enginery.registry.records import Above0, Count, Record, Sha256, Shape

NOISY = 1.25  # p90 / p50 from which a run's times tell more of the machine than of the engine
Which = Literal["min", "opt", "max"]


@dataclass(frozen=True)
class OperatingPoint:
    """An input shape (batch, 3, height, width) of a profile, at which an engine is run."""

    profile: int
    which: str
    shape: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[2], self.shape[3]

    @property
    def main(self) -> bool:
        """Where all images are run and the metric is taken."""
        return self.profile == 0 and self.which == "opt"


class Times(Record):
    """Milliseconds a batch."""

    mean: Above0
    min: Above0
    p50: Above0
    p90: Above0
    p99: Above0
    max: Above0
    runs: Count

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min <= self.p50 <= self.p90 <= self.p99 <= self.max:
            raise ValueError("min, p50, p90, p99 and max are not in order")
        return self


class Timing(Record):
    """On the GPU alone, with transfers, and as a CUDA graph (None where it cannot be captured)."""

    gpu: Times
    with_transfers: Times
    cuda_graph: Times | None
    images_per_second: Above0


class PointRecord(Record):
    """The outputs at one operating point; times at opt."""

    profile: Count
    which: Which
    shape: Shape
    closeness: ClosenessRecord
    timing: Timing | None

    @property
    def place(self) -> OperatingPoint:
        """Where this was."""
        return OperatingPoint(self.profile, self.which, self.shape)


class GpuRecord(Record):
    """The card that the engine ran on."""

    gpu: str
    uuid: str
    compute_capability: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")]
    driver: str | None = None


class EngineReport(Record):
    """An engine on its GPU, all of it."""

    plan_sha256: Sha256
    report: ReportRecord
    timing: Timing
    points: tuple[PointRecord, ...] = Field(min_length=1)
    gpu: GpuRecord
    clocks: tuple[Mapping[str, Any], ...]
    tolerance: ToleranceRecord
    failures: tuple[str, ...]

    @model_validator(mode="after")
    def _opens_with_its_main_point(self) -> Self:
        main = self.points[0]
        if (main.closeness, main.timing) != (self.report.closeness, self.timing):
            raise ValueError("the first point is not what the report says of it")
        return self


def operating_points(profiles: Sequence[Mapping[str, Sequence[int]]]) -> list[OperatingPoint]:
    """Opt of the first profile, then every other shape at min, opt and max, each once."""
    points: dict[tuple[int, tuple[int, ...]], OperatingPoint] = {}
    for index, shapes in enumerate(profiles):
        for which in ("opt", "min", "max"):
            point = OperatingPoint(index, which, tuple(shapes[which]))
            points.setdefault((index, point.shape), point)
    return list(points.values())


def noise(times: Times) -> list[str]:
    """Why a run's times cannot be trusted; empty if they can."""
    ratio = times.p90 / times.p50
    return (
        [f"p90 is {ratio:.1f} times p50: something else uses the GPU, measure again"]
        if ratio > NOISY
        else []
    )


def far_points(points: Sequence[PointRecord], tolerance: ToleranceRecord) -> list[str]:
    """At which points the outputs are too far from the original's."""
    return [
        f"profile {point.profile} at {point.which} {point.shape}: {failure}"
        for point in points
        for failure in too_far(point.closeness, tolerance)
    ]


def doubts(
    report: EngineReport, places: Sequence[OperatingPoint], registered: ToleranceRecord
) -> Iterator[str]:
    """Why a report does not make its engine `validated`; none if it does.

    `places` are where the engine has to be run. `registered` is the tolerance that it was
    registered with; a report that was taken with another must pass both.
    """
    yield from report.failures
    if report.failures:
        return
    if [point.place for point in report.points] != list(places):
        yield "it is not of every point of the engine's profiles"
    for tolerance in (registered, report.tolerance):
        yield from refusals(report.report, tolerance)
        yield from far_points(report.points[1:], tolerance)
    yield from noise(report.timing.gpu)
