"""load: a pulled or registered engine that runs NumPy arrays on this host's GPU.

TensorRT runs in a child process of the toolchain's interpreter, as everywhere in Enginery: this
process needs neither it nor CUDA. Arrays pass through files below TMPDIR, or in memory (/dev/shm)
where there is such a place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from enginery.errors import DataError, EngineError, EngineryError
from enginery.project.target import OWN_INTERPRETER
from enginery.registry.manifest import Manifest
from enginery.registry.records import read_record
from enginery.registry.store import MANIFEST, Engine, check_whole
from enginery.toolchain.client import probe
from enginery.toolchain.environments import FOLDER
from enginery.toolchain.requests import PlanRequest, ToolchainInfo
from enginery.toolchain.session import Session

_MEMORY = Path("/dev/shm")
_LIMIT_S = 120.0
Array = NDArray[Any]


class LoadedEngine:
    """An engine on this host's GPU, until it is closed: use it in `with`.

    It belongs to the thread that loaded it, and ends with that.
    """

    def __init__(self, engine: Engine, session: Session, folder: Path) -> None:
        self._engine = engine
        self._session = session
        self._folder = folder
        self.milliseconds = 0.0

    @property
    def manifest(self) -> Manifest:
        """All that made the engine."""
        return self._engine.manifest

    @property
    def inputs(self) -> Mapping[str, str]:
        """The names of its inputs, each with NumPy's name of its type."""
        return dict(self._session.ready["inputs"])

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its outputs."""
        return tuple(self._session.ready["outputs"])

    def run(self, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
        """The outputs for one batch, by name; `milliseconds` is then how long the GPU took, with
        its transfers. An engine with one input takes an array alone.

        Raises:
            DataError: an input is missing, unknown, or cannot become the engine's type.
            EngineError: the engine does not take arrays of these shapes.
            ToolchainError: the child process ended.
        """
        files = dict(self._write(self._named(inputs)))
        answer = self._session.ask({"inputs": files, "outputs": self._folder})
        self.milliseconds = float(answer["milliseconds"])
        return {name: np.load(path) for name, path in answer["files"].items()}

    def run_images(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, Array]:
        """The outputs for images (height, width, 3; BGR, as OpenCV reads them), prepared as the
        engine's validation prepared them: one batch.

        Raises:
            MissingExtraError: OpenCV is not installed.
            As `run`.
        """
        from enginery.vision.images import preprocess

        manifest = self.manifest
        how, task = manifest.judging.preprocess, manifest.steps.export.task
        opt = manifest.built.image_profile.opt
        height, width = how.size_of(opt) if how else opt[2:]
        return self.run(np.stack([preprocess(each, height, width, task, how) for each in images]))

    def close(self) -> None:
        """Free the GPU."""
        self._session.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _named(self, inputs: Array | Mapping[str, Array]) -> Mapping[str, Array]:
        names = self.inputs
        if not isinstance(inputs, Mapping):
            if len(names) > 1:
                what = f"{self._engine.name} takes {', '.join(names)}, and was given one array"
                raise DataError(what, "Give a mapping of names to arrays")
            return {next(iter(names)): np.asarray(inputs)}
        if inputs.keys() != names.keys():
            what = f"{self._engine.name} takes {', '.join(names)}, not {', '.join(inputs)}"
            raise DataError(what, "Give an array for each of its inputs, by name")
        return inputs

    def _write(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, Path]]:
        for number, (name, array) in enumerate(inputs.items()):
            dtype = self.inputs[name]
            try:
                plain = np.ascontiguousarray(np.asarray(array).astype(dtype, casting="same_kind"))
            except (TypeError, ValueError):
                what = f"{self._engine.name}: input {name} is of {np.asarray(array).dtype}"
                raise DataError(what, f"Convert it to {dtype}") from None
            path = self._folder / f"input-{number}.npy"
            np.save(path, plain)
            yield name, path


def load(
    folder: Path | str, *, toolchain: Path | None = None, gpu: str | None = None
) -> LoadedEngine:
    """Load an engine from the folder of its plan and manifest, such as `engines/MODEL/current`.

    Every byte of the plan is compared with its manifest first. `toolchain` is the interpreter with
    its TensorRT (default: the first here that has it), `gpu` an index or UUID.

    Raises:
        IntegrityError: the plan is not the one that its manifest names.
        EngineError: no interpreter here has its TensorRT, its GPU is not here, or it does not load.
    """
    place = Path(folder).resolve()  # a link may lead elsewhere while this loads
    engine = Engine(place, read_record(place / MANIFEST, Manifest))
    check_whole(engine)
    python = _interpreter(engine, toolchain, gpu)
    manifest = engine.manifest
    plan = PlanRequest(
        runtime=manifest.runtime,
        plan=engine.plan,
        plan_sha256=manifest.plan.sha256,
        gpu=gpu,
        host_code=engine.built.version_compatible,
        dla_core=engine.built.dla_core,
    )
    session = Session(python, plan, lambda event: None, _LIMIT_S)
    session.open()
    memory = str(_MEMORY) if os.access(_MEMORY, os.W_OK) else None
    return LoadedEngine(engine, session, Path(tempfile.mkdtemp(prefix="enginery-", dir=memory)))


def _interpreter(engine: Engine, named: Path | None, gpu: str | None) -> Path:
    """The first interpreter of this host with which an engine runs."""
    pythons = [named] if named else [OWN_INTERPRETER, *sorted(FOLDER.glob("*/bin/python"))]
    reasons = []
    for python in pythons:
        try:
            why = _misfit(engine, probe(python, engine.manifest.runtime, gpu))
        except EngineryError as error:
            why = error.what
        if not why:
            return python
        reasons.append(f"{python}: {why}" if str(python) not in why else why)
    cure = "Name an interpreter that has it (toolchain=), or pull an engine for this host"
    raise EngineError(f"{engine.name} does not run here: {'; '.join(reasons)}", cure)


def _misfit(engine: Engine, info: ToolchainInfo) -> str:
    manifest = engine.manifest
    needed = f"{manifest.runtime} {manifest.runtime_version}"
    if manifest.platform != info.platform:
        return f"it is for {manifest.platform}"
    if info.version != manifest.runtime_version and not engine.built.version_compatible:
        return f"it needs {needed}, and there is {info.version}"
    if not any(engine.is_for(each["compute_capability"], each["gpu"]) for each in info.gpus):
        shown = ", ".join(each["gpu"] for each in info.gpus) or info.no_gpu or "no GPU"
        return f"it is for {manifest.gpu or manifest.compute_capability or 'any GPU'}, not {shown}"
    return ""
