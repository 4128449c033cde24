"""What can be set, where it was set, and what was measured on this machine."""
