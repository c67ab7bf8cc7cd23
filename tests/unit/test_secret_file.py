"""Files with secrets: what is read, and what is refused with the command that fixes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cede.errors import PermanentError
from cede.guest.channels import credentials
from cede.guest.channels.credentials import Login
from cede.state.key_files import RefusedLogins
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


def test_a_refused_password_is_remembered_by_the_next_process_until_its_file_changes(
    tmp_path: Path,
) -> None:
    path, kept = secret(tmp_path), tmp_path / "state/refused-logins"

    def read(guest: str = "uuid", user: str = "root") -> Login:
        return credentials.read_login(guest, user, path, RefusedLogins(kept))

    read().note_refusal()
    assert read().refused
    assert not read(guest="other").refused
    assert not read(user="admin").refused
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "lab" not in kept.read_text() + kept.read_text()
    os.utime(path, ns=(0, Path(path).stat().st_mtime_ns + 1))
    assert not read().refused


def test_refused_passwords_are_bounded_and_what_is_no_key_counts_for_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "refused-logins"
    path.write_bytes(b"\xff\x00no key\n" + b"x" * 1_000_000)
    kept = RefusedLogins(path)
    for number in range(1100):
        kept.add(f"{number:064x}")
    assert f"{1099:064x}" in RefusedLogins(path)
    assert f"{1:064x}" not in RefusedLogins(path)
    assert path.stat().st_size == 65 * 1000


def test_where_it_cant_be_told_whether_a_password_was_refused_none_is_tried(tmp_path: Path) -> None:
    (tmp_path / "refused-logins").mkdir()
    with raises(PermanentError, "file-unreadable"):
        assert "x" in RefusedLogins(tmp_path / "refused-logins")


def test_a_login_is_read_with_its_guest_and_user(tmp_path: Path) -> None:
    read = credentials.read_login("uuid", "root", secret(tmp_path), set())
    assert (read.guest, read.user, read.password, read.refused) == ("uuid", "root", "lab", False)
