"""Judges images with a vision-language model on this machine.

Knows models and processors by what transformers has in common for all of them; what is asked is
the rubric's matter, and what was answered is for `gcr.reply` to read.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gcr import reply
from gcr.checkpoint import first_line
from gcr.critic.loading import Quantize
from gcr.critic.loading import load as load_model
from gcr.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from PIL.Image import Image

    from gcr.memory import SharedDevice
    from gcr.records import Critique, Objection, Progress, Request
    from gcr.rubric import Message, Rubric

YES = ("yes", "Yes", "YES", " yes", " Yes", " YES")
NO = ("no", "No", "NO", " no", " No", " NO")


def load(  # noqa: PLR0913 - what to load, how to ask, and where: none follows from another
    model: str,
    rubric: Rubric,
    device: SharedDevice,
    *,
    quantize: Quantize = "nf4",
    batch: int = 2,
    progress: Progress | None = None,
) -> LocalCritic:
    """Load an image-text-to-text model from a hub id, a folder or `pocket:critic`.

    batch: images judged at once, at most.
    Raises ModelError for what cannot be loaded, and for a model that cannot see images.
    """
    loaded, processor = load_model(model, device, quantize)
    return LocalCritic(loaded, processor, rubric, device, batch=batch, progress=progress)


class LocalCritic:
    """A loaded model, its processor and the rubric it judges by."""

    def __init__(  # noqa: PLR0913 - as load
        self,
        model: Any,
        processor: Any,
        rubric: Rubric,
        device: SharedDevice,
        *,
        batch: int = 2,
        progress: Progress | None = None,
    ) -> None:
        self._model = model
        self._processor = processor
        self._rubric = rubric
        self._device = device
        self._batch = batch
        self._progress = progress
        self._tokens_done = self._tokens_total = 0
        self.limit: int | None = None
        """Tokens that the pipeline reads of a prompt; the critic is told."""
        device.hold(self)
        _forget_sampling(model, processor.tokenizer)

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Critique]:
        """Judge each image against its request, beside the source that was edited, if any.

        A reply that cannot be read is asked for once more; if that cannot be read either, the
        critique is unscored and its `problem` says why.
        """
        chats = self._chats(requests, images, sources or [None] * len(images))
        self._tokens_done = self._tokens_total = 0
        critiques = self._critiques(chats)
        unread = [i for i, critique in enumerate(critiques) if critique.overall is None]
        again = [self._rubric.again(chats[i], critiques[i].raw) for i in unread]
        for i, critique in zip(unread, self._critiques(again), strict=True):
            critiques[i] = critique
        return critiques

    def rewrite(self, objections: Sequence[Objection]) -> list[str | None]:
        """Ask for another refined request, in the conversation that led to the one complained of.

        A reply in the whole form is read like a critique; any other is the refined request itself.
        """
        asked = self._chats(
            [o.request for o in objections],
            [o.image for o in objections],
            [o.source for o in objections],
        )
        chats = [
            self._rubric.object(chat, objection.critique.raw, objection.complaint)
            for chat, objection in zip(asked, objections, strict=True)
        ]
        self._tokens_done = self._tokens_total = 0
        return [
            reply.read_refined(text, self._rubric, cut_off=cut) for text, cut in self._ask(chats)
        ]

    def answer(self, images: Sequence[Image], questions: Sequence[str]) -> list[float]:
        """The probability of "yes" against "no" as the first word of the answer.

        questions: one for each image, sent as they are.
        """
        chats = [
            [{"role": "user", "content": [_image(image), {"type": "text", "text": question}]}]
            for image, question in zip(images, questions, strict=True)
        ]
        yes, no = _opening_tokens(self._processor.tokenizer)
        probabilities: list[float] = []
        for batch in self._batches(chats):
            logits = self._device.run(self, partial(self._first_logits, batch))
            odds = logits[:, yes].logsumexp(-1) - logits[:, no].logsumexp(-1)
            probabilities += odds.sigmoid().tolist()
        return probabilities

    def weight_bytes(self) -> int:
        return int(self._model.get_memory_footprint())

    def move(self, device: str) -> None:
        self._model.to(device)

    def _chats(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None],
    ) -> list[list[Message]]:
        return [
            _with_images(
                self._rubric.messages(request, self.limit),
                [image] if source is None else [source, image],
            )
            for request, image, source in zip(requests, images, sources, strict=True)
        ]

    def _critiques(self, chats: list[list[Message]]) -> list[Critique]:
        return [reply.read(text, self._rubric, cut_off=cut) for text, cut in self._ask(chats)]

    def _ask(self, chats: list[list[Message]]) -> list[tuple[str, bool]]:
        """The text of each reply, and whether it was cut off at the limit."""
        limit = self._rubric.max_new_tokens
        batches = list(self._batches(chats))
        self._tokens_total += limit * len(batches)
        replies: list[tuple[str, bool]] = []
        for batch in batches:
            start = self._tokens_done
            replies += self._device.run(self, partial(self._replies, batch))
            # Most replies end long before the limit.
            self._tokens_done = start + limit
        return replies

    def _batches(self, chats: list[list[Message]]) -> Iterator[list[list[Message]]]:
        for start in range(0, len(chats), self._batch):
            yield chats[start : start + self._batch]

    def _replies(self, chats: list[list[Message]]) -> list[tuple[str, bool]]:
        """The replies to one batch, as `_ask` gives them."""
        import torch

        inputs = self._inputs(chats)
        start = self._tokens_done
        step = 0

        def watch(tokens: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
            """Called after each new token of the batch; stops nothing."""
            nonlocal step
            step += 1
            if self._progress is not None:
                self._progress("judge", start + step, self._tokens_total)
            return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)

        temperature = self._rubric.temperature
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {}
        devices = [self._device.name] if self._device.limited else []
        with torch.inference_mode(), torch.random.fork_rng(devices):
            # A score that is sampled is sampled the same way each time.
            torch.manual_seed(0)
            tokens = self._model.generate(
                **inputs,
                **sampling,
                max_new_tokens=self._rubric.max_new_tokens,
                stopping_criteria=[watch],
            )
        return self._decoded(tokens[:, inputs["input_ids"].shape[1] :])

    def _decoded(self, tokens: torch.Tensor) -> list[tuple[str, bool]]:
        """tokens: (batch, length) of the replies alone, padded at the end."""
        texts = self._processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        full = tokens.shape[1] >= self._rubric.max_new_tokens
        ended = [not full or any(end in row for end in ends) for row in tokens.tolist()]
        return [(text.strip(), not end) for text, end in zip(texts, ended, strict=True)]

    def _first_logits(self, chats: list[list[Message]]) -> torch.Tensor:
        """The logits of each reply's first token: (batch, vocabulary), float32."""
        import torch

        with torch.inference_mode():
            output = self._model.generate(
                **self._inputs(chats),
                max_new_tokens=1,
                output_logits=True,
                return_dict_in_generate=True,
            )
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def _inputs(self, chats: list[list[Message]]) -> Any:
        """Token ids and pixels of a batch, padded on the left."""
        try:
            inputs = self._processor.apply_chat_template(
                chats,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                # Otherwise a request can open a turn of its own, or stand where an image does.
                sanitize_control_tokens=True,
                processor_kwargs={"padding": True, "add_special_tokens": False},
            )
        except ValueError as error:
            raise ModelError(
                f"the critic cannot be asked this: {first_line(error)}",
                "take such marks out of the prompt, or take another critic",
            ) from error
        return inputs.to(self._device.name, dtype=self._model.dtype)


def _with_images(messages: list[Message], images: Sequence[Image]) -> list[Message]:
    """The rubric's messages with the images, in order, where they leave room for them."""
    parts = [part for message in messages for part in message["content"]]
    rooms = [part for part in parts if part["type"] == "image"]
    shown = {id(room): _image(image) for room, image in zip(rooms, images, strict=True)}
    return [
        {**message, "content": [shown.get(id(part), part) for part in message["content"]]}
        for message in messages
    ]


def _image(image: Image) -> dict[str, object]:
    return {"type": "image", "image": image.convert("RGB")}


def _forget_sampling(model: Any, tokenizer: Any) -> None:
    """Take the likeliest token, unless the rubric asks for another; never as the model prefers."""
    from transformers import GenerationConfig

    own = model.generation_config
    end = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=own.bos_token_id,
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
