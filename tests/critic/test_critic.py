"""What a critic asks its model, in which order, and what it makes of the replies."""

import pytest
from fakes import FakeGenerator, FakeSpeaker, images_in, seed_of, text_of
from PIL import Image
from replies import SHORT

from gcr.core.loop import refine
from gcr.core.records import (
    Attempt,
    Candidate,
    Critique,
    Objection,
    Preference,
    Request,
    Round,
    Run,
)
from gcr.core.stopping import StopRule
from gcr.core.strategies import Refine
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.speaker import Reply
from gcr.errors import UsageError

READABLE = "# Detailed Judgement\n1. Text Faithfulness:\n## Score: 2.5\n# Summary: fine\n"
RED, BLUE = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (48, 64), "blue")
CIRCLE = Request("a red circle")


def scripted(*replies, **texts):
    """A critic whose model says these one after the other. texts: of its rubric."""
    left = iter(replies)
    rubric = SHORT.model_copy(update=texts)
    return VisionLanguageCritic(FakeSpeaker(lambda _: next(left)), rubric)


def test_what_cannot_be_read_is_asked_for_once_more_and_then_unscored():
    critic = scripted(READABLE, "mumble", "oops", READABLE, "hm")
    requests = [CIRCLE, Request("a blue square"), Request("a star")]
    first, second, third = critic.judge(requests, [RED, BLUE, RED])

    assert (first.overall, second.overall, third.overall) == (0.5, 0.5, None)
    assert "unreadable" in third.problem
    assert third.raw == "hm"
    calls = critic.speaker.calls
    assert [len(chats) for chats in calls] == [3, 2]  # the two unread ones, together
    again = calls[1][0]
    assert [message["role"] for message in again] == ["system", "user", "assistant", "user"]
    assert again[1]["content"][0]["image"].getpixel((0, 0)) == (0, 0, 255)
    assert again[2]["content"][0]["text"] == "mumble"
    assert again[3]["content"][0]["text"] == "again please"


def test_a_rewrite_that_cannot_be_used_is_asked_for_once_more():
    critic = scripted(
        "a tall circle",
        "Sure!\n## Refined Request: a wide circle",
        Reply("a circle that is", cut_off=True),
        "# User Request Analysis\na circle",
    )
    critic.limit = 77
    before = Critique(overall=0.5, refined="circle!", raw="the whole reply")
    words = ["too loud", "too short", "too red", "too late"]
    rewrites = critic.rewrite([Objection(CIRCLE, RED, before, w) for w in words])
    assert rewrites == ["a tall circle", "a wide circle", None, None]
    system, user, reply, objection = critic.speaker.chats[1]
    roles = [message["role"] for message in (system, user, reply, objection)]
    assert roles == ["system", "user", "assistant", "user"]
    assert "77 tokens" in user["content"][1]["text"]
    assert reply["content"][0]["text"] == "the whole reply"
    assert "too short" in objection["content"][0]["text"]


def shown(chat):
    """The first pixel of each image in a chat, in order."""
    return [image.getpixel((0, 0)) for image in images_in(chat)]


EDIT = Request("make it blue", source="source.png")
BOTH = [(255, 0, 0), (0, 0, 255)]  # the red source, and the blue image that was made of it


def test_an_edit_is_judged_asked_for_again_and_objected_to_beside_its_source():
    critic = scripted(*["mumble"] * 5)
    critic.judge([EDIT, CIRCLE], [BLUE, RED], [RED, None])
    assert [shown(chat) for chat in critic.speaker.chats] == [BOTH, BOTH[:1]] * 2
    _, user = critic.speaker.chats[0]
    assert [part["type"] for part in user["content"]] == ["image", "image", "text"]
    critic.rewrite([Objection(EDIT, BLUE, Critique(raw="r"), "too short", RED)])
    assert shown(critic.speaker.chats[-1]) == BOTH


def test_a_request_that_edits_needs_its_source():
    with pytest.raises(ValueError, match="zip"):
        scripted().judge([EDIT], [BLUE])


def test_a_request_is_taken_apart_without_an_image():
    question = "1 | object | - | Is there a circle?"
    critic = scripted(question, "hm", "hm", checklist="questions on {request}")
    checklists = critic.take_apart([CIRCLE, Request("a star")])
    assert [len(requirements) for requirements in checklists] == [1, 0]
    first, _, again = critic.speaker.chats
    assert first == [
        {"role": "user", "content": [{"type": "text", "text": "questions on a red circle"}]}
    ]
    assert again[-1]["content"][0]["text"] == "again please"  # the one that was not read


def test_two_images_are_shown_in_the_order_they_are_given():
    critic = scripted("Better: second", comparison="which shows {request} ?")
    assert critic.compare([CIRCLE], [RED], [BLUE]) == [Preference.SECOND]
    (chat,) = critic.speaker.chats
    assert shown(chat) == [(255, 0, 0), (0, 0, 255)]
    assert chat[0]["content"][-1]["text"] == "which shows a red circle ?"


@pytest.mark.parametrize("ask", ["take_apart", "compare"])
def test_a_rubric_without_the_words_to_ask_is_named(ask):
    pictures = ([RED], [BLUE]) if ask == "compare" else ()
    with pytest.raises(UsageError, match="the rubric test has no"):
        getattr(scripted(), ask)([CIRCLE], *pictures)


HISTORY = "{request} after {tried}: best {best}, last {last}!"


def attempt(name, score):
    return Attempt(Candidate("a cat", 0), Critique(overall=score, raw="x"), name)


@pytest.mark.parametrize(
    ("rounds", "shown"),
    [
        ([[("a", 0.9)], [("b", 0.2), ("c", 0.4)]], "ac"),
        ([[("a", 0.1)], [("b", 0.2), ("c", 0.4)]], "c"),
        ([[("a", 0.9)], [("b", None)]], "a"),
        ([[("a", None)]], ""),
    ],
)
def test_a_rewriter_sees_the_best_image_so_far_and_that_of_the_last_round(rounds, shown):
    rounds = [
        Round(i, tuple(attempt(*one) for one in attempts)) for i, attempts in enumerate(rounds)
    ]
    critic = scripted(*["a red cat"] * 3, history=HISTORY, max_pixels=1024)
    run = Run("1", Request("a {best} cat"), rounds=tuple(rounds))
    colours = {name: Image.new("RGB", (64, 64), (ord(name), 0, 0)) for name in "abc"}
    (wording,) = critic.reword([run], gallery=lambda _, name: colours[name])
    assert wording.prompt == "a red cat"
    (chat,) = critic.speaker.chats
    images = images_in(chat)
    assert "".join(chr(image.getpixel((0, 0))[0]) for image in images) == shown
    assert all(image.size == (32, 32) for image in images)
    assert text_of(chat).startswith("a {best} cat after 1. a cat")
    # With room for one image the best is shown, and without a gallery none is.
    critic.speaker.takes_pairs = False
    critic.reword([run], gallery=lambda _, name: colours[name])
    assert len(images_in(critic.speaker.chats[-1])) == len(shown[:1])
    critic.reword([run])
    assert images_in(critic.speaker.chats[-1]) == []


def test_the_last_rounds_images_are_shown_before_anybody_saved_them():
    asked = []
    speaker = FakeSpeaker(lambda chat: asked.append(chat) or READABLE)
    rubric = SHORT.model_copy(update={"history": HISTORY})
    critic = VisionLanguageCritic(speaker, rubric)
    saved = {}
    for step in refine(
        [Run("1", Request("a cat"))],
        FakeGenerator(),
        critic,
        Refine(1, 7),
        StopRule(rounds=3, patience=9),
        gallery=lambda _, name: saved[name],
    ):
        attempts = step.run.rounds[-1].attempts
        saved.update({a.image: i for a, i in zip(attempts, step.images, strict=True)})
    worded = [[seed_of(i) for i in images_in(chat)] for chat in asked if "after" in text_of(chat)]
    assert worded == [[7], [7, 8]]
