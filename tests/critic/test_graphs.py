"""Replies through captured steps are those that are written without. Steps are recorded here and
replayed operation by operation, as a GPU does it.
"""

import itertools
import logging
import random
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch
from capturing import Recorder
from fakes import FakeMachine
from replies import FAIR, IMAGES, REQUESTS

from gcr.core.events import ignore
from gcr.core.loop import refine
from gcr.core.records import Request, Run
from gcr.core.stopping import StopRule
from gcr.core.strategies import BestOfN
from gcr.critic import critic as critics
from gcr.critic import graphs, loading, rubric
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.local import LocalSpeaker
from gcr.critic.speaker import Decoding
from gcr.device.memory import SharedDevice
from gcr.engine import models
from gcr.pocket import world
from gcr.settings.resolving import resolve
from pocket_training.captions import describe, say

pytestmark = pytest.mark.usefixtures("cache")

CPU = SharedDevice("cpu")
SAMPLED = Decoding(24, temperature=1.5, seed=3)


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    monkeypatch.setattr(graphs, "BUCKET", 16)


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
    return VisionLanguageCritic(speaker, FAIR)._chats(requests, images, [None] * rows)


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


@pytest.mark.parametrize(
    ("family", "spared"), [("qwen3_vl", True), ("qwen3_vl", False), ("llava", True)]
)
def test_a_chat_of_several_judges_is_read_once(loaded, family, spared):
    model, processor = loaded(family)
    plain = speaker_of(model, processor, spared=spared)
    chats = [
        chat
        for chat, count in zip(chats_of(plain, 3), (3, 1, 2), strict=True)
        for _ in range(count)
    ]
    expected = plain.replies(chats, SAMPLED)
    recorder = Recorder(model)
    speaker = speaker_of(model, processor, recorder, spared=spared)
    assert speaker.replies(chats, SAMPLED) == expected
    assert (recorder.captured, recorder.replayed) == (1, 23)
    assert speaker.used == plain.used
    assert len({reply.text for reply in expected[:3]}) == 3
    # And again, in the cache that is kept.
    assert speaker.replies(chats, SAMPLED) == expected
    assert recorder.captured == 1


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


def test_without_memory_for_a_capture_fewer_replies_are_written_at_once(loaded, caplog):
    model, processor = loaded("llava")
    plain = speaker_of(model, processor)
    chats = chats_of(plain, 4)
    recorder = Recorder(model)
    speaker = speaker_of(model, processor, recorder)
    recorder.full = 1
    plain.ladder.size = 2
    assert speaker.replies(chats, SAMPLED) == plain.replies(chats, SAMPLED)
    assert speaker.ladder.size == 2
    assert {batch for batch, _ in speaker._graphs._rooms} == {2}
    assert recorder.captured
    # What is kept for other batches goes first.
    plain.ladder.size = speaker.ladder.size = 4
    recorder.full = 1
    assert speaker.replies(chats, SAMPLED) == plain.replies(chats, SAMPLED)
    assert speaker.ladder.size == 4
    assert {batch for batch, _ in speaker._graphs._rooms} == {4}
    # And with no room for a single one there are no captures.
    recorder.full = 3
    assert speaker.replies(chats[:2], SAMPLED)
    assert speaker.ladder.size == 1
    assert "out of memory: replies are written without captured graphs from here on" in caplog.text
    assert not speaker._graphs.serve


def test_without_memory_for_a_question_captures_go_first(loaded, caplog):
    model, processor = loaded("llava")
    speaker = speaker_of(model, processor, Recorder(model))
    chats = chats_of(speaker, 2)
    speaker.replies(chats, Decoding(4))
    expected = speaker.yes(chats)
    assert speaker._graphs._rooms
    first_logits = speaker._first_logits

    def crowded(chats):
        if speaker._graphs._rooms:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return first_logits(chats)

    speaker._first_logits = crowded
    assert speaker.yes(chats) == expected
    assert not caplog.records  # no batch is smaller for that


def test_steps_that_differ_each_time_are_not_captured_over_and_over(loaded, caplog):
    model, processor = loaded("llava")
    plain = speaker_of(model, processor)
    chats = chats_of(plain, 2)
    expected = plain.replies(chats, Decoding(24))
    recorder = Recorder(model)
    speaker = speaker_of(model, processor, recorder)
    prepare, steps = model.prepare_inputs_for_generation, itertools.count()
    model.prepare_inputs_for_generation = lambda *args, **kwargs: {
        **prepare(*args, **kwargs),
        "step": next(steps),
    }
    try:
        assert speaker.replies(chats, Decoding(24)) == expected
    finally:
        del model.prepare_inputs_for_generation
    assert recorder.captured == graphs.MOST_FORMS + 1
    assert caplog.text.count("writes without a captured graph: its steps differ") == 1


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
    # Nor than the device can spare.
    captured = graphs.Graphs(model, Recorder(model))
    for spare, left in ((sizes[0], 1), (0, 0)):
        decoding = captured.decoding(1, 8, 4, lambda spare=spare: spare)
        with torch.inference_mode(), decoding as cache:
            model.generate(torch.ones(1, 8, dtype=int), max_new_tokens=4, past_key_values=cache)
        assert len(captured._rooms) == left


def test_on_a_cpu_nothing_is_captured_by_itself(loaded):
    assert not speaker_of(*loaded("llava"))._graphs.serve


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
    assert not slides.serve
    with slides.decoding(1, 4, 4) as cache:
        assert cache is None
    assert "Gemma3ForConditionalGeneration writes without a captured graph" in caplog.text


def test_the_embedded_critic_judges_the_same(caplog):
    caplog.set_level(logging.WARNING)
    plain = critics.load("pocket:critic", rubric.load("pocket"), CPU, batch=4)
    scenes = [world.sample(random.Random(seed)) for seed in range(4)]
    images = [world.draw(scene) for scene in scenes]
    requests = [Request(say(describe(scene))) for scene in scenes]
    expected = plain.judge(requests, images)
    model = plain.speaker.model
    recorder = Recorder(model)
    captured = LocalSpeaker(model, plain.speaker.processor, CPU, batch=4, capture=recorder)
    other = VisionLanguageCritic(captured, plain.rubric, limited=plain.limited)
    assert other.judge(requests, images) == expected
    assert recorder.captured >= 1
    assert all(critique.overall is not None for critique in expected)
    assert not caplog.records


def test_captures_are_made_in_one_thread_while_images_are_drawn_in_another():
    questions = rubric.load("pocket")
    settings = resolve({"steps": 2}, FakeMachine(), environ={"XDG_CONFIG_HOME": "none"}).settings
    drawer, loaded_critic = models.load_models(settings, questions, ignore)
    model, processor = loaded_critic.speaker.model, loaded_critic.speaker.processor
    runs = [Run(f"{i}", Request(f"a {colour} circle")) for i, colour in enumerate(("red", "blue"))]

    def played(overlap):
        recorder = Recorder(model)
        speaker = LocalSpeaker(model, processor, CPU, capture=recorder)
        speaker._expected = 8  # so that each round captures anew, in caches that grow
        critic = VisionLanguageCritic(speaker, questions)
        rule = StopRule(rounds=2, patience=9)
        steps = refine(runs, drawer, critic, BestOfN(1, 0), rule, overlap=lambda: overlap)
        judged = {step.run.id: [a.critique for a in step.run.attempts] for step in steps}
        return judged, recorder.captured

    in_turn, captured = played(overlap=False)
    at_once, again = played(overlap=True)
    assert {name: [c.raw for c in said] for name, said in at_once.items()} == {
        name: [c.raw for c in said] for name, said in in_turn.items()
    }
    assert captured
    assert again


@pytest.fixture
def cuda(monkeypatch):
    """What captures call of torch, each noted. invalid: the driver says that a capture failed."""
    log = SimpleNamespace(calls=[], invalid=False)

    def note(name, result=None):
        return lambda *_, **__: (log.calls.append(name), result)[1]

    def end():
        log.calls.append("end")
        if log.invalid:
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    @contextmanager
    def stream(_):
        log.calls.append("side")
        try:
            yield
        finally:
            log.calls.append("usual")

    graph = SimpleNamespace(capture_begin=note("begin"), capture_end=end, replay=note("replay"))
    side = SimpleNamespace(wait_stream=note("wait"), device_index=1)
    made = {
        "Stream": lambda _: side,
        "current_stream": lambda _: side,
        "stream": stream,
        "CUDAGraph": lambda: graph,
        "graph_pool_handle": lambda: (0, 7),
        "synchronize": note("synchronize"),
        "empty_cache": note("empty"),
    }
    for name, value in made.items():
        monkeypatch.setattr(torch.cuda, name, value)
    # Of which one can be given another state; a CPU's cannot.
    randomness = SimpleNamespace(
        clone_state=lambda: "as it was", graphsafe_set_state=log.calls.append
    )
    monkeypatch.setattr(torch.cuda, "default_generators", (None, randomness))
    given_back = lambda *place: log.calls.append(("given back", *place))  # noqa: E731
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", given_back)
    monkeypatch.setattr(graphs, "_FAILED", [])
    return log


def test_a_capture_is_warmed_up_and_leaves_no_trace(cuda):
    def step():
        cuda.calls.append("step")
        return torch.zeros(1)

    logits, replay = graphs.CudaGraphs("cuda:1")(step, lambda: cuda.calls.append("restore"))
    warm = ["step", "restore"] * 2
    capture = ["synchronize", "empty", "begin", "step", "end"]
    assert cuda.calls == ["wait", "side", *warm, *capture, "usual", "wait", "restore"]
    assert logits.shape == (1,)
    replay()
    assert cuda.calls[-1] == "replay"


def test_a_capture_that_fails_ends_and_says_why(cuda):
    steps = itertools.count()

    def step():
        if next(steps) == 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        return torch.zeros(1)

    cuda.invalid = True
    with pytest.raises(RuntimeError, match="not permitted"):
        graphs.CudaGraphs("cuda:1")(step, lambda: None)
    # So that memory is freed again, and random numbers can be drawn; and what still runs is waited
    # for before its memory is another's.
    failed = ["end", ("given back", 1, (0, 7)), "as it was", "usual", "wait"]
    assert cuda.calls[-5:] == failed
    assert len(graphs._FAILED) == 1
    with pytest.raises(RuntimeError, match="previous error"):
        graphs.CudaGraphs("cuda:1")(lambda: torch.zeros(1), lambda: None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_goes_on_after_a_capture_that_failed():
    capture = graphs.CudaGraphs("cuda")
    number = torch.ones(1, device="cuda")
    with pytest.raises(RuntimeError):
        capture(lambda: number * number.item(), lambda: None)
    before = torch.cuda.memory_reserved()
    block = torch.empty(2**28, device="cuda")
    del block
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before
    torch.multinomial(torch.ones(4, device="cuda"), 1)  # which a capture keeps from all others
    doubled, replay = capture(lambda: number * 2, lambda: None)
    number.fill_(3)
    replay()
    assert doubled.item() == 6


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
