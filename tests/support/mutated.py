"""Replies of all the forms that critics are known to write, bent further by chance."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from replies import ASPECTS

from gcr.core.guards import complaint, kept
from gcr.core.plaintext import plain
from gcr.core.records import Critique, Request
from gcr.critic import checklist, pairwise
from gcr.critic.reply import places, read, read_refined, read_wording
from gcr.critic.scoring import expected
from gcr.critic.speaker import Number, Reply

if TYPE_CHECKING:
    from gcr.critic.rubric import Rubric

SCORES = [
    *("1", "2.5", "3", "3.0", "3.5", "4.0", "2.25", "3.5/4", "2.5 / 4.0", "3 out of 4", "**3.5**"),
    *(
        "`3`",
        "[3.5]",
        "3 (the mat is missing)",
        "2.5/4 — 2 objects missing",
        "3 - good",
        "3 points",
    ),
    *("N/A", "n/a", "N/A (no text asked for)", "None", "Not applicable.", "（2.5/4）", "3.5|fine"),
]
NO_SCORES = [
    *("0", "5", "10", "4.5", "-3", "45", "3.5/10", "3/5", "1-4", "3 or 4", "3 to 4", "3, maybe 4"),
    *("85%", "three", "", "?", "3 and a half", "3; 4", "<score>", "3½", "３", "3/4 or 4/4", "04"),
]
WORDS = [
    *("The cat is red.", "The mat is missing, 2 of 3 cats are there.", 'It reads "HELO".', "fine"),
    *(
        "I would score 3.5 here.",
        "None.",
        "猫は赤い。",
        "## Score",
        "a 3/4 view",
        "",
        "\n\n",
        "Score: 4",
    ),
    *(
        "«HELLO» ‘x’",
        "<think>",
        "</think>",
        "it's",
        "1. one\n2. two",
        "| a | 3 |",
        "\u202e",
        "\x00",
    ),
]
REFINED = [
    *("A red cat on a mat", '"A red cat"', "None", "None. It is all there.", "A cat\nNote: red."),
    *("Sure! Here it is:\n\nA red cat\n\nThis helps.", "```\nA red cat\n```", "1. A cat\n2. A dog"),
    *(
        "a red cat<|im_end|>",
        "I'm sorry, I can't help.",
        "无需修改",
        "",
        "## Score: 4",
        "> A red cat",
    ),
    *('A sign "DON\'T PANIC"', "</answer>", "A cat\n\non a mat", "«" * 50 + "cat" + "»" * 50),
]
HEADINGS = [
    "## {}: ",
    "**{}:** ",
    "**{}**: ",
    "{}: ",
    "- {}: ",
    "##{}:",
    "### {}\n",
    "{}：",
    "| {} | ",
]
ASPECT = [
    *("{n}. {a}:", "**{n}. {a}:**", "### {n}. {a}", "{a}:", "{n}. {a}: {s}", "{n}. {a} ({s}): {w}"),
    *(
        "| {a} | {s} | {w} |",
        "{n}. {a}（文本）：",
        "{n}) {a} – {s}",
        "{a} Score: {s}",
        "{n}. {a} {s}",
    ),
]
AROUND = [
    *("{}", "{}", "{}", "```markdown\n{}\n```", "<think>\nScore: 1\n</think>\n{}", "{}<|im_end|>"),
    *(
        "Here is my evaluation:\n\n{}",
        "<think>{}",
        "Score: 2, so.\n</think>\n\n{}",
        "<answer>{}</answer>",
    ),
    *("<|channel|>analysis<|message|>4<|end|><|start|>assistant<|channel|>final<|message|>{}",),
    *("{}\n\n---\nI hope this helps!", "{0}\n{0}", "<|im_start|>assistant\n{}</s>"),
]
PIECES = [
    *(
        "\n",
        "\r\n",
        " ",
        "#",
        "*",
        "`",
        "```",
        "|",
        ":",
        "：",
        "(",
        ")",
        "（",
        "）",
        "4",
        "3.5",
        "1-",
        "/4",
    ),
    *(
        "N/A",
        "Score",
        "Summary:",
        "Justification",
        "<think>",
        "</think>",
        "<|im_end|>",
        "</s>",
        "«",
        "»",
    ),
    *(
        "'",
        '"',
        "“",
        "None",
        "or",
        "\x1b[31m",
        "\x9d",
        "\ufeff",
        "\u2028",
        "\ud800",
        "e\u0301",
        "ſ",
        "ı",
    ),
    *(
        "# Detailed Judgement\n",
        "1. Text Faithfulness:",
        "## Refined Request: ",
        "Better: first",
        "1 | a | - | b?",
    ),
]


@dataclass(frozen=True)
class Mutator:
    rng: random.Random

    def reply(self) -> str:
        """One reply, from hardly to badly bent."""
        text = self.whole()
        for _ in range(self.rng.choice([0, 0, 1, 2, 4, 12])):
            text = self.bent(text)
        return text

    def _of(self, choices: list[str]) -> str:
        return self.rng.choice(choices)

    def whole(self) -> str:
        """One that is as it should be, in one of the forms."""
        head = self._of(HEADINGS)
        parts = [head.format("User Request Analysis") + self._of(WORDS)]
        parts.append(
            self._of(["# Detailed Judgement", "# Detailed Judgment:", "**Detailed Judgement**"])
        )
        for number, aspect in enumerate(ASPECTS, 1):
            words = self._of(WORDS)
            score = self._of(NO_SCORES if self.rng.random() < 0.05 else SCORES)
            parts.append(self._of(ASPECT).format(n=number, a=aspect, s=score, w=words))
            two = [head.format("Justification") + words, head.format("Score") + score]
            parts += self.rng.sample(two, k=self.rng.choice([0, 1, 2, 2, 2]))
        parts.append(f"# Summary: {self._of(WORDS)}\n\n# User Request Refinement:")
        parts.append(head.format("Refinement Comments") + self._of(WORDS))
        parts.append(head.format("Refined Request") + self._of(REFINED))
        return self._of(AROUND).format("\n".join(parts), "")

    def bent(self, text: str) -> str:
        a, b = sorted(self.rng.choices(range(len(text) + 1), k=2))
        piece, lines = self._of(PIECES), text.split("\n")
        self.rng.shuffle(lines)
        return self._of(
            [
                text[:a] + piece + text[a:],
                text[:a] + piece * self.rng.randrange(40) + text[a:],
                text[:a] + text[a + self.rng.randrange(30) :],
                text[:b],
                text[:b] + text[a:b][:200] + text[b:],
                "\n".join(lines),
                text.replace(self._of(["\n", ": ", "#", "Score", " "]), piece),
                self._of([text.upper(), text.lower(), " ".join(text.split()), text[::-1]]),
            ]
        )


VERDICTS = ("leading", "clamped")
REQUEST = Request("a sign \"DON'T PANIC\" and a 'red' cat", keep=("cat",))
NUMBER = re.compile(r"[1-4](?:\.[0-9]+)?")


def check(text: str, rubric: Rubric, *, cut_off: bool) -> Critique:
    """Have every reader read a reply. Asserts that each score stands in it, where it is told to."""
    critique = read(text, rubric, cut_off=cut_off)
    at = places(text, rubric, cut_off=cut_off)
    for aspect in critique.aspects:
        # What lies beyond the scale has no place of its own where a rubric's verdicts are clamped.
        clamped = (
            rubric.verdicts == "clamped" and aspect.score in (1, 4) and aspect.aspect not in at
        )
        if aspect.score is not None and not clamped:
            written = NUMBER.match(text, at[aspect.aspect])
            assert written is not None
            assert float(written[0]) == aspect.score
            assert 1 <= aspect.score <= 4
    assert (critique.overall is None) == bool(critique.problem)
    assert critique.overall is None or 0 <= critique.overall <= 1
    numbers = tuple(Number(m.start(), {1.0: 0.5, 4.0: 0.5}) for m in NUMBER.finditer(text))
    soft = expected(critique, Reply(text, numbers=numbers), at)
    assert [a.score is None for a in soft.aspects] == [a.score is None for a in critique.aspects]
    wording = read_wording(text, rubric, cut_off=cut_off)
    for prompt in (critique.refined, read_refined(text, rubric), wording.prompt, wording.negative):
        assert prompt is None or prompt == " ".join(prompt.split())
        assert (
            prompt is None or prompt.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f]", prompt)
        )
        complaint(REQUEST, prompt or "", lambda _: "")
    for rules in (rubric.model_copy(update={"verdicts": verdicts}) for verdicts in VERDICTS):
        trained = read(text, rules, cut_off=cut_off)
        assert all(a.score is None or 1 <= a.score <= 4 for a in trained.aspects)
        assert (trained.overall is None) == bool(trained.problem)
        for aspect, place in places(text, rules, cut_off=cut_off).items():
            score = next(a.score for a in trained.aspects if a.aspect == aspect)
            written = NUMBER.match(text, place)
            assert written is not None
            assert float(written[0]) == score
    kept(Request(text))
    pairwise.read(text)
    assert all(r.question.endswith("?") for r in checklist.read(text))
    plain(text)
    return critique
