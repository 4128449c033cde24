"""Work that is asked for from a page: one piece after another, on models that stay loaded.

A studio knows nothing of HTTP. What it does is a call of the engine, as the commands make it, in a
thread of its own; what happens there is kept as a state that anybody may read at any time.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from gcr.core import background
from gcr.core.events import (
    Event,
    Loading,
    Notice,
    Progress,
    RoundFinished,
    RunFinished,
    RunStarted,
    WorkStarted,
)
from gcr.core.phrases import STOPPED
from gcr.core.records import Candidate, Decision, GoOn, Run, Stop
from gcr.engine import judging, single
from gcr.engine.judging import Ranking
from gcr.engine.machine import ThisMachine
from gcr.engine.outcome import Interrupted
from gcr.engine.parts import Warm
from gcr.engine.requests import checked_prompt, make_request
from gcr.errors import GcrError, UsageError
from gcr.inputs import source
from gcr.results.report import refresh, with_page
from gcr.settings.resolving import resolve
from gcr.settings.schema import ResumeOptions
from gcr.storage import runfolder

logger = logging.getLogger(__name__)

Status = Literal["waiting", "loading", "running", "asking", "done", "failed", "stopped"]
How = Literal["from", "like", "keep"]
"""What is done with an image: go on from it, have more like it, or keep it as the best."""
OVER = ("done", "failed", "stopped")
DEFECT = "this is a defect of gcr; the terminal shows where it happened"
REMEMBERED = 20
"""Pieces of work that are over and still shown."""


@dataclass(eq=False)
class Work:
    """A piece of work, and how far it is.

    Attributes:
        number: in the order in which they were asked for.
        kind: `run` or `critique`.
        title: what it is known by.
        status: what is going on.
        folder: of its run, once there is one.
        rounds: how many are finished.
        phase, done, total: as `Progress` has them.
        notices: what a person should know, with hints.
        error: why it failed, with a hint; empty where it did not.
        end: how it ended, in words.
        proposal: what is asked about: the prompts that would be drawn next.
        approve: whether to ask after each round.
        flags: settings that it has for itself.
        ranking: what came of a critique.
    """

    number: int
    kind: Literal["run", "critique"]
    title: str
    act: Callable[[Work], None]
    approve: bool = False
    flags: Mapping[str, object] = field(default_factory=dict)
    status: Status = "waiting"
    folder: Path | None = None
    rounds: int = 0
    phase: str = ""
    done: int = 0
    total: int = 0
    notices: list[tuple[str, str]] = field(default_factory=list)
    error: tuple[str, str] | None = None
    end: str = ""
    proposal: list[str] = field(default_factory=list)
    ranking: Ranking | None = None
    stopping: bool = False
    decision: Decision | None = None  # that is not carried out yet

    def as_json(self) -> dict[str, object]:
        """JSON values of what a page shows."""
        names = ("number", "kind", "title", "status", "rounds", "phase", "done", "total", "end")
        return {
            **{name: getattr(self, name) for name in (*names, "notices", "error", "proposal")},
            "folder": str(self.folder) if self.folder else None,
            "stopping": self.stopping,
            "then": _then(self.decision),
        }


class Studio:
    """Takes work, does one piece at a time, and tells who watches when something has changed.

    flags: settings by the names of their options, for all that is done here, unless a piece of work
        has others.
    """

    def __init__(self, flags: Mapping[str, object]) -> None:
        self.flags = {name: value for name, value in flags.items() if value is not None}
        self.warm = Warm()
        self._works: list[Work] = []
        self._numbers = itertools.count(1)
        self._queue: queue.Queue[Work | None] = queue.Queue()
        self._changed = threading.Condition()
        self._watchers: list[Callable[[], None]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=background.NAME, daemon=True)
        self._thread.start()

    # What can be asked for

    def refine(
        self,
        prompt: str,
        flags: Mapping[str, object],
        *,
        image: Path | None = None,
        approve: bool = False,
    ) -> Work:
        """Have a prompt refined. Raises GcrError for settings that cannot be."""
        prompt = checked_prompt(prompt)
        settings = resolve(self._with(flags), ThisMachine(), edit=image is not None).settings
        make_request(prompt, settings, source.read(image) if image else None)

        def act(work: Work) -> None:
            self._run(
                work,
                lambda emit: single.run(
                    prompt,
                    settings,
                    image=image,
                    emit=emit,
                    stop=lambda: work.stopping,
                    approve=self._asker(work),
                    warm=self.warm,
                ),
            )

        return self._add(Work(next(self._numbers), "run", prompt, act, approve, flags))

    def go_on(
        self,
        folder: Path,
        image: str,
        how: How,
        flags: Mapping[str, object] | None = None,
        *,
        approve: bool = False,
    ) -> None:
        """Go on from an image of a run instead of the best, have more like it, or keep it.

        While the run goes on that happens after the round in hand, or where it asks, at once; of a
        run that is over, more rounds are drawn, unless the image is only to be kept.
        flags, approve: as `resume` has them. Raises GcrError where the run has no such image.
        """
        base = runfolder.attempt(folder, runfolder.load_run(folder), image)
        decision = GoOn(base=base, like=how == "like", keep=how == "keep")
        with self._changed:  # so that it is not over in between
            work = self.at(folder)
            if work is not None and work.status == "waiting":
                raise UsageError("that run has not gone on yet", "wait for it, or take it back")
            if work is not None:
                work.decision = decision
                self._changed.notify_all()
        if work is None:
            self._follow(folder, decision, flags, approve=approve)
        self._tell()

    def _follow(
        self,
        folder: Path,
        decision: GoOn,
        flags: Mapping[str, object] | None,
        *,
        approve: bool,
    ) -> None:
        """Carry out what was decided of a run that is over."""
        if decision.base is None:
            return
        if decision.keep:
            single.keep(folder, decision.base.image)
            refresh(folder)
        else:
            # One round of images like another is as many as a person looks at.
            rounds, image = int(decision.like), decision.base.image
            self.resume(folder, rounds, flags, image=image, like=decision.like, approve=approve)

    def resume(  # noqa: PLR0913 - each for itself
        self,
        folder: Path,
        rounds: int,
        flags: Mapping[str, object] | None = None,
        *,
        image: str = "",
        like: bool = False,
        approve: bool = False,
    ) -> Work:
        """Have more rounds drawn of a run.

        rounds: beyond what it has; 0: what is left of it.
        flags: of which those count that the run's folder does not keep.
        image, like: as `single.resume` has them. Raises GcrError where the run cannot go on.
        """
        single.check_single(folder)
        if self.at(folder) is not None:
            raise UsageError("that run is still going on", "wait for it, or stop it")
        run = runfolder.load_run(folder)
        given = self._with(flags or {})
        unkept = {name: given[name] for name in ResumeOptions.__annotations__ if name in given}
        here = cast("ResumeOptions", unkept)

        def act(work: Work) -> None:
            more = single.More(rounds=rounds) if rounds else single.More()
            self._run(
                work,
                lambda emit: single.resume(
                    folder,
                    more=more,
                    from_attempt=image,
                    like=like,
                    emit=emit,
                    stop=lambda: work.stopping,
                    approve=self._asker(work),
                    warm=self.warm,
                    **here,
                ),
            )

        work = Work(next(self._numbers), "run", run.request.prompt, act, approve, flags or {})
        work.folder, work.rounds = folder, len(run.rounds)
        return self._add(work)

    def critique(self, images: Sequence[Path], prompt: str, flags: Mapping[str, object]) -> Work:
        """Have pictures judged. Raises GcrError for settings that cannot be."""
        prompt = checked_prompt(prompt)
        settings = resolve(self._with(flags), ThisMachine()).settings

        def act(work: Work) -> None:
            work.ranking = judging.critique(
                images, prompt, settings, emit=self._consumer(work), warm=self.warm
            )

        return self._add(Work(next(self._numbers), "critique", prompt, act))

    def stop(self, number: int) -> None:
        """Have a piece of work end where all is saved; one that waits is not begun."""
        with self._changed:
            work = self.work(number)
            work.stopping = True
            if work.status == "waiting":
                work.status, work.end = "stopped", "taken back"
        self._tell()

    def decide(self, number: int, decision: Decision) -> None:
        """Answer what is asked about. Raises GcrError where nothing is."""
        with self._changed:
            work = self.work(number)
            if work.status != "asking":
                raise GcrError("nothing is being asked any more", "look at the page again")
            work.decision = decision
            self._changed.notify_all()

    def release(self) -> None:
        """Give the memory of the models back. Raises GcrError while they are at work."""
        if self.busy():
            raise GcrError("the models are at work", "stop what is going on first")
        self.warm.release()
        self._tell()

    def close(self) -> None:
        """Take no more work, have what is going on end after its round, and release the models.

        Returns when that is done.
        """
        with self._changed:
            self._closing = True
            for work in self._works:
                if work.status not in OVER:
                    work.stopping = True
            self._changed.notify_all()
        self._queue.put(None)
        self._thread.join()
        self.warm.release()

    # What is going on

    def busy(self) -> bool:
        """Whether anything is being done."""
        return any(work.status in ("loading", "running", "asking") for work in self._works)

    def work(self, number: int) -> Work:
        """The piece of work with a number. Raises GcrError where it is not there."""
        for work in self._works:
            if work.number == number:
                return work
        raise GcrError(f"there is no work with number {number}", "look at the page again")

    def at(self, folder: Path) -> Work | None:
        """What is going on in a run's folder, if anything."""
        going = (w for w in self._works if w.status not in OVER and w.folder is not None)
        return next((w for w in going if w.folder and w.folder.resolve() == folder.resolve()), None)

    def state(self) -> dict[str, object]:
        """JSON values of all that is going on."""
        return {
            "works": [work.as_json() for work in self._works],
            "loaded": self.warm.names,
            "closing": self._closing,
        }

    def watch(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Be told whenever the state has changed, in any thread. Returns what ends that."""
        self._watchers.append(tell)
        return lambda: self._watchers.remove(tell)

    # How it is done

    def _with(self, flags: Mapping[str, object]) -> dict[str, object]:
        return {**self.flags, **flags}

    def _add(self, work: Work) -> Work:
        over = [w for w in self._works if w.status in OVER]
        for old in over[: max(0, len(over) - REMEMBERED)]:
            self._works.remove(old)
        self._works.append(work)
        self._queue.put(work)
        self._tell()
        return work

    def _work(self) -> None:
        """Do one piece after another, until the studio is closed."""
        while (work := self._queue.get()) is not None:
            if not work.stopping:
                self._do(work)
            self._tell()

    def _do(self, work: Work) -> None:
        work.status = "loading"
        self._tell()
        try:
            work.act(work)
            with self._changed:
                work.status = "done"
                decision, work.decision = work.decision, None
            if work.folder and isinstance(decision, GoOn):  # which came in its last round
                self._follow(work.folder, decision, work.flags, approve=work.approve)
        except KeyboardInterrupt:
            more = "more " if work.rounds else ""
            work.status = "stopped"
            work.end = work.end or f"stopped before anything {more}was drawn"
        except GcrError as error:
            work.status, work.error = "failed", (error.message, error.hint)
        except Exception as error:
            logger.exception("%s failed", work.title)
            work.status, work.error = "failed", (f"{type(error).__name__}: {error}", DEFECT)
        finally:
            work.phase, work.proposal = "", []

    def _run(self, work: Work, act: Callable[[Any], Any]) -> None:
        try:
            outcome = with_page(act, self._consumer(work))
        except Interrupted as stopped:
            work.folder = stopped.outcome.folder
            raise
        work.folder = outcome.folder

    def _consumer(self, work: Work) -> Callable[[Event], None]:
        def take(event: Event) -> None:
            match event:
                case Notice(message, hint):
                    work.notices.append((message, hint))
                case Loading(what):
                    work.phase = f"loading {what}" if what else ""
                case WorkStarted():
                    work.status, work.phase = "running", ""
                case Progress(phase, done, total):
                    work.status, work.phase = "running", phase
                    work.done, work.total = done, total
                case RunStarted(run, folder):
                    work.folder, work.rounds = folder, len(run.rounds)
                case RoundFinished(run, _):
                    work.rounds = len(run.rounds)
                    work.phase = ""
                case RunFinished(run, _, folder):
                    work.folder = folder
                    work.end = STOPPED[run.stop] if run.stop else ""
            self._tell()

        return take

    def _asker(self, work: Work) -> Callable[[Run, Sequence[Candidate]], Decision]:
        """Asks after each round, if that is wanted, and waits for the answer."""

        def ask(_: Run, proposal: Sequence[Candidate]) -> Decision:
            if work.decision is None:
                if work.stopping or not work.approve:
                    return GoOn()
                work.proposal = list(dict.fromkeys(candidate.prompt for candidate in proposal))
                work.status = "asking"
                self._tell()
            with self._changed:
                self._changed.wait_for(lambda: work.decision is not None or work.stopping)
                decision, work.decision = work.decision or Stop(), None
                work.status, work.proposal = "running", []
            self._tell()
            return decision

        return ask

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
        for tell in list(self._watchers):
            tell()


def _then(decision: Decision | None) -> str:
    """What is done after the round in hand, in words; empty where that is not decided."""
    if not isinstance(decision, GoOn) or decision.base is None:
        return ""
    image = decision.base.image
    if decision.keep:
        return f"then {image} is kept"
    return f"then more like {image}" if decision.like else f"then on from {image}"
