"""A recipe: every number that a run's result depends on, as one frozen value.

    load_recipe("p100")                                                  a named recipe
    load_recipe("mine.toml")                                             a file, which may extend another recipe
    load_recipe("p100").with_values(train={"learning_rate": 1e-4})       in a notebook
    FINTUNE_SET="train.learning_rate=1e-4"                               for everything that is started

How a machine carries a recipe out (device, dtype, micro-batch, processes) is a plan, derived in `plan`; it never
changes what is learned. `load_recipe` is the only function that reads a recipe's environment variables.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fintune_kit.errors import UserError
from fintune_kit.recipe_values import (
    checked_value,
    flattened,
    known_value,
    parse_assignment,
    read_toml,
    split_assignments,
    to_toml,
    with_changes,
)

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Qwen block that an adapter may be put on."""
_HYBRID = re.compile(r"Qwen3(\.[5-9]|-Next)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Which rows become conversations."""

    sources: tuple[str, ...] = ("sujet-ai/Sujet-Finance-Instruct-177k",)
    """Hub ids, files or folders; `sample` is the bundled one."""
    examples: int = 50_000
    """Conversations to train on, chosen for quality over task types and labels."""
    validation_share: float = 0.02
    """Share of the chosen conversations that is kept for validation. Conversations and their near-duplicates stay
    together. 1,000 of 50,000 tell a difference of 0.01 in the loss."""
    system_prompt: str | None = None
    """Added where a row has none. None leaves this to the chat template, as the model saw it in its own tuning."""
    transactions: int = 0
    """Generated bank transactions that are added as rows (transaction to category). The original run had none."""
    finance_only: bool = True
    """Refuse rows that are not about finance. Half of Sujet's `qa` rows are general Alpaca rows."""

    def __post_init__(self) -> None:
        _require(bool(self.sources), "data.sources", self.sources, "at least one source")
        _require(all(source.strip() for source in self.sources), "data.sources", self.sources, "no empty source")
        _require(self.examples >= 1, "data.examples", self.examples, "1 or more")
        _require(self.transactions >= 0, "data.transactions", self.transactions, "0 or more")
        _require(0 < self.validation_share < 0.5, "data.validation_share", self.validation_share, "between 0 and 0.5")


@dataclass(frozen=True, kw_only=True)
class PackRecipe:
    """How conversations become packs."""

    max_length: int = 2048
    """Positions in a pack. 99 % of Sujet's rows fit; longer ones are refused and counted, never cut."""
    share_prefixes: bool = True
    """Write a prefix that examples share once. The gradients are the same, from about half the tokens."""
    mix: bool = False
    """Let each pack hold a mix of tasks and labels. This costs a few more packs, and a step learns all tasks at once.
    Without it a pack holds examples that are alike, which only a step of many packs makes up for."""

    def __post_init__(self) -> None:
        _require(16 <= self.max_length <= 32_768, "pack.max_length", self.max_length, "from 16 to 32768")


@dataclass(frozen=True, kw_only=True)
class LoraRecipe:
    """The adapter."""

    rank: int = 64
    """Columns of the adapter matrices. 64 makes 119,734,272 parameters on the 3B model, 456 MiB in float32."""
    alpha: int = 128
    """The update is scaled by alpha / rank, here by 2."""
    dropout: float = 0.05
    """On the adapter's input. It is drawn once a pack position, so once for a shared prefix."""
    target_modules: tuple[str, ...] = PROJECTIONS
    """The layers that get an adapter: all seven projections of a block, as in QLoRA (arXiv 2305.14314, section 4)."""

    def __post_init__(self) -> None:
        _require(self.rank >= 1, "lora.rank", self.rank, "1 or more")
        _require(self.alpha >= 1, "lora.alpha", self.alpha, "1 or more")
        _require(0 <= self.dropout < 1, "lora.dropout", self.dropout, "from 0 to below 1")
        unknown = [name for name in self.target_modules if name not in PROJECTIONS]
        _require(
            bool(self.target_modules) and not unknown and len(set(self.target_modules)) == len(self.target_modules),
            "lora.target_modules",
            self.target_modules,
            f"some of {', '.join(PROJECTIONS)}, each once",
        )


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """How the adapter is learned."""

    learning_rate: float = 2e-4
    """The highest point of the schedule. 2e-4 is QLoRA's value for models of 3B to 13B."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """The shape of the learning rate after the warmup. Cosine and linear end at zero at the last step."""
    warmup_ratio: float = 0.03
    """Share of the optimizer steps in which the learning rate rises, rounded up to whole steps."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay, on the adapter matrices."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm. 1.0 is the default of transformers, which the original run kept."""
    effective_batch: int = 128
    """Packed sequences an optimizer step, counted in ordinary packs. Packs that share prefixes hold more examples, so
    a step takes fewer of them. Without effect where `examples_per_step` is set."""
    examples_per_step: int | None = None
    """Examples an optimizer step. None takes `effective_batch` packed sequences."""
    accumulation: int = 8
    """Micro-batches an optimizer step. The plan takes this number where it fits and is not slower."""
    optimizer: Literal["paged_adamw_8bit", "adamw_8bit", "adamw_torch"] = "paged_adamw_8bit"
    """AdamW. `paged_adamw_8bit` keeps its state in 8 bit and may move it off the card when memory is short
    (bitsandbytes); `adamw_torch` keeps it in float32."""
    epochs: int = 1
    """Passes over the packs. A second one brought others nothing (validation loss 1.704 after 0.36 of a pass, 1.687
    after 0.72)."""
    quantization: Literal["nf4", "none"] = "nf4"
    """`nf4` holds the base as 4-bit NormalFloat with double quantization; `none` keeps it in the compute dtype."""
    validations: int = 10
    """Times that the validation loss is measured, at even intervals, the last step among them. 0 never measures it."""
    keep: Literal["best", "last"] = "best"
    """The adapter that is exported: of the step with the lowest validation loss, or of the last step."""
    patience: int | None = None
    """Stop after this many measurements in a row that are not better than the best one. None trains to the end."""
    half_accumulation: bool = False
    """Add up float16 products in float16, which a P100 does twice as fast and less exactly (`benchmarks/NOTES.md`).
    It changes what is learned, so it is part of the recipe. Without effect where nothing is computed in float16."""

    def __post_init__(self) -> None:
        _require(0 < self.learning_rate <= 1, "train.learning_rate", self.learning_rate, "above 0 and at most 1")
        _require(0 <= self.warmup_ratio < 1, "train.warmup_ratio", self.warmup_ratio, "from 0 to below 1")
        _require(0 <= self.weight_decay < 1, "train.weight_decay", self.weight_decay, "from 0 to below 1")
        _require(self.max_grad_norm > 0, "train.max_grad_norm", self.max_grad_norm, "above 0")
        _require(self.effective_batch >= 1, "train.effective_batch", self.effective_batch, "1 or more")
        _require(
            self.examples_per_step is None or self.examples_per_step >= 1,
            "train.examples_per_step",
            self.examples_per_step,
            "1 or more",
        )
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
    """The name for `--recipe` and `FINTUNE_RECIPE`. A file without a name takes its file name."""
    base: str = "Qwen/Qwen2.5-3B-Instruct"
    """Hub id or folder of the base model; `tiny` is made in the workspace. The 3B is under the Qwen Research licence
    (non-commercial); 0.5B, 1.5B, 7B and Qwen3 are under Apache-2.0."""
    tokenizer: str | None = None
    """Hub id or folder of the tokenizer. None takes the base model's own."""
    seed: int = 20240405
    """Of the choice of conversations, the order of the packs, the adapter's first values and its dropout."""
    data: DataRecipe = field(default_factory=DataRecipe)
    """Which rows become conversations."""
    pack: PackRecipe = field(default_factory=PackRecipe)
    """How conversations become packs."""
    lora: LoraRecipe = field(default_factory=LoraRecipe)
    """The adapter."""
    train: TrainRecipe = field(default_factory=TrainRecipe)
    """How the adapter is learned."""
    asked: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """Names of the values that somebody asked for. Not part of the recipe: it tells a wish from a default where the
    recipe of a workspace differs."""

    def __post_init__(self) -> None:
        plain = bool(self.name.strip(". ")) and not set(self.name) & set("/\\\0\n")
        _require(plain, "name", self.name, "a word that can be a folder's name")
        _require(bool(self.base.strip()), "base", self.base, "a hub id, a folder or `tiny`")
        _require(
            not _HYBRID.search(self.base),
            "base",
            self.base,
            "a dense Qwen2.5 or Qwen3 (the linear-attention layers of hybrid models carry a state through a pack, so "
            "its examples would see one another)",
        )
        _require(self.tokenizer is None or bool(self.tokenizer.strip()), "tokenizer", self.tokenizer, "a hub id")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2**32 - 1")

    def with_values(self, **values: Any) -> "Recipe":
        """A copy with some values changed: `with_values(seed=1, train={"learning_rate": 1e-4, "epochs": 2})`.

        Raises:
            UserError: a name is unknown, or a value has another type or is out of range.
        """
        return self.changed(flattened(values, Recipe, origin="with_values"), origin="with_values")

    def changed(self, changes: Mapping[str, Any], *, origin: str) -> "Recipe":
        """The same for values by name, `{"train.learning_rate": 1e-4}`; `origin` stands in the message of an error."""
        return replace(with_changes(self, changes, origin=origin), asked=self.asked | changes.keys())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for manifests and logs."""
        values = dataclasses.asdict(self)
        del values["asked"]
        return values

    def as_toml(self) -> str:
        """The whole recipe, each value under its reason; `read_recipe` reads it back."""
        purpose = RECIPES[self.name].__doc__ if self.name in RECIPES else ""
        return to_toml(self, title=" ".join(f"Recipe {self.name}. {purpose}".split()))


@dataclass(frozen=True, kw_only=True)
class Change:
    """One value that somebody asked for."""

    name: str
    """`train.learning_rate`"""
    value: Any
    origin: str
    """Where it was asked for: `--train.learning-rate`, `FINTUNE_SET`."""


def p100() -> Recipe:
    """The run that people reproduce: 50,000 examples of Sujet on Qwen2.5-3B, about 7 hours on one P100."""
    return Recipe(name="p100")


def tpu_v5e8() -> Recipe:
    """The numbers of p100 with 100,000 examples, for a TPU v5e-8 and its session of 9 hours.

    bitsandbytes does not run on a TPU: the base is not quantized, and AdamW keeps its state in float32.
    """
    return replace(
        p100(),
        name="tpu_v5e8",
        data=DataRecipe(examples=100_000),
        train=TrainRecipe(quantization="none", optimizer="adamw_torch"),
    )


def finance() -> Recipe:
    """The data, model and adapter of p100, with steps of few mixed examples: many updates instead of few large ones."""
    return replace(
        p100(),
        name="finance",
        pack=PackRecipe(mix=True),
        train=TrainRecipe(examples_per_step=32),
    )


def t4() -> Recipe:
    """The recipe finance on Qwen2.5-1.5B (Apache-2.0), for one free T4 and about an hour."""
    return replace(finance(), name="t4", base="Qwen/Qwen2.5-1.5B-Instruct")


def laptop() -> Recipe:
    """Qwen2.5-0.5B (Apache-2.0) on a CPU, in about 20 minutes: the bundled sample and 400 generated transactions."""
    return Recipe(
        name="laptop",
        base="Qwen/Qwen2.5-0.5B-Instruct",
        data=DataRecipe(sources=("sample",), transactions=400, examples=800, validation_share=0.1),
        pack=PackRecipe(max_length=512, mix=True),
        lora=LoraRecipe(rank=16, alpha=32),
        train=TrainRecipe(examples_per_step=8, quantization="none", optimizer="adamw_torch", epochs=2, validations=4),
    )


def qwen3_4b() -> Recipe:
    """The recipe finance on Qwen3-4B-Instruct-2507, which is under Apache-2.0 and fits a card of 16 GB."""
    return replace(finance(), name="qwen3_4b", base="Qwen/Qwen3-4B-Instruct-2507")


def smoke() -> Recipe:
    """The same path in minutes on two CPU cores: the bundled sample and a tiny Qwen2 that is made in process."""
    return Recipe(
        name="smoke",
        base="tiny",
        data=DataRecipe(sources=("sample",), transactions=100, examples=640, validation_share=0.2),
        pack=PackRecipe(max_length=512),
        lora=LoraRecipe(rank=32, alpha=64, dropout=0.0),
        train=TrainRecipe(learning_rate=2e-3, effective_batch=2, accumulation=1, epochs=18),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "finance": finance,
    "p100": p100,
    "laptop": laptop,
    "t4": t4,
    "qwen3_4b": qwen3_4b,
    "tpu_v5e8": tpu_v5e8,
    "smoke": smoke,
}
DEFAULT = "p100"
"""The original run. The notebooks take `finance` instead, which `results/quality.md` speaks for."""


def load_recipe(name: str | None = None, *, default: str = DEFAULT, changes: Sequence[Change] = ()) -> Recipe:
    """The recipe called `name`, else `FINTUNE_RECIPE`, else `default`, with the values that were asked for.

    Values come from `changes`, `FINTUNE_SET` (`train.learning_rate=1e-4 seed=1`), `FINTUNE_SOURCE`, `FINTUNE_MODEL`
    and `FINTUNE_TOKENIZER`. No origin goes before another. If two disagree, the user has to decide.

    Args:
        name: a named recipe or a TOML file.
        changes: values that flags ask for.

    Raises:
        UserError: the recipe does not exist, a value is unknown or wrong, or two places ask for different values.
    """
    wanted = name or os.environ.get("FINTUNE_RECIPE")
    recipe = read_recipe(Path(wanted)) if wanted and wanted.endswith(".toml") else named_recipe(wanted or default)
    if wanted:
        recipe = replace(recipe, asked=recipe.asked | {"name"})
    agreed = _agreed([*changes, *_changes_of_environment()])
    return recipe.changed(agreed, origin="load_recipe")


def named_recipe(name: str) -> Recipe:
    """The recipe of this name as it stands here.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        raise UserError(
            f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}, or a file that ends in .toml: check "
            f"--recipe and FINTUNE_RECIPE"
        )
    return RECIPES[name]()


def read_recipe(path: Path, *, inside: tuple[Path, ...] = ()) -> Recipe:
    """The recipe in a TOML file: the values that it holds, on top of the recipe that it extends (else p100).

        extends = "p100"              a named recipe, or another file beside this one

        [train]
        learning_rate = 1e-4

    Raises:
        MissingInputError: the file does not exist.
        UserError: it is not TOML, a value is unknown or wrong, or files extend one another in a circle.
    """
    if path.resolve() in inside:
        raise UserError(f"{path} extends itself by way of other files; expected a recipe that ends the chain")
    tables = read_toml(path)
    extends = tables.pop("extends", DEFAULT)
    if not isinstance(extends, str):
        raise UserError(f"{path} extends {extends!r}; expected a recipe's name or a file in quotes")
    if extends.endswith(".toml"):
        start = read_recipe(path.parent / extends, inside=(*inside, path.resolve()))
    else:
        start = named_recipe(extends)
    return start.changed({"name": path.stem} | flattened(tables, Recipe, origin=str(path)), origin=str(path))


def _changes_of_environment() -> list[Change]:
    texts = {
        "FINTUNE_MODEL": "base",
        "FINTUNE_TOKENIZER": "tokenizer",
    }
    found = [Change(name=texts[key], value=os.environ[key], origin=key) for key in texts if os.environ.get(key)]
    if source := os.environ.get("FINTUNE_SOURCE"):
        found.append(Change(name="data.sources", value=tuple(source.split(os.pathsep)), origin="FINTUNE_SOURCE"))
    return found + parsed_changes(split_assignments(os.environ.get("FINTUNE_SET", "")), origin="FINTUNE_SET")


def parsed_changes(assignments: Sequence[str], *, origin: str) -> list[Change]:
    """`["train.learning_rate=1e-4"]` as changes.

    Raises:
        UserError: `=` is missing, a name is unknown, or a value has another type.
    """
    pairs = [parse_assignment(text, Recipe, origin=origin) for text in assignments]
    return [Change(name=name, value=value, origin=origin) for name, value in pairs]


def _agreed(changes: Sequence[Change]) -> dict[str, Any]:
    """The values that the changes ask for, by name.

    Raises:
        UserError: two of them ask for different values of the same name.
    """
    agreed: dict[str, Change] = {}
    for change in changes:
        expected = known_value(change.name, Recipe, origin=change.origin)
        value = checked_value(change.value, expected, origin=change.origin)
        first = agreed.setdefault(change.name, replace(change, value=value))
        if first.value != value:
            raise UserError(
                f"{change.name} is {first.value!r} by {first.origin} and {value!r} by {change.origin}; expected one "
                f"value: say it in one place"
            )
    return {name: change.value for name, change in agreed.items()}


def _require(holds: bool, name: str, value: Any, expected: str) -> None:
    if not holds:
        raise UserError(f"recipe value {name} is {value!r}, expected {expected}: change it where it was set")
