"""Sources with data beside them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

from enginery.errors import ModelError
from enginery.graphs import data_files, external, tensors
from enginery.project.load import load_spec
from enginery.project.stage import Stage
from enginery.sources.export import export
from enginery.system.files import sha256
from tests.conftest import use_onnx
from tests.external.common import LIMIT, MODEL, SETTINGS, remove, split
from tests.stages import recipes_of


@pytest.mark.parametrize(
    "name", ["model.onnx_data", "", "weights/ü 1.bin"], ids=["one", "many", "in a folder"]
)
def test_a_source_with_data_beside_it_becomes_the_same_graph(
    whole: Path, tmp_path: Path, name: str
) -> None:
    source = split(whole, tmp_path / "source", name)
    facts = export(source, SETTINGS, tmp_path / "export/model.onnx")
    assert sha256(tmp_path / "export/model.onnx") == sha256(whole)
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["model.onnx"]
    files = {
        path.relative_to(source.parent).as_posix(): sha256(path)
        for path in source.parent.rglob("*")
        if path.is_file()
    }
    assert facts["source_data"] == {
        name: digest for name, digest in files.items() if name != "own.onnx"
    }
    assert (
        facts["source_sha256"]
        == data_files.source_digest(source, facts["source_data"])
        != sha256(source)
    )
    assert facts["nodes"] > 100


def test_a_digest_covers_the_data(whole: Path, tmp_path: Path) -> None:
    source = split(whole, tmp_path)
    before = data_files.data_digests(source)
    with (tmp_path / "model.onnx_data").open("r+b") as file:
        file.seek(5000)
        file.write(b"!")
    after = data_files.data_digests(source)
    assert before.keys() == after.keys() == {"model.onnx_data"}
    assert data_files.source_digest(source, before) != data_files.source_digest(source, after)
    assert data_files.data_digests(whole) == {}
    assert data_files.source_digest(whole, {}) == sha256(whole)


def test_the_recipe_of_an_export_names_the_data(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC's stage depends on the graph's own file alone."""
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((Path(__file__).resolve().parents[2] / "params.yaml").read_text())
    use_onnx(params, "own.onnx")
    Path("params.yaml").write_text(yaml.safe_dump(params))

    def parameters() -> Any:
        return recipes_of(load_spec())[Stage("export", MODEL).recipe]["parameters"]

    plain = {"source": "own.onnx", "task": "detect"}
    assert parameters() == plain  # it is not even there: the export says so
    split(whole, tmp_path)
    assert parameters() == {**plain, "data": {"model.onnx_data": sha256(Path("model.onnx_data"))}}
    Path("model.onnx_data").unlink()
    assert parameters() == {**plain, "data": {"model.onnx_data": "missing"}}
    shutil.copyfile(whole, "own.onnx")
    assert parameters() == plain
    Path("own.onnx").write_bytes(b"location of nothing")
    assert parameters() == plain
    Path("own.onnx").unlink()
    os.mkfifo("own.onnx")  # nobody waits for a writer
    assert parameters() == plain


def cut(source: Path) -> str:
    os.truncate(source.with_name("model.onnx_data"), 20_000)
    return "own.onnx: its data file {folder}/model.onnx_data has 20000 bytes, "


def fifo(source: Path) -> str:
    source.with_name("model.onnx_data").unlink()
    os.mkfifo(source.with_name("model.onnx_data"))
    return "own.onnx: its data file {folder}/model.onnx_data is no plain file"


def renamed(**fields: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        model = onnx.load(source, load_external_data=False)
        tensor = next(tensor for tensor in model.graph.initializer if tensors.is_external(tensor))
        for entry in tensor.external_data:
            entry.value = fields.get(entry.key, entry.value)
        source.write_bytes(model.SerializeToString())

    return change


def upwards(source: Path) -> str:
    renamed(location="../model.onnx_data")(source)
    return "lies in '../model.onnx_data', which is no file beside the graph"


def absolute(source: Path) -> str:
    renamed(location="/etc/passwd")(source)
    return "lies in '/etc/passwd', which is no file beside the graph"


def nameless(source: Path) -> str:
    renamed(location="")(source)
    return "lies in '', which is no file beside the graph"


def too_long(source: Path) -> str:
    renamed(length="7")(source)
    return "bytes, and it says 7 from "


def negative(source: Path) -> str:
    renamed(offset="-4096")(source)
    return "from -4096 on in model.onnx_data"


def of_a_huge_shape(source: Path) -> str:
    model = onnx.load(source, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensors.is_external(tensor))
    tensor.dims[:] = [1 << 40, 1 << 40]
    for entry in tensor.external_data:
        if entry.key == "length":
            entry.value = str(1 << 82)
    source.write_bytes(model.SerializeToString())
    return "are needed: it was cut off, or is another graph's"


@pytest.mark.parametrize("limit", [LIMIT, 1_900_000_000], ids=["large", "small"])
@pytest.mark.parametrize(
    "damage",
    [
        remove,
        cut,
        fifo,
        upwards,
        absolute,
        nameless,
        too_long,
        negative,
        of_a_huge_shape,
    ],
)
def test_bad_data_is_one_line(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any, limit: int
) -> None:
    monkeypatch.setattr(external, "LARGEST", limit)
    folder = tmp_path / "source"
    words = damage(split(whole, folder)).format(folder=folder)
    with pytest.raises(ModelError) as error:
        export(folder / "own.onnx", SETTINGS, tmp_path / "export/model.onnx")
    assert words in str(error.value)
    assert str(folder / "own.onnx") in str(error.value)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "export").iterdir()) == []
