"""What the critic is taught is what gcr asks it, and what is trained is what gcr runs."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from gcr import pocket
from gcr.core import guards
from gcr.core.records import Request
from gcr.critic import loading, reply
from gcr.critic.loading import image_processor
from gcr.critic.local import LocalSpeaker
from gcr.critic.rubric import Message
from gcr.critic.speaker import with_images
from gcr.device.memory import SharedDevice
from gcr.pocket import truth, world
from gcr.pocket.language import parse
from pocket_training import critic, eyes, lessons, replies
from pocket_training.captions import describe, fewer, near_miss, say, shifted, spec_of
from pocket_training.critic import Reader
from pocket_training.lessons import IGNORED, Album, Batcher, Example
from pocket_training.pool import render
from pocket_training.session import Plan
from pocket_training.vae import to_model

PLAN = Plan(1, 4, 1.0)
RUBRIC = replies.RUBRIC


@pytest.fixture(scope="module")
def album() -> Album:
    """Renders, every other one as if drawn for what it shows."""
    rng = random.Random("album")
    scenes = [world.sample(rng) for _ in range(24)]
    views = [truth.look(world.draw(scene)) for scene in scenes]
    kinds = [(n, related) for n in range(1, world.MOST + 1) for related in (False, True)]
    return Album(
        render(scenes),
        eyes.labels(scenes),
        views,
        [describe(scene) if i % 2 else None for i, scene in enumerate(scenes)],
        {kind: replies.REWRITES[i % 8] for i, kind in enumerate(kinds)},
    )


@pytest.fixture(scope="module")
def batcher(album: Album) -> Batcher:
    return Batcher(critic.tokenizer(), album, PLAN)


@pytest.fixture(scope="module")
def speaker() -> LocalSpeaker:
    """As much of a speaker as it takes to write down a chat: no weights."""
    bare = object.__new__(LocalSpeaker)
    bare.processor = image_processor(pocket.WEIGHTS / "critic")
    bare.model = SimpleNamespace(dtype=torch.float32)
    bare._images = bare.processor.image_processor
    bare._device = SimpleNamespace(name="cpu")
    bare._template = {}
    return bare


def taught(batcher: Batcher, example: Example) -> list[int]:
    """The tokens that come before what is learned."""
    batch = batcher.tensors([example])
    start = (batch["labels"][0] != IGNORED).nonzero()[0].item()
    return batch["ids"][0, :start].tolist()


def asked(speaker: LocalSpeaker, chat: list[Message], pictures: int = 1) -> list[int]:
    """The tokens of a chat as gcr shows it to a critic."""
    image = world.draw(world.sample(random.Random(0)))
    shown = with_images(chat, [image] * pictures)
    return speaker._inputs([shown])["input_ids"][0].tolist()


def first_turns(album: Album, count: int) -> list[tuple[Example, str]]:
    """Critiques without another turn, and the request of each."""
    rng = random.Random("turns")
    made = []
    while len(made) < count:
        example = lessons.example(album, rng.randrange(len(album.views)), "critique", rng)
        start = f"{lessons.MARK}Request: "
        if example.prompt.startswith(start) and "<critic>" not in example.prompt:
            made.append((example, example.prompt.removeprefix(start)))
    return made


def test_requests_are_learned_in_the_form_in_which_they_are_sent(
    album: Album, batcher: Batcher, speaker: LocalSpeaker
) -> None:
    for example, text in first_turns(album, 12):
        assert taught(batcher, example) == asked(speaker, RUBRIC.messages(Request(text)))


def test_checklists_comparisons_and_questions_are_learned_as_they_are_sent(
    album: Album, batcher: Batcher, speaker: LocalSpeaker
) -> None:
    rng = random.Random("kinds")
    for picture in range(8):
        listed = lessons.example(album, picture, "checklist", rng)
        request = Request(listed.prompt.removeprefix("Checklist: "))
        assert taught(batcher, listed) == asked(speaker, RUBRIC.take_apart(request), 0)
        compared = lessons.example(album, picture, "comparison", rng)
        request = Request(compared.prompt.partition("Compare: ")[2])
        assert taught(batcher, compared) == asked(speaker, RUBRIC.compare(request), 2)
    questions = (lessons.example(album, 0, "critique", rng) for _ in range(200))
    question = next(e for e in questions if e.reply in (" yes", " no"))
    text = question.prompt.removeprefix(lessons.MARK)
    content = [{"type": "image"}, {"type": "text", "text": text}]
    assert taught(batcher, question) == asked(speaker, [{"role": "user", "content": content}])


def test_a_second_turn_is_learned_in_the_form_in_which_it_is_sent(
    album: Album, batcher: Batcher, speaker: LocalSpeaker
) -> None:
    rng = random.Random("second")
    tokenizer = speaker.processor.tokenizer
    objections = again = 0
    for example, text in first_turns(album, 24):
        spec = parse(text)
        way = album.ways[sum(g.count for g in spec.groups), spec.relation is not None]
        turn = lessons.another_turn(example, spec, way, rng)
        before, _, words = turn.prompt.partition("</s><user>")
        draft = before.partition("<critic>")[2]
        chat = RUBRIC.messages(Request(text))
        if turn.reply == example.reply:
            assert example.reply.startswith(draft)
            assert taught(batcher, turn) == asked(speaker, RUBRIC.again(chat, draft))
            again += 1
            continue
        kept = words.rpartition(": ")[2]
        complaint = guards.complaint(Request(text, keep=(kept,)), "something else", lambda _: "")
        raw = tokenizer.decode(tokenizer(example.reply, add_special_tokens=False).input_ids)
        assert taught(batcher, turn) == asked(speaker, RUBRIC.object(chat, raw, complaint))
        refined = reply.read_refined(turn.reply.strip(), RUBRIC)
        assert guards.complaint(Request(text, keep=(kept,)), refined, lambda _: "") == ""
        objections += 1
    assert objections >= 6
    assert again >= 3


def test_a_verdict_is_a_critique_as_far_as_its_first_score(album: Album, batcher: Batcher) -> None:
    for picture in range(12):
        verdict = lessons.example(album, picture, "verdict", random.Random(picture))
        spec = parse(verdict.prompt.removeprefix(f"{lessons.MARK}Request: "))
        way = album.ways[sum(g.count for g in spec.groups), spec.relation is not None]
        whole = replies.write(spec, album.views[picture], way)
        assert whole.startswith(verdict.reply)
        assert reply.read(verdict.reply, RUBRIC).aspects[0] == reply.read(whole, RUBRIC).aspects[0]
        (labels,) = batcher.tensors([verdict])["labels"].tolist()
        assert critic.tokenizer().eos_token_id not in labels


def test_a_shifted_request_asks_for_as_many_things_and_for_others() -> None:
    rng = random.Random("shifted")
    relations = set()
    for _ in range(200):
        scene = world.sample(rng)
        spec = spec_of(scene, rng, noisy=False)
        if len({(g.colour, g.shape, g.size) for g in spec.groups}) < 2:
            continue
        other = shifted(spec, rng)
        relations.add((spec.relation is None, other.relation is None))
        assert parse(say(other)) == other
        view = truth.look(world.draw(scene))
        if truth.compare(spec, view).right:
            assert not truth.compare(other, view).right, (spec, other)
        if bool(spec.groups[0].places) == bool(spec.groups[-1].places):
            assert len(list(other.wanted())) == len(list(spec.wanted()))
    assert relations == {(True, True), (False, False), (False, True)}


def test_a_near_miss_is_another_request() -> None:
    rng = random.Random("missed")
    for _ in range(300):
        spec = spec_of(world.sample(rng), rng, noisy=False)
        missed = near_miss(spec, rng)
        assert missed != spec
        assert parse(say(missed)) == missed


def test_what_decides_between_right_and_too_many_weighs_as_a_verdict() -> None:
    tokenize = critic.tokenizer()
    weighed = set(tokenize.convert_tokens_to_ids(critic.verdicts()))
    assert tokenize.unk_token_id not in weighed
    view = truth.look(world.draw(world.sample(random.Random(3))))
    met = describe(world.Scene(view.canvas, view.things))
    for spec, end in ((met, "\n## Score:"), (fewer(met, random.Random(0)), " Extra:")):
        text = replies.write(spec, view, replies.REWRITES[0])
        account, _, _ = text.partition(end)
        assert account.endswith("right.")
        (decides, *_) = tokenize(text.removeprefix(account), add_special_tokens=False).input_ids
        assert decides in weighed


# The model


@pytest.mark.parametrize("kind", lessons.KINDS)
def test_the_training_forward_is_llavas_own(kind: str, album: Album, batcher: Batcher) -> None:
    torch.manual_seed(0)
    llava = critic.build(len(critic.tokenizer())).eval()
    reader = Reader(llava, eyes.Eyes()).eval()
    rng = random.Random(kind)
    batch = batcher.tensors([lessons.example(album, i, kind, rng) for i in (1, 1, 3)])
    pixels = None
    if "pictures" in batch:
        pixels = to_model(album.pixels[batch["pictures"].flatten()])
    with torch.no_grad():
        seen = None if pixels is None else reader.seer(pixels)
        ours = reader(batch["ids"], batch["at"], seen)
        theirs = llava(input_ids=batch["ids"], pixel_values=pixels).logits
    torch.testing.assert_close(ours, theirs)
    assert (pixels is None) == (kind == "checklist")


def test_pictures_must_stand_in_the_same_places(album: Album, batcher: Batcher) -> None:
    one, two = Example((0,), "<image>a", "b"), Example((0,), "a<image>", "b")
    with pytest.raises(ValueError, match="different places"):
        batcher.tensors([one, two])


def test_what_is_rounded_in_training_is_what_runs_in_four_bits() -> None:
    from bitsandbytes.nn import Linear4bit

    model = critic.build(len(critic.tokenizer()))
    trained = {id(weight) for weight in critic.in_four_bits(model)}
    names = {name for name, weight in model.named_parameters() if id(weight) in trained}
    shipped, _ = loading.load("pocket:critic", SharedDevice("cpu"), "nf4")
    run = {
        f"{name}.weight" for name, part in shipped.named_modules() if isinstance(part, Linear4bit)
    }
    assert names == run
    assert len(run) == 4 * 7
