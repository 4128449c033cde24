"""What servers do wrong on the wire, staged on loopback: each ends in one clear error, in time."""

import json
import threading
import time
import traceback
import tracemalloc
import zlib
from pathlib import Path

import pytest
import serving
from PIL import Image
from replies import REPLY
from serving import Heard, completion

from gcr.core.records import Objection, Request, Round, Run
from gcr.critic import endpoint, rubric, server, server_errors
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.speaker import Decoding
from gcr.errors import GcrError, ModelError, UnavailableError, UsageError
from gcr.settings import address

CHAT = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
RUBRIC = rubric.load("text-to-image")
PEM = Path(__file__).parents[1] / "support" / "loopback.pem"
KEY = "a-very-secret-key"


def speaker(url, **settings):
    return endpoint.EndpointSpeaker(server.Server(address.Address(url, "staged"), **settings), 4)


def said(stage, **settings):
    return speaker(stage.url, **settings).replies([CHAT], Decoding(4))[0]


def headers(handler, *lines):
    handler.wfile.write("\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode())


def endless(handler):
    headers(handler, "Transfer-Encoding: chunked")
    for _ in range(4000):
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")


def bomb(handler):
    packer = zlib.compressobj(wbits=31)  # gzip
    packed = b"".join(packer.compress(b" " * 2**20) for _ in range(256)) + packer.flush()
    headers(handler, "Content-Encoding: gzip", f"Content-Length: {len(packed)}")
    handler.wfile.write(packed)


def bytewise(handler, text, pause=0.02):
    for letter in text:
        handler.wfile.write(letter.encode())
        handler.wfile.flush()
        threading.Event().wait(pause)  # time.sleep may be staged


def drip(handler):
    headers(handler, "Content-Length: 100000")
    bytewise(handler, " " * 1000)


def endless_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    bytewise(handler, "x" * 1000)


def until_closed(handler):
    """A drip without a length: where the connection ends, so does the body, it seems."""
    headers(handler, "Connection: close")
    bytewise(handler, json.dumps(completion("fine")) + " " * 1000)


@pytest.mark.parametrize("answer", [endless, bomb])
def test_a_reply_without_bound_is_given_up_in_bounded_memory(stage, answer, pauses):
    stage.answer = stage.listing = lambda *_: answer
    tracemalloc.start()
    with pytest.raises(ModelError, match="replied with more than 16 MB"):
        said(stage)
    with pytest.raises(ModelError, match="replied with more than 16 MB"):
        endpoint.with_model(address.parse(stage.url))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20  # unpacked it would be 256 MB, and without an end more
    assert pauses == []


@pytest.mark.parametrize("answer", [drip, endless_headers, until_closed])
def test_there_is_one_deadline_for_the_whole_reply(stage, answer, pauses):
    stage.answer = lambda _: answer
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"did not reply within 0\.3 seconds"):
        said(stage, reply_seconds=0.3)
    assert time.monotonic() - began < 10  # each drips for 20 seconds
    assert pauses == []


def test_a_list_of_models_has_a_deadline_of_its_own(stage, monkeypatch):
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.3)
    stage.listing = lambda: drip
    with pytest.raises(ModelError, match=r"did not reply within 0\.3 seconds"):
        endpoint.with_model(address.parse(stage.url))


def test_the_body_of_an_error_is_bounded_too(stage, pauses):
    def refuse(handler):
        handler.wfile.write(b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(4000):
            handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")

    stage.answer = lambda _: refuse
    with pytest.raises(ModelError, match="replied with more than 16 MB"):
        said(stage)


def packed_badly(handler):
    headers(handler, "Content-Encoding: gzip", "Content-Length: 4")
    handler.wfile.write(b"nope")


def half(handler):
    headers(handler, "Content-Length: 5000")
    handler.wfile.write(json.dumps(completion("fine"))[:40].encode())


WHOLE = json.dumps(completion("fine"))
BROKEN = {
    "half a JSON": WHOLE[:40],
    "half a body": half,
    "packed badly": packed_badly,
    "invalid UTF-8": WHOLE.replace("fine", "fi\xff").encode("latin-1"),
    "lone surrogate": WHOLE.replace("fine", r"\ud800"),
    "a page": "<html><body>Please wait</body></html>",
    "nothing": "",
    "no choices": {"choices": []},
    "choices of another type": {"choices": "many"},
    "content of another type": {"choices": [{"message": {"content": 7}}]},
    "a number that is none": WHOLE.replace('"prompt_tokens": null', '"prompt_tokens": "many"'),
    "depth": "[" * 100_000,
    "a failure of its own": completion("forward() is missing pixel_values", finish="error"),
    "a gateway's failure": {"error": {"message": "Provider returned error", "code": 502}},
    "a failure without a code": {"error": "try later"},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_one_bad_answer_is_asked_for_again(stage, pauses, broken):
    faults = iter([broken])
    stage.answer = lambda _: next(faults, completion("fine"))
    assert said(stage).text == "fine"
    assert len(pauses) == 1


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_bad_answers_without_end_are_one_clear_error(stage, pauses, broken):
    stage.answer = lambda _: broken
    with pytest.raises(ModelError) as caught:
        said(stage)
    assert len(pauses) == server.TRIES - 1
    assert "<" not in caught.value.message
    assert len(caught.value.message) < 500


def test_an_error_in_a_200_is_shown_in_the_servers_words(stage, pauses):
    stage.answer = lambda _: {"error": {"message": "Provider returned error", "code": 502}}
    with pytest.raises(ModelError, match="answers 502: Provider returned error"):
        said(stage)
    stage.answer = lambda _: {"error": {"message": "no such field", "code": 400}}
    del pauses[:]
    with pytest.raises(ModelError, match="answers 400: no such field"):
        said(stage)
    assert pauses == []


def in_parts(text):
    thoughts = {"type": "thinking", "thinking": [{"type": "text", "text": "# Score: 1"}]}
    answer = completion(text)
    parts = [thoughts, {"type": "text", "text": text[:20]}, {"type": "text", "text": text[20:]}]
    answer["choices"][0]["message"]["content"] = parts
    return answer


def test_a_reply_in_parts_is_their_text_without_the_thoughts(stage):
    stage.answer = lambda _: in_parts(REPLY)
    assert said(stage).text == REPLY.strip()


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_a_reply_among_the_thoughts_is_said_at_once_with_what_to_set(stage, pauses, name):
    answer = completion(None)
    answer["choices"][0]["message"][name] = REPLY
    stage.answer = lambda _: answer
    with pytest.raises(ModelError, match="among the model's thoughts") as caught:
        said(stage)
    assert "--reasoning-parser" in caught.value.hint
    assert len(stage.asked) == 1


def thought_too_long():
    answer = completion(None, finish="length")
    answer["choices"][0]["message"]["reasoning"] = REPLY
    return answer


def refusing():
    answer = completion(None)
    answer["choices"][0]["message"]["refusal"] = "I will not look at this."
    return answer


WITHHELD = {
    "filtered": (
        completion(f"The response was filtered\n{REPLY}", finish="content_filter"),
        "filter",
    ),
    "refused": (refusing(), "I will not look at this"),
    "cut off in its thoughts": (thought_too_long(), "cut off in its thoughts"),
}


@pytest.mark.parametrize(("answer", "why"), WITHHELD.values(), ids=WITHHELD)
def test_a_reply_that_was_held_back_scores_nothing_and_is_no_prompt(stage, answer, why):
    stage.answer = lambda _: answer
    critic = VisionLanguageCritic(speaker(stage.url), RUBRIC)
    request, image = Request("a red cat"), Image.new("RGB", (8, 8))
    (critique,) = critic.judge([request], [image])
    assert (critique.overall, critique.refined) == (None, None)
    assert why in critique.problem
    assert critic.rewrite([Objection(request, image, critique, "too long")]) == [None]
    (wording,) = critic.reword([Run("1", request, rounds=(Round(0, ()),))])
    assert wording.prompt is None
    assert critic.take_apart([request]) == [()]
    assert critic.compare([request], [image], [image]) == [None]


def test_probabilities_that_are_none_are_no_answer(stage, pauses):
    for logprob in ("NaN", "Infinity", "1e9", '"much"'):
        answer = json.dumps(completion("Yes", [("Yes", {"Yes": -0.1})])).replace("-0.1", logprob)
        stage.answer = lambda _, answer=answer: answer
        with pytest.raises(ModelError, match="does not speak as OpenAI's servers do"):
            speaker(stage.url).yes([CHAT])


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://elsewhere.example/v1/x?token=hush", "https://elsewhere.example/v1/x"),
        ("http://me:hush@elsewhere.example:81/", "http://elsewhere.example:81/"),
        ("/login", "/login"),
        ("http://[::1", "nowhere"),
    ],
)
def test_a_redirect_is_told_and_not_followed(stage, location, shown):
    stage.answer = lambda _: (307, {"Location": location}, "<html>moved</html>")
    with pytest.raises(UsageError) as caught:
        said(stage)
    assert caught.value.message.endswith(f"answers 307: it redirects to {shown}")
    assert "hush" not in caught.value.message


def test_a_redirect_takes_no_key_to_another_host(stage, monkeypatch):
    monkeypatch.setenv("GCR_API_KEY", KEY)
    other = serving.Staged()
    try:
        place = {"Location": f"{other.url}/chat/completions"}
        stage.answer = lambda _: (308, place, "")
        with pytest.raises(UsageError, match="redirects to"):
            said(stage, trusted=True)
        stage.listing = lambda: (302, {"Location": f"{other.url}/models"}, "")
        with pytest.raises(UsageError, match="redirects to"):
            endpoint.with_model(address.parse(stage.url), trusted=True)
        assert stage.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert other.asked == other.looked == []
    finally:
        other.close()


def test_a_page_for_browsers_is_not_shown(stage, pauses):
    stage.answer = lambda _: (502, {}, "<html>\n<center><h1>502 Bad Gateway</h1></center>\n")
    with pytest.raises(ModelError) as caught:
        said(stage)
    assert caught.value.message.endswith("/v1 answers 502: Bad Gateway")


def test_a_key_that_a_server_repeats_is_in_no_message_no_traceback_and_no_reply(
    stage, monkeypatch, pauses
):
    monkeypatch.setenv("GCR_API_KEY", KEY)
    repeats = [
        (400, {}, {"error": {"message": f"bad key {KEY}"}}),
        (500, {}, f"you sent {KEY}"),
        (307, {"Location": f"https://elsewhere/{KEY}"}, ""),
        f"<p>{KEY}",
        {"choices": [{"message": {"content": {"key": KEY}}}]},
        {"error": KEY},
        completion(KEY, finish="error"),
    ]
    for answer in repeats:
        stage.answer = lambda _, answer=answer: answer
        with pytest.raises(GcrError) as caught:
            said(stage, trusted=True)
        shown = "".join(traceback.format_exception(caught.value))
        assert KEY not in shown + caught.value.hint, answer
    stage.answer = lambda _: completion(f"your key is {KEY}")
    assert said(stage, trusted=True).text == "your key is …"
    monkeypatch.setenv("GCR_API_KEY", "none")  # a key that is no secret spoils no reply
    stage.answer = lambda _: completion("Refined request: none")
    assert said(stage, trusted=True).text == "Refined request: none"


GATEWAY = [
    (500, {"error": {"message": "Authentication Error, No api key passed in.", "code": "500"}}),
    (500, {"error": {"message": "Database not connected", "type": "no_db_connection"}}),
    (400, {"error": {"message": "No connected db.", "type": "no_db_connection", "code": "400"}}),
]


@pytest.mark.parametrize(("status", "body"), GATEWAY)
def test_a_gateway_that_wants_a_key_in_its_own_words(stage, monkeypatch, pauses, status, body):
    stage.answer = lambda _: (status, {}, body)
    with pytest.raises(UsageError, match="wants an API key") as caught:
        said(stage)
    assert caught.value.hint == "set GCR_API_KEY"
    monkeypatch.setenv("OPENAI_API_KEY", "for-openai")
    with pytest.raises(UsageError, match="wants an API key") as caught:
        said(stage)
    assert "goes to api.openai.com alone" in caught.value.hint
    monkeypatch.setenv("GCR_API_KEY", "wrong")
    with pytest.raises(UsageError, match="does not accept the API key") as caught:
        said(stage, trusted=True)
    assert "GCR_API_KEY" in caught.value.hint
    assert pauses == []


def test_a_400_that_names_the_model_is_about_something_else(stage):
    said_ = "logit_bias is not supported with model staged"
    stage.answer = lambda _: (400, {}, {"error": {"message": said_}})
    with pytest.raises(ModelError, match="answers 400: logit_bias") as caught:
        said(stage)
    assert caught.value.hint == server_errors.LOG
    stage.models = ["other"]
    with pytest.raises(ModelError, match="answers 400: logit_bias"):
        said(stage)
    stage.answer = lambda _: (400, {}, {"error": {"message": "The model `staged` does not exist."}})
    with pytest.raises(UsageError, match="has no model 'staged'") as caught:
        said(stage)
    assert caught.value.hint == "it has: other"


def test_a_host_that_cannot_be_one_is_a_bad_url():
    with pytest.raises(UsageError, match="cannot be asked"):
        speaker(f"http://{'a' * 70}.example/v1").replies([CHAT], Decoding(4))


@pytest.fixture
def encrypted():
    staged = serving.Staged(tls=(PEM, PEM))
    yield staged
    staged.close()


def test_a_certificate_that_nobody_trusts_is_called_that(encrypted, pauses):
    with pytest.raises(ModelError, match=r"the certificate of https://.* is not trusted") as caught:
        said(encrypted)
    assert "SSL_CERT_FILE" in caught.value.hint
    assert pauses == []


def test_the_environment_says_whom_to_trust_on_this_machine_too(encrypted, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # which is not asked
    encrypted.answer = lambda _: completion("fine")
    assert said(encrypted).text == "fine"
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(UsageError, match="certificates of SSL_CERT_FILE cannot be read"):
        said(encrypted)


def test_a_server_without_tls_is_told_from_one_that_is_not_there(stage):
    with pytest.raises(ModelError, match="no TLS with https://") as caught:
        speaker(stage.url.replace("http:", "https:")).replies([CHAT], Decoding(4))
    assert "http://" in caught.value.hint


def test_a_server_that_restarts_is_waited_for(monkeypatch):
    monkeypatch.setattr(server, "RETURN_PAUSE", 0.05)
    first = serving.Staged()
    heard = Heard()
    asked = speaker(first.url, warn=heard)
    first.answer = lambda _: completion("one")
    assert asked.replies([CHAT], Decoding(4))[0].text == "one"
    first.close()
    again = []

    def restart():
        time.sleep(0.5)
        again.append(serving.Staged(port=first.port))
        again[0].answer = lambda _: completion("two")

    starter = threading.Thread(target=restart)
    starter.start()
    try:
        replies = asked.replies([CHAT] * 3, Decoding(4))
        assert [reply.text for reply in replies] == ["two"] * 3
    finally:
        starter.join()
        again[0].close()
    (gone, hint), (back, _) = heard.warnings  # once each, though three waited
    assert "nothing answers" in gone
    assert "it had answered before" in gone
    assert hint == "waiting up to 5 minutes for it to come back"
    assert back.endswith("answers again")


def test_a_server_that_does_not_come_back_is_given_up_in_bounded_time(stage, monkeypatch):
    monkeypatch.setattr(server, "RETURN_PAUSE", 0.05)
    heard = Heard()
    asked = speaker(stage.url, warn=heard, return_seconds=0.3)
    stage.answer = lambda _: completion("one")
    asked.replies([CHAT], Decoding(4))
    stage.answer = lambda _: (503, {}, "loading")
    with pytest.raises(UnavailableError, match="answers 503: loading; it had answered before"):
        asked.replies([CHAT], Decoding(4))
    assert len(heard.warnings) == 1


@pytest.mark.parametrize(
    ("status", "words"), [(401, "revoked"), (402, "no credit"), (429, "quota")]
)
def test_a_server_that_refuses_all_is_gone_for_all(stage, pauses, status, words):
    asked = speaker(stage.url)
    stage.answer = lambda _: completion("one")
    asked.replies([CHAT], Decoding(4))
    stage.answer = lambda _: (status, {"Retry-After": "3600"}, words)
    with pytest.raises(UnavailableError, match=words):
        asked.replies([CHAT], Decoding(4))
    assert pauses == []


def test_a_server_that_was_never_there_is_not_waited_for(stage, pauses):
    stage.answer = lambda _: (503, {}, "loading")
    with pytest.raises(ModelError, match="answers 503") as caught:
        said(stage)
    assert not isinstance(caught.value, UnavailableError)
    assert len(pauses) == server.TRIES - 1
