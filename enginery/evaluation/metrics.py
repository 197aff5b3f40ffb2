"""A validation's numbers as DVC's metrics and plots, with which `dvc metrics diff` and `dvc plots
diff` compare two revisions.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from enginery.evaluation.validation import GraphReport
from enginery.system.files import atomic_write, write_json

METRICS, CLASSES = "metrics.json", "classes.csv"


def write_metrics(report: GraphReport, folder: Path) -> None:
    """Write metrics.json and, one row for each class, classes.csv."""
    before, after = report.reference, report.candidate
    numbers = {
        after.metric.key: after.value,
        after.metric.secondary: after.secondary,
        "lost": before.value - after.value,
        "rms_relative": report.closeness.rms_relative,
    }
    write_json(folder / METRICS, {name: round(value, 6) for name, value in numbers.items()})
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["class", "accuracy", "lost"])
    for name in sorted(before.per_class):
        accuracy = after.per_class.get(name, 0.0)
        rows.writerow([name, f"{accuracy:.6f}", f"{before.per_class[name] - accuracy:.6f}"])
    with atomic_write(folder / CLASSES) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")
