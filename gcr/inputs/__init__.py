"""What users bring: prompt files, wildcards, images."""
