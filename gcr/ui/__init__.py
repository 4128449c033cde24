"""What people see and say while models work: terminal, Ctrl-C, approval."""
