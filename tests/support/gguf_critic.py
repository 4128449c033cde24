"""The embedded critic behind llama.cpp's server.

`python gguf_critic.py CHECKPOINT FOLDER MODEL PORT`, in an environment with xllamacpp and gguf,
writes the checkpoint to the folder as critic.gguf and mmproj.gguf and serves it. Names of tensors
and keys are those of llama.cpp's own conversion of LLaVA. The critic's words are one token each,
which llama.cpp has no tokenizer for; Unigram with equal scores cuts text just so, given that the
chat template writes small letters and that what never stands apart is a token without its space.
"""

import json
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import xllamacpp
from safetensors.numpy import load_file

SPACE = "\u2581"
SMALL = "lower | replace('\\n', ' ')"
CHAT = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}<critic>{{ message.content }}</s>"
    "{% else %}<user>{% if message.content is string %}{{ message.content | " + SMALL + " }}"
    "{% else %}{% for part in message.content %}{{ part.text | " + SMALL + " }}{% endfor %}"
    "{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}<critic>{% endif %}"
)
LANGUAGE = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
VISION = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


def convert(source, target):
    """Write critic.gguf and mmproj.gguf."""
    config = json.loads((source / "config.json").read_text())
    weights = {
        name.replace("vision_model.", "").removeprefix("language_model.model."): value.astype("f4")
        for name, value in load_file(source / "model.safetensors").items()
    }
    language(target / "critic.gguf", config["text_config"], weights, source)
    vision(target / "mmproj.gguf", config, weights)


def language(path, config, weights, source):
    out = gguf.GGUFWriter(path, "llama")
    heads = config["num_attention_heads"]
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    out.add_rope_dimension_count(config["head_dim"])
    out.add_vocab_size(config["vocab_size"])
    words(out, json.loads((source / "tokenizer.json").read_text()))
    add(out, weights, "embed_tokens", "token_embd")
    add(out, weights, "norm", "output_norm")
    for i in range(config["num_hidden_layers"]):
        for ours, theirs in LANGUAGE.items():
            turned = heads if theirs in ("attn_q", "attn_k") else 0
            add(out, weights, f"layers.{i}.{ours}", f"blk.{i}.{theirs}", turned)
    write(out)


def words(out, tokenizer):
    """The vocabulary, and how text is cut into it."""
    kinds = gguf.TokenType
    special = {"<unk>": kinds.UNKNOWN, "</s>": kinds.CONTROL, "<pad>": kinds.CONTROL}
    by_id = {i: apart(word) for word, i in tokenizer["model"]["vocab"].items()}
    for token in tokenizer["added_tokens"]:
        text = token["content"]
        by_id[token["id"]] = text, special.get(text, kinds.USER_DEFINED)
    tokens, types = zip(*(by_id[i] for i in range(len(by_id))), strict=True)
    out.add_tokenizer_model("t5")  # Unigram
    out.add_tokenizer_pre("default")
    out.add_token_list(tokens)
    out.add_token_scores([-1.0] * len(tokens))
    out.add_token_types(types)
    out.add_eos_token_id(tokens.index("</s>"))
    out.add_pad_token_id(tokens.index("<pad>"))
    out.add_unk_token_id(tokens.index("<unk>"))
    out.add_add_bos_token(False)
    out.add_add_eos_token(False)
    out.add_add_space_prefix(True)
    out.add_remove_extra_whitespaces(True)
    out.add_chat_template(CHAT)


def apart(word):
    """A word of the vocabulary and its kind: marks and numbers are found wherever they stand."""
    bare = word.removeprefix(SPACE)
    if bare in tuple(",.:;?"):
        return bare, gguf.TokenType.USER_DEFINED
    if "." in bare or bare in ("|", "-"):
        return f" {bare}", gguf.TokenType.USER_DEFINED
    return word, gguf.TokenType.NORMAL


def vision(path, config, weights):
    eyes = config["vision_config"]
    out = gguf.GGUFWriter(path, "clip")
    out.add_type(gguf.GGUFType.MMPROJ)
    out.add_clip_has_vision_encoder(True)
    out.add_bool("clip.has_llava_projector", True)
    out.add_clip_projector_type("mlp")
    out.add_vision_image_size(eyes["image_size"])
    out.add_vision_patch_size(eyes["patch_size"])
    out.add_vision_embedding_length(eyes["hidden_size"])
    out.add_vision_feed_forward_length(eyes["intermediate_size"])
    out.add_vision_block_count(eyes["num_hidden_layers"])
    out.add_vision_head_count(eyes["num_attention_heads"])
    out.add_vision_attention_layernorm_eps(eyes["layer_norm_eps"])
    out.add_vision_projection_dim(config["text_config"]["hidden_size"])
    out.add_vision_use_gelu(True)
    out.add_vision_image_mean([0.5] * 3)
    out.add_vision_image_std([0.5] * 3)
    # All layers and no norm after them, as transformers takes a `vision_feature_layer` of -1.
    out.add_array("clip.vision.feature_layer", [eyes["num_hidden_layers"]])
    tower = "vision_tower."
    add(out, weights, f"{tower}embeddings.patch_embedding", "v.patch_embd")
    add(out, weights, f"{tower}embeddings.position_embedding", "v.position_embd")
    for i in range(eyes["num_hidden_layers"]):
        for ours, theirs in VISION.items():
            add(out, weights, f"{tower}encoder.layers.{i}.{ours}", f"v.blk.{i}.{theirs}")
    add(out, weights, "multi_modal_projector.linear_1", "mm.0")
    add(out, weights, "multi_modal_projector.linear_2", "mm.2")
    write(out)


def add(out, weights, ours, theirs, turned=0):
    """A layer's tensors. turned: heads whose rotary halves llama.cpp wants side by side."""
    for kind in ("weight", "bias"):
        tensor = weights.get(f"{ours}.{kind}")
        if tensor is not None and turned:
            rows, width = tensor.shape
            halves = tensor.reshape(turned, 2, rows // turned // 2, width)
            tensor = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, width)
        if tensor is not None:
            out.add_tensor(f"{theirs}.{kind}", tensor)


def write(out):
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def serve(folder, model, port):
    asked = xllamacpp.CommonParams()
    asked.model.path, asked.mmproj.path = f"{folder}/critic.gguf", f"{folder}/mmproj.gguf"
    asked.model_alias = {model}
    asked.mmproj_use_gpu = asked.warmup = False
    asked.hostnames, asked.port = ["127.0.0.1"], port
    asked.n_parallel, asked.n_ctx = 4, 4 * 512
    asked.use_jinja = True
    server = xllamacpp.Server(asked)  # runs as long as it is referred to
    sys.stdout.write(f"{server.listening_address}\n")
    while True:
        time.sleep(60)


if __name__ == "__main__":
    checkpoint, folder, model, port = sys.argv[1:]
    convert(Path(checkpoint), Path(folder))
    serve(folder, model, int(port))
