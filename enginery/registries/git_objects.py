"""A private git repository of the moment, which fetches single objects of a registry's repository
and pushes to it. The user's own repository, index and work tree are never touched.

It is bare and shallow. The server sends only what is asked for: a commit, some trees, some blobs
(`uploadpack.allowFilter`; one that does not know filters sends more).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from enginery.errors import RegistryError
from enginery.registries.git_setup import (
    NOTHING_SAID,
    PREFIX,
    REMOTE,
    Remote,
    is_of_a_repository,
    settings,
    sweep,
    what_it_said,
)

_BLOB, _TREE = "blob", "tree"
_PEELED = "^{}"
_NO_SUCH_REF = "couldn't find remote ref"
# Whoever pushed first made these; the next attempt begins with what they pushed.
_OVERTAKEN = ("[rejected]", "cannot lock ref", "incorrect old value", "failed to update ref")
_FOR_EVER = ("Permission denied", "No space left", "Read-only", "insufficient permission")


@dataclass(frozen=True)
class TreeEntry:
    """A name in a tree."""

    kind: str
    id: str

    @classmethod
    def tree(cls, id_: str) -> TreeEntry:
        """A folder."""
        return cls(_TREE, id_)

    @property
    def is_blob(self) -> bool:
        """Whether it is a file."""
        return self.kind == _BLOB


class GitError(Exception):
    """A command of git's failed; the text is what it said."""


class Objects:
    """The repository, as a context: it is removed at its end."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        sweep()
        self._folder = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-")
        self._environment = {
            **{key: value for key, value in os.environ.items() if not is_of_a_repository(key)},
            "LC_ALL": "C",
            **({} if sys.stdin and sys.stdin.isatty() else {"GIT_TERMINAL_PROMPT": "0"}),
        }
        self.git("init", "--quiet", "--bare", ".")
        (Path(self._folder.name) / "config").write_text(settings(remote), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    def git(
        self, *arguments: str, data: bytes = b"", variables: Mapping[str, str] | None = None
    ) -> str:
        """What a command of git's writes.

        Raises:
            GitError: it failed.
        """
        return self._run(arguments, data, variables).decode("utf-8", errors="replace")

    def fetch_tip(self, branch: str) -> str:
        """Fetch a branch's last commit and its top tree; its id, empty if there is no branch.

        Raises:
            RegistryError: the repository cannot be reached.
        """
        try:
            self._fetch(f"+refs/heads/{branch}:refs/heads/{branch}", depth=1, filter_=1)
        except GitError as error:
            if _NO_SUCH_REF in str(error):
                return ""
            raise self._unreachable(error) from None
        return self.git("rev-parse", f"refs/heads/{branch}").strip()

    def fetch(self, ids: Iterable[str]) -> None:
        """Fetch trees with what stands directly in them.

        Raises:
            RegistryError: the repository cannot be reached, or has them not.
        """
        wants = sorted(set(ids))
        if wants:
            try:
                self._fetch(*wants, filter_=1)
            except GitError as error:
                raise self._unreachable(error) from None

    def fetch_refs(self, patterns: Iterable[str]) -> None:
        """Fetch the refs that some patterns match, each to its own name, with their commits alone.

        Raises:
            RegistryError: the repository cannot be reached.
        """
        refspecs = [f"+{pattern}:{pattern}" for pattern in patterns]
        try:
            self._fetch(*refspecs, depth=1, filter_=0)
        except GitError as error:
            if str(error) == NOTHING_SAID:  # so it ends where no ref matches
                return
            raise self._unreachable(error) from None

    def remote_tags(self) -> list[tuple[str, str]]:
        """Every annotated tag of the repository, with the commit that it is on.

        Raises:
            RegistryError: the repository cannot be reached.
        """
        try:
            listed = self.git("ls-remote", "--tags", REMOTE)
        except GitError as error:
            raise self._unreachable(error) from None
        lines = (line.split("\t") for line in listed.splitlines() if line.endswith(_PEELED))
        return [(ref.removesuffix(_PEELED), commit) for commit, ref in lines]

    def entries(self, tree: str) -> Mapping[str, TreeEntry]:
        """What stands in a tree that was fetched."""
        listed = self.git("ls-tree", "-z", tree).split("\0")
        lines = (line.split("\t", 1) for line in listed if line)
        return {name: TreeEntry(*about.split()[1:3]) for about, name in lines}

    def blobs(self, names: Sequence[str]) -> list[bytes | None]:
        """The bytes of blobs that were fetched, by id or as TREE:PATH; None where there is none."""
        asked = "".join(f"{name}\n" for name in names).encode()
        answer = self._run(("cat-file", "--batch"), asked, None) if names else b""
        contents: list[bytes | None] = []
        for _ in names:
            head, _, answer = answer.partition(b"\n")
            if head.endswith(b" missing"):
                contents.append(None)
                continue
            size = int(head.rpartition(b" ")[2])
            contents.append(answer[:size])
            answer = answer[size + 1 :]
        return contents

    def write_blob(self, content: bytes) -> TreeEntry:
        """Keep some bytes."""
        written = self.git("hash-object", "-w", "--stdin", data=content)
        return TreeEntry(_BLOB, written.strip())

    def write_tree(self, entries: Mapping[str, TreeEntry]) -> TreeEntry:
        """Keep a tree; what stands in it need not be here."""
        modes = {_BLOB: "100644", _TREE: "040000"}
        lines = (f"{modes[each.kind]} {each.kind} {each.id}\t{n}" for n, each in entries.items())
        written = self.git("mktree", "-z", "--missing", data="\0".join([*lines, ""]).encode())
        return TreeEntry(_TREE, written.strip())

    def changed_tree(
        self, tree: str, changes: Mapping[tuple[str, ...], TreeEntry | None]
    ) -> TreeEntry | None:
        """A tree with other entries at some paths, or without them; None if nothing is left.

        The trees on the way to these paths must have been fetched.
        """
        entries = dict(self.entries(tree)) if tree else {}
        for name in {path[0] for path in changes}:
            inner = {path[1:]: new for path, new in changes.items() if path[0] == name}
            below = entries[name].id if name in entries else ""
            new = inner[()] if () in inner else self.changed_tree(below, inner)
            entries.pop(name, None)
            if new:
                entries[name] = new
        return self.write_tree(entries) if entries else None

    def push(self, refspecs: Sequence[str]) -> bool:
        """Push some refs, all or none; False if somebody else was faster.

        Raises:
            RegistryError: the repository cannot be reached, or refuses the change.
        """
        try:
            self.git("push", "--quiet", "--porcelain", "--atomic", REMOTE, *refspecs)
        except GitError as error:
            if _says(error, _OVERTAKEN) and not _says(error, _FOR_EVER):
                return False
            what = f"the registry {self._remote.push_url} does not take the change: {error}"
            raise RegistryError(what, "Look at your rights there; nothing was changed") from None
        return True

    def _fetch(self, *wants: str, filter_: int, depth: int = 0) -> None:
        options = ["--no-tags", "--no-write-fetch-head", f"--filter=tree:{filter_}"]
        options += [f"--depth={depth}"] if depth else []
        self.git("fetch", *options, "--stdin", REMOTE, data="\n".join([*wants, ""]).encode())

    def _run(
        self, arguments: Sequence[str], data: bytes, variables: Mapping[str, str] | None
    ) -> bytes:
        try:
            ended = subprocess.run(
                ["git", *arguments],
                cwd=self._folder.name,
                input=data,
                env={**self._environment, **(variables or {})},
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            what = "git is not installed, and the registry is a git repository"
            raise RegistryError(what, "Install git") from None
        if ended.returncode:
            raise GitError(what_it_said(ended.stderr + ended.stdout))
        return ended.stdout

    def _unreachable(self, error: GitError) -> RegistryError:
        what = f"the registry {self._remote.url} cannot be read: {error}"
        return RegistryError(what, f"Try `git ls-remote {self._remote.url}`, then run again")


def _says(error: GitError, signs: Iterable[str]) -> bool:
    return any(sign in str(error) for sign in signs)
