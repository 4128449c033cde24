"""Critics behind OpenAI-compatible endpoints: the real server of transformers, and staged faults.

The real one is asked what the same weights are asked on this machine; it tells no probabilities
and never fails, so those come from a server of ours.
"""

import base64
import io
import json
import math
import os
import random
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import serving
from PIL import Image
from replies import REPLY
from serving import completion

from gcr.__main__ import main
from gcr.core.records import Objection, Request, Tokens
from gcr.critic import endpoint, rubric, server
from gcr.critic.critic import JUDGES_TEMPERATURE, VisionLanguageCritic
from gcr.critic.critic import load as load_critic
from gcr.critic.speaker import Decoding
from gcr.device import memory
from gcr.device.memory import SharedDevice
from gcr.engine.machine import ThisMachine
from gcr.errors import GcrError, ModelError, UsageError
from gcr.pocket import world
from gcr.settings import address, keys
from gcr.settings.measurements import OVERLAPS, device_key, pair
from gcr.settings.resolving import resolve

CPU = SharedDevice("cpu")
POCKET = rubric.load("pocket")
RED, BLUE = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (48, 64), "blue")
CIRCLE = Request("a red circle")
CHAT = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving.transformers_serve(tmp_path_factory.mktemp("home")) as url:
        yield url


def speaker(stage, batch=4, **settings):
    asked = server.Server(address.Address(stage.url, "staged"), **settings)
    return endpoint.EndpointSpeaker(asked, batch)


def test_tokens_are_those_that_the_server_counts(stage):
    usages = iter([{"prompt_tokens": 90, "completion_tokens": 7}, {"prompt_tokens": 80}, None, {}])
    stage.answer = lambda _: {**completion(REPLY), "usage": next(usages)}
    critic = VisionLanguageCritic(speaker(stage), POCKET)
    critic.judge([CIRCLE], [RED])
    assert critic.tokens() == Tokens(90, 7)
    critic.judge([CIRCLE] * 3, [RED] * 3)
    assert critic.tokens() == Tokens(90, 7, uncounted=3)


def scenes(count):
    dice = random.Random(3)
    return [world.draw(world.sample(dice)).resize((64, 64)) for _ in range(count)]


def test_the_same_weights_say_the_same_behind_a_real_server(served):
    remote = load_critic(served, POCKET, CPU, batch=2)
    local = load_critic("pocket:critic", POCKET, CPU, quantize="none", batch=1)
    images = scenes(2)
    requests = [CIRCLE, Request("two blue squares and a green star")]
    critiques = remote.judge(requests, images)
    assert critiques == local.judge(requests, images)
    assert all(critique.overall is not None for critique in critiques)
    objections = [Objection(requests[0], images[0], critiques[0], "it is too long")]
    assert remote.rewrite(objections) == local.rewrite(objections)
    checklists = remote.take_apart(requests)
    assert all(checklists)
    assert checklists == local.take_apart(requests)
    pair = (requests[:1], images[:1], images[1:])
    assert remote.compare(*pair) == local.compare(*pair)


def test_a_run_with_a_real_server_records_which_critic_it_was_and_no_key(
    served, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GCR_API_KEY", "very-secret")
    command = ["gcr", "refine", "a red circle", "--critic", served, "--rubric", "pocket"]
    monkeypatch.setattr(sys, "argv", [*command, "--rounds", "1", "--json", "-v"])
    assert main() == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    (record,) = tmp_path.glob("outputs/*/*/run.json")
    kept = json.loads(record.read_text())
    assert kept["settings"]["critic"] == f"{served}#{serving.NAME}"
    assert kept["settings"]["judge_batch"] == endpoint.AT_ONCE
    assert told["best"]["score"] is not None
    everything = [path.read_bytes() for path in record.parent.iterdir()]
    assert not any(b"very-secret" in content for content in everything)
    assert "very-secret" not in captured.out + captured.err


def test_bench_finds_whether_to_draw_while_a_server_judges(served, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    given = {"critic": served, "rubric": "pocket", "steps": 2}
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["gcr", "bench", *options, "--most", "2"])
    assert main() == 0
    assert "both at once" in capsys.readouterr().out
    found = resolve(given, ThisMachine()).settings
    size = found.width, found.height
    models = pair(found.generator, found.critic)
    kept = OVERLAPS.read(os.environ)[device_key("overlap", models, memory.device_name(), size)]
    assert found.overlap is kept


def test_a_real_server_that_tells_no_probabilities_is_turned_down_before_the_loop(served):
    for score in ("soft", "checklist"):
        with pytest.raises(UsageError, match="tells no probabilities") as caught:
            load_critic(served, POCKET, CPU, score=score)
        assert "vLLM" in caught.value.hint


def test_a_model_that_a_real_server_does_not_have_is_named_with_those_it_has(served):
    with pytest.raises(UsageError, match="has no model 'gcr/other'") as caught:
        endpoint.connect(f"{served}#gcr/other")
    assert serving.NAME in caught.value.hint


def test_the_model_may_be_left_out_where_there_is_no_choice(stage):
    bare = address.parse(f"{stage.url}/")
    assert str(endpoint.with_model(bare)) == f"{stage.url}#staged"
    stage.models = ["one", "two"]
    with pytest.raises(UsageError, match="has 2 models: one, two"):
        endpoint.with_model(bare)
    chosen = address.parse(f"{stage.url}#two")
    assert endpoint.with_model(chosen) == chosen
    stage.models = []
    with pytest.raises(UsageError, match=r"has no models$"):
        endpoint.with_model(bare)


@pytest.mark.parametrize(
    "bad", ["http://", "http:///v1", "http://host:99999/v1", "http://[::1/v1", "http://a b/v1"]
)
def test_a_bad_url_is_said_to_be_one(bad):
    with pytest.raises(UsageError, match="bad URL"):
        address.parse(bad)


def test_a_url_of_another_kind_is_no_name_of_a_model():
    with pytest.raises(UsageError, match="a URL of ftp, not of http"):
        resolve({"critic": "ftp://host/v1#m"}, ThisMachine())


@pytest.mark.parametrize("secret", ["http://me:hush@host/v1#m", "https://host/v1?key=hush#m"])
def test_a_url_with_a_secret_is_turned_down_and_not_repeated(secret):
    with pytest.raises(UsageError, match="holds more than") as caught:
        address.parse(secret)
    assert "hush" not in caught.value.message + caught.value.hint


def test_images_and_words_arrive_as_they_were_sent(stage):
    image = scenes(1)[0]
    stage.answer = lambda _: completion("fine")
    parts = [{"type": "image", "image": image}, {"type": "text", "text": "what?"}]
    answered = {"role": "assistant", "content": [{"type": "text", "text": "hm"}]}
    (reply,) = speaker(stage).replies([[{"role": "user", "content": parts}, answered]], Decoding(9))
    assert (reply.text, reply.cut_off) == ("fine", False)
    sent = stage.asked[0]
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("staged", 9, 0.0)
    url = sent["messages"][0]["content"][0]["image_url"]["url"]
    kind, _, content = url.partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).tobytes() == image.tobytes()
    assert sent["messages"][0]["content"][1] == {"type": "text", "text": "what?"}
    assert sent["messages"][1]["content"] == "hm"


def test_a_reply_at_the_limit_is_cut_off_and_one_without_words_is_empty(stage):
    stage.answer = lambda _: completion(None, finish="length")
    (reply,) = speaker(stage).replies([CHAT], Decoding(9))
    assert (reply.text, reply.cut_off) == ("", True)


def test_replies_keep_their_order_and_no_more_are_asked_for_at_once_than_allowed(stage):
    together, last = threading.Barrier(3), threading.Event()

    def answer(body):
        word = body["messages"][0]["content"]
        if word in "012":
            together.wait(20)
        if word == "0":  # answered after all the others
            assert last.wait(20)
        elif word == "8":
            last.set()
        return completion(word)

    stage.answer = answer
    told = []
    asked = speaker(stage, batch=3)
    asked._progress = lambda *step: told.append(step)
    chats = [[{"role": "user", "content": [{"type": "text", "text": str(i)}]}] for i in range(9)]
    assert [r.text for r in asked.replies(chats, Decoding(4))] == [str(i) for i in range(9)]
    assert stage.busiest == 3
    assert told == [("judge", i, 9) for i in range(1, 10)]


def of_judges(body, known):
    """As many answers as are asked for, by a server that knows `n` up to so many."""
    if body.get("n", 1) > known:
        return (400, {}, {"error": {"message": "Only one completion choice is allowed"}})
    scores = "1234"[body.get("seed", 0) :] + "1234"
    answer = completion(REPLY)
    (choice,) = answer["choices"]
    answer["choices"] = [
        {**choice, "message": {**choice["message"], "content": REPLY.replace("2.5", scores[i])}}
        for i in range(body.get("n", 1))
    ]
    return answer


@pytest.mark.parametrize(("known", "asked"), [(8, [3, 3]), (1, [3, 1, 1, 1, 1, 1, 1])])
def test_judges_are_asked_at_once_and_one_by_one_where_the_server_knows_no_n(stage, known, asked):
    stage.answer = lambda body: of_judges(body, known)
    critic = VisionLanguageCritic(speaker(stage, batch=1), POCKET, judges=3)
    critiques = critic.judge([CIRCLE] * 2, [RED, BLUE])
    assert [body.get("n", 1) for body in stage.asked] == asked
    assert {body["temperature"] for body in stage.asked} == {JUDGES_TEMPERATURE}
    if known == 1:
        assert [body.get("seed") for body in stage.asked] == [None, *(0, 1, 2) * 2]
    for critique in critiques:
        assert critique.aspects[0].score == pytest.approx(2.0)  # of 1, 2 and 3
        assert critique.spread > 0


def test_a_server_that_passes_n_over_is_asked_for_the_rest(stage):
    stage.answer = lambda _: completion(REPLY)
    VisionLanguageCritic(speaker(stage, batch=1), POCKET, judges=3).judge([CIRCLE], [RED])
    assert [(body.get("n"), body.get("seed")) for body in stage.asked] == [
        (3, None),
        (None, 1),
        (None, 2),
    ]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again_with_longer_and_longer_pauses(stage, pauses, status):
    faults = iter([(status, {}, "busy")] * 3)
    stage.answer = lambda _: next(faults, completion("fine"))
    assert speaker(stage).replies([CHAT], Decoding(4))[0].text == "fine"
    assert len(pauses) == 3
    assert pauses[0] < pauses[1] < pauses[2]


def test_a_connection_that_breaks_is_made_again(stage, pauses):
    faults = iter([None, None])
    stage.answer = lambda _: next(faults, completion("fine"))
    assert speaker(stage).replies([CHAT], Decoding(4))[0].text == "fine"
    assert len(pauses) == 2


def test_a_server_says_how_long_to_wait(stage, pauses):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60))
    faults = iter([(429, {"Retry-After": "7"}, ""), (503, {"Retry-After": soon}, "")])
    stage.answer = lambda _: next(faults, completion("fine"))
    speaker(stage).replies([CHAT], Decoding(4))
    assert pauses[0] == 7
    assert 50 < pauses[1] <= 60


def test_a_server_that_wants_too_much_patience_or_never_recovers_is_given_up(stage, pauses):
    stage.answer = lambda _: (429, {"Retry-After": "3600"}, {"error": {"message": "quota"}})
    with pytest.raises(ModelError, match="answers 429: quota"):
        speaker(stage).replies([CHAT], Decoding(4))
    assert pauses == []
    stage.answer = lambda _: (500, {}, "boom")
    with pytest.raises(ModelError, match="answers 500: boom"):
        speaker(stage).replies([CHAT], Decoding(4))
    assert len(pauses) == server.TRIES - 1


def test_a_reply_that_never_comes_is_not_waited_for_twice(stage, pauses):
    released = threading.Event()
    stage.answer = lambda _: released.wait(5) and completion("late")
    try:
        with pytest.raises(ModelError, match=r"did not reply within 0\.2 seconds"):
            speaker(stage, reply_seconds=0.2).replies([CHAT], Decoding(4))
    finally:
        released.set()
    assert pauses == []


def test_ctrl_c_does_not_wait_for_the_server(stage):
    released, answered, interrupted = threading.Event(), [], threading.Barrier(3)

    def answer(_):
        if interrupted.wait(20) == 0:  # all three are asked
            os.kill(os.getpid(), signal.SIGINT)
        released.wait(30)
        answered.append("late")
        return completion("late")

    stage.answer = answer
    try:
        with pytest.raises(KeyboardInterrupt):
            speaker(stage).replies([CHAT] * 3, Decoding(4))
        assert answered == []
    finally:
        released.set()


def test_nobody_there(stage):
    stage.close()
    with pytest.raises(ModelError, match=r"nothing answers at .*refused") as caught:
        endpoint.connect(stage.url)
    assert "start the server" in caught.value.hint
    stage._server.server_close = stage._thread.join = stage._server.shutdown = lambda: None


VLLM_LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
)
SAID = [
    (400, {"error": {"message": VLLM_LONG}}, "question is longer", "--max-model-len"),
    (400, {"error": {"message": "x is not a multimodal model"}}, "text only", "vision-language"),
    (400, {"message": "At most 0 image(s) may be provided"}, "text only", "vision-language"),
    (400, {"message": "At most 1 image(s) may be provided"}, "too few images", "limit-mm"),
    (404, {"detail": "The model `staged` does not exist"}, "has no model 'staged'", "other"),
    (422, {"detail": "no such field"}, "answers 422: no such field", "log"),
    (200, "<html>hello</html>", "does not speak as OpenAI", "/v1"),
    (200, {"choices": []}, "does not speak as OpenAI", "/v1"),
]


@pytest.mark.parametrize(("status", "body", "message", "hint"), SAID)
def test_what_a_server_refuses_is_said_with_what_to_do(stage, status, body, message, hint):
    stage.models = ["other"]
    stage.answer = lambda _: (status, {}, body)
    with pytest.raises(GcrError, match=message) as caught:
        endpoint.connect(f"{stage.url}#staged")
    assert hint in caught.value.hint


def test_a_path_that_is_not_the_servers_is_told_from_a_model_it_does_not_have(stage):
    with pytest.raises(UsageError, match="answers 404: Not Found") as caught:
        endpoint.connect(stage.url.removesuffix("/v1") + "#staged")
    assert "/v1" in caught.value.hint


def test_a_server_that_drops_the_image_is_found_out(stage):
    stage.answer = lambda _: completion("a dog", prompt_tokens=12)
    with pytest.raises(ModelError, match="cannot see images"):
        endpoint.connect(stage.url)
    stage.answer = lambda _: completion("a dog")  # one that counts nothing cannot be found out
    assert endpoint.connect(stage.url)


def test_a_server_that_refuses_to_tell_probabilities_is_still_a_critic(stage):
    refusal = (400, {}, {"error": {"message": "logprobs are not supported"}})
    stage.answer = lambda body: refusal if "logprobs" in body else completion("a dog")
    assert endpoint.connect(stage.url)
    with pytest.raises(UsageError, match=r"tells no probabilities.*logprobs are not supported"):
        endpoint.connect(stage.url, likely=True)


def test_the_key_is_sent_where_it_belongs_and_never_shown(stage, monkeypatch):
    stage.answer = lambda _: (401, {}, {"error": {"message": "bad key top-secret"}})
    with pytest.raises(UsageError, match="wants an API key"):
        endpoint.connect(stage.url)
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    monkeypatch.setenv("GCR_API_KEY", "top-secret")
    with pytest.raises(UsageError, match="does not accept the API key"):
        endpoint.connect(stage.url, trusted=True)
    assert stage.headers[-1]["Authorization"] == "Bearer top-secret"
    stage.answer = lambda _: (400, {}, {"error": {"message": "bad key top-secret"}})
    with pytest.raises(ModelError) as caught:
        endpoint.connect(stage.url, trusted=True)
    assert "top-secret" not in caught.value.message
    monkeypatch.setenv("GCR_API_KEY", "top-secret\nX-Header: 1")
    with pytest.raises(UsageError, match="no key has") as caught:
        endpoint.connect(stage.url, trusted=True)
    assert "top-secret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://api.openai.com/v1", "openais"),
        ("http://api.openai.com/v1", ""),
        ("https://api.openai.com.example/v1", ""),
        ("https://far/v1", ""),
        ("http://127.0.0.1/v1", ""),
    ],
)
def test_the_key_of_openai_goes_to_openai_alone(url, sent):
    environ = {"OPENAI_API_KEY": "openais"}
    for trusted in (True, False):
        assert keys.key_for(address.Address(url), environ, trusted=trusted) == sent
    both = {**environ, "GCR_API_KEY": "ours"}
    assert keys.key_for(address.Address(url), both, trusted=True) == "ours"
    assert keys.key_for(address.Address(url), both, trusted=False) == sent


def test_offline_there_is_only_this_machine(stage, monkeypatch):
    monkeypatch.setenv("GCR_OFFLINE", "1")
    assert endpoint.connect(stage.url)
    with pytest.raises(UsageError, match="--offline makes no connection"):
        endpoint.connect("http://far.example/v1#m")


def test_answers_are_the_odds_of_yes_against_no(stage):
    likely = {"Yes": math.log(0.5), " no": math.log(0.2), "yes": math.log(0.1), "It": -9.0}
    stage.answer = lambda _: completion("Yes", [("Yes", likely)])
    critic = VisionLanguageCritic(speaker(stage), POCKET)
    assert critic.answer([RED], ["is it red?"]) == pytest.approx([0.6 / 0.8])
    assert stage.asked[0]["top_logprobs"] == endpoint.LIKELIEST
    stage.answer = lambda _: completion("no", [("no", {"no": math.log(0.9), "It": math.log(0.1)})])
    assert critic.answer([RED], ["is it red?"]) == pytest.approx([0.1 / 1.0])  # at most that


def test_a_rubric_says_how_a_server_samples_and_what_it_is_told(stage):
    stage.answer = lambda _: completion("says the server")
    rules = POCKET.model_copy(
        update={
            "temperature": 0.7,
            "top_p": 0.8,
            "top_k": 20,
            "prefill": "# User",
            "chat_template_kwargs": {"enable_thinking": False},
            "extra_body": {"presence_penalty": 1.5},
        }
    )
    critic = load_critic(f"{stage.url}#staged", rules, CPU)
    stage.asked.clear()
    (critique,) = critic.judge([CIRCLE], [RED])
    assert critique.raw == "# Usersays the server"
    body = stage.asked[0]
    told = {"top_p": 0.8, "top_k": 20, "presence_penalty": 1.5, "temperature": 0.7}
    assert {name: body[name] for name in told} == told
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["messages"][-1] == {"role": "assistant", "content": "# User"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    critic.take_apart([CIRCLE])
    assert stage.asked[-1]["messages"][-1]["role"] == "user"
    assert stage.asked[-1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_soft_scores_of_a_reply_that_was_begun_stand_where_they_are(stage):
    begun, rest = "# Detailed Judgement\n1. Text Faithfulness:\n", "## Score: 2\n# Summary: x"
    likely = {" 2": math.log(0.6), " 4": math.log(0.2)}
    tokens = [(f" {word}", likely if word == "2" else {}) for word in rest.split()]
    stage.answer = lambda _: completion(rest, tokens)
    rules = POCKET.model_copy(
        update={"aspects": ("Text Faithfulness",), "optional": (), "prefill": begun}
    )
    (critique,) = VisionLanguageCritic(speaker(stage), rules, score="soft").judge([CIRCLE], [RED])
    assert critique.aspects[0].score == pytest.approx((0.6 * 2 + 0.2 * 4) / 0.8)


def test_an_answer_that_is_neither_yes_nor_no_is_no_answer(stage):
    stage.answer = lambda _: completion("<think>", [("<think>", {"<think>": -0.1})])
    with pytest.raises(ModelError, match="began with '<think>'"):
        speaker(stage).yes([CHAT])
    stage.answer = lambda _: completion("Yes")
    with pytest.raises(ModelError, match="told no probabilities"):
        speaker(stage).yes([CHAT])


SURE = math.log(0.6), math.log(0.2)


@pytest.mark.parametrize(
    ("text", "words", "thoughts"),
    [
        ("<think>\n\n</think>\n\nYes", ["<think>", "\n\n", "</think>", "\n\n", "Yes"], None),
        ("<think>no</think> Yes", ["<", "think", ">", "no", "</think>", " Yes"], None),
        ("Yes", ["no", " doubt", "</think>", "\n\n", "Yes", "<|im_end|>"], "no doubt"),
        ("Yes", ["no", " doubt", "Yes"], "no doubt"),
    ],
)
def test_an_answer_is_what_follows_a_thought(stage, text, words, thoughts):
    def answer(body):
        short = body["max_tokens"] == 1
        likely = {w: {w: SURE[0], "no": SURE[1]} for w in ("Yes", " Yes")}
        told = [(w, likely.get(w, {w: -0.1})) for w in words]
        reply = completion("" if short else text, told[:1] if short else told)
        reply["choices"][0]["message"]["reasoning_content"] = thoughts
        return reply

    stage.answer = answer
    assert speaker(stage).yes([CHAT, CHAT]) == pytest.approx([0.75, 0.75])


@pytest.mark.parametrize("thoughts", ["", "Score: 1 perhaps. 4"])
def test_soft_scores_are_read_from_the_numbers_a_server_tells(stage, thoughts):
    likely = {" 2": math.log(0.6), " 4": math.log(0.2), "x": -1.0}
    text = "# Detailed Judgement\n1. Text Faithfulness:\n## Score: 2\n# Summary: très bien"
    tokens = [(word, {}) for word in thoughts.split()]
    tokens += [(f" {word}", likely if word == "2" else {}) for word in text.split()]
    tokens.append(("<|im_end|>", {}))
    stage.answer = lambda _: completion(text, tokens)
    one = POCKET.model_copy(update={"aspects": ("Text Faithfulness",), "optional": ()})
    (critique,) = VisionLanguageCritic(speaker(stage), one, score="soft").judge([CIRCLE], [RED])
    assert critique.aspects[0].score == pytest.approx((0.6 * 2 + 0.2 * 4) / 0.8)


def test_numbers_that_are_all_unlikely_have_chances_all_the_same():
    """As of a server that says -9999 for what it left out."""
    likely = [{"token": "4", "logprob": -9999}]
    for spelled in ("3", " 3", "3\n"):
        token = endpoint.Token(token=spelled, logprob=-9999, top_logprobs=likely)
        (number,) = endpoint._numbers("3", [token])
        assert number.chances == {3: 0.5, 4: 0.5}


def test_the_numbers_of_a_reply_are_found_where_they_stand():
    text = "Score: 3 of 4"
    tokens = [
        endpoint.Token(token=token, logprob=-0.1, top_logprobs=[])
        for token in ("1", "Score", ":", " ", "3", " of", "\ufffd", "4", "</s>", "\n")
    ]
    assert [number.at for number in endpoint._numbers(text, tokens)] == [7, 12]
