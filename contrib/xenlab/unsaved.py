"""The configuration space of devices that QEMU leaves out of its snapshots.

QEMU saves no state of an ati-vga, nor of a pxb-pcie's own host bridge: restored, they have no addresses and don't
decode. Their headers are read when the snapshot is taken and written back before the restored machine goes on.
Access is by the ports 0xCF8 and 0xCFC (PCI Local Bus Specification 3.0, 3.2.2.3.2), through QEMU's monitor.
"""

import json
from pathlib import Path

from .machine import BRIDGES, DEVICES
from .qmp import Qmp

FILE = "unsaved.json"

_ADDRESSES = (
    *(device.address for device in DEVICES if not device.in_snapshot),
    *(bridge.address for bridge in BRIDGES if not bridge.in_snapshot),
)
_ADDRESS_PORT, _DATA_PORT = 0xCF8, 0xCFC
_COMMAND = 0x04
# the command register last: a device decodes once it has its addresses
_REGISTERS = (0x0C, 0x10, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x30, 0x3C, _COMMAND)
_COMMAND_BITS = 0xFFFF  # above it is the status register, whose bits are cleared by writing them


def save(qmp: Qmp, file: Path) -> None:
    """Write to `file` what the stopped machine's unsaved devices have in their headers."""
    selected = _read_port(qmp, _ADDRESS_PORT)
    headers = {
        address: {register: _read(qmp, address, register) for register in _REGISTERS}
        for address in _ADDRESSES
    }
    _write_port(qmp, _ADDRESS_PORT, selected)
    file.write_text(json.dumps(headers) + "\n")


def restore(qmp: Qmp, file: Path) -> None:
    """Give the stopped machine's unsaved devices what `file` has of them."""
    selected = _read_port(qmp, _ADDRESS_PORT)
    for address, header in json.loads(file.read_text()).items():
        for register, value in header.items():
            _write(qmp, address, int(register), value)
    _write_port(qmp, _ADDRESS_PORT, selected)


def _read(qmp: Qmp, address: str, register: int) -> int:
    _write_port(qmp, _ADDRESS_PORT, _selector(address, register))
    value = _read_port(qmp, _DATA_PORT)
    return value & _COMMAND_BITS if register == _COMMAND else value


def _write(qmp: Qmp, address: str, register: int, value: int) -> None:
    _write_port(qmp, _ADDRESS_PORT, _selector(address, register))
    _write_port(qmp, _DATA_PORT, value)


def _selector(address: str, register: int) -> int:
    _, bus, rest = address.split(":")
    slot, function = (int(part, 16) for part in rest.split("."))
    return 1 << 31 | int(bus, 16) << 16 | slot << 11 | function << 8 | register


def _read_port(qmp: Qmp, port: int) -> int:
    said: str = qmp.execute("human-monitor-command", {"command-line": f"i /w {port:#x}"})
    return int(said.partition("=")[2], 16)


def _write_port(qmp: Qmp, port: int, value: int) -> None:
    qmp.execute("human-monitor-command", {"command-line": f"o /w {port:#x} {value:#x}"})
