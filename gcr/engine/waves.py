"""Runs through the one loop, a wave at a time, and what happens when one of them fails.

A wave draws for all of its runs, and then judges for all in one call, so that images go through
the critic in batches and two models that take turns on one device change places once a round. Where
that raises, nobody knows for which run: so each goes on alone, from its saved rounds, and those
that raise alone have failed.

A single run is a wave of one from a queue of one.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

from gcr.core import guards, loop, ranking
from gcr.core.events import Notice, RoundFinished, RunFinished, RunStarted, after_an_error
from gcr.core.records import (
    Branch,
    Candidate,
    EditedPrompt,
    Objection,
    Rejected,
    Remark,
    Reword,
    Stop,
    StopReason,
)
from gcr.core.strategies import BySeed
from gcr.engine.settling import settle, uncompared
from gcr.errors import UnavailableError, UsageError
from gcr.storage import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from gcr.core.events import Consumer
    from gcr.core.records import Approve, Attempt, Decision, Preference, Run, Strategy
    from gcr.engine.parts import Parts
    from gcr.storage.runfolder import RunFolder

logger = logging.getLogger(__name__)

LIKE_STRENGTH = 0.4
"""How much of an image's noise gives way to new noise in images that are to be like it."""


def never() -> bool:
    """Whether to stop: no."""
    return False


class Queue(Protocol):
    """Where runs come from, and who is told what came of them.

    alone: whether there is one run only, whose failure is the failure of the whole.
    closed: whether no other run is to be begun.
    """

    alone: bool

    @property
    def closed(self) -> bool: ...

    def waves(self) -> Generator[list[RunFolder]]:
        """Runs that advance together, held against other processes until the next are asked for."""
        ...

    def finished(self, folder: RunFolder) -> None:
        """A run came to its end, which is on disk."""
        ...

    def failed(self, folder: RunFolder, error: Exception) -> None:
        """A run cannot go on. Raises the error where nothing else can, either."""
        ...


class SingleRun:
    """A queue of one run."""

    alone = True
    closed = False

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def waves(self) -> Generator[list[RunFolder]]:
        yield [self._folder]

    def finished(self, folder: RunFolder) -> None: ...

    def failed(self, folder: RunFolder, error: Exception) -> None:  # noqa: ARG002 - there is one
        raise error


def work(
    queue: Queue,
    parts: Parts,
    emit: Consumer,
    *,
    stop: Callable[[], bool] = never,
    approve: Approve | None = None,
) -> None:
    """Carry out all runs of a queue.

    stop: asked before each wave and each drawing whether to end there, where all rounds are saved.
    approve: asked after each round what to do next; for runs that are alone in their wave.

    Raises KeyboardInterrupt when stopping, UnavailableError where the critic is gone, and what the
    queue raises.
    """
    with closing(queue.waves()) as waves:
        for folders in waves:
            if stop():
                raise KeyboardInterrupt
            _Wave(folders, queue, parts, emit, stop, approve).advance()


class _Wave:
    """Runs that advance together. left: those that are not closed yet, by their ids."""

    def __init__(  # noqa: PLR0913, PLR0917 - each for itself
        self,
        folders: Sequence[RunFolder],
        queue: Queue,
        parts: Parts,
        emit: Consumer,
        stop: Callable[[], bool],
        approve: Approve | None,
    ) -> None:
        self.left = {folder.run.id: folder for folder in folders}
        self._queue = queue
        self._parts = parts
        self._emit = emit
        self._stop = stop
        self._approve = approve
        self._failure: Exception | None = None  # of queue or consumer: no run is to blame for it

    def advance(self) -> None:
        """Advance all runs to their ends; runs that were stopped early are marked interrupted."""
        for folder in self.left.values():
            self._emit(RunStarted(folder.run, folder.path))
        try:
            self._advance_or_part(list(self.left.values()))
        except BaseException:
            for folder in self.left.values():
                self._break_off(folder, StopReason.INTERRUPTED)
            raise
        for folder in self.left.values():
            self._break_off(folder, StopReason.INTERRUPTED)

    def _advance_or_part(self, folders: Sequence[RunFolder]) -> None:
        """Advance runs together; where that raises, each of them alone."""
        try:
            self._advance(folders)
        except Exception as error:
            if error is self._failure:
                raise
            if isinstance(error, UnavailableError) and not self._queue.alone:
                raise  # of all prompts that are left, none would fare better
            if len(folders) == 1:
                self._fail(folders[0], error)
                return
            logger.info("a wave failed; its runs go on one by one", exc_info=error)
            for folder in list(self.left.values()):
                if self._queue.closed:
                    return
                self._advance_or_part([folder])

    def _advance(self, folders: Sequence[RunFolder]) -> None:
        """Run the loop until all runs stop. Rounds are on disk before anything is told of them.

        Raises KeyboardInterrupt where it was to stop before.
        """
        parts = self._parts
        over = [(f, reason) for f in folders if (reason := parts.rule.reason(f.run))]
        self._finish(over)
        strategy = _Revised(BySeed(parts.strategy), self._varies)
        # Images are encoded while they are judged.
        ahead = metadata.Ahead(parts.settings.format)
        stopped: list[tuple[RunFolder, StopReason]] = []
        for step in loop.refine(
            [folder.run for folder in folders],
            parts.generator,
            parts.critic,
            strategy,
            parts.rule,
            history=parts.settings.history,
            screen=parts.settings.critique == "best",
            gallery=lambda run, name: self.left[run.id].gallery(run, name),
            overlap=parts.can_overlap,
            pause=self._stop,
            drawn=ahead.begin,
            amended=self._amended,
        ):
            folder = self.left[step.run.id]
            folder.save(step.run, step.images, ahead.pixels)
            finished = RoundFinished(folder.run, ranking.best_scored(folder.run))
            self._tell(partial(self._emit, finished))
            if step.run.stop is not None:
                stopped.append((folder, step.run.stop))
            elif self._approve is not None and not self._goes_on(folder, strategy, self._approve):
                self._end(folder, StopReason.CHOSEN)
                return
            if step.last:
                self._finish(stopped)
                stopped = []
        if any(folder.run.id in self.left for folder in folders):
            raise KeyboardInterrupt

    def _goes_on(self, folder: RunFolder, strategy: _Revised, approve: Approve) -> bool:
        """Ask a person what to do next; returns whether to go on, as they decided."""

        def ask() -> Decision:
            return approve(folder.run, loop.proposed(strategy, folder.run, self._parts.rule))

        while isinstance(decision := ask(), Reword):
            strategy.reword(folder.run, self._reworded(folder, decision.remark))
        if isinstance(decision, Stop):
            if decision.keep is not None:
                folder.decide(branched(folder.run, decision.keep, keep=True))
            return False
        if decision.base is not None:
            like, keep = decision.like, decision.keep
            folder.decide(branched(folder.run, decision.base, like=like, keep=keep))
            strategy.forget()  # what a remark led to before was not about this image
        if decision.prompt:
            run = folder.run
            written = EditedPrompt(len(run.rounds), decision.prompt, _now())
            folder.decide(replace(run, edited_prompts=(*run.edited_prompts, written)))
        return True

    def _amended(self, run: Run) -> Run:
        """A run with what a person decided about it, and what the critic makes of that."""
        folder = self.left[run.id]
        self._word_branch(folder)
        decided = folder.run
        return replace(
            run,
            kept=decided.kept,
            remarks=decided.remarks,
            branches=decided.branches,
            edited_prompts=decided.edited_prompts,
        )

    def _word_branch(self, folder: RunFolder) -> None:
        """Have the critic word what follows from the image that a person goes on from."""
        run = folder.run
        branch, base, critic = run.branch, run.base, self._parts.critic
        if not (branch and base and run.branches_now) or branch.like or branch.wording:
            return
        wording = None
        if self._parts.settings.history:
            excess = self._parts.generator.excess
            (wording,) = loop.worded(critic, [run], excess, folder.gallery)
        if wording is not None:
            branch = replace(branch, wording=wording)
            folder.decide(replace(run, branches=(*run.branches[:-1], branch)))
        if not ((wording and wording.prompt) or base.critique.refined):
            self._emit(
                Notice(
                    f"the critic wrote no other prompt for {base.image}, so its own is drawn again",
                    "gcr ui, asking after each round, lets you edit it",
                )
            )

    def _varies(self, like: Attempt) -> bool:
        """Whether an image's noise can be varied; where it cannot, that is told."""
        try:
            obstacle = self._parts.generator.obstacle(_variation(like, 0))
        except UsageError as error:
            obstacle = error.message
        if obstacle:
            self._emit(
                Notice(
                    f"images like {like.image} are drawn from its prompt on other seeds: "
                    f"its noise cannot be varied, as {obstacle}"
                )
            )
        return not obstacle

    def _reworded(self, folder: RunFolder, text: str) -> str:
        """What the critic would draw next, with a remark of the user's in view; empty where it has
        nothing that keeps to the guards, which is told. The remark is recorded.

        Asked with all in view that was tried, or where the rubric has no words for that, in the
        conversation about the image to go on from.
        """
        remark = Remark(len(folder.run.rounds), text)
        run = replace(folder.run, remarks=(*folder.run.remarks, remark))
        critic, excess = self._parts.critic, self._parts.generator.excess
        history = self._parts.settings.history
        first = critic.reword([run], gallery=folder.gallery) if history else [None]
        if first[0] is not None:
            (wording,) = guards.check_wordings(critic, [run], first, excess, folder.gallery)
            prompt, rejected = (wording.prompt, wording.rejected) if wording else (None, ())
        else:
            parent, source = ranking.parents(run)[0], run.request.source
            objection = Objection(
                run.request,
                folder.gallery(run, parent.image),
                parent.critique,
                f"the user, who has seen the image, says: {text}",
                folder.gallery(run, source) if source else None,
            )
            (prompt,) = critic.rewrite([objection])
            rejected = ()
            if prompt and (why := guards.complaint(run.request, prompt, excess)):
                rejected = (Rejected(prompt, why),)
                prompt = None
        remark = replace(remark, prompt=prompt, rejected=rejected)
        folder.decide(replace(folder.run, remarks=(*folder.run.remarks, remark)))
        if prompt is None:
            why = f": {rejected[-1].complaint}" if rejected else ""
            self._emit(
                Notice(f"the critic has no other prompt{why}", "edit the prompt in your own words")
            )
        return prompt or ""

    def _finish(self, stopped: Sequence[tuple[RunFolder, StopReason]]) -> None:
        """Compare raw images with the best, for all in one call, and close the runs.

        Raises UnavailableError where the critic is gone, after the runs are closed without it; of a
        run that is alone the result stands all the same.
        """
        preferences: list[Preference | None] = [None] * len(stopped)
        settings, critic = self._parts.settings, self._parts.critic
        try:
            preferences = settle([folder for folder, _ in stopped], settings, critic, self._emit)
        except UnavailableError as error:
            if not self._queue.alone:
                raise
            for folder, _ in stopped:
                uncompared(folder, error, self._emit)
        finally:
            for (folder, reason), preference in zip(stopped, preferences, strict=True):
                self._end(folder, reason, preference)

    def _end(
        self, folder: RunFolder, reason: StopReason, preference: Preference | None = None
    ) -> None:
        """A run has come to its end."""
        best = ranking.best_scored(folder.run)
        try:
            folder.finish(reason, best, preference)
        except Exception as error:  # noqa: BLE001 - one failed prompt fails alone
            self._fail(folder, error)
            return
        del self.left[folder.run.id]
        self._tell(partial(self._emit, RunFinished(folder.run, best, folder.path)))
        self._tell(partial(self._queue.finished, folder))

    def _fail(self, folder: RunFolder, error: Exception) -> None:
        logger.info("run %s failed", folder.run.id, exc_info=error)
        del self.left[folder.run.id]
        self._break_off(folder, StopReason.FAILED)
        self._tell(partial(self._queue.failed, folder, error))

    def _tell(self, act: Callable[[], None]) -> None:
        """Tell the queue or the consumer. Raises what that raises, which ends the whole work."""
        try:
            act()
        except Exception as error:
            self._failure = error
            raise

    def _break_off(self, folder: RunFolder, reason: StopReason) -> None:
        """As `_end`, but a failure of its own is only a notice: there is other news to be told."""
        best = ranking.best_scored(folder.run)
        with after_an_error(self._emit):
            folder.finish(reason, best, folder.run.comparison)
        self._emit(RunFinished(folder.run, best, folder.path))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def branched(run: Run, base: Attempt, *, like: bool = False, keep: bool = False) -> Run:
    """The run as it goes on from an image, from here on.

    like: whether the next round draws variations of it. keep: whether it is the best, whatever its
        score.
    """
    branch = Branch(len(run.rounds), base.image, like, when=_now())
    kept = base.image if keep else run.kept
    return replace(run, branches=(*run.branches, branch), kept=kept)


class _Revised:
    """A strategy whose next proposal a person may revise.

    varies: whether images like one can be drawn by varying its noise; asked before they are.
    """

    def __init__(self, strategy: Strategy, varies: Callable[[Attempt], bool]) -> None:
        self._strategy = strategy
        self._varies = varies
        self._prompt = ""
        self._after = 0  # rounds of the run whose next prompt that is

    def reword(self, run: Run, prompt: str) -> None:
        """Have the next round draw this prompt instead of those proposed; empty: as before."""
        if prompt:
            self._prompt, self._after = prompt, len(run.rounds)

    def forget(self) -> None:
        """Have the next round draw what is proposed after all."""
        self._prompt = ""

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        proposal = self._strategy.propose(run)
        if run.base and run.branches_now and run.branch and run.branch.like:
            return self._like(run, run.base, len(proposal))
        reworded = self._prompt if len(run.rounds) == self._after else ""
        if not (prompt := run.edited_prompt or reworded):
            return proposal
        # What the critic added to the user's own negative prompt belongs to the critic's prompt.
        return tuple(replace(c, prompt=prompt, negative=run.request.negative) for c in proposal)

    def _like(self, run: Run, image: Attempt, count: int) -> tuple[Candidate, ...]:
        """So many images like one, each by a seed that the run has not used."""
        before, first = image.candidate, int(str(run.settings["seed"])) + len(run.attempts)
        seeds = range(first, first + count)
        if self._varies(image):
            return tuple(_variation(image, seed) for seed in seeds)
        return tuple(
            Candidate(before.prompt, seed, before.negative, edits=before.edits) for seed in seeds
        )


def _variation(attempt: Attempt, seed: int) -> Candidate:
    """A candidate for an image like another: of its prompt, with its noise varied a little; or
    where it was itself drawn from an image, started from it.
    """
    before = attempt.candidate
    if before.start:
        return Candidate(before.prompt, seed, before.negative, attempt.image, (), LIKE_STRENGTH)
    # One strength is for all mutations: with another the noise before would not be the same.
    strength = before.strength if before.mutations else LIKE_STRENGTH
    return replace(before, mutations=(*before.mutations, seed), strength=strength)
