"""Paths that a person names -> the policy files there and what is in them, or the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cede.policy_file.complaints import Complaints
from cede.policy_file.text import MAX_BYTES


def default_paths(file: Path, folder: Path) -> tuple[Path, ...]:
    """Those of the two that exist; `file` if none does, so that reading it says so.

    What can't be looked at counts as there: to leave out half of a policy in silence would take devices away.
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
    """The `*.yaml` in the folder at `path` in the order of their names, without hidden ones; else `path` itself.

    Never fails: what is wrong with a path shows when its content is read.
    """
    try:
        inside = sorted(path.iterdir())
    except (OSError, ValueError):
        return (path,)
    return tuple(p for p in inside if p.name.endswith(".yaml") and not p.name.startswith("."))


def fingerprint(paths: Sequence[Path]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What tells one state of the policy's files from another without reading them; never fails.

    Of each file its path, and its inode, size and times of change in ns, or nothing for one that isn't there.
    """
    return tuple((str(file), _looks(file)) for path in paths for file in files_at(path))


def _looks(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except (OSError, ValueError):
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def content_of(path: Path, complaints: Complaints) -> bytes | None:
    """What is in the file at `path`, or None and a complaint."""
    try:
        with path.open("rb") as stream:
            # One byte more than allowed is enough to see that it is too much, were it /dev/zero.
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        text, remedy = "there is no such file", "name the policy with -f, or write it there"
    except IsADirectoryError:
        text, remedy = "this is a directory", "name the policy file in it with -f"
    except PermissionError:
        text, remedy = "may not be read by you", "run as root, or change the file's mode"
    except (OSError, ValueError) as error:
        text, remedy = f"can't be read: {error}", "name a readable policy file with -f"
    complaints.add_unreadable(str(path), text, remedy)
    return None
