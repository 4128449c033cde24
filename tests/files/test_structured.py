"""Bounds on what others wrote: nothing that a file holds takes the machine or the interpreter."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gcr.critic import rubric
from gcr.errors import GcrError, UsageError
from gcr.files import structured
from gcr.files.structured import MalformedError, Problem, first_problem
from gcr.inputs import promptfile, rows
from gcr.settings import profiles, resolving
from gcr.settings.measurements import SPREADS
from gcr.storage.batchfolder import BatchFolder
from gcr.storage.runfolder import load_run
from gcr.storage.timings import past_runs

DEEP = 50_000
ALIASES = "\n".join(
    f"{'abcdefghij'[n]}: &{'abcdefghij'[n]} [{', '.join(['*' + 'abcdefghij'[n - 1]] * 9)}]"
    for n in range(1, 10)
)
BOMB = f"a: &a [lol, lol, lol]\n{ALIASES}\n"


def refused(text: str) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        structured.parse_yaml(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("a:\n  " + "[" * DEEP, "more than 64 lists and objects inside each other", 2),
        ("- " * DEEP + "a", "more than 64 lists and objects inside each other", 1),
        ("{a: " * DEEP, "more than 64 lists and objects inside each other", 1),
        (BOMB, "more than 1000000 values", 7),
        ("- &a " + "x" * 1_000_000 + "\n- [" + "*a, " * 100 + "]", "more than 1000000 values", 2),
        ("- &a {b: *a}", "not YAML: nothing whole is called 'a'", 1),
        ("- *a", "not YAML: nothing whole is called 'a'", 1),
        ("n:\n  " + "9" * 5000, "a number of more than 1000 digits", 2),
        ("n: " + "1:" * 2000 + "1", "a number of more than 1000 digits", 1),
        ("n: " + "1:" * 2000 + "1.5", "a number of more than 1000 digits", 1),
        ("a: 1\nb: 2\na: 3", "'a' stands twice in one object", 3),
        ("1: a\n0x1: b", "'0x1' stands twice in one object", 2),
        ('a: "\\0"', "a character that no text has", 1),
        ("a: 1\n---\nb: 2", "not YAML: a second document", 3),
        ("!!int x", "not YAML: a value that is not of its type", 1),
        ("- !!int ''", "not YAML: a value that is not of its type", 1),
        ("!!bool maybe", "not YAML: a value that is not of its type", 1),
        ("!!timestamp soon", "not YAML: a value that is not of its type", 1),
        ("2026-99-99", "not YAML: a value that is not of its type", 1),
    ],
)
def test_yaml_that_is_beyond_a_bound_or_none(text: str, problem: str, line: int) -> None:
    error = refused(text)
    assert (error.problem, error.line) == (problem, line)


def test_merges_do_not_multiply() -> None:
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    assert refused("\n".join(lines)).problem == "more than 1000000 values"


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, {c: d, e: [~, 1.5, .inf]}]\nf: 2026-01-01",
        "- &x {p: 1}\n- *x\n- {<<: *x, q: 2}\n- {<<: *x, p: 3}",
        "",
        "# nothing",
        "5",
        "a: !!set {b, c}\nd: !!binary aGk=\ne: ! 5\nf: !!str 5\ng: 0x1f",
        "? [a, b]\n: c",
    ],
)
def test_yaml_is_read_as_pyyaml_reads_it(text: str) -> None:
    try:
        expected = yaml.safe_load(text)
    except yaml.YAMLError:
        refused(text)
    else:
        assert structured.parse_yaml(text) == expected


def test_json_that_is_beyond_a_bound() -> None:
    for text, problem in (
        ("[" * DEEP, "more than 64 lists and objects inside each other"),
        ("[" * 65 + "]" * 65, "more than 64 lists and objects inside each other"),
        ('\n{"a": ' * DEEP, "more than 64 lists and objects inside each other"),
        ("[" + "[]," * 1_000_001 + "0]", "more than 1000000 lists and objects"),
        ('{"a": ' + "9" * 100_000 + "}", "a number of more than 1000 digits"),
        ('{"a": 1, "a": 2}', "'a' stands twice in one object"),
        ('{"a": 1', "not JSON: Expecting ',' delimiter, column 8"),
    ):
        with pytest.raises(MalformedError) as caught:
            structured.parse_json(text)
        assert caught.value.problem == problem
    marks = '"[{' * 1000 + '"'
    assert structured.parse_json(json.dumps([marks, {"a": marks}])) == [marks, {"a": marks}]


def test_what_batches_record_may_be_deeper_than_what_they_read() -> None:
    column = "[" * 64 + "]" * 64
    structured.parse_json(column)
    structured.parse_record(f'{{"entries": [{{"extra": {{"x": {column}}}}}]}}'.encode())
    with pytest.raises(MalformedError):
        structured.parse_record(b"[" * DEEP)


# Files of settings, profiles, rubrics, records


def readers(folder: Path) -> dict[str, object]:
    """What reads a YAML file, by a name."""
    return {
        "settings": lambda path: resolving.from_file(path, ["seed"]),
        "profile": lambda path: profiles.load(str(path)),
        "rubric": rubric.load,
        "prompts": lambda path: promptfile.read([path]),
    }


HOSTILE = {
    "deep": "a: " + "[" * DEEP,
    "bomb": BOMB,
    "digits": "seed: " + "9" * 100_000,
    "twice": "seed: 1\nseed: 2",
    "nul": 'a: "\\0"',
    "utf-16": "a: 1".encode("utf-16"),
    "latin": "a: caf\xe9".encode("latin-1"),
}


@pytest.mark.parametrize("reader", readers(Path()))
@pytest.mark.parametrize("kind", [*HOSTILE, "large", "pipe", "folder", "device"])
def test_hostile_files(tmp_path: Path, reader: str, kind: str) -> None:
    path = tmp_path / "own.yaml"
    if kind == "large":
        with path.open("wb") as file:
            file.truncate(structured.MOST_BYTES + 1)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        content = HOSTILE[kind]
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        readers(tmp_path)[reader](path)
    assert caught.value.hint
    assert ("larger than" in caught.value.message) == (kind == "large")
    assert str(path) in caught.value.message or (reader == "prompts" and kind == "folder")


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_of_measurements_stops_nothing(tmp_path, caplog, kind) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    path = SPREADS.path(environ)
    path.parent.mkdir()
    content = HOSTILE[kind]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert SPREADS.read(environ) == {}
    assert "was damaged" in caplog.text


@pytest.mark.parametrize(
    "content", [b"[" * DEEP, b'{"a": 1, "a": 2}', b'{"a": "\xff"}', b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_records_of_a_folder_from_elsewhere(tmp_path: Path, content: bytes) -> None:
    for name, reader in (("run.json", load_run), ("batch.json", BatchFolder.open)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GcrError, match="is damaged"):
            reader(tmp_path)


def test_a_pipe_among_records_holds_up_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(UsageError, match="it is not a regular file"):
        load_run(tmp_path)
    run = tmp_path / "2026-01-01" / "120000-a"
    run.mkdir(parents=True)
    os.mkfifo(run / "run.json")
    assert past_runs(tmp_path, {}).runs == 0


# Prompt files


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: str) -> str:
        Path(name).write_text(content, encoding="utf-8")
        return name

    return write_file


def refusal(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        promptfile.read([name])
    return caught.value.message


def test_a_hundred_thousand_prompts(write) -> None:
    """In YAML, which takes the most for each."""
    lines = (f"- prompt: a red cat, {'detailed, ' * 6}number {n}" for n in range(100_000))
    content = "\n".join(lines)
    assert len(content) > 9_000_000
    assert len(promptfile.read([write("a.yaml", content)]).entries) == 100_000


def test_columns_and_cells_beyond_a_bound(write) -> None:
    names = [f"c{n}" for n in range(30_000)]
    table = f"prompt,{','.join(names)}\na{',' * 30_000}\n"
    assert refusal(write("a.csv", table)) == "a.csv: 30001 columns, and 1000 are the most"
    row = json.dumps({"prompt": "a", **dict.fromkeys(names, 1)})
    assert refusal(write("a.jsonl", row)) == "a.jsonl, line 1: 30001 columns"
    long = "x" * (rows.MOST_CHARACTERS + 1)
    problem = "a cell of more than 1048576 characters, or a quote that is not closed"
    assert refusal(write("b.csv", f"prompt,x\na,{long}\n")) == f"b.csv, line 2: {problem}"
    for name, content in (
        ("b.txt", long),
        ("b.jsonl", json.dumps({"prompt": "a", "x": [long]})),
        ("b.yaml", f"- prompt: a\n  x: {long}"),
    ):
        assert refusal(write(name, content)) == f"{name}, line 1: a text of 1048577 characters"


def test_rows_beyond_a_bound(write, monkeypatch) -> None:
    monkeypatch.setattr(rows, "MOST_ROWS", 3)
    assert refusal(write("a.txt", "a\n" * 4)) == "a.txt: more than 3 rows"
    assert refusal(write("a.csv", "prompt\n" + "a\n" * 9)) == "a.csv: more than 3 rows"
    assert len(promptfile.read([write("b.csv", "prompt\n" + "a\n" * 3)]).entries) == 3
    monkeypatch.setattr(rows, "MOST_LINES", 12)
    assert refusal(write("c.csv", "prompt\n" + "\n" * 12)) == "c.csv: more than 12 lines"


def test_aliases_in_columns_do_not_multiply(write) -> None:
    nested = "\n".join(f"    {line}" for line in BOMB.splitlines())
    name = write("a.yaml", f"- prompt: a cat\n  extra:\n{nested}\n")
    assert refusal(name) == "a.yaml, line 9: more than 1000000 values"


def test_names_that_stand_twice(write) -> None:
    twice = "'prompt' stands twice in one object"
    row = '{"prompt": "a", "prompt": "b"}'
    assert refusal(write("a.jsonl", row)) == f"a.jsonl, line 1: {twice}"
    assert refusal(write("a.json", f'["c",\n{row}]')) == f"a.json, line 2: {twice}"
    assert refusal(write("b.json", row)) == f"b.json: {twice}"
    assert refusal(write("a.yaml", "- prompt: a\n  prompt: b")) == f"a.yaml, line 2: {twice}"


def test_a_name_of_a_column_that_no_text_has(write) -> None:
    name = write("a.jsonl", '{"prompt": "a", "x\\ud800": 1}')
    assert refusal(name) == "a.jsonl, line 1: a character that no text has"


def test_parquet_is_not_unpacked_beyond_a_bound(tmp_path, monkeypatch) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    text = "red " * 500
    few = pa.array(["a cat"] * 1_000_000)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int8()), pa.array([text]))
    parquet.write_table(pa.table({"prompt": few, "x": column}), "a.parquet", compression="zstd")
    assert Path("a.parquet").stat().st_size < 500_000
    assert refusal("a.parquet") == "a.parquet: more than 64 MiB of texts and numbers"
    parquet.write_table(pa.table({"prompt": pa.array(["a"] * 1_000_001)}), "b.parquet")
    assert refusal("b.parquet") == "b.parquet: 1000001 rows, and 1000000 are the most"
    wide = {"prompt": ["a"], **{f"c{n}": [1] for n in range(1500)}}
    parquet.write_table(pa.table(wide), "c.parquet")
    assert refusal("c.parquet") == "c.parquet: 1501 columns, and 1000 are the most"
    os.mkfifo("d.parquet")
    assert refusal("d.parquet") == "cannot read d.parquet: it is not a regular file"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=2)] = "ok"


class Outer(BaseModel):
    count: int
    inner: Inner = Inner()

    @field_validator("count")
    @classmethod
    def _even(cls, count):
        if count % 2:
            raise ValueError("is odd")
        return count


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"count": "x"}, Problem("value", ("count",), "should be a whole number", "x")),
        ({"count": 3}, Problem("value", ("count",), "is odd", 3)),
        ({}, Problem("missing", ("count",), "is missing", {})),
        ({"inner": {"nmae": "x"}}, Problem("unknown", ("inner", "nmae"), "is not known", "x")),
        (
            {"count": 2, "inner": {"name": "x"}},
            Problem("value", ("inner", "name"), "should have at least 2 characters", "x"),
        ),
    ],
)
def test_the_first_problem_and_an_unknown_key_before_all_others(values, problem):
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    actual = first_problem(caught.value)
    assert actual == problem
