"""The folders of runs and batches, and what is written in an image."""
