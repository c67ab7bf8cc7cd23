"""The policy's files -> one Policy, or all diagnostics about all of them at once; read again when they change.

Each file: parse (characters -> a tree with places), validate (the tree by the JSON Schema), build (tree -> values).
Then merge: the values of all files -> one Policy, with the checks across files. All four add to one list of
diagnostics.
A half-written file may be a valid policy with fewer assignments. So files are read only after they stayed the same for
a moment, and a file that changed while it was read is read again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cede.errors import PolicyError
from cede.model.policy import Policy
from cede.policy.build import parts_of
from cede.policy.diagnostics import Diagnostics
from cede.policy.merge import policy_of
from cede.policy.parse import MAX_BYTES, read_tree
from cede.policy.validate import check_shape
from cede.util import schemas
from cede.util.paths import Paths


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


def fingerprint(paths: Sequence[Path]) -> tuple[tuple[str, tuple[int, ...]], ...]:
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
        with path.open("rb") as stream:
            # One byte more than allowed shows that the file is too large, even /dev/zero.
            return stream.read(MAX_BYTES + 1)
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
    return _policy_of({file: text}, file, Diagnostics((file,)))


def read(path: Path) -> Policy:
    """Read the policy in the file at `path`.

    Raises PolicyError if the file can't be read (the message then begins with the path alone) or is wrong.
    """
    return _read_files((path,), str(path))


def read_all(paths: Sequence[Path]) -> Policy:
    """Read the policy in all files at `paths`; a folder stands for its `*.yaml` in name order.

    Hidden files in a folder are left out; a file that is named twice is read once. Raises PolicyError, and nothing
    else, with all mistakes, or if there is no file at all.
    """
    files = tuple(dict.fromkeys(file for path in paths for file in files_at(path)))
    source = ":".join(map(str, paths))
    if not files:
        raise PolicyError(
            f"{source}: there is no *.yaml file in this folder"
            if paths
            else "no policy file is named",
            name="no-policy-file",
            remedy="name the policy with -f, or write a *.yaml file there",
        )
    return _read_files(files, source)


def _read_files(files: Sequence[Path], source: str) -> Policy:
    diagnostics = Diagnostics(tuple(map(str, files)))
    contents: dict[str, str | bytes] = {}
    for file in files:
        content = content_of(file, diagnostics)
        if content is not None:
            contents[str(file)] = content
    return _policy_of(contents, source, diagnostics)


def _policy_of(contents: dict[str, str | bytes], source: str, diagnostics: Diagnostics) -> Policy:
    """Build the policy from the readable files (name -> content). Raises PolicyError if any has a mistake."""
    parts = []
    schema = schemas.load("policy.schema.json")
    for file, content in contents.items():
        tree = read_tree(content, file, diagnostics)
        if tree is not None:
            check_shape(tree, schema, diagnostics)
            parts.append(parts_of(tree, diagnostics))
    all_read = len(parts) == len(diagnostics.files)
    policy = policy_of(parts, source, diagnostics, all_read=all_read)
    if diagnostics:
        raise diagnostics.error()
    return policy


def host_policy(path: Path | None, paths: Paths) -> Policy:
    """Read the policy at `path`, else that of the host with these `paths`. Raises PolicyError."""
    if path is not None:
        return read_all([path])
    policy = read_all(default_paths(paths.policy, paths.policy_folder))
    # one name for the host's policy, however many files it has: the ownership metadata in domains has this name
    return replace(policy, source=str(paths.policy))


def host_policy_if_any(path: Path | None, paths: Paths) -> Policy:
    """Read the policy as `host_policy`, but a host without a policy has an empty one: a one-off needs none."""
    if path is None and not paths.policy.exists() and not paths.policy_folder.exists():
        return Policy(source=str(paths.policy))
    return host_policy(path, paths)


def host_policy_beside(output: Path | None, path: Path | None, paths: Paths) -> Policy:
    """Read the policy as `host_policy`, without the file `output`, which is about to be written."""
    named = [path] if path is not None else default_paths(paths.policy, paths.policy_folder)
    files = [file for one in named for file in files_at(one)]
    beside = [file for file in files if output is None or not _same_file(file, output)]
    if path is None and len(beside) == len(files):
        return host_policy_if_any(None, paths)
    return read_all(beside) if beside else Policy()


def _same_file(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


STABLE_SECONDS = 0.5


class PolicyWatcher:
    """Follows the policy's files: `read` reads them, `fingerprint` changes when they change.

    `report` gets each new policy, and the error of each wrong one. `policy` is the last valid policy, `rejected` the
    error of the present files, None if they are followed. Raises PolicyError if the files are wrong at the start.
    """

    def __init__(
        self,
        read: Callable[[], Policy],
        fingerprint: Callable[[], object],
        clock: Callable[[], float],
        report: Callable[[Policy | PolicyError], None],
    ) -> None:
        self._read = read
        self._fingerprint = fingerprint
        self._clock = clock
        self._report = report
        self._accepted = self._rejected = fingerprint()
        self._new: tuple[object, float] | None = None
        self.rejected: PolicyError | None = None
        self.policy = read()

    @property
    def changing(self) -> bool:
        """Whether the files changed too recently to be read."""
        return self._new is not None

    def reload(self, *, forced: bool) -> bool:
        """Read the files if they changed and are stable, or at once if `forced`; return whether the policy changed."""
        found = self._fingerprint()
        if not forced and not self._is_stable(found):
            return False
        self._new = None
        try:
            policy = self._read()
        except PolicyError as wrong:
            self._rejected, self.rejected = found, wrong
            self._report(wrong)
            return False
        if self._fingerprint() != found:
            self._new = (found, self._clock())
            return False
        self._accepted = self._rejected = found
        changed, mended = policy != self.policy, self.rejected is not None
        self.policy, self.rejected = policy, None
        if changed or mended:
            self._report(policy)
        return changed

    def _is_stable(self, found: object) -> bool:
        """Whether the files differ from those read last, and have not changed for a moment."""
        if found == self._accepted != self._rejected:  # a wrong file was put back as it had been
            return True
        if found in (self._accepted, self._rejected):
            self._new = None
            return False
        if self._new is None or self._new[0] != found:
            self._new = (found, self._clock())
            return False
        return self._clock() - self._new[1] >= STABLE_SECONDS
