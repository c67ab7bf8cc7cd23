"""The graphics card of 2012 on real Xen: in a guest with its sound, and the memory collision of a guest above 4 GiB.

On the other dom0 release test_demo.py asserts the same.
"""

import json

import pytest

from lab.host import Host

pytestmark = [
    pytest.mark.lab,
    pytest.mark.parametrize("_each_release", ["bookworm"], indirect=True, scope="module"),
]

VIRSH = "virsh -q -c xen:///system"
CARD, SOUND = "0000:09:00.0", "0000:09:00.1"
VGA = "VGA compatible controller: Advanced Micro Devices, Inc. [AMD/ATI]"
CLAIMED = [f"claiming resource 0000:00:00.0/{bar}" for bar in (0, 1, 2)]
COLLISION = "BAR 0 [mem 0xfb000000-0xfbffffff pref]: can't claim; address conflict with System RAM"
OFFLINE = "Could not claim resource 0000:00:00.0/0! Device offline. Try using e820_host=1 in the guest config."
POLICY = f"""\
version: 1
devices:
  graphics: {{match: {{address: "{CARD}"}}, expect: {{vendor: "1002", device: "5046"}}}}
  sound: {{match: {{address: "{SOUND}"}}, expect: {{vendor: "8086", device: "2668"}}}}
assignments:
  - {{device: graphics, domain: pv1, when: next-start}}
  - {{device: sound, domain: pv1, when: next-start}}
"""
HOSTDEV = (
    "<hostdev mode='subsystem' type='pci' managed='no'><source>"
    "<address domain='0' bus='9' slot='0' function='{}'/></source></hostdev>"
)


def test_a_graphics_card_and_its_sound_go_to_a_guest_at_its_start_and_come_back(
    any_host: Host,
) -> None:
    host = any_host
    assert f"{VGA} Rage 4" in host.sh(f"lspci -s {CARD}")
    host.write("/etc/cede/policy.yaml", POLICY)
    prepared = host.cede("apply", "--yes")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    host.sh(f"{VIRSH} destroy pv1; {VIRSH} start pv1")
    shown = host.guest("pv1", "lspci -k")
    assert f"00:00.0 {VGA}" in shown
    assert "00:00.1 Audio device" in shown
    assert "snd_hda_intel" in shown
    claimed = host.guest("pv1", "dmesg")
    assert not [line for line in CLAIMED if line not in claimed], claimed
    for device in ("graphics", "sound"):
        released = host.cede("release", device)
        assert released.returncode == 0, released.stdout + released.stderr
    driver = host.sh(f"readlink /sys/bus/pci/devices/{SOUND}/driver")
    assert driver.strip().endswith("snd_hda_intel")


NO_BOUNCE_BUFFERS = "pcifront pci-0: Could not setup SWIOTLB!"


@pytest.mark.long(2)
def test_a_guest_above_4_gib_collides_with_the_card_until_it_sees_the_hosts_memory_map(
    any_host: Host,
) -> None:
    """By hand as in 2012, since cede switches e820_host on before anything can collide."""
    host = any_host
    for function in (0, 1):
        host.write(f"/tmp/function{function}.xml", HOSTDEV.format(function))
    host.sh(
        f"modprobe xen-pciback; {VIRSH} 'nodedev-detach pci_0000_09_00_0; nodedev-detach pci_0000_09_00_1;"
        " attach-device pv4 /tmp/function0.xml --config; attach-device pv4 /tmp/function1.xml --config;"
        " start pv4'"
    )
    collided = _kernel_log(host, "Device offline")
    assert COLLISION in collided
    assert OFFLINE in collided
    host.write("/tmp/pv4.log", collided)

    about = ("doctor", CARD, "pv4", "--guest-log", "/tmp/pv4.log")
    status, found = _findings(host, *about)
    assert status == 1
    assert found["bar-unclaimed"]["severity"] == "fatal"
    assert found["bar-unclaimed"]["subject"] == "pv4"
    fixed = host.cede(*about, "--fix", "--yes")
    assert "shut pv4 down and start it" in fixed.stdout, fixed.stdout + fixed.stderr
    assert "<e820_host state='on'/>" in host.sh(f"{VIRSH} dumpxml --inactive pv4")

    host.sh(f"{VIRSH} 'destroy pv4; start pv4'")
    cured = _kernel_log(host, NO_BOUNCE_BUFFERS, CLAIMED[-1])
    assert "conflict with System RAM" not in cured
    assert "Device offline" not in cured
    if NO_BOUNCE_BUFFERS in cured:
        # Linux 6.1 has no contiguous memory left for them, mostly
        assert host.lab.release.suite == "bookworm"
    else:
        assert not [line for line in CLAIMED if line not in cured], cured
        assert f"00:00.0 {VGA}" in host.guest("pv4", "lspci")
    host.write("/tmp/pv4.log", cured)
    assert "bar-unclaimed" not in _findings(host, *about)[1]


def _kernel_log(host: Host, *expected: str) -> str:
    """What pv4's kernel said, once one of these is in it: pcifront comes a moment after the guest's shell."""
    patterns = " ".join(f"-e '{line}'" for line in expected)
    return host.guest(
        "pv4",
        f"for i in $(seq 60); do dmesg | grep -qF {patterns} && break; sleep 0.5; done; dmesg",
    )


def _findings(host: Host, *argv: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status, and what was found by the rules' names."""
    done = host.cede(*argv, "--json")
    assert done.stdout, done.stderr
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["findings"]}
