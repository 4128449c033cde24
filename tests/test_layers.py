"""The shape of the code: imports flow one way, nothing heavy is imported early, nothing is huge."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "gcr").rglob("*.py"))

# From the top down. A part may import what stands below it, and itself; parts that share a line
# know nothing of each other. A new module has to be given a place here.
LAYERS = (
    ("__init__", "__main__"),
    ("cli", "pocket.train", "pocket.curve", "pocket.null", "pocket.acuity"),
    ("pocket.bench",),
    ("interruption", "approval", "comparisons.comparing", "comparisons.scoreboard"),
    ("comparisons.drawn",),
    ("comparisons.measuring",),
    ("comparisons.folder",),
    ("comparisons.figures", "comparisons.scores"),
    ("comparisons.arms", "comparisons.evaluators"),
    ("batches.batching",),
    ("batches.cluster",),
    ("batches.handout",),
    ("batches.worker",),
    ("batches.waves", "batches.plan"),
    ("batches.apart",),
    ("assembly", "rewards"),
    ("models", "doctor", "forecast"),
    ("calibration", "cautions", "bench"),
    ("fetching",),
    ("trust",),
    ("batches.overview", "recorded"),
    ("settings", "console"),
    ("endpoint_trust",),
    ("exports.exporting", "exports.pairfiles"),
    ("exports.preferences", "exports.layouts"),
    ("report",),
    ("batches.folder", "batches.summary"),
    ("batches.jobs",),
    ("strategies", "overlaps"),
    ("measured", "spreads"),
    ("outcome",),
    ("loop", "verdict"),
    ("stopping", "drawing.generator", "critic", "guards"),
    ("drawing.noise", "drawing.starting", "history"),
    ("device.memory", "checkpoint", "drawing.pipelines", "reply", "checklist", "comparison"),
    ("vetting",),
    ("configs",),
    ("spread",),
    ("relay",),
    ("outline", "store"),
    ("roundfile", "runfile"),
    ("rubric", "drawing.editing"),
    ("metadata", "pocket", "drawing.pixels", "drawing.samplers"),
    ("promptfile", "wildcards", "source"),
    ("formats", "imagefile"),
    ("profiles", "device.weights", "device.ladder", "given", "drawing.faster"),
    ("notebook",),
    ("refined",),
    ("answer", "declined", "quotes", "judgespeak"),
    ("claims", "earlier", "consent", "yamltext"),
    ("structured",),
    ("view", "wording", "plaintext", "livelines", "libraries", "files", "offline", "templates"),
    ("comparisons.statistics",),
    ("device.pinned", "device.residency", "device.card", "device.gate", "device.threads"),
    ("device.shortage", "signals", "streams", "stopwatch", "tuning", "aside"),
    ("errors", "records"),
    ("batches", "comparisons", "device", "drawing", "exports"),  # of these no more than the name
)
PLACES = {part: height for height, layer in enumerate(LAYERS) for part in layer}

HEAVY = (
    *("torch", "diffusers", "transformers", "bitsandbytes", "numpy", "PIL", "pydantic", "yaml"),
    *("pyarrow", "ray", "jinja2", "scipy"),
)


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in MODULES}


def part_of(module):
    parts = module.split(".")[1:] or ["__init__"]
    deeper = ".".join(parts[:2])
    return deeper if deeper in PLACES else parts[0]


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
    part = part_of(name_of(path))
    assert part in PLACES, f"{part} has no place in LAYERS"
    for module in imports_of(path):
        other = part_of(module)
        if module == "gcr" and "import gcr\n" in path.read_text():
            continue  # for its version
        assert other == part or PLACES[other] > PLACES[part], f"{name_of(path)} imports {module}"


def test_records_import_nothing_of_ours():
    assert imports_of(ROOT / "gcr" / "records.py") == set()


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from gcr.cli.app import run; run(['--help'])\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "refine" in shown.stdout
    assert shown.stderr.strip() == "[]"


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


def test_truth_is_out_of_reach_of_the_loop_and_the_critic():
    """What measures results must not steer them, on however long a way."""
    reached, waiting = set(), ["gcr.assembly", "gcr.cli.refine"]
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
