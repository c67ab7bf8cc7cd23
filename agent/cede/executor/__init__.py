"""Execute a plan's actions one by one, check each by reading back, and return the outcomes."""
