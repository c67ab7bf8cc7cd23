"""Timeouts, retries, processes and kernel files: nothing here knows Xen."""
