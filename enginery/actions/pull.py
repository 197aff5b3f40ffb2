"""pull: the best engine of the team's registry for this host, checked before anything loads it.

    OUT/rtx-ada-fp16-v3/     model.plan, manifest.json, report.json
    OUT/current              a link to the version that a service loads

The link moves at once from one version to the next. The version before stays, for a service that
still reads it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from enginery.errors import (
    DamagedFileError,
    EngineryError,
    IntegrityError,
    NothingFitsError,
    SignatureError,
)
from enginery.project.engine_name import EngineName
from enginery.project.load import team_settings
from enginery.project.registry_settings import RegistrySettings
from enginery.registries import open_registry
from enginery.registries.interface import MANIFEST, PLAN, REPORT, Registry, serving
from enginery.registry.choice import Verdict, judge, runs_here
from enginery.registry.host import Host, misfits
from enginery.registry.manifest import Manifest, read_manifest
from enginery.registry.published import STATES, PublishedEngine, contents_of
from enginery.registry.statement import check_signature
from enginery.registry.store import Engine, damage
from enginery.system.files import atomic_folder
from enginery.toolchain.host import find_host

CURRENT, _TOLD = "current", ".told"
_TRUST = "It is not used. Publish it again, and find out who changed the registry"


@dataclass(frozen=True)
class PulledEngine:
    """An engine on this host; `folder` is the version's own, and `changed` says whether it came
    with this pull.
    """

    published: PublishedEngine
    folder: Path
    manifest: Manifest
    changed: bool

    @property
    def plan(self) -> Path:
        """The plan file."""
        return self.folder / PLAN


def pull(
    model: str,
    precision: str | None = None,
    *,
    state: str = "production",
    out: Path | None = None,
    registry: str | None = None,
    allowed_signers: Path | None = None,
    host: Host | None = None,
) -> PulledEngine:
    """Fetch the best published engine of a model for this host, and check it, as `enginery pull`.

    `registry` is its address (default: that of params.yaml, else the remote origin of this folder);
    with `allowed_signers` only what one of them signed is taken. `out` is engines/MODEL by default;
    `out/current` leads to the engine.

    Raises:
        NothingFitsError: no engine in this state runs on this host.
        IntegrityError: its bytes are not those that were published, or nobody signed them.
        RegistryError: the registry cannot be reached.
    """
    settings = team_settings(registry, allowed_signers)
    this, opened = host or find_host(), open_registry(settings)
    engine = best(choose(opened, model, this, state, precision), this, state)
    return install(opened, engine, out or Path("engines") / model, settings)


def choose(
    registry: Registry, model: str, host: Host, state: str, precision: str | None = None
) -> list[Verdict]:
    """What the registry has of a model, the best for a host first; those that do not fit last.

    Raises:
        EngineryError: it has none.
        SignatureError: somebody promoted one whose signature does not count.
        RegistryError: it cannot be reached.
    """
    engines = [each for each in registry.engines({model}) if precision in (None, each.precision)]
    if not engines:
        of = f"{model} {precision or ''}".strip()
        cure = "`enginery published` shows what it has; `enginery publish` adds to it"
        raise EngineryError(f"{registry.location} has no engine of {of}", cure)
    names = [] if state in STATES else runs_here(engines, host)
    return judge(engines, host, state, _served(registry, names, state))


def best(verdicts: list[Verdict], host: Host, state: str) -> PublishedEngine:
    """The first, if it fits.

    Raises:
        NothingFitsError: none fits.
    """
    if not verdicts[0].reasons:
        return verdicts[0].engine
    ready = [each.engine for each in verdicts if not misfits(each.engine, host)]
    what = f"no engine of {verdicts[0].engine.model} in {state} runs on this host ({host})"
    if ready:
        names = ", ".join(f"{engine.title} ({engine.state})" for engine in ready[:3])
        raise NothingFitsError(f"{what}; these would: {names}", "Promote one, or name its --state")
    cure = (
        "Build one: give params.yaml a target for this GPU and runtime, run `enginery build` and "
        "`enginery publish`"
    )
    raise NothingFitsError(what, cure)


def install(
    registry: Registry,
    engine: PublishedEngine,
    out: Path,
    settings: RegistrySettings,
    then: str = "",
) -> PulledEngine:
    """Have an engine below `out`, whole and checked, and let `out/current` lead to it; then run a
    command of the shell, unless it ran for this engine before.

    If the command fails, the link leads to the version before again.

    Raises:
        IntegrityError: its bytes are not those that were published.
        SignatureError: nobody signed it whose signature counts.
        DiskFullError: there is no room for it.
        EngineryError: the command failed, or the registry does not give the engine.
    """
    folder = out / f"{engine.target}-{engine.precision}-v{engine.version}"
    with _locked(out):
        before, is_here = _linked(out), _is_here(engine, folder, settings)
        if not is_here:
            with atomic_folder(folder) as partial:
                registry.fetch(engine, partial)
                _check(engine, partial, settings)
        changed = before != folder.name or not is_here
        manifest = read_manifest(folder / MANIFEST, engine.name)
        pulled = PulledEngine(engine, folder, manifest, changed)
        _link(out, folder.name)
        if then and _told(out) != _mark(engine):
            _run(then, pulled, before, out)
            (out / _TOLD).write_text(_mark(engine), encoding="utf-8")
        if changed:
            _clear(out, {folder.name, before})
    return pulled


def served_engines(
    registry: Registry,
    model: str,
    precision: str,
    stage: str,
    settings: RegistrySettings,
    folder: Path,
) -> list[Engine]:
    """Every engine of a model that serves in a stage, fetched below a folder and checked.

    Raises:
        IntegrityError: the bytes of one are not those that were published.
        SignatureError: somebody published or promoted one whose signature does not count.
        RegistryError: the registry cannot be reached.
    """
    engines = [each for each in registry.engines({model}) if each.precision == precision]
    names = sorted({engine.name for engine in engines})
    numbers = _served(registry, names, stage)
    served = []
    for engine in engines:
        if numbers.get(engine.name) == engine.version:
            place = folder / str(engine.name)
            place.mkdir(parents=True)
            registry.fetch(engine, place)
            served.append(_check(engine, place, settings))
    return served


def _served(registry: Registry, names: Sequence[EngineName], stage: str) -> dict[EngineName, int]:
    """Which versions serve in a stage, by events that are to be believed."""
    events = serving(registry.stage_events(names), stage) if names else {}
    for event in events.values():
        if event.doubt:
            cure = "Promote it again with a key that counts, or find out who did this"
            raise SignatureError(f"{event.name} in {stage}: {event.doubt}", cure)
    return {name: event.version for name, event in events.items()}


def _is_here(engine: PublishedEngine, folder: Path, settings: RegistrySettings) -> bool:
    if not folder.is_dir():
        return False
    with suppress(IntegrityError):
        _check(engine, folder, settings)
        return True
    return False


def _check(engine: PublishedEngine, folder: Path, settings: RegistrySettings) -> Engine:
    """Compare every byte with what was published, and that with its signature."""
    try:
        here = Engine(folder, read_manifest(folder / MANIFEST, engine.name))
    except DamagedFileError as error:
        raise IntegrityError(f"{engine.title}: {MANIFEST} {error.reason}", _TRUST) from None
    differing = contents_of(here, folder / REPORT).differences(engine)
    if differing:
        what = f"{engine.title}: its files are not what the registry lists ({', '.join(differing)})"
        raise IntegrityError(what, _TRUST)
    if harm := damage(here):
        raise IntegrityError(f"{engine.title}: {harm[0].partition(': ')[2]}", _TRUST)
    if settings.require_signature:
        check_signature(engine, folder, Path(settings.allowed_signers or ""))
    return here


def _linked(out: Path) -> str:
    """The name of the version that the link leads to; empty if there is none."""
    link = out / CURRENT
    return str(link.readlink()) if link.is_symlink() else ""


def _link(out: Path, name: str) -> None:
    """Let the link lead to a version, or take it away, at once."""
    link, partial = out / CURRENT, out / f".{CURRENT}.{os.getpid()}"
    if link.exists() and not link.is_symlink():
        what = f"{link} is no link: something else lies in its place"
        raise EngineryError(what, "Name another folder with --out")
    if not name:
        link.unlink(missing_ok=True)
        return
    partial.unlink(missing_ok=True)
    partial.symlink_to(name)
    partial.replace(link)


def _told(out: Path) -> str:
    """For which engine the command ran last: a pull may be killed before it runs it."""
    with suppress(OSError, UnicodeDecodeError):
        return (out / _TOLD).read_text(encoding="utf-8")
    return ""


def _mark(engine: PublishedEngine) -> str:
    return f"{engine.title} {engine.manifest_sha256}\n"


def _run(command: str, pulled: PulledEngine, before: str, out: Path) -> None:
    environment = {**os.environ, "ENGINERY_ENGINE": str(pulled.folder.resolve())}
    ended = subprocess.run(command, shell=True, env=environment, check=False)
    if ended.returncode:
        _link(out, before)
        what = f"the command of --then ended with {ended.returncode}: {command}"
        cure = f"{out / CURRENT} leads to {before or 'nothing'} again; the next pull tries again"
        raise EngineryError(what, cure)


def _clear(out: Path, kept: set[str]) -> None:
    """Remove versions that no link leads to any more."""
    for folder in sorted(out.glob("*-v*")):
        if folder.name not in kept and (folder / MANIFEST).is_file():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One pull at a time in a folder: the second waits, and finds what the first one brought."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
