"""The policy's files: YAML text in, a Policy out, or every complaint about all of them at once.

The way of a file: text (characters -> a tree with places), shape (the JSON Schema's word on the tree), meaning
(tree -> values). Then whole: the values of all files -> one Policy, and what only a reader of all can see. All four
complain to one list.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cede.errors import PolicyError
from cede.policy import Policy
from cede.policy_file.complaints import Complaints
from cede.policy_file.disk import content_of, default_paths, files_at, fingerprint
from cede.policy_file.meaning import parts_of
from cede.policy_file.shape import check_shape
from cede.policy_file.text import read_tree
from cede.policy_file.whole import policy_of

__all__ = ["default_paths", "files_at", "fingerprint", "parse", "read", "read_all"]


def parse(text: str | bytes, file: str) -> Policy:
    """The policy that `text` states; `file` is its name in places and complaints, and the policy's source.

    Raises PolicyError, and nothing else, with a line `file:line:column: what` for each thing that is wrong.
    """
    return _policy_of({file: text}, file, Complaints((file,)))


def read(path: Path) -> Policy:
    """The policy in the file at `path`.

    Raises PolicyError if it can't be read (its message then opens with the path alone) or is wrong.
    """
    return _read_files((path,), str(path))


def read_all(paths: Sequence[Path]) -> Policy:
    """The policy that the files at `paths` state together; a folder stands for its `*.yaml` in name order.

    Hidden files in a folder are left out; a file that is named twice is read once. Raises PolicyError, and nothing
    else, with all that is wrong with any of them, or if there is no file at all.
    """
    files = tuple(dict.fromkeys(file for path in paths for file in files_at(path)))
    source = ":".join(map(str, paths))
    if not files:
        raise PolicyError(
            f"{source}: there is no *.yaml file in this folder"
            if paths
            else "no policy file is named",
            remedy="name the policy with -f, or write it there",
        )
    return _read_files(files, source)


def _read_files(files: Sequence[Path], source: str) -> Policy:
    complaints = Complaints(tuple(map(str, files)))
    contents: dict[str, str | bytes] = {}
    for file in files:
        content = content_of(file, complaints)
        if content is not None:
            contents[str(file)] = content
    return _policy_of(contents, source, complaints)


def _policy_of(contents: dict[str, str | bytes], source: str, complaints: Complaints) -> Policy:
    """The policy that the readable files (name -> content) state together, if nothing is wrong with any."""
    parts = []
    for file, content in contents.items():
        tree = read_tree(content, file, complaints)
        if tree is not None:
            check_shape(tree, complaints)
            parts.append(parts_of(tree, complaints))
    all_read = len(parts) == len(complaints.files)
    policy = policy_of(parts, source, complaints, all_read=all_read)
    if complaints:
        raise complaints.error()
    return policy
