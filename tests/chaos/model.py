"""What a directory that one client alone writes may look like.

Law: the model changes only by acknowledged operations; of an operation whose outcome is unknown both the tree
before and the tree after are allowed, and nothing is done in that directory any more (it may still happen later).
Of many files that went together each may be there or not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from goggles.client.session import Session
from goggles.contracts.records import FileInfo
from goggles.errors import NotFound

Tree = dict[str, str]  # path below the directory: sha256, or DIRECTORY
DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class Op:
    """One change: put (path, digest), rm, mv (path, other), mkdir, rmdir, all below one directory."""

    kind: str
    path: str
    other: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.path, self.other, self.digest[:12])))


def applied(tree: Tree, op: Op) -> Tree:
    """The tree after `op`, which must be one that is allowed."""
    after = dict(tree)
    if op.kind == "put":
        after[op.path] = op.digest
    elif op.kind == "mkdir":
        after[op.path] = DIRECTORY
    elif op.kind == "mv":
        for path in [p for p in tree if p == op.path or p.startswith(op.path + "/")]:
            after[op.other + path[len(op.path) :]] = after.pop(path)
    else:
        for path in [p for p in tree if p == op.path or p.startswith(op.path + "/")]:
            del after[path]
    return after


@dataclass(slots=True)
class Home:
    """A directory of one client, and what may be in it."""

    path: str
    trees: list[Tree] = field(default_factory=lambda: [{}])
    loose: Tree = field(default_factory=dict)  # what may be there as well, or instead

    @property
    def tree(self) -> Tree:
        return self.trees[0]

    def happened(self, op: Op) -> None:
        self.trees = [applied(self.tree, op)]

    def unknown(self, op: Op) -> None:
        self.trees = [self.tree, applied(self.tree, op)]

    def together(self, path: str, files: Tree, failed: Collection[str]) -> None:
        """`files` went into the directory `path`; those that `failed` may be there or not."""
        self.trees = [{**self.tree, path: DIRECTORY, **{one: files[one] for one in files if one not in failed}}]
        self.loose = {one: files[one] for one in failed}

    def together_unknown(self, path: str, files: Tree) -> None:
        """As before, or with any of these."""
        self.loose = {path: DIRECTORY, **files}

    def files(self) -> list[str]:
        return sorted(path for path, value in self.tree.items() if value != DIRECTORY)

    def directories(self) -> list[str]:
        return sorted(path for path, value in self.tree.items() if value == DIRECTORY)

    def differs(self, fs: Session) -> str:
        """How the site differs from all trees allowed; empty where it is one of them."""
        found = self.without_loose(listing(fs, self.path))
        if found in self.trees:
            return ""
        return "; or ".join(difference(found, tree) for tree in self.trees)

    def without_loose(self, found: Tree) -> Tree:
        for path, value in self.loose.items():
            if found.get(path) == value:
                found.pop(path)
                found.update({path: self.tree[path]} if path in self.tree else {})
        return found


def listing(fs: Session, path: str) -> Tree:
    """The tree below a directory of the site."""
    try:
        entries = list(fs.find(path))
    except NotFound:
        return {}
    cut = len(path.rstrip("/")) + 1
    return {e.path[cut:]: e.hash if isinstance(e, FileInfo) else DIRECTORY for e in entries}


def difference(found: Tree, wanted: Tree) -> str:
    """In words."""
    lost = [f"{path} ({wanted[path][:12]}) is not there" for path in sorted(wanted.keys() - found.keys())]
    extra = [f"{path} ({found[path][:12]}) is there again" for path in sorted(found.keys() - wanted.keys())]
    other = [
        f"{path} is {found[path][:12]}, not {wanted[path][:12]}"
        for path in sorted(wanted.keys() & found.keys())
        if wanted[path] != found[path]
    ]
    return ", ".join(lost + extra + other)
