"""Every error a user can cause, and the exit code each one ends with.

GcrError                1  the run failed
├── UsageError          2  wrong usage or configuration
├── ModelError          1  a model could not be loaded or used
│   └── UnavailableError  1  a server answers nobody any more
└── BatchError          3  a batch ended, and some of its prompts failed
"""


class GcrError(Exception):
    """What a user sees: one line that says what happened, one that says what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(GcrError):
    """Wrong usage or configuration: nothing was run."""

    exit_code = 2


class ModelError(GcrError):
    """A generator or critic could not be loaded, or cannot do what was asked of it."""


class UnavailableError(ModelError):
    """A server that had answered is gone, or refuses all: no other question would fare better."""


class BatchError(GcrError):
    """Some prompts of a batch failed, or were not reached for failures; the others are done."""

    exit_code = 3
