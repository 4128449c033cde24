"""Models of full size, or tiny ones, with random weights, for `gpu_floor.py`: made from configs in
memory, since writing and quantizing 23 GB of checkpoints would take minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gcr.critic import loading

MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(limit: int) -> Any:
    """A token for each byte. limit: tokens it reads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "</s>", *MARKS])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=limit)
    fast.pad_token, fast.eos_token, fast.chat_template = "<pad>", "</s>", TEMPLATE
    return fast


def vae(channels: int, *, tiny: bool, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    widths = (8, 8, 8, 8) if tiny else (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=channels,
        norm_num_groups=4 if tiny else 32,
        layers_per_block=1 if tiny else 2,
        sample_size=1024,
        mid_block_add_attention=not tiny,
        **settings,
    )


def sdxl(*, tiny: bool) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def clip(width: int, layers: int, heads: int) -> CLIPTextConfig:
        ids = {"pad_token_id": 256, "bos_token_id": 256, "eos_token_id": 257}
        return CLIPTextConfig(
            vocab_size=300 if tiny else 49408,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=width,
            **ids,
        )

    widths = (8, 16) if tiny else (320, 640, 1280)
    first, second = ((8, 1, 2), (16, 1, 2)) if tiny else ((768, 12, 12), (1280, 32, 20))
    cross = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
    unet = UNet2DConditionModel(
        sample_size=32 if tiny else 128,
        block_out_channels=widths,
        layers_per_block=1 if tiny else 2,
        down_block_types=("DownBlock2D", *[cross[0]] * (len(widths) - 1)),
        up_block_types=(*[cross[1]] * (len(widths) - 1), "UpBlock2D"),
        cross_attention_dim=first[0] + second[0],
        attention_head_dim=(1, 2) if tiny else (5, 10, 20),
        transformer_layers_per_block=(1, 1) if tiny else (1, 2, 10),
        use_linear_projection=True,
        norm_num_groups=4 if tiny else 32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8 if tiny else 256,
        projection_class_embeddings_input_dim=second[0] + 6 * (8 if tiny else 256),
    )
    return StableDiffusionXLPipeline(
        vae=vae(4, tiny=tiny),
        text_encoder=CLIPTextModel(clip(*first)),
        text_encoder_2=CLIPTextModelWithProjection(clip(*second)),
        tokenizer=byte_tokenizer(77),
        tokenizer_2=byte_tokenizer(77),
        unet=unet,
        scheduler=EulerDiscreteScheduler(steps_offset=1),
        add_watermarker=False,
    )


def dit(*, tiny: bool) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    text = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36}
    text |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    drawn: dict[str, Any] = {"dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30}
    drawn |= {"n_kv_heads": 30, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512]}
    if tiny:
        text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
        text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
        drawn = {"dim": 16, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2}
        drawn |= {"n_kv_heads": 2, "axes_dims": [2, 2, 4]}
    channels = 4 if tiny else 16
    width = text["hidden_size"]
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(channels, tiny=tiny, scaling_factor=0.36, shift_factor=0.11),
        text_encoder=Qwen3Model(Qwen3Config(vocab_size=300 if tiny else 151936, **text)),
        tokenizer=byte_tokenizer(512),
        transformer=ZImageTransformer2DModel(in_channels=channels, cap_feat_dim=width, **drawn),
    )


def critic(folder: Path, *, tiny: bool) -> Any:
    """A critic of Qwen3-VL 8B's shape, unquantized; all of it but its weights is in the folder."""
    from transformers import (
        Qwen2VLImageProcessorPil,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
    )

    tokenizer = byte_tokenizer(4096)
    ids = dict(zip(MARKS, tokenizer.convert_tokens_to_ids(list(MARKS)), strict=True))
    shape = (64, 128, 1, 2, 2, 32) if tiny else (4096, 12288, 36, 32, 8, 128)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    text = dict(zip((*names, "num_key_value_heads", "head_dim"), shape, strict=True))
    sections = [8, 4, 4] if tiny else [24, 20, 20]
    eyes = (1, 32, 64, 2, 8, 64) if tiny else (27, 1152, 4304, 16, 16, 2304)
    of_eyes = ("depth", "hidden_size", "intermediate_size", "num_heads", "patch_size")
    config = Qwen3VLConfig(
        text_config={
            **text,
            "vocab_size": 288 if tiny else 151936,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5000000.0,
                "mrope_section": sections,
                "mrope_interleaved": True,
            },
        },
        vision_config={
            **dict(zip((*of_eyes, "num_position_embeddings"), eyes, strict=True)),
            "out_hidden_size": shape[0],
            "spatial_merge_size": 2,
            "deepstack_visual_indexes": [0] if tiny else [8, 16, 24],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|image_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    patch = eyes[4]
    pixels = {"shortest_edge": (2 * patch) ** 2, "longest_edge": (64 * patch) ** 2}
    images = Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, size=pixels)
    for part in (config, tokenizer, images):
        part.save_pretrained(folder)
    return Qwen3VLForConditionalGeneration(config)


def pipeline(pair: str, device: str, *, tiny: bool) -> Any:
    """On the device."""
    made = on(device, lambda: {"sdxl": sdxl, "dit": dit}[pair](tiny=tiny))
    # Schedulers compute their tables with numpy, which takes none from a GPU.
    made.scheduler = type(made.scheduler).from_config(made.scheduler.config)
    made.set_progress_bar_config(disable=True)
    return made.to(device)


def quantized_critic(folder: Path, device: str, *, tiny: bool) -> tuple[Any, Any]:
    """In NF4 on the device, as `gcr` loads it, and its processor."""
    import bitsandbytes as bnb

    model = on(device, lambda: critic(folder, tiny=tiny)).eval()
    for layer in model.model.language_model.layers:
        for name, linear in list(layer.named_modules()):
            if not isinstance(linear, torch.nn.Linear):
                continue
            weight = bnb.nn.Params4bit(
                linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
            )
            small = bnb.nn.Linear4bit(
                linear.in_features,
                linear.out_features,
                bias=False,
                compute_dtype=linear.weight.dtype,
                quant_type="nf4",
                device="meta",
            )
            small.weight = weight.to(device)
            owner, _, attribute = name.rpartition(".")
            setattr(layer.get_submodule(owner), attribute, small)
    return model.requires_grad_(requires_grad=False), loading.image_processor(folder)


def on(device: str, make: Any) -> Any:
    """What `make` makes, with its weights on the device, in the type that they have there."""
    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32 if device == "cpu" else torch.bfloat16)
    try:
        with torch.device(device):
            return make()
    finally:
        torch.set_default_dtype(dtype)
