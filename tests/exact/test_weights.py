"""Weights that are refused: why, in which words, and what becomes of weights that are NaN."""

from __future__ import annotations

import errno
import hashlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import ultralytics
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.sources import export, onnx_export, ultralytics_export
from enginery.sources.export import ExportSettings

SOURCE, COPIED = Path("user/w.pt"), Path("/tmp/x/model.pt")
AGAIN = "Copy the weights again, or name another file"


class OwnError(Exception):
    """An error without words."""


def unsafe(text: str) -> Exception:
    error = RuntimeError("refused")
    error.__cause__ = pickle.UnpicklingError(text)
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("odd"), "odd"),
        (ValueError(f"ERROR ❌️ {COPIED}\n  is\t odd..."), "w.pt is odd"),
        (ValueError("x" * 250), "x" * 200),
        (OwnError(), "OwnError"),
        (unsafe("nothing that is known"), "it is damaged, or no checkpoint that loads safely"),
    ],
)
def test_weights_that_cannot_be_used(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.serialization, "get_unsafe_globals_in_checkpoint", lambda path: [])
    found = ultralytics_export._unusable(SOURCE, COPIED, error)
    assert isinstance(found, ModelError)
    assert found.what == f"user/w.pt is no usable Ultralytics model: {reason}"
    assert found.cure == AGAIN


def test_weights_that_would_run_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    listed = ["z.z", "b.b", "c.c", "d.d", "e.e", "a.a"]
    monkeypatch.setattr(
        torch.serialization,
        "get_unsafe_globals_in_checkpoint",
        lambda path: asked.append(path) or listed,
    )
    found = ultralytics_export._unusable(
        SOURCE, COPIED, unsafe("GLOBAL os.system was not an allowed global")
    )
    assert asked == [COPIED]
    assert found.what == (
        "user/w.pt is not loaded: it holds a.a, b.b, c.c, d.d, e.e, "
        "which cannot be loaded without running what it says"
    )
    assert found.cure == (
        "Save only the network, with today's Ultralytics; or, if you trust whoever made the file, add "
        "`trusted: true` to the model in params.yaml"
    )


@pytest.mark.parametrize("fails", [True, False])
def test_what_a_checkpoint_must_not_name(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """Where its format cannot be listed, or nothing is, the refusal's own words count."""

    def listed(path: Path) -> list[str]:
        if fails:
            raise ValueError
        return []

    monkeypatch.setattr(torch.serialization, "get_unsafe_globals_in_checkpoint", listed)
    text = "GLOBAL os.system was not an allowed global; unsafe getattr(a, b) and getattr(c)"
    assert ultralytics_export._unsafe_names(COPIED, text) == "os.system, unsafe getattr(a, b)"
    assert ultralytics_export._unsafe_names(COPIED, "nothing") == ""


@pytest.mark.parametrize("task", ["detect", "classify"])
@pytest.mark.parametrize("trusted", [True, False])
def test_weights_are_loaded_as_far_as_they_are_trusted(
    monkeypatch: pytest.MonkeyPatch, trusted: bool, task: str
) -> None:
    called: list[Any] = []

    @contextmanager
    def loading(given: bool) -> Iterator[None]:
        called.append(given)
        yield

    def load(path: str) -> Any:
        called.append(path)
        return SimpleNamespace(model=SimpleNamespace(stride=[8]))

    monkeypatch.setattr(ultralytics_export, "loading", loading)
    monkeypatch.setattr(
        ultralytics_export, "import_torchvision", lambda: called.append("torchvision")
    )
    monkeypatch.setattr(ultralytics, "YOLO", load)
    settings = ExportSettings(task, trusted=trusted)
    assert ultralytics_export._load(SOURCE, COPIED, settings).model.stride == [8]
    assert called == [trusted, *(["torchvision"] if task == "classify" else []), str(COPIED)]


@pytest.mark.parametrize(
    "load",
    [
        lambda path: SimpleNamespace(model=SimpleNamespace()),
        lambda path: SimpleNamespace(model={"stride": 1}),
    ],
)
def test_a_checkpoint_without_a_network(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    asked: list[Any] = []
    unusable = ultralytics_export._unusable
    monkeypatch.setattr(ultralytics, "YOLO", load)
    monkeypatch.setattr(
        ultralytics_export, "_unusable", lambda *given: asked.append(given) or unusable(*given)
    )
    with pytest.raises(
        ModelError, match=r"is no usable Ultralytics model: .*has no attribute 'stride'"
    ):
        ultralytics_export._load(SOURCE, COPIED, ExportSettings("detect"))
    assert asked[0][:2] == (SOURCE, COPIED)


def test_a_full_disk_is_no_damaged_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ultralytics, "YOLO", fail)
    with pytest.raises(OSError, match="No space left"):
        ultralytics_export._load(SOURCE, COPIED, ExportSettings("detect"))
    with pytest.raises(OSError, match="No space left"):
        ultralytics_export._run_export(
            SimpleNamespace(export=fail), SOURCE, ExportSettings("detect")
        )


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_nan_is_found_wherever_it_is(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    monkeypatch.setattr(export, "_PART", 2)
    for place in range(7):
        values = np.ones(7, kind)
        values[place] = np.nan
        assert export._has_nan(numpy_helper.from_array(values, "w"))
    assert not export._has_nan(numpy_helper.from_array(np.full(7, np.inf, kind), "w"))
    assert not export._has_nan(numpy_helper.from_array(np.ones((0,), kind), "w"))


def test_whole_numbers_and_words_are_never_nan() -> None:
    assert not export._has_nan(numpy_helper.from_array(np.ones(7, np.int64), "w"))
    words = TensorProto(data_type=TensorProto.STRING, dims=[1], string_data=[b"nan"])
    assert not export._has_nan(words)
    assert (export._PART, export.SHOWN_NAMES) == (1 << 24, 5)


def test_a_source_of_another_digest(tmp_path: Path) -> None:
    source = tmp_path / "w.pt"
    source.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "x").mkdir()
    same = export.copy_source(source, tmp_path / "x", ExportSettings("detect", sha256=digest))
    assert (same, same.read_bytes()) == (tmp_path / "x/model.pt", b"weights")
    with pytest.raises(ModelError) as error:
        export.copy_source(source, tmp_path / "x", ExportSettings("detect", sha256="0"))
    assert error.value.what == f"{source} has the SHA-256 {digest}, and params.yaml says 0"
    assert error.value.cure == "Get the file again; if the new one is meant, correct `sha256`"


def test_a_graph_is_copied_with_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = tmp_path / "own.onnx", tmp_path / "x"
    source.write_bytes(b"graph")
    (tmp_path / "a/b").mkdir(parents=True)
    folder.mkdir()
    names = ["a/b/c", "a/b/d"]
    for name in names:
        (tmp_path / name).write_text(name)
    asked: list[Any] = []
    monkeypatch.setattr(onnx_export, "data_files", lambda *given: asked.append(given) or names)
    monkeypatch.setattr(onnx_export, "check_data_file", lambda *given: asked.append(given))
    copied, digests = onnx_export._copy_onnx(source, folder, ExportSettings("detect"))
    assert copied == folder / "model.onnx"
    assert asked == [
        (copied, source),
        *((tmp_path / name, tmp_path / name, source) for name in names),
    ]
    assert digests == {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    assert [(folder / name).read_text() for name in names] == names


def test_a_stride_of_one_is_one() -> None:
    assert export.facts_of(ExportSettings("detect"), {}, 1, None)["stride"] == 1
    with pytest.raises(ValueError):
        export.facts_of(ExportSettings("detect"), {}, 0, None)


def test_a_graph_is_fed_by_one_input() -> None:
    model = onnx.ModelProto(opset_import=[helper.make_opsetid("", 17)])
    with pytest.raises(ModelError) as error:
        onnx_export._check_ends(SOURCE, model)
    assert error.value.what == (
        "user/w.pt has 0 inputs (none), and images are fed to a graph with one"
    )
    for name in "ab":
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]))
    with pytest.raises(ModelError) as error:
        onnx_export._check_ends(SOURCE, model)
    assert error.value.what == (
        "user/w.pt has 2 inputs (a, b), and images are fed to a graph with one"
    )
    cure = "Export it with the image as its only input, or set `task: tensors`"
    assert error.value.cure == cure
