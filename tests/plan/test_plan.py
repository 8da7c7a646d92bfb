from dataclasses import replace

import pytest

from fintune_kit.errors import UserError
from fintune_kit.plan.counts import PackCounts, typical_counts
from fintune_kit.plan.devices import CARDS
from fintune_kit.plan.engines import find_device
from fintune_kit.plan.plan import make_plan, optimizer_steps, packs_per_step, stock_hours
from fintune_kit.plan.shapes import SHAPES
from fintune_kit.recipes import p100

QWEN_3B, QWEN_7B = SHAPES["Qwen2.5-3B"], SHAPES["Qwen2.5-7B"]
PLAIN = PackCounts(packs=6600, head_positions=1_750_000, examples_per_pack=7.6, plain_sequences_per_pack=1.0)
SHARED = PackCounts(packs=3900, head_positions=1_750_000, examples_per_pack=12.8, plain_sequences_per_pack=1.7)


def test_ordinary_packs_are_counted_as_the_recipe_counts_them():
    assert packs_per_step(p100(), PLAIN) == 128
    assert optimizer_steps(p100(), PLAIN) == 52


def test_shared_packs_keep_the_number_of_examples_a_step():
    step = packs_per_step(p100(), SHARED)
    assert step == 72
    assert step % p100().train.accumulation == 0
    assert abs(step * 1.7 - 128) <= p100().train.accumulation
    # as many steps as ordinary packing would take for the same examples
    assert abs(optimizer_steps(p100(), SHARED) - 6600 / 128) <= 4


@pytest.mark.parametrize(("examples", "packs"), [(4, 1), (16, 1), (20, 2), (32, 2), (60, 4), (1_600, 128)])
def test_examples_a_step_become_a_power_of_two_of_packs(examples, packs):
    recipe = p100().with_values(train={"examples_per_step": examples})
    assert packs_per_step(recipe, SHARED) == packs  # 12.8 examples in a pack


@pytest.mark.parametrize("name", [device.name for device in CARDS])
@pytest.mark.parametrize("counts", [PLAIN, SHARED], ids=["plain", "shared"])
def test_the_effective_batch_holds_and_the_plan_fits(name, counts):
    device = find_device(name)
    plan = make_plan(p100(), shape=QWEN_3B, counts=counts, device=device)
    assert (
        plan.packs_per_step == plan.micro_batch * plan.accumulation * plan.processes == packs_per_step(p100(), counts)
    )
    assert plan.optimizer_steps == optimizer_steps(p100(), counts)
    assert plan.peak_gib <= 0.94 * device.memory_gib
    assert plan.hours[0] < plan.hours[1]


def test_the_original_seven_hours_lie_in_the_range_of_its_card_for_its_way_of_training():
    low, high = stock_hours(p100(), shape=QWEN_3B, device=find_device("p100"))
    assert low < 7 < high


def test_our_packs_and_plan_take_well_under_half_of_it():
    card = find_device("p100")
    plan = make_plan(p100(), shape=QWEN_3B, counts=typical_counts(p100()), device=card)
    assert (
        max(
            ours / original
            for ours, original in zip(plan.hours, stock_hours(p100(), shape=QWEN_3B, device=card), strict=True)
        )
        < 0.42
    )


def test_half_accumulation_doubles_the_rate_of_products_on_a_p100_and_changes_nothing_on_a_t4():
    quick = replace(p100(), train=replace(p100().train, half_accumulation=True))
    factors = {}
    for name in ("p100", "t4"):
        plans = [make_plan(r, shape=QWEN_3B, counts=SHARED, device=find_device(name)) for r in (p100(), quick)]
        factors[name] = plans[0].hours[0] / plans[1].hours[0]
    assert 1.7 < factors["p100"] < 2.0
    assert factors["t4"] == 1.0


def test_half_precision_follows_the_card():
    plans = {name: make_plan(p100(), shape=QWEN_3B, counts=PLAIN, device=find_device(name)) for name in ("t4", "l4")}
    assert plans["t4"].dtype == "float16"
    assert plans["l4"].dtype == "bfloat16"


def test_a_model_that_does_not_fit_is_refused_with_what_to_do():
    small = replace(find_device("t4"), memory_gib=4.0)
    with pytest.raises(UserError, match=r"too little for one pack.*FINTUNE_MODEL"):
        make_plan(p100(), shape=QWEN_7B, counts=PLAIN, device=small)
