"""What a user should know before anything is drawn, though nothing forbids it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gcr.core.events import Event, Notice
from gcr.core.phrases import quoted
from gcr.core.records import Request
from gcr.core.syntax import without_scale, words
from gcr.critic import limits, ocr
from gcr.settings import address, profiles
from gcr.storage import runfolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from gcr.core.events import Consumer
    from gcr.core.records import Generator, Run
    from gcr.inputs.jobs import Job
    from gcr.settings.schema import Settings


def of_pocket(request: Request, settings: Settings, emit: Consumer) -> None:
    """Say what the embedded pair cannot do, before anything is drawn."""
    of_choice(settings, emit)
    of_words(request, settings, emit)


def of_choice(settings: Settings, emit: Consumer) -> None:
    """Say that `auto` took the embedded pair, and why, and what a generator without a profile
    counts as.
    """
    if settings.chosen and settings.profile == profiles.EMBEDDED:
        emit(Notice(f"auto: {settings.chosen}", _larger()))
    if settings.distilled:
        mix = (
            f"--images {settings.images} --rounds {settings.rounds} --patience {settings.patience}"
        )
        emit(
            Notice(
                f"{settings.generator} counts as distilled to few steps: {settings.distilled}",
                "its seeds differ little, so there are few of them and more rewrites: "
                f"{mix}, unless you say otherwise",
            )
        )


def of_words(request: Request, settings: Settings, emit: Consumer) -> None:
    """Say what in a request the embedded pair does not understand."""
    from gcr.pocket import language

    if not any(map(limits.is_limited, (settings.generator, settings.critic))):
        return
    if refusal := limits.refusal(request.prompt, settings):
        emit(Notice(f"{refusal}: it will fail", limits.instead()))
    elif ignored := limits.ignored(request):
        emit(Notice(f"the embedded pair does not understand {quoted(ignored)}", _larger()))
    elif unknown := language.unknown_words(request.negative):
        emit(Notice(f"the embedded pair does not know: {', '.join(unknown)}", _larger()))
    elif trouble := language.not_understood(words(request.prompt)):
        emit(Notice(f"the embedded pair may not understand the prompt: {trouble}", _larger()))


def _larger() -> str:
    known = "it knows coloured shapes only"
    return f"{known}; gcr profiles lists larger pairs, and --profile auto takes one that fits"


def of_verifier(prompts: Iterable[str], settings: Settings, emit: Consumer) -> None:
    """Say that nothing will be verified, where that is asked for."""
    if settings.verify == ocr.NAME and not any(map(ocr.wanted, prompts)):
        emit(
            Notice(
                "--verify ocr has nothing to check: no text is in quotes",
                'put what is to be written in quotes: a sign that reads "OPEN"',
            )
        )


def of_scales(prompts: Iterable[str], settings: Settings, emit: Consumer) -> None:
    """Say that a LoRA's scale cannot be read, so that it is drawn with as it was trained."""
    if settings.prompt_syntax == "a1111":
        tags = dict.fromkeys(tag for prompt in prompts for tag in without_scale(prompt))
        if tags:
            message = f"no scale can be read in {', '.join(tags)}, so it is 1"
            emit(Notice(message, "write a number, such as <lora:fur:0.8>"))


def of_length(request: Request, generator: Generator, emit: Consumer) -> None:
    """Say that the end of the prompt will be judged, but not drawn."""
    if over := generator.excess(request.prompt):
        emit(
            Notice(
                f"the prompt is too long: {over}",
                "the rest is judged, but not drawn; shorten it, or take another generator",
            )
        )


def of_server(settings: Settings, emit: Consumer) -> None:
    """Say that a critic on this machine is not there for workers on other ones."""
    critic = settings.critic
    if address.is_address(critic) and address.parse(critic).is_loopback:
        emit(
            Notice(
                f"each worker asks {critic} on its own machine",
                "name the server as all machines of the cluster know it, unless each has its own",
            )
        )


def of_batch(jobs: Sequence[Job], settings: Settings, emit: Consumer) -> None:
    """As of one request, of all prompts of a batch."""
    prompts = [job.prompt for job in jobs]
    of_choice(settings, emit)
    of_verifier(prompts, settings, emit)
    of_scales(prompts, settings, emit)
    requests = ((job, Request(job.prompt, job.negative or settings.negative)) for job in jobs)
    _each_kind(requests, lambda request, tell: of_words(request, settings, tell), emit)


def of_lengths(jobs: Sequence[Job], generator: Generator, emit: Consumer) -> None:
    """As `of_length`, of all prompts of a batch."""
    requests = ((job, Request(job.prompt)) for job in jobs)
    _each_kind(requests, lambda request, tell: of_length(request, generator, tell), emit)


def _each_kind(
    requests: Iterable[tuple[Job, Request]],
    look: Callable[[Request, Consumer], None],
    emit: Consumer,
) -> None:
    """Of many requests the first notice of each kind, and how many more there are of it."""
    kinds: dict[str, list[str]] = {}  # messages by their hints
    for job, request in requests:
        notices: list[Event] = []
        look(request, notices.append)
        for notice in notices:
            if isinstance(notice, Notice):
                kinds.setdefault(notice.hint, []).append(f"{job.place}: {notice.message}")
    for hint, messages in kinds.items():
        more = f" (and so with {len(messages) - 1} more)" if len(messages) > 1 else ""
        emit(Notice(messages[0] + more, hint))


def of_kept(run: Run, emit: Consumer) -> None:
    """Say that a person's choice stays the best image of a run that goes on."""
    if run.kept:
        emit(Notice(f"{run.kept} stays the best image, as you chose it, whatever new rounds score"))


class Begun(Protocol):
    """A run or a batch in its folder."""

    path: Path
    story: dict[str, object]


def of_changes(folder: Begun, revisions: Mapping[str, str | None], emit: Consumer) -> None:
    """Say when a run or batch goes on with other software or models than it was begun with."""
    for key, now in (("versions", runfolder.versions()), ("revisions", revisions)):
        before = folder.story.get(key)
        if before != now:
            emit(
                Notice(
                    f"{folder.path} was begun with the {key} {before}, and goes on with {now}",
                    "images from here on may differ from those of an uninterrupted run",
                )
            )
