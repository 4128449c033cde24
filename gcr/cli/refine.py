"""`gcr refine PROMPT`: one request, refined until its score stops rising."""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gcr.cli import environment, options
from gcr.cli.options import settings_but
from gcr.cli.results import tell
from gcr.errors import GcrError, UsageError

if TYPE_CHECKING:
    from gcr.core.events import Consumer
    from gcr.core.records import Approve
    from gcr.engine.outcome import Outcome
    from gcr.engine.parts import Warm


@settings_but("overlap")
def refine(
    prompt: options.Prompt = None,
    *,
    image: options.Source = None,
    from_image: options.From = None,
    approve: options.Approve = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    flags: Mapping[str, object],
) -> None:
    """Draw PROMPT, judge the images, rewrite the prompt, and again until the score stops rising.

    With --image, PROMPT says how to edit that image; every round edits it anew. Without PROMPT, at
    a terminal, prompts are asked for one after another, and models stay loaded.

    Prints the path of the best image. All else goes to stderr and into the run's folder.
    """
    if approve:
        _check_somebody_is_there(quiet=quiet)
    from gcr.engine import single
    from gcr.engine.machine import ThisMachine
    from gcr.engine.requests import begin_from, checked_prompt, make_request
    from gcr.inputs import source
    from gcr.settings.resolving import resolve

    beginning = None
    if from_image is not None:
        beginning = begin_from(from_image, prompt, flags, edit=image is not None)
        prompt, flags = beginning.prompt, beginning.flags
    asks = prompt is None and not (dry_run or quiet) and _is_terminal()
    if prompt is None and not asks:
        raise UsageError("Missing argument 'PROMPT'", 'say what to draw: gcr refine "a red circle"')
    resolved = resolve(flags, ThisMachine(), edit=image is not None)
    settings = resolved.settings

    def refined(request: str, warm: "Warm | None" = None) -> None:
        work(
            lambda emit, stop, approve: single.run(
                request, settings, image=image, emit=emit, stop=stop, approve=approve, warm=warm
            ),
            approve=approve,
            as_json=as_json,
            quiet=quiet,
            verbose=verbose,
        )

    if prompt is None:
        _one_after_another(refined)
        return
    request = checked_prompt(options.read_stdin() if prompt == "-" else prompt)
    if beginning:
        origins = dict.fromkeys(beginning.taken, f"--from {beginning.image.name}")
        resolved = resolved._replace(origins={**resolved.origins, **origins})
        if not quiet:
            tell(beginning, settings)
    if dry_run:
        make_request(request, settings, source.read(image) if image else None)
        environment.show_forecast(resolved, [request], as_json=as_json)
        return
    refined(request)


def _one_after_another(refined: "Callable[[str, Warm], None]") -> None:
    """Ask for prompts until an empty line or the end of the input; models stay loaded.

    What goes wrong with one is told, and the next is asked for. So is it after Ctrl-C, which ends
    the run at hand; at the question it ends the whole.
    """
    from gcr.engine import signals
    from gcr.engine.parts import Warm
    from gcr.engine.requests import checked_prompt
    from gcr.ui.approval import ask
    from gcr.ui.terminal import Terminal, failure

    warm, terminal = Warm(), Terminal()
    terminal.say("one prompt after another, with models that stay loaded; an empty line ends it")
    try:
        while line := _line(ask):
            try:
                refined(checked_prompt(line), warm)
            except KeyboardInterrupt:
                terminal.say("the next prompt, or an empty line to end")
            except GcrError as error:
                failure(error.message, error.hint)
            if signals.exit_code() != 128 + signal.SIGINT:
                raise KeyboardInterrupt  # by whoever does not sit here, also in the last round
    finally:
        warm.release()


def _line(ask: "Callable[[str], str]") -> str:
    """The next prompt; empty for none."""
    try:
        return ask("\nprompt: ").strip()
    except EOFError:
        return ""


def work(
    act: "Callable[[Consumer, Callable[[], bool], Approve | None], Outcome]",
    *,
    folder: Path | None = None,
    approve: bool = False,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Do a run under the eyes of whoever is at the terminal, and print what came of it.

    folder: of the run that is gone on with; None: it is a new one.
    """
    from gcr.core.events import ignore
    from gcr.engine.outcome import Interrupted, Unreported
    from gcr.results.report import with_page
    from gcr.ui.approval import Approval, ask
    from gcr.ui.interruption import Interruption, say_nothing_is_saved
    from gcr.ui.terminal import Terminal

    terminal = None if quiet else Terminal(verbose=verbose)
    interruption = Interruption(terminal or ignore)
    approval = Approval(terminal, ask, interruption.at_rest) if approve and terminal else None
    try:
        outcome = with_page(lambda emit: act(emit, interruption.requested, approval), interruption)
    except KeyboardInterrupt as stopped:
        if not isinstance(stopped, Interrupted):
            say_nothing_is_saved(terminal.close if terminal else None, folder)
        else:
            _print(stopped.outcome, as_json=as_json)
            if terminal:
                terminal.say(f"gcr resume {stopped.outcome.folder} goes on from here")
        raise
    except Unreported as failed:
        _print(failed.outcome, as_json=as_json)
        raise
    finally:
        if terminal:
            terminal.close()
    _print(outcome, as_json=as_json)
    _check(outcome)


def _print(outcome: "Outcome", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(outcome.as_json()))
    elif outcome.best:
        typer.echo(outcome.best_image)


def _check(outcome: "Outcome") -> None:
    if outcome.best is None:
        raise GcrError(
            f"no image could be scored; what was drawn is in {outcome.folder}",
            "-v shows what the critic replied; another --critic or --rubric may be read better",
        )


def _check_somebody_is_there(*, quiet: bool) -> None:
    if quiet:
        raise UsageError("--approve has to ask, and --quiet forbids it", "leave one of them out")
    if not _is_terminal():
        raise UsageError(
            "--approve has nobody to ask: stdin is not a terminal", "run it from a terminal"
        )


def _is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()
