"""The replies the critic is taught, written from what truth reads in an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gcr.core.records import AspectScore, Critique
from gcr.critic import reply, rubric
from gcr.pocket import world
from gcr.pocket.language import Group, Relation, Spec, Wanted
from gcr.pocket.truth import Finding, Seen, View, compare
from pocket_training.captions import gather, say

RUBRIC = rubric.load("pocket")
CLEAN = 0.86  # overlap with its template from which a shape is clean
SEEN = "Seen:"
CHECK = "Check:"
EXTRA = "Extra:"
FINISH = {
    4.0: "every shape is clean.",
    3.0: "some shapes are rough.",
    2.0: "some shapes are unclear.",
}
NO_TEXT = "no text was asked for."
ROWS = ("top row", "middle row", "bottom row")
COLUMNS = ("left column", "middle column", "right column")
SUMMARIES = ("this does not show what was asked.", "this shows what was asked.")
ADVICE = ("give every shape a place of its own.", "keep every shape where it is.")


def judge(spec: Spec, view: View, rewrite: Rewrite) -> Critique:
    """What the critic should say of an image that shows `view` when asked for `spec`."""
    finding = compare(spec, view)
    refined = settle(spec, finding) if finding.right else rewrite.apply(spec)
    return Critique(
        aspects=(
            AspectScore(RUBRIC.aspects[0], faithfulness(finding), _account(spec, view, finding)),
            AspectScore(RUBRIC.aspects[1], quality(view), FINISH[quality(view)]),
            AspectScore(RUBRIC.aspects[2], None, NO_TEXT),
        ),
        summary=SUMMARIES[finding.right],
        advice=ADVICE[finding.right],
        refined=say(refined),
    )


def write(spec: Spec, view: View, rewrite: Rewrite) -> str:
    """The reply as text, in the reply format."""
    total = sum(g.count for g in spec.groups)
    plain = Spec(tuple(replace(g, places=()) for g in spec.groups), spec.relation, spec.canvas)
    analysis = f"{say(plain)}: {total} {'shape' if total == 1 else 'shapes'}."
    return reply.write(judge(spec, view, rewrite), RUBRIC, analysis)


def faithfulness(finding: Finding) -> float:
    """4.0 when all is right; else 3.0 less half a point for each further fault, at least 1.0."""
    faults = len(finding.missing) + len(finding.extra)
    faults += sum(len(wrong) for _, _, wrong in finding.matched)
    faults += (finding.relation is False) + (finding.canvas is False)
    return 4.0 if not faults else max(1.0, 3.5 - 0.5 * faults)


def quality(view: View) -> float:
    """4.0 when every shape is clean, 3.0 when some are rough, 2.0 when some are blobs."""
    if not view.things or not all(t.clear for t in view.things):
        return 2.0
    return 4.0 if all(t.clarity >= CLEAN for t in view.things) and not view.specks else 3.0


def _account(spec: Spec, view: View, finding: Finding) -> str:
    """What is seen, what stands for each wanted thing, what is there that nobody asked for.

    The critic writes before it judges, so every verdict follows the words that decide it: what was
    wanted, what stands for it, told in the same words, and only then whether they agree.
    """
    seen = ", ".join(_noun(t) for t in view.things)
    fits = {id(w): (s, wrong) for w, s, wrong in finding.matched}
    wanted = [*(w for w, *_ in finding.matched), *finding.missing]
    checks = [
        _check(w, *fits.get(id(w), (None, ()))) for w in sorted(wanted, key=lambda w: w.group)
    ]
    if spec.relation is not None:
        checks.append(_relation(spec.relation, finding))
    if finding.canvas is not None:
        checks.append(
            f"{spec.canvas} canvas: {view.canvas}, {'right' if finding.canvas else 'wrong'}"
        )
    text = f"{SEEN} {seen or 'nothing'} on {view.canvas}. {CHECK} {'; '.join(checks)}."
    if finding.extra:
        text += f" {EXTRA} {', '.join(f'{t.colour} {t.shape}' for t in finding.extra)}."
    return " ".join(text.split())


def _noun(thing: Seen) -> str:
    size = "" if thing.size == "medium" else f"{thing.size} "
    kind = f"{size}{thing.colour} {thing.shape if thing.clear else 'blob'}"
    return f"{article(kind)} {kind} at the {thing.place}"


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _check(wanted: Wanted, seen: Seen | None, wrong: tuple[str, ...]) -> str:
    """What was asked and what stands for it: `small red star: small red heart at the top, wrong
    shape`. Of its size only what was asked; its place always, for the relation.
    """
    asked = f"{wanted.size} {wanted.colour} {wanted.shape}"
    asked += f" at the {wanted.place}" if wanted.place else ""
    if seen is None:
        return f"{asked}: missing"
    size, shape = seen.size if wanted.size else "", seen.shape if seen.clear else "blob"
    verdict = f"wrong {' '.join(wrong)}" if wrong else "right"
    return f"{asked}: {size} {seen.colour} {shape} at the {seen.place}, {verdict}"


def _relation(relation: Relation, finding: Finding) -> str:
    """Where each thing of both sides stands: `above: top row, middle row | bottom row, right`."""
    if finding.missing:
        return f"{relation.name}: missing, wrong"
    rows = relation.name in ("above", "below")
    pairs = sorted(finding.matched, key=lambda m: m[0].group)
    sides = []
    for members in (relation.first, relation.second):
        places = [world.PLACES.index(s.place) for w, s, _ in pairs if w.group in members]
        sides.append(", ".join(ROWS[p // 3] if rows else COLUMNS[p % 3] for p in places))
    return f"{relation.name}: {' | '.join(sides)}, {'right' if finding.relation else 'wrong'}"


# Rewriting


TEMPLATES: dict[str, dict[int, tuple[str, ...]]] = {
    "wide": {
        1: ("center",),
        2: ("left", "right"),
        3: ("top left", "top right", "bottom"),
        4: ("top left", "top right", "bottom left", "bottom right"),
        5: ("top left", "top right", "center", "bottom left", "bottom right"),
    },
    "rows": {
        1: ("center",),
        2: ("top", "bottom"),
        3: ("left", "center", "right"),
        4: ("top left", "top right", "bottom left", "bottom right"),
        5: ("top left", "top", "top right", "bottom left", "bottom right"),
    },
}
_SIDES = {
    "above": (
        ("top left", "top right", "top", "left", "right"),
        ("bottom left", "bottom right", "bottom", "left", "right"),
    ),
    "left of": (
        ("top left", "bottom left", "left", "top", "bottom"),
        ("top right", "bottom right", "right", "top", "bottom"),
    ),
}
_MIDDLE_OF_SIDE = {"above": ("top", "bottom"), "left of": ("left", "right")}


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A way to rewrite a request: where things go, and how that is worded.

    template: a key of TEMPLATES. lists: like things as one list rather than a phrase each.
    canvas: name a white canvas where the request names none.
    """

    template: str = "wide"
    lists: bool = False
    canvas: bool = False

    def apply(self, spec: Spec) -> Spec:
        """The detailed spec that asks for the same, every thing in a place of its own."""
        places = plan(spec, self.template)
        groups = tuple(
            Group(1, w.colour, w.shape, w.size, (place,))
            for w, place in zip(spec.wanted(), places, strict=True)
        )
        canvas = spec.canvas or ("white" if self.canvas else "")
        detailed = Spec(groups, None, canvas)
        return gather(detailed) if self.lists else detailed


REWRITES = tuple(
    Rewrite(t, lists, c) for t in TEMPLATES for lists in (False, True) for c in (False, True)
)


def plan(spec: Spec, template: str) -> list[str]:
    """A place for every wanted thing, in order: as asked, within the relation, no place twice."""
    wanted = list(spec.wanted())
    taken = {w.place for w in wanted if w.place}
    if spec.relation is None:
        free = [p for p in (*TEMPLATES[template][len(wanted)], *world.PLACES) if p not in taken]
        order = iter(dict.fromkeys(free))
        return [w.place or next(order) for w in wanted]
    sides = [_side(spec, spec.relation, i, taken) for i in (0, 1)]
    return [w.place or next(sides[w.group in spec.relation.second]) for w in wanted]


def _side(spec: Spec, relation: Relation, index: int, taken: set[str]) -> Iterator[str]:
    """Places for one side of a relation, the best first. index: 0 for what stands so, 1 to what."""
    name = relation.name
    flipped = name in ("below", "right of")
    key = {"below": "above", "right of": "left of"}.get(name, name)
    which = 1 - index if flipped else index
    members = (relation.first, relation.second)[index]
    count = sum(spec.groups[i].count for i in members)
    if count == 1:
        first: tuple[str, ...] = (_MIDDLE_OF_SIDE[key][which],)
    elif count == 3:
        first = tuple(sorted(_SIDES[key][which][:3], key=world.PLACES.index))
    else:
        first = _SIDES[key][which][:count]
    return iter([p for p in dict.fromkeys((*first, *_SIDES[key][which])) if p not in taken])


def settle(spec: Spec, finding: Finding) -> Spec:
    """The request told in detail as an image that is right shows it."""
    pairs = sorted(finding.matched, key=lambda m: m[0].group)
    groups = tuple(Group(1, w.colour, w.shape, w.size, (s.place,)) for w, s, _ in pairs)
    return Spec(groups, None, spec.canvas)


SENTENCES: Sequence[str] = (
    *(SEEN, CHECK, EXTRA, NO_TEXT, "N/A"),
    *FINISH.values(),
    *SUMMARIES,
    *ADVICE,
)
"""What replies say in the same words every time."""
WORDS: Sequence[str] = [
    "nothing",
    "blob",
    "missing",
    "wrong",
    "right",
    "shape",
    "shapes",
    "size",
    "place",
    "colour",
    "request",
    ";",
    "is",
    "are",
    "there",
    "?",
    "without",
    "yes",
    "no",
    "every",
    "count",
    "relation",
    "object",
    "total",
    "checklist",
    "compare",
    "objection",
    "again",
    "write",
    "whole",
    "reply",
    "it",
    "must",
    "hold",
    "word",
    "for",
    "first",
    "second",
    "better",
    "neither",
    "|",
    "-",
    *(f"{n}" for n in range(6, 25)),
]
"""The other words of replies and questions that the language itself does not have."""
