"""A base model and a tokenizer small enough for two CPU cores, made in process from the bundled sample and a seed.

They stand in for Qwen2.5 in the smoke recipe. Architecture (grouped-query attention, tied embeddings), the rule that
splits text, control tokens and chat template are the same; only the sizes are small. No weights are committed or
downloaded. PyTorch and transformers are imported inside functions: the planner needs only the sizes.
"""

import csv
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fintune_kit.hardware import forbid_hub_kernels
from fintune_kit.qwen import CONTROL_TOKENS, SPLIT_RULE
from fintune_kit.recipes import Recipe
from fintune_kit.workspace import (
    MANIFEST,
    Workspace,
    read_manifest,
    replacing_folder,
    sample_folder,
    sha256_of,
    write_manifest,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

forbid_hub_kernels()

VOCABULARY = 2048
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
"""Of the tiny base, under the names of a transformers config."""


def tiny_base(workspace: Workspace, *, seed: int) -> Path:
    """The folder of the tiny base in a workspace. It is made if it is missing or has another seed.

    Returns:
        A folder with `model.safetensors`, `config.json` and the tokenizer's files.
    """
    folder = workspace.folder("base")
    if (folder / MANIFEST).is_file() and read_manifest(folder, stage="base").get("seed") == seed:
        return folder
    sample = sample_folder() / "sujet_sample.csv"
    tokenizer = build_tokenizer(sample_texts(sample), vocab_size=VOCABULARY)
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


def _save_weights(model: "Qwen2ForCausalLM", folder: Path) -> None:
    """Writes the same files as `save_pretrained`, without its progress bar. The tied head is not written twice."""
    from safetensors.torch import save_file

    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)


def sample_texts(path: Path) -> Iterator[str]:
    """The texts of the bundled sample, for the tokenizer's merges."""
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield from (row["system_prompt"], row["user_prompt"], row["answer"])


def build_tokenizer(texts: Iterable[str], *, vocab_size: int) -> "PreTrainedTokenizerBase":
    """A byte-level BPE tokenizer with Qwen's rules, trained on `texts`."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

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
        pad_token="<|endoftext|>",  # noqa: S106 - not the end token: with its labels masked, no turn would end
        unk_token=None,
        model_max_length=32768,
    )
    tokenizer.chat_template = template
    return tokenizer


def build_model(
    tokenizer: "PreTrainedTokenizerBase", *, seed: int, dtype: "torch.dtype | None" = None
) -> "Qwen2ForCausalLM":
    """A random Qwen2 with every part of the real one: grouped-query attention, SwiGLU, RMSNorm, tied embeddings.

    Args:
        dtype: of its weights; None is float32.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        **SIZES | {"vocab_size": -(-len(tokenizer) // 64) * 64},  # padded, as Qwen pads its own
        max_position_embeddings=4096,
        initializer_range=0.1,  # large enough that the random layers tell tokens apart
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config).to(dtype or torch.float32)


def base_of(recipe: Recipe, workspace: Workspace) -> str | Path:
    """Where a recipe's base model is: its hub id or folder, or the tiny base, which is made in the workspace."""
    return tiny_base(workspace, seed=recipe.seed) if recipe.base == "tiny" else recipe.base


def tokenizer_of(recipe: Recipe, workspace: Workspace) -> str | Path:
    """Where a recipe's tokenizer is: its own, else the base model's."""
    return recipe.tokenizer or base_of(recipe, workspace)
