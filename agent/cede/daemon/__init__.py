"""The daemon: its loop, triggers, schedule, backoff and event log."""
