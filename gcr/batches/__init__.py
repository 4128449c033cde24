"""Many prompts: jobs, waves of runs, the batch folder, and workers on Ray."""
