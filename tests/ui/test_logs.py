"""Whose log records reach the user."""

import logging

import pytest

from gcr.ui import logs


@pytest.fixture(autouse=True)
def loggers():
    """The handlers of both loggers as they were."""
    kept = {name: list(logging.getLogger(name).handlers) for name in ("", "gcr")}
    yield
    for name, handlers in kept.items():
        logging.getLogger(name).handlers = handlers


@pytest.mark.parametrize(("quiet", "shown"), [(False, True), (True, False)])
def test_our_warnings_are_shown_unless_only_errors_are_wanted(quiet, shown, capsys):
    logs.set_up(verbose=False, quiet=quiet)
    logging.getLogger("gcr.drawing.generator").warning("the negative prompt does nothing")
    assert ("warning: the negative prompt does nothing" in capsys.readouterr().err) is shown


def test_a_second_command_in_one_process_shows_a_warning_once(capsys):
    logs.set_up(verbose=False, quiet=False)
    logs.set_up(verbose=False, quiet=False)
    logging.getLogger("gcr.drawing.generator").warning("once")
    assert capsys.readouterr().err.count("once") == 1


def test_what_libraries_log_is_not_shown(capsys):
    logs.set_up(verbose=False, quiet=False)
    logging.getLogger("diffusers").warning("a token was cut off")
    assert capsys.readouterr().err == ""


def test_what_is_shown_of_records_is_fit_for_a_terminal(capsys):
    logging.getLogger().handlers = []
    logs.set_up(verbose=True, quiet=False)
    logging.captureWarnings(capture=False)
    error = ValueError("\x1b[2J\u202egone")
    logging.getLogger("gcr.engine.waves").warning("\x1b]0;title\x07two\nlines", exc_info=error)
    shown = capsys.readouterr().err
    assert "WARNING gcr.engine.waves: two\nlines\nValueError: gone" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
