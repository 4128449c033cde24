"""`gcr refine PROMPT`: one request, refined until its score stops rising."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gcr.cli import logs, options
from gcr.errors import GcrError, UsageError

if TYPE_CHECKING:
    from gcr.outcome import Outcome


def refine(
    prompt: options.Prompt,
    *,
    image: options.Source = None,
    profile: options.Profile = None,
    generator: options.Generator = None,
    critic: options.Critic = None,
    rubric: options.Rubric = None,
    score: options.Score = None,
    judges: options.Judges = None,
    seed: options.Seed = None,
    width: options.Width = None,
    height: options.Height = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    negative: options.Negative = None,
    keep: options.Keep = None,
    strategy: options.Strategy = None,
    strength: options.Strength = None,
    rounds: options.Rounds = None,
    images: options.Images = None,
    target: options.Target = None,
    patience: options.Patience = None,
    min_gain: options.MinGain = None,
    max_images: options.MaxImages = None,
    max_seconds: options.MaxSeconds = None,
    compare: options.Compare = None,
    approve: options.Approve = False,
    output: options.Output = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Draw PROMPT, judge the images, rewrite the prompt, and again until the score stops rising.

    With --image, PROMPT says how to edit that image; every round edits it anew.

    Prints the path of the best image. All else goes to stderr and into the run's folder.
    """
    flags = {
        "profile": profile,
        "generator": generator,
        "critic": critic,
        "rubric": rubric,
        "score": score,
        "judges": judges,
        "seed": seed,
        "width": width,
        "height": height,
        "steps": steps,
        "guidance": guidance,
        "negative": negative,
        "keep": keep or None,
        "strategy": strategy,
        "strength": strength,
        "rounds": rounds,
        "images": images,
        "target": target,
        "patience": patience,
        "min_gain": min_gain,
        "max_images": max_images,
        "max_seconds": max_seconds,
        "compare": compare,
        "output": output,
    }
    _refine(prompt, image, flags, as_json=as_json, approve=approve, quiet=quiet, verbose=verbose)


def _refine(
    prompt: str,
    image: Path | None,
    flags: Mapping[str, object],
    *,
    as_json: bool,
    approve: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    logs.set_up(verbose=verbose, quiet=quiet)
    if approve:
        _check_somebody_is_there(quiet=quiet)
    from gcr import assembly
    from gcr.approval import Approval
    from gcr.console import Terminal, failure
    from gcr.interruption import Patient
    from gcr.settings import resolve

    request = assembly.checked(_read_stdin() if prompt == "-" else prompt)
    settings = resolve(flags, edit=image is not None)
    terminal = None if quiet else Terminal(verbose=verbose)
    approval = Approval(terminal, _ask) if approve and terminal else None
    around = approval.around if approval else None
    view = Patient(approval or terminal)
    try:
        outcome = assembly.run(request, settings, image=image, view=view, around=around)
    except KeyboardInterrupt as stopped:
        if not isinstance(stopped, assembly.Interrupted):
            failure("interrupted before anything was saved", "")
        else:
            _print(stopped.outcome, as_json=as_json)
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
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            "--approve has nobody to ask: stdin is not a terminal", "run it from a terminal"
        )


def _ask(question: str) -> str:
    """Ask on stderr: stdout is for the result. Raises EOFError at the end of the input."""
    typer.echo(question, nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _read_stdin() -> str:
    if sys.stdin is None:  # closed by whoever started us
        raise UsageError("there is no stdin to read the prompt from", "give the prompt itself")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt on stdin is not {error.encoding}", "give UTF-8") from error
