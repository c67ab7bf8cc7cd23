"""Files with secrets: what is read, and what is refused with the command that fixes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cede.errors import PermanentError
from cede.guest.channels import credentials
from unit.raises import raises


def secret(tmp_path: Path, content: bytes = b"lab\n", mode: int = 0o600) -> str:
    path = tmp_path / "pv2.password"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def refused(path: str) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        credentials.first_line_of_secret(path)
    return caught.value


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (b"lab\n", "lab"),
        (b"lab", "lab"),
        (b" two words \r\nsecond line\n", " two words "),
        ("p\u00e4ss\n".encode(), "p\u00e4ss"),
    ],
)
def test_the_first_line_is_the_secret(tmp_path: Path, content: bytes, read: str) -> None:
    assert credentials.first_line_of_secret(secret(tmp_path, content)) == read


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o610])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path, mode=mode)
    error = refused(path)
    assert f"{mode:04o}" in error.message
    assert error.remedy == f"chmod 600 {path}"
    with raises(PermanentError, "file-open-to-others", path):
        credentials.check_secret(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_that_is_its_owners_alone_will_do(tmp_path: Path, mode: int) -> None:
    credentials.check_secret(secret(tmp_path, mode=mode))


def test_a_link_anywhere_in_its_path_is_refused(tmp_path: Path) -> None:
    path = Path(secret(tmp_path))
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").symlink_to(tmp_path)
    assert refused(str(tmp_path / "link")).name == "link-in-path"
    assert refused(str(tmp_path / "folder" / path.name)).name == "link-in-path"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\x1b[31m\n", b"\xff\n", b"a\x00b\n", b"x" * 5000]
)
def test_what_cant_be_typed_is_no_password(tmp_path: Path, content: bytes) -> None:
    assert refused(secret(tmp_path, content)).name == "no-password"


def test_neither_a_folder_nor_a_pipe_nor_nothing_is_read(tmp_path: Path) -> None:
    assert refused(str(tmp_path)).name == "no-file"
    os.mkfifo(tmp_path / "pipe")
    assert refused(str(tmp_path / "pipe")).name == "no-file"
    assert refused(str(tmp_path / "nothing")).name == "file-unreadable"


def test_no_message_reports_the_secret(tmp_path: Path) -> None:
    error = refused(secret(tmp_path, b"hush\x00\n"))
    assert "hush" not in error.message + error.remedy


def test_a_login_is_read_with_its_guest_and_user(tmp_path: Path) -> None:
    read = credentials.read_login("uuid", "root", secret(tmp_path))
    assert (read.guest, read.user, read.password, read.refused) == ("uuid", "root", "lab", False)
