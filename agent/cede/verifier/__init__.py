"""Verify that a guest has a device: host checks, guest checks, the checklist."""
