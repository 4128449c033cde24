"""Models as creators have them: checkpoints of one file, LoRAs, VAEs, samplers, prompt syntax."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file

from gcr.core.records import Candidate
from gcr.device.memory import SharedDevice
from gcr.drawing import adapters, generator
from gcr.drawing.generator import Files, Sampling
from gcr.errors import GcrError, ModelError, UsageError
from gcr.hub import weightfiles
from gcr.settings import samplers

SAMPLING = Sampling(width=64, height=64, steps=2)
CAT = Candidate("a cat", 1)


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    """Tiny pipelines whose CLIPs are read as real ones are: with tokens at both ends."""

    def build(family):
        copied = tmp_path_factory.mktemp(family) / "model"
        shutil.copytree(checkpoint(family), copied)
        for place in copied.glob("tokenizer*"):
            if family in ("stable_diffusion", "sdxl"):
                shutil.rmtree(place)
                tiny.clip_tokenizer().save_pretrained(place)
        return copied

    made = {}

    def get(family):
        made[family] = made.get(family) or build(family)
        return made[family]

    return get


def loaded(model, sampling=SAMPLING, **files):
    return generator.load(str(model), sampling, SharedDevice("cpu"), files=Files(**files))


def pixels(drawer, *candidates):
    return [np.asarray(drawn.image).astype(int) for drawn in drawer.draw(candidates)]


def same(first, second, by=0):
    """by: how far apart a colour may be."""
    return all(np.abs(a - b).max() <= by for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("family", ["stable_diffusion", "sdxl", "z_image", "flux"])
def test_one_file_draws_what_its_folder_does(family, folder, tmp_path):
    place = folder(family)
    path = tiny.single_file(place, tmp_path / "model.safetensors")
    config = shutil.copytree(place, tmp_path / "config")
    held = {"unet", "vae", "text_encoder", "text_encoder_2"} if "s" in family[:2] else set()
    for part in held or {"transformer"}:
        for weights in (config / part).glob("*.safetensors"):
            weights.unlink()  # so that they come from the file
    call = {"call": {"max_sequence_length": 64}} if not held else {}
    sampling = replace(SAMPLING, **call)
    single = weightfiles.single_file(str(path), str(config))
    drawn = pixels(loaded(path, sampling, checkpoint=single), CAT)
    assert same(drawn, pixels(loaded(place, sampling), CAT))


@pytest.mark.usefixtures("quantizer_on_a_cpu")
def test_a_lora_goes_with_4_bits_and_one_file_does_not(folder, tmp_path):
    place = folder("z_image_wide")
    fur = weightfiles.lora_file(tiny.lora(place, tmp_path / "fur.safetensors"), "fur", 1.0)
    sampling = replace(SAMPLING, quantize="nf4", call={"max_sequence_length": 64})
    drawer = loaded(place, sampling, named=(fur,))
    plain = pixels(drawer, CAT)
    assert not same(pixels(drawer, replace(CAT, prompt="a cat <lora:fur:1>")), plain)
    assert same(pixels(drawer, CAT), plain)
    path = tiny.single_file(place, tmp_path / "model.safetensors")
    single = weightfiles.single_file(str(path), str(place))
    with pytest.raises(UsageError, match="nf4 does not go with a checkpoint in one file"):
        generator.check(str(path), sampling=sampling, files=Files(single))


def test_a_checkpoint_that_predicts_velocity_says_so(folder, tmp_path):
    place = folder("stable_diffusion")
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    path = tiny.single_file(place, tmp_path / "model.safetensors", **marks)
    single = weightfiles.single_file(str(path), str(place))
    config = loaded(path, checkpoint=single)._pipeline.scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)


WHOLE = "model.diffusion_model."
UNET = f"{WHOLE}input_blocks"
JOINT = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
SIGNS = {
    "Stable Diffusion 1.5": {f"{UNET}.1.1.transformer_blocks.0.attn2.to_k.weight": (1, 768)},
    "Stable Diffusion 2.1": {f"{UNET}.2.1.transformer_blocks.0.attn2.to_k.weight": (1, 1024)},
    "SDXL": {"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (1,)},
    "Stable Diffusion 3": {JOINT: (9216,), "pos_embed": (1, 36864)},
    "FLUX.1 schnell": {"double_blocks.0.img_attn.norm.key_norm.scale": (1,)},
    "Z-Image": {"model.diffusion_model.layers.0.adaLN_modulation.0.weight": (1,)},
    "Qwen-Image-2.1": {"txt_in.text_norm.weight": (1,)},
    "Krea 2": {"txtfusion.projector.weight": (1,)},
    "FLUX.2 dev": {"single_stream_modulation.lin.weight": (1, 6144)},
    "FLUX.2 klein 4B": {"single_stream_modulation.lin.weight": (1, 3072)},
    "FLUX.2 klein 9B": {f"{WHOLE}single_stream_modulation.lin.weight": (1, 4096)},
    "Qwen-Image": {"transformer_blocks.0.img_mod.1.weight": (1, 1), "txt_norm.weight": (1,)},
    "SDXL ": {f"{UNET}.4.1.transformer_blocks.0.attn2.to_k.weight": (1, 2048)},  # its UNet alone
    "Sana": {
        "blocks.0.cross_attn.q_linear.weight": (1, 1),
        "blocks.0.mlp.inverted_conv.conv.weight": (1,),
    },
}


@pytest.mark.parametrize(("family", "shapes"), SIGNS.items(), ids=SIGNS)
def test_the_family_is_told_from_the_header(family, shapes, tmp_path):
    weights = {key: torch.zeros(shape, dtype=torch.uint8) for key, shape in shapes.items()}
    save_file(weights, tmp_path / "x.safetensors")
    single = weightfiles.single_file(str(tmp_path / "x.safetensors"))
    assert single.family == family.strip()
    assert single.config.count("/") == 1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"some.weight": (1,)}, "are of no family that is known here"),
        ({"control_model.time_embed.0.weight": (1,)}, "for controlnet, which does not draw"),
        (
            {"head.modulation": (1,), "patch_embedding.weight": (1536, 16)},
            "for wan-t2v-1.3B",
        ),
        ({"layers.0.scaled_fp8": (1,)}, "is quantized in a way that diffusers does not read"),
        ({"layers.0.comfy_quant": (1,)}, "is quantized in a way that diffusers does not read"),
        ({f"{UNET}.0.0.weight": (1, 9, 1, 1)}, "for inpainting, which does not draw"),
        ({"double_stream_blocks.0.block.adaLN_modulation.1.bias": (1,)}, "for hidream, of which"),
        # PixArt's, which diffusers takes for Sana; shapes that it does not expect.
        ({"blocks.0.cross_attn.q_linear.weight": (1, 1)}, "are of no family that is known here"),
        ({JOINT: (9216,), "pos_embed": (1, 99)}, "are of no family that is known here"),
        (
            {
                "control_layers.14.adaLN_modulation.0.weight": (1,),
                "control_noise_refiner.0.before_proj.weight": (1,),
            },
            "are of no family that is known here",
        ),
        ({"lora_unet_mid_block_x_to_q.lora_down.weight": (1,)}, "is a LoRA, and no checkpoint"),
        ({"lora_unet_mid_block_x_to_q.hada_w1_a": (1,)}, "is a LoRA, and no checkpoint"),
        ({"first_stage_model.decoder.conv_in.weight": (1,)}, "is a VAE, and no checkpoint"),
        ({"text_model.embeddings.position_embedding.weight": (1,)}, "is a text encoder, and no"),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": (1,)}, "is a text encoder, and no"),
        ({"emb_params": (1, 768)}, "is an embedding, and no checkpoint"),
    ],
)
def test_what_does_not_draw_is_refused_by_its_header(weights, message, tmp_path):
    save_file(
        {key: torch.zeros(shape) for key, shape in weights.items()}, tmp_path / "x.safetensors"
    )
    with pytest.raises(GcrError, match=message):
        weightfiles.single_file(str(tmp_path / "x.safetensors"))


def test_a_part_of_a_pipeline_is_told_from_a_checkpoint(folder):
    (path,) = (folder("stable_diffusion") / "unet").glob("*.safetensors")
    with pytest.raises(UsageError, match="is one part of a pipeline") as error:
        weightfiles.single_file(str(path))
    assert error.value.hint == f"give its folder: -m {folder('stable_diffusion')}"


@pytest.mark.parametrize("ending", [".ckpt", ".pt", ".bin", ".pth", ".gguf"])
def test_what_is_not_safetensors_is_refused_by_name(ending, tmp_path):
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(UsageError, match=r"is pickled|is in a format that is not read") as error:
        weightfiles.single_file(str(path))
    assert ("nf4" if ending == ".gguf" else "write .safetensors") in error.value.hint
    with pytest.raises(UsageError, match="cannot be a LoRA"):
        weightfiles.lora_file(path, "model", 1.0)
    shutil.copy(path, tmp_path / f"fur{ending}")
    with pytest.raises(UsageError, match="cannot be a LoRA"):
        weightfiles.find_lora("fur", 1.0, str(tmp_path))


def test_a_damaged_file_is_no_traceback(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is damaged"):
        weightfiles.single_file(str(path))


# LoRAs


@pytest.mark.parametrize(
    ("family", "kohya"), [("stable_diffusion", True), ("sdxl", False), ("z_image", False)]
)
def test_a_lora_is_drawn_with_where_the_prompt_names_it(family, kohya, folder, tmp_path):
    place = folder(family)
    fur = weightfiles.lora_file(
        tiny.lora(place, tmp_path / "fur.safetensors", kohya=kohya), "fur", 1.0
    )
    call = {"max_sequence_length": 64} if family == "z_image" else {}
    sampling = replace(SAMPLING, call=call)
    plain = pixels(loaded(place, sampling), CAT)
    drawer = loaded(place, sampling, named=(fur,))
    tagged = replace(CAT, prompt="a cat <lora:fur:1>")
    with_it = pixels(drawer, tagged)
    assert not same(plain, with_it)
    assert same(plain, pixels(drawer, replace(CAT, prompt="a cat <lora:fur:0>")))
    # Switched for each image, also in one call, and off again.
    assert same(pixels(drawer, CAT, tagged, CAT), [*plain, *with_it, *plain])
    always = loaded(place, sampling, always=(fur,))
    assert same(pixels(always, CAT), with_it)


def test_a_lora_for_another_family_is_refused_before_anything_is_loaded(folder, tmp_path):
    path = tiny.lora(folder("sdxl"), tmp_path / "xl.safetensors", kohya=True)
    lora = weightfiles.lora_file(path, "xl", 1.0)
    for family, reason in (
        ("stable_diffusion", r"not fit .*attn2.to_k reads 40 values, and the generator's 16"),
        ("flux", "cannot read the LoRA xl.safetensors for a FluxPipeline: Incompatible keys"),
    ):
        with pytest.raises(ModelError, match=reason):
            generator.check(str(folder(family)), files=Files(always=(lora,)))
    with pytest.raises(UsageError, match="takes no LoRA"):
        generator.check(str(folder("pixart")), files=Files(always=(lora,)))


def adapter(kind, *layers):
    """Weights of adapters as their makers name them. layers: name, values in, values out."""
    made = {}
    for name, inner, outer in layers:
        down, up = torch.ones(2, inner), torch.ones(outer, 2)
        made |= {
            "kohya": {
                f"{name}.lora_down.weight": down,
                f"{name}.lora_up.weight": up,
                f"{name}.alpha": torch.tensor(2.0),
            },
            "peft": {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up},
            "xlabs": {f"{name}.down.weight": down, f"{name}.up.weight": up},
            "dora": {f"{name}.lora_down.weight": down, f"{name}.dora_scale": torch.ones(outer, 1)},
            "loha": {f"{name}.hada_w1_a": up, f"{name}.hada_w1_b": down},
            "lokr": {
                f"{name}.lokr_w1": torch.ones(2, 2),
                f"{name}.lokr_w2": torch.ones(outer // 2, inner // 2),
                f"{name}.alpha": torch.tensor(2.0),
            },
        }[kind]
    return made


def width(folder, key):
    from safetensors import safe_open

    (file,) = (folder / "transformer").glob("*.safetensors")
    with safe_open(file, framework="pt") as weights:
        return weights.get_slice(key).get_shape()[1]


@pytest.mark.parametrize(
    ("family", "kind", "name", "fused", "refused"),
    [
        ("flux", "kohya", "lora_unet_double_blocks_0_img_attn_qkv", 3, ""),
        ("flux", "xlabs", "double_blocks.0.processor.qkv_lora1", 3, ""),
        ("flux", "peft", "transformer.transformer_blocks.0.attn.to_q", 1, ""),
        ("flux", "kohya", "lora_transformer_transformer_blocks_0_attn_to_q", 1, ""),
        ("flux", "peft", "diffusion_model.double_blocks.0.img_attn.qkv", 3, "finds none of"),
        (
            "flux",
            "peft",
            "transformer.transformer_blocks.7.attn.to_q",
            1,
            "finds 0 of the 1 layers",
        ),
        ("flux", "lokr", "lora_unet_double_blocks_0_img_attn_qkv", 3, "finds none of"),
        ("flux", "dora", "lora_unet_double_blocks_0_img_attn_qkv", 3, "is a DoRA"),
        ("flux", "loha", "lora_unet_double_blocks_0_img_attn_qkv", 3, "is a LoHa"),
        ("z_image", "peft", "diffusion_model.layers.0.attention.to_q", 1, ""),
        ("z_image", "kohya", "lora_unet_layers_0_attention_to_q", 1, ""),
        ("z_image", "lokr", "diffusion_model.layers.0.attention.to_q", 1, ""),
        ("z_image", "peft", "diffusion_model.transformer_blocks.0.attn.to_q", 1, "finds 0 of"),
    ],
)
def test_which_layouts_of_loras_fit_is_told_before_anything_is_loaded(
    family, kind, name, fused, refused, folder, tmp_path
):
    place = folder(family)
    layer = "transformer_blocks.0.attn.to_q" if family == "flux" else "layers.0.attention.to_q"
    inner = width(place, f"{layer}.weight")
    about = {"modelspec.architecture": "some/lora"}
    path = tmp_path / "x.safetensors"
    save_file(adapter(kind, (name, inner, fused * inner)), path, about)

    def check():
        lora = weightfiles.lora_file(path, "x", 1.0)
        generator.check(str(place), files=Files(always=(lora,)))
        return lora

    if not refused:
        call = {"max_sequence_length": 64}
        assert loaded(place, replace(SAMPLING, call=call), always=(check(),))
        return
    with pytest.raises(ModelError, match=refused) as error:
        check()
    assert error.value.hint in ("it was made for some/lora", "take a LoRA")


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        ("attentions.0.transformer_blocks.0.attn1.to_q", (4,), "reads 0 values, and the gen"),
        ("attentions.0.transformer_blocks.0.attn1.to_q", (), "reads 0 values, and the gen"),
        ("resnets.0.norm1", (2, 16), "finds 0 of the 1 layers"),
    ],
)
def test_a_lora_of_odd_shapes_is_refused_with_a_line(layer, shape, reason, folder, tmp_path):
    path = tmp_path / "x.safetensors"
    name = f"unet.mid_block.{layer}"
    down, up = torch.ones(shape), torch.ones(16, 2)
    save_file({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, path)
    lora = weightfiles.lora_file(path, "x", 1.0)
    with pytest.raises(ModelError, match=f"does not fit this generator: .*{reason}"):
        generator.check(str(folder("stable_diffusion")), files=Files(always=(lora,)))


def test_loras_need_an_extra(folder, tmp_path, monkeypatch):
    place = folder("stable_diffusion")
    lora = weightfiles.lora_file(tiny.lora(place, tmp_path / "fur.safetensors"), "fur", 1.0)
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="LoRAs need peft") as error:
        generator.check(str(place), files=Files(named=(lora,)))
    assert error.value.hint == "pip install 'gcr[lora]'"


def test_the_nearest_lora_is_named(folder, tmp_path):
    (tmp_path / "style").mkdir()
    tiny.lora(folder("stable_diffusion"), tmp_path / "style" / "Fur_v2.safetensors")
    assert weightfiles.find_lora("fur_v2", 1.0, str(tmp_path)).path.name == "Fur_v2.safetensors"
    assert weightfiles.find_lora("style/Fur_v2", 1.0, str(tmp_path))
    there = weightfiles.find_lora("of/another/Fur_v2", 1.0, str(tmp_path), elsewhere=True)
    assert there.path.name == "Fur_v2.safetensors"
    with pytest.raises(UsageError, match="no LoRA 'of/another/Fur_v2'"):
        weightfiles.find_lora("of/another/Fur_v2", 1.0, str(tmp_path))
    with pytest.raises(UsageError, match="no LoRA 'furv2'") as error:
        weightfiles.find_lora("furv2", 0.8, str(tmp_path))
    assert error.value.hint == "did you mean <lora:Fur_v2:0.8>?"
    with pytest.raises(UsageError, match="nothing says where it is"):
        weightfiles.find_lora("fur", 0.8, "")
    with pytest.raises(UsageError, match="is no LoRA"):
        weightfiles.lora_file(
            next((folder("stable_diffusion") / "vae").glob("*.safetensors")), "vae", 1.0
        )


# VAEs


def test_a_folder_that_is_no_vae_is_named(checkpoint, tmp_path):
    with pytest.raises(UsageError, match=f"the folder {tmp_path} is no VAE"):
        generator.check(checkpoint("stable_diffusion"), files=Files(vae=str(tmp_path)))


def test_another_vae_decodes(folder, checkpoint, tmp_path):
    from diffusers import AutoencoderKL

    place = folder("stable_diffusion")
    other = AutoencoderKL.from_pretrained(place / "vae")
    with torch.no_grad():
        for weight in other.decoder.parameters():
            weight.add_(0.1)
    other.save_pretrained(tmp_path / "vae")
    weights = {tiny._ldm_vae(key): value for key, value in other.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "vae.safetensors")
    by_folder = pixels(loaded(place, vae=str(tmp_path / "vae")), CAT)
    assert not same(by_folder, pixels(loaded(place), CAT))
    assert same(pixels(loaded(place, vae=str(tmp_path / "vae.safetensors")), CAT), by_folder)
    with pytest.raises(UsageError, match=r"does not fit .*: its class_name is AutoencoderKL, "):
        generator.check(checkpoint("sana"), files=Files(vae=str(tmp_path / "vae")))


# Samplers


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("DPM++ 2M Karras", "dpm++ 2m karras"),
        ("dpmpp_2m karras", "dpm++ 2m karras"),
        ("dpmpp_2m_k", "dpm++ 2m karras"),
        ("dpmpp_2m_sde_gpu exponential", "dpm++ 2m sde exponential"),
        ("DPM++ 2M Automatic", "dpm++ 2m karras"),
        ("Euler a", "euler a"),
        ("euler_ancestral normal", "euler a"),
        ("EulerAncestralDiscreteScheduler", "euler a"),
        ("uni_pc", "unipc"),
        ("PLMS", "plms"),
        ("k_dpmpp_2m karras", "dpm++ 2m karras"),
        ("sample_dpmpp_2m normal", "dpm++ 2m"),
        ("Euler Ancestral Karras", "euler a karras"),
        ("Euler A Trailing", "euler a sgm uniform"),
        ("LCM SGM Uniform", "lcm sgm uniform"),
        ("dpmpp_2m_sde_gpu sgm_uniform", "dpm++ 2m sde sgm uniform"),
        ("DDIM ddim_uniform", "ddim"),
        ("euler simple", "euler"),
        ("DPM++ 2M SDE betas", "dpm++ 2m sde beta"),
    ],
)
def test_samplers_by_all_their_names(name, sampler):
    assert samplers.parse(name).name == sampler


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("res_multistep", "diffusers has no sampler 'res_multistep'"),
        ("DPM++ SDE Karras", "diffusers has no sampler 'DPM[+][+] SDE Karras' that draws each im"),
        ("dpmpp_2s_ancestral", "diffusers has no sampler"),
        ("euler_cfg_pp", "diffusers has no sampler"),
        ("DPM++ 2M Align Your Steps", "diffusers has no noise schedule 'align your steps'"),
        ("euler kl_optimal", "diffusers has no noise schedule 'kl optimal'"),
    ],
)
def test_samplers_that_diffusers_does_not_have_are_none_of_its_own(name, says):
    assert samplers.find(name) is None
    with pytest.raises(UsageError, match=says):
        samplers.parse(name)


def test_an_unknown_sampler_is_told_the_nearest():
    with pytest.raises(UsageError, match="no scheduler 'eular'") as error:
        samplers.parse("eular")
    assert error.value.hint.startswith("did you mean 'euler'? known: euler, euler a, ")


def test_samplers_draw_and_are_named(folder):
    place, images = folder("stable_diffusion"), []
    for name, label in (
        ("euler a", "Euler a"),
        ("dpm++ 2m karras", "DPM++ 2M Karras"),
        ("dpm++ 3m sde", "DPM++ 3M SDE"),
        ("unipc beta", "UniPC Beta"),
        ("euler sgm uniform", "Euler SGM Uniform"),
    ):
        drawer = loaded(place, replace(SAMPLING, scheduler=name, steps=5))
        both = drawer.draw([CAT, replace(CAT, seed=2)])
        assert {drawn.sampler for drawn in both} == {label}
        (alone,) = drawer.draw([replace(CAT, seed=2)])
        # From its seed, whatever its batch.
        assert np.abs(np.asarray(both[1].image).astype(int) - np.asarray(alone.image)).max() <= 1
        images.append(np.asarray(alone.image).tobytes())
    assert len(set(images)) == len(images)


def test_a_sampler_that_does_not_fit_is_told_those_that_do(folder, checkpoint):
    for family, fitting in (
        (
            "flux",
            "those that do: euler, euler karras, euler exponential, euler beta, euler sgm uniform",
        ),
        ("sana", "those that do: dpm++ 2m, dpm++ 2m sde, dpm++ 3m sde, deis, unipc"),
    ):
        with pytest.raises(UsageError, match="the scheduler ddim does not fit") as error:
            generator.check(checkpoint(family), sampling=replace(SAMPLING, scheduler="ddim"))
        assert error.value.hint == fitting


# Prompts


def test_weights_and_long_prompts_where_clip_reads(folder):
    for family in ("stable_diffusion", "sdxl"):
        drawer = loaded(folder(family))
        long, heavy = f"a cat {'and a dog, ' * 12}", "a (cat:1.6) on a [mat]"
        candidates = [replace(CAT, prompt=prompt) for prompt in ("a cat", heavy, long, f"{long}x")]
        together = pixels(drawer, *candidates)
        alone = [pixels(drawer, candidate)[0] for candidate in candidates]
        assert same(together, alone, by=1)
        assert len({image.tobytes() for image in together}) == len(together)
        assert (drawer.limit, drawer.excess(long)) == (None, "")
        plain = loaded(folder(family), replace(SAMPLING, prompt_syntax="plain"))
        assert same(pixels(plain, CAT), pixels(drawer, CAT))
        assert pixels(plain, replace(CAT, prompt="a cat <lora:fur:1>"))  # which are words then
        assert plain.excess(long)
        # A weight of 1 is none; read by chunks it comes to what the pipeline reads.
        (ours,) = pixels(drawer, replace(CAT, prompt="a (cat:1)"))
        assert np.abs(ours - pixels(plain, CAT)[0]).max() <= 1


def test_clip_skip_reads_an_earlier_layer(folder):
    with pytest.raises(UsageError, match="has no --clip-skip"):
        loaded(folder("flux"), replace(SAMPLING, clip_skip=2))
    place = folder("sdxl")  # whose own layer is the last but one, and here the first
    usual = pixels(loaded(place), CAT)
    assert same(pixels(loaded(place, replace(SAMPLING, clip_skip=2)), CAT), usual)
    assert not same(pixels(loaded(place, replace(SAMPLING, clip_skip=1)), CAT), usual)


def test_weights_that_a_family_ignores_are_warned_of_once(folder, caplog):
    drawer = loaded(folder("flux"), replace(SAMPLING, call={"max_sequence_length": 64}))
    plain = pixels(drawer, CAT)
    assert not caplog.records
    for _ in range(2):
        assert same(pixels(drawer, replace(CAT, prompt="a (cat:1.3)")), plain)
    (warning,) = caplog.messages
    assert "FluxPipeline heeds no weights: (word:1.3) is drawn as word" in warning
    assert same(pixels(drawer, replace(CAT, prompt="a BREAK cat")), plain)


def test_a_break_begins_a_chunk_where_clip_reads(folder, caplog):
    drawer = loaded(folder("stable_diffusion"))
    reader, pipeline = drawer._reader, drawer._pipeline
    assert reader.chunks(pipeline, "a cat BREAK a dog") == 2
    assert reader.chunks(pipeline, "a cat and a dog") == 0
    (broken,) = pixels(drawer, replace(CAT, prompt="a cat BREAK a dog"))
    assert not same([broken], pixels(drawer, replace(CAT, prompt="a cat a dog")))
    assert not caplog.records
    pixels(drawer, replace(CAT, prompt="a [cat|dog]"))
    assert "[this|that] and AND are read as words" in caplog.text


# Hashes


def test_hashes_are_those_of_a1111_and_made_once(tmp_path, monkeypatch):
    import hashlib

    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.arange(8)}, path)
    content = path.read_bytes()
    weightfiles.hash_ahead({"x": path})
    made = weightfiles.hashes(path)
    assert made.whole == hashlib.sha256(content).hexdigest()
    body = content[8 + int.from_bytes(content[:8], "little") :]
    assert made.weights == hashlib.sha256(body).hexdigest()
    store = tmp_path / "cache" / "hashes.json"
    kept = json.loads(store.read_text())
    kept[str(path)][2] = "0" * 64
    store.write_text(json.dumps(kept))
    assert weightfiles.hashes(path).whole == "0" * 64  # it was not read again
    save_file({"a": torch.arange(9)}, path)
    assert weightfiles.hashes(path).whole != "0" * 64
