"""What is written for others: the layouts of benchmarks, and preference pairs."""
