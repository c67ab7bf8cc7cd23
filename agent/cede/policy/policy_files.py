"""The policy's files -> one Policy, or all diagnostics about all of them at once.

Each file: parse (characters -> a tree with places), validate (the tree by the JSON Schema), build (tree -> values).
Then merge: the values of all files -> one Policy, with the checks across files. All four add to one list of
diagnostics.
A half-written file may be a valid policy with fewer assignments. So files are read only after they stayed the same for
a moment, and a file that changed while it was read is read again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from cede.errors import PolicyError, TransientError
from cede.model.policy import HOST_SOURCE, Policy, file_source
from cede.policy.build import parts_of
from cede.policy.diagnostics import Diagnostics
from cede.policy.merge import policy_of
from cede.policy.parse import MAX_BYTES, read_tree
from cede.policy.validate import check_shape
from cede.util import schemas
from cede.util.clock import Clock, Timeouts
from cede.util.paths import Paths
from cede.util.trusted_file import UntrustedFileError, check_folder, read_trusted


def default_paths(file: Path, folder: Path) -> tuple[Path, ...]:
    """Return those of the two that exist; `file` if neither does, so that reading it reports that.

    A path that can't be examined counts as existing: leaving out half of a policy in silence would take devices away.
    """
    return tuple(path for path in (file, folder) if _exists(path)) or (file,)


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def files_at(path: Path) -> tuple[Path, ...]:
    """Return the `*.yaml` in the folder at `path` in the order of their names, without hidden ones; else `path` itself.

    Never fails: a wrong path is reported when it is read.
    """
    try:
        inside = sorted(path.iterdir())
    except (OSError, ValueError):
        return (path,)
    return tuple(p for p in inside if p.name.endswith(".yaml") and not p.name.startswith("."))


Fingerprint = tuple[tuple[str, tuple[int, ...]], ...]


def fingerprint(paths: Sequence[Path]) -> Fingerprint:
    """Return what changes whenever the policy's files change, without reading them; never fails.

    For each file its path, device, inode, size and times of change in ns; no numbers for a file that does not exist.
    """
    return tuple((str(file), _looks(file)) for path in paths for file in files_at(path))


def _looks(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except (OSError, ValueError):
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def content_of(path: Path, diagnostics: Diagnostics) -> bytes | None:
    """Return the content of the file at `path`, or None and a diagnostic."""
    try:
        # one byte more than allowed shows that the file is too large
        return read_trusted(path, MAX_BYTES + 1)
    except UntrustedFileError as error:
        name, text, remedy = error.name, error.text, error.remedy
    except FileNotFoundError:
        name, text = "no-such-file", "there is no such file"
        remedy = "name the policy with -f, or write this file"
    except IsADirectoryError:
        name, text = "is-a-directory", "this is a directory"
        remedy = "name the policy file in it with -f"
    except PermissionError:
        name, text = "permission-denied", "you may not read this file"
        remedy = "run as root, or change the file's mode"
    except (OSError, ValueError) as error:
        name, text = "unreadable", f"can't be read: {error}"
        remedy = "name a readable policy file with -f"
    diagnostics.add_unreadable(str(path), name, text, remedy)
    return None


def parse(text: str | bytes, file: str) -> Policy:
    """Parse the policy in `text`; `file` is its name in places and diagnostics, and the policy's source.

    Raises PolicyError, and nothing else, with a line `file:line:column: what` for each mistake.
    """
    return _policy_of({file: text}, file, Diagnostics((file,)), set())


def read(path: Path) -> Policy:
    """Read the policy in the file at `path`.

    Raises PolicyError if the file can't be read (the message then begins with the path alone) or is wrong.
    """
    return _understood(_contents_of((path,), (path,)), set())


def read_all(paths: Sequence[Path]) -> Policy:
    """Read the policy in all files at `paths`; a folder stands for its `*.yaml` in name order.

    Hidden files in a folder are left out; a file that is named twice is read once. Raises PolicyError, and nothing
    else, with all mistakes, or if there is no file at all.
    """
    return _understood(_contents_at(paths), set())


def _understood(contents: _Contents, shapes: Shapes) -> Policy:
    if not contents.found:
        raise PolicyError(
            f"{':'.join(map(str, contents.paths))}: there is no *.yaml file in this folder"
            if contents.paths
            else "no policy file is named",
            name="no-policy-file",
            remedy="name the policy with -f, or write a *.yaml file there",
        )
    return _policy_of(contents.texts, source_at(contents.paths), contents.diagnostics, shapes)


@dataclass(frozen=True, slots=True)
class _Contents:
    """What stands in the files at `paths`; `found` is whether there is any, the diagnostics tell of the unreadable."""

    paths: tuple[Path, ...]
    found: bool
    texts: dict[str, str | bytes]
    diagnostics: Diagnostics


def _contents_at(paths: Sequence[Path]) -> _Contents:
    files = tuple(dict.fromkeys(file for path in paths for file in files_at(path)))
    return _contents_of(files, paths)


def _contents_of(files: Sequence[Path], paths: Sequence[Path]) -> _Contents:
    # an empty folder too: whoever can write there can take away half of a policy
    untrusted = {
        folder: error
        for folder in paths
        if folder not in files and (error := _untrusted(folder)) is not None
    }
    diagnostics = Diagnostics(tuple(map(str, (*untrusted, *files))))
    for folder, error in untrusted.items():
        diagnostics.add_unreadable(str(folder), error.name, error.text, error.remedy)
    contents: dict[str, str | bytes] = {}
    for file in files:
        content = content_of(file, diagnostics)
        if content is not None:
            contents[str(file)] = content
    return _Contents(tuple(paths), bool(files), contents, diagnostics)


def _untrusted(folder: Path) -> UntrustedFileError | None:
    try:
        check_folder(folder)
    except UntrustedFileError as error:
        return error
    except OSError as error:
        return UntrustedFileError("unreadable", f"can't be read: {error}", "")
    return None


def source_at(paths: Sequence[Path]) -> str:
    """Return the identity of the policy at `paths`: the same from any folder, and by any link."""
    return file_source([_real(path) for path in paths])


def _real(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # no file can have this path, which is reported when it is read
        return str(path)


class Shapes(Protocol):
    """The texts of policies that are known to have the shape that a schema describes, each with that schema."""

    def __contains__(self, text: tuple[bytes, bytes]) -> bool:
        """Whether it is one of them."""

    def add(self, text: tuple[bytes, bytes]) -> None:
        """Remember it."""


def _policy_of(
    contents: dict[str, str | bytes], source: str, diagnostics: Diagnostics, shapes: Shapes
) -> Policy:
    """Build the policy from the readable files (name -> content). Raises PolicyError if any has a mistake."""
    parts = []
    schema = schemas.content("policy.schema.json")
    for file, content in contents.items():
        tree = read_tree(content, file, diagnostics)
        if tree is not None:
            raw = (
                content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
            )
            if (raw, schema) not in shapes and check_shape(tree, json.loads(schema), diagnostics):
                shapes.add((raw, schema))
            parts.append(parts_of(tree, diagnostics))
    all_read = len(parts) == len(diagnostics.files)
    policy = policy_of(parts, source, diagnostics, all_read=all_read)
    if diagnostics:
        raise diagnostics.error()
    return policy


class PolicyHost(Protocol):
    """What reading a policy needs of the host."""

    @property
    def paths(self) -> Paths:
        """Where the host's own set is."""

    @property
    def clock(self) -> Clock:
        """When a file was written lately."""

    @property
    def timeouts(self) -> Timeouts:
        """How long a read may take."""

    @property
    def shapes(self) -> Shapes:
        """Which texts need not be judged again."""


def host_policy(path: Path | None, host: PolicyHost, *, prune: bool = False) -> Policy:
    """Read the policy at `path`, else the host's own set, once its files have stayed the same for a moment.

    The host's set takes back from domains what it gave and no longer mentions, any other policy only with `prune`.
    Raises PolicyError, TransientError if the files go on changing, HungError if a read does not return.
    """
    if path is not None:
        return replace(_settled([path], host), keeps_unmentioned=not prune)
    named = default_paths(host.paths.policy, host.paths.policy_folder)
    return replace(_settled(named, host), source=HOST_SOURCE)


# nothing is taken back for it that was given for a policy which is gone
NO_POLICY = Policy(source=HOST_SOURCE, keeps_unmentioned=True)


def source_of(path: Path | None) -> str:
    """Return the identity of the policy that `host_policy` reads."""
    return HOST_SOURCE if path is None else source_at([path])


def has_policy(path: Path | None, host: PolicyHost) -> bool:
    """Return whether there is something to read for `host_policy`; what can't be examined counts as there."""
    return path is not None or _exists(host.paths.policy) or _exists(host.paths.policy_folder)


def host_policy_if_any(path: Path | None, host: PolicyHost) -> Policy:
    """Read the policy as `host_policy`, but a host without a policy has an empty one: a one-off needs none."""
    return host_policy(path, host) if has_policy(path, host) else NO_POLICY


def host_policy_beside(output: Path | None, path: Path | None, host: PolicyHost) -> Policy:
    """Read the policy as `host_policy`, without the file `output`, which is about to be written."""
    paths = host.paths
    named = [path] if path is not None else default_paths(paths.policy, paths.policy_folder)
    files = [file for one in named for file in files_at(one)]
    beside = [file for file in files if output is None or not _same_file(file, output)]
    if path is None and len(beside) == len(files):
        return host_policy_if_any(None, host)
    return _settled(beside, host) if beside else Policy()


def _same_file(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


STABLE_SECONDS = 0.5
_MAX_CHANGES = 20
_READ_SECONDS = 30.0


def _settled(paths: Sequence[Path], host: PolicyHost) -> Policy:
    """Read the files at `paths` as they are when they stay the same while and before they are read."""

    def look() -> Fingerprint:
        return host.timeouts.call(
            "looking at the policy's files", lambda: fingerprint(paths), seconds=_READ_SECONDS
        )

    found = look()
    fresh = _is_fresh(found, host.clock.now().timestamp())
    for _ in range(_MAX_CHANGES):
        if fresh:
            host.clock.sleep(STABLE_SECONDS)
        if not fresh or look() == found:
            # only reading can hang: to understand takes a starved host its time
            contents = host.timeouts.call(
                "reading the policy", lambda: _contents_at(paths), seconds=_READ_SECONDS
            )
            if look() == found:
                return _understood(contents, host.shapes)
        found, fresh = look(), True
    raise TransientError(
        f"{':'.join(map(str, paths))}: the files go on changing",
        name="policy-changing",
        remedy="let whatever writes them end, then try again",
    )


def _is_fresh(found: Fingerprint, now: float) -> bool:
    """Whether a file changed so lately that it may be half written; a time to come tells nothing, so it counts too."""
    return any(now - looks[-1] / 1e9 < STABLE_SECONDS for _, looks in found if looks)
