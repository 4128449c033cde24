"""What is said of a run in the same words wherever it is shown."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from gcr.core.plaintext import shortened
from gcr.core.ranking import best_scored, margin, near, parents, ranked, raw
from gcr.core.records import Preference, StopReason
from gcr.core.stopping import MOST_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gcr.core.records import Attempt, Branch, Candidate, Critique, Extension, Fact, Run

STOPPED = {
    StopReason.TARGET: "the target score was reached",
    StopReason.PLATEAU: "the score stopped rising",
    StopReason.ROUNDS: "that was the last round",
    StopReason.IMAGES: "the budget of images is used up",
    StopReason.SECONDS: "the time is up",
    StopReason.CHOSEN: "you had enough",
    StopReason.INTERRUPTED: "interrupted",
    StopReason.FAILED: "the run failed",
}
COMPARED = {
    Preference.FIRST: "the critic prefers the request as it is",
    Preference.SECOND: "better than the request as it is",
    Preference.TIE: "neither is clearly better",
}
FULL = 4.0
"""The best score of an aspect."""


def count(number: int, what: str) -> str:
    """`1 round`, `2 rounds`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def quoted(phrases: Iterable[str]) -> str:
    """Phrases as a sentence names them."""
    return ", ".join(f"“{phrase}”" for phrase in phrases)


def fact(fact: Fact) -> str:
    """What a program found of one thing that was asked for."""
    if fact.met:
        return f"“{fact.wanted}” can be read"
    if not fact.seen:
        return f"“{fact.wanted}” was asked for, and nothing like it can be read"
    return f"“{fact.seen}” can be read where “{fact.wanted}” was asked for"


def distrust(phrases: Sequence[str]) -> str:
    """What a score is not to be trusted for. phrases: that its critic does not understand."""
    return f"the score says nothing of {quoted(phrases)}, which the critic does not understand"


def chance(noise: float) -> str:
    """How far apart scores may be by chance: `within chance (±.29)`."""
    return f"within chance (±{noise:.2f})".replace("±0", "±")


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """The known word that another, in capitals or not, was most likely meant to be; or none.

    likeness: of the two at least, 0-1.
    """
    folded = {known_word.casefold(): known_word for known_word in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=likeness)
    return folded[close[0]] if close else ""


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def origin(candidate: Candidate) -> str:
    """What an image was drawn from, beside its prompt."""
    seeds = "+".join(map(str, (candidate.seed, *candidate.mutations)))
    start = f" on {candidate.start}" if candidate.start else ""
    return f"seed {seeds}{start}" + (f" editing {candidate.edits}" if candidate.edits else "")


def finding(critique: Critique, most: int = 10_000) -> str:
    """What a critic found in an image: its words on the aspect of the lowest score, or where none
    has less than the full score, or no words, its summary.

    Of a list of checks, "Check: a red star: missing; a circle: a circle, right.", only what is not
    right is told. What a program checked has a line of its own, and is not told again.

    most: characters; of a longer text whole sentences, if one is short enough.
    """
    wrong = [a for a in critique.aspects if a.score is not None and a.score < FULL]
    words = min(wrong, key=lambda aspect: aspect.score or 0.0).justification if wrong else ""
    _, is_list, checks = words.partition("Check: ")
    failed = [
        each for each in re.split(r"; |\. ", checks.rstrip(".")) if not each.endswith(", right")
    ]
    if is_list and failed:
        words = f"{'; '.join(failed)}."
    if not words or words == "; ".join(map(fact, critique.facts)):
        words = critique.summary
    end = words.rfind(". ", 0, most - 1) if len(words) > most else -1
    return shortened(words, most) if end < 0 else f"{words[: end + 1]} …"


def branched(run: Run, branch: Branch) -> str:
    """From which image a run goes on, and when that was decided."""
    score = next((a.score for a in run.attempts if a.image == branch.image), None)
    shown = "" if score is None else f" ({score:.2f})"
    did = "asked for more like" if branch.like else "went on from"
    return f"you {did} {branch.image}{shown}{dated(branch.when)}"


def since_branch(run: Run) -> str:
    """The best image since a person went on from one, in words; empty if it is the best of all."""
    branch, best = run.branch, best_scored(run)
    since = [attempt for attempt in ranked(parents(run)) if attempt != run.base]
    if branch is None or not since or best is None or best in since:
        return ""
    score = "unscored" if since[0].score is None else f"{since[0].score:.2f}"
    return f"the best since you went on from {branch.image} is {since[0].image} ({score})"


def extended(extension: Extension) -> str:
    """By how much a run was extended, and when."""
    limits = []
    if extension.max_images is not None:
        limits.append(count(extension.max_images, "image"))
    if extension.max_seconds is not None:
        limits.append(duration(extension.max_seconds))
    if not limits or extension.rounds - extension.after < MOST_ROUNDS:  # else none was named
        limits.insert(0, count(extension.rounds, "round"))
    return f"extended to {', '.join(limits)} at most{dated(extension.when)}"


def dated(when: str) -> str:
    """When something was decided, behind the words for it."""
    return f" on {when[:16].replace('T', ' ')}" if when else ""


def described(known: Mapping[str, object]) -> str:
    """What is the same in a whole run, from its settings: models, size, steps, first seed."""
    said = [f"{known.get('generator')}, judged by {known.get('critic')}"]
    if known.get("width") and known.get("height"):
        said.append(f"{known['width']}×{known['height']}")
    if known.get("steps"):
        said.append(f"{known['steps']} steps")
    if known.get("guidance") is not None:
        said.append(f"guidance {known['guidance']}")
    said.append(f"seed {known.get('seed')}")
    return " · ".join(said)


NAMED = 2
"""Images within chance of the best that are named beside the first one, at most."""


def closeness(run: Run, best: Attempt) -> str:
    """From which other images the best may differ by chance alone, in words; empty where from none,
    or where nothing is known of chance.
    """
    close = near(run.attempts, best)
    if not close:
        return ""
    first = raw(run)
    others = [attempt for attempt in close if attempt is not first]
    names = [f"the request as it is ({first.score:.2f})"] if len(others) < len(close) else []
    names += [f"{attempt.image} ({attempt.score:.2f})" for attempt in others[:NAMED]]
    names += [f"{len(others) - NAMED} more"] if len(others) > NAMED else []
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"{chance(margin(run.attempts))} of {listed}"


def settlement(run: Run) -> str:
    """Why the best image is not that of the highest score, in words; empty where it is."""
    top = next(iter(ranked(run.attempts)), None)
    if not run.settled or run.kept or top is None or top.image == run.settled:
        return ""
    if run.settings.get("select") == "pairwise":
        return f"it won, side by side, though {top.image} scored higher ({top.score:.2f})"
    return f"the critic prefers it, side by side, to {top.image} ({top.score:.2f})"
