"""Which layers INT8 costs most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import enginery.actions.sensitivity
from enginery.actions.sensitivity import RankedLayer
from enginery.calibration import cache
from enginery.errors import EngineryError
from enginery.project.params import Spec
from enginery.project.paths import model_folder
from enginery.quantization.sensitivity import LayerCost
from enginery.system.files import read_json, write_json
from enginery.vision.tasks import TaskMetadata
from tests.exact.steps.common import HEAD, MODEL, network
from tests.registered import compared


@pytest.fixture
def ranked(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A calibrated model, three pictures, and costs that are given."""
    graph = model_folder(MODEL, "simplify") / "model.onnx"
    graph.parent.mkdir(parents=True)
    onnx.save(network(), graph)
    folder = model_folder(MODEL, "calibration")
    write_json(folder / "record.json", {})
    cache.write(cache.from_thresholds({"images": 1.27, "r": 2.54}), folder / "calibration.cache")
    Path(spec.int8[MODEL].calibration).mkdir(parents=True)
    found = SimpleNamespace(asked=[], images=np.zeros((1, 3, 4, 4), np.float32), ranks=0)

    def feeds(*given: Any) -> Any:
        found.asked.append(given)
        return [{"images": found.images}]

    def rank(
        model: Any, placement: Any, thresholds: Any, images: Any, told: Any
    ) -> list[LayerCost]:
        found.ranks += 1
        found.given = (list(placement.nodes), thresholds, images)
        return [LayerCost(HEAD, 0.5), LayerCost("/model.0/conv/Conv", 0.25)]

    monkeypatch.setattr(
        enginery.actions.sensitivity,
        "list_images",
        lambda *given: found.asked.append(given) or tuple(map(Path, "abcdefghij")),
    )
    monkeypatch.setattr(enginery.actions.sensitivity, "feeds", feeds)
    monkeypatch.setattr(enginery.actions.sensitivity, "rank", rank)
    return found


def test_layers_are_ranked_on_eight_calibration_images(spec: Spec, ranked: Any) -> None:
    costs = enginery.actions.sensitivity.ranking(spec, MODEL)
    assert costs == [
        RankedLayer(HEAD, 0.5, kept_in_fp16=True),
        RankedLayer("/model.0/conv/Conv", 0.25, kept_in_fp16=False),
    ]
    graph = model_folder(MODEL, "simplify") / "model.onnx"
    assert ranked.asked == [
        (Path(spec.int8[MODEL].calibration), "detect", "calibration", True),
        (graph, tuple(map(Path, "abcdefgh")), "detect", spec.models[MODEL].size, None, None),
    ]
    nodes, thresholds, images = ranked.given
    assert (nodes, images) == (["/model.0/conv/Conv", HEAD], [{"images": ranked.images}])
    assert thresholds == pytest.approx({"images": 1.27, "r": 2.54})


def test_a_ranking_is_kept_until_something_changes(spec: Spec, ranked: Any) -> None:
    first = enginery.actions.sensitivity.ranking(spec, MODEL)
    assert enginery.actions.sensitivity.ranking(spec, MODEL) == first
    assert ranked.ranks == 1
    kept = model_folder(MODEL, "int8") / "sensitivity.json"
    assert [layer["layer"] for layer in read_json(kept)["layers"]] == [HEAD, "/model.0/conv/Conv"]
    ranked.images = np.ones((1, 3, 4, 4), np.float32)
    enginery.actions.sensitivity.ranking(spec, MODEL)
    cache.write(
        cache.from_thresholds({"images": 1.0, "r": 2.0}),
        model_folder(MODEL, "calibration") / "calibration.cache",
    )
    enginery.actions.sensitivity.ranking(spec, MODEL)
    onnx.save(network(2), model_folder(MODEL, "simplify") / "model.onnx")
    enginery.actions.sensitivity.ranking(spec, MODEL)
    assert ranked.ranks == 4


def test_an_imported_cache_ranks_the_layers_that_it_has_ranges_for(spec: Spec, ranked: Any) -> None:
    cache.write(
        cache.from_thresholds({"images": 1.0}),
        model_folder(MODEL, "calibration") / "calibration.cache",
    )
    enginery.actions.sensitivity.ranking(spec, MODEL)
    assert ranked.given[0] == ["/model.0/conv/Conv"]


def test_without_a_folder_of_calibration_images_the_validations_count(
    spec: Spec, ranked: Any
) -> None:
    Path(spec.int8[MODEL].calibration).rmdir()
    enginery.actions.sensitivity.ranking(spec, MODEL)
    place = Path(spec.models[MODEL].validation)
    assert ranked.asked[0] == (place, "detect", "validation", True)


def test_what_cannot_be_ranked(spec: Spec) -> None:
    def refused(name: str) -> str:
        with pytest.raises(EngineryError) as error:
            enginery.actions.sensitivity.ranking(spec, name)
        return str(error.value)

    assert refused("other") == f"other has no calibration in params.yaml. int8 has {MODEL}"
    assert (
        refused(MODEL)
        == f"{MODEL} is not calibrated yet. Run `enginery build --precision int8` first"
    )
    write_json(model_folder(MODEL, "calibration") / "record.json", {})
    assert (
        refused(MODEL)
        == f"{MODEL} brings its own Q/DQ nodes. Its training decided what is quantized"
    )


def test_the_fewest_layers_are_proposed_by_their_exact_names(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def passes(names: Sequence[str]) -> bool:
        asked.append(list(names))
        return len(names) >= 2

    monkeypatch.setattr(enginery.actions.sensitivity, "_gate", lambda *given: passes)
    layers = [RankedLayer(name, 0.5, name == "b") for name in ("/a.0/Conv", "b", "c+", "d")]
    assert enginery.actions.sensitivity.propose(spec, MODEL, layers) == [r"^/a\.0/Conv$", r"^c\+$"]
    assert asked == [[], ["/a.0/Conv"], ["/a.0/Conv", "c+"]]
    assert enginery.actions.sensitivity.propose(spec, MODEL, layers[:1]) is None


def test_a_proposal_is_judged_as_the_pipeline_would(
    spec: Spec,
    ranked: Any,
    here: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_json(
        model_folder(MODEL, "export") / "record.json", {"task": "detect", "names": {"0": "a"}}
    )
    asked: list[Any] = []

    def validate_graph(*given: Any) -> Any:
        graph = onnx.load(given[1]).graph
        quantized = [
            node.name
            for node in graph.node
            if node.op_type == "Conv" and "dequantized" in node.input[0]
        ]
        asked.append((given[0], quantized, *given[2:4], given[5]))
        value = 0.5 if len(quantized) else 0.3
        return SimpleNamespace(to_dict=lambda: compared(value=value))

    monkeypatch.setattr(enginery.actions.sensitivity, "validate_graph", validate_graph)
    passes = enginery.actions.sensitivity._gate(spec, MODEL)
    assert passes([]) is True
    assert passes(["/model.0/conv/Conv"]) is False
    model = spec.models[MODEL]
    expected = (
        model_folder(MODEL, "export") / "model.onnx",
        ["/model.0/conv/Conv"],
        Path(model.validation),
        TaskMetadata("detect", {0: "a"}),
        model.size,
    )
    assert asked == [expected, (expected[0], [], *expected[2:])]
    assert here == [
        ("0 more layers in FP16: passes",),
        (
            "1 more layers in FP16: mAP50-95 0.3000 against 0.5000 of the FP32 original, a drop of 0.01 is allowed",
        ),
    ]
