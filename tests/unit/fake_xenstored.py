"""xenstored on a real socket, as the daemon of Xen answers, and as a broken one does."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from cede.adapters.xen.xenstore_client import Operation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEADER = struct.Struct("=4I")  # xen/include/public/io/xs_wire.h: type, request, transaction, length
MAX_PAYLOAD = 4096  # XENSTORE_PAYLOAD_MAX
Answer = bytes | None  # None hangs up


def packet(kind: int, payload: bytes, request: int = 0, *, length: int | None = None) -> bytes:
    """One message, which says `length` of itself whatever is true."""
    size = len(payload) if length is None else length
    return HEADER.pack(kind, request, 0, size) + payload


class FakeXenstored:
    """Serves `nodes`; `pieces` is how many bytes it sends at once, with `pause` seconds between.

    `answer` may be replaced: it makes the answer to one request, in bytes, or hangs up. A node's value that is an
    error's name in `refused` is never read. The next `crossed` transactions meet somebody else's change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes: dict[str, bytes] = {}
        self.refused: dict[str, str] = {}
        self.before: dict[str, bytes] = {}
        self.crossed = 0
        self.pieces, self.pause = 1 << 20, 0.0
        self.asked: list[tuple[Operation, bytes]] = []
        self.lines: list[socket.socket] = []
        self.answer: Callable[[Operation, int, bytes], Answer] = self.properly
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def properly(self, operation: Operation, request: int, payload: bytes) -> Answer:
        """What xenstored says (xenstored_core.c)."""
        path, _, value = payload.partition(b"\0")
        name = path.decode()
        found: bytes | None = b"OK\0"
        match operation:
            case Operation.READ:
                found = self.nodes.get(name)
            case Operation.DIRECTORY:
                below = [n.removeprefix(f"{name}/") for n in self.nodes if n.startswith(f"{name}/")]
                names = sorted({n.split("/")[0] for n in below})
                known = names or name in self.nodes
                found = "".join(f"{n}\0" for n in names).encode() if known else None
            case Operation.DIRECTORY_PART:
                return packet(operation, self._part(name, int(value.rstrip(b"\0"))), request)
            case Operation.RM:
                gone = [n for n in self.nodes if f"{n}/".startswith(f"{name}/")]
                for node in gone:
                    del self.nodes[node]
                found = b"OK\0" if gone else None
            case Operation.WRITE:
                self.nodes[name] = value
            case Operation.TRANSACTION_START | Operation.TRANSACTION_END:
                return self._transaction(operation, request, payload)
            case Operation.WATCH:
                return packet(operation, b"OK\0", request) + self.event(name, name)
        missing = "ENOENT" if found is None else None
        too_long = "E2BIG" if len(found or b"") > MAX_PAYLOAD else None
        error = self.refused.get(name) or missing or too_long
        if error is not None:
            return packet(Operation.ERROR, error.encode() + b"\0", request)
        return packet(operation, found or b"", request)

    def _part(self, name: str, offset: int) -> bytes:
        below = [n.removeprefix(f"{name}/") for n in self.nodes if n.startswith(f"{name}/")]
        names = sorted({n.split("/")[0] for n in below})
        all_names = "".join(f"{n}\0" for n in names).encode()
        generation = f"{len(self.nodes)}\0".encode()
        room = all_names[offset : offset + MAX_PAYLOAD - len(generation) - 1]
        part = room[: room.rfind(b"\0") + 1]
        ends = offset + len(part) == len(all_names)
        return generation + part + (b"\0" if ends else b"")

    def _transaction(self, operation: Operation, request: int, payload: bytes) -> bytes:
        if operation is Operation.TRANSACTION_START:
            self.before = dict(self.nodes)
            return packet(operation, b"7\0", request)
        if self.crossed or payload == b"F\0":
            self.nodes = self.before
        if self.crossed:
            self.crossed -= 1
            return packet(Operation.ERROR, b"EAGAIN\0", request)
        return packet(operation, b"OK\0", request)

    @staticmethod
    def event(path: str, token: str) -> bytes:
        """What a watch of `token` says when `path` has changed."""
        return packet(Operation.WATCH_EVENT, f"{path}\0{token}\0".encode())

    def send(self, said: bytes) -> None:
        """Say something on the last connection, asked or not."""
        self._send(self.lines[-1], said)

    def hang_up(self) -> None:
        """End every connection."""
        for line in self.lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self.hang_up()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self._listening.accept()
                self.lines.append(line)
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, line.makefile("rb") as reader, suppress(OSError):
            while (request := self._request(reader)) is not None:
                operation, number, payload = request
                self.asked.append((operation, payload))
                said = self.answer(operation, number, payload)
                if said is None:
                    line.shutdown(socket.SHUT_RDWR)
                    return
                self._send(line, said)

    @staticmethod
    def _request(reader: BinaryIO) -> tuple[Operation, int, bytes] | None:
        head = reader.read(HEADER.size)
        if len(head) < HEADER.size:
            return None
        kind, number, _, length = HEADER.unpack(head)
        return Operation(kind), number, reader.read(length)

    def _send(self, line: socket.socket, said: bytes) -> None:
        for start in range(0, len(said), self.pieces):
            line.sendall(said[start : start + self.pieces])
            time.sleep(self.pause)
