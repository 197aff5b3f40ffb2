"""Versions and stages of engines as annotated tags, in the words of GTO: `NAME@v3.0.0` is version
3, `NAME#production#7` the seventh event of the engine, which gave a version the stage `production`.

A tag that is pushed twice is rejected: two people cannot make the same event. GTO's own writer
looks at every tag of the repository and takes the machine's clock; here only an engine's own tags
are read, and a clock that is behind cannot put an event before an earlier one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from pathlib import Path

from enginery.errors import RegistryError
from enginery.project.engine_name import EngineName
from enginery.registries.git_objects import GitError, Objects
from enginery.registries.interface import StageEvent
from enginery.registry.signatures import verify

STAGE = r"[a-zA-Z0-9](?:[a-zA-Z0-9/_-]*[a-zA-Z0-9])?"
_PREFIX = "refs/tags/"
_VERSION = re.compile(r"(?P<name>[^@#]+)@v(?P<version>\d+)\.0\.0")
_EVENT = re.compile(rf"(?P<name>[^@#]+)#(?P<stage>{STAGE})(?P<taken>!?)(?:#(?P<number>\d+))?")
_FIELDS = ("refname", "tag", "*objectname", "taggername", "taggeremail", "taggerdate:unix")
_FORMAT = "%00".join(f"%({field})" for field in (*_FIELDS, "contents:subject"))
_GIT_NAMESPACE = "git"  # in which git itself signs tags
_SIGNATURE = b"-----BEGIN SSH SIGNATURE-----"


@dataclass(frozen=True)
class Tag:
    """An annotated tag, and the commit that it is on."""

    title: str
    commit: str
    who: str
    seconds: int
    subject: str


@dataclass(frozen=True)
class Tags:
    """The tags of some engines."""

    versions: Sequence[tuple[EngineName, int, Tag]]
    events: Sequence[tuple[EngineName, re.Match[str], Tag]]

    def stage_events(self) -> list[StageEvent]:
        """The oldest first; those of versions that were taken away are left out."""
        numbers = {(name, tag.commit): version for name, version, tag in self.versions}
        ordered = sorted(self.events, key=lambda each: (each[2].seconds, _number(each[1])))
        return [
            StageEvent(
                name=name,
                version=numbers[name, tag.commit],
                stage=match["stage"],
                assigned=not match["taken"],
                who=tag.who,
                when=datetime.fromtimestamp(tag.seconds, UTC),
                why=tag.subject,
                reference=tag.title,
            )
            for name, match, tag in ordered
            if (name, tag.commit) in numbers
        ]

    def commit(self, name: EngineName, version: int) -> str:
        """The commit with which a version came; empty if it is not known."""
        known = {(each, number): tag.commit for each, number, tag in self.versions}
        return known.get((name, version), "")

    def newest(self, name: EngineName) -> int:
        """The largest number that a version of an engine ever had; 0 if none is known."""
        return max((version for each, version, _ in self.versions if each == name), default=0)

    def next_event(self) -> tuple[int, int]:
        """The number of the next event, and the earliest second at which it may be."""
        number = max((_number(match) for _, match, _ in self.events), default=0)
        seconds = max((tag.seconds for _, _, tag in self.events), default=0)
        return number + 1, seconds + 1


def version_tag(name: EngineName, version: int) -> str:
    """What the tag of a version is called."""
    return f"{name}@v{version}.0.0"


def event_tag(name: EngineName, stage: str, number: int) -> str:
    """What the tag of an event is called."""
    return f"{name}#{stage}#{number}"


def refspec(tag: str) -> str:
    """What pushes a tag."""
    return f"{_PREFIX}{tag}:{_PREFIX}{tag}"


def removing_refspec(tag: str) -> str:
    """What takes a pushed tag away."""
    return f":{_PREFIX}{tag}"


def fetch_tags(objects: Objects, names: Iterable[EngineName]) -> None:
    """Fetch the tags of some engines, and no others."""
    patterns = [f"{_PREFIX}{name}*" for name in sorted(set(names))]
    if patterns:
        objects.fetch_refs(patterns)


def read_tags(objects: Objects) -> Tags:
    """The tags that were fetched."""
    listed = objects.git("for-each-ref", f"--format={_FORMAT}", _PREFIX)
    return _sorted(chain.from_iterable(map(_tag, listed.splitlines())))


def read_remote_tags(objects: Objects) -> Tags:
    """The tags of every engine, without who, when and why: a tag itself is not fetched.

    Raises:
        RegistryError: the repository cannot be reached.
    """
    refs = objects.remote_tags()
    return _sorted(Tag(ref.removeprefix(_PREFIX), commit, "", 0, "") for ref, commit in refs)


def forget_tags(objects: Objects, titles: Iterable[str]) -> None:
    """Drop tags that were made here and that nobody took."""
    if made := list(titles):
        objects.git("tag", "--delete", *made)


def make_tag(
    objects: Objects, title: str, commit: str, why: str, key: str | None, seconds: int = 0
) -> None:
    """Make an annotated tag, signed if there is a key; not before a second.

    Raises:
        RegistryError: git does not know who makes it, or the key does not sign.
    """
    when = f"{max(int(time.time()), seconds)} +0000"
    sign = ["-c", f"user.signingKey={Path(key).expanduser().resolve()}"] if key else []
    how = "--sign" if key else "--annotate"
    try:
        objects.git(
            *sign,
            *("tag", "--force", how, "--message", why, title, commit),
            variables={"GIT_COMMITTER_DATE": when},
        )
    except GitError as error:
        raise unknown_identity(error) from None


def check_signature(objects: Objects, title: str, allowed: Path) -> None:
    """Make sure that a tag was signed by somebody whose signature counts.

    Raises:
        SignatureError: it was not.
    """
    content = objects.git("cat-file", "tag", f"{_PREFIX}{title}").encode()
    signed, mark, rest = content.partition(_SIGNATURE)
    verify(signed, mark + rest if mark else b"", allowed, _GIT_NAMESPACE, f"tag {title}")


def unknown_identity(error: GitError) -> RegistryError:
    """What to say where git makes no commit and no tag."""
    if "tell me who you are" in str(error) or "empty ident" in str(error):
        cure = "git config --global user.name NAME, and user.email ADDRESS"
        return RegistryError("the registry keeps who did what, and git does not know you", cure)
    return RegistryError(
        f"git does not make what the registry needs: {error}", "Correct this first"
    )


def _sorted(tags: Iterable[Tag]) -> Tags:
    """Those of versions and those of events; others are not the registry's."""
    versions: list[tuple[EngineName, int, Tag]] = []
    events: list[tuple[EngineName, re.Match[str], Tag]] = []
    for tag in tags:
        event = _EVENT.fullmatch(tag.title) if "#" in tag.title else None
        version = None if event else _VERSION.fullmatch(tag.title)
        match = event or version
        name = _engine(match["name"]) if match else None
        if name and event:
            events.append((name, event, tag))
        elif name and version:
            versions.append((name, int(version["version"]), tag))
    return Tags(versions, events)


def _tag(line: str) -> Iterator[Tag]:
    """An annotated tag; none if it stands under another name than it was made with."""
    ref, title, commit, name, email, seconds, subject = line.split("\0")
    if title and ref == f"{_PREFIX}{title}":
        yield Tag(title, commit, f"{name} {email}", int(seconds or 0), subject)


@cache
def _engine(text: str) -> EngineName | None:
    parts = text.split("/")
    name = EngineName(*parts) if len(parts) == 3 else None
    return name if name and name.possible else None


def _number(match: re.Match[str]) -> int:
    return int(match["number"] or 0)
