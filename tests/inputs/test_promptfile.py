"""Prompt files: every published form, what becomes of its columns, and files that are broken."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import contextmanager
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeCritic, FakeGenerator

import gcr
from gcr.critic import critic
from gcr.drawing import generator
from gcr.engine import cluster, models
from gcr.engine.crew import Worker
from gcr.errors import UsageError
from gcr.inputs import promptfile
from gcr.inputs.promptfile import Entry
from gcr.pocket import language

EXAMPLES = Path(__file__).parents[2] / "examples" / "prompts"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file into a folder that is the current one; gives the name."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: str | bytes | list | dict) -> str:
        if isinstance(content, list | dict):
            content = json.dumps(content)
        if isinstance(content, str):
            content = content.encode()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name

    return write_file


@pytest.fixture
def pipe(monkeypatch):
    """Put bytes on standard input."""

    def pipe_bytes(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return pipe_bytes


def entries(*sources: str | Path) -> list[Entry]:
    read = promptfile.read(sources)
    assert read.skipped == []
    return read.entries


def prompts(*sources: str | Path) -> list[str]:
    return [entry.prompt for entry in entries(*sources)]


def ids(*sources: str | Path) -> list[str]:
    return [entry.id for entry in entries(*sources)]


def refusal(*sources: str | Path, skip_bad: bool = False) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        promptfile.read(sources, skip_bad=skip_bad)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value.message, caught.value.hint


def skipped(source: str) -> tuple[list[str], list[tuple[str, str]]]:
    """What is left of a file without its bad rows, and where these stand and why."""
    read = promptfile.read([source], skip_bad=True)
    assert refusal(source)[0] == f"{read.skipped[0].place}: {read.skipped[0].reason}"
    assert "--skip-bad" in refusal(source)[1]
    return [e.prompt for e in read.entries], [(s.place, s.reason) for s in read.skipped]


# Files as published


def test_t2i_compbench(write):
    name = write("spatial_val.txt", "a giraffe next to a lamp\r\na key\r\n\r\n  a cat \r\na pig")
    assert entries(name) == [
        Entry("1", "a giraffe next to a lamp", name, row=1, line=1),
        Entry("2", "a key", name, row=2, line=2),
        Entry("3", "a cat", name, row=3, line=4),
        Entry("4", "a pig", name, row=4, line=5),
    ]


def test_geneval(write):
    include = [{"class": "bench", "count": 1}]
    rows = [
        {"tag": "single_object", "include": include, "prompt": "a photo of a bench"},
        {"tag": "two", "include": [], "exclude": include, "prompt": "a photo of a cow"},
    ]
    name = write("metadata.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    bench, cow = ({k: v for k, v in row.items() if k != "prompt"} for row in rows)
    assert entries(name) == [
        Entry("1", "a photo of a bench", name, row=1, line=1, extra=bench),
        Entry("2", "a photo of a cow", name, row=2, line=2, extra=cow),
    ]


def test_partiprompts_whose_quotes_are_text(write):
    name = write(
        "PartiPrompts.tsv",
        "Prompt\tCategory\tChallenge\tNote\n"
        "bond\tAbstract\tBasic\tBiology\n"
        '"G I G G L E" painted on a wall\tIllustrations\tWriting & Symbols\t\n'
        'a sign that says "Deep"\tWorld\tWriting\tLongest: "a, b"\n',
    )
    assert prompts(name) == [
        "bond",
        '"G I G G L E" painted on a wall',
        'a sign that says "Deep"',
    ]
    assert entries(name)[1].extra == {
        "Category": "Illustrations",
        "Challenge": "Writing & Symbols",
        "Note": "",
    }
    assert ids(name) == ["1", "2", "3"]


def test_a_tsv_with_csv_quoting(write):
    name = write("a.tsv", 'Prompt\tNote\n"a\tb ""c""\nd"\tx\na cat\ty\n')
    assert [(e.prompt, e.line) for e in entries(name)] == [('a\tb "c"\nd', 2), ("a cat", 4)]


def test_drawbench(write):
    with_header = write("a.csv", "Prompts,Category\nA red car.,Colors\n")
    (entry,) = entries(with_header)
    assert (entry.id, entry.prompt, entry.extra) == ("1", "A red car.", {"Category": "Colors"})
    numbered = write("b.csv", "No.,Prompts,Category\n17,A red car.,Colors\n")
    assert ids(numbered) == ["17"]
    headerless = write("c.tsv", "A red car.\t12\tColors\nA cat, blue.\t7\tColors\n")
    assert entries(headerless) == [
        Entry("1", "A red car.", headerless, 1, 1, 12, {"category": "Colors"}),
        Entry("2", "A cat, blue.", headerless, 2, 2, 7, {"category": "Colors"}),
    ]
    wider = write("d.tsv", "A red car.\t12\tColors\tx\ty\n")
    assert entries(wider)[0].extra == {"category": "Colors", "column 4": "x", "column 5": "y"}
    assert entries(write("e.tsv", "A red car.\t12\n"))[0].seed == 12
    assert prompts(write("f.tsv", "A red car.\nA blue one.\n")) == ["A red car.", "A blue one."]


def test_dpg_bench_folder(write):
    write("dpg/partiprompts101.txt", "A long\nprompt.\n")
    write("dpg/10.txt", "\ufeffa cat ")
    write("dpg/.hidden.txt", b"\xff\xfe")
    write("dpg/notes.md", "no prompt")
    write("dpg/deeper/x.txt", "no prompt")
    source = str(Path("dpg", "10.txt"))
    first, second = entries("dpg")
    assert first == Entry("10", "a cat", source, 1, 1)
    assert (second.id, second.prompt, second.row) == ("partiprompts101", "A long\nprompt.", 2)


def test_several_rows_a_prompt(write):
    """As DPG-Bench and DSG-1k: questions are rows, a prompt has many."""
    name = write(
        "dsg.csv",
        "item_id,text,proposition_id,dependency,question,source\n"
        "whoops_5,A cube,1,0,Is there a cube?,whoops\n"
        'whoops_5,A cube,2,1,"Is it, well, purple?",whoops\n'
        "x_1,A dog,1,0,Is there a dog?,x\n"
        "whoops_5,A cube,3,1,Big?,whoops\n",
    )
    cube, dog = entries(name)
    assert (cube.id, cube.prompt, cube.row, cube.line) == ("whoops_5", "A cube", 1, 2)
    assert cube.extra == {
        "proposition_id": ["1", "2", "3"],
        "dependency": ["0", "1", "1"],
        "question": ["Is there a cube?", "Is it, well, purple?", "Big?"],
        "source": "whoops",
    }
    assert (dog.id, dog.row, dog.extra["question"]) == ("x_1", 3, "Is there a dog?")


def test_unigenbench(write):
    cell = json.dumps({"testpoints": ["Style", "Layout"]}, indent=1)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["index", "prompt_zh", "prompt_en", "sub_dims"])
    writer.writerows([[0, "一只猫", "A cat", cell], [1, "狗", "A dog", ""]])
    name = write("test_prompts_en.csv", out.getvalue().encode("utf-8-sig"))
    first, second = entries(name)
    assert (first.id, first.prompt) == ("0", "A cat")
    assert first.extra == {"prompt_zh": "一只猫", "sub_dims": cell}
    assert (first.line, second.line) == (2, 8)


def test_genai_bench(write):
    name = write(
        "genai.json",
        b"\xef\xbb\xbf"
        + json.dumps(
            {
                "00000": {"id": "00000", "prompt": "A cat", "models": {"x": [1, 2.5, None]}},
                "00007": {"prompt": "A dog"},
            },
            indent=2,
        ).encode(),
    )
    first, second = entries(name)
    assert (first.id, first.prompt, first.line) == ("00000", "A cat", 2)
    assert first.extra == {"key": "00000", "models": {"x": [1, 2.5, None]}}
    assert (second.id, second.prompt, second.extra) == ("00007", "A dog", {})


def test_tifa(write):
    name = write("tifa.json", '\n[{"id": "coco_1", "caption": "A cat"},\n\n {"caption": "x"} ]\n')
    first, second = entries(name)
    assert (first.id, first.prompt, first.line) == ("coco_1", "A cat", 2)
    assert (second.id, second.prompt, second.line) == ("2", "x", 4)


def test_oneig_in_chinese(write):
    name = write("OneIG-Bench-ZH.csv", "category,id,prompt_cn,class\nAnime,000,一只红色的猫,a\n")
    (entry,) = entries(name)
    assert (entry.id, entry.prompt) == ("000", "一只红色的猫")
    assert entry.extra == {"category": "Anime", "class": "a"}


def test_tiif(write):
    row = {"type": "2d", "short_description": "a cat", "long_description": "a cat that sits"}
    name = write("tiif.jsonl", json.dumps(row))
    assert prompts(name) == ["a cat"]
    assert prompts_of(name, "Long_Description") == ["a cat that sits"]


def test_wise(write):
    rows = [{"Prompt": "a birch", "prompt_id": 701}, {"Prompt": "a maple", "prompt_id": 702}]
    assert ids(write("wise.json", rows)) == ["701", "702"]


def prompts_of(name: str, column: str) -> list[str]:
    return [entry.prompt for entry in promptfile.read([name], column=column).entries]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Words,prompt\na cat,x\n"),
        ("a.csv", "sep=;\r\nWords;prompt\r\na cat;x\r\n"),
        ("a.csv", "Words;prompt\na cat;x\n"),
        ("a.tsv", "Words\tprompt\na cat\tx\n"),
        ("a.jsonl", '{"Words": "a cat", "prompt": "x"}'),
        ("a.json", '{"Words": "a cat", "prompt": "x"}'),
        ("a.yaml", "- {Words: a cat, prompt: x}"),
        ("a.yaml", "1: {Words: a cat, prompt: x}"),
        ("a.txt", "a cat"),
        ("a.tsv", "a cat\t5\tx"),
        ("set/a.txt", "a cat"),
    ],
)
def test_a_column_that_is_named(write, name, content):
    write(name, content)
    (entry,) = promptfile.read([name.partition("/")[0]], column="words").entries
    assert entry.prompt == "a cat"
    with pytest.raises(UsageError) as caught:
        promptfile.read([write("b.csv", "worte,prompt\na cat,x\n")], column="words")
    assert caught.value.message == "b.csv: no column 'words'; there is 'worte', 'prompt'"
    assert caught.value.hint.startswith("is 'worte' meant to be 'words'?")


def test_parquet_with_a_column_that_is_named(write):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"Words": ["a cat"], "prompt": ["x"]}), write("a.parquet", b""))
    assert prompts_of("a.parquet", "words") == ["a cat"]


def test_a1111_lines(write, caplog):
    name = write(
        "a.txt",
        '--prompt "a stone castle" --negative_prompt "trees, plants" --steps 20\n'
        "--prompt a dog --seed 5 --width 512\n"
        "\n"
        "a --prompt-like text\n"
        "--prompt it\\'s 'a \"sign\"' --seed -1\n",
    )
    castle, dog, text, sign = entries(name)
    assert (castle.prompt, castle.negative) == ("a stone castle", "trees, plants")
    assert castle.extra == {"negative_prompt": "trees, plants", "steps": "20"}
    assert (dog.prompt, dog.seed, dog.line) == ("a dog", 5, 2)
    assert text.prompt == "a --prompt-like text"
    assert (sign.prompt, sign.seed) == ('it\'s a "sign"', None)
    assert [record.message for record in caplog.records] == [
        (
            "a.txt: flags that are not heeded: --steps, --width; "
            "a batch has one setting for all of its prompts"
        )
    ]


def test_a1111_lines_that_are_broken(write):
    lines = [
        '--prompt "a dog',
        "--prompt a --promt b",
        "--seed 5",
        "--prompt a --seed x",
        "--prompt a --seed 5 6",
        "--prompt a --prompt b",
        "--prompt --seed 5",
        "--prompt z",
    ]
    kept, bad = skipped(write("a.txt", "\n".join(lines)))
    assert kept == ["z"]
    assert bad == [
        ("a.txt, line 1", "malformed quotes: No closing quotation"),
        ("a.txt, line 2", "A1111 has no flag '--promt'"),
        ("a.txt, line 3", "no --prompt"),
        ("a.txt, line 4", "seed 'x'"),
        ("a.txt, line 5", "--seed with 2 values"),
        ("a.txt, line 6", "--prompt stands twice"),
        ("a.txt, line 7", "--prompt with 0 values"),
    ]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
@pytest.mark.parametrize("line", ["sep={}", '"sep={}"', "SEP={}"])
def test_what_excel_says_of_separators(write, ending, separator, line):
    rows = [
        line.format(separator),
        f"prompt{separator}id",
        f'"a red{separator} fast car"{separator}x',
    ]
    (entry,) = entries(write(f"a.{ending}", "\ufeff" + "\r\n".join(rows)))
    assert (entry.prompt, entry.id) == (f"a red{separator} fast car", "x")
    assert (entry.row, entry.line) == (1, 3)


@pytest.mark.parametrize("line", ["sep=", 'sep="', "sep=a", "sep=  ", "sep=;;", "sep=\r"])
def test_what_is_no_separator(write, line):
    assert refusal(write("a.csv", f"{line}\nprompt\na\n"))[0].startswith(
        "a.csv: no column of prompts"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '\n{"prompt": "a red car", "seed": 1, "x": {"y": 2}}'),
        ("a.yaml", "# mine\nprompt: a red car\nseed: 1\nx: {y: 2}\n"),
        ("a.jsonl", '\n{"prompt": "a red car", "seed": 1, "x": {"y": 2}}'),
    ],
)
def test_one_object_is_one_prompt(write, name, content):
    assert entries(write(name, content)) == [
        Entry("1", "a red car", name, 1, 2, seed=1, extra={"x": {"y": 2}})
    ]


def test_one_object_without_a_prompt(write):
    message = "no column of prompts; there is 'promt', 'seed'"
    assert refusal(write("a.json", {"promt": "a", "seed": 1}))[0] == f"a.json, line 1: {message}"
    assert refusal(write("a.yaml", "promt: a\nseed: 1"))[0] == f"a.yaml, line 1: {message}"
    assert ids(write("b.json", {"prompt": {"prompt": "a"}, "text": {"text": "b"}})) == [
        "prompt",
        "text",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '["a cat", "a dog"]'),
        ("a.jsonl", '"a cat"\n\n"a dog"\n'),
        ("a.yaml", "# mine\n- a cat\n- 'a dog'\n"),
        ("a.YML", "[a cat, a dog]"),
        ("a.txt", "a cat\ra dog"),
        ("a.tsv", "Text\na cat\na dog"),
        ("a.csv", "﻿caption\r\na cat\r\n\r\na dog\r\n"),
    ],
)
def test_lists(write, name, content):
    assert [(e.id, e.prompt) for e in entries(write(name, content))] == [
        ("1", "a cat"),
        ("2", "a dog"),
    ]


def test_yaml(write):
    name = write(
        "a.yaml",
        "- prompt: a cat\n  seed: 5\n  day: 2026-08-23\n  tags: [x, 1]\n"
        "- text: |\n    two\n    lines\n",
    )
    first, second = entries(name)
    assert (first.seed, first.line) == (5, 1)
    assert first.extra == {"day": "2026-08-23", "tags": ["x", 1]}
    assert (second.prompt, second.line) == ("two\nlines\n", 5)
    keyed = write("b.yaml", "00012:\n  prompt: a cat\n00013: {prompt: a dog}\n")
    assert [(e.id, e.line) for e in entries(keyed)] == [("00012", 1), ("00013", 3)]


def test_parquet(write):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    image = pa.array(
        [{"bytes": b"png", "path": "x"}] * 3,
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    columns = {
        "Prompt": ["a cat", "a dog", "an owl"],
        "index": [0, 1, 2],
        "seed": [3.0, None, 5.0],
        "score": [0.5, float("nan"), 1.0],
        "tags": [["x"], [], None],
        "image": image,
        "raw": [b"1", b"2", b"3"],
    }
    parquet.write_table(pa.table(columns), write("a.parquet", b""))
    first, second, _ = entries("a.parquet")
    assert first == Entry("0", "a cat", "a.parquet", 1, 0, 3, {"score": 0.5, "tags": ["x"]})
    assert (second.id, second.seed, second.extra["score"]) == ("1", None, None)
    parquet.write_table(pa.table({"prompt": ["a cat", None]}), "b.parquet")
    assert skipped("b.parquet") == (["a cat"], [("b.parquet, row 2", "the prompt is empty")])
    parquet.write_table(pa.table({"promt": ["a cat"]}), "c.parquet")
    message, hint = refusal("c.parquet")
    assert message == "c.parquet: no column of prompts; there is 'promt'"
    assert "is 'promt' meant to be 'prompt'?" in hint
    assert "cannot read d.parquet" in refusal(write("d.parquet", b"PAR1"))[0]


def test_parquet_without_its_extra(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message, hint = refusal(write("a.parquet", b"PAR1"))
    assert message == "a.parquet: no pyarrow to read it"
    assert "gcr[parquet]" in hint


# Standard input


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a cat\n\na dog", ["a cat", "a dog"]),
        (b"\xef\xbb\xbfa cat", ["a cat"]),
        (b'{"prompt": "a cat"}\n{"prompt": "a dog"}\n', ["a cat", "a dog"]),
        (b'\n {"text":"a cat", "x": {}}', ["a cat"]),
        (b'{"a \\" b": 1, "prompt": "a cat"}\n', ["a cat"]),
        (b'["a cat",\n"a dog"]', ["a cat", "a dog"]),
        (b'[\n{"prompt": "a cat"}]', ["a cat"]),
        (b'{"1": {"prompt": "a cat"},\n"2": {"prompt": "a dog"}}', ["a cat", "a dog"]),
        (b'{\n"prompt":\n"a cat"}', ["a cat"]),
        (b"{a|b} cat\n{c} dog", ["{a|b} cat", "{c} dog"]),
        (b'{"a"|"b"} cat', ['{"a"|"b"} cat']),
        (b'"SALE" on a sign', ['"SALE" on a sign']),
        (b"[cat:dog:0.5]", ["[cat:dog:0.5]"]),
        (b"1984\n", ["1984"]),
    ],
)
def test_standard_input(pipe, content, expected):
    pipe(content)
    assert prompts("-") == expected


def test_standard_input_that_is_broken(pipe):
    pipe(b"a cat\nb\xe9b")
    assert refusal("-")[0] == "stdin, line 2: byte 0xe9 is not UTF-8"
    pipe(b'{"prompt": "a cat"}\nand a dog\n')
    assert refusal("-")[0].startswith("stdin, line 2: not JSON")
    pipe(b'{\n"prompt": "a cat"\n}\n{\n"prompt": "a dog"\n}\n')
    assert refusal("-")[0].startswith("stdin, line 4: not JSON")
    pipe(b'{"promt": "a cat"}')
    assert "'promt'" in refusal("-")[0]
    pipe(b"\n")
    assert refusal("-")[0] == "stdin holds no prompts"


# Columns


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": "b", "PROMPT": "a"}, "a"),
        ({"caption": "b", "Text": "a"}, "a"),
        ({"superficial_prompt": "b", "instruction": "a"}, "a"),
        ({"prompt_zh": "b", "prompt_en": "a", "text": "c"}, "a"),
        ({" Prompts ": "a"}, "a"),
    ],
)
def test_the_first_known_name_is_the_prompt(write, columns, expected):
    name = write("a.jsonl", json.dumps(columns))
    (entry,) = entries(name)
    assert entry.prompt == expected
    assert set(entry.extra) == {key for key, value in columns.items() if value != expected}


@pytest.mark.parametrize(
    ("columns", "id_"),
    [
        ({"ID": "x", "index": 4}, "x"),
        ({"line_number": 3, "key": "k"}, "k"),
        ({"No.": "12"}, "12"),
        ({"id": 0}, "0"),
        ({"id": 3.0}, "3"),
        ({"id": " x "}, "x"),
        ({"id": None}, "1"),
        ({"id": ""}, "1"),
        ({"number": 7}, "1"),
    ],
)
def test_the_first_known_name_is_the_id(write, columns, id_):
    assert ids(write("a.json", [{"prompt": "a cat"} | columns])) == [id_]


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, 0),
        ("12", 12),
        (" 12 ", 12),
        (12.0, 12),
        ("12.0", 12),
        (4294967295, 4294967295),
        ("", None),
        (None, None),
        (float("nan"), None),
        (-1, None),  # A1111's word for any
    ],
)
def test_seeds(write, seed, expected):
    name = write("a.jsonl", json.dumps({"prompt": "a cat", "Random_Seed": seed}))
    assert entries(name)[0].seed == expected


@pytest.mark.parametrize("seed", ["x", -2, 1.5, True, 4294967296, [1], "1_000", "٣", "9" * 5000])
def test_what_is_no_seed(write, seed):
    name = write("a.jsonl", json.dumps({"prompt": "a cat", "seed": seed}))
    message, hint = refusal(name)
    assert message.startswith("a.jsonl, line 1: seed ")
    assert len(message) < 100
    assert "a whole number from 0 to 4294967295" in hint


def test_a_prompt_is_what_is_written(write):
    odd = ' "a"\ttab, C:\\x {a|b} <b> 画 🎨\u2028 '
    name = write("a.jsonl", json.dumps({"prompt": odd}))
    assert prompts(name) == [odd]
    out = io.StringIO()
    csv.writer(out).writerows([["prompt"], [odd], ["x\r\ny"]])
    assert prompts(write("a.csv", out.getvalue())) == [odd, "x\r\ny"]
    assert prompts(write("a.txt", f"{odd}\n")) == [odd.strip()]


def test_only_line_ends_end_a_line(write):
    odd = "a\u2028b\x0bc\x1cd\x85e"
    assert prompts(write("a.txt", odd)) == [odd]
    assert prompts(write("a.jsonl", json.dumps({"prompt": odd}, ensure_ascii=False))) == [odd]
    assert prompts(write("a.csv", f"prompt\n{odd}\n")) == [odd]


def test_extra_is_json(write):
    name = write("a.yaml", "- {prompt: x, at: 12:30:00, n: .nan, b: !!binary aGk=, 5: {6: 7}}")
    (entry,) = entries(name)
    assert entry.extra == {"at": 45000, "n": None, "b": "b'hi'", "5": {"6": 7}}
    json.dumps(entry.extra, allow_nan=False)


def test_an_entry_does_not_change(write):
    (entry,) = entries(write("a.txt", "a cat"))
    with pytest.raises(FrozenInstanceError):
        entry.prompt = "a dog"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_of_spreadsheets(write, separator):
    rows = [["prompt", "seed", "note", ""], ["a, b; c", "5", "x", ""], ["d", "", "y", ""]]
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows(rows)
    first, second = entries(write("a.csv", out.getvalue() + separator * 3 + "\r\n"))
    assert (first.prompt, first.seed) == ("a, b; c", 5)
    assert second.extra == {"note": "y", "column 4": ""}


def test_cells_of_any_length(write):
    long = "red " * 100_000
    csv.field_size_limit(131_072)
    assert prompts(write("a.csv", f'prompt,x\n"{long}",1\n')) == [long]
    assert prompts(write("a.tsv", f"{long}\t1\n")) == [long]
    assert csv.field_size_limit() == 131_072


# Rows that belong together, and rows that do not


def test_ids_of_one_file_become_distinct(write):
    name = write(
        "a.csv",
        "id,prompt,seed\ncat,a,\ncat,b,\ncat-2,c,\ncat,a,\ncat,d,\n,e,\n6,f,\ncat,a,7\n",
    )
    assert [(e.id, e.prompt, e.seed) for e in entries(name)] == [
        ("cat", "a", None),
        ("cat-3", "b", None),
        ("cat-2", "c", None),
        ("cat-4", "d", None),
        ("6", "e", None),
        ("6-2", "f", None),
        ("cat-5", "a", 7),
    ]


def test_rows_without_an_id_stay_apart(write):
    assert ids(write("a.txt", "a cat\na cat\n")) == ["1", "2"]
    assert ids(write("a.csv", "id,prompt\n,a cat\n,a cat\n")) == ["1", "2"]


def test_files_with_ids_in_common_put_their_name_in_front(write):
    birds, cats = write("birds.txt", "owl\ncrow"), write("sub/cats.txt", "cat")
    named = write("named.csv", "id,prompt\nx,a dog\n")
    assert ids(birds) == ["1", "2"]
    assert ids(birds, named, cats) == ["birds-1", "birds-2", "x", "cats-1"]
    assert ids(birds, "sub") == ["1", "2", "cats"]
    assert ids(write("folder/1.txt", "cat").replace("1.txt", ""), birds)[0] == "folder-1"
    also = write("sub/birds.txt", "wren")
    assert ids(birds, also) == ["birds-1", "birds-2", "birds-1-2"]


def test_standard_input_among_files(write, pipe):
    pipe(b"a cat")
    assert ids("-", write("a.txt", "a dog")) == ["stdin-1", "a-1"]


def test_a_file_is_read_once(write):
    name = write("a.txt", "a cat")
    for other in (name, f"./{name}", Path(name).resolve()):
        assert refusal(name, other)[0] == f"{other} is given more than once"
    assert refusal("-", "-")[0] == "- is given more than once"


def test_row_numbers_do_not_move_when_a_row_is_skipped(write):
    name = write("a.jsonl", '{"prompt": "a"}\nx\n{"prompt": "b"}')
    read = promptfile.read([name], skip_bad=True)
    assert [(e.id, e.row) for e in read.entries] == [("1", 1), ("3", 3)]


# What is broken


def test_bad_lines(write):
    assert skipped(write("a.txt", b"a\nb\xe9\n\n\x00c\nd\n")) == (
        ["a", "d"],
        [("a.txt, line 2", "byte 0xe9 is not UTF-8"), ("a.txt, line 4", "a NUL byte")],
    )


def test_bad_csv_rows(write):
    content = (
        b"prompt,seed\n"
        b'"two\nlines",1\n'  # 2, 3
        b"b\n"
        b"c,1,2\n"
        b",3\n"
        b"d,x\n"
        b'"e\n\xff",1\n'  # 8, 9
        b'"f" g,1\n'
        b"h\x00,1\n"
        b"i,1\n"
    )
    kept, bad = skipped(write("a.csv", content))
    assert kept == ["two\nlines", "i"]
    assert [place for place, _ in bad] == [f"a.csv, line {n}" for n in (4, 5, 6, 7, 9, 10, 11)]
    assert [reason.split(":")[0] for _, reason in bad] == [
        "1 field where there are 2 columns",
        "3 fields where there are 2 columns",
        "the prompt is empty",
        "seed 'x'",
        "byte 0xff is not UTF-8",
        "malformed quotes",
        "a NUL byte",
    ]


def test_a_quote_that_is_never_closed_takes_no_other_row_with_it(write):
    kept, bad = skipped(write("a.csv", 'prompt,x\na,1\n"b,2\nc,3\nd,4\n'))
    assert kept == ["a", "c", "d"]
    assert [place for place, _ in bad] == ["a.csv, line 3"]


def test_bad_json_lines(write):
    lines = [
        b'{"prompt": "a"}',
        b"{prompt: b}",
        b'{"prompt": "b"} {"prompt": "c"}',
        b'{"prompt": 5}',
        b'{"prompt": null}',
        b'{"prompt": " "}',
        b'{"prompt": ["b"]}',
        b'{"promt": "b"}',
        b"{}",
        b"[1]",
        b"null",
        b"true",
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "b", "x": {"y": ["\\u0000"]}}',
        b'{"prompt": "b", "id": ["b"]}',
        b'{"prompt": "b", "x": ' + b"[" * 100_000,
        b'{"prompt": "b", "n": ' + b"9" * 5000 + b"}",
        b'{"prompt": "z"}',
    ]
    kept, bad = skipped(write("a.jsonl", b"\n".join(lines)))
    assert kept == ["a", "z"]
    assert [place for place, _ in bad] == [f"a.jsonl, line {n}" for n in range(2, 19)]
    reasons = [reason for _, reason in bad]
    assert reasons[0].startswith("not JSON: Expecting property name")
    assert reasons[1] == "not JSON: Extra data, column 17"
    assert reasons[2:12] == [
        "the prompt is the number 5, not a text",
        "the prompt is empty",
        "the prompt is empty",
        "the prompt is a list, not a text",
        "no column of prompts; there is 'promt'",
        "no column of prompts; there is none at all",
        "a list is no prompt",
        "nothing is no prompt",
        "true or false is no prompt",
        "byte 0xff is not UTF-8",
    ]
    assert reasons[12:15] == [*["a character that no text has"] * 2, "the id is a list"]
    assert reasons[15] == "more than 64 lists and objects inside each other"
    assert reasons[16] == "a number of more than 1000 digits"


def test_bad_items_of_a_document(write):
    kept, bad = skipped(write("a.json", '[\n"a",\n\n5, {\n"x": 1}, ""]'))
    assert kept == ["a"]
    assert bad == [
        ("a.json, line 4", "the number 5 is no prompt"),
        ("a.json, line 4", "no column of prompts; there is 'x'"),
        ("a.json, line 5", "the prompt is empty"),
    ]
    kept, bad = skipped(write("b.json", '{"a": {"prompt": "x"},\n"b": "y"}'))
    assert (kept, bad) == (["x"], [("b.json, line 2", "'b' is no object with a prompt in it")])
    kept, bad = skipped(write("c.yaml", "- a\n- 1984\n- b: c\n- no\n- [d]\n"))
    assert kept == ["a"]
    assert [place for place, _ in bad] == [f"c.yaml, line {n}" for n in (2, 3, 4, 5)]


def test_bad_files_of_a_folder(write):
    write("set/a.txt", "a cat")
    write("set/b.txt", "")
    write("set/c.txt", b"a\ncaf\xe9")
    b, c = Path("set", "b.txt"), Path("set", "c.txt")
    assert skipped("set") == (
        ["a cat"],
        [(f"{b}, line 1", "the prompt is empty"), (f"{c}, line 2", "byte 0xe9 is not UTF-8")],
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[1,\n2", "a.json, line 2: not JSON: Expecting ',' delimiter, column 2"),
        ("a.json", '"a cat"', "a.json: no list and no object"),
        ("a.json", b'[\n"\xe9"]', "a.json, line 2: byte 0xe9 is not UTF-8"),
        (
            "a.json",
            "[" * 100_000,
            "a.json, line 1: more than 64 lists and objects inside each other",
        ),
        (
            "a.yaml",
            "- a\n- b: [}\n- c",
            "a.yaml, line 2: not YAML: did not find expected node content",
        ),
        (
            "a.yaml",
            "- a\n- &x {prompt: b, own: *x}\n",
            "a.yaml, line 2: not YAML: nothing whole is called 'x'",
        ),
        (
            "a.yaml",
            "- a\n- !!python/name:os.system x",
            (
                "a.yaml, line 2: not YAML: could not determine a constructor for the tag "
                "'tag:yaml.org,2002:python/name:os.system'"
            ),
        ),
        ("a.yaml", "a cat", "a.yaml: no list and no object"),
        ("a.yaml", "- a\x07", "a.yaml: not YAML: a character that it does not allow"),
        ("a.yaml", b"- a\n- \xe9", "a.yaml, line 2: byte 0xe9 is not UTF-8"),
        ("a.csv", "promt,kind\na,b\n", "a.csv: no column of prompts; there is 'promt', 'kind'"),
        ("a.tsv", "promt\tkind\na\tb\n", "a.tsv: no column of prompts; there is 'promt', 'kind'"),
        ("a.csv", "prompt,x,x\na,b,c\n", "a.csv: two columns are called 'x'"),
        ("a.csv", b"prompt,\xe9\na,b\n", "a.csv, line 1: byte 0xe9 is not UTF-8"),
        ("a.txt", "a cat".encode("utf-16"), "a.txt: UTF-16 instead of UTF-8"),
        ("a.txt", "", "a.txt holds no prompts"),
        ("a.csv", "", "a.csv holds no prompts"),
        ("a.csv", "prompt,x\n", "a.csv holds no prompts"),
        ("a.tsv", "\n", "a.tsv holds no prompts"),
        ("a.jsonl", "\n", "a.jsonl holds no prompts"),
        ("a.json", "[]", "a.json holds no prompts"),
        ("a.json", "{ }", "a.json holds no prompts"),
        ("a.yaml", "# none\n", "a.yaml holds no prompts"),
        ("a.docx", "x", "a.docx: a prompt file is known by its ending"),
        ("set/a.md", "x", ""),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_file_that_is_wrong_as_a_whole(write, name, content, message, skip_bad):
    write(name, content)
    if not message:
        name, message = "set", "no .txt files in the folder set"
    assert refusal(name, skip_bad=skip_bad)[0] == message


def test_hints_for_columns(write):
    hint = refusal(write("a.csv", "Promt,kind\na,b\n"))[1]
    assert hint.startswith("is 'Promt' meant to be 'prompt'? it can be called prompt, prompts")
    hint = refusal(write("a.csv", "zzz\na\n"))[1]
    assert hint.startswith("it can be called prompt, prompts")


def test_files_that_are_not_there(write, tmp_path):
    assert refusal("gone.txt")[0] == "no file 'gone.txt'"
    assert "prompt files" in refusal("a red cat")[1]
    assert refusal()[0] == "no prompts in no files"


def test_nothing_is_left(write):
    name = write("a.jsonl", "x\ny\n")
    assert refusal(name, skip_bad=True)[0] == "no prompts in a.jsonl"


def test_the_same_files_say_the_same(write):
    name = write("a.csv", "id,prompt,x\na,b,1\na,c,2\na,b,3\n")
    assert promptfile.read([name]) == promptfile.read([name])


# Ours


@pytest.mark.parametrize(
    ("name", "count"),
    [("shapes.txt", 8), ("shapes.csv", 8), ("shapes.jsonl", 6), ("shapes.yaml", 6)],
)
def test_examples_are_in_the_language_of_pocket(name, count):
    prompts = entries(EXAMPLES / name)
    assert len(prompts) == count
    for entry in prompts:
        language.parse(entry.prompt)


def test_examples_together():
    every = entries(*(EXAMPLES / f"shapes.{kind}" for kind in ("txt", "csv", "jsonl", "yaml")))
    assert len({entry.id for entry in every}) == len(every) == 28
    by_id: dict[str, Any] = {entry.id: entry for entry in every}
    assert by_id["shapes-relation-1"].extra["note"] == "ask of each side:\nhow many are there?"


# The column `negative_prompt`: a setting of the drawing, as --negative is


def test_a_row_has_its_own_negative_prompt_and_the_others_that_of_the_settings(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    generator = FakeGenerator()
    monkeypatch.setattr(models, "load_models", lambda *_, **__: (generator, FakeCritic({})))
    file = tmp_path / "p.csv"
    file.write_text("prompt,negative_prompt\na red circle, blurry \na blue star,\n")
    done = gcr.batch(file, negative="dark", rounds=1, images=1)
    drawn = {c.prompt: c.negative for call in generator.calls for c in call}
    assert drawn == {"a red circle": "blurry", "a blue star": "dark"}
    record = json.loads((done.folder / done.results[0].folder / "run.json").read_text())
    assert record["request"]["negative"] == "blurry"
    assert done.results[0].extra == {"negative_prompt": " blurry "}  # it rides along, too
    drawings = len(generator.calls)
    assert len(gcr.batch(file, into=done.folder, negative="dark", rounds=1, images=1).results) == 2
    assert len(generator.calls) == drawings
    file.write_text("prompt,negative_prompt\na red circle,grey\na blue star,\n")
    with pytest.raises(UsageError, match="columns of prompt 1"):
        gcr.batch(file, into=done.folder, negative="dark", rounds=1, images=1)


def test_rows_with_other_negative_prompts_are_other_entries(tmp_path):
    file = tmp_path / "p.jsonl"
    rows = [{"id": "a", "prompt": "a star", "negative_prompt": n} for n in ("red", "blue", "red")]
    file.write_text("\n".join(map(json.dumps, rows)))
    entries = promptfile.read([file]).entries
    assert [(entry.id, entry.negative) for entry in entries] == [("a", "red"), ("a-2", "blue")]


def test_a_negative_prompt_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a star", "negative_prompt": ["red"]}\n')
    with pytest.raises(UsageError, match="the negative prompt is a list"):
        promptfile.read([file])


@pytest.mark.parametrize("ray", [None, "local"])
def test_a_pipeline_that_takes_none_is_refused_before_anything_is_drawn(monkeypatch, tmp_path, ray):
    class Taking(FakeGenerator):
        limit, heeds_negative = 0, False

        def check_negative(self):
            raise UsageError("it takes no negative prompt")

    @contextmanager
    def crew(order, near, *_):
        Worker().load(order, near, {})
        yield

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "crew", crew)
    monkeypatch.setattr(generator, "check", lambda *_, **__: None)
    monkeypatch.setattr(generator, "load", lambda *_, **__: Taking())
    monkeypatch.setattr(critic, "load", lambda *_, **__: FakeCritic({}))
    file = tmp_path / "p.csv"
    file.write_text("prompt,negative_prompt\na red circle,\na blue star,dark\n")
    with pytest.raises(UsageError, match="it takes no negative prompt"):
        gcr.batch(file, into="b", ray=ray)
    assert not Path("b").exists() or list(Path("b").iterdir()) == []
    file.write_text("prompt,negative_prompt\na red circle,\n")
    if not ray:
        assert not gcr.batch(file, into="b", rounds=1).failures


# As files of other programs have them


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", '\ufeffPrompt;Negative Prompt;Seed\n"a star; red";blurry;-1\n'),
        ("a.csv", "Positive Prompt,negative,seed\na star; red,blurry,-1.0\n"),
        ("a.jsonl", '{"prompt": "a star; red", "negative": "blurry", "seed": -1}\n'),
    ],
)
def test_negative_prompts_and_any_seed_by_the_names_that_people_write(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    (entry,) = promptfile.read([tmp_path / name]).entries
    assert (entry.prompt, entry.negative, entry.seed) == ("a star; red", "blurry", None)


def test_what_would_be_taken_for_words_is_warned_of(tmp_path, caplog):
    lines = ["# cats", "a fox --ar 16:9 --no text", "a hare --n dog", "a well-known star -- red"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    assert [entry.prompt for entry in promptfile.read([tmp_path / "a.txt"]).entries] == lines
    flags, remarks = caplog.messages
    assert "flags behind prompts are read as words of the prompt: --ar, --no, --n;" in flags
    assert "lines that begin with # are read as prompts: 1" in remarks
    caplog.clear()
    (tmp_path / "a.txt").write_text("a fox - red -- and blue\n#1girl, solo\n")
    promptfile.read([tmp_path / "a.txt"])
    assert not caplog.records
