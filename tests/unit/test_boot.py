"""Whether xen-pciback comes by itself at dom0's next boot, wherever a distribution lets one say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from cede.host.boot import Boot


def _write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("etc/modules", "loop\nxen_pciback\n", "/etc/modules"),
        ("etc/modules", "# xen_pciback\n", None),
        ("etc/modules-load.d/cede.conf", "xen-pciback", "/etc/modules-load.d/cede.conf"),
        ("etc/modules-load.d/cede.conf", "; xen-pciback", None),
        ("etc/modules-load.d/cede.txt", "xen-pciback", None),
        ("etc/modules-load.d/cede.conf", "not-xen-pciback", None),
        ("usr/lib/modules-load.d/x.conf", "xen-pciback # cards", "/usr/lib/modules-load.d/x.conf"),
        (
            "etc/initramfs-tools/modules",
            "xen-pciback hide=(01:00.0)",
            "/etc/initramfs-tools/modules",
        ),
        ("etc/dracut.conf.d/x.conf", 'force_drivers+=" xen-pciback "', "/etc/dracut.conf.d/x.conf"),
        ("etc/dracut.conf.d/x.conf", '# force_drivers+=" xen-pciback "', None),
        (
            "proc/cmdline",
            "root=/dev/vda modules-load=loop,xen-pciback",
            "modules-load=loop,xen-pciback",
        ),
        ("proc/cmdline", "root=/dev/vda xen-pciback.hide=(01:00.0)", None),
        ("etc/modules", "\x00\xff", None),
    ],
)
def test_what_loads_it_is_named(tmp_path: Path, path: str, text: str, found: str | None) -> None:
    _write(tmp_path, path, text)
    assert Boot(tmp_path).loads_pciback() == ((found,) if found else ())


def test_a_host_without_any_of_them_loads_nothing(tmp_path: Path) -> None:
    assert Boot(tmp_path).loads_pciback() == ()
    assert Boot(tmp_path).pciback() is None


def test_a_module_and_what_is_built_in_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "sys/module/xen_pciback").mkdir(parents=True)
    assert Boot(tmp_path).pciback() == "built in"
    _write(tmp_path, "proc/modules", "e1000e 1 0 - Live 0x0\nxen_pciback 106496 3 - Live 0x0\n")
    assert Boot(tmp_path).pciback() == "module"
