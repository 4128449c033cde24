"""The user's own aspects: how they are written, asked about, and scored."""

import pytest
from fakes import FakeSpeaker, images_in, text_of
from PIL import Image
from replies import SHORT

import gcr
from gcr.core import stopping
from gcr.core.records import AspectScore, Attempt, Candidate, Critique, Request, Round, Run
from gcr.critic import rubric, taste
from gcr.critic.critic import VisionLanguageCritic
from gcr.engine.machine import ThisMachine
from gcr.errors import UsageError
from gcr.settings.resolving import resolve

REPLY = "# Detailed Judgement\n1. Text Faithfulness:\n## Score: {}\n# Summary: fine\n"
IMAGE = Image.new("RGB", (64, 64), "red")
REQUEST = Request("a red circle")


def critic_of(*aspects, faithfulness=4, yes=0.5, rubric=SHORT):
    speaker = FakeSpeaker(lambda _: REPLY.format(faithfulness), lambda _: yes)
    return VisionLanguageCritic(speaker, rubric, tastes=taste.parse(aspects))


def score(*aspects, **how):
    (critique,) = critic_of(*aspects, **how).judge([REQUEST], [IMAGE])
    return critique.overall


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mood: calm, muted", ("mood", "calm, muted", 0.5)),
        ("mood:calm:2", ("mood", "calm", 2.0)),
        (" colour :  warm  : 0.25 ", ("colour", "warm", 0.25)),
        ("time: at 10:30", ("time", "at 10", 30.0)),
        ("ratio: 16:9 wide", ("ratio", "16:9 wide", 0.5)),
    ],
)
def test_an_aspect_is_a_name_what_is_wanted_and_a_weight(text, expected):
    if expected[2] > taste.MOST_WEIGHT:
        with pytest.raises(UsageError, match="weight of 30"):
            taste.parse([text])
        return
    (parsed,) = taste.parse([text])
    assert (parsed.name, parsed.wanted, parsed.weight) == expected


@pytest.mark.parametrize("text", ["calm", ": calm", "mood:", "mood: :2"])
def test_what_is_no_aspect_is_refused_with_its_form(text):
    with pytest.raises(UsageError, match="is no aspect"):
        taste.parse([text])


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "0,5", "1e2"])
def test_a_weight_out_of_range_is_never_taken_for_words(weight):
    with pytest.raises(UsageError, match=f"has a weight of {weight}$"):
        taste.parse([f"mood: calm:{weight}"])


def test_a_name_of_the_rubrics_is_taken_and_of_two_of_one_name_the_later_counts():
    with pytest.raises(UsageError, match="already"):
        SHORT.tastes(["text faithfulness: high"])
    own = SHORT.model_copy(update={"taste": ("mood: calm",)})
    assert [str(each) for each in own.tastes(["Mood: wild", "light: soft"])] == [
        "Mood: wild",
        "light: soft",
    ]


def test_the_base_is_earned_and_the_bonus_depends_on_it():
    assert score(yes=1.0) == 1.0  # no aspect, no change
    assert score("mood: calm", yes=1.0) == pytest.approx(1.0)
    assert score("mood: calm", yes=0.0) == pytest.approx(1 / 1.5)
    assert score("mood: calm:1", "light: soft:1", yes=0.5) == pytest.approx(2 / 3)
    # What is half of what was asked for, and all to one's taste, is still half.
    assert score("mood: calm", faithfulness=2.5, yes=1.0) == pytest.approx(0.5)
    assert score("mood: calm", faithfulness=1, yes=1.0) == 0.0


def test_below_the_floor_of_faithfulness_there_is_no_bonus():
    pleasing, plain = (score("mood: calm", faithfulness=2.4, yes=yes) for yes in (1.0, 0.0))
    assert pleasing == plain == pytest.approx(1.4 / 3 / 1.5)
    (critique,) = critic_of("mood: calm", faithfulness=2.4, yes=1.0).judge([REQUEST], [IMAGE])
    assert "no bonus, as Text Faithfulness is below 2.5" in critique.aspects[-1].justification


def test_the_aspect_that_decides_against_a_bonus_is_named():
    aspects = (AspectScore("Text Rendering", None), AspectScore("Text Faithfulness", 2.0))
    critique = Critique(aspects, overall=1 / 3)
    judged = taste.with_taste(critique, taste.parse(["mood: calm"]), [1.0])
    assert "no bonus, as Text Faithfulness is" in judged.aspects[-1].justification


def test_it_is_an_aspect_wherever_aspects_are_shown_and_never_changes_the_rubrics_own():
    (critique,) = critic_of("mood: calm, muted", yes=0.25).judge([REQUEST], [IMAGE])
    assert (critique.aspects[0].aspect, critique.aspects[0].score) == ("Text Faithfulness", 4.0)
    own = critique.aspects[-1]
    assert (own.aspect, own.score) == ("mood", 1.75)
    assert own.justification == "wanted: calm, muted; yes: 25%"


def test_an_image_is_shown_once_for_its_checklist_and_the_users_aspects():
    """And not again for a critique after it was screened."""
    calls = []

    class Speaker(FakeSpeaker):
        def yes(self, chats):
            calls.append([(images_in(chat)[0].getpixel((0, 0)), text_of(chat)) for chat in chats])
            return super().yes(chats)

    def says(chat):
        taken_apart = "1 | object | - | Is it red?\n2 | object | - | Is it a circle?"
        return REPLY.format(2.5) if images_in(chat) else taken_apart

    speaker = Speaker(says, lambda chat: 0.25 if "calm" in text_of(chat) else 1.0)
    whole = rubric.load("text-to-image")
    tastes = taste.parse(["mood: calm"])
    critic = VisionLanguageCritic(speaker, whole, score="checklist", tastes=tastes)
    images = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    judged = critic.judge([REQUEST] * 2, images)
    asked = ["Is it red?", "Is it a circle?", tastes[0].question]
    ((shown, questions),) = [zip(*call, strict=True) for call in calls]
    assert shown == ((255, 0, 0),) * 3 + ((0, 0, 255),) * 3
    assert all(asked[i % 3] in question for i, question in enumerate(questions))
    screened = critic.screen([REQUEST] * 2, images)
    assert len(calls) == 2
    assert screened[0].overall == pytest.approx((1 + 0.5 * 0.25) / 1.5)
    assert critic.judge([REQUEST] * 2, images, scored=screened) == judged
    assert len(calls) == 2


def test_an_unscored_image_stays_unscored():
    speaker = FakeSpeaker(lambda _: "mumble")
    critic = VisionLanguageCritic(speaker, SHORT, tastes=taste.parse(["mood: calm"]))
    assert critic.judge([REQUEST], [IMAGE])[0].overall is None


def test_whoever_words_the_next_prompt_is_told_and_the_judge_is_not():
    critic = critic_of("mood: calm, muted", rubric=rubric.load("text-to-image"))
    (critique,) = critic.judge([REQUEST], [IMAGE])
    attempt = Attempt(Candidate("a red circle", 0), critique, "00-0.png")
    critic.reword([Run("id", REQUEST, {}, (Round(0, (attempt,)),))])
    judged, *_, reworded = [text_of(chat) for chat in critic.speaker.chats]
    assert "The user also likes, where the request leaves it open: mood: calm, muted" in reworded
    assert "muted" not in judged


def test_the_embedded_critic_is_not_asked_what_it_cannot_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"cannot say whether an image has 'mood'"):
        gcr.refine("a red circle", aspect=["mood: calm"])
    assert not list(tmp_path.glob("outputs/*/*"))


def test_it_is_recorded_only_where_it_is_given_and_the_target_follows():
    plain, own = (
        resolve({}, ThisMachine()).settings,
        resolve({"aspect": "mood: calm"}, ThisMachine()).settings,
    )
    assert "aspect" not in plain.decisive()
    assert own.decisive()["aspect"] == ["mood: calm"]
    assert resolve({"aspect": ["mood: calm"]}, ThisMachine()).settings.target == 0.95
    assert stopping.rule(own.decisive()).target == 0.95
