"""What comes of a request, and the values that the command line and the requests share; imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cede.commands.exit_status import Exit
    from cede.errors import CedeError

WAIT_SECONDS = 60.0
WATCH_SECONDS = 5.0
MOST_CHANGES = 20
NOTHING = "nothing"  # the digest of a plan that has nothing to do


class Answer(NamedTuple):
    """What came of a request, beside what it printed.

    `digest` is that of the plan that was shown, NOTHING if there is nothing to do, empty where no plan was asked for;
    after a preview, `exit` is the exit status if the administrator declines. `error` is why nothing else was printed.
    """

    exit: Exit
    digest: str = ""
    error: CedeError | None = None
