"""publish: this machine's engines to the team's registry, those that it does not have yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from enginery.project.engine_name import EngineName
from enginery.project.params import Spec
from enginery.registries.interface import MANIFEST, REPORT, Publication, Registry, newest
from enginery.registry.published import Contents, contents_of
from enginery.registry.standing import standing
from enginery.registry.statement import signed_files
from enginery.registry.store import Engine, Entry, check_whole

_CURRENT = ("candidate", "validated")


@dataclass(frozen=True)
class Proposal:
    """What there is to publish, how many engines the registry has already, and why others are left
    out, by name.
    """

    new: tuple[Publication, ...]
    published: int
    left_out: Mapping[EngineName, str]


def propose(
    spec: Spec, registry: Registry, entries: Sequence[Entry], names: Collection[EngineName] = ()
) -> Proposal:
    """Which engines are new to the registry; of `names` only, if there are any.

    Raises:
        IntegrityError: a plan is damaged.
        RegistryError: the registry cannot be reached.
    """
    asked_for = set(spec.engines())
    chosen = [entry for entry in entries if not names or entry.identity in names]
    how = {entry.identity: standing(entry, asked_for) for entry in chosen}
    left_out = {
        name: f"{each.state}: {each.reason}"
        for name, each in how.items()
        if each.state not in _CURRENT
    }
    current = [
        entry for entry in chosen if isinstance(entry, Engine) and entry.identity not in left_out
    ]
    known = newest(registry.engines({entry.model for entry in current}) if current else [])
    every = [_publication(engine, spec.registry.signing_key) for engine in current]
    new = tuple(each for each in every if not each.is_in(known.get(each.contents.name)))
    return Proposal(new, len(every) - len(new), left_out)


def _publication(engine: Engine, key: str | None) -> Publication:
    check_whole(engine)
    contents = contents_of(engine, engine.report_path)
    files = {MANIFEST: (engine.folder / MANIFEST).read_bytes()}
    if contents.report_sha256:
        files[REPORT] = engine.report_path.read_bytes()
    return Publication(contents, engine.plan, bool(key), partial(_files, files, contents, key))


def _files(
    files: Mapping[str, bytes], contents: Contents, key: str | None, version: int
) -> Mapping[str, bytes]:
    return {**files, **(signed_files(contents, version, key) if key else {})}
