"""An engine as it is here, or as another commit has it: `rtx-ada/int8@HEAD~1`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from enginery.errors import EngineryError
from enginery.pipeline.lockfile import Output
from enginery.pipeline.revisions import Revision, read_from
from enginery.project.engine_name import EngineName
from enginery.project.paths import engine_folder, engine_report
from enginery.registry.manifest import read_manifest
from enginery.registry.store import MANIFEST, Engine, find
from enginery.system.files import temporary_folder

AT = "@"


@contextmanager
def named_engine(name: str) -> Iterator[tuple[str, Engine]]:
    """What to call an engine, and the engine; of another commit only the manifest and the report
    are read, which are gone afterwards.

    Raises:
        EngineryError: there is none or several, or its manifest cannot be had.
    """
    part, at, revision = name.partition(AT)
    if not at:
        engine = find(name)
        yield engine.name, engine
        return
    commit = Revision.of(revision)
    identity, output = _find(part, commit, commit.engines())
    with temporary_folder() as root:
        yield f"{identity}{AT}{revision}", _brought(identity, output, commit, root)


def _find(
    name: str, revision: Revision, engines: Mapping[EngineName, Output]
) -> tuple[EngineName, Output]:
    """As `store.find`."""
    matching = [engine for engine in engines if str(engine) == name]
    matching = matching or [engine for engine in engines if name in str(engine)]
    if len(matching) != 1:
        names = ", ".join(map(str, sorted(matching or engines)))
        what = f"{'more than one' if matching else 'no'} engine is called {name!r}"
        raise EngineryError(f"{what} in {revision.name}", f"It has {names or 'none'}")
    return matching[0], engines[matching[0]]


def _brought(name: EngineName, output: Output, revision: Revision, root: Path) -> Engine:
    parts = (name.model, name.target, name.precision)
    folder = root / engine_folder(*parts)
    files = {
        folder / MANIFEST: read_from(output, MANIFEST),
        root / engine_report(*parts): revision.file(engine_report(*parts)),
    }
    for path, content in files.items():
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return Engine(folder, read_manifest(folder / MANIFEST, name))
