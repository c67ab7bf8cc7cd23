"""The door to cede's memory: what was begun, what it was before, what came of it. One SQLite file.

Each deed is written down, and on the disk, before it is done. So whatever ends the process, the next one knows what had
been begun, and `cede history` tells the rest. Source: https://www.sqlite.org/wal.html, pragma synchronous=FULL.
"""

from cede.host.journal.entries import Asked, DeedEntry, Entry, Memory
from cede.host.journal.journal import Journal

__all__ = ["Asked", "DeedEntry", "Entry", "Journal", "Memory"]
