"""The entry point: `gcr`, or `python -m gcr`. Errors that users see are caught here, once."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

SEARCHES = (50_000, 20, 100)
"""Thresholds of Python's collector of cyclic garbage: its own cost 1.8 of 8 seconds in a small run,
looking eight times through all that torch, transformers and diffusers make."""


def entry() -> NoReturn:
    """What the command `gcr` calls: run the command line, then end the process."""
    from gcr.core.background import is_busy
    from gcr.device import loading

    loading.spare()
    gc.set_threshold(*SEARCHES)
    code = main()
    if is_busy():
        # A critic that nobody waits for, after Ctrl-C: Python cannot end a thread that is in
        # torch, and would abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    gc.freeze()  # else Python looks for garbage among all that the libraries made, for a second
    sys.exit(code)


def main() -> int:
    """Run the command line; returns the exit code. The process goes on."""
    from gcr.engine import signals
    from gcr.ui import streams

    with streams.lenient() as out:
        with signals.interrupting():
            code = _run()
        out.flush()
        if isinstance(out.error, BrokenPipeError):  # as `| head` leaves it, having read enough
            code = code or signals.BROKEN_PIPE
        elif out.error is not None:
            reason = getattr(out.error, "strerror", None) or out.error
            hint = "make room where it goes; whatever the command saves is saved all the same"
            _say(f"stdout did not take the result: {reason}", hint)
            code = code or 1
    return code


def _run() -> int:
    from gcr.engine import signals
    from gcr.errors import GcrError

    try:
        from gcr.cli.app import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return signals.exit_code()
    except GcrError as error:
        if _debugging():
            _show_traceback()
        _say(error.message, error.hint)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a defect of ours: nobody above could say it better
        if _debugging():
            _show_traceback()
        hint = "this is a defect of gcr; GCR_DEBUG=1 shows where it happened"
        _say(f"{type(error).__name__}: {error}", hint)
        return 1


def _debugging() -> bool:
    return os.environ.get("GCR_DEBUG", "") not in ("", "0")


def _show_traceback() -> None:
    """The exception in hand, fit for a terminal: its message may hold anybody's words."""
    import traceback

    from gcr.core.plaintext import plain

    sys.stderr.write(f"{plain(traceback.format_exc(), keep_lines=True)}\n")


def _say(message: str, hint: str) -> None:
    from gcr.ui.terminal import failure

    failure(message, hint)


if __name__ == "__main__":
    entry()
