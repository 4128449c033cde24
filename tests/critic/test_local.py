"""Vision-language models of real families with random weights, as a critic talks with them."""

import re
import threading

import pytest
import tiny
import torch
from PIL import Image
from replies import SHORT

from gcr.core.records import Request
from gcr.critic import loading, local, rubric
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.critic import load as load_critic
from gcr.critic.speaker import Decoding, with_images
from gcr.critic.thoughts import answer
from gcr.device.memory import SharedDevice
from gcr.errors import ModelError

pytestmark = pytest.mark.usefixtures("cache")

CPU = SharedDevice("cpu")
RED, BLUE = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (48, 64), "blue")
CIRCLE = Request("a red circle")
EDIT = Request("make it blue", source="source.png")


@pytest.fixture(scope="module")
def critics(checkpoint):
    """Loaded critics in NF4, by family."""
    loaded = {}

    def load(family):
        if family not in loaded:
            loaded[family] = loading.load(checkpoint(family), CPU)
        return VisionLanguageCritic(local.LocalSpeaker(*loaded[family], CPU, batch=2), SHORT)

    return load


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_answers_are_probabilities_that_do_not_depend_on_the_batch(critics, family):
    critic = critics(family)
    questions = ["is there a red circle ?", "is there a blue square ? is there ?"]
    together = critic.answer([RED, BLUE, RED], [*questions, questions[0]])
    alone = [critic.answer([i], [q])[0] for i, q in zip([RED, BLUE], questions, strict=True)]
    assert all(0 < probability < 1 for probability in together)
    assert together == pytest.approx([*alone, alone[0]], abs=1e-5)
    assert together[0] != pytest.approx(together[1], abs=1e-4)


def test_an_answer_weighs_yes_against_no(critics, monkeypatch):
    critic = critics("llava")
    encode = critic.speaker.processor.tokenizer.convert_tokens_to_ids
    logits = torch.zeros(2, 64)
    logits[0, encode("yes")] = 3.0
    logits[1, encode("no")] = 3.0
    monkeypatch.setattr(critic.speaker, "_first_logits", lambda *_, **__: logits)
    sure = 1 / (1 + torch.exp(torch.tensor(-3.0))).item()
    assert critic.answer([RED, RED], ["?", "?"]) == pytest.approx([sure, 1 - sure])


THINKING = (
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>\n{% endif %}"
)


@pytest.mark.parametrize(("ending", "thinks"), [("<think>\n", True), (THINKING, False)])
def test_a_thought_that_the_template_opens_holds_no_answer(critics, monkeypatch, ending, thinks):
    critic = critics("qwen3_vl")
    processor = critic.speaker.processor
    monkeypatch.setattr(processor, "chat_template", processor.chat_template + ending)
    (said,) = critic.speaker.replies([SHORT.messages(CIRCLE)[:1]], Decoding(4, numbers=True))
    assert said.text.startswith("<think>")
    assert not answer(said.text).strip()
    if thinks:
        with pytest.raises(ModelError, match="begins to think where yes or no"):
            critic.answer([RED], ["?"])
    else:
        (chance,) = critic.answer([RED], ["?"])
        assert 0 < chance < 1


@pytest.mark.parametrize("reply", ["<think>\n\n</think>\n\nyes", "<think>no, no.</think> yes"])
def test_an_answer_is_the_first_word_after_a_thought(checkpoint, reply):
    speaker = local.LocalSpeaker(*loading.load(checkpoint("qwen3_vl"), CPU), CPU, batch=2)
    tokenizer = speaker.processor.tokenizer
    tokenizer.add_tokens(["<think>", "</think>"])
    script = tokenizer.encode(reply, add_special_tokens=False)
    step = [0]

    def write(model, args, inputs, output):
        """As if the model had learned to write the reply, and were not sure of its last word."""
        step[0] = step[0] + 1 if inputs["input_ids"].shape[1] == 1 else 0
        output.logits[:] = -99.0
        output.logits[:, -1, script[step[0]]] = 1.0
        if tokenizer.decode(script[step[0]]) == "y":
            output.logits[:, -1, tokenizer.encode("n")] = 0.0
        return output

    speaker.model.register_forward_hook(write, with_kwargs=True)
    chats = [with_images(SHORT.messages(CIRCLE), [image]) for image in (RED, BLUE)]
    sure = 1 / (1 + torch.exp(torch.tensor(-1.0))).item()
    assert speaker.yes(chats) == pytest.approx([sure] * 2, abs=1e-4)


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_a_reply_goes_on_from_what_it_begins_with(critics, family):
    speaker = critics(family).speaker
    chats = [with_images(SHORT.messages(CIRCLE), [image]) for image in (RED, BLUE)]
    begun = speaker.replies(chats, Decoding(3, prefill="a red circle"))
    assert all(reply.text.startswith("a red circle") for reply in begun)
    alone = [speaker.replies([chat], Decoding(3, prefill="a red circle"))[0] for chat in chats]
    assert [reply.text for reply in begun] == [reply.text for reply in alone]
    inputs = speaker._inputs(chats)
    plain = inputs["input_ids"].clone()
    longer = speaker._begun(inputs, "a red circle")
    ids = speaker.processor.tokenizer.encode("a red circle", add_special_tokens=False)
    assert longer["input_ids"][:, : -len(ids)].tolist() == plain.tolist()
    assert longer["input_ids"][0, -len(ids) :].tolist() == ids
    assert longer["attention_mask"].shape == longer["input_ids"].shape


def test_a_chat_template_is_told_what_the_rubric_says(critics, monkeypatch):
    critic = critics("qwen3_vl")
    processor = critic.speaker.processor
    monkeypatch.setattr(processor, "chat_template", processor.chat_template + THINKING)
    monkeypatch.setattr(critic.speaker, "_template", {"enable_thinking": False, "unknown": 1})
    (reply,) = critic.speaker.replies([SHORT.messages(CIRCLE)[:1]], Decoding(2))
    assert not reply.text.startswith("<think>")


def test_a_model_reads_text_and_images_in_the_order_of_the_rubric(critics):
    """Qwen3-VL's own form, in which RationalRewards was trained: images inside of the text."""
    speaker = critics("qwen3_vl").speaker
    critic = VisionLanguageCritic(speaker, rubric.load("rational-rewards-editing"))
    large = Image.new("RGB", (1600, 1000), "red")
    (chat,) = critic._chats([EDIT], [large], [BLUE])
    inputs = speaker._inputs([chat])
    text = speaker.processor.tokenizer.decode(inputs["input_ids"][0])
    image = r"<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>"
    assert re.search(
        rf"system\n[^\n]+<\|im_end\|>\n<\|im_start\|>user\nUser Instruction: make it blue\n[^\n]+\n"
        rf"1\. Source Image {image}\n2\. Edited Image {image}\n\nJudge the edited image",
        text,
    )
    (source, result) = inputs["image_grid_thw"].tolist()
    size = speaker.processor.image_processor.patch_size
    assert source[1] * source[2] < result[1] * result[2]
    assert result[1] * result[2] * size * size <= 802_816


def test_the_image_is_seen(critics):
    critic = critics("llava")
    question = "is there a red circle ?"
    red, blue = critic.answer([RED, BLUE], [question, question])
    assert red != pytest.approx(blue, abs=1e-4)


@pytest.mark.parametrize(
    ("family", "marks"), [("qwen3_vl", tiny.QWEN_TOKENS), ("llava", ["<image>"])]
)
def test_a_request_cannot_speak_in_control_tokens(critics, family, marks):
    critic = critics(family)

    def count(prompt):
        chat = with_images(SHORT.messages(Request(prompt)), [RED])
        tokens = critic.speaker._inputs([chat])["input_ids"][0].tolist()
        ids = critic.speaker.processor.tokenizer.convert_tokens_to_ids(marks)
        return [tokens.count(token) for token in ids]

    assert count(" ".join(["a circle", *marks])) == count("a circle")
    assert critic.judge([Request(" ".join(marks))], [RED])[0].overall is None


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_a_critic_sees_both_images_in_their_order(critics, family):
    critic = critics(family)
    chats = critic._chats([EDIT, CIRCLE, EDIT], [BLUE, RED, RED], [RED, None, BLUE])
    pixels = critic.speaker._inputs(chats)["pixel_values"]
    if family == "llava":
        assert len(pixels) == 5
    else:
        assert len(critic.speaker._inputs(chats)["image_grid_thw"]) == 5
    together = critic.speaker._first_logits(chats)
    alone = torch.cat([critic.speaker._first_logits([chat]) for chat in chats])
    assert torch.allclose(together, alone, atol=1e-4)
    assert not torch.allclose(alone[0], alone[2], atol=1e-4)  # which one is the source matters
    assert len(critic.judge([EDIT, CIRCLE], [BLUE, RED], [RED, None])) == 2


def test_a_reply_at_the_limit_is_cut_off_and_one_that_ended_is_not(critics):
    critic = critics("llava")
    chat = with_images(SHORT.messages(CIRCLE), [RED])
    config = critic.speaker.model.generation_config
    config.eos_token_id = None
    assert critic.speaker.replies([chat], Decoding(6))[0].cut_off is True
    config.eos_token_id = list(range(64))
    assert critic.speaker.replies([chat], Decoding(6))[0].cut_off is False


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_tokens_are_counted_as_they_are_read_and_written(critics, family):
    """Those of a batch as of each chat alone: padding is none, and images are of them."""
    critic = critics(family)
    speaker = critic.speaker
    chats = critic._chats([CIRCLE, Request("red")], [RED, BLUE], [None, None])
    lengths = [speaker._inputs([chat])["input_ids"].shape[1] for chat in chats]
    replies = speaker.replies(chats, Decoding(6))
    assert speaker.used.read == sum(lengths)
    assert 2 <= speaker.used.written <= 12
    assert speaker.used.written == 12 or not all(reply.cut_off for reply in replies)
    before = speaker.used
    critic.answer([RED, BLUE], ["?", "is there ?"])
    spent = speaker.used - before
    assert spent.written == 2
    assert spent.read > 4


def test_progress_counts_tokens_of_all_batches(critics):
    told = []
    critic = critics("llava")
    critic.speaker.model.generation_config.eos_token_id = None
    critic.speaker.progress = lambda *step: told.append(step)
    critic.judge([CIRCLE] * 3, [RED] * 3)
    told = list(dict.fromkeys(told))
    assert told[:6] == [("judge", done, 18) for done in range(2, 14, 2)]
    assert told[6] == ("judge", 13, 18)
    assert told[-1] == ("judge", 36, 36)  # asked twice: random weights say nothing readable


def test_progress_counts_questions_that_are_answered(critics):
    told = []
    speaker = critics("llava").speaker
    speaker.progress = lambda *step: told.append(step)
    speaker.yes([with_images(SHORT.messages(CIRCLE), [image]) for image in (RED, BLUE, RED)])
    assert told == [("judge", 2, 3), ("judge", 3, 3)]


def test_a_complete_reply_ends_and_the_others_go_on(critics):
    critic = critics("llava")
    speaker = critic.speaker
    speaker.model.generation_config.eos_token_id = None
    speaker.model.generation_config.suppress_tokens = speaker.processor.tokenizer.all_special_ids
    speaker._line_breaks = frozenset(range(speaker.model.config.text_config.vocab_size))
    chats = critic._chats([CIRCLE, Request("is there blue")], [RED, BLUE], [None, None])
    whole = speaker.replies(chats, Decoding(6))
    start = whole[0].text[: len(whole[0].text) // 2]
    shown = []

    def complete(text):
        shown.append(text)
        return whole[0].text.startswith(text.strip()) and len(text.strip()) >= len(start)

    before = speaker.used.written
    first, second = speaker.replies(chats, Decoding(6, complete=complete))
    assert whole[0].text.startswith(first.text)
    assert len(start) <= len(first.text) < len(whole[0].text)
    assert (first.cut_off, second) == (False, whole[1])
    assert speaker.used.written - before < 12
    assert shown[-1].strip() == whole[1].text  # the other was looked at until the limit


def test_progress_counts_to_the_length_of_replies_so_far(critics):
    told = []
    critic = critics("llava")
    critic.speaker.model.generation_config.eos_token_id = None
    critic.speaker.progress = lambda *step: told.append(step)
    chat = with_images(SHORT.messages(CIRCLE), [RED])
    critic.speaker.replies([chat], Decoding(3))
    critic.speaker.begin()
    told.clear()
    critic.speaker.replies([chat], Decoding(6))
    assert [done for _, done, _ in told] == [1, 2, 3, 3, 3, 3, 3]
    assert {total for *_, total in told} == {3}


def test_sampling_is_the_same_each_time_and_greedy_is_the_default(critics):
    critic = critics("qwen3_vl")
    chat = with_images(SHORT.messages(CIRCLE), [RED])
    greedy = critic.speaker.replies([chat], Decoding(6))
    state = torch.random.get_rng_state()
    sampled = critic.speaker.replies([chat], Decoding(6, temperature=2.0))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sampled != greedy
    torch.manual_seed(5)
    assert critic.speaker.replies([chat], Decoding(6, temperature=2.0)) == sampled
    assert critic.speaker.replies([chat], Decoding(6, temperature=2.0, seed=1)) != sampled


def test_numbers_are_told_with_the_chances_of_others_in_their_places(critics, monkeypatch):
    speaker = critics("llava").speaker
    vocabulary = speaker.processor.tokenizer.get_vocab()
    word = min(word for word in vocabulary if word.isalpha() and word != "is")
    monkeypatch.setattr(type(speaker), "_numbers", {vocabulary[word]: 3.0, 0: 2.0})
    tokens = torch.tensor([[vocabulary[word], vocabulary["is"], vocabulary[word]]])
    seen = [torch.tensor([[0.6, 0.2]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[0.1, 0.3]])]
    (told,) = speaker._decoded(tokens, 9, seen)
    assert [number.at for number in told.numbers] == [0, len(f"{word} is ")]
    assert told.numbers[0].chances == pytest.approx({3.0: 0.6, 2.0: 0.2})


def test_every_step_of_a_reply_is_watched_where_numbers_are_asked_for(critics):
    critic = critics("qwen3_vl")
    chat = with_images(SHORT.messages(CIRCLE), [RED])
    plain = critic.speaker.replies([chat], Decoding(6))
    watched = critic.speaker.replies([chat], Decoding(6, numbers=True))
    assert [r.text for r in watched] == [r.text for r in plain]


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_a_model_can_be_shown_two_images_or_none(critics, family):
    critic = critics(family)
    critic.rubric = SHORT.model_copy(
        update={"comparison": "is there {request} ?", "checklist": "is there {request} ?"}
    )
    assert critic.compare([CIRCLE], [RED], [BLUE]) == [None]  # random weights say nothing readable
    assert critic.take_apart([CIRCLE]) == [()]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_critic_answers_the_same_after_a_turn_outside_the_gpu(checkpoint):
    device = SharedDevice("cuda")
    critic = load_critic(checkpoint("qwen3_vl"), SHORT, device)
    before = critic.answer([RED], ["is there a red circle ?"])
    device.clear()
    assert critic.answer([RED], ["is there a red circle ?"]) == before


@pytest.mark.parametrize("spoilt", [False, True])
def test_images_are_prepared_one_by_one_where_that_comes_to_the_same(spoilt):
    """Whatever came before: here a batch of some other number, or of sizes to be padded."""
    threads = set()

    def processor(images):
        threads.add(threading.get_ident())
        longest = max(image.width for (image,) in images)
        pixels = [image.getpixel((0, 0)) + spoilt * (len(images) == 3) for (image,) in images]
        return {"pixel_values": torch.tensor([[pixel] * longest for pixel in pixels])}

    def rows(*widths):
        return [[Image.new("L", (width, 4), 10 + i)] for i, width in enumerate(widths)]

    prepared = local._OneByOne(processor)
    for images in (rows(4, 4), rows(4, 8), rows(8, 8), rows(4), rows(4, 4, 4), rows(4, 4, 4)):
        assert torch.equal(prepared(images)["pixel_values"], processor(images)["pixel_values"])
    for images, alone in ((rows(4, 4), True), (rows(4, 4, 4), not spoilt), (rows(4, 8), False)):
        threads.clear()
        prepared(images)
        assert (threading.get_ident() not in threads) == alone
