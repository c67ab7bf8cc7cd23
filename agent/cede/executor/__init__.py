"""Execute: take a plan's actions one by one, each checked by reading back, and return what came of them."""
