"""A recipe: every number that a run's result depends on, as one frozen value.

How a machine carries it out (device, dtype, micro-batch, checkpointing, processes) is a plan, derived in
`train.plan`; it never changes what is learned. `load_recipe` is the only reader of the environment.
"""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fintune_kit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Which rows become conversations."""

    sources: tuple[str, ...] = ("sujet-ai/Sujet-Finance-Instruct-177k",)
    """Hub ids, files or folders; `sample` is the bundled one."""
    examples: int = 50_000
    """Conversations to train on, chosen for quality over task types and labels."""
    validation_share: float = 0.02
    """Of the chosen conversations, held out by conversation and near-duplicate group: 1,000 of 50,000 tell a loss
    difference of 0.01."""
    system_prompt: str | None = None
    """Added where a row has none. None leaves this to the chat template, as the model saw it in its own tuning."""
    transactions: int = 0
    """Synthetic bank transactions to add as rows (transaction -> category); the original run had none."""
    finance_only: bool = True
    """Refuse rows that are not about finance (half of Sujet's `qa` is general Alpaca)."""

    def __post_init__(self) -> None:
        _require(bool(self.sources), "data.sources", self.sources, "at least one source")
        _require(self.examples >= 1, "data.examples", self.examples, "1 or more")
        _require(self.transactions >= 0, "data.transactions", self.transactions, "0 or more")
        _require(0 < self.validation_share < 0.5, "data.validation_share", self.validation_share, "between 0 and 0.5")


@dataclass(frozen=True, kw_only=True)
class PackRecipe:
    """How conversations become packs."""

    max_length: int = 2048
    """Positions in a pack; 99 % of Sujet's rows fit, longer ones are refused and counted, never cut."""
    share_prefixes: bool = True
    """Write a prefix that examples share once: the same gradients from about half the tokens."""
    mix: bool = False
    """Let each pack hold a mix of tasks and labels: a few more packs, but a step that learns all tasks at once. Without
    it a pack holds examples that are alike, which only a step of many packs makes up for."""

    def __post_init__(self) -> None:
        _require(self.max_length >= 16, "pack.max_length", self.max_length, "16 or more")


@dataclass(frozen=True, kw_only=True)
class LoraRecipe:
    """The adapter."""

    rank: int = 64
    """119,734,272 parameters on the 3B model, 456 MiB in fp32."""
    alpha: int = 128
    """Twice the rank: the update is scaled by alpha / rank = 2."""
    dropout: float = 0.05
    """On the adapter's input; drawn once a pack position, so once for a shared prefix."""
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """All seven projections of a layer, as in QLoRA (arXiv 2305.14314, section 4)."""

    def __post_init__(self) -> None:
        _require(self.rank >= 1, "lora.rank", self.rank, "1 or more")
        _require(self.alpha >= 1, "lora.alpha", self.alpha, "1 or more")
        _require(0 <= self.dropout < 1, "lora.dropout", self.dropout, "from 0 to below 1")
        _require(bool(self.target_modules), "lora.target_modules", self.target_modules, "at least one projection")


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """How the adapter is learned."""

    learning_rate: float = 2e-4
    """Peak of the schedule; QLoRA's value for 3B to 13B."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """After the warmup, down to zero at the last step."""
    warmup_ratio: float = 0.03
    """Of the optimizer steps, rounded up."""
    weight_decay: float = 0.01
    """Decoupled (AdamW), on the adapter matrices."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm (transformers' default, which the original run kept)."""
    effective_batch: int = 128
    """Packed sequences an optimizer step, counted in ordinary packs: packs that share prefixes hold more examples, so
    a step takes fewer of them (see `train.plan`)."""
    accumulation: int = 8
    """Micro-batches an optimizer step that the plan prefers where it fits and is no slower."""
    optimizer: str = "paged_adamw_8bit"
    """AdamW with 8-bit state that may leave the card when memory is short (bitsandbytes)."""
    epochs: int = 1
    """Passes over the packs; a second one brought others nothing (eval loss 1.704 at 0.36 epoch, 1.687 at 0.72)."""
    quantization: Literal["nf4", "none"] = "nf4"
    """4-bit NormalFloat with double quantization; `none` keeps the base in the compute dtype."""
    validations: int = 10
    """Times that the held-out loss is measured, at even intervals, the last step among them; 0 for never."""
    keep: Literal["best", "last"] = "best"
    """The adapter that is exported: of the step with the lowest held-out loss, or of the last step."""
    patience: int | None = None
    """Stop after this many measurements in a row that are no better than the best one; None trains to the end."""
    half_accumulation: bool = False
    """Add up float16 products in float16, which a P100 does twice as fast: less exact (`benchmarks/NOTES.md`), so off.
    Part of the recipe, because it changes what is learned; without effect where nothing is computed in float16."""

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "train.learning_rate", self.learning_rate, "above 0")
        _require(0 <= self.warmup_ratio < 1, "train.warmup_ratio", self.warmup_ratio, "from 0 to below 1")
        _require(self.weight_decay >= 0, "train.weight_decay", self.weight_decay, "0 or more")
        _require(self.max_grad_norm > 0, "train.max_grad_norm", self.max_grad_norm, "above 0")
        _require(self.effective_batch >= 1, "train.effective_batch", self.effective_batch, "1 or more")
        _require(
            1 <= self.accumulation <= self.effective_batch and self.effective_batch % self.accumulation == 0,
            "train.accumulation",
            self.accumulation,
            f"a divisor of train.effective_batch={self.effective_batch}",
        )
        _require(self.epochs >= 1, "train.epochs", self.epochs, "1 or more")
        _require(self.validations >= 0, "train.validations", self.validations, "0 or more")
        _require(
            self.keep == "last" or self.validations > 0,
            "train.keep",
            self.keep,
            "last where train.validations is 0: nothing says which adapter is the best",
        )
        _require(self.patience is None or self.patience >= 1, "train.patience", self.patience, "1 or more, or none")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run. The same recipe gives the same loss curve, to rounding, on any machine."""

    name: str
    """What `--recipe` and `FINTUNE_RECIPE` call it."""
    base: str = "Qwen/Qwen2.5-3B-Instruct"
    """Hub id or folder of the base model; `tiny` is made in the workspace. The 3B is under the Qwen Research licence
    (non-commercial); 0.5B, 1.5B, 7B and Qwen3 are Apache-2.0."""
    tokenizer: str | None = None
    """Hub id or folder; None takes the model's own."""
    seed: int = 20240405
    """Of the selection, the packs' order, the adapter's first values and its dropout."""
    data: DataRecipe = field(default_factory=DataRecipe)
    pack: PackRecipe = field(default_factory=PackRecipe)
    lora: LoraRecipe = field(default_factory=LoraRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)

    def __post_init__(self) -> None:
        _require(bool(self.name), "name", self.name, "a word")
        _require(bool(self.base), "base", self.base, "a hub id, a folder or `tiny`")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2**32 - 1")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for manifests and logs."""
        return dataclasses.asdict(self)


def p100() -> Recipe:
    """The run that people reproduce: 50,000 examples of Sujet on Qwen2.5-3B, about 7 hours on one P100."""
    return Recipe(name="p100")


def tpu_v5e8() -> Recipe:
    """The p100 numbers with 100,000 examples, for a TPU v5e-8 and its session of 9 hours: the attempt that failed while
    the TPU waited for packs. There is no bitsandbytes there: the base is not quantized, and AdamW is the plain one."""
    recipe = p100()
    return replace(
        recipe,
        name="tpu_v5e8",
        data=replace(recipe.data, examples=100_000),
        train=replace(recipe.train, quantization="none", optimizer="adamw_torch"),
    )


def smoke() -> Recipe:
    """The same path in minutes on two CPU cores: the bundled sample and a tiny Qwen2 made in process."""
    return Recipe(
        name="smoke",
        base="tiny",
        data=DataRecipe(sources=("sample",), transactions=100, examples=640, validation_share=0.2),
        pack=PackRecipe(max_length=512),
        lora=LoraRecipe(rank=32, alpha=64, dropout=0.0),
        train=TrainRecipe(learning_rate=2e-3, effective_batch=2, accumulation=1, epochs=18),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"p100": p100, "tpu_v5e8": tpu_v5e8, "smoke": smoke}


def load_recipe(name: str | None = None) -> Recipe:
    """The recipe called `name`, else `FINTUNE_RECIPE`, else p100, with what `FINTUNE_SOURCE`, `FINTUNE_MODEL` and
    `FINTUNE_TOKENIZER` override.

    Raises:
        UserError: no recipe has this name.
    """
    name = name or os.environ.get("FINTUNE_RECIPE") or "p100"
    if name not in RECIPES:
        raise UserError(f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}: check FINTUNE_RECIPE")
    recipe = RECIPES[name]()
    if source := os.environ.get("FINTUNE_SOURCE"):
        recipe = replace(recipe, data=replace(recipe.data, sources=tuple(source.split(os.pathsep))))
    if base := os.environ.get("FINTUNE_MODEL"):
        recipe = replace(recipe, base=base)
    if tokenizer := os.environ.get("FINTUNE_TOKENIZER"):
        recipe = replace(recipe, tokenizer=tokenizer)
    return recipe


def _require(holds: bool, name: str, value: Any, expected: str) -> None:
    if not holds:
        raise UserError(f"recipe field {name} is {value!r}, expected {expected}: change it in the recipe")
