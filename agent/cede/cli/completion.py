"""Completion in a shell: what devices and domains are called, of the agent if it runs and answers at once.

Nothing is started for a completion, neither a call to Xen nor, by its socket, an agent that was stopped.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from click.shell_completion import BashComplete, add_completion_class

from cede.api.client import AgentClient
from cede.util.paths import Paths

if TYPE_CHECKING:
    import click

_SECONDS = 0.5
_MAX_COUNT = 1000
# what a shell takes as it is: a guest's name can have a command in it
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@%+-]{0,127}")


@add_completion_class
class ColonBashComplete(BashComplete):
    """Completes words with colons, as addresses have, where bash has them end a word; the rest is click's."""

    source_template = r"""
%(complete_func)s() {
    local IFS=$'\n' cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    local response completion kind value
    declare -F _get_comp_words_by_ref >/dev/null && _get_comp_words_by_ref -n : cur words cword
    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD="$cword" %(complete_var)s=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<< "$response"
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    @staticmethod
    def _check_version() -> None:
        """Start no bash to ask for its version, which every Debian has new enough."""


def names_like(context: click.Context, kinds: tuple[str, ...], incomplete: str) -> list[str]:
    """Return what begins so of the agent's names; `kinds` are of `devices` and `domains`. Raises nothing."""
    runtime = context.find_root().obj
    paths = Paths() if runtime is None else runtime.paths
    names = _agents_names(paths)
    return sorted(
        {
            name
            for kind in kinds
            for name in names.get(kind, ())
            if name.startswith(incomplete) and _PLAIN.fullmatch(name)
        }
    )[:_MAX_COUNT]


def _agents_names(paths: Paths) -> dict[str, list[str]]:
    if not _agent_runs(paths):
        return {}
    for socket in (paths.agent_socket, paths.read_only_socket):
        with AgentClient(socket) as client:
            answer = client.get("/v1/names", seconds=_SECONDS)
        if isinstance(answer, dict):
            return {
                kind: [name for name in names if isinstance(name, str)]
                for kind, names in answer.items()
                if isinstance(names, list)
            }
    return {}


def _agent_runs(paths: Paths) -> bool:
    """Tell whether a process holds the agent's lock, by /proc/locks (proc_locks(5)), which anybody may read."""
    try:
        lock = os.stat(paths.run_lock)  # noqa: PTH116 - as for the time it takes
        locks = (paths.proc / "locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    device = lock.st_dev
    return f" {os.major(device):02x}:{os.minor(device):02x}:{lock.st_ino} " in locks
