"""Runs of the assembled tool on fakes: what is saved when, and what a resumed run is."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from fakes import FakeCritic, FakeGenerator, Recorder, in_words, seed_of
from PIL import Image

import gcr
from gcr.core.events import WorkFinished, WorkStarted
from gcr.core.records import Preference, Request, StopReason
from gcr.critic import rubric
from gcr.engine import cautions, models
from gcr.engine.machine import ThisMachine
from gcr.errors import GcrError, UsageError
from gcr.inputs import source
from gcr.settings.resolving import resolve
from gcr.storage import metadata, runfolder

SCORES = {1: 0.2, 2: 0.4, 3: 0.6, 4: 0.8, 5: 0.7, 6: None, 7: 0.9, 8: 0.9}


class Run(Recorder):
    """What is told of the run itself."""

    @property
    def told(self):
        whole = [
            event for event in self.events if not isinstance(event, WorkStarted | WorkFinished)
        ]
        self.hint = self.notices[-1].hint if self.notices else ""
        return [words for event in whole if (words := in_words(event))]


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """`gcr.refine` on fakes, with its outputs in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    critic = FakeCritic(SCORES)
    monkeypatch.setattr(models, "load_models", lambda *_, **__: (FakeGenerator(), critic))

    def refine(prompt="a red circle", **flags):
        return gcr.refine(prompt, seed=1, **flags)

    refine.critic = critic
    return refine


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_images_are_encoded_while_they_are_judged(tool, monkeypatch):
    encoded = []
    ready = Event()
    pixels, judge = metadata.pixels, tool.critic.judge

    def encode(image):
        encoded.append(seed_of(image))
        ready.set()
        return pixels(image)

    def wait(*arguments):
        assert ready.wait(10)
        ready.clear()
        return judge(*arguments)

    monkeypatch.setattr(metadata, "pixels", encode)
    monkeypatch.setattr(tool.critic, "judge", wait)
    outcome = tool(rounds=2)
    assert encoded == [attempt.candidate.seed for attempt in outcome.run.attempts]  # each once
    assert {a.image for a in outcome.run.attempts} < files(outcome.folder).keys()


def test_a_run_is_saved_as_it_goes(tool):
    view = Run()
    outcome = tool(on_event=view)
    assert view.told == ["begin", "round 0", "round 1", "round 2", "round 3", "end rounds"]
    assert outcome.best.score == 0.9
    assert outcome.best.image == "03-0.png"
    assert outcome.raw.image == "00-0.png"
    assert runfolder.RunFolder.open(outcome.folder).run.rounds == outcome.run.rounds
    record = json.loads((outcome.folder / "run.json").read_text())
    assert (record["stop"], record["best"]["image"]) == ("rounds", "03-0.png")
    assert files(outcome.folder)["best.png"] == files(outcome.folder)["03-0.png"]


@pytest.mark.parametrize("critique", ["all", "best"])
@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(tool, stop_at, critique):
    whole = tool(critique=critique)
    with pytest.raises(KeyboardInterrupt) as caught:
        tool(on_event=Run(stop_at), critique=critique)
    stopped = caught.value.outcome
    assert stopped.run.stop is StopReason.INTERRUPTED
    assert len(stopped.run.rounds) == stop_at + 1

    resumed = tool(resume=stopped.folder, critique=critique)
    assert resumed.folder == stopped.folder
    assert resumed.run.id == stopped.run.id
    assert resumed.run.stop is whole.run.stop
    assert files(resumed.folder) == files(whole.folder)
    assert [r.attempts for r in without_times(resumed)] == [
        r.attempts for r in without_times(whole)
    ]


def test_of_each_round_the_best_image_alone_has_a_critique(tool):
    outcome = tool(critique="best", images=3, rounds=2)
    written = [[bool(a.critique.raw) for a in round_.attempts] for round_ in outcome.run.rounds]
    assert written == [[False, False, True], [True, False, False]]
    assert [a.score for a in outcome.run.attempts] == [SCORES[seed] for seed in range(1, 7)]
    record = json.loads((outcome.folder / "run.json").read_text())
    assert (record["settings"]["critique"], record["settings"]["score"]) == ("best", "checklist")
    page = (outcome.folder / "index.html").read_text()
    assert page.count("scored, no critique written") == 3  # what is unscored says why
    with pytest.raises(UsageError, match="other settings"):
        tool(resume=outcome.folder, images=3, rounds=2)
    with pytest.raises(UsageError, match="--score soft is read from critiques"):
        tool(critique="best", score="soft")
    with pytest.raises(UsageError, match="each image's critique"):
        tool(critique="best", strategy="rewrite")
    assert tool(critique="best", strategy="rewrite", images=1, rounds=1).run.rounds


def without_times(outcome):
    return [
        replace(
            round_,
            attempts=tuple(replace(a, draw_seconds=0, judge_seconds=0) for a in round_.attempts),
        )
        for round_ in outcome.run.rounds
    ]


def test_a_run_stopped_while_writing_is_resumed_from_its_last_whole_round(tool):
    whole = tool()
    torn = tool()
    lines = torn.folder / "rounds.jsonl"
    lines.write_bytes(lines.read_bytes()[:-9])
    (torn.folder / "03-1.png").unlink()
    assert files(tool(resume=torn.folder).folder) == files(whole.folder)


def test_a_finished_run_is_not_drawn_again(tool):
    outcome = tool()
    calls = len(tool.critic.calls)
    again = tool(resume=outcome.folder)
    assert len(tool.critic.calls) == calls
    assert again.run == outcome.run


def test_a_run_is_not_resumed_with_other_settings(tool):
    folder = tool(rounds=1).folder
    with pytest.raises(UsageError, match="rounds: 1 → 2"):
        tool(rounds=2, resume=folder)
    with pytest.raises(UsageError, match="prompt: "):
        tool("a blue circle", rounds=1, resume=folder)


def test_a_rubric_changed_since_is_another_setting(tool, tmp_path):
    own = tmp_path / "own.yaml"
    text = (Path(__file__).parents[2] / "prompts" / "pocket.yaml").read_text()
    own.write_text(text)
    folder = tool(rounds=1, rubric=str(own)).folder
    own.write_text(text + "\n# changed\n")
    with pytest.raises(UsageError, match="rubric_sha256"):
        tool(rounds=1, rubric=str(own), resume=folder)


def left_off(folder):
    """A run of which nobody wrote how it ended, as after a kill."""
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "stop": None}))
    return folder


def test_other_versions_are_warned_of(tool, monkeypatch):
    folder = left_off(tool(rounds=1).folder)
    monkeypatch.setattr(runfolder, "versions", lambda: {"torch": "0"})
    view = Run()
    tool(rounds=1, resume=folder, on_event=view)
    assert any("was begun with" in said for said in view.told)


def test_the_revision_of_a_hub_model_is_recorded(tool, tmp_path, monkeypatch):
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "snapshots" / "c0ffee").mkdir(parents=True)
    (repository / "snapshots" / "c0ffee" / "model_index.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tool(rounds=1, generator="owner/name").folder
    record = json.loads((folder / "run.json").read_text())
    assert record["revisions"] == {"generator": "c0ffee", "critic": None}


def test_a_model_that_fails_leaves_what_was_saved(tool, monkeypatch):
    pair = FakeGenerator(fails=GcrError("out of memory")), FakeCritic(SCORES)
    monkeypatch.setattr(models, "load_models", lambda *_, **__: pair)
    view = Run()
    with pytest.raises(GcrError, match="out of memory"):
        tool(on_event=view)
    assert view.told[-1] == "end failed"
    (folder,) = Path("outputs").glob("*/*")
    assert len(runfolder.RunFolder.open(folder).run.rounds) == 1
    assert json.loads((folder / "run.json").read_text())["stop"] == "failed"


def test_a_run_without_any_score_has_no_best(tool, monkeypatch):
    nothing = FakeCritic({}, otherwise=None)
    monkeypatch.setattr(models, "load_models", lambda *_, **__: (FakeGenerator(), nothing))
    outcome = tool()
    assert outcome.best is None
    assert outcome.run.stop is StopReason.FAILED
    assert outcome.as_json()["best"] is None
    assert not (outcome.folder / "best.png").exists()


def test_json_holds_everything_but_raw_replies(tool):
    outcome = tool(images=1, rounds=2, negative="squares")
    told = json.loads(json.dumps(outcome.as_json()))
    assert told["request"] == {
        "prompt": "a red circle",
        "negative": "squares",
        "keep": [],
        "source": "",
        "source_sha256": "",
        "checklist": [],
    }
    assert told["source"] is None
    assert told["stop"] == "rounds"
    assert told["images"] == 2
    assert told["raw"] == {"image": str(outcome.folder / "00-0.png"), "score": 0.2}
    best = told["best"]
    assert (best["score"], best["round"], best["seed"]) == (0.4, 1, 2)
    assert best["prompt"] == "the prompt after 1"
    assert Path(best["image"]).is_file()
    assert [len(round_["attempts"]) for round_ in told["rounds"]] == [1, 1]
    assert "raw" not in told["rounds"][0]["attempts"][0]
    assert 0 < told["loading_seconds"] <= told["seconds"]


OWN = {"generator": "owner/editor", "critic": "owner/critic"}
PHOTO = Image.linear_gradient("L").resize((24, 16)).convert("RGB")


def test_an_edit_keeps_its_source_beside_its_results(tool, tmp_path):
    PHOTO.save(tmp_path / "in.png")
    outcome = tool("make it red", image="in.png", rounds=2, **OWN)
    (tmp_path / "in.png").unlink()  # the run has its own
    kept = outcome.folder / "source.png"
    assert Image.open(kept).tobytes() == PHOTO.tobytes()
    assert [seen.tobytes() for seen in tool.critic.sources] == [PHOTO.tobytes()] * 4
    told = outcome.as_json()
    assert told["source"] == str(kept)
    assert told["request"]["source_sha256"] == source.digest(PHOTO)
    record = json.loads((outcome.folder / "run.json").read_text())
    assert record["request"]["source_sha256"] == source.digest(PHOTO)
    assert record["settings"]["rubric"] == "editing"
    story = json.loads(metadata.read(outcome.best_image)["gcr"])
    assert story["request"]["source_sha256"] == source.digest(PHOTO)


def test_an_edit_can_have_another_rubric(tool):
    outcome = tool("make it red", image=PHOTO, rounds=1, rubric="text-to-image", **OWN)
    assert outcome.run.settings["rubric"] == "text-to-image"


def test_the_raw_baseline_of_an_edit_is_the_users_own_words(tool):
    outcome = tool("make it red", image=PHOTO, rounds=2, **OWN)
    assert outcome.raw.candidate.prompt == "make it red"
    assert outcome.best.candidate.prompt.startswith("the prompt after")


@pytest.mark.parametrize("stop_at", [0, 1])
def test_a_resumed_edit_equals_an_uninterrupted_one(tool, stop_at):
    whole = tool("make it red", image=PHOTO, **OWN)
    with pytest.raises(KeyboardInterrupt) as caught:
        tool("make it red", image=PHOTO, on_event=Run(stop_at), **OWN)
    folder = caught.value.outcome.folder
    resumed = tool("make it red", image=PHOTO, resume=folder, **OWN)
    assert files(resumed.folder) == files(whole.folder)
    assert "source.png" in files(resumed.folder)


def test_an_edit_is_not_resumed_with_another_image(tool):
    folder = tool("make it red", image=PHOTO, rounds=1, **OWN).folder
    with pytest.raises(UsageError, match="source_sha256: "):
        tool("make it red", image=PHOTO.rotate(180), rounds=1, resume=folder, **OWN)
    with pytest.raises(UsageError, match="source: "):
        tool("make it red", rounds=1, resume=folder, **OWN)


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({}, "pocket:generator edits no images"),
        ({"critic": "owner/critic"}, "pocket:generator edits no images"),
        ({"generator": "owner/editor"}, "pocket:critic judges no edits"),
    ],
)
def test_the_embedded_pair_is_not_asked_to_edit(tool, monkeypatch, named, says):
    monkeypatch.setattr(models, "load_models", lambda *_, **__: pytest.fail("models were loaded"))
    with pytest.raises(UsageError, match=says) as caught:
        tool("make it red", image=PHOTO, **named)
    assert "--critic" in caught.value.hint
    assert not Path("outputs").exists()


def test_nothing_is_loaded_when_there_is_no_image_to_edit(tool, monkeypatch):
    monkeypatch.setattr(models, "load_models", lambda *_, **__: pytest.fail("models were loaded"))
    with pytest.raises(UsageError, match=r"cannot read nowhere\.png"):
        tool("make it red", image="nowhere.png", **OWN)
    assert not Path("outputs").exists()


@pytest.mark.parametrize("prompt", ["", "  \n\t "])
def test_an_empty_prompt_is_wrong_usage(tool, prompt):
    with pytest.raises(UsageError, match="the prompt is empty"):
        tool(prompt)


def test_a_prompt_that_is_no_text_is_wrong_usage(tool):
    with pytest.raises(UsageError, match="not UTF-8"):
        tool("a \udcff circle")


def test_nothing_is_loaded_when_the_output_cannot_be_written(tool, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(models, "load_models", lambda *_, **__: pytest.fail("models were loaded"))
    with pytest.raises(UsageError, match="cannot write to"):
        tool(output=tmp_path / "file" / "x")


def test_unknown_words_are_warned_of_before_anything_is_drawn(tool):
    view = Run()
    tool("a dragon above a red circle", on_event=view)
    assert view.told[0] == "warn the embedded pair does not understand “a dragon above”"
    assert "--profile auto" in view.hint
    view = Run()
    tool("two red circles", negative="squirrels", on_event=view)
    assert view.told[0] == "warn the embedded pair does not know: squirrels"
    view = Run()
    tool("two red circles", on_event=view)
    assert view.told[0] == "begin"


@pytest.mark.parametrize(
    ("prompt", "warning"),
    [
        ("red circle", "may not understand the prompt: "),
        ("five red circles and two blue stars", "does not understand “two blue stars”"),
    ],
)
def test_known_words_that_say_nothing_the_pair_can_read_are_warned_of(tool, prompt, warning):
    view = Run()
    tool(prompt, on_event=view)
    assert view.told[0].startswith(f"warn the embedded pair {warning}")


@pytest.mark.parametrize("strategy", ["reflect", "evolve"])
def test_what_the_generator_cannot_draw_falls_back_with_one_warning(tool, strategy, monkeypatch):
    generator = FakeGenerator(obstacle="it draws from seeds only")
    monkeypatch.setattr(models, "load_models", lambda *_, **__: (generator, FakeCritic(SCORES)))
    view = Run()
    outcome = tool(strategy=strategy, on_event=view)
    assert [said for said in view.told if said.startswith("warn")] == [
        f"warn the strategy {strategy} falls back to refine: it draws from seeds only"
    ]
    assert view.told[-1] == "end rounds"
    monkeypatch.setattr(
        models, "load_models", lambda *_, **__: (FakeGenerator(), FakeCritic(SCORES))
    )
    refined = tool(strategy="refine").run
    assert [a.candidate for a in outcome.run.attempts] == [a.candidate for a in refined.attempts]


def test_reflect_starts_from_images_of_the_runs_own_folder(tool, monkeypatch):
    generator = FakeGenerator()
    monkeypatch.setattr(models, "load_models", lambda *_, **__: (generator, FakeCritic(SCORES)))
    view = Run()
    outcome = tool(strategy="reflect", strength=0.5, rounds=2, on_event=view)
    assert view.told == ["begin", "round 0", "round 1", "end rounds"]
    starts = [(a.candidate.start, a.candidate.strength) for a in outcome.run.attempts]
    assert starts == [("", 0.0), ("", 0.0), ("00-1.png", 0.5), ("00-1.png", 0.5)]
    assert [start and seed_of(start) for start in generator.starts] == [None, None, 2, 2]


def test_a_strength_that_cannot_be_is_refused_before_a_folder_is_made(tool, monkeypatch):
    class Strict(FakeGenerator):
        def obstacle(self, candidate):
            raise UsageError(f"strength {candidate.strength} of 4 steps is less than one step")

    monkeypatch.setattr(models, "load_models", lambda *_, **__: (Strict(), FakeCritic(SCORES)))
    with pytest.raises(UsageError, match=r"strength 0\.2 of 4 steps"):
        tool(strategy="reflect", strength=0.2)
    assert list(Path("outputs").glob("*")) == []


def test_auto_says_when_it_takes_the_embedded_pair(tool):
    settings = replace(resolve({}, ThisMachine()).settings, chosen="no GPU here")
    view = Run()
    cautions.tell(view, cautions.of_pocket(Request("a red circle"), settings))
    assert view.told == ["warn auto: no GPU here"]


def test_the_best_image_is_compared_with_the_first_in_the_end(tool):
    outcome = tool(rounds=2)
    assert outcome.best != outcome.raw
    assert outcome.run.comparison is Preference.SECOND
    assert json.loads((outcome.folder / "run.json").read_text())["comparison"] == "second"
    assert outcome.as_json()["comparison"] == "second"


def test_nothing_is_compared_with_itself_or_unasked(tool):
    assert tool(rounds=2, compare=False).run.comparison is None
    first = tool(rounds=1, images=1)
    assert first.best == first.raw
    assert first.run.comparison is None


def test_a_rubric_without_a_comparison_does_without(tool, tmp_path):
    words = (rubric._folder() / "pocket.yaml").read_text()
    (tmp_path / "own.yaml").write_text(words.replace('comparison: "Compare: {request}"', ""))
    assert tool(rounds=2, rubric=str(tmp_path / "own.yaml")).run.comparison is None
