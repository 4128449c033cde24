"""A1111's syntax in prompts: LoRAs, and weights."""

import time

import pytest

from gcr.core import syntax


@pytest.mark.parametrize(
    ("prompt", "plain", "loras"),
    [
        ("a cat <lora:fur:0.8>, sharp", "a cat, sharp", [("fur", 0.8)]),
        ("<lora:x y:1> a cat <lyco:z>", "a cat", [("x y", 1), ("z", 1)]),
        ("a, <lora:x:.5>, <lora:y:a:b>, b", "a, b", [("x", 0.5), ("y", 1)]),
        ("<lora:x:1><lora:x:-0.5> a", "a", [("x", -0.5)]),
        ("2 < 3 <b> (x)", "2 < 3 <b> (x)", []),
    ],
)
def test_loras_are_taken_out_of_a_prompt(prompt, plain, loras):
    assert syntax.without_loras(prompt) == plain
    assert [tuple(lora) for lora in syntax.loras(prompt)] == loras


@pytest.mark.parametrize(
    ("prompt", "fragments", "words"),
    [
        ("a cat", [("a cat", 1)], "a cat"),
        ("", [("", 1)], ""),
        ("a (cat:1.3), b", [("a ", 1), ("cat", 1.3), (", b", 1)], "a cat, b"),
        ("((a)) [b]", [("a", 1.21), (" ", 1), ("b", 1 / 1.1)], "((a)) [b]"),
        (r"a \(b\) (c (d:2):.5)", [("a (b) ", 1), ("c ", 0.5), ("d", 1)], r"a \(b\) c d"),
        ("a: b) (c", [("a: b) ", 1), ("c", 1.1)], "a: b) (c"),
        ("at 10:30 (x", [("at 10:30 ", 1), ("x", 1.1)], "at 10:30 (x"),
    ],
)
def test_weights_are_read_as_a1111_reads_them(prompt, fragments, words):
    read = syntax.fragments(prompt)
    assert [text for text, _ in read] == [text for text, _ in fragments]
    assert [weight for _, weight in read] == pytest.approx([weight for _, weight in fragments])
    assert syntax.without_weights(prompt) == words


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a cat", ["a cat"]),
        ("a cat,\nBREAK\na dog BREAK", ["a cat,", "a dog", ""]),
        ("a BREAKFAST", ["a BREAKFAST"]),
        ('a sign "COFFEE BREAK" BREAK a cat', ['a sign "COFFEE BREAK"', "a cat"]),
        ("a sign “BREAK”", ["a sign “BREAK”"]),
    ],
)
def test_a_prompt_has_parts_between_breaks(prompt, parts):
    assert syntax.parts(prompt) == parts
    assert syntax.words(prompt) == " ".join(filter(None, parts))


@pytest.mark.parametrize(
    ("prompt", "unread"),
    [
        ("a [cat:dog:0.5]", True),
        ("a [cat|dog]", True),
        ("a cat AND a dog", True),
        ("a [cat] and (a dog:1.2), 10:30, a | b", False),
    ],
)
def test_what_a1111_has_besides_is_seen(prompt, unread):
    assert syntax.has_unread(prompt) == unread


@pytest.mark.parametrize(
    "piece", ["BREAK ", '"', "[a|", "(a", "[", "(a:", "<lora:x", ", ", "((a:1)"]
)
def test_no_prompt_takes_long_to_read(piece):
    start = time.process_time()
    for read in (
        *(syntax.fragments, syntax.without_weights, syntax.without_loras, syntax.loras),
        *(syntax.parts, syntax.has_unread),
    ):
        read(piece * (20_000 // len(piece)))
    assert time.process_time() - start < 3
