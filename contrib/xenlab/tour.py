"""The demo: the main job and the graphics card of 2012, told in plain words, each word checked.

A statement is printed only after what it says was seen; the first one that isn't so ends the tour with status 1.
"""

import sys
import time

from . import graphics_card_tour, network_card_tour
from .errors import LabError
from .lab import Lab
from .telling import Telling, UntrueError


class Tour:
    """One walk through the whole, on a lab in its pristine state."""

    def __init__(self, release: str) -> None:
        self._telling = Telling(Lab(release=release))
        self._started = time.monotonic()

    def main(self) -> int:
        """Walk; the exit status."""
        try:
            self._walk()
        except UntrueError as untrue:
            self._telling.say(f"This is not as it should be: {untrue}")
            return 1
        except LabError as failed:
            print(failed.reported(), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted; the lab stays as it is: contrib/lab status", file=sys.stderr)
            return 130
        finally:
            self._telling.close()
        return 0

    def _walk(self) -> None:
        telling = self._telling
        telling.say(
            "A real Xen host, emulated: first time it is built from Debian packages (a few minutes)."
        )
        telling.lab.reset()
        telling.lab.push()
        network_card_tour.walk(telling)
        graphics_card_tour.walk(telling)
        telling.say(
            f"That was all of it, in {time.monotonic() - self._started:.0f} s. The lab is still up:"
        )
        print("    contrib/lab exec -- cede devices      look around in its dom0")
        print("    contrib/lab console pv1               sit at the guest's console")
        print("    contrib/lab down                      stop it")
