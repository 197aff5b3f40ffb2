"""The report's ranking of layers: where there is one, and it is of the ranges that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.project.paths import CACHE, model_folder
from enginery.quantization.kept_ranking import KeptLayer, KeptRanking, current, keep, kept
from enginery.registry.store import entries
from enginery.report.run_page import report
from enginery.report.sensitivity_page import sensitivity_of
from enginery.report.tables import listed
from enginery.system.files import sha256, write_json
from tests.registered import DIGEST, recipe, register

LAYERS = tuple(
    KeptLayer(layer=f"/layer <{number}>", cost=0.4 / (number + 1)) for number in range(30)
)


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibrated model with an INT8 graph, whose layers were ranked."""
    monkeypatch.chdir(tmp_path)
    cache = model_folder("m", "calibration") / CACHE
    cache.parent.mkdir(parents=True)
    cache.write_text("TRT-8600-EntropyCalibration2\nimages: 3c010a14\n")
    keep("m", KeptRanking(key="k", cache_sha256=sha256(cache), layers=LAYERS))
    made_of = {"quantized": ["/layer <1>"], "excluded": ["/layer <0>"], "sha256": DIGEST}
    graph = model_folder("m", "int8") / "graph" / "record.json"
    write_json(graph, {"recipe": recipe("quantize"), **made_of})


def test_the_costliest_layers_with_what_they_are_built_in() -> None:
    register("m/t/int8")
    page = report("shop", listed(entries(), None), None)
    assert "What INT8 costs, layer by layer" in page and "m: 20 of 30 layers" in page
    rows = page.partition("with INT8 in one layer alone")[2].partition("</table>")[0].split("<tr>")
    costliest, second, third = rows[2], rows[3], rows[4]
    assert "/layer &lt;0&gt;" in costliest and "40.000%" in costliest and ">FP16<" in costliest
    assert 'width="160" height="12"/>' in costliest and 'width="80" height="12"/>' in second
    assert ">INT8<" in second and ">-<" in third
    assert len(rows) == 22


def test_a_ranking_of_other_ranges_is_not_shown() -> None:
    assert sensitivity_of("m")
    (model_folder("m", "calibration") / CACHE).write_text("TRT-8600-EntropyCalibration2\n")
    assert kept("m") and not current("m")
    assert sensitivity_of("m") == ""


@pytest.mark.parametrize("content", ["", "[]", '{"key": "k", "layers": []}'])
def test_a_ranking_that_is_not_whole_is_made_again(content: str) -> None:
    (model_folder("m", "int8") / "sensitivity.json").write_text(content)
    assert kept("m") is None and sensitivity_of("m") == ""


def test_a_model_that_nobody_ranked_has_no_such_part() -> None:
    register("other/t/int8")
    assert "layer by layer" not in report("shop", listed(entries(), None), None)
