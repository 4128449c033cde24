"""Replies through captured steps are those that are written without. Steps are recorded here and
replayed operation by operation, as a GPU does it.
"""

import logging
import random
from dataclasses import replace

import pytest
import tiny
import torch
from capturing import Recorder
from PIL import Image

from gcr.core.records import Request
from gcr.critic import critic as critics
from gcr.critic import graphs, loading, rubric
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.local import LocalSpeaker
from gcr.critic.rubric import Rubric
from gcr.critic.speaker import Decoding
from gcr.device.memory import SharedDevice
from gcr.pocket import language, world
from gcr.pocket.spec import describe

pytestmark = pytest.mark.usefixtures("cache")

CPU = SharedDevice("cpu")
RUBRIC = Rubric(
    name="test",
    description="",
    aspects=("Text Faithfulness",),
    system="be fair to every image that you are shown",
    template="is there {request} ?",
    complaint="again please",
)
IMAGES = [
    Image.new("RGB", size, colour)
    for size, colour in (((64, 64), "red"), ((48, 64), "blue"), ((64, 32), "green"))
]
REQUESTS = [Request("a red circle"), Request("blue"), Request("a green square and a blue star")]
SAMPLED = Decoding(24, temperature=1.5, seed=3)


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    monkeypatch.setattr(graphs, "BUCKET", 16)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    models = {}

    def load(family, quantize="none"):
        if (family, quantize) not in models:
            torch.manual_seed(0)
            more = {"layers": 2} if family == "qwen3_vl" else {}
            folder = getattr(tiny, family)(tmp_path_factory.mktemp(family) / "m", **more)
            models[family, quantize] = loading.load(str(folder), CPU, quantize)
        return models[family, quantize]

    return load


def speaker_of(model, processor, capture=None, *, spared=True):
    """One whose replies are words, and go on to the limit."""
    speaker = LocalSpeaker(model, processor, CPU, batch=8, capture=capture)
    speaker._prefix._serves &= spared
    model.generation_config.eos_token_id = None
    model.generation_config.suppress_tokens = processor.tokenizer.all_special_ids
    return speaker


def chats_of(speaker, rows):
    at = [i % 3 for i in range(rows)]
    requests, images = [REQUESTS[i] for i in at], [IMAGES[i] for i in at]
    return VisionLanguageCritic(speaker, RUBRIC)._chats(requests, images, [None] * rows)


@pytest.mark.parametrize("decoding", [Decoding(24), SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize(
    ("family", "quantize", "spared"),
    [
        ("qwen3_vl", "none", True),
        ("qwen3_vl", "none", False),
        ("qwen3_vl", "nf4", True),
        ("llava", "none", True),
        ("llava", "nf4", True),
    ],
)
def test_replies_are_the_same(loaded, family, quantize, spared, rows, decoding):
    model, processor = loaded(family, quantize)
    plain = speaker_of(model, processor, spared=spared)
    chats = chats_of(plain, rows)
    expected = plain.replies(chats, decoding)
    recorder = Recorder(model)
    speaker = speaker_of(model, processor, recorder, spared=spared)
    assert speaker.replies(chats, decoding) == expected
    assert (recorder.captured, recorder.replayed) == (1, 23)
    # Another batch of the same form needs no other capture.
    assert speaker.replies(chats[::-1], Decoding(24)) == plain.replies(chats[::-1], Decoding(24))
    assert recorder.captured == 1
    assert vars(model).get("forward") is None


def test_rows_end_where_they_do_without(loaded):
    model, processor = loaded("qwen3_vl")
    plain = speaker_of(model, processor)
    chats = chats_of(plain, 3)
    rows = [processor.tokenizer(r.text).input_ids for r in plain.replies(chats, Decoding(24))]
    ends = [rows[0][5], rows[1][9]]
    recorder = Recorder(model)
    speaker = speaker_of(model, processor, recorder)
    model.generation_config.eos_token_id = ends
    decoding = Decoding(24, numbers=True)
    expected = plain.replies(chats, decoding)
    replies = speaker.replies(chats, decoding)
    assert [(r.text, r.cut_off) for r in replies] == [(r.text, r.cut_off) for r in expected]
    assert len({len(r.text) for r in replies}) == 3
    for reply, other in zip(replies, expected, strict=True):
        assert [n.at for n in reply.numbers] == [n.at for n in other.numbers]
        for number, same in zip(reply.numbers, other.numbers, strict=True):
            assert number.chances == pytest.approx(same.chances, abs=1e-5)


@pytest.mark.parametrize("spared", [True, False])
def test_a_cache_grows_with_the_replies(loaded, spared):
    model, processor = loaded("qwen3_vl")
    plain = speaker_of(model, processor, spared=spared)
    chats = chats_of(plain, 3)
    expected = plain.replies(chats, Decoding(60))
    recorder = Recorder(model)
    speaker = speaker_of(model, processor, recorder, spared=spared)
    speaker._expected = 1
    assert speaker.replies(chats, Decoding(60)) == expected
    assert recorder.captured >= 3
    # From now on as long as is expected, and the capture is there already.
    before = recorder.captured
    assert speaker.replies(chats, Decoding(60)) == expected
    assert recorder.captured == before


def test_captures_go_when_weights_move(loaded):
    model, processor = loaded("qwen3_vl", "nf4")
    plain = speaker_of(model, processor)
    chats = chats_of(plain, 2)
    expected = plain.replies(chats, Decoding(12))
    recorder = Recorder(model)
    speaker = speaker_of(model, processor, recorder)
    assert speaker.replies(chats, Decoding(12)) == expected
    speaker.weights.release()
    assert not speaker._graphs._rooms  # nor their memory
    speaker.weights.bring("cpu")
    assert speaker.replies(chats, Decoding(12)) == expected
    assert recorder.captured == 2
    weight = next(model.parameters())
    weight.data = weight.data.clone()  # by somebody else
    assert speaker.replies(chats, Decoding(12)) == expected
    assert recorder.captured == 3


def test_without_memory_for_a_capture_replies_are_written_all_the_same(loaded, caplog):
    model, processor = loaded("llava")
    plain = speaker_of(model, processor)
    chats = chats_of(plain, 4)
    recorder = Recorder(model)
    speaker = speaker_of(model, processor, recorder)
    recorder.full = True
    assert speaker.replies(chats, SAMPLED) == plain.replies(chats, SAMPLED)
    assert "4 replies at once are written without a graph" in caplog.text
    assert speaker.ladder.size == 8
    assert not speaker._graphs._rooms
    assert speaker.replies(chats, SAMPLED) == plain.replies(chats, SAMPLED)
    assert recorder.captured == 0
    assert speaker.replies(chats[:2], SAMPLED) == plain.replies(chats[:2], SAMPLED)
    assert recorder.captured == 1


def test_a_step_that_cannot_be_captured_is_told_of_once(loaded, caplog):
    model, processor = loaded("llava")
    plain = speaker_of(model, processor)
    chats = chats_of(plain, 2)

    class Waiting(Recorder):
        def __call__(self, step, restore):
            def waits():
                logits = step()
                logits.sum().item()
                return logits

            return super().__call__(waits, restore)

    speaker = speaker_of(model, processor, Waiting(model))
    for _ in range(2):
        assert speaker.replies(chats, Decoding(24)) == plain.replies(chats, Decoding(24))
    assert caplog.text.count("writes without a captured graph: operation not permitted") == 1


def test_no_more_captures_are_kept_than_there_is_memory_for(loaded):
    model, processor = loaded("llava")

    def kept(most):
        speaker = speaker_of(model, processor, Recorder(model, most))
        for rows in (1, 2, 4):
            speaker.replies(chats_of(speaker, rows), Decoding(4))
        return speaker._graphs._rooms

    rooms = kept(2**30)
    assert [batch for batch, _ in rooms] == [1, 2, 4]
    sizes = [room.bytes for room in rooms.values()]
    assert sizes[0] > 0
    assert [batch for batch, _ in kept(sum(sizes) - 1)] == [2, 4]  # the last used
    assert [batch for batch, _ in kept(sizes[2])] == [4]
    assert not kept(sizes[2] - 1)


def test_on_a_cpu_nothing_is_captured_by_itself(loaded):
    assert not speaker_of(*loaded("llava"))._graphs.serve(1)


def test_a_text_of_several_families_is_the_same():
    tokenizer, model = tiny._qwen2_5_vl()
    ids = torch.tensor([tokenizer(text).input_ids[:10] for text in ("a red circle", "a blue star")])
    with torch.inference_mode():
        plain = model.generate(ids, max_new_tokens=20, do_sample=False)
        recorder = Recorder(model)
        with graphs.Graphs(model, recorder).decoding(2, ids.shape[1], 4) as cache:
            through = model.generate(ids, max_new_tokens=20, do_sample=False, past_key_values=cache)
    assert torch.equal(plain, through)
    assert recorder.captured > 1


def test_a_family_whose_cache_slides_is_told_of(caplog):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = {**small, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 8}
    config = Gemma3Config(
        text_config={**text, "num_hidden_layers": 2, "vocab_size": 64},
        vision_config={**small, "num_hidden_layers": 1, "image_size": 28, "patch_size": 14},
    )
    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(config)
    slides = graphs.Graphs(model, Recorder(model))
    assert not slides.serve(1)
    with slides.decoding(1, 4, 4) as cache:
        assert cache is None
    assert "Gemma3ForConditionalGeneration writes without a captured graph" in caplog.text


def test_the_embedded_critic_judges_the_same(caplog):
    caplog.set_level(logging.WARNING)
    plain = critics.load("pocket:critic", rubric.load("pocket"), CPU, batch=4)
    scenes = [world.sample(random.Random(seed)) for seed in range(4)]
    images = [world.draw(scene) for scene in scenes]
    requests = [Request(language.say(describe(scene))) for scene in scenes]
    expected = plain.judge(requests, images)
    model = plain.speaker.model
    recorder = Recorder(model)
    captured = LocalSpeaker(model, plain.speaker.processor, CPU, batch=4, capture=recorder)
    other = VisionLanguageCritic(captured, plain.rubric, ignored=plain.ignored)
    assert other.judge(requests, images) == expected
    assert recorder.captured >= 1
    assert all(critique.overall is not None for critique in expected)
    assert not caplog.records


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("rows", [1, 4])
def test_a_gpu_replays_what_it_captured(loaded, rows):
    folder = loaded("qwen3_vl")[0].name_or_path
    card = SharedDevice("cuda")
    model, processor = loading.load(folder, card, "nf4")
    speaker = LocalSpeaker(model, processor, card, batch=8, graphs=True)
    plain = LocalSpeaker(model, processor, card, batch=8)
    chats = chats_of(speaker, rows)
    for decoding in (Decoding(24), replace(SAMPLED, seed=1)):
        first = speaker.replies(chats, decoding)
        assert speaker.replies(chats, decoding) == first
        card.clear()  # weights go away and come back elsewhere: all is captured anew
        assert speaker.replies(chats, decoding) == first
        same = zip(first, plain.replies(chats, decoding), strict=True)
        assert sum(a.text[:8] == b.text[:8] for a, b in same) >= rows / 2  # random weights: ties
