"""Random tiny checkpoints of real families, built on the spot: no network, a second or so each.

What they draw and say is noise; that they are loaded, called and read as the real ones are is
what the tests need of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message.role }} : "
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<image> {% else %}{{ part.text }} {% endif %}{% endfor %}"
    "{% if message.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
QWEN_TOKENS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]


PIXART = {"max_sequence_length": 64, "use_resolution_binning": False, "clean_caption": False}
FAMILIES: dict[str, dict[str, object]] = {
    "stable_diffusion": {},
    "flux": {"max_sequence_length": 64},
    "pixart": PIXART,
    "sana": {"use_resolution_binning": False},
    "z_image": {"max_sequence_length": 64},
}
"""Families that draw from text, and what their calls need beside a prompt."""


def byte_tokenizer(special: tuple[str, ...] = (), **settings: Any) -> Any:
    """Every byte is a token: any text can be encoded, with no vocabulary file."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "</s>", *special])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)
    fast.pad_token, fast.eos_token = "<pad>", "</s>"
    return fast


def word_tokenizer(words: str, special: tuple[str, ...] = (), **settings: Any) -> Any:
    """One token for each word, as the embedded pair has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # Without the split at brackets a user's "<image>" is that special token, and not a text.
    brackets = [pre_tokenizers.Split(bracket, "isolated") for bracket in "<>"]
    listed = ["<pad>", "</s>", "<unk>", *special, *words.split()]
    vocabulary = {word: i for i, word in enumerate(listed)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), *brackets])
    tokenizer.add_special_tokens(["<pad>", "</s>", *special])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)
    fast.pad_token, fast.eos_token, fast.unk_token = "<pad>", "</s>", "<unk>"
    return fast


def _sizes(width: int = 16, layers: int = 1, **more: Any) -> dict[str, Any]:
    """Of a language model."""
    heads = {"num_hidden_layers": layers, "num_attention_heads": 2}
    return {
        "vocab_size": 300,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        **heads,
        **more,
    }


def _qwen_tokenizer(**settings: Any) -> Any:
    tokenizer = byte_tokenizer(tuple(QWEN_TOKENS), **settings)
    tokenizer.chat_template = QWEN_TEMPLATE
    return tokenizer


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    """The tokens around images, as the configurations of Qwen's models name them."""
    start, end, pad = tokenizer.convert_tokens_to_ids(QWEN_TOKENS[2:])
    ids = {"image_token_id": pad, "video_token_id": pad}
    return {**ids, "vision_start_token_id": start, "vision_end_token_id": end}


def _processor(kind: Any, images: Any, tokenizer: Any) -> Any:
    """A processor of images and texts, without videos."""
    from gcr.hub.processors import image_only

    return image_only(kind)(
        image_processor=images, tokenizer=tokenizer, chat_template=QWEN_TEMPLATE
    )


def _rope(*sections: int, **more: Any) -> dict[str, Any]:
    """Of a model that knows where in an image a token is."""
    usual = {"rope_type": "default", "rope_theta": 10000.0}
    return {**usual, "mrope_section": [*sections], **more}


def _vae(channels: int = 4, levels: int = 2, kind: str = "AutoencoderKL", **settings: Any) -> Any:
    import diffusers

    return getattr(diffusers, kind)(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=channels,
        norm_num_groups=4,
        layers_per_block=1,
        **settings,
    )


def _clip(projection: bool = False, width: int = 16) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    ends = {"pad_token_id": 256, "bos_token_id": 256, "eos_token_id": 257}
    config = CLIPTextConfig(**_sizes(width, projection_dim=16, **ends))
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return T5EncoderModel(config).eval()


def _flow() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


def stable_diffusion(folder: Path) -> Path:
    from diffusers import StableDiffusionPipeline

    return _saved(folder, _with_unet(StableDiffusionPipeline, 4))


def sdxl(folder: Path) -> Path:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    unet = _unet(
        sample_size=32,
        cross_attention_dim=40,  # of both text encoders
        attention_head_dim=(1, 2),
        transformer_layers_per_block=(1, 1),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )
    return _saved(
        folder,
        StableDiffusionXLPipeline(
            vae=_vae(sample_size=64),
            text_encoder=_clip(),
            text_encoder_2=_clip(projection=True, width=24),
            tokenizer=byte_tokenizer(model_max_length=77),
            tokenizer_2=byte_tokenizer(model_max_length=77),
            unet=unet,
            scheduler=EulerDiscreteScheduler(steps_offset=1),
            add_watermarker=False,
        ),
    )


def instruct_pix2pix(folder: Path) -> Path:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    return _saved(folder, _with_unet(StableDiffusionInstructPix2PixPipeline, 8))


def _unet(**settings: Any) -> Any:
    from diffusers import UNet2DConditionModel

    usual = {"sample_size": 16, "in_channels": 4, "cross_attention_dim": 16}
    return UNet2DConditionModel(
        **{**usual, "attention_head_dim": 2, **settings},
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )


def _with_unet(pipeline: Any, channels: int) -> Any:
    """channels: of the UNet's input: 4 of noise, and for an editing pipeline 4 of the source."""
    from diffusers import DDIMScheduler

    return pipeline(
        vae=_vae(),
        text_encoder=_clip(),
        tokenizer=byte_tokenizer(model_max_length=77),
        unet=_unet(in_channels=channels),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flux(folder: Path) -> Path:
    from diffusers import FluxPipeline

    return _saved(folder, _with_flux(FluxPipeline))


def kontext(folder: Path) -> Path:
    from diffusers import FluxKontextPipeline

    return _saved(folder, _with_flux(FluxKontextPipeline))


def flux2_klein(folder: Path, layers: int = 2) -> Path:
    """layers: of the text encoder, of which the pipeline reads 9, 18 and 27 unless told others."""
    from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(**_sizes(layers=layers), num_key_value_heads=1, head_dim=8)
    transformer = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,  # three layers of the text encoder
        timestep_guidance_channels=16,
        mlp_ratio=2.0,
        axes_dims_rope=(4, 4, 4, 4),
    )
    return _saved(
        folder,
        Flux2KleinPipeline(
            scheduler=_flow(),
            vae=_vae(kind="AutoencoderKLFlux2"),
            text_encoder=Qwen3ForCausalLM(config).eval(),
            tokenizer=_qwen_tokenizer(model_max_length=512),
            transformer=transformer,
            is_distilled=True,
        ),
    )


def _with_flux(pipeline: Any) -> Any:
    from diffusers import FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    return pipeline(
        scheduler=_flow(),
        vae=_vae(scaling_factor=0.36, shift_factor=0.11),
        text_encoder=_clip(),
        tokenizer=byte_tokenizer(model_max_length=77),
        text_encoder_2=_t5(),
        tokenizer_2=byte_tokenizer(model_max_length=512),
        transformer=transformer,
    )


def pixart(folder: Path) -> Path:
    """The class of the embedded generator, with a tokenizer of whole words."""
    from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=32,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        use_additional_conditions=False,
    )
    return _saved(
        folder,
        PixArtAlphaPipeline(
            tokenizer=word_tokenizer("a red blue circle square", model_max_length=64),
            text_encoder=_t5(),
            vae=_vae(),
            transformer=transformer,
            scheduler=DPMSolverMultistepScheduler(),
        ),
    )


def sana(folder: Path) -> Path:
    from diffusers import (
        AutoencoderDC,
        DPMSolverMultistepScheduler,
        SanaPipeline,
        SanaTransformer2DModel,
    )
    from transformers import Gemma2Config, Gemma2Model

    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41,
    )
    transformer = SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=16,
        sample_size=32,
    )
    text_encoder = Gemma2Model(Gemma2Config(**_sizes(), num_key_value_heads=1, head_dim=8))
    return _saved(
        folder,
        SanaPipeline(
            tokenizer=byte_tokenizer(model_max_length=300),
            text_encoder=text_encoder.eval(),
            vae=vae,
            transformer=transformer,
            scheduler=DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
            ),
        ),
    )


def qwen_image(folder: Path) -> Path:
    import diffusers

    tokenizer, text_encoder = _qwen2_5_vl()
    return _saved(
        folder,
        diffusers.QwenImagePipeline(
            scheduler=_flow(),
            vae=_qwen_image_vae(),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=_qwen_image_transformer(),
        ),
    )


def qwen_image_edit(*, plus: bool = False) -> Any:
    """A whole pipeline, not a folder."""
    import diffusers
    from transformers import Qwen2VLImageProcessorPil, Qwen2VLProcessor

    tokenizer, text_encoder = _qwen2_5_vl()
    sizes = {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}
    images = Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, size=sizes)
    kind = diffusers.QwenImageEditPlusPipeline if plus else diffusers.QwenImageEditPipeline
    return kind(
        scheduler=_flow(),
        vae=_qwen_image_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        processor=_processor(Qwen2VLProcessor, images, tokenizer),
        transformer=_qwen_image_transformer(),
    )


def _qwen2_5_vl() -> tuple[Any, Any]:
    """The tokenizer and the text encoder of Qwen-Image."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = byte_tokenizer(tuple(QWEN_TOKENS), model_max_length=2048)
    config = Qwen2_5_VLConfig(
        text_config=_sizes(vocab_size=288, num_key_value_heads=2, rope_parameters=_rope(1, 1, 2)),
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
        **_qwen_ids(tokenizer),
    )
    return tokenizer, Qwen2_5_VLForConditionalGeneration(config).eval()


def _qwen_image_vae() -> Any:
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False] * 3,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def _qwen_image_transformer() -> Any:
    from diffusers import QwenImageTransformer2DModel

    return QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,  # the first and the last are told apart where steps are reused
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )


def z_image(folder: Path, width: int = 16, channels: int = 4) -> Path:
    """width: of both models; channels: of the latents."""
    from diffusers import ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=channels,
        dim=width,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=width,
        axes_dims=[width // 8, width // 8, width // 4],
        axes_lens=[512, 64, 64],
    )
    config = Qwen3Config(**_sizes(width, layers=2), num_key_value_heads=1, head_dim=width // 2)
    return _saved(
        folder,
        ZImagePipeline(
            scheduler=_flow(),
            vae=_vae(channels, scaling_factor=0.36, shift_factor=0.11),
            text_encoder=Qwen3Model(config).eval(),
            tokenizer=_qwen_tokenizer(model_max_length=512),
            transformer=transformer,
        ),
    )


def z_image_wide(folder: Path) -> Path:
    """Its layers have the sizes that 4-bit weights on a CPU take."""
    return z_image(folder, width=192, channels=16)


def qwen_image_21(folder: Path) -> Path:
    """Its tokenizer is inside its processor, and it has no `guidance_scale`."""
    from diffusers import (
        AutoencoderKLQwenImage21,
        QwenImage21Pipeline,
        QwenImage21Transformer2DModel,
    )
    from transformers import Qwen3VLProcessor

    tokenizer, text_encoder, images = _qwen3_vl(patch=16)
    vae = AutoencoderKLQwenImage21(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False] * 4,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    transformer = QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=64,
        axes_dims_rope=(4, 6, 6),
    )
    return _saved(
        folder,
        QwenImage21Pipeline(
            scheduler=_flow(),
            vae=vae,
            text_encoder=text_encoder,
            processor=_processor(Qwen3VLProcessor, images, tokenizer),
            transformer=transformer,
        ),
    )


def krea2(folder: Path) -> Path:
    from diffusers import Krea2Pipeline, Krea2Transformer2DModel

    tokenizer, text_encoder, _ = _qwen3_vl()
    transformer = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        timestep_embed_dim=16,
        text_hidden_dim=64,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=32,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    )
    return _saved(
        folder,
        Krea2Pipeline(
            scheduler=_flow(),
            vae=_qwen_image_vae(),
            text_encoder=text_encoder.model,
            tokenizer=tokenizer,
            transformer=transformer,
            text_encoder_select_layers=(0, 1),
        ),
    )


def longcat_image(folder: Path) -> Path:
    """Rewrites its prompts by itself, unless it is told not to."""
    from diffusers import LongCatImagePipeline, LongCatImageTransformer2DModel
    from transformers import Qwen2VLImageProcessorPil, Qwen2VLProcessor

    tokenizer, text_encoder = _qwen2_5_vl()
    images = Qwen2VLImageProcessorPil(patch_size=14, merge_size=2)
    transformer = LongCatImageTransformer2DModel(
        in_channels=64,  # of 16 latent channels, which its pipeline takes for granted
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 6, 6],
    )
    return _saved(
        folder,
        LongCatImagePipeline(
            scheduler=_flow(),
            vae=_vae(16, scaling_factor=0.36, shift_factor=0.11),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_processor=_processor(Qwen2VLProcessor, images, tokenizer),
            transformer=transformer,
        ),
    )


def ernie_image(folder: Path) -> Path:
    """Rewrites its prompts by itself, unless it is told not to."""
    import torch
    from diffusers import ErnieImagePipeline, ErnieImageTransformer2DModel
    from transformers import Ministral3Config, Ministral3ForCausalLM, Ministral3Model

    def config() -> Any:
        return Ministral3Config(**_sizes(layers=2), num_key_value_heads=1, head_dim=8)

    transformer = ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=1,
        ffn_hidden_size=32,
        in_channels=16,
        out_channels=16,
        text_in_dim=16,
        rope_axes_dim=(4, 6, 6),
    )
    for parameter in transformer.parameters():
        if not parameter.any():  # its gates begin closed, so that it would not see the text
            torch.nn.init.normal_(parameter, std=0.3)
    return _saved(
        folder,
        ErnieImagePipeline(
            transformer=transformer,
            vae=_vae(kind="AutoencoderKLFlux2"),
            text_encoder=Ministral3Model(config()).eval(),
            tokenizer=byte_tokenizer(model_max_length=512),
            scheduler=_flow(),
            pe=Ministral3ForCausalLM(config()).eval(),
            pe_tokenizer=_qwen_tokenizer(model_max_length=16),
        ),
    )


def glm_image(folder: Path) -> Path:
    """A language model writes the tokens that it draws from."""
    from diffusers import GlmImagePipeline, GlmImageTransformer2DModel
    from transformers import (
        ByT5Tokenizer,
        GlmImageConfig,
        GlmImageForConditionalGeneration,
        GlmImageImageProcessorPil,
        GlmImageProcessor,
    )

    names = {"image_token": "<|image|>", "grid_bos_token": "<sop>", "grid_eos_token": "<eop>"}
    tokenizer = byte_tokenizer(
        tuple(names.values()), model_max_length=4096, bos_token="<sop>", extra_special_tokens=names
    )
    language = GlmImageForConditionalGeneration(
        GlmImageConfig(
            text_config=_sizes(
                vision_vocab_size=80,
                num_key_value_heads=1,
                pad_token_id=256,
                eos_token_id=256,  # which it cannot write: noise would end early
                rope_parameters=_rope(1, 1, 2, partial_rotary_factor=1.0),
            ),
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 32,
                "depth": 1,
                "num_heads": 2,
                "image_size": 32,
            },
            vq_config={"embed_dim": 8, "num_embeddings": 64, "latent_channels": 16},
            image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
            image_start_token_id=78,
            image_end_token_id=79,
        )
    )
    processor = GlmImageProcessor(
        image_processor=GlmImageImageProcessorPil(patch_size=16, merge_size=1),
        tokenizer=tokenizer,
        chat_template=QWEN_TEMPLATE,
    )
    transformer = GlmImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=300,
    )
    return _saved(
        folder,
        GlmImagePipeline(
            tokenizer=ByT5Tokenizer(extra_ids=0, model_max_length=512),
            processor=processor,
            text_encoder=_t5(),
            vision_language_encoder=language.eval(),
            vae=_vae(levels=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4),
            transformer=transformer,
            scheduler=_flow(),
        ),
    )


def _saved(folder: Path, pipeline: Any) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def qwen3_vl(folder: Path, size: int = 64, layers: int = 1, *, tied: bool = False) -> Path:
    """A Qwen3-VL critic.

    size: width of the language model, a multiple of 64.
    tied: whether its head is its embedding, as in the published ones of up to 4B.
    """
    return _saved_parts(folder, *_qwen3_vl(size, layers, tied=tied))


def _qwen3_vl(
    size: int = 64, layers: int = 1, *, tied: bool = False, patch: int = 8
) -> tuple[Any, Any, Any]:
    """The tokenizer, the model and the image processor of a Qwen3-VL.

    patch: side of an image's patches in pixels, of which it reads 2×2 as one.
    """
    from transformers import (
        Qwen2VLImageProcessorPil,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
    )

    tokenizer = _qwen_tokenizer()
    config = Qwen3VLConfig(
        text_config={
            **_sizes(size, layers, vocab_size=288),
            "num_attention_heads": size // 32,
            "num_key_value_heads": size // 32,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": _rope(8, 4, 4, mrope_interleaved=True),
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": size,
            "patch_size": patch,
            "spatial_merge_size": 2,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 64,
        },
        tie_word_embeddings=tied,
        **_qwen_ids(tokenizer),
    )
    model = Qwen3VLForConditionalGeneration(config)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.eos_token_id = [end, tokenizer.eos_token_id]
    images = Qwen2VLImageProcessorPil(
        patch_size=patch, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    )
    return tokenizer, model.eval(), images


def llava(folder: Path, inner: int = 128) -> Path:
    """The class of the embedded critic: SigLIP-type vision, Llama-type text, a word a token.

    inner: width inside the language model's feed-forward layers.
    """
    from transformers import (
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
    )

    words = "yes no is there a red blue circle square ? : user assistant system # 1. 4"
    tokenizer = word_tokenizer(words, ("<image>",))
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
            vision_use_head=False,
        ),
        text_config=LlamaConfig(
            vocab_size=64,
            hidden_size=64,
            intermediate_size=inner,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=LLAVA_TEMPLATE,
    )
    return _saved_parts(folder, model, processor)


def clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    config = CLIPConfig(
        text_config=_embedder(max_position_embeddings=24, bos_token_id=256, eos_token_id=257),
        vision_config=_embedder(image_size=32, patch_size=8),
        projection_dim=16,
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    return _saved_embedder(folder, CLIPModel(config), images)


def siglip(folder: Path) -> Path:
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    config = SiglipConfig(
        text_config=_embedder(max_position_embeddings=24),
        vision_config=_embedder(image_size=32, patch_size=8),
    )
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return _saved_embedder(folder, SiglipModel(config), images)


def _embedder(**settings: Any) -> dict[str, Any]:
    size = {"hidden_size": 32, "intermediate_size": 64, "projection_dim": 16}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2}
    return {**size, **layers, "vocab_size": 300, "pad_token_id": 256, **settings}


def _saved_embedder(folder: Path, model: Any, images: Any) -> Path:
    return _saved_parts(folder, model, byte_tokenizer(model_input_names=["input_ids"]), images)


def owlv2(folder: Path) -> Path:
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil

    config = Owlv2Config(
        text_config=_embedder(max_position_embeddings=48, bos_token_id=256, eos_token_id=257),
        vision_config=_embedder(image_size=32, patch_size=8),
        projection_dim=32,
    )
    images = Owlv2ImageProcessorPil(size={"height": 32, "width": 32})
    tokenizer = byte_tokenizer(model_max_length=48)
    return _saved_parts(folder, Owlv2ForObjectDetection(config), tokenizer, images)


def grounding_dino(folder: Path) -> Path:
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        SwinConfig,
    )

    backbone = SwinConfig(
        image_size=32,
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1] * 4,
        window_size=2,
        out_indices=[2, 3, 4],
    )
    words = BertConfig(**_sizes(pad_token_id=256))
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=words,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=32,
    )
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 192})
    tokenizer = byte_tokenizer(model_max_length=256)
    return _saved_parts(folder, GroundingDinoForObjectDetection(config), tokenizer, images)


def text_only(folder: Path) -> Path:
    """A language model that has no eyes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _saved_parts(folder, LlamaForCausalLM(LlamaConfig(**_sizes())), byte_tokenizer())


def _saved_parts(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


# Checkpoints in one file, with the names that trainers gave to weights


def clip_tokenizer(model_max_length: int = 77) -> Any:
    """As CLIP's own: it puts tokens around a text, and fills up with the last of them."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(("<s>",), model_max_length=model_max_length)
    tokenizer.bos_token, tokenizer.pad_token = "<s>", "</s>"
    ends = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=ends
    )
    return tokenizer


def single_file(folder: Path, path: Path, **more: Any) -> Path:
    """A checkpoint of a saved pipeline in one file: as Stable Diffusion and SDXL have it, with text
    encoders and VAE; of Z-Image and Flux the transformer alone, of Flux by the names of diffusers.

    more: further weights.
    """
    from safetensors.torch import load_file, save_file

    def weights(part: str) -> dict[str, Any]:
        (file,) = (folder / part).glob("*.safetensors")
        return load_file(file)

    if (folder / "unet").is_dir():
        is_xl = (folder / "text_encoder_2").is_dir()
        first = "conditioner.embedders.0.transformer" if is_xl else "cond_stage_model.transformer"
        made = {f"model.diffusion_model.{_ldm_unet(k)}": v for k, v in weights("unet").items()}
        made |= {f"first_stage_model.{_ldm_vae(k)}": v for k, v in weights("vae").items()}
        made |= {f"{first}.{_with_model(k)}": v for k, v in weights("text_encoder").items()}
        if is_xl:
            made |= _open_clip(weights("text_encoder_2"))
    elif "all_x_embedder.2-1.weight" in weights("transformer"):
        made = {_z_image_key(k): v for k, v in weights("transformer").items()}
    else:
        made = weights("transformer")
    save_file({k: v.contiguous() for k, v in {**made, **more}.items()}, path)
    return path


def _with_model(key: str) -> str:
    return key if key.startswith("text_model.") else f"text_model.{key}"


def _replaced(key: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        key = key.replace(old, new)
    return key


def _ldm_unet(key: str, layers: int = 1) -> str:
    """layers: of each block."""
    import re

    ends = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    name, _, kind = key.rpartition(".")
    if name in ends:
        return f"{ends[name]}.{kind}"
    side, block, part, number, rest = re.fullmatch(
        r"(down|mid|up)_blocks?(?:\.(\d))?\.(\w+)\.(\d)\.(.+)", key
    ).groups()
    block, number = int(block or 0), int(number)
    if part == "resnets":
        rest = _replaced(
            rest,
            *(("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0")),
            *(("time_emb_proj", "emb_layers.1"), ("conv2", "out_layers.3")),
            ("conv_shortcut", "skip_connection"),
        )
    place = 1 if part == "attentions" else 0
    if side == "mid":
        return f"middle_block.{1 if place else 2 * number}.{rest}"
    if part == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    if part == "upsamplers":  # behind the attention of its block
        return f"output_blocks.{(block + 1) * (layers + 1) - 1}.2.{rest}"
    first = 1 + block * (layers + 1) if side == "down" else block * (layers + 1)
    return f"{'input' if side == 'down' else 'output'}_blocks.{first + number}.{place}.{rest}"


def _ldm_vae(key: str, levels: int = 2) -> str:
    import re

    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(
        r"up_blocks\.(\d)\.(resnets|upsamplers\.0)",
        lambda m: f"up.{levels - 1 - int(m[1])}.{'block' if m[2] == 'resnets' else 'upsample'}",
        key,
    )
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    return _replaced(
        key,
        *(("conv_shortcut", "nin_shortcut"), ("mid_block.attentions.0", "mid.attn_1")),
        *((".group_norm.", ".norm."), (".to_q.", ".q."), (".to_k.", ".k."), (".to_v.", ".v.")),
        *((".to_out.0.", ".proj_out."), ("conv_norm_out", "norm_out")),
    )


def _open_clip(weights: dict[str, Any]) -> dict[str, Any]:
    import torch

    prefix, made = "conditioner.embedders.1.model.", {}
    ends = {
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
    }
    for key, value in weights.items():
        if key in ends:
            made[prefix + ends[key]] = value
        elif key == "text_projection.weight":
            made[f"{prefix}text_projection"] = value.T
        elif ".self_attn.q_proj." in key:
            parts = [weights[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            made[_open_clip_key(key.replace("q_proj.", "in_proj_"))] = torch.cat(parts)
        elif "k_proj" not in key and "v_proj" not in key:
            made[_open_clip_key(key)] = value
    return made


def _open_clip_key(key: str) -> str:
    key = _replaced(
        key,
        *(("text_model.encoder.layers.", "resblocks."), ("layer_norm", "ln_")),
        *((".fc1.", ".c_fc."), (".fc2.", ".c_proj."), (".self_attn", ".attn")),
    )
    return f"conditioner.embedders.1.model.transformer.{key}"


def _z_image_key(key: str) -> str:
    key = _replaced(
        key,
        *((".all_final_layer.2-1.", ".final_layer."), ("all_final_layer.2-1.", "final_layer.")),
        *(("all_x_embedder.2-1.", "x_embedder."), (".to_out.0.", ".out.")),
        *((".norm_k.", ".k_norm."), (".norm_q.", ".q_norm.")),
    )
    return f"model.diffusion_model.{key}"


def lora(folder: Path, path: Path, scale: float = 1.0, *, kohya: bool = False) -> Path:
    """A LoRA for the denoiser of a saved pipeline, large enough to be seen.

    kohya: by the names of that trainer, which A1111 and Civitai have, rather than those of peft.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    part = "unet" if (folder / "unet").is_dir() else "transformer"
    (file,) = (folder / part).glob("*.safetensors")
    made = {}
    generator = torch.Generator().manual_seed(0)
    with safe_open(file, framework="pt") as weights:
        for key in weights.keys():  # noqa: SIM118 - not a dict
            if not key.endswith(("to_q.weight", "to_k.weight", "to_v.weight")):
                continue
            outer, inner = weights.get_slice(key).get_shape()
            down, up = torch.randn(4, inner, generator=generator), torch.randn(outer, 4)
            name = key.removesuffix(".weight")
            if kohya:
                name = f"lora_{part}_{name.replace('.', '_')}"
                made |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": scale * up}
                made[f"{name}.alpha"] = torch.tensor(4.0)
            else:
                name = f"{part}.{name}"
                made |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": scale * up}
    save_file(made, path)
    return path
