"""The registry in git: the branch `engines` holds manifests, reports and pointers to the plans,
which lie at DVC's remote.

    .dvc/config                          the remote, so that `dvc get URL PATH --rev engines` works
    MODEL/index.json                     every version of the model's engines, to choose from
    MODEL/TARGET/PRECISION/              the newest version: model.plan.dvc, manifest.json, ...

A version's files are a git tree, which the index names: an older version is fetched as a new one
is. Publishing pushes one commit with the tags of its versions, all or nothing; whoever was
overtaken begins anew on what is there. It costs what the models at hand have, not what the registry
has: no other trees are read.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from enginery.errors import RegistryError, SignatureError
from enginery.project.engine_name import EngineName
from enginery.project.registry_settings import RegistrySettings, check_can_sign
from enginery.registries import git_tags
from enginery.registries.git_branch import (
    POINTER,
    Branch,
    Change,
    add_versions,
    commit,
    publication,
    read_branch,
    removal,
)
from enginery.registries.git_objects import Objects
from enginery.registries.git_setup import Remote
from enginery.registries.interface import (
    PLAN,
    SMALL_FILES,
    Publication,
    Registry,
    StageEvent,
    all_serving,
    serving,
)
from enginery.registry.published import PublishedEngine

_TRY_FOR_S = 300.0  # how long somebody who is overtaken again and again goes on
_LONGEST_WAIT_S = 2.0
_KEEP = "Nothing was removed; run again, and it is kept"
_REPUBLISH = "Publish it again (`enginery publish`)"


class GitRegistry:
    """See `enginery.registries.interface.Registry`."""

    def __init__(self, remote: Remote, settings: RegistrySettings, root: Path) -> None:
        self._remote = remote
        self._settings = settings
        self._root = root

    @property
    def location(self) -> str:
        """The repository."""
        return self._remote.url

    def engines(self, models: Collection[str] | None = None) -> Sequence[PublishedEngine]:
        """By the indexes of the models: two requests."""
        with Objects(self._remote) as objects:
            branch = read_branch(objects)
            branch.fetch(branch.models if models is None else models)
            return [engine for name in branch.models for engine in branch.engines(name)]

    def publish(self, publications: Sequence[Publication]) -> Sequence[PublishedEngine]:
        """First the plans, then one commit."""
        check_can_sign(self._settings)
        pointers, config = self._send(publications)
        added: list[PublishedEngine] = []

        def change(branch: Branch) -> Change | None:
            added[:] = add_versions(branch, publications, pointers)
            return publication(branch, added, config) if added else None

        self._commit(change)
        return added

    def fetch(self, engine: PublishedEngine, folder: Path) -> None:
        """The tree that the index names, and the plan from DVC's remote."""
        from enginery.pipeline.plans import fetch_plan, pointed_at

        with Objects(self._remote) as objects:
            branch = read_branch(objects)
            files = branch.files(engine.reference)
            config = branch.config()
        if not config or POINTER not in files:
            raise RegistryError(f"{engine.title} in {self.location} has no plan", _REPUBLISH)
        for name in SMALL_FILES:
            if name in files:
                (folder / name).write_bytes(files[name])
        try:
            digest = pointed_at(files[POINTER])
        except ValueError as error:
            what = f"{engine.title} in {self.location}: {POINTER} {error}"
            raise RegistryError(what, _REPUBLISH) from None
        fetch_plan(self._root, config, digest, folder / PLAN)

    def stage_events(self, names: Sequence[EngineName]) -> Sequence[StageEvent]:
        """From the tags of these engines."""
        with Objects(self._remote) as objects:
            git_tags.fetch_tags(objects, names)
            events = git_tags.read_tags(objects).stage_events()
            return self._with_doubts(objects, events)

    def stages(self) -> Mapping[str, Mapping[EngineName, int]]:
        """From the names of all tags."""
        with Objects(self._remote) as objects:
            return all_serving(git_tags.read_remote_tags(objects).stage_events())

    def assign(self, engine: PublishedEngine, stage: str, why: str) -> None:
        """One more tag."""
        check_can_sign(self._settings)
        with Objects(self._remote) as objects:
            git_tags.fetch_tags(objects, [engine.name])
            tags = git_tags.read_tags(objects)
            commit = tags.commit(engine.name, engine.version)
            if not commit:
                what = (
                    f"{engine.title} has no tag {git_tags.version_tag(engine.name, engine.version)}"
                )
                raise RegistryError(f"{what} in {self.location}", _REPUBLISH)
            number, seconds = tags.next_event()
            title = git_tags.event_tag(engine.name, stage, number)
            git_tags.make_tag(objects, title, commit, why, self._settings.signing_key, seconds)
            if not objects.push([git_tags.refspec(title)]):
                what = f"somebody else changed a stage of {engine.name} at this moment"
                cure = "Look at `enginery history`, then run again if it is still right"
                raise RegistryError(what, cure)

    def remove(self, engines: Sequence[PublishedEngine]) -> None:
        """Out of the index and the branch, with their tags; events stay."""
        numbers = {(engine.name, engine.version) for engine in engines}

        def change(branch: Branch) -> Change | None:
            git_tags.fetch_tags(branch.objects, [engine.name for engine in engines])
            events = git_tags.read_tags(branch.objects).stage_events()
            for stage in {event.stage for event in events}:
                for event in serving(events, stage).values():
                    if (event.name, event.version) in numbers:
                        what = f"{event.name} v{event.version} serves in {stage}"
                        raise RegistryError(what, _KEEP)
            return removal(branch, engines)

        self._commit(change)

    def _send(
        self, publications: Sequence[Publication]
    ) -> tuple[Mapping[EngineName, bytes], bytes]:
        """Send the plans to DVC's remote: their pointers, and the remote's configuration."""
        from enginery.pipeline.plans import pointer, send_plans
        from enginery.report.events import progress

        plans = [publication.plan for publication in publications]
        sent = send_plans(self._root, plans, progress)
        names = [publication.contents.name for publication in publications]
        pointers = map(pointer, sent.digests, plans)
        return dict(zip(names, pointers, strict=True)), sent.config

    def _commit(self, change: Callable[[Branch], Change | None]) -> None:
        """Push a change that is made anew on every state of the branch, until it is taken."""
        end, wait = time.monotonic() + _TRY_FOR_S, 0.05
        with Objects(self._remote) as objects:
            while made := change(read_branch(objects)):
                refspecs = commit(objects, made, self._settings.signing_key)
                if objects.push(refspecs):
                    return
                git_tags.forget_tags(objects, made.tags)
                git_tags.fetch_tags(objects, made.names)  # their numbers are taken
                if time.monotonic() > end:
                    what = f"others changed {self.location} at every attempt of {_TRY_FOR_S:.0f} s"
                    raise RegistryError(what, "Run again: nothing was changed")
                time.sleep(random.uniform(0, wait))
                wait = min(2 * wait, _LONGEST_WAIT_S)

    def _with_doubts(self, objects: Objects, events: Sequence[StageEvent]) -> list[StageEvent]:
        """Where signatures are asked for: look at those by which a version serves now."""
        if not self._settings.require_signature:
            return list(events)
        allowed = self._root / (self._settings.allowed_signers or "")
        stages = {event.stage for event in events}
        deciding = {
            event.reference for stage in stages for event in serving(events, stage).values()
        }
        return [
            replace(event, doubt=_doubt(objects, event, allowed))
            if event.reference in deciding
            else event
            for event in events
        ]


class GitBackend:
    """See `enginery.registries.interface.Backend`."""

    def open(self, settings: RegistrySettings, root: Path) -> Registry:
        """A remote of the checkout (`origin`, unless another is named), or any address."""
        location = settings.location or "origin"
        config = _git(root, "rev-parse", "--git-path", "config")
        url = _git(root, "remote", "get-url", location)
        push_url = _git(root, "remote", "get-url", "--push", location)
        if not url and not settings.location:
            what = "no registry is named, and this folder's git repository has no remote origin"
            cure = "Add one (git remote add origin URL), or name it: registry.location, --registry"
            raise RegistryError(what, cure)
        known = (root / config).resolve() if config else None
        remote = Remote(
            _absolute(url or location, root), _absolute(push_url or location, root), known
        )
        return GitRegistry(remote, settings, root)


BACKEND = GitBackend()


def _doubt(objects: Objects, event: StageEvent, allowed: Path) -> str:
    """Why an event shall not be believed: its own tag counts, and that of its version."""
    try:
        for title in (event.reference, git_tags.version_tag(event.name, event.version)):
            git_tags.check_signature(objects, title, allowed)
    except SignatureError as error:
        return error.what
    return ""


def _git(root: Path, *arguments: str) -> str:
    """What git says in the user's checkout; empty where there is none."""
    try:
        ended = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""


def _absolute(url: str, root: Path) -> str:
    """A folder by its whole path: git runs elsewhere."""
    place = root / Path(url).expanduser()
    return str(place.resolve()) if place.is_dir() else url
