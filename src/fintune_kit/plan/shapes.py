"""The sizes of a dense Qwen model, from a table of the published models or from a folder's `config.json`.

The planner needs only sizes. So for the models in the table it needs neither the network nor transformers.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fintune_kit.errors import UserError, first_line
from fintune_kit.recipes import LoraRecipe


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a dense Qwen2 or Qwen3."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool
    """Whether embedding and head are one matrix."""

    @classmethod
    def of(cls, config: Any) -> "ModelShape":
        """The sizes in a transformers config."""
        heads = config.num_attention_heads
        return cls(
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=config.num_key_value_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            ffn=config.intermediate_size,
            vocab=config.vocab_size,
            tied=bool(getattr(config, "tie_word_embeddings", False)),
        )

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer of one block."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, q),
            "k_proj": (self.hidden, kv),
            "v_proj": (self.hidden, kv),
            "o_proj": (q, self.hidden),
            "gate_proj": (self.hidden, self.ffn),
            "up_proj": (self.hidden, self.ffn),
            "down_proj": (self.ffn, self.hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """The number of weights in all projections, which NF4 stores in 4 bits: 2,774,532,096 in the 3B."""
        return self.layers * sum(i * o for i, o in self.projections.values())

    @property
    def embedding_parameters(self) -> int:
        """The number of weights in embedding and head. A tied matrix is counted once."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    def adapter_parameters(self, lora: LoraRecipe) -> int:
        """The number of values in the adapter: rank x (inputs + outputs) of each target; 119,734,272 for p100."""
        targets = [self.projections[name] for name in lora.target_modules if name in self.projections]
        return self.layers * sum(lora.rank * (i + o) for i, o in targets)


def _shape(
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    ffn: int,
    *,
    head_dim: int = 128,
    tied: bool,
    vocab: int = 151_936,
) -> ModelShape:
    return ModelShape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=ffn,
        vocab=vocab,
        tied=tied,
    )


SHAPES: dict[str, ModelShape] = {
    "Qwen2.5-0.5B": _shape(896, 24, 14, 2, 4864, head_dim=64, tied=True),
    "Qwen2.5-1.5B": _shape(1536, 28, 12, 2, 8960, tied=True),
    "Qwen2.5-3B": _shape(2048, 36, 16, 2, 11008, tied=True),
    "Qwen2.5-7B": _shape(3584, 28, 28, 4, 18944, tied=False, vocab=152_064),
    "Qwen2.5-14B": _shape(5120, 48, 40, 8, 13824, tied=False, vocab=152_064),
    "Qwen2.5-32B": _shape(5120, 64, 40, 8, 27648, tied=False, vocab=152_064),
    "Qwen3-0.6B": _shape(1024, 28, 16, 8, 3072, tied=True),
    "Qwen3-1.7B": _shape(2048, 28, 16, 8, 6144, tied=True),
    "Qwen3-4B": _shape(2560, 36, 32, 8, 9728, tied=True),
    "Qwen3-8B": _shape(4096, 36, 32, 8, 12288, tied=False),
    "Qwen3-14B": _shape(5120, 40, 40, 8, 17408, tied=False),
    "Qwen3-32B": _shape(5120, 64, 64, 8, 25600, tied=False),
}
"""The published models, without endings such as -Instruct, which do not change the sizes."""
_ENDINGS = re.compile(r"-(Instruct-2507|Thinking-2507|Instruct|Base)$")


def find_shape(base: str | Path) -> ModelShape | None:
    """The sizes of a base model, without network: from a folder with a `config.json`, or from the table.

    Returns:
        None if the base is neither. Then transformers can ask the Hub (`train.model.load_config`).

    Raises:
        UserError: the `config.json` does not hold the sizes of a model.
    """
    config = Path(base) / "config.json"
    if config.is_file():
        return _shape_in(config)
    owner, _, name = str(base).rpartition("/")
    return SHAPES.get(_ENDINGS.sub("", name)) if owner == "Qwen" else None


def _shape_in(path: Path) -> ModelShape:
    try:
        shape = ModelShape.of(SimpleNamespace(**json.loads(path.read_text(encoding="utf-8"))))
        wrong = [name for name, size in vars(shape).items() if not isinstance(size, int) or size < 0]
        wrong += [name for name, size in vars(shape).items() if size == 0 and name != "tied"]
    except (ValueError, TypeError, AttributeError, ZeroDivisionError, RecursionError) as error:
        wrong = [first_line(error)[:200]]
    if wrong:
        raise UserError(
            f"{path} does not hold the sizes of a model ({', '.join(wrong)}); expected the config of a dense Qwen2 or "
            f"Qwen3: name another base with FINTUNE_MODEL"
        )
    return shape
