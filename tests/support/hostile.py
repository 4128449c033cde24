"""Checkpoints that attack whoever loads them, and the tool run on each in a process of its own.

`python tests/hostile.py FOLDER [CASE]...` makes a tiny pipeline and a tiny critic in FOLDER, of
each case a copy that is spoilt in one way, and runs `gcr refine` on it: with a stdin that stays
open and silent, with no way out to a network, with a bound on memory and on time. It prints one
line of JSON for each case. Whatever runs code of a checkpoint, or unpickles anything, leaves a
file: the canary.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 60  # of the processor, for one case
WAITING_MOST = 600  # seconds by the clock, in which a pipe or a lock would be waited for
ROOM = 3 * 1024**3  # bytes of memory beyond what the process has when a case begins

CANARY = "canary"
CODE = "open({canary!r}, 'w').close()\nclass Theirs:\n    pass\n"

Spoil = Callable[[Path], None]
CASES: dict[str, tuple[str, Spoil]] = {}
"""By name: which model is spoilt, `pipeline` or `critic`, and how."""

FILES = {
    "critic": (
        *("config.json", "generation_config.json", "processor_config.json"),
        *("tokenizer_config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"),
    ),
    "pipeline": (
        *("model_index.json", "transformer/config.json", "vae/config.json"),
        *("text_encoder/config.json", "scheduler/scheduler_config.json"),
        *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
        *("vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"),
    ),
}


# What can be done to any file.


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_cyclic_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def a_link_outside(path: Path) -> None:
    outside = Path(os.environ["HOSTILE_OUTSIDE"]) / path.name
    shutil.copy(path, outside)
    path.unlink()
    path.symlink_to(outside)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def oversized(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 36)  # a hole: it takes no room on the disk


def noise(path: Path) -> None:
    path.write_bytes(random.Random(path.name).randbytes(4096))


def a_list(path: Path) -> None:
    path.write_text("[1, 2]")


def a_number(path: Path) -> None:
    path.write_text("1e999")


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def nested(path: Path) -> None:
    path.write_text('{"a":' * 900 + "1" + "}" * 900)


def mistyped(path: Path) -> None:
    """Every value of another type."""
    config = json.loads(path.read_text())
    swapped = {
        key: [value] if isinstance(value, str) else str(value) for key, value in config.items()
    }
    path.write_text(json.dumps(swapped))


def nulls(path: Path) -> None:
    config = json.loads(path.read_text())
    path.write_text(json.dumps(dict.fromkeys(config)))


ANY = (truncated, emptied, missing, a_folder, a_fifo, a_cyclic_link, a_link_outside, endless, noise)
ANY_TEXT = (oversized, a_list, a_number, deep, nested)
ANY_OBJECT = (mistyped, nulls)


def _spoilt(how: Spoil, name: str) -> Spoil:
    return lambda folder: how(folder / name)


def _add_files() -> None:
    for model, names in FILES.items():
        for name in names:
            ways = [*ANY]
            if name.endswith(".json"):
                ways += ANY_TEXT
                ways += () if name.endswith("tokenizer.json") else ANY_OBJECT
            for how in ways:
                CASES[f"{model}: {name} {how.__name__}"] = (model, _spoilt(how, name))


# What is done to one.


def case(model: str, name: str = "") -> Callable[[Spoil], Spoil]:
    def added(spoil: Spoil) -> Spoil:
        CASES[f"{model}: {name or spoil.__name__}"] = (model, spoil)
        return spoil

    return added


def edit(path: Path, **values: Any) -> None:
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(config | values))


def edit_in(path: Path, outer: str, **values: Any) -> None:
    config = json.loads(path.read_text())
    config[outer] = config.get(outer, {}) | values
    path.write_text(json.dumps(config))


def code(path: Path) -> None:
    path.write_text(CODE.format(canary=os.environ["HOSTILE_CANARY"]))


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return open, (os.environ["HOSTILE_CANARY"], "w")


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def with_header(path: Path, header: bytes, length: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)


def tensors(path: Path, change: Callable[[str, Any], Any]) -> None:
    from safetensors.torch import load_file, save_file

    changed = {name: change(name, tensor) for name, tensor in load_file(path).items()}
    kept = {name: tensor for name, tensor in changed.items() if tensor is not None}
    save_file(kept, path, metadata={"format": "pt"})


def _add_code() -> None:
    """Every file that may name code, with a type that is known and with one that is not."""
    classes = {
        "config.json": ("AutoConfig", "AutoModelForImageTextToText", "AutoModel"),
        "processor_config.json": ("AutoProcessor",),
        "tokenizer_config.json": ("AutoTokenizer", "AutoProcessor"),
        "preprocessor_config.json": ("AutoImageProcessor", "AutoProcessor"),
        "video_preprocessor_config.json": ("AutoVideoProcessor",),
    }
    for file, names in classes.items():
        for kind in ("known", "unknown"):
            for where in ("theirs.Theirs", "evil/repository--theirs.Theirs"):

                def spoil(
                    folder: Path,
                    file: str = file,
                    names: tuple[str, ...] = names,
                    kind: str = kind,
                    where: str = where,
                ) -> None:
                    edit(folder / file, auto_map=dict.fromkeys(names, where))
                    if kind == "unknown":
                        edit(folder / "config.json", model_type="theirs")
                    if file == "processor_config.json":
                        edit(folder / file, processor_class=None)
                    code(folder / "theirs.py")

                CASES[f"critic: auto_map in {file}, {kind} type, {where}"] = ("critic", spoil)


def _add_indices() -> None:
    places = {"critic": ("", "model"), "pipeline": ("transformer", "diffusion_pytorch_model")}
    names = {
        "bin": "weights.bin",
        "outside": "../outside.bin",
        "outside safe": "../outside.safetensors",
        "absolute": "{outside}/weights.bin",
        "url": "https://evil.example/weights.safetensors",
        "nested": "sub/weights.safetensors",
        "hidden": ".weights.safetensors",
        "control": "\x1b[31mweights\x07.bin",
        "backslash": "..\\weights.safetensors",
        "number": 3,
        "absent": "model-00001-of-00001.safetensors",
        "device": "/dev/zero",
    }
    for model, (part, stem) in places.items():
        for label, named in names.items():

            def spoil(
                folder: Path, part: str = part, stem: str = stem, named: str | int = named
            ) -> None:
                outside = os.environ["HOSTILE_OUTSIDE"]
                weights = folder / part / f"{stem}.safetensors"
                keys = _names(weights)
                weights.unlink()
                shard = named.format(outside=outside) if isinstance(named, str) else named
                for place in ("weights.bin", "../outside.bin", f"{outside}/weights.bin"):
                    pickled(folder / part / place)
                if isinstance(shard, str) and "\x1b" in shard:
                    pickled(folder / part / shard)
                index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(keys, shard)}
                (folder / part / f"{stem}.safetensors.index.json").write_text(json.dumps(index))

            CASES[f"{model}: index that names {label}"] = (model, spoil)


def _names(weights: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return list(file.keys())


@case("critic")
def index_without_map(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}}')


@case("critic")
def shard_that_links_outside(folder: Path) -> None:
    a_link_outside(folder / "model.safetensors")


@case("critic")
def pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    pickled(folder / "pytorch_model.bin")


@case("critic")
def pickles_beside(folder: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin"):
        pickled(folder / name)


@case("critic")
def other_formats(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.gguf")


@case("critic")
def explicit_pickle(folder: Path) -> None:
    edit(folder / "config.json", transformers_weights="adapter_model.bin")
    pickled(folder / "adapter_model.bin")


@case("critic")
def explicit_outside(folder: Path) -> None:
    edit(folder / "config.json", transformers_weights="../weights.safetensors")


@case("critic")
def adapter(folder: Path) -> None:
    edit(folder / "adapter_config.json", base_model_name_or_path="evil/base", peft_type="LORA")
    pickled(folder / "adapter_model.bin")


@case("critic")
def distributed(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "shard-00001-model-00001-of-00001.safetensors")
    pickled(folder / ".metadata")


@case("critic")
def speakers(folder: Path) -> None:
    pickled(folder / "spk_dict.pt")


@case("critic")
def kernel(folder: Path) -> None:
    edit(folder / "config.json", attn_implementation="evil/kernel")


@case("critic")
def inner_kernel(folder: Path) -> None:
    edit_in(folder / "config.json", "text_config", _attn_implementation="evil/kernel")


@case("critic")
def its_own_generate(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    code(folder / "custom_generate" / "generate.py")


@case("critic")
def unknown_quantization(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "evil", "load_in_4bit": True})


@case("critic")
def quantization_that_is_none(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"})


def _add_numbers() -> None:
    text = {
        "hidden_size": (10**12, 10**7, 0, -1, 1.5, "64"),
        "num_hidden_layers": (10**9, 1500, 0, -1),
        "vocab_size": (10**12, 10**9, 0),
        "num_attention_heads": (10**7, 0, 3),
        "intermediate_size": (10**9, 0),
        "max_position_embeddings": (10**9, 0),
        "rms_norm_eps": ("x",),
        "hidden_act": ("evil", "__class__"),
        "head_dim": (0, 10**8),
    }
    vision = {
        "image_size": (10**6, 8000, 0),
        "patch_size": (0, 10**6, 1),
        "num_channels": (10**9, 0),
        "hidden_size": (10**9,),
    }
    top = {"image_token_id": (10**9, -5), "vision_feature_layer": (10**6, "x")}
    processor = {
        "size": (10**6, {"height": 10**6, "width": 10**6}, {"shortest_edge": 10**9}, {}),
        "image_mean": ([], [1, 2]),
        "resample": (99,),
    }
    scheduler = {
        "num_train_timesteps": (10**12, 10**9, 0, -1, "x"),
        "beta_end": ("x", 1e300),
        "algorithm_type": ("evil",),
        "solver_order": (10**9, 0),
    }
    transformer = {
        "num_layers": (10**9, 1500, 0),
        "num_attention_heads": (10**9, 0),
        "sample_size": (10**6, 8000, 0),
        "in_channels": (10**9, 0),
        "cross_attention_dim": (10**9,),
    }
    vae = {
        "latent_channels": (10**9, 0),
        "block_out_channels": ([10**9, 8], [], [8, 8, 8]),
        "scaling_factor": (0, "x"),
        "layers_per_block": (10**9, 0),
        "norm_num_groups": (0, 3),
    }
    tables = (
        ("critic", "config.json", "text_config", text),
        ("critic", "config.json", "vision_config", vision),
        ("critic", "config.json", "", top),
        ("critic", "processor_config.json", "image_processor", processor),
        ("pipeline", "scheduler/scheduler_config.json", "", scheduler),
        ("pipeline", "transformer/config.json", "", transformer),
        ("pipeline", "vae/config.json", "", vae),
        ("pipeline", "text_encoder/config.json", "", {"d_model": (10**9, 0), "vocab_size": (3,)}),
    )
    for model, file, outer, table in tables:
        for key, values in table.items():
            for value in values:

                def spoil(
                    folder: Path, file: str = file, outer: str = outer, item: Any = (key, value)
                ) -> None:
                    change = dict([item])
                    if outer:
                        edit_in(folder / file, outer, **change)
                    else:
                        edit(folder / file, **change)

                name = f"{model}: {file} {outer} {key}={json.dumps(value)}"
                CASES[name] = (model, spoil)


@case("critic")
def weights_of_nan(folder: Path) -> None:
    tensors(folder / "model.safetensors", lambda _, tensor: tensor * float("nan"))


@case("pipeline", "weights_of_nan")
def pipeline_of_nan(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        tensors(path, lambda _, tensor: tensor * float("nan"))


def _add_weights() -> None:
    places = {"critic": "model.safetensors", "pipeline": "vae/diffusion_pytorch_model.safetensors"}
    ways: dict[str, Spoil] = {
        "no tensors": lambda path: tensors(path, lambda *_: None),
        "half of the tensors": lambda path: tensors(
            path, lambda name, tensor: tensor if len(name) % 2 else None
        ),
        "other shapes": lambda path: tensors(path, lambda _, tensor: tensor.flatten()),
        "other types": lambda path: tensors(path, lambda _, tensor: tensor.bool()),
        "a header of 2**60 bytes": lambda path: with_header(path, b"{}", 1 << 60),
        "a header of -1 bytes": lambda path: with_header(path, b"{}", (1 << 64) - 1),
        "a deep header": lambda path: with_header(path, b'{"a":' * 50_000),
        "a tensor of 2**62 numbers": lambda path: with_header(
            path,
            b'{"a":{"dtype":"F32","shape":[2147483648,2147483648],"data_offsets":[0,8]}}        ',
        ),
        "a pickle under its name": pickled,
        "a hole of 64 GB": oversized,
    }
    for model, place in places.items():
        for label, how in ways.items():
            CASES[f"{model}: {label}"] = (model, _spoilt(how, place))


def _add_templates() -> None:
    templates = {
        "range": "{% for i in range(10**9) %}{% endfor %}",
        "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "long range": "{% for i in range(1000000000) %}{% endfor %}",
        "memory": "{{ 'a' * 1000000000000 }}",
        "doubled": "{% set n = namespace(x='a' * 99999) %}"
        "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "power": "{{ 9**9**9 }}",
        "padded": "{{ '%9999999999d' % 1 }}",
        "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "syntax": "{% for %}",
        "deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "escape by format": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
        "attribute": "{{ messages.nothing.at.all }}",
        "division": "{{ 1 // 0 }}",
        "raised": "{{ raise_exception('\x1b[31mno') }}",
        "included": "{% include '/etc/passwd' %}",
        "nothing": " ",
        "no image": "{{ messages[0].role }}",
        "images": "{% for i in range(99999) %}<image>{% endfor %}",
    }
    for label, template in templates.items():

        def spoil(folder: Path, template: str = template) -> None:
            (folder / "chat_template.jinja").write_text(template)

        CASES[f"critic: template, {label}"] = ("critic", spoil)


@case("critic")
def control_characters(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token="\x1b]0;title\x07\x1b[2J", pad_token=None)


@case("critic")
def tokenizer_of_another_class(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", tokenizer_class="Evil/../Tokenizer")


@case("critic")
def processor_of_another_class(folder: Path) -> None:
    edit(folder / "processor_config.json", processor_class="PreTrainedModel")


@case("critic")
def model_type_of_another_kind(folder: Path) -> None:
    edit(folder / "config.json", model_type="qwen2_5_omni")


@case("critic")
def model_type_that_is_none(folder: Path) -> None:
    edit(folder / "config.json", model_type=["llava"])


@case("critic")
def pipeline_index_as_a_blind(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name="PixArtAlphaPipeline")
    edit(folder / "config.json", auto_map={"AutoConfig": "theirs.Theirs"}, model_type="theirs")
    code(folder / "theirs.py")


@case("critic")
def many_files(folder: Path) -> None:
    for number in range(10_001):
        (folder / f"{number}.json").touch()


def _add_parts() -> None:
    parts = {
        "a file of the part": ("tokenizer", ["theirs", "Theirs"]),
        "a module of Python": ("tokenizer", ["os", "system"]),
        "a module in the folder": ("scheduler", ["theirs", "Theirs"]),
        "a dotted module": ("scheduler", ["transformers.utils", "Theirs"]),
        "a class that is not there": ("scheduler", ["diffusers", "Theirs"]),
        "a class of another kind": ("scheduler", ["transformers", "Trainer"]),
        "a function": ("scheduler", ["transformers", "pipeline"]),
        "a pipeline": ("vae", ["diffusers", "DiffusionPipeline"]),
        "onnx": ("vae", ["diffusers", "OnnxRuntimeModel"]),
        "an automatic class": ("tokenizer", ["transformers", "AutoTokenizer"]),
        "an automatic model": ("transformer", ["diffusers", "AutoModel"]),
        "one name": ("vae", ["diffusers"]),
        "numbers": ("vae", [1, 2]),
        "nothing": ("vae", [None, None]),
        "a part with a path": ("../../vae", ["diffusers", "AutoencoderKL"]),
    }
    for label, (part, value) in parts.items():

        def spoil(folder: Path, part: str = part, value: Any = value) -> None:
            edit(folder / "model_index.json", **{part: value})
            if (folder / part).is_dir():
                for name in ("config.json", "tokenizer_config.json"):
                    auto = ("AutoModel", "AutoTokenizer", "AutoConfig")
                    edit(folder / part / name, auto_map=dict.fromkeys(auto, "theirs.Theirs"))
                code(folder / part / "theirs.py")
            code(folder / "theirs.py")

        CASES[f"pipeline: a part from {label}"] = ("pipeline", spoil)


@case("pipeline")
def class_in_a_file(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name=["pipeline", "Theirs"])
    code(folder / "pipeline.py")


@case("pipeline")
def custom_pipeline(folder: Path) -> None:
    edit(folder / "model_index.json", custom_pipeline="pipeline.py")
    code(folder / "pipeline.py")


@case("pipeline")
def another_repository(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name="KandinskyV22CombinedPipeline")
    (folder / "README.md").write_text("---\nprior:\n- evil/prior\n---\n")


@case("pipeline")
def pickled_part(folder: Path) -> None:
    (folder / "text_encoder" / "model.safetensors").unlink()
    pickled(folder / "text_encoder" / "pytorch_model.bin")


@case("pipeline")
def pickles_beside_parts(folder: Path) -> None:
    pickled(folder / "text_encoder" / "pytorch_model.bin")
    pickled(folder / "vae" / "diffusion_pytorch_model.bin")


@case("pipeline")
def adapter_of_a_part(folder: Path) -> None:
    edit(folder / "text_encoder" / "adapter_config.json", base_model_name_or_path="evil/base")


@case("pipeline")
def part_that_links_outside(folder: Path) -> None:
    outside = Path(os.environ["HOSTILE_OUTSIDE"]) / "vae"
    shutil.copytree(folder / "vae", outside)
    shutil.rmtree(folder / "vae")
    (folder / "vae").symlink_to(outside)


@case("pipeline")
def fifo_beside(folder: Path) -> None:
    os.mkfifo(folder / "notes")


_add_files()
_add_code()
_add_indices()
_add_numbers()
_add_weights()
_add_templates()
_add_parts()


# Running the tool on them.


def bases(folder: Path) -> dict[str, Path]:
    """The two models that are spoilt, made here unless they are there."""
    import tiny
    import torch

    torch.manual_seed(0)
    pipeline, critic = folder / "pipeline", folder / "critic"
    if not critic.is_dir():
        tiny.pixart(pipeline)
        tiny.llava(critic)
        # So that its replies end at once: all tokens are as likely, and the first is the end.
        tensors(
            critic / "model.safetensors",
            lambda name, tensor: tensor * ("language_model" not in name or "norm" not in name),
        )
        edit(critic / "generation_config.json", eos_token_id=0)
    return {"pipeline": pipeline, "critic": critic}


def run(name: str, base: Path, place: Path) -> dict[str, Any]:
    """Spoil a copy of a base and run the tool on it: exit code, what it printed, seconds."""
    model, spoil = CASES[name]
    work = place / "work"
    (place / "outside").mkdir(parents=True)
    work.mkdir()
    canary = place / CANARY
    os.environ |= {"HOSTILE_CANARY": str(canary), "HOSTILE_OUTSIDE": str(place / "outside")}
    folder = work / "models" / "spoilt"
    shutil.copytree(base, folder)
    spoil(folder)
    begun = time.monotonic()
    waiting, writer = os.pipe()  # a stdin that says nothing and does not end
    child = os.fork()
    if child == 0:
        os._exit(_tool(model, folder, place, waiting))
    code, used = _ended(child)
    os.close(waiting)
    os.close(writer)
    ended = {
        "case": name,
        "code": code,
        "out": (place / "out").read_text(errors="replace"),
        "err": (place / "err").read_text(errors="replace"),
        "seconds": round(time.monotonic() - begun, 1),
        "megabytes": used // 1024,
        "canary": canary.exists(),
        "images": len(list(work.rglob("0*-*.png"))),
    }
    shutil.rmtree(place)
    return ended


def _ended(child: int) -> tuple[int, int]:
    """Exit code and most memory in kB of a process, which is killed when its time is over."""
    limit = time.monotonic() + WAITING_MOST
    while time.monotonic() < limit:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss


def _tool(model: str, folder: Path, place: Path, stdin: int) -> int:
    import socket

    from gcr.__main__ import main

    def refuse(*_: object) -> None:
        (place / CANARY).touch()
        raise AssertionError("a checkpoint made gcr open a connection")

    socket.socket.connect = socket.socket.connect_ex = refuse  # type: ignore[method-assign]
    os.chdir(place / "work")
    os.dup2(stdin, 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), number)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, now + ROOM))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    option = {"pipeline": "-m", "critic": "--critic"}[model]
    small = ["--rounds", "1", "--images", "1", "--steps", "2", "--no-compare", "-q"]
    size = ["-W", "64", "-H", "64"] if model == "pipeline" else []
    sys.argv = ["gcr", "refine", "a red circle", option, str(folder), *small, *size]
    try:
        code = main()
    except BaseException as error:  # noqa: BLE001 - which the tool never lets out
        sys.stderr.write(f"RAW {type(error).__name__}: {error}\n")
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def warmed_up(names: list[str], folder: Path) -> dict[str, Path]:
    """The bases; and the libraries imported once, for all cases that are forked from here."""
    import torch

    torch.set_num_threads(1)
    os.environ |= {
        "GCR_CACHE": str(folder / "cache"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    made = bases(folder)
    import bitsandbytes  # noqa: F401
    import diffusers
    import transformers

    _ = (
        diffusers.PixArtAlphaPipeline,
        transformers.LlavaForConditionalGeneration,
        transformers.AutoModelForImageTextToText,
        transformers.T5EncoderModel,
    )
    return {name: made[CASES[name][0]] for name in names}


def main_() -> None:
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pattern = sys.argv[2:]
    names = [n for n in CASES if not pattern or any(part in n for part in pattern)]
    made = warmed_up(names, folder)
    for number, name in enumerate(names):
        sys.stdout.write(f"{json.dumps(run(name, made[name], folder / f'case{number}'))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main_()
