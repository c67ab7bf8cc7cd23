"""Execute: take a plan's steps one by one, each checked by reading back, and return what came of them."""
