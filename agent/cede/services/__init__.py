"""What the commands and the daemon ask for: observe, reconcile, verify, status, maintenance, boot."""
