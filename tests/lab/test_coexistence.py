"""Beside people with tools of their own, on the real host: virt-xml, virsh edit, an older XML, virt-manager."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cede.model.pci import Address
from lab.desk import desk
from lab.forward import forwarded
from lab.started import surroundings
from xenlab.waiting import wait_until

if TYPE_CHECKING:
    from lab.desk import Desk
    from lab.host import Host
    from xenlab.dom0 import Result

pytestmark = pytest.mark.lab

CEDED, BY_VIRT_XML, BY_WINDOW = "0000:01:00.0", "0000:04:00.0", "0000:00:11.0"
VIRSH = "virsh -q -c xen:///system"
ASKED, ON_THE_CONSOLE = "verify: {guest: xenstore}\n", "verify: {guest: console}\n"
WITH_THEIRS = f"""\
version: 1
devices:
  nic0: {{match: {{address: "{CEDED}"}}}}
  nic1: {{match: {{address: "{BY_VIRT_XML}"}}}}
assignments:
  - {{device: nic0, domain: pv1, verify: {{guest: xenstore}}}}
  - {{device: nic1, domain: pv1, verify: {{guest: none}}}}
"""
THEIRS = """\
<hostdev mode='subsystem' type='pci' managed='no'><driver name='xen'/>
<source><address domain='0' bus='4' slot='0' function='0'/></source></hostdev>
"""
EDITED_ALL_THE_WHILE = f"""\
for n in $(seq 30); do
    {VIRSH} "desc pv1 --config --title moment-$n; desc pv1 --config --title"
    echo
done
touch /tmp/edited
"""
EDITOR = """\
#!/bin/sh
exec sed -i 's|<uuid>|<title>by virsh edit</title><uuid>|' "$1"
"""


def test_people_with_their_own_tools_and_cede_respect_each_other(host: Host) -> None:
    host.policy("nic0", CEDED, "pv1", ASKED)
    host.sh(f"{VIRSH} dumpxml --inactive pv1 > /tmp/older.xml")
    assert host.cede("apply", "--yes").returncode == 0
    with forwarded(host.lab.dom0()) as uri:
        _edits_survive_both_ways(host, uri)
        _what_they_added_is_theirs(host)
        _what_virt_xml_took_out_is_reported_or_put_back(host, uri)
        _what_an_older_xml_lacks_is_put_back(host)
        with desk(uri, "pv1") as window:
            _an_edit_in_the_window_survives(host, window)
            _what_the_window_took_out_is_put_back(host, window)
            _the_console_stays_with_who_has_it(host, window)
    verified = host.cede("verify")
    assert verified.returncode == 0, verified.stdout


def _virt_xml(uri: str, *argv: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            ["virt-xml", "--connect", uri, "pv1", *argv],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
            env=surroundings(Path(home)),
        )
    assert done.returncode == 0, done.stdout + done.stderr


def _in_pv1(host: Host, *addresses: str) -> bool:
    """Whether pv1 has exactly those, running and persistent."""
    return all(sorted(_hostdevs(host, flag)) == sorted(addresses) for flag in ("", "--inactive"))


def _hostdevs(host: Host, flag: str) -> list[str]:
    lines = host.sh(
        f"{VIRSH} dumpxml {flag} pv1 | sed -n '/<hostdev/,/<.hostdev>/p'"
        " | sed -n '/<source>/,/<.source>/s/.*<address //p'"
    ).splitlines()
    named = [dict(word.split("=") for word in line.rstrip("/>").split()) for line in lines]
    return [
        "{domain}:{bus}:{slot}.{function}".format(
            **{key: value.strip("'").removeprefix("0x") for key, value in one.items()}
        )
        for one in named
    ]


def _persistent(host: Host) -> str:
    return host.sh(f"{VIRSH} dumpxml --inactive pv1")


def _settled_state(host: Host) -> str:
    """The state once pv1 has connected to what it was given last."""
    host.sh(
        "d=$(xl domid pv1); n=0; while [ $n -lt 300 ]; do"
        ' [ "$(xenstore-read /local/domain/0/backend/pci/$d/0/state 2>/dev/null || echo 4)" = 4 ] && exit 0;'
        " n=$((n+1)); sleep 0.2; done; exit 1"
    )
    return host.state()


def _changed_nothing(host: Host, before: str, done: Result, status: int = 0) -> None:
    assert (done.returncode, "Nothing was changed." in done.stdout) == (status, True), done.stdout
    assert host.state() == before


def _edits_survive_both_ways(host: Host, uri: str) -> None:
    _virt_xml(uri, "--edit", "--metadata", "description=by virt-xml")
    # on Xen both tools make a hostdev that isn't managed: whoever adds it detaches the device before
    for address in (BY_VIRT_XML, BY_WINDOW):
        host.sh(f"{VIRSH} nodedev-detach {Address.parse(address).node_device}")
    host.write("/tmp/editor", EDITOR)
    host.sh(f"chmod +x /tmp/editor; EDITOR=/tmp/editor {VIRSH} edit pv1")
    _virt_xml(uri, "--add-device", "--hostdev", BY_VIRT_XML, "--update")
    assert _in_pv1(host, CEDED, BY_VIRT_XML)


def _what_they_added_is_theirs(host: Host) -> None:
    """Though the policy wants the same."""
    host.write("/etc/cede/policy.yaml", WITH_THEIRS)
    before = _settled_state(host)
    assert "by virt-xml" in before
    assert "by virsh edit" in before
    applied = host.cede("apply", "--yes")
    _changed_nothing(host, before, applied)
    assert f"{BY_VIRT_XML} is in pv1 already; another tool put it there" in applied.stdout
    released = host.cede("release", "nic1")
    assert (released.returncode, "another tool put" in released.stdout + released.stderr) == (
        3,
        True,
    )
    assert host.state() == before


def _what_virt_xml_took_out_is_reported_or_put_back(host: Host, uri: str) -> None:
    _virt_xml(uri, "--remove-device", "--hostdev", "1", "--update")
    assert _in_pv1(host, BY_VIRT_XML)
    host.policy("nic0", CEDED, "pv1", f"{ASKED}on_drift: report\n")
    before = _settled_state(host)
    reported = host.cede("apply", "--yes", "--scheduled")
    _changed_nothing(host, before, reported, status=4)
    assert f"drifted: another tool took {CEDED} out of" in reported.stdout
    _is_put_back(host, BY_VIRT_XML)


def _is_put_back(host: Host, *theirs: str) -> None:
    """By a pass that nobody asked for, beside what is theirs."""
    host.policy("nic0", CEDED, "pv1", ASKED)
    restored = host.cede("apply", "--yes", "--scheduled")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert f"drifted: another tool took {CEDED} out of" in restored.stdout
    assert _in_pv1(host, CEDED, *theirs)


def _what_an_older_xml_lacks_is_put_back(host: Host) -> None:
    """It lacks what virt-xml added as well; that is theirs to miss. And it is being edited all the while."""
    host.sh(
        f"{VIRSH} define /tmp/older.xml; ({EDITED_ALL_THE_WHILE}) < /dev/null > /tmp/seen 2>&1 &"
    )
    host.policy("nic0", CEDED, "pv1", ASKED)
    restored = host.cede("apply", "--yes", "--scheduled")
    edits = host.sh("until [ -e /tmp/edited ]; do sleep 0.1; done; grep moment /tmp/seen").split()
    assert edits == [f"moment-{number}" for number in range(1, 31)], "one was overwritten"
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert f"{CEDED} out of the persistent XML of pv1" in restored.stdout
    assert _hostdevs(host, "--inactive") == [CEDED]
    assert sorted(_hostdevs(host, "")) == [CEDED, BY_VIRT_XML]
    # virt-manager finds a hostdev's persistent twin by its place in the list, so both lists have to be the same
    host.write("/tmp/theirs.xml", THEIRS)
    host.sh(f"{VIRSH} detach-device pv1 /tmp/theirs.xml --live")
    assert _in_pv1(host, CEDED)


def _an_edit_in_the_window_survives(host: Host, window: Desk) -> None:
    assert f"PCI {CEDED}" in window.rows()
    assert window.retitle("by virt-manager") == ""
    assert window.add(BY_WINDOW) == ""
    assert sorted(_hostdevs(host, "--inactive")) == sorted([CEDED, BY_WINDOW])
    before = _settled_state(host)
    _changed_nothing(host, before, host.cede("apply", "--yes"))
    assert "<title>by virt-manager</title>" in _persistent(host)


def _what_the_window_took_out_is_put_back(host: Host, window: Desk) -> None:
    """And the person sees it come back."""
    assert window.remove(f"PCI {CEDED}") == ""
    assert CEDED not in _hostdevs(host, "") + _hostdevs(host, "--inactive")
    restored = host.cede("apply", "--yes", "--scheduled")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert f"drifted: another tool took {CEDED} out of" in restored.stdout
    assert sorted(_hostdevs(host, "--inactive")) == sorted([CEDED, BY_WINDOW])
    assert "<title>by virt-manager</title>" in _persistent(host)
    assert wait_until(lambda: f"PCI {CEDED}" in window.rows(), timeout=60), window.rows()


def _the_console_stays_with_who_has_it(host: Host, window: Desk) -> None:
    window.type("\n")
    assert wait_until(lambda: "pv1:~#" in window.console(), timeout=60), window.console()
    host.policy("nic0", CEDED, "pv1", ON_THE_CONSOLE)
    refused = host.cede("verify")
    assert refused.returncode == 4, refused.stdout
    assert (
        "another session has the console of pv1; cede does not end that session" in refused.stdout
    )
    window.type("echo still $((6*7)) here\n")
    assert wait_until(lambda: "still 42 here" in window.console(), timeout=60), window.console()
