"""Replies are the same words whether what they go on from was read already or not."""

import random
from dataclasses import replace

import pytest
import torch
from replies import FAIR, IMAGES, REQUESTS

from gcr.critic import critic as critics
from gcr.critic import local, rubric
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.speaker import Decoding
from gcr.device.memory import SharedDevice
from gcr.pocket import world

CPU = SharedDevice("cpu")
QUESTIONS = ["is there a red circle ?", "a blue", "is there a blue square there ?", "circle ?"]
OTHER = FAIR.model_copy(update={"system": "be harsh"})
DECODING = Decoding(max_new_tokens=24, numbers=True)


def speaker_of(loaded, *, spared=True):
    speaker = local.LocalSpeaker(*loaded, CPU, batch=3)
    speaker._prefix._serves &= spared
    return speaker


def chats_of(speaker, requests, sources=(None,) * 3, rubric=FAIR):
    requests = [replace(r, source="s" if s else "") for r, s in zip(requests, sources, strict=True)]
    return VisionLanguageCritic(speaker, rubric)._chats(requests, IMAGES, sources)


def tokens_read(speaker, chats):
    """How many tokens of each row every call of the model was given, up to the first new one."""
    read = []

    def count(_model, _arguments, inputs):
        read.append(inputs["input_ids"].shape[1])

    hook = speaker.model.register_forward_pre_hook(count, with_kwargs=True)
    with hook:
        speaker.replies(chats, replace(DECODING, max_new_tokens=1))
    return read


def assert_same(replies, expected):
    for said, meant in zip(replies, expected, strict=True):
        assert said.text == meant.text != ""
        for number, other in zip(said.numbers, meant.numbers, strict=True):
            assert number.at == other.at
            assert number.chances == pytest.approx(other.chances, abs=1e-5)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
@pytest.mark.parametrize("sources", [(None,) * 3, IMAGES[::-1]], ids=["drawn", "edited"])
def test_replies_are_the_same(loaded, quantize, sources):
    model = loaded("qwen3_vl", quantize)
    spared, whole = speaker_of(model), speaker_of(model, spared=False)
    chats = chats_of(spared, REQUESTS, sources)
    expected = whole.replies(chats, DECODING)
    for _ in range(2):
        assert_same(spared.replies(chats, DECODING), expected)
    alone = [spared.replies([chat], DECODING)[0].text for chat in chats]
    assert alone == [reply.text for reply in expected]


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_the_next_token_is_as_likely(loaded, quantize):
    speaker = speaker_of(loaded("qwen3_vl", quantize))
    inputs = speaker._inputs(chats_of(speaker, REQUESTS))
    how = {"max_new_tokens": 8, "output_logits": True, "return_dict_in_generate": True}
    with torch.inference_mode():
        spared = speaker.model.generate(**speaker._prefix.spared(inputs), **how)
        whole = speaker.model.generate(**inputs, **how)
    for one, other in zip(spared.logits, whole.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_rubric_is_read_once(loaded):
    speaker = speaker_of(loaded("qwen3_vl"))
    chats = chats_of(speaker, REQUESTS)
    length = speaker._inputs(chats)["input_ids"].shape[1]
    opening, rest = tokens_read(speaker, chats)
    assert opening > len(FAIR.system)
    assert opening + rest == length
    assert tokens_read(speaker, chats) == [rest]
    harsh = chats_of(speaker, REQUESTS, rubric=OTHER)
    assert len(tokens_read(speaker, harsh)) == 2
    whole = speaker_of((speaker.model, speaker.processor), spared=False)
    assert_same(speaker.replies(harsh, DECODING), whole.replies(harsh, DECODING))


def test_chats_that_share_no_opening_are_read_whole(loaded):
    speaker = speaker_of(loaded("qwen3_vl"))
    mild, harsh = (chats_of(speaker, REQUESTS, rubric=rubric) for rubric in (FAIR, OTHER))
    assert len(tokens_read(speaker, [mild[0], harsh[1]])) == 1
    blind = [{"role": "user", "content": [{"type": "text", "text": "is there a red circle ?"}]}]
    assert len(tokens_read(speaker, [blind])) == 1


def test_other_families_are_read_whole(loaded):
    speaker = speaker_of(loaded("llava"))
    assert len(tokens_read(speaker, chats_of(speaker, REQUESTS))) == 1


SAMPLED = replace(DECODING, temperature=1.0, seed=3)
ROWS = (0, 0, 0, 1, 2, 2)


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
@pytest.mark.parametrize("spared", [True, False])
@pytest.mark.parametrize("sources", [(None,) * 3, IMAGES[::-1]], ids=["drawn", "edited"])
def test_samples_of_one_chat_are_those_of_chats_that_are_read_one_by_one(
    loaded, family, spared, sources
):
    speaker = speaker_of(loaded(family), spared=spared)
    speaker.ladder.size = len(ROWS)
    chats = chats_of(speaker, REQUESTS, sources)
    apart = [list(chats[i]) for i in ROWS]  # equal, and no two of them one object
    expected = speaker.replies(apart, SAMPLED)
    together = speaker.replies([chats[i] for i in ROWS], SAMPLED)
    assert_same(together, expected)
    assert len({reply.text for reply in together[:3]}) > 1
    assert vars(speaker.model).get("forward") is None  # the model is as it was


def test_a_chat_of_several_samples_is_read_once(loaded):
    speaker = speaker_of(loaded("llava"))
    speaker.ladder.size = 4
    (chat, *_) = chats_of(speaker, REQUESTS)
    rows = []

    def count(_model, _arguments, inputs):
        rows.append(inputs["input_ids"].shape[0])

    with speaker.model.model.register_forward_pre_hook(count, with_kwargs=True):
        speaker.replies([chat] * 4, replace(SAMPLED, max_new_tokens=3))
    assert rows == [1, 4, 4]


def test_the_first_chat_of_several_samples_brings_an_opening_that_is_read_apart(loaded):
    whole, spared = (speaker_of(loaded("qwen3_vl"), spared=spared) for spared in (False, True))
    (chat, *_) = chats_of(spared, REQUESTS)
    assert_same(spared.replies([chat] * 2, DECODING), whole.replies([chat] * 2, DECODING))


def test_samples_go_in_smaller_batches_where_memory_is_short(loaded):
    speaker = speaker_of(loaded("llava"))
    chats = chats_of(speaker, REQUESTS)
    speaker.ladder.size = 4  # three samples each: batches hold the end of one and begin another
    replies = speaker.replies([chat for chat in chats for _ in range(3)], SAMPLED)
    assert len(replies) == 9
    assert all(reply.text for reply in replies)


def asked_of(speaker, images):
    """Each question about each image, as a critic asks them."""
    critic = VisionLanguageCritic(speaker, FAIR)
    pairs = [(image, question) for image in images for question in QUESTIONS]
    return critic.answer([image for image, _ in pairs], [question for _, question in pairs])


def apart(speaker, monkeypatch):
    """The same speaker, with each question's image read for itself."""
    monkeypatch.setattr(local, "can_continue", lambda _: False)
    return local.LocalSpeaker(speaker.model, speaker.processor, CPU, batch=3)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_answers_are_the_same_where_an_image_is_read_once_for_its_questions(
    loaded, family, quantize, monkeypatch
):
    speaker = speaker_of(loaded(family, quantize))
    speaker._questions.size = 3  # so that the last of an image go on alone
    answers, used = asked_of(speaker, IMAGES), speaker.used
    assert vars(speaker.model).get("forward") is None
    whole = apart(speaker, monkeypatch)
    assert answers == pytest.approx(asked_of(whole, IMAGES), abs=1e-5)
    assert len(set(answers)) == len(answers)
    assert used.written == whole.used.written
    assert used.read < whole.used.read


def test_the_embedded_critic_answers_the_same(monkeypatch):
    speaker = critics.load("pocket:critic", rubric.load("pocket"), CPU).speaker
    images = [world.draw(world.sample(random.Random(seed))) for seed in range(2)]
    answers = asked_of(speaker, images)
    assert answers == pytest.approx(asked_of(apart(speaker, monkeypatch), images), abs=1e-4)


def test_an_image_is_read_once_for_its_questions(loaded):
    speaker = speaker_of(loaded("llava"))
    calls = []

    def count(_model, _arguments, inputs):
        calls.append((*inputs["input_ids"].shape, inputs.get("pixel_values") is not None))

    with speaker.model.register_forward_pre_hook(count, with_kwargs=True):
        asked_of(speaker, IMAGES[:1])
    (whole,) = calls
    assert whole[0] == len(QUESTIONS)
    calls.clear()
    with speaker.model.model.register_forward_pre_hook(count, with_kwargs=True):
        asked_of(speaker, IMAGES[:1])
    (rows, opening, _), (all_rows, rest, _) = calls
    assert (rows, all_rows) == (1, len(QUESTIONS))
    assert opening + rest == whole[1]
    assert rest < opening


def test_a_family_that_cannot_go_on_from_an_image_is_told_of_once(loaded, monkeypatch, caplog):
    speaker = speaker_of(loaded("llava"))
    answers = asked_of(speaker, IMAGES)
    whole = apart(speaker, monkeypatch)
    for _ in range(2):
        assert asked_of(whole, IMAGES) == pytest.approx(answers, abs=1e-5)
    assert caplog.text.count("reads an image anew for each question about it") == 1


def test_questions_that_differ_before_their_image_are_asked_for_themselves(loaded, monkeypatch):
    speaker = speaker_of(loaded("qwen3_vl"))
    mild, harsh = (chats_of(speaker, REQUESTS, rubric=rubric) for rubric in (FAIR, OTHER))
    both = [mild[0], harsh[0]]
    image = mild[0][-1]["content"][0]
    both[1][-1]["content"] = [image, *both[1][-1]["content"][1:]]
    answers = speaker.yes(both)
    assert answers == pytest.approx(apart(speaker, monkeypatch).yes(both), abs=1e-5)
