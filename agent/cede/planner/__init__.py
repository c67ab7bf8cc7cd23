"""Decisions: (policy, inventory) -> plan, pure and deterministic."""
