"""What made an engine, as a picture: its boxes, what each needs, and the same in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from enginery.registry.manifest import Manifest
from enginery.registry.store import entries
from enginery.report.provenance_page import _boxes, provenance
from enginery.report.run_page import report
from enginery.report.tables import listed
from tests.registered import DIGEST, enter, recipe, records, register

SHORT = DIGEST[:12]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def calibrated(**calibration: Any) -> Manifest:
    plan = Path("plan")
    plan.write_bytes(b"plan")
    made_of = records(plan)
    made_of["quantize"] |= {
        "quantized": ["a", "b"],
        "excluded": ["c"],
        "calibration": {
            "recipe": recipe("calibrate", calibration="data/my.cache"),
            "images": 300,
            "images_sha256": DIGEST,
            "own_quantization": False,
            **calibration,
        },
    }
    return enter("m/t/int8", plan, made_of).manifest


def test_every_box_is_reached_from_what_a_person_gave() -> None:
    boxes = {box.name: box for box in _boxes(calibrated(cache_sha256=DIGEST))}
    assert all(need in boxes for box in boxes.values() for need in box.needs)
    given = {name for name, box in boxes.items() if not box.needs}
    assert given == {"weights", "calibration", "validation images"}
    needed = {need for box in boxes.values() for need in box.needs}
    assert boxes.keys() - needed == {"engine"}
    assert boxes["calibration"].lines == ("300 files", SHORT)
    assert boxes["quantize"].lines == ("int8 in 2 of 3", SHORT)
    assert boxes["calibrate"].lines == ("version 1", SHORT)
    places = [(box.column, box.row) for box in boxes.values()]
    assert len(set(places)) == len(places)


def test_ranges_from_elsewhere() -> None:
    from_cache = {box.name: box for box in _boxes(calibrated(images=0))}
    assert from_cache["calibration"].lines[0] == "my.cache"
    own = {box.name: box for box in _boxes(calibrated(own_quantization=True))}
    assert "calibration" not in own
    assert own["calibrate"].lines == ("the model's own", "Q/DQ nodes")


def test_the_picture_says_in_words_what_it_shows() -> None:
    picture = provenance(register("m/t/fp16").manifest)
    [label] = re.findall(r'role="img"[^>]*aria-label="([^"]*)"', picture)
    assert label.startswith(f"weights (m.pt, {SHORT}); export (version 1, tool 1.0) from weights;")
    assert "validate (mAP50-95 0.5000, FP32 0.5000) from validation images and export" in label
    assert picture.count("<rect") == picture.count('class="name"') == 8
    assert picture.count("<path") == 9


def test_a_long_name_is_cut_and_a_strange_one_is_escaped() -> None:
    plan = Path("plan")
    plan.write_bytes(b"plan")
    made_of = records(plan)
    made_of["export"]["recipe"]["parameters"]["source"] = "data/<b>a-very-long-name-of-weights.pt"
    picture = provenance(enter("m/t/fp16", plan, made_of).manifest)
    assert ">&lt;b&gt;a-very-long-nam…</text>" in picture and "<b>" not in picture


def test_the_report_has_one_for_each_engine_that_is_whole() -> None:
    for target in ("one", "two"):
        register(f"m/{target}/fp16")
    Path("artifacts/engines/m/two/fp16/manifest.json").write_text("{}")
    assert report("shop", listed(entries(), None), None).count('class="made"') == 1
