"""A guest behind ssh: what the client is told, and what its diagnostics mean. The client is a shell script here."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cede.errors import GuestSilentError, PermanentError
from cede.guest.channels.ssh_channel import SshChannel
from unit.raises import raises


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `ssh` notes its arguments and does what `behaviour` there says."""
    script = tmp_path / "ssh"
    script.write_text(
        '#!/bin/sh\ncd "${0%/*}"\nprintf "%s\\n" "$@" > argv\n'
        'while [ "$1" != -- ]; do shift; done\nshift 2\n. ./behaviour\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    behave(tmp_path, '"$@"')
    return tmp_path


def behave(folder: Path, script: str) -> None:
    (folder / "behaviour").write_text(script)


def silent(seconds: float = 5.0) -> GuestSilentError:
    with pytest.raises(GuestSilentError) as caught:
        SshChannel("pv1").run("true", seconds)
    assert caught.value.remedy
    return caught.value


@pytest.mark.usefixtures("client")
def test_the_command_runs_in_a_posix_shell_and_its_answer_comes_back_whole() -> None:
    said = SshChannel("pv1").run("printf 'Slot:\\t0000:00:00.0\\n'; echo \"it's\"", 5)
    assert said == "Slot:\t0000:00:00.0\nit's\n"


def test_what_the_guest_prints_around_the_answer_is_no_part_of_it(client: Path) -> None:
    behave(client, 'echo welcome; echo warning >&2; "$@"; echo bye; exit 1')
    assert SshChannel("pv1").run("echo x", 5) == "x\n"


@pytest.mark.usefixtures("client")
def test_escapes_dont_come_through() -> None:
    assert SshChannel("pv1").run("printf '\\033[31mred\\033[0m\\007\\n'", 5) == "red\n"


def test_host_keys_are_checked_nobody_is_asked_and_there_is_no_terminal(client: Path) -> None:
    key = client / "key"
    key.write_text("key")
    key.chmod(0o600)
    SshChannel("admin@pv1", user="root", identity_file=str(key)).run("true", 7)
    argv = (client / "argv").read_text().splitlines()
    assert {"-T", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oConnectTimeout=7"} <= {*argv}
    assert argv[-4:] == ["--", "admin@pv1", "sh", "-s"]
    assert argv[-8:-4] == ["-l", "root", "-i", str(key)]


def test_nothing_of_dom0_is_forwarded_and_no_environment_goes_along(
    client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET", "hush")
    behave(client, 'env > environment; "$@"')
    SshChannel("pv1").run("true", 5)
    argv = (client / "argv").read_text().splitlines()
    assert {
        "-oForwardAgent=no",
        "-oAddKeysToAgent=no",
        "-oForwardX11=no",
        "-oForwardX11Trusted=no",
        "-oGSSAPIDelegateCredentials=no",
        "-oUpdateHostKeys=no",
        "-oTunnel=no",
        "-oClearAllForwardings=yes",
        "-oPermitLocalCommand=no",
        "-oSetEnv=LC_ALL=C",
    } <= {*argv}
    names = {line.partition("=")[0] for line in (client / "environment").read_text().splitlines()}
    shells_own = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert names - shells_own <= {"HOME", "PATH", "USER", "LOGNAME", "SSH_AUTH_SOCK", "KRB5CCNAME"}


def test_a_key_that_others_may_read_is_not_used(client: Path) -> None:
    key = client / "key"
    key.write_text("key")
    key.chmod(0o644)
    with raises(PermanentError, "file-open-to-others") as caught:
        SshChannel("pv1", identity_file=str(key)).run("true", 5)
    assert caught.value.remedy == f"chmod 600 {key}"
    assert not (client / "argv").exists()


CHANGED = (
    "@@@@@@@@\\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\\n"
    "Host key verification failed.\\r\\n"
)
UNKNOWN = (
    "No ED25519 host key is known for pv1 and you have requested strict checking.\\r\\n"
    "Host key verification failed.\\r\\n"
)


@pytest.mark.parametrize(
    ("said", "name", "remedy"),
    [
        (CHANGED, "host-key-changed", "ssh-keygen -R pv1"),
        (UNKNOWN, "host-key-unknown", "ssh pv1"),
        ("root@pv1: Permission denied (publickey,password).\\r\\n", "login-refused", "authorized_keys"),
        ("ssh: connect to host pv1 port 22: Connection refused\\r\\n", "connection-refused", "sshd"),
        ("ssh: connect to host pv1 port 22: No route to host\\r\\n", "guest-unreachable", ""),
        ("ssh: connect to host pv1 port 22: Connection timed out\\r\\n", "guest-unreachable", ""),
        ("ssh: Could not resolve hostname pv1: Name or service not known\\r\\n", "unknown-host", "`host`"),
        ("\\033[31mkex_exchange_identification: closed\\r\\n", "ssh-failed", "ssh pv1 true"),
    ],
)  # fmt: skip
def test_each_way_of_not_getting_there_has_its_name_and_remedy(
    client: Path, said: str, name: str, remedy: str
) -> None:
    behave(client, f"printf '{said}' >&2; exit 255")
    error = silent()
    assert error.name == name
    assert remedy in error.remedy
    assert "\x1b" not in error.message


def test_what_ssh_says_of_no_known_reason_is_quoted_with_its_status(client: Path) -> None:
    behave(client, "echo 'kex_exchange_identification: closed' >&2; exit 255")
    message = silent().message
    assert "255" in message
    assert message.endswith("kex_exchange_identification: closed")


def test_what_the_guest_itself_says_is_not_taken_for_the_clients_error(client: Path) -> None:
    behave(client, "echo 'Host key verification failed.' >&2; exit 1")
    assert silent().name == "ssh-failed"


def test_an_answer_that_is_truncated_is_none(client: Path) -> None:
    behave(client, '"$@" | head -n 1')
    assert silent().name == "ssh-failed"


def test_a_guest_that_never_answers_ends_by_the_time(client: Path) -> None:
    behave(client, "exec sleep 60")
    started = time.monotonic()
    assert silent(1.0).name == "ssh-timeout"
    assert time.monotonic() - started < 5.0


def test_a_guest_that_prints_without_end_ends_by_size_or_time(client: Path) -> None:
    behave(client, "exec cat /dev/zero")
    assert silent(0.5).name == "ssh-timeout"


def test_without_an_ssh_client_the_remedy_is_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with raises(PermanentError, "command-missing", "ssh") as caught:
        SshChannel("pv1").run("true", 5)
    assert caught.value.remedy == "apt-get install openssh-client"
