"""The policy that a daemon follows while its files are edited, spoilt and mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.errors import PolicyError
from cede.model.policy import Policy
from cede.policy import policy_files
from cede.policy.policy_files import NO_POLICY, STABLE_SECONDS
from cede.policy.policy_watcher import PolicyWatcher

if TYPE_CHECKING:
    from pathlib import Path

ONE = 'version: 1\ndevices:\n  nic0: {match: {address: "0000:01:00.0"}}\nassignments:\n'
FIRST, SECOND = (f"{ONE}  - {{device: nic0, domain: {name}}}\n" for name in ("pv1", "pv2"))


class Following:
    def __init__(self, path: Path, fallback: Policy | None = None) -> None:
        self.path = path
        self.now = 0.0
        self.reported: list[Policy | PolicyError] = []
        self.edited_meanwhile = ""
        self.watcher = PolicyWatcher(
            read=self._read,
            fingerprint=lambda: policy_files.fingerprint([path]),
            clock=lambda: self.now,
            report=self.reported.append,
            fallback=fallback,
        )

    def _read(self) -> Policy:
        found = policy_files.read_all([self.path])
        if self.edited_meanwhile:
            self.path.write_text(self.edited_meanwhile)
        return found

    @property
    def domain(self) -> str:
        return self.watcher.policy.assignments[0].domain

    def look(self, seconds: float = 0.0, *, forced: bool = False) -> bool:
        self.now += seconds
        return self.watcher.reload(forced=forced)

    def settle(self) -> bool:
        self.look()
        return self.look(STABLE_SECONDS)


@pytest.fixture
def following(tmp_path: Path) -> Following:
    path = tmp_path / "policy.yaml"
    path.write_text(FIRST)
    return Following(path)


def test_a_changed_file_is_applied_once_it_has_settled(following: Following) -> None:
    assert not following.look()
    following.path.write_text(SECOND)
    assert (following.look(), following.watcher.changing) == (False, True)
    assert following.domain == "pv1"
    assert following.look(STABLE_SECONDS)
    assert (following.domain, following.watcher.changing) == ("pv2", False)
    assert len(following.reported) == 1


def test_a_file_that_is_still_being_written_is_waited_for(following: Following) -> None:
    for length in range(len(ONE), len(SECOND), 9):
        following.path.write_text(SECOND[:length])
        assert not following.look(STABLE_SECONDS)
    following.path.write_text(SECOND)
    assert not following.look(STABLE_SECONDS)
    assert following.look(STABLE_SECONDS)
    assert following.domain == "pv2"
    assert not [news for news in following.reported if isinstance(news, PolicyError)]


def test_a_broken_policy_is_reported_once_and_the_old_one_applied(following: Following) -> None:
    following.path.write_text("version: 1\ndevcies: {}\n")
    assert not following.settle()
    for _ in range(3):
        assert not following.settle()
    (wrong,) = following.reported
    assert isinstance(wrong, PolicyError)
    assert following.domain == "pv1"
    following.path.write_text(SECOND)
    assert following.settle()
    assert following.domain == "pv2"


def test_why_the_files_are_not_applied_is_known_until_they_are_right_again(
    following: Following,
) -> None:
    assert following.watcher.rejected is None
    following.path.write_text("version: 1\ndevcies: {}\n")
    following.settle()
    assert "devcies" in str(following.watcher.rejected)
    following.path.write_text(FIRST)
    following.settle()
    assert following.watcher.rejected is None
    assert [type(news) for news in following.reported] == [PolicyError, Policy], "and it is told"


def test_once_the_one_wrong_file_of_a_folder_is_gone_the_others_are_right_as_before(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "policy.d"
    folder.mkdir()
    (folder / "one.yaml").write_text(FIRST)
    following = Following(folder)
    (folder / "two.yaml").write_text("version: 1\ndevcies: {}\n")
    following.settle()
    assert following.watcher.rejected is not None
    (folder / "two.yaml").unlink()
    following.settle()
    assert following.watcher.rejected is None


def test_a_policy_that_is_removed_keeps_in_force(following: Following) -> None:
    following.path.unlink()
    assert not following.settle()
    assert (following.domain, len(following.reported)) == ("pv1", 1)


def test_asked_for_by_a_person_it_is_read_at_once_changed_or_not(following: Following) -> None:
    assert not following.look(forced=True)
    following.path.write_text(SECOND)
    assert following.look(forced=True)
    assert following.domain == "pv2"


def test_the_same_policy_written_anew_is_no_news(following: Following) -> None:
    following.path.unlink()
    following.path.write_text(FIRST)
    assert not following.settle()
    assert following.reported == []


def test_what_changed_while_it_was_read_is_not_believed(following: Following) -> None:
    following.path.write_text(SECOND)
    following.look()
    following.edited_meanwhile = SECOND.replace("pv2", "later")
    assert not following.look(STABLE_SECONDS)
    assert (following.domain, following.watcher.changing) == ("pv1", True)
    following.edited_meanwhile = ""
    assert following.settle()
    assert following.domain == "later"


def test_it_does_not_begin_with_a_broken_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        Following(tmp_path / "missing.yaml")


def test_with_a_fallback_a_broken_policy_is_reported_and_followed_once_it_is_right(
    tmp_path: Path,
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\ndevcies: {}\n")
    following = Following(path, fallback=NO_POLICY)
    assert following.watcher.policy == NO_POLICY
    assert following.reported == [following.watcher.rejected]
    path.write_text(FIRST)
    assert following.settle()
    assert following.domain == "pv1"
    assert following.watcher.rejected is None
