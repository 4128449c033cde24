"""Talks with a vision-language model on this machine, in batches padded on the left.

Uses only what transformers' models and processors have in common. Knows nothing of rubrics and
critiques.
"""

from __future__ import annotations

import logging
import re
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from gcr.core.background import in_background
from gcr.core.records import Tokens
from gcr.critic import thoughts
from gcr.critic.graphs import CudaGraphs, Graphs
from gcr.critic.prefix_cache import PrefixCache, ReadImage, can_continue, read_once
from gcr.critic.speaker import NUMBER, SPACES, Decoding, Number, Reply, repeated
from gcr.critic.thoughts import OPENING
from gcr.device.out_of_memory import Ladder, is_out_of_memory
from gcr.device.threads import Stopwatch, at_most
from gcr.device.weights import Weights
from gcr.errors import ModelError
from gcr.hub.checkpoints import reworded
from gcr.hub.processors import bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import torch

    from gcr.core.records import ProgressCallback
    from gcr.critic.graphs import Capture
    from gcr.critic.rubric import Message
    from gcr.device.memory import SharedDevice

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

YES = ("yes", "Yes", "YES", " yes", " Yes", " YES")
NO = ("no", "No", "NO", " no", " No", " NO")
_OPENED = re.compile(rf"(?:{OPENING.pattern})\s*\Z", OPENING.flags)
LINE_BREAKS = ("\n", "\u010a", "<0x0A>")  # how vocabularies spell the end of a line
TYPICAL_TOKENS = 400
"""Of a reply to a rubric of ours, until there is one: what progress counts to, and what a captured
cache has room for at first."""
QUESTIONS = 8
"""About one image, answered at once: each needs the keys and values of the image for itself."""
_SAMPLING = threading.Lock()
"""Held while one reply is sampled: all threads share torch's random numbers."""


class LocalSpeaker:
    """A loaded model and its processor.

    batch: chats answered at once, at most. threads: of torch on a CPU; None: as torch takes.
    template: what the chat template is told beside the chat; words that it does not know are not.
    graphs: whether decode steps are captured on a GPU. capture: how; None: as CUDA graphs.

    inside: measures the seconds spent in the model. used: tokens of all that it was asked and
        replied so far; of what ran out of memory, and was asked again, once.
    weights: the model's, as the device moves them. ladder: how many chats go at once, which
        shrinks where memory is short.
    """

    takes_pairs = True

    def __init__(  # noqa: PLR0913 - each for itself
        self,
        model: Any,
        processor: Any,
        device: SharedDevice,
        *,
        batch: int = 2,
        threads: int | None = None,
        template: Mapping[str, Any] | None = None,
        progress: ProgressCallback | None = None,
        graphs: bool = False,
        capture: Capture | None = None,
    ) -> None:
        self._threads = threads
        self._template = template or {}
        self.model = model
        self.processor = processor
        self._images = _OneByOne(processor.image_processor)
        self.progress = progress
        self._device = device
        self._tokens_done = self._tokens_total = 0
        self._expected = TYPICAL_TOKENS  # from then on, what the last replies took
        self.inside = Stopwatch()
        self.used = Tokens()
        if capture is None and graphs and device.limited:
            capture = CudaGraphs(device.name)
        self._graphs = Graphs(model, capture)
        captures = self._graphs
        self.weights = Weights([model], moving=captures.drop, kept=captures.kept_bytes)
        self._prefix = PrefixCache(model)
        # Without a reference to the speaker: a cycle would keep its memory until it is collected.
        relieve = partial(_relieve, device, self.weights, self._graphs)
        self.ladder = Ladder(batch, "images judged", relieve, device.hint)
        at_once = max(batch, QUESTIONS)
        self._questions = Ladder(at_once, "questions answered", relieve, device.hint)
        self._warned = False  # that each question has its image read anew
        device.join(self.weights, resident=True)
        _forget_sampling(model, processor.tokenizer)

    def can_overlap(self) -> bool:
        return self._device.side_by_side()

    def begin(self) -> None:
        """Count the progress of the next replies from nothing."""
        self._tokens_done = self._tokens_total = 0

    def replies(self, chats: Sequence[list[Message]], decoding: Decoding) -> list[Reply]:
        """A reply to each chat, in order.

        One that stands several times in a row is read once for all in a batch.
        """
        expected = min(self._expected, decoding.max_new_tokens)
        self._tokens_total += expected * len(chats)

        def work(batch: Sequence[list[Message]]) -> list[Reply]:
            start = self._tokens_done
            speak = partial(self._speak, list(batch), decoding, expected)
            # Its own cache is among those that make room.
            replies = self._run(partial(self._with_room, speak, at_least=2))
            self._tokens_done = start + expected * len(batch)
            if self.progress is not None:
                self.progress("judge", self._tokens_done, self._tokens_total)
            return replies

        with reworded("the critic cannot answer", "take another critic"):
            return [reply for replies in self.ladder.each(chats, work) for reply in replies]

    def yes(self, chats: Sequence[list[Message]]) -> list[float]:
        """For each chat the probability of "yes" against "no" as the answer's first word.

        What several chats in a row show, if they end in different words, is read once for all.
        """
        self._tokens_total += len(chats)
        groups = [list(group) for _, group in groupby(chats, key=_images_of)]
        with reworded("the critic cannot answer", "take another critic"):
            shown = all(map(_images_of, chats))
            if len(groups) == len(chats) or not (shown and self._continues()):
                return self._chances(chats, self.ladder, self._first_logits)
            return [chance for group in groups for chance in self._of_one_image(group)]

    def _of_one_image(self, chats: list[list[Message]]) -> list[float]:
        """As `yes`, for chats that show the same."""
        image = ReadImage(self.model, self._run(partial(self._inputs, chats[:1], thinks=False)))
        rests = self._rests(chats)
        if rests is None or rests[0] != image.rest:
            return self._chances(chats, self.ladder, self._first_logits)
        self.used += Tokens(read=image.length)
        rest_of = {id(chat): rest for chat, rest in zip(chats, rests, strict=True)}

        def first_logits(batch: list[list[Message]]) -> torch.Tensor:
            with image.followed([rest_of[id(chat)] for chat in batch]) as inputs:
                return self._first_logits(batch, inputs, read=image.length)

        return self._chances(chats, self._questions, first_logits)

    def _rests(self, chats: list[list[Message]]) -> list[list[int]] | None:
        """The tokens of each chat behind its last image; None where they differ before it."""
        template = {"chat_template": self.processor.chat_template}
        rows = self._templated(self.processor.tokenizer, chats, thinks=False, **template)
        marker = self.model.config.image_token_id
        lengths = [row[::-1].index(marker) if marker in row else 0 for row in rows["input_ids"]]
        both = list(zip(rows["input_ids"], lengths, strict=True))
        openings = [row[: len(row) - length] for row, length in both]
        if not all(lengths) or any(opening != openings[0] for opening in openings):
            return None
        return [row[-length:] for row, length in both]

    def _continues(self) -> bool:
        """Whether questions go on from what is read for all of them, which is told where not."""
        if not can_continue(self.model) and not self._warned:
            self._warned = True
            logger.warning(
                "%s reads an image anew for each question about it", type(self.model).__name__
            )
        return not self._warned

    def _chances(
        self,
        chats: Sequence[list[Message]],
        ladder: Ladder,
        first_logits: Callable[[list[list[Message]]], torch.Tensor],
    ) -> list[float]:
        def work(batch: Sequence[list[Message]]) -> list[float]:
            yes, no = _opening_tokens(self.processor.tokenizer)
            read = partial(first_logits, list(batch))
            logits = self._run(partial(self._with_room, read, at_least=1))
            self._tokens_done += len(batch)
            if self.progress is not None:
                self.progress("judge", self._tokens_done, self._tokens_total)
            odds = logits[:, yes].logsumexp(-1) - logits[:, no].logsumexp(-1)
            return [float(chance) for chance in odds.sigmoid()]

        return [chance for chances in ladder.each(chats, work) for chance in chances]

    def _run(self, work: Callable[[], Result]) -> Result:
        with at_most(self._threads):
            return self._device.run(self.weights, work)

    def _with_room(
        self, work: Callable[[], Result], *, at_least: int, again: bool = True
    ) -> Result:
        """Call `work`; where memory runs out, once more without the captures that are kept.

        If that is no help, a smaller batch through a capture is faster than a large one without.
        at_least: caches of captures without which there may be more room.
        """
        try:
            return work()
        except RuntimeError as error:
            if not (is_out_of_memory(error) and self._graphs.drop() >= at_least and again):
                raise
        import torch

        torch.cuda.empty_cache()
        return self._with_room(work, at_least=at_least, again=False)

    def _speak(self, chats: list[list[Message]], decoding: Decoding, expected: int) -> list[Reply]:
        """The replies to one batch. expected: tokens of each, about."""
        import torch

        inputs = self._begun(self._inputs(chats), decoding.prefill)
        prompts, tokenizer = inputs["input_ids"], self.processor.tokenizer
        lengths = inputs["attention_mask"].sum(-1)  # looked at when all is written
        start = self._tokens_done
        columns = torch.tensor(list(self._numbers), device=prompts.device)
        seen: list[torch.Tensor] = []  # on the device: the host is not to wait at every token
        # A thought that the chat template opens is part of the reply, so that nothing in it counts.
        opened = [decoding.prefill or self._opened(row) for row in prompts]
        ended: dict[int, int] = {}  # rows whose reply is complete, and its tokens

        def watch(tokens: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
            """Called after each new token of the batch; ends rows whose reply is complete."""
            step = tokens.shape[1] - prompts.shape[1]
            if self.progress is not None:
                done = start + min(step, expected) * len(chats)
                self.progress("judge", done, self._tokens_total)
            if (complete := decoding.complete) is not None:
                new = tokens[:, -step:]
                for row, token in enumerate(new[:, -1].tolist()):
                    if token in self._line_breaks and row not in ended:
                        text = tokenizer.decode(new[row], skip_special_tokens=True)
                        if complete(opened[row] + text):
                            ended[row] = step
            stopped = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
            if ended:
                stopped[list(ended)] = True
            return stopped

        def keep(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            """Called before each new token; changes nothing."""
            seen.append(logits[:, columns].float().softmax(-1))
            return logits

        temperature = decoding.temperature
        sampling: dict[str, Any] = {}
        if temperature:
            limits = {"top_p": decoding.top_p, "top_k": decoding.top_k}
            given = {name: limit for name, limit in limits.items() if limit is not None}
            sampling = {"do_sample": True, "temperature": temperature, **given}
        spare = self._device.spare if self._device.limited else None
        graphs = self._graphs.decoding(len(chats), prompts.shape[1], expected, spare)
        with (
            torch.inference_mode(),
            self._seeded(decoding),
            self.inside,
            graphs as cache,
            self._read(chats, self._prefix.spared(inputs, cache), decoding.prefill) as read,
        ):
            tokens = self.model.generate(
                **read,
                **sampling,
                max_new_tokens=decoding.max_new_tokens,
                stopping_criteria=[watch],
                logits_processor=[keep] if decoding.numbers else [],
            )
        new = tokens[:, prompts.shape[1] :]
        self._expected = new.shape[1]
        first = [i for i, chat in enumerate(chats) if not (i and chat is chats[i - 1])]
        self.used += Tokens(read=int(lengths[first].sum()))
        seen = [chances.cpu() for chances in seen]
        return self._decoded(new, decoding.max_new_tokens, seen, opened, ended)

    def _read(
        self, chats: list[list[Message]], inputs: Any, prefill: str
    ) -> AbstractContextManager[Mapping[str, Any]]:
        """Gives the inputs, by which a chat is read once that stands several times in a row."""
        groups = repeated(chats)
        if len(groups) == len(chats):
            return nullcontext(inputs)
        distinct = self._begun(self._inputs([chat for chat, _ in groups]), prefill)
        prompts = [number for number, (_, count) in enumerate(groups) for _ in range(count)]
        return read_once(self.model, inputs, distinct, prompts)

    def _opened(self, row: torch.Tensor) -> str:
        """What opens a thought at the end of a prompt; empty where nothing does."""
        match = _OPENED.search(self.processor.tokenizer.decode(row[-32:]))
        return match[0] if match else ""

    @contextmanager
    def _seeded(self, decoding: Decoding) -> Iterator[None]:
        """Sample repeatably, in one thread at a time."""
        if not decoding.temperature:
            yield
            return
        import torch

        devices = [self._device.name] if self._device.limited else []
        with _SAMPLING, torch.random.fork_rng(devices):
            torch.manual_seed(decoding.seed)
            yield

    def _decoded(
        self,
        tokens: torch.Tensor,
        limit: int,
        seen: Sequence[torch.Tensor] = (),
        opened: Sequence[str] = (),
        ended: Mapping[int, int] | None = None,
    ) -> list[Reply]:
        """tokens: (batch, length) of the replies alone, padded at the end.

        seen: for each step the chances of the vocabulary's numbers, (batch, numbers). opened: what
        stands before each reply. ended: rows that were complete, and their tokens.
        """
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        pad = self.processor.tokenizer.pad_token_id
        full = tokens.shape[1] >= limit
        replies = []
        for i, written in enumerate(tokens.tolist()):
            length = (ended or {}).get(i)
            row = written[:length]
            text = self.processor.tokenizer.decode(row, skip_special_tokens=True)
            self.used += Tokens(written=sum(token != pad for token in row))
            cut_off = full and length is None and not any(end in row for end in ends)
            numbers = self._numbers_in(row, [step[i] for step in seen], text) if seen else ()
            before = opened[i] if opened else ""
            numbers = tuple(replace(number, at=number.at + len(before)) for number in numbers)
            replies.append(Reply(before + text.strip(), cut_off, numbers))
        return replies

    def _numbers_in(
        self, row: list[int], seen: list[torch.Tensor], text: str
    ) -> tuple[Number, ...]:
        """The numbers among one reply's tokens, with the chances of others in their places."""
        numbers = []
        lead = len(text) - len(text.lstrip())
        text = text.strip()
        for k, token in enumerate(row):
            if token in self._numbers:
                before = self.processor.tokenizer.decode(row[:k], skip_special_tokens=True)
                chances: dict[float, float] = {}
                for value, chance in zip(self._numbers.values(), seen[k].tolist(), strict=True):
                    chances[value] = chances.get(value, 0.0) + chance
                at = len(before) - lead
                while text[at : at + 1].isspace():  # which the token may begin with
                    at += 1
                numbers.append(Number(at, chances))
        return tuple(numbers)

    @cached_property
    def _line_breaks(self) -> frozenset[int]:
        """The tokens of the vocabulary that end a line."""
        vocabulary = self.processor.tokenizer.get_vocab().items()
        return frozenset(i for word, i in vocabulary if any(mark in word for mark in LINE_BREAKS))

    @cached_property
    def _numbers(self) -> dict[int, float]:
        """The tokens of the vocabulary that are a number from 1 to 4, and the number."""
        words = {i: word.strip(SPACES) for word, i in self.processor.tokenizer.get_vocab().items()}
        return {i: float(word) for i, word in words.items() if NUMBER.fullmatch(word)}

    def _first_logits(
        self, chats: list[list[Message]], inputs: Any = None, *, read: int = 0
    ) -> torch.Tensor:
        """The logits of each answer's first token: (batch, vocabulary), float32.

        inputs: of the chats; None: they are made. read: tokens of each that are read already.

        Where the reply's first token belongs to a thought, which says nothing of yes or no, or the
        template opened one, they are those of the first token after it.
        """
        import torch

        inputs = inputs or self._inputs(chats, thinks=False)
        with torch.inference_mode(), self.inside:
            output = self.model.generate(
                **inputs,
                max_new_tokens=1,
                output_logits=True,
                return_dict_in_generate=True,
            )
        new = int(inputs["attention_mask"].sum()) - read * len(chats)
        self.used += Tokens(new, len(chats))
        logits: torch.Tensor = output.logits[0].float()
        first = [self.processor.tokenizer.decode(token) for token in logits.argmax(-1)]
        thinking = [
            i
            for i, (row, word) in enumerate(zip(inputs["input_ids"], first, strict=True))
            if self._opened(row) or OPENING.match(word)
        ]
        if thinking:
            logits = logits.clone()
            logits[thinking] = self._after_thoughts([chats[i] for i in thinking], logits[thinking])
        return logits

    def _after_thoughts(self, chats: list[list[Message]], first: torch.Tensor) -> torch.Tensor:
        """As `_first_logits`, of replies that begin with a thought, which is written to its end.

        first: the logits of the thoughts' first tokens. Raises ModelError where one has no end.
        """
        import torch

        inputs = self._inputs(chats, thinks=False)
        prompts = inputs["input_ids"]
        texts = [self._opened(row) for row in prompts]
        begun = [False] * len(chats)
        last = torch.zeros_like(first)

        def keep(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            """Called before each new token; changes nothing."""
            for i in (i for i in range(len(chats)) if not begun[i]):
                last[i] = logits[i].float()
            return logits

        def watch(tokens: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
            """Called after each new token; stops what has come to its answer."""
            for i in (i for i in range(len(chats)) if not begun[i]):
                text = self.processor.tokenizer.decode(tokens[i, prompts.shape[1] :])
                begun[i] = thoughts.begun(texts[i] + text)
            return torch.tensor(begun, device=tokens.device)

        with torch.inference_mode(), self.inside:
            tokens = self.model.generate(
                **inputs,
                max_new_tokens=thoughts.LONGEST,
                stopping_criteria=[watch],
                logits_processor=[keep],
            )
        pad = self.processor.tokenizer.pad_token_id
        written = int((tokens[:, prompts.shape[1] :] != pad).sum())
        self.used += Tokens(int(inputs["attention_mask"].sum()), written)
        if not all(begun):
            raise ModelError(
                "the critic begins to think where yes or no was asked for, and does not come to "
                f"an end of it within {thoughts.LONGEST} tokens",
                "turn its thinking off, as docs/rubrics.md says, or take another critic",
            )
        return last

    def _inputs(self, chats: list[list[Message]], *, thinks: bool = True) -> Any:
        """Token ids and pixels of a batch, padded on the left.

        thinks: whether a model may think first that can also answer at once.
        """
        how = {"padding": True, "add_special_tokens": False}
        before, self.processor.image_processor = self.processor.image_processor, self._images
        try:
            inputs = self._templated(
                self.processor, chats, thinks=thinks, return_tensors="pt", processor_kwargs=how
            )
        finally:
            self.processor.image_processor = before
        return inputs.to(self._device.name, dtype=self.model.dtype)

    def _templated(
        self, renderer: Any, chats: list[list[Message]], *, thinks: bool, **how: Any
    ) -> Any:
        """Chats in the words of the chat template, by a processor or its tokenizer."""
        # Other templates know no such word, and it would count as a setting of the images.
        known = str(self.processor.chat_template)
        told = {**self._template, **({} if thinks else {"enable_thinking": False})}
        # The template is a program of the checkpoint, and may fail in any way.
        hint = "take another critic; or, if the prompt has marks such as <image>, take them out"
        with reworded("the critic cannot be asked this", hint), bounded():
            return renderer.apply_chat_template(
                chats,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                # Otherwise a request can open a turn of its own, or stand where an image does.
                sanitize_control_tokens=True,
                **{word: value for word, value in told.items() if word in known},
                **how,
            )

    def _begun(self, inputs: Any, prefill: str) -> Any:
        """The inputs of a batch with the beginning of each reply after the prompt."""
        if not prefill:
            return inputs
        import torch

        ids = self.processor.tokenizer.encode(prefill, add_special_tokens=False)
        shape = inputs["input_ids"].shape  # (batch, length)
        rest = {"input_ids": inputs["input_ids"].new_tensor(ids), "attention_mask": 1}
        for name, tensor in inputs.items():
            if tensor.shape == shape:
                more = tensor.new_zeros(shape[0], len(ids))
                inputs[name] = torch.cat([tensor, more + rest.get(name, 0)], dim=1)
        return inputs


class _OneByOne:
    """An image processor that prepares the images of a batch at the same time, each in a thread.

    Only where that comes to the same as preparing them together, which is seen at the first batch
    of so many images of a size. Images of several sizes may be padded to the largest of them.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._comes_to_the_same: dict[tuple[object, int], bool] = {}  # by size and number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, images: Any, **how: Any) -> Any:
        rows = [row if isinstance(row, list) else [row] for row in images]
        # A row of several images may be laid out otherwise than as many rows.
        one_in_each = all(len(row) == 1 for row in rows)
        sizes = {image.size for row in rows for image in row}
        if len(rows) < 2 or not one_in_each or len(sizes) > 1:
            return self._processor(images, **how)
        kind = (sizes.pop(), len(rows))
        if self._comes_to_the_same.get(kind) is False:
            return self._processor(images, **how)
        jobs = [in_background(partial(self._processor, [row], **how)) for row in images]
        joined = _joined([job() for job in jobs])
        if joined is None or kind not in self._comes_to_the_same:
            together = self._processor(images, **how)
            self._comes_to_the_same[kind] = joined is not None and _are_equal(joined, together)
            return together
        return joined


def _joined(batches: Sequence[Any]) -> Any:
    """Several batches of an image processor as one; None where their images differ in shape."""
    import torch

    joined = type(batches[0])()
    for name in batches[0]:
        parts = [batch.get(name) for batch in batches]
        alike = all(isinstance(part, torch.Tensor) and part.ndim for part in parts)
        if not alike or len({part.shape[1:] for part in parts}) > 1:
            return None
        joined[name] = torch.cat(parts)
    return joined


def _are_equal(batch: Any, other: Any) -> bool:
    import torch

    return batch.keys() == other.keys() and all(
        isinstance(other[name], torch.Tensor) and torch.equal(batch[name], other[name])
        for name in batch
    )


def _images_of(chat: list[Message]) -> tuple[int, ...]:
    """Which images a chat shows."""
    parts = (part for message in chat for part in message["content"])
    return tuple(id(part["image"]) for part in parts if part["type"] == "image")


def _relieve(device: SharedDevice, weights: Weights, graphs: Graphs) -> str:
    """Have one reply need less memory, and say how; empty where nothing is left to give up."""
    return device.tighten(weights) or graphs.give_up()


def _forget_sampling(model: Any, tokenizer: Any) -> None:
    """Take the likeliest token, unless asked for another; never as the model prefers."""
    from transformers import GenerationConfig

    preferred = model.generation_config
    end = preferred.eos_token_id
    end = end if end is not None else tokenizer.eos_token_id
    model.generation_config = GenerationConfig(
        do_sample=False,
        disable_compile=True,  # what a static cache would begin
        bos_token_id=preferred.bos_token_id,
        eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
    )


def _opening_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens with which "yes" and "no" begin, in every spelling the vocabulary has."""
    yes, no = (
        {tokenizer.encode(word, add_special_tokens=False)[0] for word in words}
        for words in (YES, NO)
    )
    both = yes & no  # a space, or the token for all that is unknown
    if not (yes - both and no - both):
        raise ModelError("the critic's tokenizer cannot say yes and no", "take another critic")
    return sorted(yes - both), sorted(no - both)
