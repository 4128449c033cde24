"""A person who is asked after every round: what is drawn next, and whether anything is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from gcr.core.records import GoOn, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gcr.core.records import Attempt, Candidate, Run
    from gcr.ui.terminal import Terminal

CHOICES = "[y] go · [e]dit · [k]eep this image · [s]top"


class Approval:
    """Puts each proposal to a person at the terminal.

    ask: shows a question and gives back the line that was answered; raises EOFError at the end of
        the input, which means stop.
    at_rest: holds while a person is asked: nothing would be lost then by an interruption.
    """

    def __init__(
        self,
        terminal: Terminal,
        ask: Callable[[str], str],
        at_rest: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.terminal = terminal
        self._ask = ask
        self._at_rest = at_rest

    def __call__(self, run: Run, proposal: Sequence[Candidate]) -> GoOn | Stop:
        """What the person decides after a round. proposal: what would be drawn next."""
        prompts = dict.fromkeys(candidate.prompt for candidate in proposal)
        self.terminal.next(run.request.prompt, list(prompts))
        with self._at_rest():
            try:
                return self._decision(run)
            except EOFError:
                return Stop()

    def _decision(self, run: Run) -> GoOn | Stop:
        while True:
            answer = self._ask(f"{CHOICES} ").strip().lower()[:1]
            if answer in ("y", ""):
                return GoOn()
            if answer == "e":
                prompt = " ".join(self._ask("the prompt to draw: ").split())
                if prompt:
                    return GoOn(prompt)
            elif answer == "k":
                return Stop(self._which(run))
            elif answer == "s":
                return Stop()

    def _which(self, run: Run) -> Attempt:
        """The image of the last round that is meant; the only one, or the one that is named."""
        attempts = run.rounds[-1].attempts
        if len(attempts) == 1:
            return attempts[0]
        by_number = {f"{number}": attempt for number, attempt in enumerate(attempts, 1)}
        while True:
            listed = ", ".join(f"{number}: {a.image}" for number, a in by_number.items())
            answer = self._ask(f"which ({listed})? ").strip()
            if answer in by_number:
                return by_number[answer]
