"""The channels into a guest, and the parsers of what a guest prints, which is never trusted."""
