"""Runs in dom0, as `python3 - GUEST=PROMPT ...`: waits until each guest's console shows its prompt.

What a guest wrote while it booted is read away by this, so that whoever opens the console next
sees a quiet one. Ends with status 1 and the screens if a guest is not ready in time.
"""

import os
import re
import select
import subprocess
import sys
import time

_TIMEOUT = 600
_NUDGE_AFTER = 5

# busybox's shell asks the terminal for the cursor's place (ESC [ 6 n) right after its prompt.
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def main() -> int:
    """Wait for all prompts that the command line names."""
    prompts = dict(argument.split("=", 1) for argument in sys.argv[1:])
    terminals = {_open_console(name): name for name in prompts}
    screens = dict.fromkeys(prompts, "")
    deadline = time.monotonic() + _TIMEOUT
    while terminals and time.monotonic() < deadline:
        readable = select.select(list(terminals), [], [], _NUDGE_AFTER)[0]
        for terminal in readable:
            name = terminals[terminal]
            screens[name] += os.read(terminal, 65536).decode(errors="replace")
            if _ESCAPE_SEQUENCE.sub("", screens[name]).endswith(prompts[name]):
                os.close(terminal)
                del terminals[terminal]
        if not readable:
            # A kernel message can have overwritten the prompt: ask for it again.
            for terminal in terminals:
                os.write(terminal, b"\r")
    for name in terminals.values():
        print(
            f"{name} shows no {prompts[name]!r}; the end of its console:\n{screens[name][-1500:]}"
        )
    return 1 if terminals else 0


def _open_console(name: str) -> int:
    asked = subprocess.run(
        ["virsh", "-c", "xen:///system", "ttyconsole", name],
        check=True,
        capture_output=True,
        text=True,
    )
    return os.open(asked.stdout.strip(), os.O_RDWR | os.O_NOCTTY)


if __name__ == "__main__":
    sys.exit(main())
