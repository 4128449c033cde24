"""Rubrics: ours, a user's own, and broken ones."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gcr.core.records import AspectScore, Critique, Request
from gcr.critic import reply, rubric
from gcr.errors import UsageError

OWN: dict[str, Any] = {
    "name": "own",
    "description": "My own.",
    "aspects": ["Mood", "Light"],
    "template": "Is this {request}?",
    "complaint": "Again.",
}


def file(folder: Path, **changes: Any) -> Path:
    """A rubric file of OWN with these changes; a key changed to `...` is left out."""
    content = {key: value for key, value in (OWN | changes).items() if value is not ...}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def said(message: rubric.Message) -> str:
    return "".join(part.get("text", "") for part in message["content"])


def test_our_rubrics() -> None:
    assert rubric.known() == [
        *("editing", "pocket", "qwen3-vl", "rational-rewards", "rational-rewards-editing"),
        "text-to-image",
    ]
    drawn = rubric.load("text-to-image")
    assert drawn.aspects == ("Text Faithfulness", "Physical and Visual Quality", "Text Rendering")
    assert rubric.load("pocket").aspects == drawn.aspects
    edited = rubric.load("editing")
    assert edited.aspects == (drawn.aspects[0], "Image Faithfulness", *drawn.aspects[1:])


@pytest.mark.parametrize("name", rubric.known())
def test_each_of_ours_can_be_loaded_by_name_and_by_path(name: str) -> None:
    rules = rubric.load(name)
    path = Path(__file__).parents[2] / "prompts" / f"{name}.yaml"
    assert rules.name == name
    base = yaml.safe_load(path.read_text(encoding="utf-8")).get("base")
    digest = hashlib.sha256(path.read_bytes())
    if base:
        digest.update(rubric.load(base).sha256.encode())
    assert rules.sha256 == digest.hexdigest()
    assert rubric.load(path) == rubric.load(str(path)) == rules
    assert rules.optional == ("Text Rendering",)


TRAINED = ["rational-rewards", "rational-rewards-editing"]


@pytest.mark.parametrize("name", ["text-to-image", "editing", *TRAINED])
def test_the_form_our_rubrics_ask_for_is_the_form_that_is_read(name: str) -> None:
    rules = rubric.load(name)
    blank = Critique(tuple(AspectScore(a, 4.0, "...") for a in rules.aspects), refined="x")
    form = (
        reply.write(blank, rules, "...").replace("4.0", "...").replace("Request: x", "Request: ...")
    )
    form = re.sub(r"(Summary|Comments):", r"\1: ...", form)
    if name in TRAINED:
        form = rules.template[rules.template.index("# User Request Analysis") :]
        written = reply.write(blank, rules).splitlines()
        headings = [line.partition(":")[0] for line in written if line]
        lines = [line for line in form.splitlines() if line and not line.startswith("[")]
        assert [line.partition(":")[0] for line in lines] == headings
    else:
        assert form in rules.system
    # A critic that only repeats the form has said nothing.
    parrot = reply.read(form, rules)
    assert (parrot.overall, parrot.refined) == (None, None)


def test_the_pocket_critic_is_asked_with_the_request_alone() -> None:
    (only,) = rubric.load("pocket").messages(Request("two red stars"))
    assert only == {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "Request: two red stars"}],
    }
    assert rubric.load("pocket").max_new_tokens == 320


def test_a_chat_has_the_rules_then_one_image_and_the_request() -> None:
    system, user = rubric.load("text-to-image").messages(Request("a cat"))
    assert (system["role"], user["role"]) == ("system", "user")
    assert [part["type"] for part in user["content"]] == ["image", "text"]
    assert "\na cat\n" in said(user)
    assert "{" not in said(user)


def test_an_edit_is_shown_beside_what_was_edited() -> None:
    system, user = rubric.load("editing").messages(Request("make it red", source="source.png"))
    assert [part["type"] for part in user["content"]] == ["image", "image", "text"]
    assert [part["type"] for part in system["content"]] == ["text"]


@pytest.mark.parametrize(
    "prompt",
    [
        "{request}",
        "{negative}",
        "{0.__class__}",
        "a {cat",
        "}{",
        "100% {} \\1 \\g<0> $x",
        "%s",
        "a\nb",
    ],
)
def test_the_users_words_go_in_word_for_word(tmp_path: Path, prompt: str) -> None:
    own = rubric.load(file(tmp_path, template="<{request}>", negative="not <{negative}>"))
    unwanted = "{request} {negative} \\2 }"
    (only,) = own.messages(Request(prompt, unwanted))
    assert said(only) == f"<{prompt}>\nnot <{unwanted}>"


def test_the_negative_prompt_is_told_only_when_there_is_one() -> None:
    rules = rubric.load("text-to-image")
    assert "dogs" in said(rules.messages(Request("a cat", "dogs"))[-1])
    assert "unwanted" not in said(rules.messages(Request("a cat"))[-1])
    pocket = rubric.load("pocket")
    assert pocket.messages(Request("a cat", "dogs")) == pocket.messages(Request("a cat"))


def test_asking_again_shows_the_reply_and_complains() -> None:
    rules = rubric.load("text-to-image")
    first = rules.messages(Request("a cat"))
    chat = rules.again(first, "Nice cat!")
    assert chat[:-2] == first
    assert [m["role"] for m in chat] == ["system", "user", "assistant", "user"]
    assert said(chat[-2]) == "Nice cat!"
    assert said(chat[-1]) == rules.complaint.strip()
    assert sum(part["type"] == "image" for m in chat for part in m["content"]) == 1


def test_the_pipelines_limit_is_told_when_it_is_known() -> None:
    rules = rubric.load("text-to-image")
    assert "77 tokens" in said(rules.messages(Request("a {limit}"), 77)[-1])
    assert "a {limit}" in said(rules.messages(Request("a {limit}"), 77)[-1])
    assert "tokens" not in said(rules.messages(Request("a cat"))[-1])
    pocket = rubric.load("pocket")
    assert pocket.messages(Request("a cat"), 64) == pocket.messages(Request("a cat"))


def test_objecting_shows_the_reply_and_says_what_is_wrong() -> None:
    rules = rubric.load("text-to-image")
    first = rules.messages(Request("a cat"))
    chat = rules.object(first, "## Refined Request: x", "it has {complaint} tokens")
    assert chat[:-2] == first
    assert [m["role"] for m in chat] == ["system", "user", "assistant", "user"]
    assert said(chat[-2]) == "## Refined Request: x"
    assert "cannot be used: it has {complaint} tokens." in said(chat[-1])


def test_a_users_own_rubric(tmp_path: Path) -> None:
    path = file(tmp_path, optional=["Light"], headings={"score": "Note"}, temperature=0.1)
    own = rubric.load(path)
    assert own.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (own.max_new_tokens, own.temperature) == (2048, 0.1)
    assert [said(m) for m in own.messages(Request("noon"))] == ["Is this noon?"]
    critique = reply.read("Mood:\n## Note: 4\nLight:\n## Note: N/A\n# Summary: ok", own)
    assert critique.overall == 1.0


def refusal(path: Path | str) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        rubric.load(path)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value.message, caught.value.hint


def test_an_unknown_name(tmp_path: Path) -> None:
    message, hint = refusal("editin")
    assert message == "no rubric named 'editin'"
    assert "did you mean 'editing'?" in hint
    assert "editing, pocket, qwen3-vl, rational-rewards" in refusal("zzz")[1]
    message, hint = refusal(tmp_path / "gone.yaml")
    assert "no rubric file" in message
    assert "editing, pocket, qwen3-vl, rational-rewards" in hint
    assert "no rubric file" in refusal("here/gone")[0]
    assert "no rubric file" in refusal(tmp_path)[0]


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"templat": "x"}, "unknown key 'templat'", "did you mean 'template'?"),
        (
            {"Templates": "x", "template": ...},
            "unknown key 'Templates'",
            "did you mean 'template'?",
        ),
        ({"sha256": "x"}, "unknown key 'sha256'", "known keys: name"),
        ({"headings": {"scores": "x"}}, "unknown key 'headings.scores'", "did you mean 'score'?"),
        ({"aspects": []}, "aspects:", ""),
        ({"aspects": ["Mood", "mood"]}, "two aspects or headings have one name", ""),
        ({"aspects": ["Summary"]}, "two aspects or headings have one name", ""),
        ({"aspects": ["Mood\nand light"]}, "aspects.0:", ""),
        ({"optional": ["Sound"]}, "optional names 'Sound'", ""),
        ({"template": "What is this?"}, "template does not hold {request}", ""),
        ({"negative": "Not that."}, "negative does not hold {negative}", ""),
        ({"max_new_tokens": 0}, "max_new_tokens:", ""),
        ({"template": "{image}{image} {request}"}, "the text of template needs each of", ""),
        ({"template": "{source} {request}"}, "the text of template needs each of", ""),
        ({"template": "{image}{source} {request}"}, "has {image} before {source}", ""),
        ({"comparison": "{first} {request}"}, "the text of comparison needs each of", ""),
        ({"comparison": "{second}{first} {request}"}, "has {second} before {first}", ""),
        ({"max_pixels": 10}, "max_pixels:", ""),
        ({"verdicts": "free"}, "verdicts", ""),
        ({"top_p": 0}, "top_p:", ""),
        ({"base": "mine"}, "base 'mine' is not one of gcr's rubrics", ""),
        ({"temperature": -1}, "temperature:", ""),
        ({"name": 5}, "name:", ""),
    ],
)
def test_a_rubric_that_is_wrong(
    tmp_path: Path, changes: dict[str, Any], message: str, hint: str
) -> None:
    path = file(tmp_path, **changes)
    said, advised = refusal(path)
    assert said.startswith(f"{path}: ")
    assert message in said
    assert hint in advised


def test_a_rubric_that_lacks_something(tmp_path: Path) -> None:
    message, hint = refusal(file(tmp_path, complaint=...))
    assert "the key 'complaint' is missing" in message
    assert "name, description, aspects, template, complaint" in hint


def test_a_rubric_may_be_based_on_one_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\ndescription: colder\nbase: qwen3-vl\ntemperature: 0.2\n")
    own, base = rubric.load(path), rubric.load("qwen3-vl")
    assert (own.name, own.temperature, own.top_k) == ("own", 0.2, 20)
    assert own.messages(Request("a cat")) == base.messages(Request("a cat"))
    assert base.messages(Request("a cat")) == rubric.load("text-to-image").messages(
        Request("a cat")
    )
    assert own.sha256 not in (base.sha256, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("prompt", ["{image}", "{source}{first}", "a {second} cat"])
def test_a_place_in_the_users_words_is_none(tmp_path: Path, prompt: str) -> None:
    own = rubric.load(
        file(tmp_path, template="{request}:{image}!", comparison="{first}{second}{request}")
    )
    (only,) = own.messages(Request(prompt))
    assert [part["type"] for part in only["content"]] == ["text", "image", "text"]
    assert said(only) == f"{prompt}:!"
    assert said(own.compare(Request(prompt))[0]) == prompt
    # A source has no place of its own here, and stands before what was made of it.
    (edit,) = own.messages(Request(prompt, source="source.png"))
    assert [part["type"] for part in edit["content"]] == ["text", "image", "image", "text"]


UNCHANGED = {
    "text-to-image": "0e88440a39431aae9e3538e643878b06b553ddb643c6255ac8cda3c40b304ae0",
    "editing": "3226ffff50166e31293c4b61d2544b78efaaf473260f13ecd2737d0a8d5dc2d2",
    "pocket": "f72ea53b03026ba1300a122a3c4b9910a452c7b915f0fdda7a95a061361d619c",
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_rubrics_that_runs_have_recorded_stay_as_they_are(name: str) -> None:
    assert rubric.load(name).sha256 == UNCHANGED[name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: a\nb: [", "line 2: not YAML"),
        (b"a: b: c", "line 1: not YAML"),
        (b"\xff\xfe\xff", "UTF-16 instead of UTF-8"),
        (b"", "not a rubric"),
        (b"- a", "not a rubric"),
        (b"1: x", "unknown key '1'"),
    ],
)
def test_a_file_that_is_no_rubric(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    assert message in refusal(path)[0]
