"""A small client of QEMU's control socket.

Protocol: QEMU's docs/interop/qmp-spec.rst. One connection per use: QEMU serves one client at a
time, and a lab that is up must be free for the next command.
"""

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .errors import LabError


class QmpError(LabError):
    """QEMU refused a command. `kind` is QMP's error class."""

    def __init__(self, command: str, kind: str, text: str) -> None:
        super().__init__(f"QEMU refused {command}: {text}")
        self.kind = kind


class Qmp:
    """An open connection; use it as a context manager."""

    def __init__(self, path: Path, *, timeout: float = 60) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            # A socket's path is limited to 107 bytes; the way by its folder's descriptor is short.
            folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
            self._stream = self._socket.makefile("rwb")
            self._read()  # the greeting
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._socket.close()

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:  # noqa: ANN401  QMP's answers have any shape
        """Run `command` and return its answer. Raises QmpError if QEMU refuses."""
        request = {"execute": command, "arguments": arguments or {}}
        self._stream.write(json.dumps(request).encode() + b"\n")
        self._stream.flush()
        while True:
            answer = self._read()
            if "error" in answer:
                raise QmpError(command, answer["error"]["class"], answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise ConnectionResetError("QEMU closed its control socket")
        answer: dict[str, Any] = json.loads(line)
        return answer
