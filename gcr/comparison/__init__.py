"""Arms over the same prompts, measured by an evaluator that steered none of them."""
