"""Timeouts, retries, processes and files: nothing in here knows of Xen."""
