"""A policy's text that had a right shape is not judged again; whatever is wrong with what is kept, it is judged."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cede.errors import PolicyError
from cede.policy import policy_files
from cede.policy.parse import Tree
from cede.policy.validate import check_shape
from cede.state import key_files
from cede.state.key_files import KnownShapes
from cede.util import schemas
from unit.test_cli import POLICY, policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.in_files import SimulatedHost

__all__ = ["policy"]
WRONG = POLICY.replace("assignments", "asignments")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts whose shape was judged."""
    texts: list[str] = []
    check = check_shape

    def counted(tree: Tree, *arguments: object) -> bool:
        texts.append(str(tree.data))
        return check(tree, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy_files, "check_shape", counted)
    return texts


def fifo_at(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.fixture
def read(host: SimulatedHost, policy: Path) -> Callable[[], object]:
    host.paths.known_shapes.parent.mkdir(parents=True, exist_ok=True)
    return lambda: policy_files.host_policy(policy, host.runtime())


def test_a_text_is_judged_once_and_means_the_same_afterwards(
    read: Callable[[], object], judged: list[str], host: SimulatedHost
) -> None:
    assert read() == read() == read()
    assert len(judged) == 1
    assert host.paths.known_shapes.stat().st_mode & 0o777 == 0o600


def test_a_wrong_text_is_judged_each_time(
    read: Callable[[], object], judged: list[str], policy: Path
) -> None:
    read()
    policy.write_text(WRONG)
    for _ in range(2):
        with pytest.raises(PolicyError) as wrong:
            read()
        assert {one.name for one in wrong.value.diagnostics} == {"unknown-key"}
    assert len(judged) == 3


def test_another_version_and_another_schema_judge_anew(
    read: Callable[[], object], judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read()
    with monkeypatch.context() as newer:
        newer.setattr(key_files, "__version__", "99")
        read()
    content = schemas.content("policy.schema.json")
    monkeypatch.setattr(schemas, "content", lambda _: content + b"\n")
    read()
    assert len(judged) == 3


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda file: file.write_bytes(b"\xff" * 1_000_000),
        lambda file: (file.unlink(), file.mkdir()),
        fifo_at,
        lambda file: file.chmod(0o666),
        lambda file: (file.unlink(), file.symlink_to("/nowhere/file")),
    ],
    ids=["rubbish", "folder", "fifo", "writable-by-all", "dangling"],
)
def test_what_is_kept_and_cant_be_trusted_means_to_judge(
    read: Callable[[], object],
    judged: list[str],
    host: SimulatedHost,
    spoilt: Callable[[Path], object],
) -> None:
    read()
    spoilt(host.paths.known_shapes)
    read()
    assert len(judged) == 2


def test_what_a_recorded_host_says_of_it_is_not_taken(
    read: Callable[[], object], judged: list[str], host: SimulatedHost, policy: Path
) -> None:
    read()
    policy_files.host_policy(policy, replace(host.runtime(), recorded=True))
    assert len(judged) == 2


def test_without_a_folder_nothing_is_kept_and_none_is_made(
    host: SimulatedHost, policy: Path, judged: list[str]
) -> None:
    host.paths.known_shapes.unlink(missing_ok=True)
    assert not host.paths.known_shapes.parent.exists()
    for _ in range(2):
        policy_files.host_policy(policy, host.runtime())
    assert len(judged) == 2
    assert not host.paths.known_shapes.parent.exists()


def test_the_texts_that_are_known_are_bounded(tmp_path: Path) -> None:
    known = KnownShapes(tmp_path / "known-shapes")
    for number in range(110):
        known.add((str(number).encode(), b"{}"))
    assert (b"109", b"{}") in known
    assert (b"9", b"{}") not in known
    assert (b"109{}", b"") not in known
    assert (tmp_path / "known-shapes").stat().st_size == 65 * 100
