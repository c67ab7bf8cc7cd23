"""Adapters: one to each outside world. An adapter hides how its world is asked, and knows no other adapter."""
