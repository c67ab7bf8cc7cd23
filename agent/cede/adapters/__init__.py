"""Doors: one to each outside world. A door hides how its world is asked, and knows no other door."""
