"""The critic's lessons are sound: replies say what is there, rewrites ask for what was asked."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from gcr.core.records import Preference
from gcr.critic import checklist, pairwise, reply
from gcr.pocket import truth, world
from gcr.pocket.language import Group, Spec, parse
from gcr.pocket.truth import Seen, View
from pocket_training import questions, replies
from pocket_training.captions import describe, detail, fewer, near_miss, relate, say, spec_of
from pocket_training.replies import REWRITES, RUBRIC, Rewrite

Kind = tuple[str, str, str]


def requests(count: int, seed: str) -> list[Spec]:
    """Requests that some scene shows, of every form: with relations, places, sizes, canvases."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        scene = world.sample(rng, world.PAIRS)
        sizes, canvas = rng.random() < 0.3, rng.random() < 0.3
        spec = (detail if rng.random() < 0.2 else describe)(scene, sizes=sizes, canvas=canvas)
        if rng.random() < 0.7:
            spec = relate(spec, scene, rng)
        if rng.random() < 0.5:
            groups = tuple(
                replace(g, places=places_of(g, scene)) if rng.random() < 0.4 else g
                for g in spec.groups
            )
            spec = replace(spec, groups=groups)
        made.append(spec)
    return made


def places_of(group: Group, scene: world.Scene) -> tuple[str, ...]:
    if group.places:
        return group.places
    kind = (group.colour, group.shape)
    return tuple(
        t.place for t in scene.things if (t.colour, t.shape) == kind and group.size in {"", t.size}
    )


def asked(spec: Spec) -> list[Kind]:
    return sorted((w.colour, w.shape, w.size) for w in spec.wanted())


def picture(spec: Spec, rng: random.Random) -> world.Scene:
    """A scene that does what a spec with all its places says."""
    wanted = list(spec.wanted())
    things = world.put(
        rng, [(w.colour, w.shape, w.size or "medium") for w in wanted], [w.place for w in wanted]
    )
    return world.Scene(spec.canvas or "white", tuple(things))


def pictures(count: int, seed: str) -> list[tuple[Spec, View]]:
    """Requests, each with what a picture shows: what was asked, nearly that, or anything."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        scene = world.sample(rng)
        spec = spec_of(scene, rng, noisy=rng.random() < 0.5)
        shown = scene if rng.random() < 0.8 else world.sample(rng)
        seen = [
            Seen(t.shape, t.colour, t.x, t.y, t.radius, clarity=rng.choice((0.95, 0.95, 0.7, 0.4)))
            for t in shown.things
        ]
        if rng.random() < 0.3:
            seen.pop()
        pairs.append((spec, View(shown.canvas, tuple(seen), specks=rng.choice((0, 0, 2)))))
    return pairs


# Replies


def test_a_reply_reads_back_as_the_critique_it_was_written_from() -> None:
    seen = Counter()
    for number, (spec, view) in enumerate(pictures(300, "replies")):
        rewrite = REWRITES[number % len(REWRITES)]
        meant = replies.judge(spec, view, rewrite)
        read = reply.read(replies.write(spec, view, rewrite), RUBRIC)
        assert read.problem == ""
        assert read.aspects == meant.aspects
        assert (read.summary, read.advice) == (meant.summary, meant.advice)
        assert read.refined == meant.refined
        faithful, quality, text = (a.score for a in read.aspects)
        assert text is None
        assert read.overall == pytest.approx(((faithful + quality) / 2 - 1) / 3)
        seen[faithful] += 1
    assert set(seen) == {1.0, 1.5, 2.0, 2.5, 3.0, 4.0}


def test_faithful_is_what_truth_calls_right_and_nothing_else() -> None:
    rights = 0
    for spec, view in pictures(400, "faithful"):
        finding = truth.compare(spec, view)
        score = replies.faithfulness(finding)
        assert (score == 4.0) == finding.right
        assert (replies.judge(spec, view, REWRITES[0]).summary == replies.SUMMARIES[1]) == (
            finding.right
        )
        rights += finding.right
    assert 40 < rights < 360


def view_of(text: str, clarity: float = 1.0, specks: int = 0) -> View:
    scene = picture(parse(text), random.Random(text))
    things = [Seen(t.shape, t.colour, t.x, t.y, t.radius, clarity) for t in scene.things]
    return View(scene.canvas, tuple(things), specks)


def test_each_fault_costs_half_a_point() -> None:
    view = view_of("a red star at the top and a blue heart at the left")
    scores = {
        "a red star and a blue heart": 4.0,
        "a red star left of a blue heart": 3.0,
        "a red star and a green heart": 3.0,
        "a red star and a blue heart on black": 3.0,
        "a red star": 3.0,
        "a red star, a blue heart and a pink cross": 3.0,
        "a large red star and a blue heart on black": 2.5,
        "a large red star at the bottom and a pink cross on black": 1.0,
    }
    for request, score in scores.items():
        assert replies.faithfulness(truth.compare(parse(request), view)) == score, request


def test_quality_is_about_outlines_alone() -> None:
    text = "a red star at the top and a blue heart at the left"
    assert replies.quality(view_of(text)) == 4.0
    assert replies.quality(view_of(text, specks=1)) == 3.0
    assert replies.quality(view_of(text, clarity=0.7)) == 3.0
    assert replies.quality(view_of(text, clarity=0.3)) == 2.0
    assert replies.quality(View("white", ())) == 2.0


def test_the_account_names_what_is_seen_wanted_and_too_many() -> None:
    view = view_of("a large red star at the top and a blue heart at the left on black")
    text = replies.judge(
        parse("a red star at the bottom above two green stars on white"), view, REWRITES[0]
    ).aspects[0].justification  # fmt: skip
    assert text == (
        "Seen: a large red star at the top, a blue heart at the left on black. "
        "Check: red star at the bottom: red star at the top, wrong place; "
        "green star: blue heart at the left, wrong colour shape; green star: missing; "
        "above: missing, wrong; white canvas: black, wrong."
    )
    (extra,) = replies.judge(parse("a red star"), view, REWRITES[0]).aspects[:1]
    assert extra.justification.endswith(
        "Check: red star: red star at the top, right. Extra: blue heart."
    )


@pytest.mark.parametrize(
    "told",
    [
        "above: top row, middle row | bottom row, right",
        "below: top row, middle row | bottom row, wrong",
        "left of: left column, right column | left column, wrong",
        "right of: left column, right column | left column, wrong",
    ],
)
def test_a_relation_is_told_thing_by_thing(told: str) -> None:
    view = view_of("a red star at the top left, a blue heart at the right, a pink cross at the "
                   "bottom left")  # fmt: skip
    spec = parse(f"a red star and a blue heart {told.partition(':')[0]} a pink cross")
    text = replies.judge(spec, view, REWRITES[0]).aspects[0].justification
    assert text.endswith(f"pink cross at the bottom left, right; {told}.")


def test_a_request_that_is_nearly_met_is_not_met() -> None:
    rng = random.Random("near")
    missed = Counter()
    for spec, view in pictures(300, "near"):
        near = near_miss(spec, rng)
        assert near != spec
        parse(say(near, rng))
        if truth.compare(spec, view).right:
            missed[truth.compare(near, view).right] += 1
    assert missed[False] > 5 * missed[True]  # another relation may hold as well


def test_a_picture_of_what_was_asked_shows_a_thing_too_many_for_a_thing_less() -> None:
    rng = random.Random("fewer")
    related = 0
    for spec, view in pictures(300, "fewer"):
        if sum(g.count for g in spec.groups) < 2 or not truth.compare(spec, view).right:
            continue
        less = fewer(spec, rng)
        assert parse(say(less, rng)) == parse(say(less))
        finding = truth.compare(less, view)
        assert (finding.flaws, len(finding.extra)) == (1, 1)
        related += less.relation is not None
    assert related >= 2


def test_a_right_picture_is_kept_as_it_is() -> None:
    view = view_of("a red star at the top left and a blue heart at the right on black")
    spec = parse("a blue heart right of a red star on a black canvas")
    critique = replies.judge(spec, view, REWRITES[0])
    assert critique.refined == (
        "a blue heart at the right and a red star at the top left on a black canvas"
    )
    assert critique.advice == replies.ADVICE[1]


# Rewrites


def test_a_rewrite_asks_for_the_same_things_each_in_a_place_of_its_own() -> None:
    for spec in requests(400, "rewrites"):
        stated = Counter((w.colour, w.shape, w.place) for w in spec.wanted() if w.place)
        for rewrite in REWRITES:
            again = parse(say(rewrite.apply(spec)))
            assert asked(again) == asked(spec)
            places = [w.place for w in again.wanted()]
            assert len(set(places)) == len(places)
            assert set(places) <= set(world.PLACES)
            assert stated <= Counter((w.colour, w.shape, w.place) for w in again.wanted())
            assert again.relation is None
            white = "white" if rewrite.canvas else ""
            assert again.canvas == (spec.canvas or white)
            singles = all(g.count == 1 for g in again.groups)
            assert singles or rewrite.lists


def test_a_picture_of_a_rewrite_is_what_was_asked() -> None:
    rng = random.Random("obeyed")
    for number, spec in enumerate(requests(240, "obeyed")):
        again = parse(say(REWRITES[number % len(REWRITES)].apply(spec)))
        finding = truth.compare(spec, as_seen(picture(again, rng)))
        assert finding.right, (say(spec), say(again))
    for number, spec in enumerate(requests(40, "drawn")):
        again = parse(say(REWRITES[number % len(REWRITES)].apply(spec)))
        assert truth.shows(world.draw(picture(again, rng)), spec), (say(spec), say(again))


def as_seen(scene: world.Scene) -> View:
    things = [Seen(t.shape, t.colour, t.x, t.y, t.radius) for t in scene.things]
    return View(scene.canvas, tuple(things))


@pytest.mark.parametrize("relation", ["above", "below", "left of", "right of"])
@pytest.mark.parametrize("template", replies.TEMPLATES)
def test_relations_of_all_sizes_are_obeyed(relation: str, template: str) -> None:
    rng = random.Random(relation)
    for first in range(1, 5):
        for second in range(1, 6 - first):
            spec = parse(f"{first} red stars {relation} {second} blue hearts")
            scene = picture(Rewrite(template).apply(spec), rng)
            assert truth.compare(spec, as_seen(scene)).right, (first, second)


def test_rewrites_differ() -> None:
    spec = parse("two red stars and a blue heart")
    assert len({say(rewrite.apply(spec)) for rewrite in REWRITES}) == len(REWRITES)


# Questions


WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
THING = r"an? (?P<colour>\w+) (?P<shape>\w+)"
SIDE = r"(?P<side>above|below|left of|right of)"
AXES = {"above": ("y", 1), "below": ("y", -1), "left of": ("x", 1), "right of": ("x", -1)}


def answer(question: str, view: View) -> bool:  # noqa: PLR0911 - one for each form
    """The answer, found from the words of the question."""
    things = [t for t in view.things if t.clear]

    def like(colour: str, shape: str) -> list[Seen]:
        return [t for t in things if t.colour == colour and t.shape == shape]

    def stands(asks: re.Match[str], second: str) -> list[bool]:
        axis, sign = AXES[asks["side"]]
        return [
            sign * (getattr(b, axis) - getattr(a, axis)) >= 8
            for a in like(asks["colour"], asks["shape"])
            for b in like(*second.split())
        ]

    if asks := re.fullmatch(r"is the canvas (\w+)\?", question):
        return view.canvas == asks[1]
    if asks := re.fullmatch(r"(?:are|is) there (\w+) shapes?\?", question):
        return len(view.things) == WORDS[asks[1]]
    if asks := re.fullmatch(r"are there (\w+) (\w+) (\w+)\?", question):
        shape = {"crosses": "cross"}.get(asks[3], asks[3].removesuffix("s"))
        return len(like(asks[2], shape)) == WORDS[asks[1]]
    if asks := re.fullmatch(r"is there a (small|medium|large) (\w+) (\w+)\?", question):
        return any(t.size == asks[1] for t in like(asks[2], asks[3]))
    if asks := re.fullmatch(rf"is there {THING}\?", question):
        return bool(like(asks["colour"], asks["shape"]))
    if asks := re.fullmatch(rf"is there {THING} at the (?P<place>[\w ]+)\?", question):
        return any(t.place == asks["place"] for t in like(asks["colour"], asks["shape"]))
    if asks := re.fullmatch(rf"is every {THING[4:]} {SIDE} every (\w+ \w+)\?", question):
        held = stands(asks, asks[4])
        return bool(held) and all(held)
    asks = re.fullmatch(rf"is there {THING} {SIDE} the (\w+ \w+)\?", question)
    assert asks, question
    return any(stands(asks, asks[4]))


FORMS = {
    "is the canvas": "canvas",
    r"(are|is) there \w+ shapes?": "total",
    "are there": "count",
    "is every": "order",
    ".* at the ": "place",
    ".* the ": "relation",
    "is there a (small|medium|large)": "size",
    "is there": "kind",
}


def test_questions_are_answered_truly() -> None:
    rng = random.Random("questions")
    views = [view for _, view in pictures(300, "questions")] + [View("black", ())] * 20
    asked_about, yes = Counter(), Counter()
    for view in views:
        for _ in range(6):
            question, said = questions.ask(view, rng)
            assert said == answer(question, view), (question, view)
            form = next(name for start, name in FORMS.items() if re.match(start, question))
            asked_about[form] += 1
            yes[form] += said
    assert set(asked_about) == set(questions.KINDS)
    assert all(0.1 < yes[form] / asked_about[form] < 0.9 for form in asked_about), yes
    assert 0.3 < yes.total() / asked_about.total() < 0.7


def test_no_question_names_a_held_out_pair() -> None:
    rng = random.Random("held out")
    for _, view in pictures(300, "held out"):
        question, _ = questions.ask(view, rng)
        named = re.findall(r"(?:an?|the|two|three|four|five) (\w+) (\w+)", question)
        assert not {(c, "cross" if s == "crosses" else s.removesuffix("s")) for c, s in named} & (
            world.HELD_OUT
        )


def test_a_right_picture_meets_its_whole_checklist_and_a_wrong_one_seldom_does() -> None:
    met = Counter()
    for spec, view in pictures(300, "checklists"):
        listed = checklist.read(questions.checklist(spec))
        assert all(need < i for i, r in enumerate(listed) for need in r.needs)
        yes = all(answer(r.question, view) for r in listed)
        met[truth.compare(spec, view).right, yes] += 1
    assert met[True, False] == 0
    assert met[False, True] <= 0.05 * met[False, False]  # what of several sizes is which


def test_of_two_pictures_the_one_that_shows_what_was_asked_is_better() -> None:
    red, blue = view_of("a red star at the top"), view_of("a blue star at the top")
    spec = parse("a red star")
    assert pairwise.read(questions.compare(spec, red, blue)) is Preference.FIRST
    assert pairwise.read(questions.compare(spec, blue, red)) is Preference.SECOND
    assert pairwise.read(questions.compare(spec, red, red)) is Preference.TIE
    rough = view_of("a red star at the top", clarity=0.7)
    assert pairwise.read(questions.compare(spec, rough, red)) is Preference.SECOND


# Tokens


def test_the_critics_tokens_hold_every_reply_request_and_question() -> None:
    from pocket_training import critic

    tokenize = critic.tokenizer()
    rng = random.Random("tokens")

    def tokens(text: str) -> list[int]:
        ids = tokenize(text, add_special_tokens=False).input_ids
        assert tokenize.unk_token_id not in ids, text
        return ids

    for number, (spec, view) in enumerate(pictures(150, "tokens")):
        text = replies.write(spec, view, REWRITES[number % len(REWRITES)])
        ids = tokens(text)
        assert len(ids) < RUBRIC.max_new_tokens
        meant, read = (reply.read(t, RUBRIC) for t in (text, tokenize.decode(ids)))
        assert replace(read, raw="") == replace(meant, raw="")
        tokens(f"Request: {say(spec, rng)}")
        question, _ = questions.ask(view, rng)
        assert tokenize.decode(tokens(question)).strip() == question
        listed = questions.checklist(spec)
        assert len(tokens(f"Checklist: {say(spec, rng)}")) < 100
        assert checklist.read(tokenize.decode(tokens(listed))) == checklist.read(listed)
        told = questions.compare(spec, view, view)
        assert pairwise.read(tokenize.decode(tokens(told))) is Preference.TIE
        assert max(len(tokens(listed)), len(tokens(told))) < RUBRIC.max_new_tokens
    assert tokenize.unk_token_id in tokenize("a red cat").input_ids
