"""What can't or mustn't be done: a clear error, the exit status that was agreed, and nothing changed."""

import pytest

from lab.host import Host

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"


@pytest.fixture
def untouched(shared_host: Host) -> tuple[Host, str]:
    shared_host.once("virsh -c xen:///system destroy pv2")
    return shared_host, shared_host.state()


@pytest.mark.parametrize(
    ("address", "domain", "status", "said"),
    [
        pytest.param("0000:00:02.0", "pv1", 3, "the default route", id="the-NIC-of-the-host"),
        pytest.param("0000:00:03.0", "pv1", 3, "which holds /", id="the-root-disk"),
        pytest.param("0000:00:01.0", "pv1", 3, "boot display", id="the-boot-display"),
        pytest.param("0000:00:08.0", "pv1", 3, "holds a bus", id="a-root-port"),
        pytest.param("0000:7f:00.0", "pv1", 75, "no device of this host", id="no-such-device"),
        pytest.param(NIC, "nobody", 2, "knows no domain nobody", id="no-such-domain"),
        pytest.param(NIC, "pv2", 75, "pv2 is shut off", id="domain-off"),
        pytest.param("0000:00:10.0", "pv1", 1, "can't be reset", id="no-reset-of-any-kind"),
        pytest.param("0000:02:00.0", "pv1", 1, "reset with its whole bus", id="active-sibling"),
    ],
)
def test_apply_refuses_and_changes_nothing(
    untouched: tuple[Host, str], address: str, domain: str, status: int, said: str
) -> None:
    host, before = untouched
    host.policy("thing", address, domain)
    done = host.cede("apply", "--yes")
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr
    assert "remedy: " in done.stdout
    assert host.state() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "/etc/cede/policy.yaml", id="missing"),
        pytest.param("version: 1\ndevices: [", "/etc/cede/policy.yaml:2:", id="no-yaml"),
        pytest.param("version: 1\ndevcies: {}\n", "devices", id="a-typo"),
    ],
)
def test_a_wrong_policy_file_is_named_with_its_line(
    untouched: tuple[Host, str], text: str | None, said: str
) -> None:
    host, before = untouched
    host.sh("rm -f /etc/cede/policy.yaml")
    if text is not None:
        host.write("/etc/cede/policy.yaml", text)
    done = host.cede("apply", "--yes")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert host.state() == before


def test_libvirt_that_doesnt_answer_is_for_later(untouched: tuple[Host, str]) -> None:
    host, _ = untouched
    done = host.cede("--connect", "xen+unix:///system?socket=/nowhere", "devices")
    assert (done.returncode, "remedy: " in done.stderr) == (75, True), done.stderr


def test_release_of_what_is_no_device_is_an_error_of_the_command_line(
    untouched: tuple[Host, str],
) -> None:
    host, _ = untouched
    assert host.cede("release", "0000:7f:00.0").returncode == 2
    assert host.cede("release", "0000:00:03.0").returncode == 3


def test_a_physical_function_stays_while_a_guest_has_one_of_its_virtual_functions(
    host: Host,
) -> None:
    physical = "0000:0a:00.0"
    folder = f"/sys/bus/pci/devices/{physical}"
    host.sh(f"echo 1 > {folder}/sriov_numvfs; udevadm settle")
    virtual = host.sh(f"basename $(readlink {folder}/virtfn0)").strip()
    attached = host.cede("attach", virtual, "pv1", "--verify", "none")
    assert attached.returncode == 0, attached.stdout + attached.stderr
    before = host.state()
    refused = host.cede("attach", physical, "pv2", "--verify", "none")
    assert (refused.returncode, virtual in refused.stdout) == (3, True), refused.stdout
    assert host.state() == before
    released = host.cede("release", virtual)
    assert released.returncode == 0, released.stdout


def test_a_device_in_another_guest_is_not_taken_from_it(host: Host) -> None:
    """What another policy gave away is that policy's to take back."""
    host.policy("nic0", NIC, "pv1")
    assert host.cede("apply", "--yes").returncode == 0
    before = host.state()
    host.policy("nic0", NIC, "hvm1")
    host.sh("mv /etc/cede/policy.yaml /etc/cede/other.yaml")
    done = host.cede("apply", "--yes", "-f", "/etc/cede/other.yaml")
    assert (done.returncode, f"{NIC} is in pv1" in done.stdout) == (3, True), done.stdout
    assert host.state() == before


def test_a_hostdev_that_a_person_attached_is_not_released(host: Host) -> None:
    host.write(
        "/tmp/hostdev.xml",
        "<hostdev mode='subsystem' type='pci' managed='no'><source>"
        "<address domain='0' bus='1' slot='0' function='0'/></source></hostdev>",
    )
    host.sh(
        "modprobe xen-pciback; virsh -c xen:///system nodedev-detach pci_0000_01_00_0;"
        " virsh -c xen:///system attach-device pv1 /tmp/hostdev.xml --live --config"
    )
    before = host.state()
    done = host.cede("release", NIC)
    assert (done.returncode, "another tool" in done.stdout) == (3, True), done.stdout
    assert host.state() == before
