"""The pages say what is there: links, command lines, paths, names and the list of options."""

import ast
import json
import re
import runpy
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from markdown_it import MarkdownIt
from test_layers import ORDER

import gcr
from benchmarks import headline
from gcr.cli.app import app
from gcr.settings import profiles

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
HISTORY = ROOT / "CHANGELOG.md"  # tells of paths and options as they were
CURRENT = [page for page in PAGES if page != HISTORY]
FOLDERS = ("gcr", "docs", "tests", "examples", "benchmarks", "prompts", "pocket_training")
ROOMS = [room for room in ORDER if (ROOT / "gcr" / room).is_dir()]
PATH = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*\w/?")
PATH_IN_PACKAGE = re.compile(rf"(?:{'|'.join(ROOMS)})/\w+\.py")
COMMAND = re.compile(r"(?:\w+=\S* )*(?:\S*/)?gcr (?P<arguments>(?:(?!\[OPTIONS\]).)+)")
SHELLS = ("", "sh", "console")


def name(page):
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=name)
each_current_page = pytest.mark.parametrize("page", CURRENT, ids=name)


def tokens(page):
    """Every token of a page, also those inside of paragraphs and tables."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def anchors(page):
    """What a link to a heading ends in, as GitHub makes it."""
    names = set()
    for opening, inline in pairwise(tokens(page)):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children)
            names.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return names


def links(page):
    for token in tokens(page):
        if address := token.attrs.get("href") or token.attrs.get("src"):
            yield str(address)


def code(page):
    """Pieces of code as (language, text); the language of code inside of a sentence is None."""
    for token in tokens(page):
        if token.type == "code_inline":
            yield None, token.content
        elif token.type == "fence":
            yield token.info.strip(), token.content


def command_lines(page):
    """The arguments of every `gcr` command line, and whether it is a whole one."""
    for language, text in code(page):
        if language not in (None, *SHELLS):
            continue
        for line in text.replace("\\\n", " ").splitlines():
            if written := COMMAND.fullmatch(line.strip()):
                yield written["arguments"], language is not None


def check(arguments, *, whole):
    """Read a command line as gcr would, and run nothing.

    whole: whether nothing that has to be given may be left out.
    """
    lexer = shlex.shlex(arguments, posix=True, punctuation_chars="|;&>")
    lexer.whitespace_split = True
    words = list(lexer)
    end = next((i for i, word in enumerate(words) if word[0] in "|;&>"), len(words))
    command_name, *rest = words[:end]
    if command_name.startswith("-") or command_name == "COMMAND":
        return
    command = typer.main.get_command(app).get_command(None, command_name)
    assert command, f"there is no command gcr {command_name}"
    try:
        command.make_context(command_name, rest)
    except typer.Exit:
        pass  # --help
    except typer.TyperException as error:
        if whole or not error.format_message().startswith("Missing"):
            pytest.fail(f"gcr {arguments}: {error.format_message()}")


@each_page
def test_every_link_inside_the_repository_leads_somewhere(page):
    for address in links(page):
        if "://" in address:
            continue
        path, _, anchor = address.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), address
        if anchor:
            assert anchor in anchors(target), address


@each_current_page
def test_every_command_line_is_one_that_gcr_reads(page):
    for arguments, whole in command_lines(page):
        check(arguments, whole=whole)


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        ("refine x --nothing", False),
        ("refine x --rounds many", False),
        ("no-such-command", False),
        ("batch --rounds 3", True),
    ],
)
def test_a_wrong_command_line_is_noticed(arguments, whole):
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        check(arguments, whole=whole)


@each_current_page
def test_every_path_module_and_target_is_there(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for _, text in code(page):
        for line in text.splitlines():
            if path := PATH.fullmatch(line.strip()):
                assert (ROOT / path[0]).exists(), line
            if path := PATH_IN_PACKAGE.fullmatch(line.strip()):
                assert (ROOT / "gcr" / path[0]).exists(), line
            for module in re.findall(r"python3? -m ((?:benchmarks|pocket_training)[\w.]*)", line):
                whole = ROOT / module.replace(".", "/")
                assert whole.with_suffix(".py").exists() or whole.is_dir(), line
            for target in re.findall(r"^(?:\$ )?make ([a-z][\w-]*)", line):
                assert target in targets, line


@each_current_page
def test_python_on_the_pages_names_what_gcr_has(page):
    for language, text in code(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "gcr":
                assert node.attr in gcr.__all__, node.attr


def test_the_page_of_options_is_that_of_the_command_line():
    """`make docs` writes it anew."""
    script = ROOT / "docs" / "options.py"
    assert runpy.run_path(str(script))["page"]() == script.with_suffix(".md").read_text()


def test_the_readme_is_short_and_names_every_page():
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= 150
    named = {(ROOT / address.partition("#")[0]).resolve() for address in links(readme)}
    assert not [page.name for page in (ROOT / "docs").glob("*.md") if page not in named]


def test_the_figures_of_pages_are_those_that_were_measured():
    """`make headline` measures them anew, with the weights that are shipped, and writes them."""
    record = json.loads(headline.RECORD.read_text())
    for page in headline.PAGES:
        assert headline.rewritten(page.read_text(), record) == page.read_text()
    assert record["weights_sha256"] == headline.weights()
    record["arms"][0]["mean"] += 0.01
    for page in headline.PAGES:
        assert headline.rewritten(page.read_text(), record) != page.read_text()


def test_rooms_are_listed_from_the_top_down():
    """A row `name/` for each package, in the order that imports have to keep."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert re.findall(r"^\| `(\w+)/` \|", text, flags=re.MULTILINE) == ROOMS


def test_every_profile_is_listed():
    text = (ROOT / "docs" / "profiles.md").read_text()
    assert [name for name in profiles.known() if f"| `{name}` |" not in text] == []
