"""What a server cannot do is found out before anything is drawn, on staged servers."""

import base64
import io
import json

import pytest
from fakes import FakeGenerator
from PIL import Image
from replies import REPLY
from serving import Heard, completion

from gcr.critic import endpoint, probe, rubric, server
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.critic import load as load_critic
from gcr.device.memory import SharedDevice
from gcr.errors import ModelError
from gcr.settings import address

CPU = SharedDevice("cpu")
RUBRIC = rubric.load("text-to-image")


def load(stage, score="reply", **use):
    heard = Heard()
    asked = probe.Use(size=(96, 64), warn=heard, **use)
    return load_critic(stage.url, RUBRIC, CPU, score=score, use=asked), heard


def images(body):
    parts = [part for message in body["messages"] for part in message["content"]]
    shown = [part for part in parts if isinstance(part, dict) and "image_url" in part]
    return [part["image_url"]["url"] for part in shown]


def counting(body, text="hm"):
    return completion(text, prompt_tokens=len(str(body)))


def test_it_is_asked_what_will_be_asked_with_images_of_that_size(stage):
    critic, heard = load(stage)
    shown = [images(body) for body in stage.asked]
    assert [len(urls) for urls in shown] == [1, 0, 2]
    content = base64.b64decode(shown[0][0].partition(",")[2])
    assert len(content) > 96 * 64 * 3 / 3  # as badly packed as what is drawn
    system, user = stage.asked[0]["messages"]
    assert "Detailed Judgement" in json.dumps([system, user])
    assert critic.speaker.takes_pairs
    assert heard.warnings == []


def test_an_edit_is_judged_beside_its_source(stage):
    load(stage, edit=True)
    assert [len(images(body)) for body in stage.asked] == [2, 0]


def test_images_that_are_too_large_for_what_stands_before_the_server(stage):
    page = (413, {}, "<html><h1>413 Request Entity Too Large</h1></html>")
    stage.answer = lambda body: page if images(body) else counting(body)
    with pytest.raises(ModelError, match="it answers 413") as caught:
        load(stage)
    assert "client_max_body_size" in caught.value.hint


@pytest.mark.parametrize(
    "refusal",
    [
        (400, {}, {"error": {"message": "At most 1 image(s) may be provided in one prompt."}}),
        (413, {}, "<html>413</html>"),
    ],
)
def test_where_two_images_are_too_many_there_is_no_comparison_and_it_is_told(stage, refusal):
    stage.answer = lambda body: refusal if len(images(body)) > 1 else counting(body, REPLY)
    critic, heard = load(stage)
    (warning,) = heard.of("will not be compared")
    assert "limit-mm-per-prompt" in warning or "client_max_body_size" in warning
    before = len(stage.asked)
    red = Image.new("RGB", (8, 8), "red")
    assert critic.compare([None], [red], [red]) == [None]
    assert len(stage.asked) == before
    assert load(stage, compare=False)[1].warnings == []  # nothing is missed
    with pytest.raises(ModelError):
        load(stage, edit=True)


def test_a_context_that_is_too_short_for_question_and_reply(stage):
    stage.answer = lambda body: completion("hm", prompt_tokens=900 if images(body) else 300)
    stage.listing = lambda: {"data": [{"id": "staged", "max_model_len": 2900}]}
    with pytest.raises(ModelError, match=r"it has 2900 tokens .* which need 2948") as caught:
        load(stage)
    assert "--max-model-len" in caught.value.hint
    stage.listing = lambda: {"data": [{"id": "staged", "max_model_len": 2948}]}
    load(stage)
    words = "max_tokens=2048 cannot be greater than max_model_len=max_total_tokens=1024."
    stage.answer = lambda body: (400, {}, {"error": {"message": words}})
    with pytest.raises(ModelError, match="question is longer than"):
        load(stage)


def test_fewer_probabilities_are_asked_for_where_more_are_not_allowed(stage):
    words = "Requested sample logprobs of 20, which is greater than max allowed: 5"

    def answer(body):
        if body.get("top_logprobs", 0) > 5:
            return (400, {}, {"error": {"message": words}})
        tokens = [("a", {"a": -0.1})] if "logprobs" in body else None
        return completion("a", tokens, prompt_tokens=len(str(body)))

    stage.answer = answer
    critic, heard = load(stage, score="soft")
    assert critic.speaker.likeliest == 5
    (warning,) = heard.of("tells the 5 likeliest tokens only")
    assert "--max-logprobs 20" in warning


def test_a_name_that_the_server_does_not_list_is_told(stage):
    stage.models = ["real", *(f"other-{i}" for i in range(1000))]
    heard = Heard()
    endpoint.connect(f"{stage.url}#made-up", warn=heard)
    (warning,) = heard.of("lists no model 'made-up'")
    assert "real, other-0" in warning
    assert len(warning) < 1000
    stage.listing = lambda: (404, {}, "")
    heard = Heard()
    endpoint.connect(f"{stage.url}#made-up", warn=heard)  # a server without a list
    assert heard.warnings == []


def seeing(body):
    """As one does that counts tokens of text alone: 50, whatever it is shown."""
    shown = images(body)
    colour = "nothing"
    if shown and "Which colour" in json.dumps(body):
        picture = Image.open(io.BytesIO(base64.b64decode(shown[0].partition(",")[2])))
        colour = "red" if picture.getpixel((0, 0))[0] > 128 else "blue"
    return completion(colour, prompt_tokens=50)


def test_a_server_that_counts_text_alone_can_see_all_the_same(stage):
    stage.answer = seeing
    assert load(stage)[1].warnings == []


def test_a_server_that_counts_text_alone_and_drops_the_image(stage):
    stage.answer = lambda _: completion("I cannot see images.", prompt_tokens=50)
    with pytest.raises(ModelError, match="cannot see images"):
        load(stage)


@pytest.mark.parametrize(("text", "tokens"), [("", 50), ("a dog", None)])
def test_where_it_cannot_be_found_out_whether_it_sees_that_is_told(stage, text, tokens):
    stage.answer = lambda _: completion(text, prompt_tokens=tokens)
    assert load(stage)[1].of("may not see images")


def test_a_model_that_thinks_is_told_of_before_the_loop(stage):
    def answer(body):
        reply = counting(body, None)
        reply["choices"][0]["message"]["reasoning"] = "hm"
        return reply

    stage.answer = answer
    (warning,) = load(stage)[1].of("thinks before it replies")
    assert "2048 tokens" in warning
    assert "enable_thinking" in warning


def critic_at(stage, **settings):
    """A critic that asks a staged server, as one that was connected before."""
    asked = server.Server(address.Address(stage.url, "staged"), **settings)
    return VisionLanguageCritic(endpoint.EndpointSpeaker(asked, 4), RUBRIC)


def test_a_comparison_that_fails_at_the_end_leaves_the_run_as_it_is(stage, cli):
    refusal = (400, {}, {"error": {"message": "At most 1 image(s) may be provided"}})

    def answer(body):
        if len(images(body)) > 1:
            return refusal
        better = len(stage.asked) > 1
        return counting(body, REPLY.replace("2.5", "4.0") if better else REPLY)

    stage.answer = answer
    cli.models["critic"] = critic_at(stage)
    ran = cli("refine", "a red circle", "--rounds", "2", "--images", "1", "--no-history", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["comparison"] is None
    assert json.loads(ran.out)["best"]["round"] == 1
    assert "was not compared with the first" in ran.err
    assert "limit-mm-per-prompt" in ran.err


@pytest.mark.parametrize(
    "held_back",
    [
        completion("The response was filtered", finish="content_filter"),
        completion("Generation failed: forward() is missing pixel_values", finish="error"),
    ],
)
def test_a_rewrite_that_was_held_back_is_never_drawn(stage, cli, monkeypatch, held_back):
    monkeypatch.setattr(server.time, "sleep", lambda _: None)
    stage.answer = lambda body: counting(body, REPLY) if images(body) else held_back
    cli.models["critic"] = critic_at(stage)
    cli("refine", "a red circle", "--rounds", "2", "--images", "1", "--no-compare")
    drawn = [candidate.prompt for call in cli.models["generator"].calls for candidate in call]
    assert drawn[0] == "a red circle"
    assert not any("filtered" in prompt or "failed" in prompt for prompt in drawn)


def test_a_batch_whose_server_dies_stops_with_3_and_says_how_to_go_on(
    stage, cli, monkeypatch, tmp_path
):
    monkeypatch.setattr(server, "RETURN_PAUSE", 0.02)
    heard = Heard()
    cli.models["critic"] = critic_at(stage, warn=heard, return_seconds=0.2)
    judged = iter([True, True])
    reply, _, _ = REPLY.partition("## Refined Request")  # no rewrite that a guard could object to
    stage.answer = lambda body: counting(body, reply) if next(judged, False) else (502, {}, "<p>")
    (tmp_path / "prompts.txt").write_text(
        "a red circle\na blue star\na green square\na yellow circle\n"
    )
    options = ["--rounds", "1", "--images", "2", "--wave", "1", "--no-history"]
    ran = cli("batch", "prompts.txt", "--into", "b", *options)
    assert ran.code == 3
    assert "1 done, 3 not reached" in ran.err
    assert "Bad Gateway; it had answered before" in ran.err
    assert "gcr resume b" in ran.err
    assert heard.of("waiting up to")
    assert [len(call) for call in cli.models["generator"].calls] == [2, 2]
    stage.answer = lambda body: counting(body, REPLY)
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", "b").code == 0
    assert len((tmp_path / "b/summary.jsonl").read_text().splitlines()) == 4
