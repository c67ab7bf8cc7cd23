"""The policy that a daemon follows while its files are edited, spoilt and mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.errors import PolicyError
from cede.model.policy import Policy
from cede.policy import policy_files
from cede.policy.watcher import SETTLE_SECONDS, FollowedPolicy

if TYPE_CHECKING:
    from pathlib import Path

ONE = 'version: 1\ndevices:\n  nic0: {match: {address: "0000:01:00.0"}}\nassignments:\n'
FIRST, SECOND = (f"{ONE}  - {{device: nic0, domain: {name}}}\n" for name in ("pv1", "pv2"))


class Following:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.told: list[Policy | PolicyError] = []
        self.followed = FollowedPolicy(
            read=lambda: policy_files.read_all([path]),
            fingerprint=lambda: policy_files.fingerprint([path]),
            clock=lambda: self.now,
            tell=self.told.append,
        )

    @property
    def domain(self) -> str:
        return self.followed.policy.assignments[0].domain

    def look(self, seconds: float = 0.0, *, forced: bool = False) -> bool:
        self.now += seconds
        return self.followed.reload(forced=forced)

    def settle(self) -> bool:
        self.look()
        return self.look(SETTLE_SECONDS)


@pytest.fixture
def following(tmp_path: Path) -> Following:
    path = tmp_path / "policy.yaml"
    path.write_text(FIRST)
    return Following(path)


def test_a_changed_file_is_followed_once_it_has_settled(following: Following) -> None:
    assert not following.look()
    following.path.write_text(SECOND)
    assert (following.look(), following.followed.unsettled) == (False, True)
    assert following.domain == "pv1"
    assert following.look(SETTLE_SECONDS)
    assert (following.domain, following.followed.unsettled) == ("pv2", False)
    assert len(following.told) == 1


def test_a_file_that_is_still_being_written_is_waited_for(following: Following) -> None:
    for length in range(len(ONE), len(SECOND), 9):
        following.path.write_text(SECOND[:length])
        assert not following.look(SETTLE_SECONDS)
    following.path.write_text(SECOND)
    assert not following.look(SETTLE_SECONDS)
    assert following.look(SETTLE_SECONDS)
    assert following.domain == "pv2"
    assert not [news for news in following.told if isinstance(news, PolicyError)]


def test_a_broken_policy_is_told_once_and_the_old_one_followed(following: Following) -> None:
    following.path.write_text("version: 1\ndevcies: {}\n")
    assert not following.settle()
    for _ in range(3):
        assert not following.settle()
    (wrong,) = following.told
    assert isinstance(wrong, PolicyError)
    assert following.domain == "pv1"
    following.path.write_text(SECOND)
    assert following.settle()
    assert following.domain == "pv2"


def test_why_the_files_are_not_followed_is_known_until_they_are_right_again(
    following: Following,
) -> None:
    assert following.followed.rejected is None
    following.path.write_text("version: 1\ndevcies: {}\n")
    following.settle()
    assert "devcies" in str(following.followed.rejected)
    following.path.write_text(FIRST)
    following.settle()
    assert following.followed.rejected is None
    assert [type(news) for news in following.told] == [PolicyError, Policy], "and it is told"


def test_once_the_one_wrong_file_of_a_folder_is_gone_the_others_are_right_as_before(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "policy.d"
    folder.mkdir()
    (folder / "one.yaml").write_text(FIRST)
    following = Following(folder)
    (folder / "two.yaml").write_text("version: 1\ndevcies: {}\n")
    following.settle()
    assert following.followed.rejected is not None
    (folder / "two.yaml").unlink()
    following.settle()
    assert following.followed.rejected is None


def test_a_policy_that_is_removed_keeps_in_force(following: Following) -> None:
    following.path.unlink()
    assert not following.settle()
    assert (following.domain, len(following.told)) == ("pv1", 1)


def test_asked_for_by_a_person_it_is_read_at_once_changed_or_not(following: Following) -> None:
    assert not following.look(forced=True)
    following.path.write_text(SECOND)
    assert following.look(forced=True)
    assert following.domain == "pv2"


def test_the_same_policy_written_anew_is_no_news(following: Following) -> None:
    following.path.unlink()
    following.path.write_text(FIRST)
    assert not following.settle()
    assert following.told == []


def test_what_changed_while_it_was_read_is_not_believed(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = policy_files.read_all

    def read(paths: list[Path]) -> Policy:
        found = real(paths)
        paths[0].write_text(SECOND.replace("pv2", "later"))
        return found

    following.path.write_text(SECOND)
    following.look()
    monkeypatch.setattr(policy_files, "read_all", read)
    assert not following.look(SETTLE_SECONDS)
    assert (following.domain, following.followed.unsettled) == ("pv1", True)
    monkeypatch.setattr(policy_files, "read_all", real)
    assert following.settle()
    assert following.domain == "later"


def test_it_does_not_begin_with_a_broken_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        Following(tmp_path / "missing.yaml")
