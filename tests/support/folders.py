"""Folders of runs, batches and comparisons as gcr leaves them, with real images, for the pages."""

import json
from dataclasses import replace

from PIL import Image, ImageDraw

from gcr.core.ranking import best_scored
from gcr.core.records import (
    AspectScore,
    Attempt,
    Candidate,
    Critique,
    Rejected,
    Request,
    Requirement,
    Result,
    Round,
    Run,
    StopReason,
    Wording,
    image_name,
)
from gcr.inputs.jobs import Job
from gcr.storage.batchfolder import BatchFolder
from gcr.storage.runfolder import RunFolder
from gcr.storage.summary import Summary

SETTINGS = {
    "generator": "pocket:generator",
    "critic": "pocket:critic",
    "steps": 14,
    "seed": 0,
    "target": 1.0,
    "keep": [],
}
HOSTILE = (
    "</script><script>alert(1)</script> \"quoted\" 'single' <b>&amp; {{ 7 * 7 }} `${x}` "
    "\u202egnisrever\u202c שלום مرحبا 🦄👩\u200d🚀 " + "W" * 400 + " <!-- --> ]]> \x07"
)


def picture(seed, size=64):
    """Different for each seed, and never flat. size: of its sides, or width and height."""
    width, height = size if isinstance(size, tuple) else (size, size)
    image = Image.new("RGB", (width, height), (245, 243 - seed % 40, 238))
    colour = ((37 * seed) % 200, (91 * seed) % 200, (153 * seed) % 200)
    edge = min(width, height) // 8 + seed % (min(width, height) // 8)
    ImageDraw.Draw(image).ellipse((edge, edge, width - edge, height - edge), fill=colour)
    return image


def critique(score, text="give every shape a place of its own", **known):
    """As a critic writes it: everything that a critique can hold."""
    return Critique(
        (
            AspectScore("Text Faithfulness", None if score is None else 1 + 3 * score, text),
            AspectScore("Text Rendering", None),
        ),
        score,
        f"seen: {text}",
        f"advice: {text}",
        f"refined: {text}",
        raw=f"# Summary: {text}",
        problem="unreadable reply" if score is None else "",
        rejected=(Rejected(f"rejected: {text}", f"complaint: {text}"),),
        requirements=(Requirement("is there a circle?", "object", (), score),),
        **known,
    )


def fill(folder, scores, *, size=64, text="a circle in the middle", **known):
    """Save rounds of these scores: a list for each round. known: of each critique, besides."""
    run = folder.run
    for index, row in enumerate(scores):
        attempts = tuple(
            Attempt(
                Candidate(text if index else run.request.prompt, 2 * index + position),
                critique(score, text, **known),
                image_name(index, position),
                draw_seconds=0.4,
                judge_seconds=0.7,
            )
            for position, score in enumerate(row)
        )
        wording = Wording(
            f"wording: {text}",
            f"avoid: {text}",
            raw=f"reply: {text}",
            rejected=(Rejected(f"at first: {text}", f"objection: {text}"),),
        )
        finished = Round(index, attempts, wording)
        longer = replace(folder.run, rounds=(*folder.run.rounds, finished))
        images = [picture(hash((run.id, index, p)) % 997, size) for p in range(len(row))]
        folder.save(longer, images)
    return folder


def make_run(path, prompt="a red circle", scores=((0.3, 0.5), (0.8, None)), **how):
    """A finished run in the folder `path`."""
    path.mkdir(parents=True)
    size, text = how.pop("size", 64), how.pop("text", "a circle in the middle")
    known = {name: how.pop(name) for name in ("spread", "untrusted") if name in how}
    run = Run(path.name, Request(prompt, **how), SETTINGS)
    edited = picture(5, size) if run.request.source else None
    folder = fill(RunFolder.begin(path, run, {}, edited), scores, size=size, text=text, **known)
    folder.finish(StopReason.PLATEAU, best_scored(folder.run))
    return folder


def make_batch(path, count=6, *, size=64, prompt="red circles"):
    """A batch: every third prompt gains nothing, every fifth fails, the last is not done."""
    jobs = [Job(f"p{n}", f"p{n}", f"{n} {prompt}", n, f"line {n}") for n in range(count)]
    folder = BatchFolder.begin(path, jobs, SETTINGS, ["shapes.txt"], {})
    summary = Summary(path)
    for number, job in enumerate(jobs[:-1]):
        if number % 5 == 4:
            summary.add(
                Result(job.id, job.prompt, 0, f"runs/{job.folder}", "failed", failure="no stars")
            )
            continue
        raw = 0.2 + number % 7 / 10
        best = raw if number % 3 == 2 else min(1.0, raw + 0.1 + number / count / 10)
        run = make_run(folder.run_path(job), job.prompt, ((raw,), (best,)), size=size)
        result = Result(
            job.id,
            job.prompt,
            0,
            f"runs/{job.folder}",
            "target" if number % 2 else "plateau",
            raw,
            best,
            f"runs/{job.folder}/best.png",
            2,
            2 + number % 4,
            2.2,
        )
        summary.add(result)
        assert run.run.stop
    return path


def make_comparison(path, count=6, *, size=64, prompt="blue stars"):
    """A comparison of two arms, in which one prompt is suspect and another has failed."""
    path.mkdir(parents=True)
    prompts = [_compared(path, number, f"{number} {prompt}", size) for number in range(count)]
    told = {
        "id": path.name,
        "started": "2026-11-21T21:00:00+01:00",
        "seconds": 93.0,
        "files": ["shapes.txt"],
        "settings": SETTINGS,
        "versions": {"gcr": "0.1.0"},
        "evaluator": {"name": "truth", "model": None},
        "critic": "pocket:critic",
        "equal": "images",
        "budget": 4,
        "arms": [
            _arm("raw", "raw", 0.41, None, 0),
            _arm("refine", "refine", 0.63, 0.9, 1),
        ],
        "pairs": [
            _pair(None, count, 0.22, [0.08, 0.36], 0.004, "better"),
            _pair("two", 2, -0.05, [-0.3, 0.21], 0.6, "no difference shown", 410),
            _pair("one", 1, 0.1, None, None, "too few"),
        ],
        "prompts": prompts,
        "suspects": [
            {
                "id": "p1",
                "arm": "refine",
                "against": "raw",
                "critic_gain": 0.4,
                "evaluator_gain": -0.2,
            }
        ],
    }
    (path / "compare.json").write_text(json.dumps(told))
    return path


def _compared(path, number, prompt, size):
    arms = {}
    for arm, scores in (("raw", ((0.3,),)), ("refine", ((0.3,), (0.9,)))):
        failed = number == 2 and arm == "refine"
        run = f"{arm}/runs/p{number}"
        if not failed:
            make_run(path / run, prompt, scores, size=size)
        arms[arm] = {
            "run": run,
            "image": "" if failed else f"{run}/best.png",
            "score": None if failed else round(0.2 + number / 10 + 0.1 * (arm != "raw"), 3),
            "critic": None if failed else 0.5,
            "images": len(scores),
            "seconds": 2.5,
            "failure": "out of memory" if failed else "",
        }
    category = None if number == 0 else ("one", "two")[number % 2]
    return {"id": f"p{number}", "prompt": prompt, "category": category, "arms": arms}


def _arm(name, strategy, mean, critic, failed):
    return {
        "name": name,
        "folder": name,
        "strategy": strategy,
        "mean": mean,
        "critic_mean": critic,
        "images": 4.0,
        "seconds": 5.1,
        "failed": failed,
    }


def _pair(category, prompts, difference, interval, p, verdict, needed=None):
    return {
        "arm": "refine",
        "against": "raw",
        "category": category,
        "prompts": prompts,
        "wins": prompts // 2,
        "ties": prompts - prompts // 2,
        "losses": 0,
        "difference": difference,
        "interval": interval,
        "p": p,
        "verdict": verdict,
        "needed": needed,
    }
