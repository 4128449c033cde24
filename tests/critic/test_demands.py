"""Servers that refuse what others take, in the words of OpenAI, Azure, LiteLLM, vLLM, llama.cpp and
others, staged on loopback: they are asked otherwise, and it is told once.
"""

import json
import re
import sys

import pytest
from PIL import Image
from replies import REPLY
from serving import Heard, completion

from gcr.__main__ import main
from gcr.critic import endpoint, probe, rubric, thoughts
from gcr.critic.critic import load
from gcr.critic.speaker import Decoding
from gcr.device.memory import SharedDevice
from gcr.errors import ModelError, UsageError

CPU = SharedDevice("cpu")
RUBRIC = rubric.load("qwen3-vl")
CHAT = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]


def openai(message, param=None, code=None):
    """As OpenAI and Azure refuse."""
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    }


def litellm(message):
    return {"error": {"message": message, "type": None, "param": None, "code": "400"}}


def unsupported(name):
    return openai(
        f"Unsupported parameter: '{name}' is not supported with this model.",
        name,
        "unsupported_parameter",
    )


def has(name):
    return lambda body: name in body


def limit_of(body):
    return body.get("max_tokens", body.get("max_completion_tokens"))


def begins_with_system(body):
    return body["messages"][0]["role"] == "system"


OPENAI_LIMIT = openai(
    "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead.",
    "max_tokens",
    "unsupported_parameter",
)
OPENAI_TEMPERATURE = openai(
    "Unsupported value: 'temperature' does not support 0.7 with this model. "
    "Only the default (1) value is supported.",
    "temperature",
    "unsupported_value",
)
OPENAI_SYSTEM = openai(
    "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
    "messages[0].role",
    "unsupported_value",
)
AZURE_LEAST = openai(
    "Invalid 'max_output_tokens': integer below minimum value. "
    "Expected a value >= 16, but got 1 instead.",
    "max_output_tokens",
    "integer_below_min_value",
)
REASONING = openai(
    "Could not finish the message because max_tokens or model output limit was reached. "
    "Please try again with higher max_tokens."
)
MISTRAL_SEED = {
    "detail": [
        {
            "type": "extra_forbidden",
            "loc": ["body", "seed"],
            "msg": "Extra inputs are not permitted",
            "input": 0,
        }
    ]
}
DROPS = (
    ", for model=m. To drop these, set `litellm.drop_params=True` or for proxy:\n\n"
    "`litellm_settings:\n drop_params: true`"
)
LITELLM_SEED = litellm(
    f"litellm.UnsupportedParamsError: anthropic does not support parameters: ['seed']{DROPS}"
)
LITELLM_BOTH = litellm(
    'litellm.BadRequestError: AnthropicException - {"type":"error","error":{"type":'
    '"invalid_request_error","message":"`temperature` and `top_p` cannot both be specified for '
    'this model. Please use only one."}}'
)
LITELLM_O = litellm(
    "litellm.UnsupportedParamsError: O-series models don't support temperature=0.7. "
    "Only temperature=1 is supported. To drop unsupported openai params from the call, set "
    "`litellm.drop_params = True`"
)
OLLAMA = litellm(f"ollama does not support parameters: {{'seed': 1}}{DROPS}")
GEMMA = {
    "object": "error",
    "message": "System role not supported",
    "type": "BadRequestError",
    "param": None,
    "code": 400,
}
LLAMA_CPP = {
    "error": {
        "code": 500,
        "message": "\n------------\nWhile executing CallExpression at line 1, column 69 in source:"
        "\n...[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "\nError: Jinja Exception: System role not supported",
        "type": "server_error",
    }
}
ANTHROPIC = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "role 'system' is not supported on this model",
    },
}
OPENROUTER = {
    "error": {
        "message": "Provider returned error",
        "code": 400,
        "metadata": {"raw": json.dumps(AZURE_LEAST), "provider_name": "Azure"},
    }
}
TEMPLATE = openai("Unrecognized request argument supplied: chat_template_kwargs")

REFUSALS = {
    "OpenAI: max_tokens": (400, OPENAI_LIMIT, has("max_tokens"), "max_completion_tokens in place"),
    "OpenAI: temperature": (400, OPENAI_TEMPERATURE, has("temperature"), "no temperature"),
    "Azure o1": (400, unsupported("temperature"), has("temperature"), "no temperature"),
    "LiteLLM: o-series": (400, LITELLM_O, has("temperature"), "no temperature"),
    "OpenAI: system": (400, OPENAI_SYSTEM, begins_with_system, "no system message"),
    "vLLM, Gemma 2": (400, GEMMA, begins_with_system, "no system message"),
    "llama.cpp, Gemma 2": (500, LLAMA_CPP, begins_with_system, "no system message"),
    "Anthropic": (400, ANTHROPIC, begins_with_system, "no system message"),
    "Mistral: seed": (422, MISTRAL_SEED, has("seed"), "no seed"),
    "LiteLLM: seed": (400, LITELLM_SEED, has("seed"), "no seed"),
    "LiteLLM, Ollama": (500, OLLAMA, has("seed"), "no seed"),
    "Azure: 16 tokens": (400, AZURE_LEAST, lambda body: limit_of(body) < 16, "room for 16 tokens"),
    "OpenRouter": (400, OPENROUTER, lambda body: limit_of(body) < 16, "room for 16 tokens"),
    "Azure: thoughts": (400, REASONING, lambda body: limit_of(body) < 900, "room for 1024 tokens"),
    "OpenAI: template": (400, TEMPLATE, has("chat_template_kwargs"), "no chat_template_kwargs"),
    "OpenAI: top_k": (
        400,
        openai("Unknown parameter: 'top_k'.", "top_k", "unknown_parameter"),
        has("top_k"),
        "no top_k",
    ),
    "OpenAI: penalty": (
        400,
        unsupported("presence_penalty"),
        has("presence_penalty"),
        "no presence_penalty",
    ),
}


def strict(refusals):
    """A server that refuses, each time for the first reason that holds; else it answers."""

    def answer(body):
        for status, told, offends, _ in refusals:
            if offends(body):
                return status, {}, told
        return completion(REPLY, prompt_tokens=len(json.dumps(body["messages"])))

    return answer


def critic_of(stage, heard, questions=RUBRIC):
    use = probe.Use(size=(48, 48), compare=False, warn=heard)
    return load(stage.url, questions, CPU, batch=8, use=use)


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_server_is_asked_as_it_wants_and_that_is_told_once(stage, pauses, refusal):
    status, _, offends, change = refusal
    stage.answer = strict([refusal])
    heard = Heard()
    critic = critic_of(stage, heard)
    ((message, hint),) = heard.warnings
    assert change in message
    assert hint
    assert sum(map(offends, stage.asked)) == 1  # found out once, by the first question
    assert str(critic.speaker.demands).startswith(change)
    before = len(stage.asked)
    image = Image.new("RGB", (8, 8), "red")
    critiques = critic.judge([probe.Request("a red circle")] * 9, [image] * 9)
    assert all(critique.overall is not None for critique in critiques)
    assert len(stage.asked) == before + 9
    assert pauses == [], status
    assert len(heard.warnings) == 1


def test_nothing_is_lost_of_what_is_asked(stage):
    """A system message becomes part of the user's turn, and a limit keeps its number."""
    stage.answer = strict([REFUSALS["OpenAI: max_tokens"], REFUSALS["OpenAI: system"]])
    critic = critic_of(stage, Heard())
    critic.judge([probe.Request("a red circle")], [Image.new("RGB", (8, 8), "red")])
    first, last = stage.asked[0], stage.asked[-1]
    (turn,) = last["messages"]
    words = "".join(part.get("text", "") for part in turn["content"])
    assert words.startswith(first["messages"][0]["content"] + "\n\n")
    assert sum("image_url" in part for part in turn["content"]) == 1
    assert last["max_completion_tokens"] == RUBRIC.max_new_tokens


def test_of_two_that_a_server_does_not_take_together_the_temperature_stays(stage):
    both = (400, LITELLM_BOTH, lambda body: {"temperature", "top_p"} <= body.keys(), "")
    stage.answer = strict([both])
    critic = critic_of(stage, Heard())
    assert str(critic.speaker.demands) == "no top_p"


def test_a_run_says_what_its_server_wants_and_records_it(stage, tmp_path, monkeypatch, capsys):
    wanted = [refusal for name, refusal in REFUSALS.items() if name.startswith("OpenAI")]
    wanted += [REFUSALS["Azure: 16 tokens"], REFUSALS["Mistral: seed"]]
    stage.answer = strict(wanted)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    command = ["gcr", "refine", "a red circle", "--critic", stage.url, "--rubric", "qwen3-vl"]
    options = ["--rounds", "1", "--images", "2", "--steps", "2", "--no-compare"]
    monkeypatch.setattr(sys, "argv", [*command, *options])
    assert main() == 0
    shown = capsys.readouterr().err
    (record,) = tmp_path.glob("outputs/*/*/run.json")
    told = json.loads(record.read_text())["revisions"]["server"]
    assert "max_completion_tokens in place of max_tokens" in told
    assert len(told.split("; ")) == len(wanted)
    for change in told.split("; "):
        assert shown.count(f"wants {change}: ") == 1


def test_threads_that_are_refused_at_once_all_ask_again(stage):
    stage.answer = strict([REFUSALS["LiteLLM: seed"]])
    heard = Heard()
    at = endpoint.with_model(endpoint.addresses.parse(stage.url))
    speaker = endpoint.EndpointSpeaker(endpoint.Server(at, warn=heard), 8)
    assert len(speaker.replies([CHAT] * 40, Decoding(9))) == 40
    assert len(heard.warnings) == 1


@pytest.mark.parametrize(
    "words",
    [
        "Unrecognized request arguments supplied: add_generation_prompt, continue_final_message",
        "`continue_final_message` is not supported",
    ],
)
def test_a_reply_that_cannot_be_begun_is_written_from_the_beginning(stage, words):
    stage.answer = strict([(400, openai(words), has("continue_final_message"), "")])
    begun = RUBRIC.model_copy(update={"prefill": "# User Request Analysis\n"})
    heard = Heard()
    critic = critic_of(stage, heard, begun)
    (critique,) = critic.judge([probe.Request("a red circle")], [Image.new("RGB", (8, 8), "red")])
    assert critique.raw == REPLY.strip()  # without the beginning once more before it
    assert stage.asked[-1]["messages"][-1]["role"] == "user"
    assert "no reply that is begun" in heard.warnings[0][0]


@pytest.mark.parametrize(
    "words",
    [
        "Unsupported parameter: 'messages' is not supported.",
        "Unknown parameter: 'something_else'.",
        "max_tokens must be at least 1, got -160",
        "Unsupported value: 'model' does not support it.",
    ],
)
def test_what_cannot_be_met_is_an_error_as_ever(stage, pauses, words):
    stage.answer = lambda _: (400, {}, openai(words))
    heard = Heard()
    with pytest.raises(ModelError, match=re.escape(words)):
        critic_of(stage, heard)
    assert heard.warnings == []
    assert len(stage.asked) == 1


def test_a_server_that_always_wants_more_is_given_up(stage, pauses):
    def answer(body):
        words = f"Invalid 'max_tokens': Expected a value >= {limit_of(body) + 1}, but got less"
        return 400, {}, openai(words)

    stage.answer = answer
    with pytest.raises(ModelError, match="Expected a value"):
        critic_of(stage, Heard())
    assert [limit_of(body) for body in stage.asked] == [1, 2, thoughts.LONGEST]


def test_probabilities_that_it_does_not_give_are_no_demand_to_be_met(stage):
    words = "You are not allowed to request logprobs from this model"
    refusal = (403, openai(words), has("logprobs"), "")
    stage.answer = strict([refusal])
    with pytest.raises(UsageError):
        load(stage.url, RUBRIC, CPU, score="soft", use=probe.Use(size=(48, 48), compare=False))


@pytest.mark.parametrize(
    ("headers", "words", "seconds"),
    [
        ({"retry-after-ms": "1500"}, "slow down", 1.5),
        ({}, "Rate limit reached for m on tokens per min. Please try again in 6.2s.", 6.2),
        ({}, "Rate limit reached for model `m`. Please try again in 1m12.5s.", 72.5),
        ({}, "Rate limit reached. Please try again in 140ms.", 0.14),
        ({}, "You have exceeded the rate limit. Please retry after 26 seconds.", 26),
        ({"Retry-After": "3"}, "Please try again in 20s.", 3),
    ],
)
def test_the_wait_that_a_server_asks_for_in_any_form(stage, pauses, headers, words, seconds):
    faults = iter([(429, headers, openai(words, code="rate_limit_exceeded"))] * 3)
    stage.answer = lambda _: next(faults, completion("fine"))
    heard = Heard()
    endpoint.connect(stage.url, warn=heard)
    (notice,) = (message for message, _ in heard.warnings if "waiting" in message)
    assert notice.endswith(f"waiting {seconds:.0f} seconds, as it asks")
    assert len(pauses) == 3  # more than a first question is otherwise tried
    for pause in pauses:
        assert pause == seconds if seconds > 1.25 else 0.75 <= pause <= 1.25


def test_the_waits_for_one_answer_have_an_end(stage, pauses):
    stage.answer = lambda _: (429, {"Retry-After": "60"}, openai("Rate limit reached."))
    with pytest.raises(ModelError, match="Rate limit reached"):
        endpoint.connect(stage.url)
    assert pauses == [60] * 5


def test_an_account_without_credit_is_not_waited_for(stage, pauses):
    words = "You exceeded your current quota, please check your plan and billing details."
    stage.answer = lambda _: (429, {}, openai(words, code="insufficient_quota"))
    with pytest.raises(ModelError, match="exceeded your current quota"):
        endpoint.connect(stage.url)
    assert pauses == []
