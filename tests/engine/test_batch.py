"""Batches on fakes: what a prompt gets, what one failure does, and what is found again."""

import csv
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeCritic, FakeGenerator, Pair, Recorder, images, in_words, seed_of

import gcr
from gcr.core.events import RoundFinished, RunFinished, RunStarted
from gcr.core.records import Critique, StopReason
from gcr.device import memory
from gcr.engine import batching, single
from gcr.engine import plan as plans
from gcr.engine.batching import BatchInterrupted
from gcr.engine.machine import ThisMachine
from gcr.errors import GcrError, UnavailableError, UsageError
from gcr.files import locks
from gcr.inputs import jobs
from gcr.results.report import report
from gcr.settings.measurements import SPEEDS, SPREADS, Speed, device_key, spread_key
from gcr.settings.resolving import resolve
from gcr.storage import runfolder
from gcr.storage.batchfolder import Summary

SCORES = {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 0.7, 5: 0.9}
PROMPTS = ["a red circle", "two blue stars", "a green square"]


class Seen(Recorder):
    """What is told of the batch."""

    @property
    def told(self):
        runs = RunStarted | RoundFinished | RunFinished
        return [
            w for event in self.events if not isinstance(event, runs) and (w := in_words(event))
        ]


class Tool(Pair):
    """`gcr.batch` on fakes."""

    def __call__(self, prompts=PROMPTS, into="b", **options):
        return gcr.batch(prompts, into=into, **options)


@pytest.fixture
def tool(install):
    return install(Tool())


def lines(folder="b"):
    return [json.loads(line) for line in (Path(folder) / "summary.jsonl").read_text().splitlines()]


def table(folder="b"):
    return list(csv.DictReader((Path(folder) / "summary.csv").read_text().splitlines()))


def test_every_prompt_gets_a_run_folder_and_a_line(tool):
    view = Seen()
    outcome = tool(rounds=2, on_event=view)
    assert view.told == ["begin 3, 0 done", "1 rounds", "2 rounds", "3 rounds", "end"]
    assert [line["id"] for line in lines()] == ["1", "2", "3"]
    first = lines()[0]
    assert first == {
        "id": "1",
        "prompt": "a red circle",
        "seed": 0,
        "folder": "runs/1",
        "stop": "rounds",
        "raw": 0.2,
        "best": 0.8,
        "best_image": "runs/1/best.png",
        "rounds": 2,
        "images": 4,
        "seconds": first["seconds"],
        "failure": "",
        "noise": 0.0,
        "untrusted": "",
        "extra": {},
    }
    run = runfolder.RunFolder.open(outcome.folder / "runs" / "1").run
    assert (run.request.prompt, run.stop) == ("a red circle", None)
    assert (outcome.folder / first["best_image"]).is_file()
    assert outcome.failures == ()
    assert outcome.as_json()["done"] == 3


def test_a_batch_draws_what_single_runs_draw(tool):
    tool(rounds=3)
    for number, prompt in enumerate(PROMPTS, 1):
        alone = gcr.refine(prompt, rounds=3)
        assert images(Path("b/runs") / str(number)) == images(alone.folder)


def test_waves_draw_for_all_of_their_runs_before_they_judge_all_at_once(tool):
    tool(rounds=2, images=2, wave=2)
    assert [len(call) for call in tool.critic.calls] == [4, 4, 2, 2]
    assert [len(call) for call in tool.generator.calls] == [2] * 6  # none depends on another run
    assert [request.prompt for request, _ in tool.critic.calls[0]] == [
        "a red circle", "a red circle", "two blue stars", "two blue stars"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "judge_batch", "size"),
    [
        ({"images": 4}, 2, 16),
        ({"images": 4}, 64, 32),
        ({"images": 1}, 48, 64),
        ({"images": 4, "critique": "best"}, 12, 24),  # one critique for each run
    ],
)
def test_half_a_wave_fills_the_batch_that_the_critic_is_fastest_with(flags, judge_batch, size):
    settings = replace(resolve(flags, ThisMachine()).settings, judge_batch=judge_batch)
    assert plans.make(PROMPTS, settings).wave == size


def test_waves_are_as_large_as_the_plan_has_them(tool, monkeypatch):
    monkeypatch.setattr(plans, "LARGEST", 2)
    tool(rounds=1, images=4)
    assert [len(call) for call in tool.critic.calls] == [8, 4]


def test_a_budget_of_images_is_each_runs_own(tool):
    outcome = tool(rounds=4, images=2, max_images=3)
    assert [result.images for result in outcome.results] == [3, 3, 3]
    assert [len(call) for call in tool.generator.calls] == [2, 2, 2, 1, 1, 1]


def test_a_wave_can_start_from_images_of_its_runs(tool):
    tool(PROMPTS[:2], rounds=2, strategy="reflect", strength=0.5)
    starts = [start and seed_of(start) for start in tool.generator.starts]
    assert starts == [None] * 4 + [1] * 4


def test_without_a_folder_there_is_a_new_one_named_after_the_file(tool, tmp_path):
    (tmp_path / "My Shapes.txt").write_text("a red circle\n")
    outcome = tool(Path("My Shapes.txt"), into=None, rounds=1)
    assert outcome.folder.parts[0] == "outputs"
    assert "-my-shapes-" in outcome.folder.name
    record = json.loads((outcome.folder / "batch.json").read_text())
    assert record["files"] == ["My Shapes.txt"]
    assert record["settings"]["rounds"] == 1
    assert record["versions"]["pillow"]
    assert record["entries"][0]["place"] == "My Shapes.txt, line 1"


def test_a_prompts_own_seed_is_that_of_its_run(tool, tmp_path):
    (tmp_path / "p.csv").write_text("prompt,seed\na red circle,2\na blue star,\n")
    tool(Path("p.csv"), rounds=1, seed=1)
    assert tool.generator.drawn == [
        ("a red circle", 2), ("a red circle", 3), ("a blue star", 1), ("a blue star", 2)
    ]  # fmt: skip
    assert [line["seed"] for line in lines()] == [2, 1]
    recorded = [runfolder.read_beginning(Path("b/runs") / id_)[0].settings["seed"] for id_ in "12"]
    assert recorded == [2, 1]


def test_a_run_of_a_batch_can_go_on_alone(tool, tmp_path):
    (tmp_path / "p.csv").write_text("prompt,seed\na red circle,2\na blue star,\n")
    tool(Path("p.csv"), rounds=1, keep=["red"])
    for id_ in "12":
        assert single.resume(Path("b/runs") / id_).run.stop is StopReason.ROUNDS


def test_other_columns_reach_the_log_and_no_critic(tool, tmp_path):
    row = {"prompt": "a red circle", "answer": {"count": "zebra"}, "best": "a name of ours"}
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    tool(Path("p.jsonl"), rounds=1)
    extra = {"answer": {"count": "zebra"}, "best": "a name of ours"}
    assert lines()[0]["extra"] == extra
    row = table()[0]
    assert row["answer"] == '{"count": "zebra"}'
    assert row["extra.best"] == "a name of ours"
    assert float(row["best"]) == 0.4
    assert "zebra" not in repr(tool.critic.calls)
    for path in Path("b/runs/1").iterdir():
        assert b"zebra" not in path.read_bytes()


@pytest.mark.parametrize("wave", [1, 2, 16])
def test_a_prompt_that_fails_fails_alone(tool, wave):
    tool.generator = FakeGenerator(refused=["two blue stars"])
    view = Seen()
    outcome = tool(rounds=2, wave=wave, on_event=view)
    assert sorted(view.told[1:4]) == ["1 rounds", "2 cannot draw two blue stars", "3 rounds"]
    assert [failed.id for failed in outcome.failures] == ["2"]
    assert runfolder.read_beginning(outcome.folder / "runs" / "2")[1]["stop"] == "failed"
    tool.generator = FakeGenerator()
    tool(["a red circle", "a green square"], into="c", rounds=2)
    assert images("b/runs/1") == images("c/runs/1")
    assert images("b/runs/3") == images("c/runs/2")


def test_rounds_saved_before_a_failure_are_not_drawn_again(tool):
    refused = "the prompt after 1"  # what the critic writes, for all of them
    tool.generator = FakeGenerator(refused=[refused])
    outcome = tool(rounds=2, images=2)
    assert len(outcome.failures) == 3
    assert len(tool.generator.drawn) == 6
    assert all(failed.images == 2 and failed.best == 0.4 for failed in outcome.failures)


def test_what_failed_is_tried_again_and_its_last_line_counts(tool):
    tool.generator = FakeGenerator(refused=["two blue stars"])
    tool(rounds=1)
    tool.generator = FakeGenerator()
    outcome = tool(rounds=1)
    assert outcome.failures == ()
    assert {prompt for prompt, _ in tool.generator.drawn} == {"two blue stars"}
    assert [line["id"] for line in lines()] == ["1", "3", "2"]  # one for each, at the end
    assert [(row["id"], row["failure"]) for row in table()] == [("1", ""), ("2", ""), ("3", "")]


def test_a_failure_that_stays_the_same_is_listed_once(tool):
    tool.generator = FakeGenerator(refused=["two blue stars"])
    tool(rounds=1)
    tool(rounds=1)
    assert [line["id"] for line in lines()] == ["1", "2", "3"]


def test_a_defect_is_a_reason_too(tool):
    tool.critic = None
    outcome = tool(["a red circle"], rounds=1)
    assert outcome.failures[0].failure.startswith("AttributeError: ")


def test_a_prompt_without_any_score_failed(tool):
    tool.critic = FakeCritic({}, otherwise=None)
    outcome = tool(["a red circle"], rounds=1)
    assert outcome.failures[0].failure == "no image could be scored"
    assert (outcome.failures[0].best, outcome.failures[0].best_image) == (None, "")


def test_a_comparison_that_fails_takes_nobody_along(tool, monkeypatch):
    def fail(requests, firsts, seconds):
        if requests[0].prompt == "a red circle":
            raise GcrError("no words")
        return [None for _ in requests]

    tool.critic.compare = fail
    outcome = tool(rounds=2)
    assert not outcome.failures
    assert [len(call) for call in tool.generator.calls] == [2] * 6


@pytest.mark.parametrize("wave", [1, 16])
def test_too_many_failures_stop_the_batch(tool, wave):
    tool.generator = FakeGenerator(refused=PROMPTS[:2])
    outcome = tool(rounds=1, max_failures=1, wave=wave)
    assert [failed.id for failed in outcome.failures] == ["1"]
    assert (outcome.unfinished, outcome.as_json()["prompts"]) == (2, 3)
    tool.generator = FakeGenerator()
    assert len(tool(rounds=1).results) == 3


def test_a_finished_batch_loads_no_models_and_makes_its_table_again(tool):
    tool(rounds=1)
    Path("b/summary.csv").unlink()
    again = tool(rounds=1)
    assert tool.loaded == 1
    assert len(again.results) == 3
    assert Path("b/summary.csv").is_file()


@pytest.mark.parametrize(
    ("prompts", "flags", "says"),
    [
        (PROMPTS, {"rounds": 2}, "rounds: 1 → 2"),
        (
            ["a red circle", "two blue hearts", "a green square"],
            {},
            "'two blue stars' → 'two blue h",
        ),
        (PROMPTS[:2], {}, "prompt 3 is gone"),
        ([*PROMPTS, "a star"], {}, "prompt 4 is new"),
        (PROMPTS, {"seed": 3}, "seed: 0 → 3"),
    ],
)
def test_other_prompts_or_settings_are_refused(tool, prompts, flags, says):
    tool(rounds=1)
    with pytest.raises(UsageError, match=says) as caught:
        tool(prompts, **{"rounds": 1, **flags})
    assert "gcr resume b" in caught.value.hint
    assert tool.loaded == 1


def test_a_rubric_changed_since_is_refused_on_resuming(tool, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text((Path(__file__).parents[2] / "prompts" / "pocket.yaml").read_text())
    tool(rounds=1, rubric=str(own))
    own.write_text(own.read_text() + "\n# changed\n")
    with pytest.raises(UsageError, match="rubric_sha256"):
        batching.resume(Path("b"))


def test_a_batch_resumes_without_its_files(tool, tmp_path):
    (tmp_path / "p.txt").write_text("a {red|blue} circle\na blue star\n")
    tool.generator = FakeGenerator(refused=["a blue star"])
    tool(Path("p.txt"), rounds=2, seed=2)
    (tmp_path / "p.txt").unlink()
    tool.generator = FakeGenerator()
    outcome = batching.resume(Path("b"))
    assert [result.failure for result in outcome.results] == ["", ""]
    assert {prompt for prompt, _ in tool.generator.drawn} >= {"a blue star"}
    assert not any("circle" in prompt for prompt, _ in tool.generator.drawn)


def test_wildcards_are_chosen_by_seed_and_logged(tool, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "hue.txt").write_text("red\nblue\n")
    (tmp_path / "p.txt").write_text("a __hue__ {circle|star}\n")
    tool(Path("p.txt"), rounds=1, wildcards="w")
    job = json.loads(Path("b/batch.json").read_text())["entries"][0]
    assert job["written"] == "a __hue__ {circle|star}"
    assert job["prompt"] == lines()[0]["prompt"]
    assert [choice["wildcard"] for choice in job["choices"]] == ["__hue__", "{circle|star}"]
    assert job["prompt"] == f"a {job['choices'][0]['chosen'][0]} {job['choices'][1]['chosen'][0]}"
    assert batching.BatchFolder.open(Path("b")).jobs[0].choices[0].wildcard == "__hue__"


def test_wildcards_can_be_left_as_they_are(tool):
    tool(["a {red|blue} circle"], rounds=1, literal=True)
    assert lines()[0]["prompt"] == "a {red|blue} circle"


def test_a_wildcard_that_cannot_be_read_names_its_place(tool, tmp_path):
    (tmp_path / "p.txt").write_text("a circle\n\na {red|blue circle\n")
    with pytest.raises(UsageError, match=r"p\.txt, line 3: a brace is not closed") as caught:
        tool(Path("p.txt"))
    assert "--literal" in caught.value.hint
    assert not tool.loaded


def test_files_and_texts_are_told_apart(tool, tmp_path):
    (tmp_path / "p.txt").write_text("a circle\n")
    with pytest.raises(UsageError, match=r"p\.txt is a file"):
        tool("p.txt")
    with pytest.raises(UsageError, match="files and texts together"):
        tool(["a star", Path("p.txt")])
    with pytest.raises(UsageError, match="no prompts"):
        tool([])
    assert len(tool("a circle", rounds=1).results) == 1


@pytest.mark.parametrize("id_", ["../../x", "a/b", "A B", "cat", ".", "ß", "x" * 300])
def test_ids_are_safe_and_distinct_folders(id_):
    names = {jobs._folder(other) for other in (id_, id_ + "!", id_ + " ")}
    assert len(names) == 3
    for name in names:
        assert name
        assert len(name) < 60
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_words_to_keep_count_where_a_prompt_has_them(tool):
    tool(["a red circle", "two blue stars"], rounds=1, keep=["red"])
    kept = [runfolder.read_beginning(Path("b/runs") / id_)[0].request.keep for id_ in "12"]
    assert kept == [("red",), ()]
    with pytest.raises(UsageError, match="--keep 'pink' is in none of the prompts"):
        tool(into="c", keep=["pink"])


def test_shards_share_one_folder_and_nothing_else(tool):
    two = tool(rounds=1, shard="2/2")
    assert [result.id for result in two.results] == ["2"]
    one = tool(rounds=1, shard="1/2")
    assert [result.id for result in one.results] == ["1", "3"]
    assert sorted(tool.generator.drawn) == sorted((p, seed) for p in PROMPTS for seed in (0, 1))


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_a_shard_is_a_part_of_a_whole(tool, shard):
    with pytest.raises(UsageError, match="is no part"):
        tool(shard=shard)


def test_what_another_process_is_at_is_left_to_it(tool):
    tool.generator = FakeGenerator(refused=PROMPTS)
    tool(rounds=1, max_failures=1, wave=1)
    tool.generator = FakeGenerator()
    claim = locks.take(Path("b/runs/1"))
    outcome = tool(rounds=1)
    assert (outcome.busy, len(outcome.results)) == (1, 2)
    assert {prompt for prompt, _ in tool.generator.drawn} == {"two blue stars", "a green square"}
    claim.release()
    assert len(tool(rounds=1).results) == 3


def test_what_another_process_finished_meanwhile_is_not_done_again(tool):
    class Late(FakeGenerator):
        """Finishes the whole batch in another process while this one draws its first wave."""

        def draw(self, candidates, starts=(), sources=()):
            if not self.calls:
                drawn = super().draw(candidates, starts, sources)
                tool.generator = FakeGenerator()
                gcr.batch(PROMPTS, into="b", rounds=1, wave=1)
                return drawn
            return super().draw(candidates, starts, sources)

    tool.generator = first = Late()
    assert len(tool(rounds=1, wave=1).results) == 3
    assert {prompt for prompt, _ in first.drawn} == {"a red circle"}
    assert len(lines()) == 3


def test_a_run_in_use_is_not_resumed(tool):
    folder = gcr.refine("a red circle", rounds=1).folder
    with locks.claimed(folder), pytest.raises(UsageError, match="in use by another process"):
        single.resume(folder)
    assert single.resume(folder).best


def test_stopping_waits_for_the_round_of_the_wave(tool):
    plan = batching.plans.make(PROMPTS, resolve({"rounds": 3}, ThisMachine()).settings)
    with pytest.raises(batching.BatchInterrupted) as caught:
        batching.run(plan, Path("b"), batching.Pace(2), stop=lambda: len(tool.critic.calls) == 1)
    assert caught.value.outcome.results == ()
    assert [len(runfolder.RunFolder.open(Path("b/runs") / id_).run.rounds) for id_ in "12"] == [
        1,
        1,
    ]
    assert runfolder.read_beginning(Path("b/runs/1"))[1]["stop"] == "interrupted"
    batching.resume(Path("b"))
    gcr.batch(PROMPTS, into="c", rounds=3)
    assert images("b") == images("c")
    assert len(tool.generator.drawn) == 2 * 3 * 3 * 2


def test_a_damaged_run_fails_alone(tool):
    tool.generator = FakeGenerator(refused=[PROMPTS[1]])
    tool(rounds=2)
    (Path("b/runs/2") / "run.json").write_text("{")
    tool.generator = FakeGenerator()
    outcome = tool(rounds=2)
    assert [failed.id for failed in outcome.failures] == ["2"]
    assert "is damaged" in outcome.failures[0].failure


LONG = "a red circle at the top left and a blue star at the bottom right"


def test_many_warnings_of_one_kind_are_one(tool):
    view = Seen()
    tool(
        ["a red star and an elf", "a red star and a dragon", "a red circle", LONG],
        rounds=1,
        on_event=view,
    )
    warned = [said for said in view.told if said.startswith("warn")]
    assert warned == [
        "warn prompts, row 1: the embedded pair does not understand “an elf” (and so with 1 more)",
        "warn prompts, row 4: the prompt is too long: it has 15 words, and 12 are read",
    ]


def test_a_torn_line_of_the_summary_is_cut_off(tool):
    tool(rounds=1)
    path = Path("b/summary.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert len(tool(rounds=1).results) == 3
    assert len(lines()) == 3


def test_a_damaged_line_of_the_summary_is_an_error(tmp_path):
    (tmp_path / "summary.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(GcrError, match="line 1, is damaged"):
        Summary(tmp_path).refresh()


def test_a_summary_that_cannot_be_written_ends_the_batch(tool, monkeypatch):
    whole = Summary.add

    def full(self, result):
        if result.id == "2":
            raise GcrError("no space left")
        whole(self, result)

    with monkeypatch.context() as patch:
        patch.setattr(Summary, "add", full)
        with pytest.raises(GcrError, match="no space left"):
            tool(rounds=2)
    assert [line["id"] for line in lines()] == ["1"]
    assert len(tool(rounds=2).results) == 3
    again = len(tool.generator.drawn) - len(set(tool.generator.drawn)) - 4  # rewrites are alike
    assert again == 0


def test_unreadable_batches_are_refused(tool, tmp_path):
    with pytest.raises(UsageError, match="no batch in nowhere"):
        batching.resume(Path("nowhere"))
    for content in ("{", "[]", "{}", '{"entries": [{}], "settings": {}}'):
        (tmp_path / "batch.json").write_text(content)
        with pytest.raises(GcrError, match="is damaged"):
            batching.resume(tmp_path)


def test_raw_replies_and_words_of_critics_stay_out_of_the_summary(tool):
    tool.critic = FakeCritic({}, Critique((), 0.5, raw="secret"))
    tool(["a red circle"], rounds=1)
    assert "secret" not in Path("b/summary.jsonl").read_text()


def test_what_was_measured_since_keeps_no_batch_from_being_gone_on_with(tool):
    tool(PROMPTS, rounds=1, shard="1/2")
    record = json.loads(Path("b/batch.json").read_text())["settings"]
    key = spread_key(record["critic"], record["rubric"], record["score"])
    SPREADS.keep(os.environ, {key: 0.25})
    draw = device_key("draw", record["generator"], memory.device_name(), (64, 64))
    SPEEDS.keep(os.environ, {draw: Speed(7, 0.5, 1, 1)})
    assert resolve({}, ThisMachine()).settings.spread == 0.25
    assert len(tool(PROMPTS, rounds=1).results) == 3
    for path in Path("b/runs").iterdir():
        assert runfolder.read_beginning(path)[0].settings == record
    with pytest.raises(UsageError, match="other prompts or settings \\(steps"):
        tool(PROMPTS, rounds=1, steps=3)


def test_what_stopped_together_is_compared_together(tool):
    asked = []
    compare = tool.critic.compare
    tool.critic.compare = lambda *given: asked.append(len(given[0])) or compare(*given)
    tool(rounds=2)
    assert asked == [6]  # three prompts, in both orders


def test_a_comparison_that_fails_takes_no_result_away_and_is_told_of(tool):
    compare = tool.critic.compare

    def fails(requests, firsts, seconds):
        if any(request.prompt == PROMPTS[1] for request in requests):
            raise GcrError("it will not say")
        return compare(requests, firsts, seconds)

    tool.critic.compare = fails
    view = Seen()
    outcome = tool(rounds=2, on_event=view)
    assert [(one.best, one.failure) for one in outcome.results] == [(0.8, "")] * 3
    (warning,) = [told for told in view.told if told.startswith("warn")]
    assert "runs/2 was not compared with the first: it will not say" in warning
    runs = [json.loads(Path(f"b/runs/{id_}/run.json").read_text()) for id_ in "123"]
    assert [bool(run["comparison"]) for run in runs] == [True, False, True]


@pytest.mark.parametrize("wave", [1, 2])
def test_a_critic_that_is_gone_stops_the_batch_and_nothing_more_is_drawn(tool, wave):
    judge = tool.critic.judge

    def gone(*given):
        raise UnavailableError("nothing answers any more", "start it again")

    def once(*given):
        tool.critic.judge = gone
        return judge(*given)

    tool.critic.judge = once
    with pytest.raises(batching.BatchStopped, match="nothing answers any more") as caught:
        tool(rounds=1, wave=wave)
    assert caught.value.exit_code == 3
    assert caught.value.hint == "start it again: gcr resume b"
    left = 3 - wave
    drawn = len(tool.generator.drawn)
    assert drawn == 2 * min(3, 2 * wave)  # the wave that was judged, and the one that was not
    outcome = caught.value.outcome
    assert (len(outcome.results), outcome.unfinished, outcome.failures) == (wave, left, ())
    tool.critic.judge = judge
    assert len(tool(rounds=1).results) == 3


def test_a_critic_that_is_gone_at_the_comparison_leaves_the_results(tool):
    def gone(*given):
        raise UnavailableError("nothing answers any more", "start it again")

    compare, tool.critic.compare = tool.critic.compare, gone
    with pytest.raises(batching.BatchStopped):
        tool(rounds=2, wave=2)
    assert [(line["best"], line["failure"]) for line in lines()] == [(0.8, "")] * 2
    assert len(tool.generator.drawn) == 2 * 4
    tool.critic.compare = compare
    assert len(tool(rounds=2).results) == 3


# Folders from elsewhere, and summaries that were damaged


def test_what_failed_before_has_one_line_whoever_reads_at_the_same_time(tool):
    """Another process keeps its place in the file, though lines before it are removed."""
    tool.generator = FakeGenerator(refused=["two blue stars"])
    tool(rounds=1)
    other = Summary(Path("b"))
    other.refresh()
    before = dict(other.results)
    tool.generator = FakeGenerator()
    tool(rounds=1)
    other.refresh()
    assert [line["id"] for line in lines()] == ["1", "3", "2"]
    assert not other.results["2"].failure
    assert all(other.results[id_] is before[id_] for id_ in "13")  # not taken for new ones
    other.add(replace(other.results["1"], failure="later"))
    assert [line["id"] for line in lines()] == ["1", "3", "2", "1"]
    other.tabulate("123")
    left = [(line["id"], line["failure"]) for line in lines()]
    assert left == [("3", ""), ("2", ""), ("1", "later")]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"folder": "../../home"}, "leads out of the batch"),
        ({"best_image": "/etc/passwd"}, "leads out of the batch"),
        ({"best": 7}, "best should be .* 1, not 7"),
        ({"prompt": None}, "prompt should be"),
        ({"images": "x"}, "images should be"),
        ({"new": 1}, "new is not known"),
    ],
)
def test_a_line_that_cannot_be_is_refused_by_its_number(tool, values, problem, caplog):
    tool(rounds=1)
    path = Path("b/summary.jsonl")
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, json.dumps({**json.loads(second), **values}), third, ""]))
    with pytest.raises(GcrError, match=f"line 2, is damaged: .*{problem}"):
        tool(rounds=1)
    report(Path("b"))  # the rest can be looked at
    assert "line 2, is damaged" in caplog.text


def test_spreadsheets_find_no_formula_in_a_table(tool, tmp_path):
    hostile = ["=cmd|' /C calc'!A0", "+1+cmd", "@SUM(1)", "-2+3", "\t=1", "\uff1d1"]
    rows = [{"prompt": "a red circle", "=name": one, "x": "-0.5"} for one in hostile]
    rows = [{**row, "id": f"={number}"} for number, row in enumerate(rows)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tool(Path("p.jsonl"), rounds=1)
    found = table()
    assert [row["'=name"] for row in found] == [f"'{one}" for one in hostile]
    assert [row["id"] for row in found] == [f"'={i}" for i in range(6)]
    assert {row["x"] for row in found} == {"-0.5"}
    assert {row["raw"] for row in found} == {"0.2"}
    assert lines()[0]["id"] == "=0"


def test_a_batch_from_elsewhere_writes_nothing_outside_of_its_folder(tool, tmp_path):
    tool(rounds=1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Path("b/runs/2").rename(tmp_path / "theirs")
    Path("b/runs/2").symlink_to(elsewhere)
    Path("b/summary.jsonl").unlink()
    with pytest.raises(GcrError, match="runs/2 leads out of b"):
        batching.resume(Path("b"))
    assert list(elsewhere.iterdir()) == []
    record = json.loads(Path("b/batch.json").read_text())
    record["entries"][0]["folder"] = "../../elsewhere"
    Path("b/batch.json").write_text(json.dumps(record))
    with pytest.raises(GcrError, match="is not in the batch's own"):
        batching.resume(Path("b"))


def test_on_a_full_disk_the_first_error_is_the_one_that_is_raised(tool, monkeypatch):
    """And later ones are warnings."""
    write = os.fsync

    def full(handle):
        name = Path(f"/proc/self/fd/{handle}").resolve().name
        if name == "summary.jsonl" or name.startswith((".run.json", ".summary")):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(handle)

    monkeypatch.setattr(os, "fsync", full)
    view = Seen()
    with pytest.raises(GcrError, match=r"cannot write b/runs/1/run\.json: No space left"):
        tool(rounds=1, wave=1, on_event=view)
    assert "warn cannot write b/summary.jsonl: No space left on device" in view.told


def test_an_interruption_stays_one_where_no_table_can_be_written(tool, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    tool.generator.draw = interrupt
    Path("b/summary.csv").mkdir(parents=True)
    view = Seen()
    with pytest.raises(BatchInterrupted):
        tool(rounds=1, on_event=view)
    assert any("cannot write b/summary.csv" in told for told in view.told)


def test_a_run_keeps_its_good_end_where_the_summary_cannot_be_written(tool, monkeypatch):
    """The batch cannot go on, and no run is to blame for it."""

    def full(*_):
        raise GcrError("cannot write b/summary.jsonl: No space left on device")

    monkeypatch.setattr(Summary, "add", full)
    view = Seen()
    with pytest.raises(GcrError, match="summary"):
        tool(rounds=1, on_event=view)
    ends = [runfolder.read_beginning(path)[1]["stop"] for path in sorted(Path("b/runs").iterdir())]
    assert ends[0] == "rounds"
    assert "failed" not in ends
    finished = [event.run.id for event in view.events if isinstance(event, RunFinished)]
    assert len(finished) == len(set(finished)) == 3


@pytest.mark.parametrize("option", ["wave", "max_failures"])
def test_a_number_that_is_none_is_wrong_usage(tool, option):
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} 0 is none"):
        tool(rounds=1, **{option: 0})


def test_a_shard_needs_a_folder_that_all_share(tool):
    with pytest.raises(UsageError, match="--shard needs --into"):
        tool(into=None, rounds=1, shard="1/2")


def test_a_consumer_that_fails_ends_the_work_and_no_prompt_is_to_blame(tool):
    def broken(event):
        if isinstance(event, RoundFinished):
            raise ValueError("a mistake of the caller's")  # noqa: TRY004 - any error

    with pytest.raises(ValueError, match="a mistake of the caller's"):
        tool(rounds=2, on_event=broken)
    assert Summary(Path("b")).left(batching.BatchFolder.open(Path("b")).jobs)
    assert not Path("b/summary.jsonl").exists()
    assert tool(rounds=2).failures == ()
