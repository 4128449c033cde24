"""The records of a run, and the protocols of the parts that make it.

Plain frozen dataclasses of standard types, some with bounds that hold where they are read from a
file: nothing here imports anything of ours, and nothing here knows of disk, terminal or torch. A
`Run` is the whole state of the loop: a loop started again with the rounds of a stopped one goes on
as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from annotated_types import Ge, IsFinite, Le

if TYPE_CHECKING:
    from PIL.Image import Image

Share = Annotated[IsFinite[float], Ge(0), Le(1)]
"""From none to all: a score, a probability, a strength."""
Seconds = Annotated[IsFinite[float], Ge(0), Le(1e9)]
"""Of one piece of work: thirty years at most."""
Count = Annotated[int, Ge(0), Le(10**12)]
"""Of tokens."""


class StopReason(StrEnum):
    """Why a run ended."""

    TARGET = "target"
    PLATEAU = "plateau"
    ROUNDS = "rounds"
    IMAGES = "images"
    SECONDS = "seconds"
    CHOSEN = "chosen"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Preference(StrEnum):
    """Which of two images is better."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that a request asks for, as a yes/no question about an image.

    kind: such as object, count, attribute or relation, as the critic calls it.
    needs: positions of the requirements without which this one means nothing.
    chance: of "yes" for one image, 0-1; None: not asked.
    """

    question: str
    kind: str = ""
    needs: tuple[int, ...] = ()
    chance: Share | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for. It never changes; every image is judged against it.

    prompt: the user's words.
    negative: what the user does not want to see, for pipelines that take it.
    keep: spans of the prompt that every rewrite must hold word for word.
    source: the image that the prompt says how to edit, by its name in the run folder; empty where
        there is nothing to edit. Every candidate edits this one, and not the result of another,
        unless a person branches off from that.
    source_sha256: of its pixels, as `gcr.inputs.source.digest` takes it.
    checklist: the same as yes/no questions, as the critic took it apart, once; empty before that,
        and where scores come from elsewhere.
    """

    prompt: str
    negative: str = ""
    keep: tuple[str, ...] = ()
    source: str = ""
    source_sha256: str = ""
    checklist: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image to draw: a prompt and the seed of its noise.

    start: an image of the same run to start from rather than from noise alone; empty for none.
    mutations: seeds of further noise that the first is mixed with, one after the other.
    strength: how much of the start image, or by each mutation of the noise, gives way to new
        noise: from 0 (nothing) to 1 (all of it).
    edits: an image of the same run that is edited instead of the request's source; empty for none.
    """

    prompt: str
    seed: int
    negative: str = ""
    start: str = ""
    mutations: tuple[int, ...] = ()
    strength: Share = 0.0
    edits: str = ""


@dataclass(frozen=True, slots=True)
class AspectScore:
    """One aspect of a critique.

    score: 1.0 (bad) to 4.0 (good), or None: does not apply, or unread.
    """

    aspect: str
    score: Annotated[IsFinite[float], Ge(1), Le(4)] | None
    justification: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rewritten prompt that was turned down, and why."""

    prompt: str
    complaint: str


@dataclass(frozen=True, slots=True)
class Fact:
    """What a program found of one thing that a request asks for.

    wanted: the text that is to be written in the image.
    seen: what comes nearest to it there; empty: nothing does.
    nearness: of the two, 0-1; 1: as it was asked for.
    by: the program, by the name that `--verify` knows it by.
    """

    wanted: str
    seen: str
    nearness: Share
    by: str

    @property
    def met(self) -> bool:
        return self.nearness == 1


@dataclass(frozen=True, slots=True)
class Critique:
    """What the critic said about one image.

    aspects: in the rubric's order.
    overall: 0-1; (mean of the applicable aspects - 1) / 3, unless it comes from a checklist or from
        several judges; None: unscored.
    summary, advice: the critic's words; advice says what to change in the prompt.
    refined: the prompt the critic would draw instead, or None.
    rejected: rewrites that broke a guard, in the order they were written.
    raw: the reply as it came.
    problem: why an image is unscored; empty for a scored one.
    requirements: the request as a checklist, answered, where the score comes from one.
    spread: standard deviation of `overall` if the image were judged again; None: unknown.
    untrusted: phrases of the request that the critic is known not to understand: the score says
        nothing of them, and nothing is to rest on it. Empty where it understands all.
    facts: what a program checked instead of the critic; the score follows from them, too. Empty
        where it checked nothing.
    """

    aspects: tuple[AspectScore, ...] = ()
    overall: Share | None = None
    summary: str = ""
    advice: str = ""
    refined: str | None = None
    raw: str = ""
    problem: str = ""
    rejected: tuple[Rejected, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    spread: Share | None = None
    untrusted: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()

    @property
    def refuted(self) -> tuple[Fact, ...]:
        """The facts that are not as they were asked for."""
        return tuple(fact for fact in self.facts if not fact.met)

    @property
    def is_score_alone(self) -> bool:
        """Whether the image was screened, and nothing written of it."""
        return self.overall is not None and not (self.aspects or self.raw)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a critic's model read and wrote.

    read: tokens of what it was asked, images included. written: tokens of its replies.
    uncounted: replies beside these, of which a server did not say how many tokens they took.
    """

    read: Count = 0
    written: Count = 0
    uncounted: Count = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.read + other.read,
            self.written + other.written,
            self.uncounted + other.uncounted,
        )

    def __sub__(self, other: Tokens) -> Tokens:
        return self + Tokens(-other.read, -other.written, -other.uncounted)

    def shares(self, count: int) -> list[Tokens]:
        """As many equal shares, but for the last token of some, which sum to the whole."""

        def share(whole: int, i: int) -> int:
            return whole * (i + 1) // count - whole * i // count

        wholes = (self.read, self.written, self.uncounted)
        return [Tokens(*(share(whole, i) for whole in wholes)) for i in range(count)]


def total(counted: Iterable[Tokens | None]) -> Tokens | None:
    """The sum; None where any of it is not recorded."""
    whole = Tokens()
    for tokens in counted:
        if tokens is None:
            return None
        whole += tokens
    return whole


@dataclass(frozen=True, slots=True)
class Attempt:
    """One drawn and judged image.

    image: file name inside the run folder, `image_name(round, position)`.
    sha256: of that file's bytes; empty until it is written.
    draw_seconds, judge_seconds: this image's share of its batch's time.
    batch: images drawn in the same call, on which the last bit of a pixel depends; 0: unknown.
    sampler: as A1111 calls the pipeline's scheduler; empty: unknown.
    tokens: this image's share of those that judging its batch took; None: not recorded, as in
        folders of older versions.
    """

    candidate: Candidate
    critique: Critique
    image: str
    sha256: str = ""
    draw_seconds: Seconds = 0.0
    judge_seconds: Seconds = 0.0
    batch: int = 0
    sampler: str = ""
    tokens: Tokens | None = None

    @property
    def score(self) -> float | None:
        return self.critique.overall


@dataclass(frozen=True, slots=True)
class Wording:
    """What the critic would draw next, with all in view that was tried before.

    prompt: None where it has none, or none that keeps to the guards.
    negative: what must not be seen, beside what the user named; for pipelines that take it.
    raw: the reply as it came. rejected: prompts that broke a guard, in order.
    seconds, tokens: this run's share of what it took to ask; as of an attempt.
    """

    prompt: str | None
    negative: str = ""
    raw: str = ""
    rejected: tuple[Rejected, ...] = ()
    seconds: Seconds = 0.0
    tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """The attempts that were drawn and judged together. Round 0 draws the raw request.

    wording: the critic's, after this round; None where it was not asked.
    """

    index: int
    attempts: tuple[Attempt, ...]
    wording: Wording | None = None

    @property
    def draw_seconds(self) -> float:
        """Of the generator."""
        return sum(attempt.draw_seconds for attempt in self.attempts)

    @property
    def judge_seconds(self) -> float:
        """Of the critic, with what it took to word the next prompt."""
        judging = sum(attempt.judge_seconds for attempt in self.attempts)
        return judging + (self.wording.seconds if self.wording else 0.0)

    @property
    def seconds(self) -> float:
        """Spent in the models."""
        return self.draw_seconds + self.judge_seconds

    @property
    def tokens(self) -> Tokens | None:
        """Of the critic, with those of the next prompt; None where any of it is not recorded."""
        wording = [self.wording.tokens] if self.wording else []
        return total([*(attempt.tokens for attempt in self.attempts), *wording])


@dataclass(frozen=True, slots=True)
class Extension:
    """A larger budget that a run was given after it was begun.

    after: how many rounds there were. stop: why the run had ended; empty where it had not.
    rounds, max_images, max_seconds: in all, in place of those settings; None: no limit.
    when: in ISO 8601.
    """

    after: int
    rounds: int
    max_images: int | None = None
    max_seconds: float | None = None
    stop: str = ""
    when: str = ""


@dataclass(frozen=True, slots=True)
class Branch:
    """A person's decision to go on from an image of the run instead of the best.

    after: how many rounds there were. image: the name of the one to go on from.
    like: whether the next round draws variations of it, and not yet what its critique asks for.
    wording: what the critic would draw next, with that image and what led to it in view; None: it
        was not asked.
    when: in ISO 8601.
    """

    after: int
    image: str
    like: bool = False
    wording: Wording | None = None
    when: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """What the user said of the images, for whoever words the next prompt; nothing is scored by it.

    after: how many rounds there were. text: in the user's words.
    prompt: what the critic then wrote; None: nothing that could be drawn.
    rejected: prompts that broke a guard.
    """

    after: int
    text: str
    prompt: str | None = None
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class EditedPrompt:
    """A prompt that the user wrote, for the next round to draw instead of what was proposed.

    after: how many rounds there were. when: in ISO 8601.
    """

    after: int
    prompt: str
    when: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One request and all that was tried for it.

    settings: JSON values, fixed for the whole run.
    comparison: which is better by the critic, who saw neither scores nor prompts: the request as
        it is (first) or the best image (second); None where they were not compared.
    kept: the image that a person chose as the best; empty where nobody did.
    settled: the image that the critic, who saw neither scores nor prompts, preferred to that of the
        highest score, whose lead is within the noise, or which was to be chosen so; empty where it
        did not.
    extensions: larger budgets than those of the settings; the last one counts.
    remarks: of the user, in order.
    branches: images that a person went on from, in order; the last one counts.
    edited_prompts: of the user, in order.
    """

    id: str
    request: Request
    settings: Mapping[str, object] = field(default_factory=dict)
    rounds: tuple[Round, ...] = ()
    stop: StopReason | None = None
    comparison: Preference | None = None
    kept: str = ""
    settled: str = ""
    extensions: tuple[Extension, ...] = ()
    remarks: tuple[Remark, ...] = ()
    branches: tuple[Branch, ...] = ()
    edited_prompts: tuple[EditedPrompt, ...] = ()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return tuple(attempt for round_ in self.rounds for attempt in round_.attempts)

    @property
    def branch(self) -> Branch | None:
        """The decision that holds: the last one; None where the best is gone on from."""
        made = (branch for branch in reversed(self.branches) if branch.after <= len(self.rounds))
        return next(made, None)

    @property
    def base(self) -> Attempt | None:
        """The image that a person went on from; None where nobody did."""
        branch = self.branch
        images = (attempt for attempt in self.attempts if branch and attempt.image == branch.image)
        return next(images, None)

    @property
    def branches_now(self) -> bool:
        """Whether the next round is the first one after a branch."""
        return self.branch is not None and self.branch.after == len(self.rounds)

    @property
    def edited_prompt(self) -> str:
        """What the user wrote for the next round to draw; empty where they did not, or went on
        from an image since.
        """
        written = self.edited_prompts[-1] if self.edited_prompts else None
        if written is None or written.after != len(self.rounds):
            return ""
        since = self.branches_now and self.branch is not None and self.branch.when > written.when
        return "" if since else written.prompt

    @property
    def line(self) -> Run:
        """What the next round follows from. After a branch these are the rounds that led to its
        image, that image alone of its own round, and the rounds since; else all of them.
        """
        branch, base = self.branch, self.base
        if branch is None or base is None:
            return self
        place = next(i for i, round_ in enumerate(self.rounds) if base in round_.attempts)
        led = replace(self, rounds=self.rounds[:place]).line.rounds
        turn = replace(self.rounds[place], attempts=(base,), wording=branch.wording)
        return replace(self, rounds=(*led, turn, *self.rounds[branch.after :]), branches=())

    @property
    def draw_seconds(self) -> float:
        """Of the generator."""
        return sum(round_.draw_seconds for round_ in self.rounds)

    @property
    def judge_seconds(self) -> float:
        """Of the critic, with what it took to word the prompts of branches."""
        asked = sum(branch.wording.seconds for branch in self.branches if branch.wording)
        return sum(round_.judge_seconds for round_ in self.rounds) + asked

    @property
    def seconds(self) -> float:
        """Spent in the models."""
        return self.draw_seconds + self.judge_seconds

    @property
    def tokens(self) -> Tokens | None:
        """Of the critic; None where any of it is not recorded."""
        asked = (branch.wording.tokens for branch in self.branches if branch.wording)
        return total([*(round_.tokens for round_ in self.rounds), *asked])

    def after(self, rounds: tuple[Round, ...]) -> Run:
        """The run as it was after these rounds, when nobody had chosen an image yet, nor given it a
        larger budget.
        """
        extensions = tuple(e for e in self.extensions if e.after < len(rounds))
        return replace(self, rounds=rounds, kept="", settled="", extensions=extensions)

    @property
    def format(self) -> str:
        """What its images are saved as, which their names end in."""
        return str(self.settings.get("format") or "png")

    @property
    def untrusted(self) -> tuple[str, ...]:
        """Phrases of the request that its scores say nothing of; see `Critique`."""
        return next((a.critique.untrusted for a in self.attempts if a.critique.untrusted), ())

    def listed(self) -> Run:
        """Itself with the checklist of its first image that was judged by one, if it has none."""
        if self.request.checklist:
            return self
        answered = (a.critique.requirements for a in self.attempts if a.critique.requirements)
        asked = tuple(replace(requirement, chance=None) for requirement in next(answered, ()))
        return replace(self, request=replace(self.request, checklist=asked))


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one prompt of a batch.

    Attributes:
        id: of the prompt, distinct in its batch.
        prompt: the words of the request.
        seed: of the first image.
        folder: of its run, relative to the batch's folder.
        stop: why its run ended, as in run.json.
        raw: score (0-1) of the first image, drawn from the request as it is; None: unscored.
        best: score (0-1) of the best image; None: unscored.
        best_image: its path, relative to the batch's folder; empty where nothing was scored.
        rounds: how many were drawn.
        images: how many were drawn.
        seconds: spent drawing and judging them.
        failure: why the run did not end well; empty where it did.
        noise: by how much one score must exceed another to be better and not lucky; 0: unknown.
        untrusted: phrases of the prompt that the scores say nothing of; empty: all are covered.
        extra: the prompt file's other columns.
    """

    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid"}

    id: str
    prompt: str
    seed: int
    folder: str
    stop: str
    raw: Share | None = None
    best: Share | None = None
    best_image: str = ""
    rounds: int = 0
    images: int = 0
    seconds: Seconds = 0.0
    failure: str = ""
    noise: Annotated[IsFinite[float], Ge(0), Le(4)] = 0.0
    untrusted: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GoOn:
    """Draw the next round.

    prompt: to draw instead of the proposed ones; empty: draw these.
    base: the image to go on from instead of the best; None: as before.
    like: whether the next round draws variations of that image.
    keep: whether that image is the best from now on, whatever its score.
    """

    prompt: str = ""
    base: Attempt | None = None
    like: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Reword:
    """Have the critic word the next prompt anew, and ask again. remark: in the user's words."""

    remark: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Draw no more.

    keep: the image that is to be the best; None: the one that was kept before, or of the best
        score.
    """

    keep: Attempt | None = None


def image_name(round_index: int, position: int, ending: str = "png") -> str:
    """File name of one image in its run folder: round 3, second image: `03-1.png`."""
    return f"{round_index:02d}-{position}.{ending}"


def best_name(best: Attempt) -> str:
    """File name of the copy of a run's best image: `best.png`."""
    return f"best.{best.image.rpartition('.')[2]}"


@dataclass(frozen=True, slots=True)
class Drawing:
    """One drawn image. fault: why it cannot be judged (`blank`, `non-finite`), or empty.

    batch: images drawn in the same call; 0: unknown.
    sampler: as A1111 calls the pipeline's scheduler; empty: unknown.
    """

    image: Image
    fault: str = ""
    batch: int = 0
    sampler: str = ""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why the refined prompt of a critique cannot be used; sent back to whoever wrote it."""

    request: Request
    image: Image
    critique: Critique
    complaint: str
    source: Image | None = None


Gallery = Callable[[Run, str], "Image"]
"""Gives an image of a run, by its name: one that it has drawn, or the source that it edits."""

ProgressCallback = Callable[[str, int, int], None]
"""Told `(phase, done, total)` while a model works; phase is `draw` or `judge`."""


class Generator(Protocol):
    """Draws candidates. Equal candidates give equal images on one machine and version set."""

    def draw(
        self,
        candidates: Sequence[Candidate],
        starts: Sequence[Image | None] = (),
        sources: Sequence[Image | None] = (),
    ) -> list[Drawing]:
        """Draw each candidate.

        starts: the image that each one's `start` names; sources: the image that its request says
        how to edit. Either may be None for one that has none, and be left out where none has one.
        """
        ...

    def obstacle(self, candidate: Candidate) -> str:
        """Why no candidate of this kind (from noise, from an image, mutated) can be drawn; empty
        if it can.
        """
        ...

    def excess(self, prompt: str) -> str:
        """Why the end of a prompt would be cut off and not drawn; empty if all of it is read."""
        ...


class Critic(Protocol):
    """Judges images against requests, one critique for each pair, in order."""

    def can_overlap(self) -> bool:
        """Whether it can work while a generator draws: elsewhere, or with room for both."""
        ...

    def tokens(self) -> Tokens:
        """What it has read and written so far, whatever it was asked."""
        ...

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
        scored: Sequence[Critique] = (),
    ) -> list[Critique]:
        """Judge each image. sources: what each one's request says how to edit, as in `draw`.

        scored: what `screen` said of each, if it was asked before: these scores stay.
        """
        ...

    def screen(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Critique]:
        """Score each image as `judge` would, and write nothing of it."""
        ...

    def rewrite(self, objections: Sequence[Objection]) -> list[str | None]:
        """Another refined prompt for each, after one that cannot be used; None: there is none."""
        ...

    def reword(
        self,
        runs: Sequence[Run],
        rejected: Sequence[Rejected] = (),
        gallery: Gallery | None = None,
    ) -> list[Wording | None]:
        """Another prompt for each run, from all that was tried; None: it is not to be asked.

        rejected: for each run, if given, the prompt that it named before and that cannot be used.
        gallery: where the runs' images are found, for a critic that is to see them again.
        """
        ...

    def compare(
        self,
        requests: Sequence[Request],
        firsts: Sequence[Image],
        seconds: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Preference | None]:
        """Which of two images is the better answer to each request; None: no readable reply, or it
        cannot be asked. sources: as in `judge`.
        """
        ...


Decision = GoOn | Reword | Stop
"""What a person decides after a round."""

Approve = Callable[[Run, Sequence[Candidate]], Decision]
"""Asked after each round but the last, with what is proposed to be drawn next."""


class Strategy(Protocol):
    """Says what to draw in a run's next round, from the rounds so far."""

    def propose(self, run: Run) -> tuple[Candidate, ...]: ...


@dataclass(frozen=True, slots=True)
class Task:
    """What images are measured against.

    Attributes:
        prompt: the user's words.
        columns: the other columns of its row, which may hold what has to be seen.
    """

    prompt: str
    columns: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image to be measured.

    Attributes:
        id: distinct among those measured together.
        prompt: the user's words.
        image: its file.
        columns: those of the prompt's row that the evaluator reads.
    """

    id: str
    prompt: str
    image: Path
    columns: Mapping[str, object] = field(default_factory=dict)


class Evaluator(Protocol):
    """Measures images, and never steers the loop.

    A class of this kind is known by a name: `--evaluator NAME`, or `--evaluator NAME:ARGUMENT`.

    Attributes:
        takes: what its argument is, in a word such as MODEL; empty where it has none.
        columns: of a prompt's row that it reads; no others are given to it.
        verifier: the name by which `--verify` knows the same measurement; empty: it does not. What
            was so verified in the loop, this one may not measure.
    """

    takes: ClassVar[str] = ""
    columns: ClassVar[Sequence[str]] = ()
    verifier: ClassVar[str] = ""

    @classmethod
    def models(cls, argument: str) -> Sequence[str]:  # noqa: ARG003 - for those that take any
        """The checkpoints that its argument names, separated by commas.

        None of them may be the critic that steered. An argument that names no checkpoint is not
        taken from a folder, which may come from anywhere, but has to be given again.
        """
        return ()

    @classmethod
    def check(cls, argument: str, tasks: Sequence[Task]) -> None:
        """Raise UsageError for what can be known to be wrong before anything is drawn."""

    @classmethod
    def load(cls, argument: str) -> Evaluator:
        """Make one that is ready to measure. Raises GcrError."""
        ...

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float | None]]:
        """The id and score of each sample in any order, as soon as it is known; more is better.

        None where there is nothing to measure, such as writing where none was asked for. Raises
        GcrError for an image that cannot be measured.
        """
        ...
