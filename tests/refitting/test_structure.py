"""What is a graph's structure, and what are weights that a refit takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from enginery.graphs.structure import save_weights, structure_digest
from tests.refitting.common import Edit, weights


def taken(model: onnx.ModelProto, names: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The named weights as a refit is given them."""
    save_weights(model, names, folder / "w.npz", "w/")
    with np.load(folder / "w.npz") as found:
        return {name: found[name] for name in found.files}


def digest(model: onnx.ModelProto, names: tuple[str, ...] = ("w",), excluded: str = "") -> str:
    return structure_digest(model, names, excluded)


def test_named_weights_are_no_part_of_the_structure(model: onnx.ModelProto, tmp_path: Path) -> None:
    before, kept = digest(model), model.SerializeToString(deterministic=True)
    weights(model, lambda values: values * 2)
    assert digest(model) == before
    assert model.SerializeToString(deterministic=True) != kept
    numpy = taken(model, ("w",), tmp_path)["w/w"]
    digest(model)
    np.testing.assert_array_equal(
        taken(model, ("w",), tmp_path)["w/w"], numpy
    )  # the graph itself keeps its weights


@pytest.mark.parametrize(
    "edit",
    [
        lambda model: weights(model, lambda values: values[:, :, :1, :1]),
        lambda model: weights(model, lambda values: values.astype(np.float16)),
        lambda model: (
            model.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("pads", [2, 2, 2, 2]))
        ),
        lambda model: setattr(model.graph.node[1], "op_type", "Sigmoid"),
        lambda model: setattr(model.graph.node[0], "name", "other"),
        lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2),
        lambda model: model.graph.initializer.append(
            numpy_helper.from_array(np.ones(1, np.float32), "more")
        ),
        lambda model: setattr(model.opset_import[0], "version", 16),
    ],
    ids=[
        "weights' shape",
        "weights' type",
        "attribute",
        "operator",
        "name",
        "input's shape",
        "one more",
        "opset",
    ],
)
def test_everything_else_is(model: onnx.ModelProto, edit: Edit) -> None:
    before = digest(model)
    edit(model)
    assert digest(model) != before


def test_unnamed_weights_and_excluded_layers_are(model: onnx.ModelProto) -> None:
    before, unnamed = digest(model), digest(model, ())
    assert digest(model, excluded="last") != before != unnamed
    weights(model, lambda values: values * 2)
    assert digest(model) == before
    assert digest(model, ()) != unnamed


def test_only_named_weights_are_taken(model: onnx.ModelProto, tmp_path: Path) -> None:
    assert taken(model, ("nothing",), tmp_path) == {}
    assert taken(model, ("w", "nothing"), tmp_path)["w/w"].shape == (4, 3, 3, 3)
