"""What a user should know before anything is drawn, though nothing forbids it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gcr.core.events import Notice
from gcr.core.phrases import quoted
from gcr.core.records import Request
from gcr.core.syntax import without_scale, words
from gcr.critic import limits, ocr
from gcr.settings import address, profiles
from gcr.storage import runfolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gcr.core.events import Consumer
    from gcr.core.records import Generator, Run
    from gcr.inputs.jobs import Job
    from gcr.settings.schema import Settings


def tell(emit: Consumer, notices: Iterable[Notice]) -> None:
    """Pass notices on to whoever watches."""
    for notice in notices:
        emit(notice)


def of_pocket(request: Request, settings: Settings) -> Iterator[Notice]:
    """What the embedded pair cannot do, before anything is drawn."""
    yield from of_choice(settings)
    yield from of_words(request, settings)


def of_choice(settings: Settings) -> Iterator[Notice]:
    """That `auto` took the embedded pair, and why, and what a generator without a profile counts
    as.
    """
    if settings.chosen and settings.profile == profiles.EMBEDDED:
        yield Notice(f"auto: {settings.chosen}", _larger())
    if settings.distilled:
        mix = (
            f"--images {settings.images} --rounds {settings.rounds} --patience {settings.patience}"
        )
        yield Notice(
            f"{settings.generator} counts as distilled to few steps: {settings.distilled}",
            "its seeds differ little, so there are few of them and more rewrites: "
            f"{mix}, unless you say otherwise",
        )


def of_words(request: Request, settings: Settings) -> Iterator[Notice]:
    """What in a request the embedded pair does not understand."""
    from gcr.pocket import language

    if not any(map(limits.is_limited, (settings.generator, settings.critic))):
        return
    if refusal := limits.refusal(request.prompt, settings):
        yield Notice(f"{refusal}: it will fail", limits.instead())
    elif ignored := limits.ignored(request):
        yield Notice(f"the embedded pair does not understand {quoted(ignored)}", _larger())
    elif unknown := language.unknown_words(request.negative):
        yield Notice(f"the embedded pair does not know: {', '.join(unknown)}", _larger())
    elif trouble := language.not_understood(words(request.prompt)):
        yield Notice(f"the embedded pair may not understand the prompt: {trouble}", _larger())


def _larger() -> str:
    known = "it knows coloured shapes only"
    return f"{known}; gcr profiles lists larger pairs, and --profile auto takes one that fits"


def of_verifier(prompts: Iterable[str], settings: Settings) -> Iterator[Notice]:
    """That nothing will be verified, where that is asked for."""
    if settings.verify == ocr.NAME and not any(map(ocr.wanted, prompts)):
        yield Notice(
            "--verify ocr has nothing to check: no text is in quotes",
            'put what is to be written in quotes: a sign that reads "OPEN"',
        )


def of_scales(prompts: Iterable[str], settings: Settings) -> Iterator[Notice]:
    """That a LoRA's scale cannot be read, so that it is drawn with as it was trained."""
    if settings.prompt_syntax == "a1111":
        tags = dict.fromkeys(tag for prompt in prompts for tag in without_scale(prompt))
        if tags:
            message = f"no scale can be read in {', '.join(tags)}, so it is 1"
            yield Notice(message, "write a number, such as <lora:fur:0.8>")


def of_length(request: Request, generator: Generator) -> Iterator[Notice]:
    """That the end of the prompt will be judged, but not drawn."""
    if over := generator.excess(request.prompt):
        yield Notice(
            f"the prompt is too long: {over}",
            "the rest is judged, but not drawn; shorten it, or take another generator",
        )


def of_server(settings: Settings) -> Iterator[Notice]:
    """That a critic on this machine is not there for workers on other ones."""
    critic = settings.critic
    if address.is_address(critic) and address.parse(critic).is_loopback:
        yield Notice(
            f"each worker asks {critic} on its own machine",
            "name the server as all machines of the cluster know it, unless each has its own",
        )


def of_batch(jobs: Sequence[Job], settings: Settings) -> Iterator[Notice]:
    """As of one request, of all prompts of a batch."""
    prompts = [job.prompt for job in jobs]
    yield from of_choice(settings)
    yield from of_verifier(prompts, settings)
    yield from of_scales(prompts, settings)
    requests = ((job, Request(job.prompt, job.negative or settings.negative)) for job in jobs)
    yield from _each_kind((job, of_words(request, settings)) for job, request in requests)


def of_lengths(jobs: Sequence[Job], generator: Generator) -> Iterator[Notice]:
    """As `of_length`, of all prompts of a batch."""
    return _each_kind((job, of_length(Request(job.prompt), generator)) for job in jobs)


def _each_kind(notices: Iterable[tuple[Job, Iterable[Notice]]]) -> Iterator[Notice]:
    """Of the notices of many prompts the first of each kind, and how many more there are of it."""
    kinds: dict[str, list[str]] = {}  # messages by their hints
    for job, of_job in notices:
        for notice in of_job:
            kinds.setdefault(notice.hint, []).append(f"{job.place}: {notice.message}")
    for hint, messages in kinds.items():
        more = f" (and so with {len(messages) - 1} more)" if len(messages) > 1 else ""
        yield Notice(messages[0] + more, hint)


def of_kept(run: Run) -> Iterator[Notice]:
    """That a person's choice stays the best image of a run that goes on."""
    if run.kept:
        yield Notice(f"{run.kept} stays the best image, as you chose it, whatever new rounds score")


class Begun(Protocol):
    """A run or a batch in its folder."""

    path: Path
    story: dict[str, object]


def of_changes(folder: Begun, revisions: Mapping[str, str | None]) -> Iterator[Notice]:
    """That a run or batch goes on with other software or models than it was begun with."""
    for key, now in (("versions", runfolder.versions()), ("revisions", revisions)):
        before = folder.story.get(key)
        if before != now:
            yield Notice(
                f"{folder.path} was begun with the {key} {before}, and goes on with {now}",
                "images from here on may differ from those of an uninterrupted run",
            )
