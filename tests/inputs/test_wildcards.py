"""Wildcards: what can be said with them, what cannot be meant, and that a seed settles it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from dataclasses import asdict
from pathlib import Path

import pytest

from gcr.errors import UsageError
from gcr.files import structured
from gcr.inputs import promptfile
from gcr.inputs.wildcards import Choice, Expansion, Wildcards
from gcr.pocket import language

EXAMPLES = Path(__file__).parents[2] / "examples"


def write(folder: Path, **files: str) -> Path:
    """A folder of wildcard files; `__` in a name is a folder."""
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def outcomes(text: str, folder: Path | None = None) -> set[str]:
    """Everything that 200 seeds say."""
    wildcards = Wildcards(folder)
    return {wildcards.expand(text, seed).text for seed in range(200)}


def refusal(text: str, folder: Path | None = None) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        Wildcards(folder).expand(text, 0)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "two red circles and a blue star",
        "  spaces  stay\t\r\n\nand lines \n",
        "a|b || c",
        "a } b }}",
        "an open { brace",
        "{ { {",
        "x { 3:: y",
        "x { -2 y",
        "____ and __ and ___",
        "snake_case, __init, main__, a _b_ c",
        "fill in: __ here __ .",
        "C:\\dir \\n \\\\ \\(weight:1.2\\) [a:b] <lora:x:1>",
        "it costs $5, or $$",
        "naïve 画 🎨 \u2028 \x0b e\u0301",
        "\udcff",
        r"E = \frac{a}{b} on a blackboard",
        "a portrait of {animal} in a crown",
        "{{sun}}, {best quality}, detailed",
        'a screen with {"a": 1, "b": {"c": []}}',
        "{}",
        "{" * 3000 + "}" * 3000,
        "<lora:my__style__v2:0.8> a knight",
        "<lora:a__b c__d:1> <lyco:__x__y:.5:.2>",
        "{!important}, {@someone}, {~10}",
    ],
)
def test_a_text_without_wildcards_comes_back_as_it_is(text: str) -> None:
    assert Wildcards().expand(text, 3) == Expansion(text)


@pytest.mark.parametrize(
    ("text", "all_of_it"),
    [
        ("a {red|blue} cat", {"a red cat", "a blue cat"}),
        ("{a|b}{c|d}", {"ac", "ad", "bc", "bd"}),
        ("{a|{b|{c|d}} e}", {"a", "b e", "c e", "d e"}),
        ("a {very |}big cat", {"a very big cat", "a big cat"}),
        ("{ a | b }!", {"a !", "b !"}),
        ("{|}", {""}),
        ("{{a|b}}", {"{a}", "{b}"}),
        ("{x {a|b} y}", {"{x a y}", "{x b y}"}),
        ("{a {b} |c}", {"a {b} ", "c"}),
        ("{0::a {b|c}|d {e}}", {"d {e}"}),
        ("{a\n|b\r\n}", {"a\n", "b\r\n"}),
        ("{2$$a|b|c}", {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}),
        ("{2$$ a | b }", {"a, b", "b, a"}),
        ("{ 2 $$a|b}", {"a, b", "b, a"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{2$$$$a|b}", {"ab", "ba"}),
        ("{2$$ $ $$a|b}", {"a $ b", "b $ a"}),
        ("{2$$a|{b|c}}", {"a, b", "b, a", "a, c", "c, a"}),
        ("{1-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-$$a|b}", {"a, b", "b, a"}),
        ("{0-1$$a|b}", {"", "a", "b"}),
        ("{0$$a|b}", {""}),
        ("{1$$a}", {"a"}),
        ("{0::a|b}", {"b"}),
        ("{.5::a|b}", {"a", "b"}),
        ("{2:a|1}", {"2:a", "1"}),
        ("${5|10}", {"$5", "$10"}),
    ],
)
def test_what_braces_say(text: str, all_of_it: set[str]) -> None:
    assert outcomes(text) == all_of_it


def test_options_come_as_often_as_they_weigh() -> None:
    wildcards = Wildcards()
    words = [wildcards.expand("{3::a|b}", seed).text for seed in range(2000)]
    assert 1400 < words.count("a") < 1600
    pairs = [wildcards.expand("{2$$8::a|1::b|1::c}", seed).text for seed in range(500)]
    assert all(len(set(pair.split(", "))) == 2 for pair in pairs)
    assert sum("a" in pair for pair in pairs) > 450


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"\{a|b\}", "{a|b}"),
        (r"\{a\|b\}", "{a|b}"),
        (r"{\{a\|b\}|\{a\|b\}}", "{a|b}"),
        (r"\__colours__ __", "__colours__ __"),
        (r"{2$$ and $$\{|\{}", "{ and {"),
        (r"a \} {1$$\}}", "a } }"),
    ],
)
def test_a_backslash_makes_marks_plain(text: str, plain: str) -> None:
    assert outcomes(text) == {plain}


def test_a_line_of_a_file(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        colours__warm="\ufeff# fire\nred\r\n\n  orange  \n",
        colours__cold="blue",
        colours__all="__colours/warm__\n__colours/cold__ {light|dark}",
    )
    assert outcomes("a __colours/warm__ cat", folder) == {"a red cat", "a orange cat"}
    assert outcomes("{__colours/warm__|black}", folder) == {"red", "orange", "black"}
    expected = {"red", "orange", "blue light", "blue dark"}
    assert outcomes("__colours/all__", folder) == expected
    assert outcomes("__colours/cold____colours/cold__", folder) == {"blueblue"}
    assert outcomes("___colours/cold___", folder) == {"_blue_"}


def test_different_lines_of_a_file(tmp_path: Path) -> None:
    folder = write(tmp_path, abc="a\nb\nc")
    assert outcomes("{2$$+$$__abc__}", folder) == {"a+b", "b+a", "a+c", "c+a", "b+c", "c+b"}
    assert len(outcomes("{3$$__abc__}", folder)) == 6
    assert refusal("{4$$__abc__}", folder)[0] == "'{4$$__abc__}' asks for 4 of 3"


def test_what_was_chosen_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path, warm="{deep|pale} red")
    made = Wildcards(folder).expand("{2$$ and $$a|b} __warm__", 5)
    *inner, last = made.choices
    assert [choice.wildcard for choice in inner] == ["{2$$ and $$a|b}", "{deep|pale}"]
    assert last == Choice("__warm__", (f"{inner[1].chosen[0]} red",))
    assert made.text == f"{' and '.join(inner[0].chosen)} {last.chosen[0]}"
    records = [asdict(choice) for choice in made.choices]
    assert json.loads(json.dumps(records))[0]["wildcard"] == "{2$$ and $$a|b}"


def test_lines_of_all_files_whose_names_match(tmp_path: Path) -> None:
    folder = write(tmp_path, colours__warm="red", colours__old__cold="blue", animals="cat\ndog")
    assert outcomes("__colours/*__", folder) == {"red", "blue"}
    assert outcomes("__colour*__", folder) == outcomes("__colours/**__", folder) == {"red", "blue"}
    assert outcomes("__*__", folder) == {"red", "blue", "cat", "dog"}
    assert outcomes("__*cold__", folder) == {"blue"}
    assert outcomes("{2$$+$$__colours*__}", folder) == {"red+blue", "blue+red"}
    assert refusal("__x*__", folder)[0] == f"no wildcard file {folder / 'x*.txt'}"


def test_options_in_turn(tmp_path: Path) -> None:
    """As Dynamic Prompts counts: each choice by itself, and again from its start."""
    wildcards = Wildcards(write(tmp_path, colours="red\ngreen\nblue"))
    texts = [wildcards.expand("A {@red|green|blue} {@square|circle}", n).text for n in range(4)]
    assert texts == ["A red square", "A green circle", "A blue square", "A red circle"]
    lines = [wildcards.expand("__@colours__ {~a|a} __~colours__", n).text for n in range(4)]
    assert [line.split()[0] for line in lines] == ["red", "green", "blue", "red"]
    assert {line.split()[2] for line in lines} <= {"red", "green", "blue"}
    assert [wildcards.expand("{@0::a|b|c}", n).text for n in range(3)] == ["b", "c", "b"]


@pytest.mark.parametrize(
    "name",
    [
        "hawks,_eagles,_and_kites",
        "asian_and_grauer's_broadbills",
        "birds of prey, and others",
        "birds (small)",
        "oiseaux_d\u2019\u00e9t\u00e9",
        "\u9e1f\u7c7b",
        "\U0001f426s",
        "a&b+c=d",
        "50%_off!",
    ],
)
def test_names_as_files_have_them(tmp_path: Path, name: str) -> None:
    spelled = unicodedata.normalize("NFD", name)  # as macOS writes names down
    (tmp_path / f"{spelled}.txt").write_text("kestrel", encoding="utf-8")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / f"{name}.txt").write_text("merlin", encoding="utf-8")
    assert outcomes(f"a bird, __{name}__ in flight", tmp_path) == {"a bird, kestrel in flight"}
    assert outcomes(f"{{__{name}__}}, __deeper/{name}__", tmp_path) == {"kestrel, merlin"}


def test_a_name_with_a_slip_is_no_plain_text(tmp_path: Path) -> None:
    folder = write(tmp_path, **{"birds of prey, and others": "kestrel"})
    assert refusal("__birds of pray, and others__", folder)[1] == (
        "did you mean __birds of prey, and others__?"
    )
    assert refusal("__hawks,_eagles__")[0] == "no folder of wildcards for __hawks,_eagles__"
    assert outcomes("__init, main__ and __birds of prey, and others__", folder) == {
        "__init, main__ and kestrel"
    }
    assert refusal("__clothes(season=winter)__", folder)[0] == (
        "a wildcard with a variable: '__clothes(season=winter)__'"
    )


def test_a_tag_is_literal_unless_a_whole_part_of_it_is_a_wildcard(tmp_path: Path) -> None:
    folder = write(tmp_path, style="oil", loras="ink\npen")
    assert outcomes("<lora:my__style__v2:0.8> __style__", folder) == {
        "<lora:my__style__v2:0.8> oil"
    }
    assert outcomes("<lora:__loras__:0.8>", folder) == {"<lora:ink:0.8>", "<lora:pen:0.8>"}
    assert outcomes("<lora:{a|b}:1>") == {"<lora:a:1>", "<lora:b:1>"}
    assert outcomes("{<lora:x__style__y:1>|<lora:x__style__y:1>}") == {"<lora:x__style__y:1>"}


FIXED = [
    "a blue dog, fog and rain",
    "a red owl, rain and fog",
    "a red dog, snow and sun",
    "a red cat, fog and rain",
]


def test_one_seed_says_one_thing_for_ever() -> None:
    """Fixed words: they must not change with the machine, the version of Python, or ours."""
    text = "a {red|green|blue|pink} {cat|dog|fox|owl}, {2$$ and $$3::sun|rain|snow|fog}"
    wildcards = Wildcards()
    assert [wildcards.expand(text, seed).text for seed in range(4)] == FIXED
    code = (
        "from gcr.inputs.wildcards import Wildcards\n"
        f"print([Wildcards().expand({text!r}, seed).text for seed in range(4)] == {FIXED!r})"
    )
    for hashing in ("0", "1"):
        shown = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hashing, "PYTHONPATH": str(EXAMPLES.parent)},
        )
        assert shown.stdout == "True\n"


def test_two_texts_choose_apart() -> None:
    wildcards = Wildcards()
    pairs = {
        tuple(wildcards.expand(f"{{a|b}} {thing}", seed).text[0] for thing in ("cat", "dog"))
        for seed in range(50)
    }
    assert len(pairs) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {b|c", "a brace is not closed: '{b|c'"),
        ("a {b {c|d}", "a brace is not closed: '{b {c|d}'"),
        ("a {2$$b", "a brace is not closed: '{2$$b'"),
        ("{a|{b}", "a brace is not closed: '{a|{b}'"),
        ("{3$$a|b}", "'{3$$a|b}' asks for 3 of 2"),
        ("{1-3$$a|b}", "'{1-3$$a|b}' asks for 3 of 2"),
        ("{3-$$a|b}", "'{3-$$a|b}' asks for 3 of 2"),
        ("{2$$0::a|b}", "'{2$$0::a|b}' asks for 2 of 1"),
        ("{0::a|0::b}", "'{0::a|0::b}' asks for 1 of 0"),
        ("{2-1$$a|b}", "'{2-1$$a|b}' asks for 2 to 1"),
        ("{a|{9$$b}}", "'{9$$b}' asks for 9 of 1"),
        ("__colours__", "no folder of wildcards for __colours__"),
        ("${x={a|b}} ${x}", "a variable: '${x={a|b}} ${x}'"),
        ("{a|" * 3000 + "}" * 3000, "more than 64 wildcards inside each other"),
        ("{1234567$$|a}", "no number before $$: '{1234567$$|a}'"),
        ("{r$$red|blue}", "no number before $$: '{r$$red|blue}'"),
        ("{$$red|blue}", "no number before $$: '{$$red|blue}'"),
        ("{!red|blue} hat", "all combinations: '{!red|blue}'"),
        ("a __!colour__", "all combinations: '__!colour__'"),
        ("{@2$$a|b|c}", "several in turn: '{@2$$a|b|c}'"),
        ("${x?=a} b", "a variable: '${x?=a} b'"),
        ("%{ best $$ {a|b} }", "a wrapper: '%{ best $$ {a|b} }'"),
        (
            "{1500$$" + "|" * 1600 + "}",
            f"{'{1500$$' + '|' * 52!r}".removesuffix("'") + "…' asks for 1500",
        ),
    ],
)
def test_what_cannot_be_meant(text: str, message: str) -> None:
    assert refusal(text)[0] == message


def test_hints_say_how_to_write_it_plainly() -> None:
    assert r"write \{" in refusal("{a|b")[1]
    assert r"write \__init__" in refusal("def __init__(self)")[1]


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    folder = write(tmp_path / "wildcards", colours__warm="red", animals="cat")
    (tmp_path / "secret.txt").write_text("secret")
    message, hint = refusal("a __colour/warm__ cat", folder)
    assert message == f"no wildcard file {folder / 'colour' / 'warm.txt'}"
    assert hint == "did you mean __colours/warm__?"
    assert refusal("__zzz__", folder)[1] == "there is __animals__, __colours/warm__"
    assert refusal("__colours__", folder)[0].startswith("no wildcard file")
    assert refusal("__animals/*__", folder)[0].startswith("no wildcard file")
    assert refusal("__colours/../../secret__", folder)[0].startswith("no wildcard file")
    with pytest.raises(UsageError, match="no folder"):
        Wildcards(tmp_path / "gone")


def test_an_error_does_not_wait_for_its_seed(tmp_path: Path) -> None:
    folder = write(tmp_path, some="a\nb\n__gone__")
    wildcards = Wildcards(folder)
    for seed in range(20):
        with pytest.raises(UsageError, match="no wildcard file"):
            wildcards.expand("{x|y|z|__some__}", seed)


def test_files_in_a_circle(tmp_path: Path) -> None:
    folder = write(tmp_path, a="x\n{y|__b__}", b="__c__", c="__a__\nz", own="__own__", twice="q")
    assert refusal("__a__", folder)[0] == "wildcard files in a circle: a → b → c → a"
    assert refusal("__c__", folder)[0] == "wildcard files in a circle: c → a → b → c"
    assert refusal("__own__", folder)[0] == "wildcard files in a circle: own → own"
    assert outcomes("__twice__ __twice__", folder) == {"q q"}


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    folder = write(tmp_path, empty="\n# nothing\n", open="fine\n\n{a|b\n")
    assert refusal("__empty__", folder)[0] == f"no lines in {folder / 'empty.txt'}"
    message = refusal("__open__", folder)[0]
    assert message == f"{folder / 'open.txt'}, line 3: a brace is not closed: '{{a|b'"
    (folder / "latin.txt").write_bytes("red\ncaf\xe9\n".encode("latin-1"))
    message, hint = refusal("__latin__", folder)
    assert message == f"{folder / 'latin.txt'}, line 2: byte 0xe9 is not UTF-8"
    assert hint == "save it as UTF-8"


def test_files_that_lead_out_of_their_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = write(tmp_path / "wildcards", colours="red")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "inner.txt").symlink_to(folder / "colours.txt")
    (tmp_path / "other").symlink_to(folder)
    for text in ("__link__", "__l*__", "{a|__link__}"):
        message, hint = refusal(text, folder)
        assert message == f"{folder / 'link.txt'} leads out of its folder"
        assert hint == f"copy the file into {folder}"
    assert outcomes("__inner__", tmp_path / "other") == {"red"}


def test_files_that_are_no_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, large="x\n" * 600, small="y")
    os.mkfifo(folder / "pipe.txt")
    (folder / "folder.txt").mkdir()
    for name, problem in (("pipe", "it is not a regular file"), ("folder", "Is a directory")):
        message = refusal(f"__{name}__", folder)[0]
        assert message == f"cannot read {folder / f'{name}.txt'}: {problem}"
    monkeypatch.setattr(structured, "MOST_BYTES", 1 << 10)
    assert refusal("__large__", folder)[0] == f"{folder / 'large.txt'}: larger than 1 KiB"


def test_what_would_grow_without_end(tmp_path: Path) -> None:
    doubled = {f"a{n}": f"__a{n + 1}__ __a{n + 1}__" for n in range(30)}
    folder = write(tmp_path, **doubled, a30="red", **{f"b{n}": f"__b{n + 1}__" for n in range(99)})
    message, hint = refusal("__a0__", folder)
    assert message == "wildcards that become too much"
    assert hint == "10000 choices and 1048576 characters are the most"
    assert refusal("__b0__", folder)[0] == "more than 64 wildcards inside each other"
    (folder / "line.txt").write_text("x" * 1_000_000)
    assert refusal("__line__ __line__", folder)[0] == "wildcards that become too much"
    many = write(tmp_path / "many", lines="\n".join(map(str, range(30_000))))
    assert refusal("{30000$$__lines__}", many)[0] == "'{30000$$__lines__}' asks for 30000"
    assert len(Wildcards(many).expand("{1000$$__lines__}", 0).text.split(", ")) == 1000


def test_the_example_is_in_the_language_of_pocket() -> None:
    wildcards = Wildcards(EXAMPLES / "wildcards")
    entries = promptfile.read([EXAMPLES / "prompts" / "wildcards.txt"]).entries
    assert len(entries) == 6
    for entry in entries:
        words = {wildcards.expand(entry.prompt, seed).text for seed in range(40)}
        assert len(words) > 2
        for text in words:
            language.parse(text)
