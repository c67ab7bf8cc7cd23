"""Adapters: one to each outside world. An adapter hides how its world is reached, and knows no other adapter."""
