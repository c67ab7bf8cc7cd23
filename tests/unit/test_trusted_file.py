"""Files that say what root is to do: whoever else could have written them, or could put others in their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cede.errors import PolicyError
from cede.policy.policy_files import read_all
from cede.util.trusted_file import UntrustedFileError, check_folder, read_trusted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
STRANGER = 4711


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "cede"
    folder.mkdir()
    file = folder / "policy.yaml"
    file.write_text("version: 1\n")
    return file


def refusal(path: Path, *, secret: bool = False) -> UntrustedFileError:
    with pytest.raises(UntrustedFileError) as caught:
        read_trusted(path, 100, secret=secret)
    return caught.value


def test_what_root_alone_can_write_is_read(file: Path) -> None:
    assert read_trusted(file, 100) == b"version: 1\n"
    assert read_trusted(file, 4) == b"vers"
    check_folder(file.parent)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o622, 0o666])
def test_a_file_that_others_can_write_is_refused_with_chmod(file: Path, mode: int) -> None:
    file.chmod(mode)
    error = refusal(file)
    assert (error.name, error.remedy) == ("file-open-to-others", f"chmod go-w {file}")


def test_a_file_of_another_user_is_refused_with_chown(file: Path) -> None:
    os.chown(file, STRANGER, -1)
    error = refusal(file)
    assert (error.name, error.remedy.split()[:2]) == ("foreign-file", ["chown", "root:"])
    file.chmod(0o600)
    assert refusal(file, secret=True).name == "foreign-file"


@pytest.mark.parametrize("levels", [0, 1])
def test_a_folder_on_the_way_that_others_can_write_is_refused(file: Path, levels: int) -> None:
    folder = file.parents[levels]
    folder.chmod(0o777)
    error = refusal(file)
    assert (error.name, error.remedy) == ("folder-open-to-others", f"chmod go-w {folder}")
    folder.chmod(0o1777)  # as /tmp is: only its owner replaces a file there
    assert read_trusted(file, 100)


def test_a_folder_of_another_user_is_refused(file: Path) -> None:
    os.chown(file.parent, STRANGER, -1)
    assert refusal(file).name == "foreign-folder"
    with pytest.raises(UntrustedFileError):
        check_folder(file.parent)


def test_a_link_leads_on_if_its_own_folder_and_owner_are_to_be_trusted(
    file: Path, tmp_path: Path
) -> None:
    for link, target in (("absolute", file), ("relative", Path("cede/policy.yaml"))):
        (tmp_path / link).symlink_to(target)
        assert read_trusted(tmp_path / link, 100) == b"version: 1\n"
    os.chown(tmp_path / "relative", STRANGER, -1, follow_symlinks=False)
    assert refusal(tmp_path / "relative").name == "foreign-link"
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "hop").symlink_to(file)
    (tmp_path / "over").symlink_to("open/../open/hop")
    assert read_trusted(tmp_path / "over", 100)
    open_to_all.chmod(0o777)
    assert refusal(tmp_path / "over").name == "folder-open-to-others"


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert refusal(tmp_path / "a").name == "link-in-path"


def test_neither_a_pipe_nor_a_device_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").name == "no-file"
    assert refusal(Path("/dev/zero")).name == "no-file"
    assert refusal(Path("/dev/zero"), secret=True).name == "no-file"


def test_a_policy_folder_that_others_can_write_is_refused_even_without_files(file: Path) -> None:
    folder = file.parent / "policy.d"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PolicyError) as caught:
        read_all([file, folder])
    assert [d.name for d in caught.value.diagnostics] == ["folder-open-to-others"]
    assert caught.value.remedy == f"chmod go-w {folder}"


def test_every_file_of_a_policy_that_is_not_to_be_trusted_is_reported(file: Path) -> None:
    other = file.parent / "other.yaml"
    other.write_text("version: 1\n")
    other.chmod(0o666)
    os.mkfifo(file.parent / "pipe.yaml")
    with pytest.raises(PolicyError) as caught:
        read_all([file.parent])
    assert [d.name for d in caught.value.diagnostics] == ["file-open-to-others", "no-file"]
