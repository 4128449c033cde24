"""What the libraries below say on their own: nothing, unless it is asked for."""

import logging
import os
import warnings


def set_up(*, verbose: bool, quiet: bool) -> None:
    """Decide what the libraries show; call before any of them is imported."""
    if quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        logging.captureWarnings(capture=True)
    else:
        warnings.simplefilter("ignore")
        # Without a handler of ours, logging would print warnings to stderr by itself.
        logging.getLogger().addHandler(logging.NullHandler())
