"""What the libraries below say on their own: nothing, unless it is asked for.

gcr's own warnings always reach the user, unless only errors are wanted.
"""

import logging
import os
import warnings


def set_up(*, verbose: bool, quiet: bool) -> None:
    """Decide what the libraries show; call before any of them is imported."""
    ours = logging.getLogger("gcr")
    # One process may run several commands, each with wishes of its own.
    ours.handlers = [handler for handler in ours.handlers if not isinstance(handler, _Warnings)]
    if quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if verbose:
        shown = logging.StreamHandler()
        shown.setFormatter(_Plain("%(levelname)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[shown])
        logging.captureWarnings(capture=True)
        return
    warnings.simplefilter("ignore")
    # Without a handler of ours, logging would print warnings to stderr by itself.
    logging.getLogger().addHandler(logging.NullHandler())
    if not quiet:
        ours.addHandler(_Warnings(logging.WARNING))


class _Plain(logging.Formatter):
    """Makes records fit for a terminal, tracebacks and all: they may hold anybody's words."""

    def format(self, record: logging.LogRecord) -> str:
        from gcr.core.plaintext import plain

        return plain(super().format(record), keep_lines=True)


class _Warnings(logging.Handler):
    """Shows gcr's own warnings the way the console shows all others."""

    def emit(self, record: logging.LogRecord) -> None:
        from gcr.ui.terminal import Terminal

        Terminal().warn(record.getMessage(), "")
