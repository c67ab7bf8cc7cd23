"""Faults of cede itself: what no code expected, as one of cede's errors; the traceback is for the debug log."""

from __future__ import annotations

import logging

from cede.errors import UnexpectedError
from cede.util.text import one_line

_FAULTS = logging.getLogger("cede.faults")
_MAX_ARGUMENT = 120


def unexpected(fault: Exception, doing: str) -> UnexpectedError:
    """Return as one of cede's errors what no code expected while `doing`; the debug log has the traceback."""
    _FAULTS.debug("%s: an error that cede did not expect", doing, exc_info=fault)
    return UnexpectedError(
        f"cede failed at {doing}: {type(fault).__name__}: {one_line(str(fault), _MAX_ARGUMENT)}",
        name="unexpected",
        remedy="run `cede --debug` with the same command, and report the traceback",
    )
