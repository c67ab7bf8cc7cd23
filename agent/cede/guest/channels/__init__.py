"""The channels into a guest: console, ssh, xenstore."""
