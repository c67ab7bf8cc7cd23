"""`contrib/bench --here` on the real host, as on a host of one's own: dom0 has everything back, whatever ended it."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from lab.host import CHECKOUT

if TYPE_CHECKING:
    from lab.host import Host

pytestmark = pytest.mark.lab

NIC = "0000:01:00.0"
FOLDER = "/run/bench"
BENCH = f"{FOLDER}/contrib/bench --here --yes --json --rounds 1 --device {NIC} --domain pv1"
INTERRUPTED = 130


def _send(host: Host) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("bench", "xenbench", "xenlab"):
            archive.add(CHECKOUT / "contrib" / name, f"contrib/{name}")
    host.lab.dom0().succeed(
        ["sh", "-ec", f"mkdir -p {FOLDER}; tar -xf - -C {FOLDER}; modprobe xen-pciback"],
        stdin=packed.getvalue(),
    )


def test_own_host_is_as_before_after_an_interrupt_and_after_the_rounds(
    host: Host, soak: bool
) -> None:
    """The rounds at length only: they take minutes."""
    _send(host)
    before = host.ask(do="state")
    status = host.sh(
        f"{BENCH} --only plain > /dev/null & pid=$!; until [ -e /sys/bus/pci/drivers/pciback/{NIC} ];"
        " do sleep 0.1; done; kill -INT $pid; wait $pid && exit 1; echo $?",
        timeout=300,
    )
    assert int(status) == INTERRUPTED
    assert host.ask(do="state", wanted=before, patience=20.0) == before
    if soak:
        _measure_all(host)
        assert host.ask(do="state", wanted=before, patience=20.0) == before


def _measure_all(host: Host) -> None:
    measured = json.loads(host.sh(BENCH, timeout=1800))
    assert {figure["by"] for figure in measured["figures"]} >= {"cede, no agent", "virsh", "xl"}
    assert all(
        figure["calls"]
        for figure in measured["figures"]
        if "attach" in figure["work"] and figure["by"] == "virsh"
    )
    filters = host.sh("virt-admin daemon-log-filters; virt-admin daemon-log-outputs")
    assert "netserverclient" not in filters
