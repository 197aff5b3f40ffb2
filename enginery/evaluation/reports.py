"""What a validation wrote down, as types: closeness, metrics, and the tolerance for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import model_validator

from enginery.evaluation import gate
from enginery.registry.records import Count, NotNegative, Record, Share
from enginery.vision.tasks import Metric, Truth, metric_in


class ClosenessRecord(Record):
    """How far raw outputs were from the original's."""

    max_abs: NotNegative
    rms_relative: NotNegative
    nan_count: Count
    inf_count: Count
    first_overflow: str | None = None


class OutputRecord(Record):
    """How far one output was from the original's."""

    rms_relative: NotNegative
    max_abs: NotNegative


class MetricsRecord(Record):
    """The task's metric with the one shown beside it, map50_95 with map50 for example; and of each
    class, or of each output.
    """

    map50_95: Share | None = None
    map50: Share | None = None
    top1: Share | None = None
    top5: Share | None = None
    miou: Share | None = None
    pixel_accuracy: Share | None = None
    cosine: Share | None = None
    cosine_worst: Share | None = None
    score: float | None = None
    score_worst: float | None = None
    per_class: Mapping[str, Share]

    @model_validator(mode="after")
    def _has_one_metric(self) -> Self:
        given = self.model_fields_set - {"per_class"}
        if {self.metric.key, self.metric.secondary} - given or None in (self.value, self.secondary):
            raise ValueError("map50_95 and map50, or top1 and top5, are needed")
        return self

    @property
    def metric(self) -> Metric:
        """Which metric this is."""
        return metric_in(dict.fromkeys(self.model_fields_set))

    @property
    def value(self) -> float:
        """mAP50-95 or top-1."""
        value: float = getattr(self, self.metric.key)
        return value

    @property
    def secondary(self) -> float:
        """mAP50 or top-5."""
        value: float = getattr(self, self.metric.secondary)
        return value


class ReportRecord(Record):
    """A graph or an engine against its FP32 original."""

    closeness: ClosenessRecord
    reference: MetricsRecord
    candidate: MetricsRecord
    truth: Truth = "labels"
    outputs: Mapping[str, OutputRecord] = {}

    @model_validator(mode="after")
    def _has_one_task(self) -> Self:
        if self.reference.metric != self.candidate.metric:
            raise ValueError("reference and candidate have different metrics")
        return self

    @property
    def metric(self) -> Metric:
        """Which metric both were judged by."""
        return self.reference.metric

    @property
    def title(self) -> str:
        """The metric's title, which says so where there were no labels to measure with."""
        title = self.metric.title
        return title if self.truth == "labels" else f"{title} (agreement)"


class ToleranceRecord(Record):
    """How far from the original is close enough."""

    rms_relative: Share
    map50_95_drop: Share | None = None
    top1_drop: Share | None = None
    miou_drop: Share | None = None
    cosine_drop: Share | None = None
    score_drop: NotNegative | None = None
    outputs: Mapping[str, Mapping[str, NotNegative]] = {}

    def drop(self, metric: Metric) -> float | None:
        """How much of a metric may be lost; None: this is the tolerance of another task."""
        allowed: float | None = getattr(self, f"{metric.key}_drop")
        return allowed


def refusals(report: ReportRecord, tolerance: ToleranceRecord) -> list[str]:
    """Why the gate does not let these numbers pass; empty if it does."""
    if tolerance.drop(report.metric) is None:
        return [f"the tolerance names no loss of {report.metric.title}"]
    return gate.failures(report.to_json(), tolerance.to_json())


def too_far(closeness: ClosenessRecord, tolerance: ToleranceRecord) -> list[str]:
    """Why raw outputs alone do not pass; empty if they do."""
    return list(gate.distance(closeness.to_json(), tolerance.to_json()))
