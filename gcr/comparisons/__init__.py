"""Arms compared on the same prompts: drawn, measured by an evaluator, and judged by statistics."""
