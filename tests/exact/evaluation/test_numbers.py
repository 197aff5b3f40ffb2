"""A validation's numbers for DVC, each digit."""

from __future__ import annotations

import json
from pathlib import Path

from enginery.evaluation.compare import OutputError
from enginery.evaluation.metrics import CLASSES, METRICS, write_metrics
from enginery.evaluation.validation import GraphReport
from enginery.vision.score import Metrics
from enginery.vision.tasks import MAP


def test_what_dvc_compares(tmp_path: Path) -> None:
    before = Metrics(MAP, 0.75, 0.9, {"ü": 0.5, "a, b": 1 / 3, "gone": 0.25})
    after = Metrics(MAP, 2 / 3, 0.8, {"ü": 0.625, "a, b": 1 / 3})
    write_metrics(GraphReport(OutputError(0.1, 1 / 7, 0, 0), before, after), tmp_path)
    assert json.loads((tmp_path / METRICS).read_text()) == {
        "map50_95": 0.666667,
        "map50": 0.8,
        "lost": 0.083333,
        "rms_relative": 0.142857,
    }
    assert (tmp_path / CLASSES).read_bytes().decode() == (
        "class,accuracy,lost\n"
        '"a, b",0.333333,0.000000\n'
        "gone,0.000000,0.250000\n"
        "ü,0.625000,-0.125000\n"
    )
    assert (METRICS, CLASSES) == ("metrics.json", "classes.csv")
