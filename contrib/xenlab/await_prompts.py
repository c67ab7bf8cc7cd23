"""Runs in dom0, as `python3 - GUEST=PROMPT ...`: waits until each guest's console shows its prompt.

What a guest wrote while it booted is read away by this, so that whoever opens the console next
sees a quiet one. A guest that ended meanwhile is started again: emulated SVM makes an HVM guest
triple-fault now and then. Ends with status 1 and the screens if a guest is not ready in time.
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
            try:
                screens[name] += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # its terminal ended with it
                os.close(terminal)
                del terminals[terminal]
                terminals[_start_again(name, deadline)] = name
                screens[name] = ""
                continue
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
    return os.open(_virsh("ttyconsole", name).strip(), os.O_RDWR | os.O_NOCTTY)


def _start_again(name: str, deadline: float) -> int:
    """Open the console of a guest that has ended, once it runs again; start it if it doesn't by itself."""
    while True:
        time.sleep(1)
        try:
            if _virsh("domstate", name).strip() == "shut off":
                _virsh("start", name)
            return _open_console(name)
        except (OSError, subprocess.CalledProcessError):
            if time.monotonic() > deadline:
                raise


def _virsh(*words: str) -> str:
    argv = ["virsh", "-c", "xen:///system", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
