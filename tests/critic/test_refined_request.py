"""What is drawn is the request alone: no word for none, no refusal, no remark, no control token."""

from __future__ import annotations

import pytest
from replies import RUBRIC, refined

from gcr.critic.reply import read_refined

NONE = """\
None needed.
None required
None needed at this time.
None. The image already shows all that was asked for.
None – the image already satisfies the request.
None, the image is already good
None because everything is there
None: the image matches
(None)
N/A - no changes necessary.
N/A (image is perfect)
No.
No refinement necessary; the image matches.
No refinement needed – the image is perfect.
No refinements were necessary
No additional refinement needed.
No further changes are needed, the image is perfect.
There are no changes needed.
No need to change anything.
I would not change anything.
The request needs no refinement.
The original request does not need any change.
The prompt is already optimal.
The image already matches the request.
Keep the original request as is.
Leave it unchanged.
Identical to the original request
Nothing to change.
Nothing needs to be improved.
Not required, since it is all there.
Already optimal.
Perfect as it is.
无
无需修改
不需要修改
无，图像已满足要求
保持不变
なし
変更なし
修正の必要はありません
없음
수정이 필요 없습니다.
Нет
Изменения не требуются.
keine
Keine Änderungen nötig.
Nichts zu ändern
aucune
Aucune modification nécessaire.
Ninguna.
No se requieren cambios.
Nenhuma alteração necessária
Nessuna modifica necessaria
Geen wijzigingen nodig
Brak zmian""".splitlines()

REFUSALS = """\
I'm sorry, but I can't help with that request.
I’m sorry, I cannot assist with that.
Sorry, I can't do that.
Sorry, but this goes against my guidelines.
I apologize, but I can't fulfill this request.
I cannot generate such images.
I'm unable to assist with this request.
I must decline.
As an AI language model, I cannot see images.
Unfortunately, I am unable to help.
This request violates the content policy.
The response was filtered
Generation failed: forward() is missing pixel_values
Es tut mir leid, aber dabei kann ich nicht helfen.
Je suis désolé, mais je ne peux pas vous aider.
Lo siento, pero no puedo ayudar con eso.
Desculpe, mas não posso ajudar.
Mi dispiace, ma non posso aiutarti.
Het spijt me, dat kan ik niet.
Извините, я не могу помочь с этим.
抱歉，我无法满足该请求。
我无法协助完成这个请求
申し訳ありませんが、お手伝いできません。
죄송하지만 도와드릴 수 없습니다.""".splitlines()

PROMPTS = """\
No smoking sign
No entry, a red sign on a gate
No. 5 perfume bottle on marble
No people, an empty beach at dawn
none of the chairs are red, all blue
Nothing but sky
Nothing to wear, a woman before an open closet
Same street, one hundred years apart
Keep calm and carry on poster
Unchanged village street, 1920s
Already melting snowman in the sun
Empty street at night
The request desk of a library
The image is mirrored in the lake, mountains behind
Keine Menschen auf der Straße, nur Schnee
Rien ne va plus, a roulette table
Nada Surf concert poster
无人机在城市上空飞行
没有人的海滩
a sign that says "I'm sorry, I can't help"
I can't help falling in love, an album cover
Sorry, we're closed sign on a shop door
A man who cannot help laughing
As an AI robot in a city, neon
Error: 404 page as a poster
Leider regnet es, a street in Hamburg
Ich kann fliegen, a child with a cape
Note paper on a wooden desk
Note: handwritten on yellow paper
Sure-footed goat on a cliff
Prompt arrival of a train, 1890s photograph
Final version of a car: chrome
Here is the storm, painting of waves
1. FC Köln player
a T-shirt with <b>bold</b> print
a T-shirt that says </div>
an astronaut 👩‍🚀 and a flag 🏳️‍🌈
یک گربه می‌خواهم
a cat <lora:fur:0.8> <my-style>""".splitlines()


@pytest.mark.parametrize("text", [*NONE, "None\n\nThe image is good.", "None\nThe image is good."])
def test_words_for_no_refinement(text: str) -> None:
    assert refined(text) is None
    assert read_refined(text, RUBRIC) is None


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text: str) -> None:
    assert refined(text) is None
    assert read_refined(text, RUBRIC) is None


@pytest.mark.parametrize("text", PROMPTS)
def test_prompts_that_begin_like_them_stay(text: str) -> None:
    assert refined(text) == text
    assert read_refined(text, RUBRIC) == text


@pytest.mark.parametrize(
    "text",
    [
        *("a red cat<|im_end|>", "a red cat</s>", "a red cat<|eot_id|>", "a red cat<end_of_turn>"),
        *("a red cat <|end_of_box|>", "<|begin_of_box|>a red cat<|end_of_box|>"),
        *("a red cat</s></s>", "<s>a red cat</s>"),
        *("a red cat</answer>", "a red cat</reasoning>", "a red cat</think>", "a red cat [/INST]"),
        *("<answer>a red cat</answer>", "<refined_prompt>\na red cat\n</refined_prompt>"),
        *("a red cat<|im_end|> <|im_start|>assistant", "a red cat\n<|im_start|>user\nThanks!"),
        *("a red cat<|endoftext|>Human: and a dog", "a red cat<｜end▁of▁sentence｜>"),
        *("a r\x00ed\x1b[31m cat\x1b[0m", "a red\u2028cat", "\ufeffa red cat", "a \u202ered cat"),
        *("a red\x9d cat", "a red cat\ud800", "a\tred\x0bcat"),
    ],
)  # fmt: skip
def test_tokens_tags_and_control_characters_are_cut_off(text: str) -> None:
    assert refined(text) == "a red cat"
    assert read_refined(text, RUBRIC) == "a red cat"


@pytest.mark.parametrize(
    "text",
    [
        "A red cat\nNote: I made the cat red so that it is easy to see.",
        "A red cat\n\n**Note:** the cat is red.",
        "A red cat\n\n**Changes made:**\n- its colour",
        "A red cat\n\nThis emphasises the colour.",
        "A red cat\n\nI made it red.",
        "A red cat\n\nLet me know if you want more.",
        "A red cat\n\nor\n\nA crimson cat",
        "A red cat\n\nAlternatively, a crimson cat",
        "A red cat\n---\nThis is better.",
        "Sure! Here's an improved request:\n\nA red cat\n\nThis emphasises the colour.",
        "Sure! Here's an improved request:\n```\nA red cat\n```\nThis is better.",
        "Here is the refined request: A red cat",
        "Sure! A red cat",
        "**Improved Prompt:**\n\nA red cat",
        "# Improved Prompt\nA red cat",
        "Okay.\nA red cat",
        "Prompt: A red cat",
        "Voici la demande améliorée :\n\nA red cat",
        "当然可以！以下是修改后的提示词：\n\nA red cat\n\n说明：更清楚。",
        '"A red cat"\nNote: it is red.',
    ],
)
def test_remarks_around_a_request_are_left_out(text: str) -> None:
    assert refined(text) == "A red cat"
    assert read_refined(text, RUBRIC) == "A red cat"


def test_a_whole_reply_that_says_none_with_a_reason_has_no_request() -> None:
    assert refined("None. The image already shows all.\n\n# Summary: good") is None


@pytest.mark.parametrize("pair", ["«»", "“”", "「」", "()"])
def test_marks_in_any_depth_are_no_trouble(pair: str) -> None:
    deep = f"{pair[0] * 1000}a cat{pair[1] * 1000}"
    assert "a cat" in (refined(deep) or "")
    assert refined(f"{pair[0] * 1000}") is None
