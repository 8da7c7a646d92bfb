"""The methods of transformers' Trainer that we override without its promise to keep them."""

import inspect
import re

import pytest
import transformers
from transformers import Trainer
from trl import SFTTrainer

from fintune_kit.train.trainer import PackTrainer

OVERRIDDEN = {
    "_get_train_sampler": "packs would be read in another order",
    "_get_num_items_in_batch": "a step's loss would not be divided by its supervised tokens",
    "_clip_grad_norm": "gradients that are not finite would be applied",
    "_get_output_dir": "checkpoints would be written in place, and a killed run would leave half of one",
    "_load_scaler": "a run from a card with float16 could not go on on one without",
    "_save_checkpoint": "checkpoints would not be sealed",
}


def private_overrides() -> set[str]:
    return {
        name
        for name in vars(PackTrainer)
        if name.startswith("_") and not name.startswith("__") and hasattr(SFTTrainer, name)
    }


def test_all_private_methods_that_we_override_are_named_here():
    assert private_overrides() == set(OVERRIDDEN)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_the_trainer_still_calls_what_we_override(name):
    sources = [inspect.getsource(inspect.getmodule(cls)) for cls in (Trainer, SFTTrainer)]
    calls = sum(len(re.findall(rf"self\.{name}\b", source)) for source in sources)
    assert calls, (
        f"transformers {transformers.__version__} no longer calls Trainer.{name}: {OVERRIDDEN[name]}. Find what it "
        f"calls instead, and override that in train/trainer.py"
    )
