"""Spares a model what it has read already, by keeping keys and values.

That is what every chat begins with, the rubric before the image (`PrefixCache`); a chat that
several replies are written to (`read_once`); and an image with several questions about it
(`ReadImage`). Causal attention makes the keys and values of the first tokens independent of all
that follows.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

FAMILIES = frozenset({"qwen3_vl"})
"""Where replies were seen to stay the same. Elsewhere a window of attention that slides, or images
that the text before them attends to, could change them."""


class PrefixCache:
    """The last opening that a model has read, with its keys and values."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._serves = model.config.model_type in FAMILIES
        self._tokens: list[int] = []
        # In the machine's memory: the GPU's is planned for the weights and the work.
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def spared(self, inputs: Mapping[str, torch.Tensor], cache: Any = None) -> dict[str, Any]:
        """The inputs of `generate` for a batch padded on the left, with the opening read already.

        The padding moves behind the opening, which every row then has in the same place. As they
        are, where the rows show no image, or differ before their first one.
        cache: an empty one to decode with; None: as `generate` makes it.
        """
        opening = self._opening(inputs) if self._serves else []
        given = {} if cache is None else {"past_key_values": cache}
        if not opening:
            return {**inputs, **given}
        from transformers import DynamicCache

        ids = inputs["input_ids"]
        if opening != self._tokens:
            self._tokens, self._layers = opening, self._read(ids.new_tensor([opening]))
        layers = (
            [half.to(ids.device).expand(len(ids), -1, -1, -1) for half in layer]
            for layer in self._layers
        )
        if cache is None:
            cache = DynamicCache(layers)
        else:
            for place, (keys, values) in zip(cache.layers, layers, strict=True):
                place.update(keys, values)
        return {**_moved(inputs, len(opening)), "past_key_values": cache}

    def _opening(self, inputs: Mapping[str, torch.Tensor]) -> list[int]:
        """The tokens before the first image, if they are the same in every row."""
        marker = self._model.config.image_token_id
        rows = (
            ids[mask.bool()].tolist()
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        )
        openings = [row[: row.index(marker)] if marker in row else [] for row in rows]
        same = all(opening == openings[0] for opening in openings)
        return openings[0] if same else []

    def _read(self, tokens: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """tokens: (1, length). The keys and values of each layer: (1, heads, length, width)."""
        cache = self._model(input_ids=tokens, use_cache=True, logits_to_keep=1).past_key_values
        return [(layer.keys.cpu(), layer.values.cpu()) for layer in cache.layers]


def _moved(inputs: Mapping[str, torch.Tensor], opening: int) -> dict[str, torch.Tensor]:
    """The inputs with each row's padding behind its first `opening` tokens."""
    import torch

    shape = inputs["input_ids"].shape  # (batch, length)
    pads = shape[1] - inputs["attention_mask"].sum(1, keepdim=True)
    places = torch.arange(shape[1], device=pads.device).expand(shape)
    order = torch.where(places < opening, places + pads, places - opening)
    order = torch.where(places < opening + pads, order, places)
    return {
        name: tensor.gather(1, order) if tensor.shape == shape else tensor
        for name, tensor in inputs.items()
    }


PIXELS = ("pixel_values", "pixel_values_images", "image_patches")
"""What `generate` reads images from, of every row, before it calls the model."""


@contextmanager
def read_once(
    model: Any,
    inputs: Mapping[str, Any],
    distinct: Mapping[str, torch.Tensor],
    prompts: Sequence[int],
) -> Iterator[dict[str, Any]]:
    """Gives inputs with which `generate` reads each distinct prompt and image once, inside.

    inputs: of all rows; with a cache, if it is given one to decode with. distinct: of the distinct
    prompts alone, padded to the same length. prompts: for each row the number of its prompt, from 0
    in the order of the rows.
    """
    import torch
    from transformers import DynamicCache, StaticCache

    device = inputs["input_ids"].device
    index = torch.tensor(prompts, device=device)
    firsts = torch.tensor([prompts.index(k) for k in range(max(prompts) + 1)], device=device)
    images = _of_images(distinct)

    def of_prompts(name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.ndim < 2:
            return value
        # The positions of some families come in several kinds, before the rows.
        return value.index_select(1 if name == "position_ids" and value.ndim == 3 else 0, firsts)

    def read(eager: Callable[..., Any], rows: dict[str, Any]) -> Any:
        cache = rows["past_key_values"]
        rows |= {"attention_mask": inputs["attention_mask"]}  # not as it is spread for a cache
        texts = {name: of_prompts(name, value) for name, value in rows.items()}
        opening = int(cache.get_seq_length())
        if not isinstance(cache, StaticCache):
            if opening:
                cache.reorder_cache(firsts)
            output = eager(**{**texts, **images})
            cache.reorder_cache(index)
        else:
            # It has its rows once and for all, so that these prompts need one of their own.
            layers = [
                tuple(half[firsts, :, :opening] for half in (layer.keys, layer.values))
                for layer in (cache.layers if opening else ())
            ]
            texts["past_key_values"] = DynamicCache(layers or None)
            output = eager(**{**texts, **images})
            for place, layer in zip(cache.layers, output.past_key_values.layers, strict=True):
                halves = (half[index, :, opening:] for half in (layer.keys, layer.values))
                place.update(*halves)
            output.past_key_values = cache
        output.logits = output.logits.index_select(0, index)
        return output

    with _reading(model, read):
        yield {name: tensor for name, tensor in inputs.items() if name not in PIXELS}


CONTINUED = frozenset({"llava", "qwen3_vl"})
"""Families whose answers were seen to stay the same where questions go on from an image that was
read for all of them."""


def can_continue(model: Any) -> bool:
    """Whether several chats may go on from what one of them has read, up to its last image."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    layers = DynamicCache(config=model.config).layers
    return model.config.model_type in CONTINUED and all(type(i) is DynamicLayer for i in layers)


class ReadImage:
    """A chat up to its last image, which is read once for all chats that go on from there.

    Attributes:
        length: tokens up to there.
        rest: those that follow in the chat itself.
    """

    def __init__(self, model: Any, inputs: Mapping[str, torch.Tensor]) -> None:
        """inputs: of one chat, without padding."""
        self._model = model
        self._inputs = inputs
        tokens = inputs["input_ids"][0].tolist()
        self.length = len(tokens) - tokens[::-1].index(model.config.image_token_id)
        self.rest = tokens[self.length :]
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []  # of each, once it is read

    @contextmanager
    def followed(self, rests: Sequence[Sequence[int]]) -> Iterator[dict[str, torch.Tensor]]:
        """Gives inputs for `generate`, inside, of chats that go on with these tokens.

        Their padding stands between the image and these.
        """
        rows = self._rows(rests)
        with _reading(self._model, partial(self._read, rows["attention_mask"])):
            yield rows

    def _rows(self, rests: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        import torch

        ids = self._inputs["input_ids"]
        rows, longest = len(rests), max(map(len, rests))
        pad = self._model.generation_config.pad_token_id
        written = [[pad] * (longest - len(rest)) + list(rest) for rest in rests]
        seen = [[0] * (longest - len(rest)) + [1] * len(rest) for rest in rests]
        after = {"input_ids": ids.new_tensor(written), "attention_mask": ids.new_tensor(seen)}
        nothing = ids.new_zeros(rows, longest)
        return {
            name: torch.cat(
                [tensor[:, : self.length].expand(rows, -1), after.get(name, nothing)], dim=1
            )
            if tensor.shape == ids.shape
            else tensor.repeat(rows, *[1] * (tensor.ndim - 1))  # of the image, such as its size
            for name, tensor in self._inputs.items()
            if name not in PIXELS
        }

    def _read(self, mask: torch.Tensor, eager: Callable[..., Any], rows: dict[str, Any]) -> Any:
        """mask: (rows, tokens), which `generate` leaves out where nothing is padding."""
        from transformers import DynamicCache

        images = _of_images(self._inputs)
        rows = {k: v for k, v in rows.items() if k not in images} | {"attention_mask": mask}
        count, width = mask.shape

        def columns(which: slice, *, most: int) -> dict[str, Any]:
            """The inputs of these tokens, of so many rows at most."""
            return {
                # The positions of some families come in several kinds, before the rows.
                name: value[..., :most, which]
                if getattr(value, "ndim", 0) >= 2 and value.shape[-1] == width
                else value
                for name, value in rows.items()
            }

        if not self._layers:
            opening = columns(slice(self.length), most=1)
            read = eager(**{**opening, **images, "past_key_values": DynamicCache()})
            self._layers = [(layer.keys, layer.values) for layer in read.past_key_values.layers]
        expanded = ([half.expand(count, -1, -1, -1) for half in layer] for layer in self._layers)
        following = columns(slice(self.length, None), most=count)
        following |= {"attention_mask": mask}
        return eager(**{**following, "past_key_values": DynamicCache(expanded)})


def _of_images(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What belongs to the images, such as their sizes, and not to each token."""
    shape = inputs["input_ids"].shape
    return {name: tensor for name, tensor in inputs.items() if tensor.shape != shape}


@contextmanager
def _reading(
    model: Any, read: Callable[[Callable[..., Any], dict[str, Any]], Any]
) -> Iterator[None]:
    """Has `read` take the model's place in its next call, inside. It is given the model's forward,
    and the inputs without images, which are read in it.
    """
    eager, before = model.forward, vars(model).get("forward")

    @wraps(eager)  # `generate` looks at its signature
    def forward(**inputs: Any) -> Any:
        model.forward = eager  # for the tokens that follow
        inputs.pop("mm_encoder_outputs", None)
        return read(eager, inputs)

    model.forward = forward
    try:
        yield
    finally:
        del model.forward
        if before is not None:
            model.forward = before
