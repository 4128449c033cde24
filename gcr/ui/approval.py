"""A person at the terminal: asked after every round what is drawn next, and for lines of text."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from gcr.core.ranking import named
from gcr.core.records import GoOn, Reword, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcr.core.records import Attempt, Candidate, Decision, Run
    from gcr.ui.terminal import Terminal

CHOICES = "[y] go · [e]dit · [f]rom an image · [k]eep one · [m]ore like one · [r]emark · [s]top"
Ask = Callable[[str, str], str]
"""Shows a question and a text to begin with, and gives back the line that was answered. Raises
EOFError at the end of the input.
"""


def ask(question: str, begin: str = "") -> str:
    """Ask at the terminal, on stderr: stdout is for the result.

    begin: what stands there already, to be changed, where the terminal can do that; elsewhere an
        empty answer means it.
    Raises EOFError at the end of the input.
    """
    if _can_edit():
        import readline  # which `input` then uses

        readline.set_startup_hook(lambda: readline.insert_text(begin))
        try:
            with _stdout_on_stderr():
                return input(question)
        finally:
            readline.set_startup_hook()
    sys.stderr.write(f"{question}[{begin}] " if begin else question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip() or begin


def _can_edit() -> bool:
    """Whether there is a terminal to edit a line on, and readline to do it with."""
    ends = (sys.stdin, sys.stderr)
    at_terminal = all(end is not None and end.isatty() for end in ends)
    return at_terminal and importlib.util.find_spec("readline") is not None


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Have what readline writes, which is on stdout, come to stderr."""
    sys.stdout.flush()
    kept, shown = os.dup(1), sys.stdout
    os.dup2(2, 1)
    try:
        # Python leaves readline out where its own streams are not those of the process.
        sys.stdout = sys.__stdout__ or shown
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = shown
        os.dup2(kept, 1)
        os.close(kept)


class Approval:
    """Puts each proposal to a person at the terminal, with the images that it is about.

    ask: as the function of that name. The end of the input means stop.
    at_rest: holds while a person is asked: nothing would be lost then by an interruption.
    """

    def __init__(
        self,
        terminal: Terminal,
        ask: Ask = ask,
        at_rest: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.terminal = terminal
        self._ask = ask
        self._at_rest = at_rest
        self._shown = -1  # round whose images were shown last

    def __call__(self, run: Run, proposal: Sequence[Candidate]) -> Decision:
        """What the person decides after a round. proposal: what would be drawn next."""
        latest = run.rounds[-1]
        if self._shown != latest.index:
            self._shown = latest.index
            self.terminal.pictures([attempt.image for attempt in latest.attempts])
        prompts = list(dict.fromkeys(candidate.prompt for candidate in proposal))
        self.terminal.next(run.request.prompt, prompts)
        with self._at_rest():
            try:
                return self._decision(run, prompts[0])
            except EOFError:
                return Stop()

    def _decision(self, run: Run, proposed: str) -> Decision:
        while True:
            answer = self._ask(f"{CHOICES} ", "").strip().lower()[:1]
            match answer:
                case "y" | "":
                    return GoOn()
                case "s":
                    return Stop()
                case "f" | "m":
                    what = "more like" if answer == "m" else "go on from"
                    return GoOn(base=self._which(run, what), like=answer == "m")
                case "k":
                    return self._keep(self._which(run, "keep"))
                case "e":
                    prompt = " ".join(self._ask("the prompt to draw: ", proposed).split())
                    return GoOn("" if prompt.split() == proposed.split() else prompt)
                case "r" if remark := self._ask("what is missing or wrong: ", "").strip():
                    return Reword(remark)

    def _keep(self, image: Attempt) -> Decision:
        answer = self._ask("[g]o on from it, or [s]top with it? ", "").strip().lower()[:1]
        return Stop(image) if answer == "s" else GoOn(base=image, keep=True)

    def _which(self, run: Run, what: str) -> Attempt:
        """The image that is meant: one of the last round by its number, or any by its name."""
        latest = run.rounds[-1].attempts
        if len(run.attempts) == 1:
            return latest[0]
        by_number = {f"{number}": attempt for number, attempt in enumerate(latest, 1)}
        listed = ", ".join(f"{number}: {a.image}" for number, a in enumerate(latest, 1))
        earlier = "" if len(run.rounds) == 1 else ", or an earlier one by its name"
        while True:
            answer = self._ask(f"{what} which ({listed}{earlier})? ", "").strip()
            if image := by_number.get(answer) or named(run, answer):
                return image
