"""A person who is asked after every round: what is drawn next, and whether anything is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gcr.core.view import Enough

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gcr.core.records import Attempt, Candidate, Run, Strategy
    from gcr.ui.terminal import Terminal

CHOICES = "[y] go · [e]dit · [k]eep this image · [s]top"


class Approval:
    """A view and a strategy in one, around those that would do without asking.

    ask: shows a question and gives back the line that was answered; raises EOFError at the end of
    the input, which means stop.
    """

    def __init__(self, terminal: Terminal, ask: Callable[[str], str]) -> None:
        self._terminal = terminal
        self._ask = ask
        self._strategy: Strategy | None = None
        self._edited = ""

    def around(self, strategy: Strategy) -> Strategy:
        """The strategy whose proposals are put to the person."""
        self._strategy = strategy
        return self

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        """What was proposed, with the prompt that the person wrote, if any."""
        proposal = self._proposal(run)
        edited, self._edited = self._edited, ""
        return tuple(replace(c, prompt=edited) for c in proposal) if edited else proposal

    def round(self, run: Run, best: Attempt | None) -> None:
        """Show the round and ask how to go on. Raises Enough when the person has enough."""
        self._terminal.round(run, best)
        if run.stop is not None:
            return
        prompts = dict.fromkeys(candidate.prompt for candidate in self._proposal(run))
        self._terminal.next(run.request.prompt, list(prompts))
        while True:
            answer = self._answer(f"{CHOICES} ").strip().lower()[:1]
            if answer in ("y", ""):
                return
            if answer == "e":
                self._edited = " ".join(self._answer("the prompt to draw: ").split())
                if self._edited:
                    return
            elif answer == "k":
                raise Enough(self._which(run))
            elif answer == "s":
                raise Enough

    def _which(self, run: Run) -> Attempt:
        """The image of the last round that is meant; the only one, or the one that is named."""
        attempts = run.rounds[-1].attempts
        if len(attempts) == 1:
            return attempts[0]
        named = {f"{number}": attempt for number, attempt in enumerate(attempts, 1)}
        while True:
            listed = ", ".join(f"{number}: {a.image}" for number, a in named.items())
            answer = self._answer(f"which ({listed})? ").strip()
            if answer in named:
                return named[answer]

    def _answer(self, question: str) -> str:
        try:
            return self._ask(question)
        except EOFError:
            raise Enough from None

    def _proposal(self, run: Run) -> tuple[Candidate, ...]:
        if self._strategy is None:
            raise ValueError("nothing to approve of: call around() first")
        return self._strategy.propose(run)

    def warn(self, message: str, hint: str) -> None:
        self._terminal.warn(message, hint)

    def loading(self, what: str) -> None:
        self._terminal.loading(what)

    def begin(self, run: Run) -> None:
        self._terminal.begin(run)

    def progress(self, phase: str, done: int, total: int) -> None:
        self._terminal.progress(phase, done, total)

    def end(self, run: Run, best: Attempt | None, folder: Path) -> None:
        self._terminal.end(run, best, folder)
