"""Logging: lines as journald or a terminal reads them, and what each call into the outside took."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TextIO


_T = TypeVar("_T")
NOTICE = 25  # syslog(3) has it, between INFO and WARNING
_CALLS = logging.getLogger("cede.calls")
_MAX_ARGUMENT = 120
_MAX_TRACEBACK = 200
logging.addLevelName(NOTICE, "NOTICE")


class LineFormatter(logging.Formatter):
    """One line each that no terminal obeys: to journald with its priority, to others with the time."""

    def __init__(
        self, *, journald: bool = False, now: Callable[[], datetime] | None = None
    ) -> None:
        super().__init__()
        self._journald = journald
        self._now = now or (lambda: datetime.now(UTC).astimezone())

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end; a traceback follows, each of its lines as one more."""
        head = f"<{_priority(record.levelno)}>" if self._journald else f"{self._now():%H:%M:%S} "
        lines = [record.getMessage()]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()[-_MAX_TRACEBACK:]
        return "\n".join(head + one_line(line) for line in lines)


def _priority(level: int) -> int:
    """A level as syslog(3) has it."""
    steps = ((logging.ERROR, 3), (logging.WARNING, 4), (NOTICE, 5), (logging.INFO, 6))
    return next((priority for least, priority in steps if level >= least), 7)


def handler_for(stream: TextIO, environ: Mapping[str, str] = os.environ) -> logging.Handler:
    """Return a handler that writes lines to `stream`, which may be the one that journald reads."""
    handler = logging.StreamHandler(stream)
    journald = _is_journald(stream, environ.get("JOURNAL_STREAM", ""))
    handler.setFormatter(LineFormatter(journald=journald))
    return handler


def _is_journald(stream: TextIO, named: str) -> bool:
    """Whether the stream is the one that journald reads: `device:inode`, as systemd.exec(5) has it."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


@contextmanager
def logging_to_stderr(level: int) -> Iterator[None]:
    """Log what is of that level or above to the standard error, together with who else asked for it."""
    logger, handler = logging.getLogger("cede"), handler_for(sys.stderr)
    before = logger.level
    alone = not logger.handlers
    if alone:
        logger.addHandler(handler)
    logger.setLevel(min(level, before or level))
    try:
        yield
    finally:
        logger.setLevel(before)
        if alone:
            logger.removeHandler(handler)


@contextmanager
def logged_call(describe: Callable[[], str]) -> Iterator[None]:
    """Log at debug level what was called, how it ended, and how long it took."""
    if not _CALLS.isEnabledFor(logging.DEBUG):
        yield
        return
    started, ended = time.monotonic(), "done"
    try:
        yield
    except BaseException as error:
        ended = type(error).__name__
        raise
    finally:
        took = 1000 * (time.monotonic() - started)
        _CALLS.debug("%s: %s, %.1f ms", describe(), ended, took)


def argument_text(argument: object) -> str:
    """Return an argument as a log may have it: short, and of XML or bytes only how much there is."""
    if isinstance(argument, bytes):
        return f"{len(argument)} bytes"
    if isinstance(argument, str):
        if argument.lstrip().startswith("<"):
            return f"{len(argument)} characters of XML"
        return one_line(argument, _MAX_ARGUMENT)
    return str(argument) if isinstance(argument, int | float | None) else type(argument).__name__


def log_calls(target: _T, name: str) -> _T:
    """Return `target`, an object of a binding, with each call of its methods logged; itself if nothing reads that."""
    wanted = _CALLS.isEnabledFor(logging.DEBUG)
    return cast("_T", _LoggedCalls(target, name)) if wanted else target


class _LoggedCalls:
    """Also what the methods return is logged, if it is of the same module."""

    def __init__(self, target: object, name: str) -> None:
        self._target = target
        self._name = name
        self._module = (
            target.__name__ if isinstance(target, ModuleType) else type(target).__module__
        )

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the target
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: object, **named: object) -> Any:  # noqa: ANN401 - as the target
            shown = (*arguments, *named.values())
            with logged_call(
                lambda: f"{self._name}.{name}({', '.join(argument_text(one) for one in shown)})"
            ):
                result = attribute(*(_bare(one) for one in arguments), **named)
            if isinstance(result, list):
                return [self._logged(one) for one in result]
            return self._logged(result)

        return call

    def _logged(self, result: object) -> object:
        same = type(result).__module__ == self._module
        return _LoggedCalls(result, self._name) if same else result


def _bare(argument: object) -> object:
    return argument._target if isinstance(argument, _LoggedCalls) else argument  # noqa: SLF001 - its own kind
