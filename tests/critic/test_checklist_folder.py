"""Checklists on disk: made once for a request, and the same for all that goes on with it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import POCKET, FakeCritic, FakeSpeaker, Recorder, images_in, replying, text_of

import gcr
from gcr.critic.critic import VisionLanguageCritic
from gcr.engine import models
from gcr.results.report import report
from gcr.storage import runfolder

LISTS = (
    "1 | o | - | Is there a cat?\n2 | o | - | Is there a hat?",
    "1 | o | - | Is there a hat?\n2 | o | - | Is there a cat?\n3 | o | - | Is there a dog?",
)


class Wavering:
    """A model that takes the same request apart in another way whenever it is asked."""

    def __init__(self):
        self.made = 0
        self.judges = replying(FakeCritic({}))

    def says(self, chat):
        if images_in(chat):
            return self.judges(chat)
        self.made += 1
        return LISTS[(self.made - 1) % 2]

    def yes(self, chat):
        return 0.9 if "cat" in text_of(chat) else 0.1


@pytest.fixture
def critic(cli):
    """The model behind the critic; each call of the tool is as a process of its own."""
    model = Wavering()

    def load(*_, **__):
        speaker = FakeSpeaker(model.says, model.yes)
        return cli.models["generator"], VisionLanguageCritic(speaker, POCKET, score="checklist")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_models", load)
        yield model


def asked(folder):
    """The questions of each image of a run."""
    return {
        tuple(r.question for r in a.critique.requirements) for a in gcr.load_run(folder).attempts
    }


BEGUN = {"score": "checklist", "images": 2, "patience": 9}


def begun(rounds=4, stop_after=1):
    """A run that was stopped after so many rounds."""
    with pytest.raises(gcr.Interrupted) as stopped:
        gcr.refine("a red circle", rounds=rounds, on_event=Recorder(stop_after - 1), **BEGUN)
    return stopped.value.outcome.folder


def test_a_run_that_goes_on_holds_its_images_against_the_checklist_it_was_begun_with(cli, critic):
    folder = begun()
    recorded = json.loads((folder / "run.json").read_text())["request"]["checklist"]
    assert [one["question"] for one in recorded] == ["Is there a cat?", "Is there a hat?"]
    ran = cli("resume", str(folder), "--json")
    assert ran.code == 0
    assert (critic.made, len(asked(folder))) == (1, 1)
    assert [one["question"] for one in json.loads(ran.out)["never_met"]] == ["Is there a hat?"]
    assert "never met: Is there a hat?" in ran.err


def test_a_run_of_old_goes_on_with_the_checklist_of_its_first_image(cli, critic):
    folder = begun()
    story = json.loads((folder / "run.json").read_text())
    del story["request"]["checklist"]
    (folder / "run.json").write_text(json.dumps(story))
    assert "Is there a hat?" in report(folder).read_text()
    assert cli("resume", str(folder)).code == 0
    assert (critic.made, len(asked(folder))) == (1, 1)


def test_a_run_of_old_with_several_checklists_is_reported_and_gone_on_with(cli, critic):
    folder = begun(stop_after=2)
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for attempt in lines[1]["attempts"]:  # as another process took it apart
        attempt["critique"]["requirements"] = [
            {"question": q, "kind": "", "needs": [], "chance": c}
            for q, c in (("Is there a hat?", 0.1), ("Is there a cat?", 0.9), ("A dog?", 0.9))
        ]
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    story = json.loads((folder / "run.json").read_text())
    del story["request"]["checklist"]
    (folder / "run.json").write_text(json.dumps(story))
    ran = cli("resume", str(folder), "--json")
    assert ran.code == 0
    assert [one["question"] for one in json.loads(ran.out)["never_met"]] == ["Is there a hat?"]
    assert "Never met" in (folder / "index.html").read_text()


def test_the_same_words_of_a_batch_have_one_checklist_whoever_draws_them(cli, critic):
    """Each shard is a process of its own, as each worker of a cluster is."""
    Path("p.jsonl").write_text(
        "".join(json.dumps({"prompt": "a red circle", "seed": seed}) + "\n" for seed in (1, 5, 9))
    )
    batch = ("batch", "p.jsonl", "--into", "b", "--score", "checklist", "--rounds", "1")
    for shard in ("1/3", "2/3", "3/3"):
        assert cli(*batch, "--shard", shard).code == 0
    assert critic.made == 1
    assert len({questions for id_ in "123" for questions in asked(f"b/runs/{id_}")}) == 1


def test_all_arms_of_a_comparison_have_one_checklist(cli, critic, monkeypatch):
    from gcr.comparison import evaluators

    class Even:
        def score(self, samples):
            return ((one.id, 0.5) for one in samples)

    monkeypatch.setattr(evaluators, "load", lambda *_: Even())
    Path("p.txt").write_text("a red circle\n")
    common = (
        "--into",
        "c",
        "--score",
        "checklist",
        "--max-images",
        "4",
        "--evaluator",
        "command:x",
    )
    assert cli("compare", "p.txt", "--arm", "raw", "--arm", "refine", *common).code == 0
    assert cli("compare", "p.txt", "--arm", "best-of-n", *common).code == 0  # another process
    assert critic.made == 1
    assert len({q for arm in ("raw", "refine", "best-of-n") for q in asked(f"c/{arm}/runs/1")}) == 1


def test_pairs_of_images_that_were_held_against_different_checklists_are_left_out(cli, critic):
    from gcr.results.pairs import gather

    folder = begun()
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    second = lines[0]["attempts"][1]
    second["critique"]["requirements"] = second["critique"]["requirements"][:1]
    second["critique"]["overall"] = 0.9
    (folder / "rounds.jsonl").write_text(json.dumps(lines[0]) + "\n")
    found = gather([folder], every=True)
    assert (found.pairs, found.left_out) == ((), {"unlike": 1})


def test_a_request_is_the_same_with_and_without_its_checklist(cli, critic):
    folder = runfolder.RunFolder.open(begun())
    bare = replace(folder.run.request, checklist=())
    folder.check(bare, folder.run.settings)
