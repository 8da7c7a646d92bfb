"""Writes and reads GGUF, the file for llama.cpp and Ollama: weights with llama.cpp's names, and the tokenizer.

Matrices are `f16` or `q8_0` (blocks of 32 signed bytes with one scale each). Norms and biases stay float32. Tensors are
written one by one, so memory holds one converted matrix at a time. `read_gguf` reads any type, so that it can be
measured.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fintune_kit.errors import UserError
from fintune_kit.plan.shapes import ModelShape

ARCHITECTURES = {"qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}
Form = Literal["f16", "q8_0"]
"""The types that are written here. `quantizer` makes others from `f16`."""
_TYPES = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
_FILE_TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
_DTYPES = {gguf.GGMLQuantizationType.F16: np.float16, gguf.GGMLQuantizationType.F32: np.float32}


@dataclass(frozen=True)
class Weight:
    """A float32 tensor on the CPU that is computed when it is read."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def write_gguf(path: Path, weights: dict[str, Weight], *, config: Any, tokenizer: Any, form: Form, name: str) -> None:
    """Writes one GGUF file.

    Args:
        path: the file.
        weights: of the merged model, by their names in transformers.
        config: the model's transformers config.
        tokenizer: the model's tokenizer, with `chat_template`.
        form: the type of the matrices.
        name: the model's name, which llama.cpp shows.

    Raises:
        UserError: this architecture is not supported as GGUF.
    """
    if config.model_type not in ARCHITECTURES:
        raise UserError(
            f"{config.model_type} models cannot be written as GGUF; expected one of {', '.join(ARCHITECTURES)}: export "
            f"safetensors instead"
        )
    writer = gguf.GGUFWriter(str(path), config.model_type)
    _write_model(writer, config, form=form, name=name)
    _write_tokenizer(writer, tokenizer, vocabulary=config.vocab_size)
    names = _names(config)
    types = {key: _type(weight.shape, form) for key, weight in weights.items()}
    for key, weight in weights.items():
        stored, dtype = _stored(weight.shape, types[key])
        size = int(np.prod(stored)) * dtype.itemsize
        writer.add_tensor_info(_gguf_name(names, key), stored, dtype, size, raw_dtype=types[key])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for key, weight in tqdm(weights.items(), desc=f"writing {path.name}", unit=" tensors", leave=False):
        writer.write_tensor_data(gguf.quants.quantize(weight.read().numpy(), types[key]))
    writer.close()


def read_gguf(path: Path, *, config: Any, keys: Iterable[str]) -> dict[str, Tensor]:
    """The weights of a GGUF file as float32, by their names in transformers. llama.cpp computes with these values.

    Args:
        path: a file of any type that the package `gguf` can dequantize.
        config: the model's transformers config.
        keys: the names in transformers.
    """
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(str(path)).tensors}
    names = _names(config)
    found = {}
    for key in keys:
        tensor = tensors[_gguf_name(names, key)]
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        found[key] = torch.from_numpy(np.array(values, np.float32).reshape(tuple(map(int, reversed(tensor.shape)))))
    return found


def _names(config: Any) -> gguf.TensorNameMap:
    return gguf.get_tensor_name_map(ARCHITECTURES[config.model_type], config.num_hidden_layers)


def _gguf_name(names: gguf.TensorNameMap, key: str) -> str:
    name = names.get_name(key, try_suffixes=(".weight", ".bias"))
    assert name is not None, f"{key} has no name in GGUF"
    return str(name)


def _stored(shape: tuple[int, ...], kind: gguf.GGMLQuantizationType) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a tensor in the file. q8_0 is stored as bytes."""
    if kind in _DTYPES:
        return shape, np.dtype(_DTYPES[kind])
    return gguf.quant_shape_to_byte_shape(shape, kind), np.dtype(np.uint8)


def _type(shape: tuple[int, ...], form: Form) -> gguf.GGMLQuantizationType:
    """The type of a tensor. Vectors are float32. A matrix whose rows are not multiples of 32 cannot be q8_0: f16."""
    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    if form == "q8_0" and shape[-1] % 32:
        return gguf.GGMLQuantizationType.F16
    return _TYPES[form]


def _write_model(writer: gguf.GGUFWriter, config: Any, *, form: Form, name: str) -> None:
    shape = ModelShape.of(config)
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[form])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape.layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(shape.vocab)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any, *, vocabulary: int) -> None:
    """Writes Qwen's byte-level BPE. The embeddings are padded, so the vocabulary is padded with unused tokens."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = [f"[PAD{number}]" for number in range(vocabulary)]
    types = [int(gguf.TokenType.UNUSED)] * vocabulary
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, int(gguf.TokenType.NORMAL)
    for number, token in tokenizer.added_tokens_decoder.items():
        kind = gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED
        tokens[number], types[number] = token.content, int(kind)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_bos_token_id(tokenizer.pad_token_id)  # as in Qwen's own files; it is never added to a text
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)
