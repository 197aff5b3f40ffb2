"""Bad params.yaml and dvc.yaml, and toolchains that do not work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.trouble.cases.case import Case
from benchmarks.trouble.cases.harm import (
    binary,
    empty,
    fifo,
    folder,
    gone,
    half_conflict,
    on,
    set_int8,
    set_matrix,
    set_own,
    text,
)
from benchmarks.trouble.checkouts import Params, Place


def alias_bomb(place: Place) -> None:
    """Nine levels of nine: a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    old = (place.root / "params.yaml").read_text()
    place.write("params.yaml", "\n".join(lines) + "\n" + old + "demo: *a9\n")


def tabs(place: Place) -> None:
    """Indented with tabs."""
    old = (place.root / "params.yaml").read_text()
    place.write("params.yaml", old.replace("\n  ", "\n\t"))


def stage_without_key(place: Place) -> None:
    """dvc.yaml has the demo's stage, params.yaml has no demo."""
    stage = (
        "  demo-data:\n    cmd: .venv/bin/python -m tasks.demo_data\n"
        "    deps: [artifacts/recipes/demo-data/recipe.json]\n    outs: [data/demo/validation]\n"
    )
    place.write("dvc.yaml", (place.root / "dvc.yaml").read_text() + stage)


def key_without_stage(place: Place) -> None:
    """params.yaml has the demo, dvc.yaml has no stage for it."""
    place.change(
        lambda params: params.update(demo={"validation_images": 4, "calibration_images": 4})
    )


def toolchain(*lines: str, mode: int = 0o755) -> Callable[[Place], None]:
    """The interpreter of rtx-ada is a script of these lines; none: it is missing."""

    def edit(params: Params) -> None:
        params["toolchains"] = {"bad": {"python": ".toolchains/bad/bin/python"}}
        params["targets"]["rtx-ada"]["toolchain"] = "bad"

    def harm(place: Place) -> None:
        place.change(edit)
        if lines:
            place.write(".toolchains/bad/bin/python", "\n".join(lines) + "\n").chmod(mode)

    return harm


def broken_import(place: Place) -> None:
    """A TensorRT-RTX that cannot be imported."""
    broken = place.root / ".toolchains/broken/tensorrt_rtx"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(
        "raise ImportError('libnvinfer.so.10: cannot open shared object file')\n"
    )
    python = place.root / ".venv/bin/python"
    toolchain("#!/bin/sh", f'PYTHONPATH="{broken.parent}" exec "{python}" "$@"')(place)


def params_cases() -> Iterator[Case]:
    def params(name: str, harm: Callable[[Place], object], says: str, row: int = 0) -> Case:
        return Case(f"params: {name}", harm, says, row, after="nothing")

    def file(
        name: str, damage: Callable[[Path], object], says: str = r"params\.yaml", row: int = 0
    ) -> Case:
        return params(name, on("params.yaml", damage), says, row)

    yield params("an alias bomb", alias_bomb, r"params\.yaml", 7)
    yield params("tabs", tabs, r"params\.yaml|not readable as YAML.*line")
    yield params("an unknown key", set_own(colour="red"), r"models\.own\.colour: unknown key")
    yield params("a wrong type", set_own(height="tall"), r"models\.own\.height")
    yield params(
        "a list for a mapping", lambda place: place.change(lambda p: p.update(models=[1])), "models"
    )
    yield params("infinity", set_own(batch=float("inf")), r"models\.own\.batch")
    yield params("a huge number", set_own(height=2**70), r"models\.own\.height", 6)
    yield params(
        "an unknown target", set_matrix(targets=["rtx-ada", "moon"]), "matrix.targets.*moon"
    )
    yield params(
        "an unknown model", set_matrix(models=["good", "own", "moon"]), "matrix.models.*moon"
    )
    yield params("an unknown precision", set_matrix(precisions=["fp8"]), "matrix.precisions.*fp8")
    yield params("a bad pattern", set_int8(exclude=["("]), r"int8\.own\.exclude")
    yield file("a merge conflict", half_conflict, "not readable as YAML.*line")
    yield file("a FIFO", fifo, r"params\.yaml.*(plain file|regular file|FIFO|pipe)", 7)
    yield file("binary", binary, "not readable as YAML")
    yield file("a folder", folder)
    yield file("missing", gone, r"params\.yaml|no such file here")
    yield file("empty", empty)
    yield params("deeply nested", text("[" * 100_000), r"params\.yaml|not readable as YAML", 6)
    yield params("an anchor within itself", text("models: &a [*a]\n"), r"params\.yaml|models", 6)
    yield params(
        "a Python object", text("!!python/object/apply:os.system [true]\n"), "not readable as YAML"
    )
    yield params("latin-1", text("# caf\xe9\n".encode("latin-1")), "not readable as YAML")
    yield params("the demo's stage without its key", stage_without_key, r"demo", 17)
    yield params("the demo's key without its stage", key_without_stage, r"demo", 17)
    yield Case(
        "params: dvc.yaml is no YAML",
        on("dvc.yaml", half_conflict),
        r"dvc\.yaml",
        6,
        after="nothing",
    )
    yield Case(
        "params: dvc.yaml is missing", on("dvc.yaml", gone), r"dvc\.yaml", 6, after="nothing"
    )
    yield Case("params: dvc.yaml is empty", on("dvc.yaml", empty), r"dvc\.yaml", 6, after="nothing")


def toolchain_cases() -> Iterator[Case]:
    def broken(name: str, harm: Callable[[Place], object], says: str, **more: Any) -> Case:
        return Case(f"toolchain: {name}", harm, says, 16, **more)

    this = r"toolchains/bad/bin/python"
    sh = "#!/bin/sh"
    yield broken("missing", toolchain(), f"{this}.*No such file")
    yield broken("broken import", broken_import, "libnvinfer.so.10: cannot open")
    yield broken(
        "hangs", toolchain(sh, "sleep 1000"), f"({this}|toolchain bad).*time limit", limit_s=150
    )
    yield broken(
        "a text file",
        toolchain("just text", mode=0o644),
        f"{this}.*(Permission denied|Exec format)",
    )
    yield broken("an executable text file", toolchain("just text"), f"{this}.*Exec format")
    yield broken("prints garbage", toolchain(sh, "echo hello"), f"{this}.*without a result")
    yield broken("is killed", toolchain(sh, "kill -9 $$"), f"{this}.*SIGKILL")
    yield broken(
        "exits with 3", toolchain(sh, "echo no luck >&2", "exit 3"), f"{this}.*exit code 3.*no luck"
    )
    yield broken(
        "without its GPU's capability",
        _impossible,
        "rtx-ada.*cannot build for compute capability 9.0",
    )


def _impossible(place: Place) -> None:
    place.change(lambda params: params["targets"]["rtx-ada"].update(compute_capability="9.0"))
