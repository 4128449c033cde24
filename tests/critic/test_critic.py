"""Vision-language models of real families with random weights. What they say is staged."""

import logging
import os
import shutil

import pytest
import tiny
import torch
from fakes import FakeSpeaker, images_in
from PIL import Image

from gcr.core.records import Critique, Objection, Preference, Request
from gcr.critic import loading, local, quantized
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.critic import load as load_critic
from gcr.critic.rubric import Rubric
from gcr.critic.speaker import Decoding, Reply, with_images
from gcr.critic.thoughts import answer
from gcr.device.memory import SharedDevice
from gcr.errors import ModelError, UsageError

CPU = SharedDevice("cpu")
RUBRIC = Rubric(
    name="test",
    description="",
    aspects=("Text Faithfulness",),
    system="be fair",
    template="is there {request} ?",
    complaint="again please",
    max_new_tokens=6,
)
READABLE = "# Detailed Judgement\n1. Text Faithfulness:\n## Score: 2.5\n# Summary: fine\n"
RED, BLUE = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (48, 64), "blue")
CIRCLE = Request("a red circle")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Copies of this test's own."""
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "critics"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Folders of tiny checkpoints, by family, each built once."""
    folders = {}

    def build(family, **settings):
        key = (family, *settings.items())
        if key not in folders:
            torch.manual_seed(0)
            folders[key] = getattr(tiny, family)(tmp_path_factory.mktemp(family) / "m", **settings)
        return str(folders[key])

    return build


@pytest.fixture(scope="module")
def critics(checkpoint):
    """Loaded critics in NF4, by family."""
    loaded = {}

    def load(family):
        if family not in loaded:
            loaded[family] = loading.load(checkpoint(family), CPU)
        return VisionLanguageCritic(local.LocalSpeaker(*loaded[family], CPU, batch=2), RUBRIC)

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
    monkeypatch.setattr(critic.speaker, "_first_logits", lambda chats: logits)
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
    (said,) = critic.speaker.replies([RUBRIC.messages(CIRCLE)[:1]], Decoding(4, numbers=True))
    assert said.text.startswith("<think>")
    assert not answer(said.text).strip()
    if thinks:
        with pytest.raises(ModelError, match="begins to think where yes or no"):
            critic.answer([RED], ["?"])
    else:
        (chance,) = critic.answer([RED], ["?"])
        assert 0 < chance < 1


def test_the_image_is_seen(critics):
    critic = critics("llava")
    question = "is there a red circle ?"
    red, blue = critic.answer([RED, BLUE], [question, question])
    assert red != pytest.approx(blue, abs=1e-4)


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_only_the_language_model_is_quantized(critics, family):
    model = critics(family).speaker.model
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    four_bit = {name for name, kind in kinds.items() if kind == "Linear4bit"}
    plain = {name for name, kind in kinds.items() if kind == "Linear"}
    assert four_bit
    assert all(".language_model.layers." in name for name in four_bit)
    assert "lm_head" in plain
    assert any("vis" in name for name in plain)
    assert not any("language_model" in name for name in plain)


def test_layers_that_the_kernels_cannot_tile_stay_as_they_are(checkpoint):
    folder = checkpoint("llava", inner=100)
    critic = VisionLanguageCritic(local.LocalSpeaker(*loading.load(folder, CPU), CPU), RUBRIC)
    kinds = {n.split(".")[-1]: type(m).__name__ for n, m in critic.speaker.model.named_modules()}
    assert kinds["gate_proj"] == kinds["down_proj"] == "Linear"
    assert kinds["q_proj"] == "Linear4bit"
    assert len(critic.judge([CIRCLE], [RED])) == 1


@pytest.mark.parametrize(
    ("family", "marks"), [("qwen3_vl", tiny.QWEN_TOKENS), ("llava", ["<image>"])]
)
def test_a_request_cannot_speak_in_control_tokens(critics, family, marks):
    critic = critics(family)

    def count(prompt):
        chat = with_images(RUBRIC.messages(Request(prompt)), [RED])
        tokens = critic.speaker._inputs([chat])["input_ids"][0].tolist()
        ids = critic.speaker.processor.tokenizer.convert_tokens_to_ids(marks)
        return [tokens.count(token) for token in ids]

    assert count(" ".join(["a circle", *marks])) == count("a circle")
    assert critic.judge([Request(" ".join(marks))], [RED])[0].overall is None


def scripted(*replies, **texts):
    """A critic whose model says these one after the other. texts: of its rubric."""
    left = iter(replies)
    rubric = RUBRIC.model_copy(update=texts)
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


def test_a_request_that_edits_needs_its_source(critics):
    with pytest.raises(ValueError, match="zip"):
        critics("qwen3_vl").judge([EDIT], [BLUE])


def test_a_reply_at_the_limit_is_cut_off_and_one_that_ended_is_not(critics):
    critic = critics("llava")
    chat = with_images(RUBRIC.messages(CIRCLE), [RED])
    config = critic.speaker.model.generation_config
    config.eos_token_id = None
    assert critic.speaker.replies([chat], Decoding(6))[0].cut_off is True
    config.eos_token_id = list(range(64))
    assert critic.speaker.replies([chat], Decoding(6))[0].cut_off is False


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


def test_sampling_is_the_same_each_time_and_greedy_is_the_default(critics):
    critic = critics("qwen3_vl")
    chat = with_images(RUBRIC.messages(CIRCLE), [RED])
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
    chat = with_images(RUBRIC.messages(CIRCLE), [RED])
    plain = critic.speaker.replies([chat], Decoding(6))
    watched = critic.speaker.replies([chat], Decoding(6, numbers=True))
    assert [r.text for r in watched] == [r.text for r in plain]


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


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_a_model_can_be_shown_two_images_or_none(critics, family):
    critic = critics(family)
    critic.rubric = RUBRIC.model_copy(
        update={"comparison": "is there {request} ?", "checklist": "is there {request} ?"}
    )
    assert critic.compare([CIRCLE], [RED], [BLUE]) == [None]  # random weights say nothing readable
    assert critic.take_apart([CIRCLE]) == [()]


@pytest.mark.parametrize("ask", ["take_apart", "compare"])
def test_a_rubric_without_the_words_to_ask_is_named(critics, ask):
    pictures = ([RED], [BLUE]) if ask == "compare" else ()
    with pytest.raises(UsageError, match="the rubric test has no"):
        getattr(critics("llava"), ask)([CIRCLE], *pictures)


def answers(loaded):
    return VisionLanguageCritic(local.LocalSpeaker(*loaded, CPU), RUBRIC).answer(
        [RED], ["is there a red circle ?"]
    )


def forbid(monkeypatch):
    """From here on, nothing may be quantized."""

    def fail(*_):
        raise AssertionError("quantized again")

    monkeypatch.setattr(quantized, "nf4", fail)


@pytest.fixture(params=[False, True], ids=["head", "tied"])
def kept(checkpoint, cache, monkeypatch, request):
    """A checkpoint whose copy was just written, that copy, and what the fresh model answers."""
    monkeypatch.setattr(quantized, "WORTH_KEEPING", 0)
    model = checkpoint("qwen3_vl", tied=request.param)
    fresh = answers(loading.load(model, CPU))
    (copy,) = cache.iterdir()
    return model, copy, fresh


def test_the_second_load_reads_the_quantized_copy_and_says_the_same(repacks, kept, monkeypatch):
    """The first has run by then, which may have repacked its weights: that is not what is kept."""
    model, copy, fresh = kept
    assert quantized.is_whole(copy)
    forbid(monkeypatch)
    assert answers(loading.load(model, CPU)) == fresh


def test_a_copy_that_is_cut_short_is_made_again(kept):
    model, copy, fresh = kept
    weights = copy / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    assert not quantized.is_whole(copy)
    assert answers(loading.load(model, CPU)) == fresh
    assert quantized.is_whole(copy)


def test_a_copy_that_is_damaged_is_made_again_and_said(kept, caplog, monkeypatch):
    model, copy, fresh = kept
    weights = copy / "model.safetensors"
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    with caplog.at_level(logging.WARNING):
        assert answers(loading.load(model, CPU)) == fresh
    assert "quantizing" in caplog.text
    forbid(monkeypatch)
    assert answers(loading.load(model, CPU)) == fresh


def test_a_changed_checkpoint_has_another_copy(kept, cache, tmp_path):
    model, copy, _ = kept
    changed = tmp_path / "changed"
    shutil.copytree(model, changed)
    os.utime(changed / "model.safetensors", (1, 1))
    loading.load(str(changed), CPU)
    assert {copy} < set(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_only_a_warning(
    checkpoint, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(quantized, "WORTH_KEEPING", 0)
    (tmp_path / "file").touch()
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert loading.load(checkpoint("llava"), CPU)
    assert "not kept" in caplog.text


def test_nothing_unfinished_is_left_in_the_cache(kept, cache, monkeypatch):
    model, copy, _ = kept
    shutil.rmtree(copy)

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    loading.load(model, CPU)
    assert list(cache.iterdir()) == []


def test_without_quantizing_nothing_is_kept(checkpoint, cache, monkeypatch):
    monkeypatch.setattr(quantized, "WORTH_KEEPING", 0)
    model, _ = loading.load(checkpoint("llava"), CPU, "none")
    assert not any(type(module).__name__ == "Linear4bit" for module in model.modules())
    assert not cache.exists()


def test_a_model_without_eyes(tmp_path):
    model = str(tiny.text_only(tmp_path / "text"))
    with pytest.raises(ModelError, match="cannot see images: it is a llama model") as caught:
        load_critic(model, RUBRIC, CPU)
    assert "vision-language" in caught.value.hint


def test_a_model_without_a_chat_template(checkpoint, tmp_path):
    folder = tmp_path / "mute"
    shutil.copytree(checkpoint("qwen3_vl"), folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load_critic(str(folder), RUBRIC, CPU)


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"it has no config\.json"):
        load_critic(str(tmp_path), RUBRIC, CPU)


def test_weights_of_another_shape_than_the_config(checkpoint, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(checkpoint("llava", inner=100), folder)
    shutil.copy(checkpoint("llava") + "/config.json", folder)
    with pytest.raises(ModelError, match=r"weights of .* cannot be loaded"):
        load_critic(str(folder), RUBRIC, CPU, quantize="none")


def test_weights_that_are_missing_are_not_made_up(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "holes"
    shutil.copytree(checkpoint("llava"), folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "q_proj" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of its weights, such as .*q_proj"):
        load_critic(str(folder), RUBRIC, CPU)


@pytest.mark.parametrize("error", [ImportError("none"), RuntimeError("torchvision::nms")])
def test_torchvision_that_does_not_import_is_done_without(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(loading, "import_module", fail)
    assert not loading.torchvision_imports()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_critic_answers_the_same_after_a_turn_outside_the_gpu(checkpoint):
    device = SharedDevice("cuda")
    critic = load_critic(checkpoint("qwen3_vl"), RUBRIC, device)
    before = critic.answer([RED], ["is there a red circle ?"])
    device.clear()
    assert critic.answer([RED], ["is there a red circle ?"]) == before
