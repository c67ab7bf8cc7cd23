"""The channels into a guest, and what comes back. What a guest prints is data from a stranger."""
