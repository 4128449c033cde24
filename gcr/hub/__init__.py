"""Checkpoints: where they are, how they are fetched, and what is refused."""
