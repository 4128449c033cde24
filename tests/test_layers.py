"""The shape of the code: imports flow one way, and nothing heavy is imported early."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "gcr").rglob("*.py"))

ORDER = (
    *("__main__", "cli", "__init__", "api", "diagnose", "ui", "results", "comparison", "engine"),
    *("storage", "critic", "drawing", "inputs", "hub", "settings", "device"),
    *("files", "pocket", "core", "errors"),
)
"""The rooms of the package from the top down: each may import what stands below it, and itself."""
HEIGHTS = {room: height for height, room in enumerate(ORDER)}

HEAVY = (
    *("torch", "diffusers", "transformers", "bitsandbytes", "numpy", "PIL", "pydantic", "yaml"),
    *("pyarrow", "ray", "jinja2", "scipy"),
)


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in MODULES}


def room_of(module):
    return ([*module.split("."), "__init__"])[1]


def imports_of(path):
    """The modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in NAMES else base)
    return {name for name in found if name in NAMES}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_flow_one_way(path):
    name = name_of(path)
    assert room_of(name) in HEIGHTS, f"{name} is in no room"
    for imported in imports_of(path):
        if imported == "gcr" and "import gcr\n" in path.read_text():
            continue  # for its version
        lower = HEIGHTS[room_of(imported)] >= HEIGHTS[room_of(name)]
        assert lower, f"{name} imports {imported}"


def test_records_import_nothing_of_ours():
    assert imports_of(ROOT / "gcr" / "core" / "records.py") == set()


@pytest.mark.parametrize("command", ["", "refine", "batch", "compare", "resume"])
def test_help_imports_nothing_heavy(command):
    code = (
        f"import sys; from gcr.cli.app import run; run({[*command.split(), '--help']})\n"
        f"print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "refine" in shown.stdout
    by_typer = {"pydantic"} if command else set()  # imported for every command with options
    assert set(shown.stderr.split()) <= by_typer


def loaded_by(code):
    """The modules that Python has loaded when it has run some code."""
    code += "\nimport sys; print(*sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stderr.split())


def test_help_imports_little_more_than_its_two_libraries():
    """So it is shown at once; `make help-time` has the seconds."""
    base = loaded_by("import typer, rich")
    show_help = "import sys; from gcr.__main__ import main; sys.argv[1:] = ['--help']; main()"
    shown = loaded_by(show_help)
    packages = [{name.partition(".")[0] for name in names} for names in (base, shown)]
    assert packages[1] - packages[0] - sys.stdlib_module_names == {"gcr"}
    assert len(shown) <= 1.1 * len(base)


FIRST_WORDS = """
import os, sys

class First:
    encoding = "utf-8"

    def write(self, text):
        if text.strip():
            shown = [text.strip(), *(name for name in {heavy} if name in sys.modules)]
            os.write(1, "|".join(shown).encode())
            os._exit(0)
        return len(text)

    def flush(self): ...
    def isatty(self): return False

sys.stderr = First()
sys.argv[1:] = {arguments}
from gcr.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("refine", "a red circle"),
        ("batch", "prompts.txt"),
        ("compare", "prompts.txt", "--evaluator", "truth"),
        ("critique", "image.png", "a red circle"),
        ("bench",),
        ("calibrate", "a red circle"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_first_words_come_before_any_heavy_import(arguments, tmp_path):
    """Also where nobody sits at a terminal: seconds of silence look like a tool that hangs."""
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    Image.new("RGB", (128, 128), "red").save(tmp_path / "image.png")
    heavy = ("torch", "diffusers", "transformers", "bitsandbytes", "accelerate", "scipy")
    code = FIRST_WORDS.format(heavy=heavy, arguments=list(arguments))
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "loading torch, transformers and diffusers"


def test_truth_is_out_of_reach_of_the_loop_and_the_critic():
    """What measures results must not steer them, on however long a way."""
    reached, waiting = set(), ["gcr.engine.single", "gcr.cli.refine"]
    by_name = {name_of(path): path for path in MODULES}
    while waiting:
        module = waiting.pop()
        if module in reached or module not in by_name:
            continue
        reached.add(module)
        # The package itself is imported for its version; what it offers, it loads when asked.
        waiting += imports_of(by_name[module]) - {"gcr"}
    assert "gcr.pocket" in reached
    assert "gcr.pocket.truth" not in reached
