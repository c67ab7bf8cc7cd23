"""Adapters to dom0's kernel and to systemd."""
