"""A host that is recorded in a folder: its files where the host has them, read instead of this machine's."""
