"""The options of commands that draw, each a type, grouped as their help shows them.

A default of None means "not given": the value then comes from the environment, a file, the
profile or the settings' own default, which is what the help shows.
"""

from pathlib import Path
from typing import Annotated

import typer

MODELS = "Models"
IMAGE = "Image (the profile's values, where none are given)"
LOOP = "Loop"
OUTPUT = "Output"

Prompt = Annotated[
    str,
    typer.Argument(
        metavar="PROMPT",
        help="What to draw, or how to change --image; - reads it from stdin.",
    ),
]

Source = Annotated[
    Path | None,
    typer.Option(
        "-i",
        "--image",
        metavar="FILE",
        help="An image to edit; PROMPT says how. Needs an editing pipeline and a critic other "
        "than the embedded pair.",
        rich_help_panel=IMAGE,
    ),
]

Profile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Two models and settings that suit them, as gcr profiles lists them; auto: what this "
        "machine can run (default: pocket).",
        rich_help_panel=MODELS,
    ),
]
Generator = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--generator",
        metavar="ID|FOLDER",
        help="A diffusers pipeline, by hub id or folder.",
        rich_help_panel=MODELS,
    ),
]
Critic = Annotated[
    str | None,
    typer.Option(
        metavar="ID|FOLDER|URL",
        help="An image-text-to-text model of transformers, by hub id or folder; or of an "
        "OpenAI-compatible server, as http://host:8000/v1#model.",
        rich_help_panel=MODELS,
    ),
]
Rubric = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="What the critic is asked, and how it answers.",
        rich_help_panel=MODELS,
    ),
]
Score = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where scores come from. reply: the numbers the critic writes; soft: the numbers it "
        "was expected to write; checklist: yes/no questions it takes the request apart into "
        "(default: reply).",
        rich_help_panel=MODELS,
    ),
]
Judges = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Judge each image so often; only a gain beyond the spread then counts "
        "(default: 1, and the spread that gcr calibrate measured).",
        rich_help_panel=MODELS,
    ),
]
Residency = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What stays on a GPU. both: both models; swap: the one at work; offload: of the "
        "generator only the part at work; auto: the first of these that fits (default: auto).",
        rich_help_panel=MODELS,
    ),
]
Overlap = Annotated[
    bool | None,
    typer.Option(
        "--overlap/--no-overlap",
        metavar="",
        help="Draw for some prompts while images of others are judged, where the critic is on a "
        "server or the GPU has room for both models at work (default: as gcr bench found, or else "
        "where the critic is on a server).",
        rich_help_panel=MODELS,
    ),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        metavar="",
        help="Compile the generator's blocks: the first image takes longer, the others less "
        "(default: no-compile).",
        rich_help_panel=MODELS,
    ),
]
StepCache = Annotated[
    bool | None,
    typer.Option(
        "--step-cache/--no-step-cache",
        metavar="",
        help="Skip most of the generator in steps where little changes, which costs a little "
        "likeness; one image at a time (default: no-step-cache).",
        rich_help_panel=MODELS,
    ),
]

Seed = Annotated[
    int | None,
    typer.Option(
        "-s",
        "--seed",
        metavar="N",
        help="Equal seeds and settings draw equal images; give another for others (default: 0).",
        rich_help_panel=IMAGE,
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        "-W",
        "--width",
        metavar="PIXELS",
        help="Width of each image.",
        rich_help_panel=IMAGE,
    ),
]
Height = Annotated[
    int | None,
    typer.Option(
        "-H",
        "--height",
        metavar="PIXELS",
        help="Height of each image.",
        rich_help_panel=IMAGE,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Inference steps.",
        rich_help_panel=IMAGE,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Guidance scale.",
        rich_help_panel=IMAGE,
    ),
]
Negative = Annotated[
    str | None,
    typer.Option(
        "-n",
        "--negative",
        metavar="TEXT",
        help="What must not be in the image.",
        rich_help_panel=IMAGE,
    ),
]

Strategy = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What each round draws. refine: rewritten prompts on fresh seeds; best-of-n: the "
        "prompt as it is on fresh seeds; rewrite: rewritten prompts on one seed; reflect: the best "
        "image, noised and drawn again; evolve: the best image's noise, changed a little "
        "(default: refine).",
        rich_help_panel=LOOP,
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="How far reflect and evolve go from the best image, between 0 and 1: how much of it, "
        "or of its noise, gives way to new noise (reflect: 0.8, evolve: 0.8, where none is given).",
        rich_help_panel=LOOP,
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="Words of the prompt that every rewrite must hold as they are; can be given again. "
        "Quoted text and <lora:…> tags are always kept.",
        rich_help_panel=LOOP,
    ),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Rounds at most; round 0 draws the prompt as it is; a budget alone lifts this "
        "(default: 4).",
        rich_help_panel=LOOP,
    ),
]
MaxImages = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Budget: stop when so many images are drawn.", rich_help_panel=LOOP
    ),
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Budget: begin no round whose drawing and judging would not fit.",
        rich_help_panel=LOOP,
    ),
]
Images = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Images in each round (default: 2; 1 with a budget of 2 or 3).",
        rich_help_panel=LOOP,
    ),
]
Target = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Stop at this score, between 0 and 1 (default: 1.0; 0.95 for soft and checklist).",
        rich_help_panel=LOOP,
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Stop after this many rounds without a gain (default: 2).",
        rich_help_panel=LOOP,
    ),
]
MinGain = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="A smaller rise of the best score is no gain (default: 0.02).",
        rich_help_panel=LOOP,
    ),
]
Compare = Annotated[
    bool | None,
    typer.Option(
        "--compare/--no-compare",
        metavar="",
        help="At the end show the critic the best image beside the first, in both orders and "
        "without scores (default: compare).",
        rich_help_panel=LOOP,
    ),
]
History = Annotated[
    bool | None,
    typer.Option(
        "--history/--no-history",
        metavar="",
        help="After each round tell the critic all that was tried and how it scored, and ask for "
        "one more prompt, and a negative one for pipelines that heed it (default: history; the "
        "embedded critic cannot be asked).",
        rich_help_panel=LOOP,
    ),
]
Approve = Annotated[
    bool,
    typer.Option(
        "--approve",
        metavar="",
        help="Ask after every round: go on, edit the next prompt, keep an image or stop.",
        rich_help_panel=LOOP,
    ),
]

TrustEndpoint = Annotated[
    bool,
    typer.Option(
        "--trust-endpoint",
        metavar="",
        help="Send the API key also to a server that only a file names: gcr.yaml in this folder, "
        "a profile's file, or the folder of a run.",
        rich_help_panel=MODELS,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        metavar="",
        help="Make no connection; models must be in the cache: gcr pull fetches them.",
        rich_help_panel=MODELS,
    ),
]

Yes = Annotated[
    bool,
    typer.Option(
        "-y",
        "--yes",
        metavar="",
        help="Fetch models that are not here, however large, without asking.",
        rich_help_panel=MODELS,
    ),
]

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Show settings and where each came from, the memory plan, and an estimate of images "
        "and time; load and draw nothing.",
        rich_help_panel=OUTPUT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FOLDER",
        help="Where the folder of the run is made (default: outputs).",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        metavar="",
        help="Print one JSON object instead of the path.",
        rich_help_panel=OUTPUT,
    ),
]
Listed = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", metavar="", help="Show errors only.", rich_help_panel=OUTPUT),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        metavar="",
        help="Show the critic's replies as they came, and log records.",
        rich_help_panel=OUTPUT,
    ),
]
