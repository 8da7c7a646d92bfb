"""A base model and a tokenizer small enough for two CPU cores, made in process from the bundled sample and a seed.

They stand in for Qwen2.5 in the smoke recipe, in every part that matters: the same architecture (grouped-query
attention, tied embeddings), the same pre-tokenization rule, control tokens and chat template; only the sizes are small.
No weights are committed or downloaded.
"""

import csv
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from fintune_kit.qwen import CONTROL_TOKENS, SPLIT_RULE
from fintune_kit.recipes import Recipe
from fintune_kit.workspace import (
    MANIFEST,
    Workspace,
    replacing_folder,
    sample_folder,
    sha256_of,
    write_manifest,
)


def tiny_base(workspace: Workspace, *, seed: int) -> Path:
    """The folder of the tiny base in a workspace, made there if it is missing.

    Returns:
        A folder with `model.safetensors`, `config.json` and the tokenizer's files.
    """
    folder = workspace.folder("base")
    if (folder / MANIFEST).is_file():
        return folder
    sample = sample_folder() / "sujet_sample.csv"
    tokenizer = build_tokenizer(sample_texts(sample), vocab_size=2048)
    model = build_model(tokenizer, seed=seed)
    with replacing_folder(folder) as partial:
        tokenizer.save_pretrained(partial)
        _save_weights(model, partial)
        parameters = sum(p.numel() for p in model.parameters())
        write_manifest(
            partial,
            stage="base",
            inputs={"sample": sha256_of(sample)},
            counts={"vocabulary": len(tokenizer), "parameters": parameters},
            seed=seed,
        )
    return folder


def _save_weights(model: Qwen2ForCausalLM, folder: Path) -> None:
    """As `save_pretrained` would, without a progress bar for four megabytes; the tied head is not written twice."""
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)


def sample_texts(path: Path) -> Iterator[str]:
    """The texts of the bundled sample, for the tokenizer's merges."""
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield from (row["system_prompt"], row["user_prompt"], row["answer"])


def build_tokenizer(texts: Iterator[str], *, vocab_size: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer with Qwen's rules, trained on `texts`."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_RULE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer=trainer)
    core.add_special_tokens(list(CONTROL_TOKENS))
    template = resources.files("trl").joinpath("chat_templates", "qwen2_5.jinja").read_text(encoding="utf-8")
    tokenizer = Qwen2Tokenizer(
        tokenizer_object=core,
        eos_token="<|im_end|>",  # noqa: S106 - a token of the vocabulary, no secret
        pad_token="<|endoftext|>",  # noqa: S106 - never the end token: a masked pad would unteach stopping
        unk_token=None,
        model_max_length=32768,
    )
    tokenizer.chat_template = template
    return tokenizer


def build_model(
    tokenizer: PreTrainedTokenizerBase, *, seed: int, dtype: torch.dtype = torch.float32
) -> Qwen2ForCausalLM:
    """A random Qwen2 with every part of the real one: grouped-query attention, SwiGLU, RMSNorm, tied embeddings."""
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,  # padded, as Qwen pads its own
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.1,  # so that a frozen random base tells tokens apart, and an adapter can learn from it
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config).to(dtype)


def base_of(recipe: Recipe, workspace: Workspace) -> str | Path:
    """Where a recipe's base model is: its hub id or folder, or the tiny base in the workspace, made if missing."""
    return tiny_base(workspace, seed=recipe.seed) if recipe.base == "tiny" else recipe.base


def tokenizer_of(recipe: Recipe, workspace: Workspace) -> str | Path:
    """Where a recipe's tokenizer is: its own, else the base model's."""
    return recipe.tokenizer or base_of(recipe, workspace)
