"""What the user sees while the lab works: one line per step, with the seconds it took.

Goes to stderr: the stdout of `contrib/lab exec` belongs to the command that runs in dom0.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce `what`, and add how long it took when it is over."""
    started = time.monotonic()
    print(f"lab: {what} ... ", end="", file=sys.stderr, flush=True)
    try:
        yield
    except BaseException:
        print(f"stopped after {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
        raise
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
