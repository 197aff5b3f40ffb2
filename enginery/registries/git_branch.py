"""The branch `engines` as it is, and the commits that change it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from enginery.errors import RegistryError
from enginery.project.engine_name import NAME, EngineName
from enginery.registries import git_tags
from enginery.registries.git_index import INDEX, dump_index, parse_index
from enginery.registries.git_objects import GitError, Objects, TreeEntry
from enginery.registries.interface import PLAN, Publication
from enginery.registry.published import PublishedEngine

BRANCH, POINTER = "engines", f"{PLAN}.dvc"
_DVC, _CONFIG = ".dvc", "config"
_ID = r"[0-9a-f]{40}|[0-9a-f]{64}"


@dataclass(frozen=True)
class Branch:
    """The branch at its tip: `top` is its top tree, of which only what is asked for is fetched."""

    objects: Objects
    tip: str
    top: Mapping[str, TreeEntry]
    _indexes: dict[str, tuple[PublishedEngine, ...]] = field(default_factory=dict)

    @property
    def tree(self) -> str:
        """What names the top tree; empty if there is no branch."""
        return f"{self.tip}^{{tree}}" if self.tip else ""

    @property
    def models(self) -> list[str]:
        """Every model that has engines; what else somebody put there by hand is left alone."""
        return sorted(
            name
            for name, entry in self.top.items()
            if not entry.is_blob and re.fullmatch(NAME, name)
        )

    def fetch(self, models: Iterable[str]) -> None:
        """Fetch the indexes of some models, in one request.

        Raises:
            RegistryError: the repository cannot be reached, or an index is not whole.
        """
        asked_for = set(models)
        known = {model: self.top[model].id for model in self.models if model in asked_for}
        self.objects.fetch(known.values())
        contents = self.objects.blobs([f"{tree}:{INDEX}" for tree in known.values()])
        for model, content in zip(known, contents, strict=True):
            self._indexes[model] = parse_index(content or b"", f"{model}/{INDEX}")

    def engines(self, model: str) -> tuple[PublishedEngine, ...]:
        """The engines of a model that was fetched."""
        return self._indexes.get(model, ())

    def newest(self, name: EngineName) -> PublishedEngine | None:
        """The newest version of an engine."""
        versions = [engine for engine in self.engines(name.model) if engine.name == name]
        return max(versions, key=lambda engine: engine.version, default=None)

    def files(self, tree: str) -> Mapping[str, bytes]:
        """Every file in a tree, by name.

        Raises:
            RegistryError: the repository cannot be reached, or has it not.
        """
        if not re.fullmatch(_ID, tree):
            what = f"the registry's index names {tree!r} as the files of an engine"
            raise RegistryError(what, "Somebody changed it by hand: take an earlier commit again")
        self.objects.fetch([tree])
        files = {name: each.id for name, each in self.objects.entries(tree).items() if each.is_blob}
        contents = self.objects.blobs(list(files.values()))
        return {name: content or b"" for name, content in zip(files, contents, strict=True)}

    def config(self) -> bytes:
        """The settings of DVC's remote; empty if there are none."""
        return self.files(self.top[_DVC].id).get(_CONFIG, b"") if _DVC in self.top else b""


@dataclass(frozen=True)
class Change:
    """A commit to make on a branch: what is new at some paths (None: nothing is there any more),
    the tags of the versions that come with it, and those of versions that go.
    """

    branch: Branch
    message: str
    paths: Mapping[tuple[str, ...], TreeEntry | None]
    tags: Mapping[str, str] = field(default_factory=dict)  # messages by titles
    removed_tags: tuple[str, ...] = ()
    names: tuple[EngineName, ...] = ()  # whose versions are new


def read_branch(objects: Objects) -> Branch:
    """The branch as it is now.

    Raises:
        RegistryError: the repository cannot be reached.
    """
    tip = objects.fetch_tip(BRANCH)
    return Branch(objects, tip, objects.entries(f"{tip}^{{tree}}") if tip else {})


def add_versions(
    branch: Branch, publications: Sequence[Publication], pointers: Mapping[EngineName, bytes]
) -> list[PublishedEngine]:
    """The next versions of engines, their files written; without what is published already."""
    new = _not_published(branch, publications)
    tags = git_tags.read_tags(branch.objects)  # of an earlier attempt, if there was one
    return [
        _next_version(branch, each, pointers[each.contents.name], tags.newest(each.contents.name))
        for each in new
    ]


def publication(branch: Branch, added: Sequence[PublishedEngine], config: bytes) -> Change:
    """The commit that adds versions whose files are written."""
    paths: dict[tuple[str, ...], TreeEntry | None] = {
        _folder(engine.name): TreeEntry.tree(engine.reference) for engine in added
    }
    for model, new in _by_model(added).items():
        index = dump_index([*branch.engines(model), *new])
        paths[model, INDEX] = branch.objects.write_blob(index)
    if branch.config() != config:
        paths[_DVC, _CONFIG] = branch.objects.write_blob(config)
    tags = {_tag(engine): f"{engine.title}, {engine.state}" for engine in added}
    names = tuple(engine.name for engine in added)
    return Change(branch, _message("Publish", added), paths, tags, names=names)


def removal(branch: Branch, removed: Sequence[PublishedEngine]) -> Change | None:
    """The commit that takes versions away; None if none of them is there."""
    by_model = _by_model(removed)
    branch.fetch(by_model)
    paths: dict[tuple[str, ...], TreeEntry | None] = {}
    for model, leaving in by_model.items():
        kept = [engine for engine in branch.engines(model) if engine not in leaving]
        if len(kept) == len(branch.engines(model)):
            continue
        paths[model, INDEX] = branch.objects.write_blob(dump_index(kept)) if kept else None
        newest = {engine.name: engine.reference for engine in kept}  # they are in order
        for name in {engine.name for engine in leaving}:
            tree = newest.get(name)
            branch.objects.fetch([tree] if tree else [])
            paths[_folder(name)] = TreeEntry.tree(tree) if tree else None
    if not paths:
        return None
    tags = tuple(_tag(engine) for engine in removed)
    return Change(branch, _message("Remove", removed), paths, removed_tags=tags)


def commit(objects: Objects, change: Change, key: str | None) -> list[str]:
    """Make a commit with its tags; what pushes them.

    Raises:
        RegistryError: git does not know who makes it, or the key does not sign.
    """
    branch = change.branch
    tree = objects.changed_tree(branch.tree, change.paths) or objects.write_tree({})
    parents = ["-p", branch.tip] if branch.tip else []
    try:
        made = objects.git("commit-tree", tree.id, *parents, "-m", change.message).strip()
    except GitError as error:
        raise git_tags.unknown_identity(error) from None
    for title, message in change.tags.items():
        git_tags.make_tag(objects, title, made, message, key)
    return [
        f"{made}:refs/heads/{BRANCH}",
        *(git_tags.refspec(title) for title in change.tags),
        *(git_tags.removing_refspec(title) for title in change.removed_tags),
    ]


def _not_published(branch: Branch, publications: Sequence[Publication]) -> list[Publication]:
    """Those that are not the newest versions of their engines already."""
    branch.fetch(sorted({each.contents.model for each in publications}))
    return [each for each in publications if not each.is_in(branch.newest(each.contents.name))]


def _next_version(branch: Branch, each: Publication, pointer: bytes, taken: int) -> PublishedEngine:
    newest = branch.newest(each.contents.name)
    version = max(newest.version if newest else 0, taken) + 1
    files = {**each.files(version), POINTER: pointer}
    blobs = {name: branch.objects.write_blob(content) for name, content in files.items()}
    return each.published(version, branch.objects.write_tree(blobs).id)


def _by_model(engines: Iterable[PublishedEngine]) -> dict[str, list[PublishedEngine]]:
    models: dict[str, list[PublishedEngine]] = {}
    for engine in engines:
        models.setdefault(engine.model, []).append(engine)
    return models


def _folder(name: EngineName) -> tuple[str, ...]:
    return name.model, name.target, name.precision


def _tag(engine: PublishedEngine) -> str:
    return git_tags.version_tag(engine.name, engine.version)


def _message(verb: str, engines: Sequence[PublishedEngine]) -> str:
    titles = [engine.title for engine in engines]
    if len(titles) == 1:
        return f"{verb} {titles[0]}"
    return "\n".join([f"{verb} {len(titles)} engines", "", *titles])
