"""Where a recorded host keeps its answers and its logs: as `cede report` writes them, or as sos does.

Source: sos, sos/report/plugins/kernel.py and xen.py, and Plugin.get_cmd_output_path (the names of what commands said).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cede.errors import NOT_RECORDED, PermanentError, UnreachableError
from cede.model import serialization
from cede.model.host_answers import ANSWERS, KERNEL_LOG, XEN_LOG, HostAnswers
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from pathlib import Path

    from cede.model.host_answers import NoAnswer

ANSWERS_FILES = (ANSWERS, "sos_commands/cede/cede_report_--answers")
KERNEL_LOGS = (KERNEL_LOG, "sos_commands/kernel/dmesg", "sos_commands/kernel/dmesg_-T", "var/log/kern.log")  # fmt: skip
XEN_LOGS = (XEN_LOG, "sos_commands/xen/xl_dmesg", "sos_commands/xen/xm_dmesg", "var/log/xen/xl_dmesg")  # fmt: skip
LOGS = (*KERNEL_LOGS, *XEN_LOGS)


def read_answers(root: Path) -> HostAnswers:
    """Return what the tree tells; what is no such file, or a damaged one, tells nothing."""
    for name in ANSWERS_FILES:
        said = text(root / name)
        try:
            found: HostAnswers = serialization.build(HostAnswers, json.loads(said), name)
        except (TypeError, ValueError, RecursionError):
            continue
        return found
    return HostAnswers()


def first_text(root: Path, names: tuple[str, ...]) -> str | None:
    """Return the first of the files that has any text; None if none has."""
    return next((said for name in names if (said := text(root / name))), None)


def not_recorded(what: str) -> PermanentError:
    """Return the error for a question that the tree has no answer to."""
    return PermanentError(
        f"this tree does not tell {what}",
        name=NOT_RECORDED,
        remedy="`cede report`, as root on the host itself, records all that cede asks",
    )


def raise_silence(silence: NoAnswer | None) -> None:
    """Raise the recorded error again, if there is one."""
    if silence is not None:
        raise UnreachableError(silence.message, name=silence.name, remedy=silence.remedy)
