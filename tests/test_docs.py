"""The pages say what is there: links, command lines, paths, names and the list of options; and what
they tell to type and to write works.
"""

import json
import re
import runpy
import shlex
import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from markdown_it import MarkdownIt
from PIL import Image
from serving import completion
from test_layers import ORDER

from benchmarks import headline
from gcr.cli.app import app
from gcr.device.residency import GIB, Footprint, plan
from gcr.engine import models
from gcr.settings import profiles
from gcr.settings.schema import OPTIONS

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
ELSEWHERE = re.compile(
    r"-m |--critic|--profile (?!pocket)|--scores|^(ui|pull|bench|doctor)\b|climb"
)
"""Command lines that need a GPU, a network, a server or a browser, or are run by other tests."""
LOAD_MODELS = models.load_models


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


@pytest.fixture(params=["fakes", pytest.param("pocket", marks=pytest.mark.slow)])
def desk(request, cli, monkeypatch, tmp_path):
    """A folder with what the pages name, and the tool: on fakes, or on the embedded pair."""
    shutil.copytree(ROOT / "examples", "examples")
    shutil.copytree(ROOT / "docs" / "gallery", "docs/gallery")
    for name in ("prompts.txt", "three.txt"):
        Path(name).write_text("a red circle\na blue star\n")
    shutil.copy("examples/prompts/shapes.jsonl", "prompts.jsonl")
    row = {"tag": "counting", "include": [{"class": "circle", "count": 2}]}
    row["prompt"] = "two red circles, a blue star and a green square"  # refining has to gain
    Path("evaluation_metadata.jsonl").write_text(json.dumps(row))
    shutil.copy("docs/gallery/01-raw.png", "old.png")
    for name in ("a.png", "b.png", "one.png", "two.jpg", "three.webp"):
        Image.open("old.png").convert("RGB").save(name)
    cli.fake = request.param == "fakes"
    if not cli.fake:
        monkeypatch.setattr(models, "load_models", LOAD_MODELS)
    assert cli("refine", "a red circle", "--rounds", "1").code == 0  # to be shown and rated
    return cli


def runnable(page):
    """Command lines of a page that run on any machine, as lists of words."""
    return [
        words
        for arguments, whole in command_lines(page)
        if whole
        for piece in re.split(r"; gcr |  +#", arguments)
        if not piece.startswith(" ") and not ELSEWHERE.search(piece)
        for words in [shlex.split(piece, comments=True)]
    ]


@pytest.mark.parametrize("page", [page for page in CURRENT if any(runnable(page))], ids=name)
def test_every_command_line_runs(page, desk):
    for words in runnable(page):
        if words[0] == "compare" and desk.fake:  # truth does not read what fakes draw
            words += ["--evaluator", "command:sed s/.*/1/"]
        ran = desk(*words)
        assert ran.code == 0, (words, ran.err)


@pytest.mark.parametrize("desk", ["pocket"], indirect=True)
@pytest.mark.parametrize(
    "page",
    [pytest.param("README.md", marks=pytest.mark.slow), "docs/python.md", "docs/exports.md"],
)
def test_python_on_the_pages_runs(page, desk):
    """In one go, as somebody who reads from the top would type it."""
    known = {
        "images": [Image.open("docs/gallery/01-raw.png").convert("RGB")],
        "prompts": ["a red circle"],
        "metadata": [{}],
    }
    blocks = [text for language, text in code(ROOT / page) if language == "python"]
    assert blocks
    for text in blocks:
        exec(compile(text, page, "exec"), known)  # noqa: S102 - our own pages


def test_the_evaluator_of_the_page_measures(tmp_path):
    (text,) = (t for kind, t in code(ROOT / "docs" / "comparing.md") if kind == "python")
    known = {}
    exec(compile(text, "comparing.md", "exec"), known)  # noqa: S102 - our own page
    Image.new("RGB", (8, 8), (51, 51, 51)).save(tmp_path / "dark.png")
    sample = SimpleNamespace(id="1", prompt="", image=tmp_path / "dark.png", columns={})
    assert list(known["Brightness"].load("2").score([sample])) == [("1", pytest.approx(0.4))]


def test_the_rubric_of_the_page_is_asked_and_read(cli, stage):
    (rubric,) = (t for kind, t in code(ROOT / "docs" / "rubrics.md") if kind == "yaml")
    Path("mine.yaml").write_text(rubric)
    form = rubric[rubric.index("# User Request Analysis") : rubric.index("complaint:")]
    reply = re.sub(r"(?m)^  ", "", form).replace("## Score: ...", "## Score: 3.5", 1)
    reply = reply.replace("## Score: ...", "## Score: 2")
    stage.answer = lambda body: completion(reply, prompt_tokens=len(str(body)))
    Image.new("RGB", (64, 64), "red").save("photo.png")
    how = ("--critic", f"http://127.0.0.1:{stage.port}/v1#staged", "--rubric", "mine.yaml")
    ran = cli("critique", "photo.png", "a red kettle", *how, "--json")
    assert ran.code == 0, ran.err
    scores = re.findall(r'"aspect": "(.+?)", "score": ([\d.]+)', ran.out, flags=re.IGNORECASE)
    assert {name.lower(): float(score) for name, score in scores} == {
        "text faithfulness": 3.5,
        "presentation": 2.0,
    }
    assert "before a plain background" in json.dumps(stage.asked)
    assert cli("refine", "a red kettle", *how, "--dry-run").code == 0


def test_the_page_of_options_is_that_of_the_command_line():
    """`make docs` writes it anew."""
    script = ROOT / "docs" / "options.py"
    text = script.with_suffix(".md").read_text()
    assert runpy.run_path(str(script))["page"]() == text
    assert [key for key in OPTIONS if f"| `{key}` |" not in text] == []
    sources = "".join(path.read_text() for path in (ROOT / "gcr").rglob("*.py"))
    variables = set(re.findall(r'"(GCR_[A-Z_]+)"', sources))
    assert variables
    assert [variable for variable in variables if f"`{variable}" not in text] == []


def test_the_readme_is_short_and_the_index_names_every_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    index = ROOT / "docs" / "README.md"
    assert index in {ROOT / address.partition("#")[0] for address in links(ROOT / "README.md")}
    named = {(index.parent / address.partition("#")[0]).resolve() for address in links(index)}
    pages = set((ROOT / "docs").glob("*.md")) - {index}
    assert [page.name for page in pages - named] == []


def test_the_page_of_profiles_says_what_their_files_say():
    """And what the planner makes of the weights that their comments count."""
    page = ROOT / "docs" / "profiles.md"
    for profile_name in profiles.known():
        profile = profiles.load(profile_name)
        lines = [
            [cell.strip(" `") for cell in line.strip("|").split("|")]
            for line in page.read_text().splitlines()
            if line.startswith("|") and f"| `{profile_name}` |" in line
        ]
        assert lines, profile_name
        if not profile.vram_gb:
            continue
        download, kept, gpu, ram = lines[0][4:8]
        assert download == f"{profile.download_gb:g} GB"
        assert gpu == f"{profile.vram_gb:g} GiB"
        assert ram == f"{profile.ram_gb:g} GiB"
        comments = (Path(profiles.__file__).parent / f"{profile_name}.yaml").read_text()
        counted = " ".join(comments[: comments.index("description:")].split()).replace("# ", "")
        pattern = r"(?:transformer|encoder|VAE|critic in NF4) ([\d.]+) GB"
        *parts, critic = (int(float(gb) * 1e9) for gb in re.findall(pattern, counted))
        assert len(parts) == 3
        assert kept == f"{critic / 1e9:g} GB"
        pair = [Footprint(sum(parts), max(parts)), Footprint(critic, critic)]
        card = float(lines[0][0].removesuffix(" GB")) * GIB
        planned = plan(("both", "swap", "offload"), pair, int(card * 0.94))
        assert lines[1][3].startswith(f"{planned.needs / GIB:.1f} GiB"), profile_name


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
