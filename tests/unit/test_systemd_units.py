"""systemd's units: right in systemd's own eyes, and without what would blind cede's guards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cede.api.agent import CLOSING_SECONDS, READ_ONLY
from cede.util.paths import Paths

UNITS = Path(__file__).parents[2] / "contrib/systemd"
SERVICES = sorted(UNITS.glob("*.service"))
SOCKETS = sorted(UNITS.glob("*.socket"))
EVERY = [*SERVICES, *SOCKETS, *sorted(UNITS.glob("*.timer"))]
OWN_MOUNTS = (
    "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateUsers",
    "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
    "ProtectProc", "ProcSubset", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths",
    "BindReadOnlyPaths", "TemporaryFileSystem", "RootDirectory", "RootImage", "DynamicUser", "ExtensionImages",
    "ExtensionDirectories", "MountImages", "MountAPIVFS", "LogNamespace", "NetworkNamespacePath", "PrivateNetwork",
    "PrivateIPC", "PrivatePIDs",
)  # fmt: skip
MOST_EXPOSED = ["--threshold=49"]  # in tenths: 4.9 passes, 5.0 does not
HARDENING = (
    "NoNewPrivileges", "Capability", "Restrict", "Lock", "MemoryDeny", "Protect", "SystemCall", "Keyring", "Device",
    "LimitMEMLOCK", "UMask",
)  # fmt: skip
ESSENTIAL = {"/bin/sh", "/usr/bin/flock"}  # of dash and util-linux, which every Debian has


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_systemd_itself_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    (tmp_path / "cede").write_text("#!/bin/sh\n")
    (tmp_path / "cede").chmod(0o755)
    for unit in EVERY:
        text = unit.read_text().replace("=cede ", f"={tmp_path}/cede ")
        (tmp_path / unit.name).write_text(text)
    units = [str(tmp_path / unit.name) for unit in EVERY]
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    about = [line for line in done.stderr.splitlines() if "cede" in line]
    assert (done.returncode, about) == (0, []), done.stderr


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_runs_cede_and_programs_of_essential_packages_alone(unit: Path) -> None:
    lines = [
        line
        for name, values in settings(unit).items()
        if name.startswith("Exec")
        for line in values
    ]
    assert {line.split()[0] for line in lines} <= {"cede", *ESSENTIAL}


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_systemd_rates_the_exposure_of_a_service_below_5(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", *MOST_EXPOSED, str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout + done.stderr


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_each_right_that_stays_open_is_named_with_what_needs_it(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    for at, line in enumerate(lines):
        name, _, value = line.partition("=")
        if name not in {"CapabilityBoundingSet", "RestrictAddressFamilies"}:
            continue
        reason = lines[at - 1]
        rights = [right.removeprefix("CAP_").removeprefix("AF_") for right in value.split()]
        assert reason.startswith("# ")
        assert all(right.rstrip("6") in reason for right in rights), line


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_no_service_is_less_hard_than_another(unit: Path) -> None:
    hard = [dict(settings(one)) for one in (unit, UNITS / "cede.service")]
    same = {name for name in hard[1] if name.startswith(HARDENING)}
    assert same
    assert {name: hard[0].get(name) for name in same} == {name: hard[1][name] for name in same}


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_cede_may_open_all_disks_for_reading_which_tells_who_holds_them(unit: Path) -> None:
    assert settings(unit)["DeviceAllow"] == ["block-* r", "char-* rw"]


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_cede_sees_the_hosts_own_mounts_which_its_guards_ask_for(unit: Path) -> None:
    assert not set(settings(unit)) & set(OWN_MOUNTS)


def test_the_timer_and_the_daemon_do_not_stop_one_another() -> None:
    for unit in EVERY:
        assert set(settings(unit).get("Conflicts", [])) <= {"shutdown.target"}
    (condition,) = settings(UNITS / "cede-apply.service")["ExecCondition"]
    assert "/run/cede-run.lock" in condition


def test_no_guest_or_daemon_that_is_away_keeps_the_host_from_booting() -> None:
    for unit in SERVICES:
        assert not {"Requires", "BindsTo", "Requisite"} & set(settings(unit))


def test_the_agents_sockets_are_those_that_clients_and_agent_know() -> None:
    socket, read_only = (settings(UNITS / name) for name in ("cede.socket", "cede-ro.socket"))
    paths = Paths()
    assert socket["ListenStream"] == [str(paths.agent_socket)]
    assert read_only["ListenStream"] == [str(paths.read_only_socket)]
    assert (socket["SocketMode"], read_only["SocketMode"]) == (["0660"], ["0666"])
    assert (socket["SocketUser"], socket["SocketGroup"]) == (["root"], ["cede"])
    assert read_only["Service"] == ["cede.service"]
    assert {unit.name for unit in SOCKETS} == set(READ_ONLY)
    service = settings(UNITS / "cede.service")
    assert service["Sockets"] == service["Also"] == ["cede.socket cede-ro.socket"]
    group = (UNITS / "sysusers.d/cede.conf").read_text().splitlines()[-1]
    assert group.split()[:2] == ["g", "cede"]


def test_the_agent_has_time_to_finish_what_it_does() -> None:
    (seconds,) = settings(UNITS / "cede.service")["TimeoutStopSec"]
    assert seconds == "3min"
    assert CLOSING_SECONDS < 180
