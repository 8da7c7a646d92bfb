from dataclasses import replace
from types import SimpleNamespace

import pytest

from fintune_kit.errors import UserError
from fintune_kit.hardware import Card, Machine
from fintune_kit.plan.cost import DEVICES, ModelShape
from fintune_kit.plan.plan import (
    PackCounts,
    device_of,
    find_device,
    make_plan,
    optimizer_steps,
    packs_per_step,
    stock_hours,
    typical_counts,
)
from fintune_kit.recipes import p100

QWEN_3B = ModelShape(hidden=2048, layers=36, heads=16, kv_heads=2, head_dim=128, ffn=11008, vocab=151_936, tied=True)
QWEN_7B = ModelShape(hidden=3584, layers=28, heads=28, kv_heads=4, head_dim=128, ffn=18944, vocab=152_064, tied=False)
PLAIN = PackCounts(packs=6600, supervised_tokens=1_750_000, plain_sequences_per_pack=1.0)
SHARED = PackCounts(packs=3900, supervised_tokens=1_750_000, plain_sequences_per_pack=1.7)


def test_sizes_are_those_of_the_published_model():
    assert QWEN_3B.linear_parameters == 2_774_532_096
    assert QWEN_3B.adapter_parameters(p100().lora) == 119_734_272


def test_sizes_are_read_from_a_config():
    config = SimpleNamespace(
        hidden_size=2048,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
        intermediate_size=11008,
        vocab_size=151_936,
        tie_word_embeddings=True,
    )
    assert ModelShape.of(config) == QWEN_3B
    assert ModelShape.of(SimpleNamespace(**vars(config), head_dim=64)).head_dim == 64


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


@pytest.mark.parametrize("name", [name for name in DEVICES if name != "cpu"])
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


def test_half_accumulation_is_planned_at_twice_the_rate_of_a_p100_and_not_of_a_t4():
    quick = replace(p100(), train=replace(p100().train, half_accumulation=True))
    for name, factor in (("p100", 2.0), ("t4", 1.0)):
        plans = [make_plan(r, shape=QWEN_3B, counts=SHARED, device=find_device(name)) for r in (p100(), quick)]
        assert plans[0].hours[0] / plans[1].hours[0] == pytest.approx(factor)


def test_half_precision_follows_the_card():
    plans = {name: make_plan(p100(), shape=QWEN_3B, counts=PLAIN, device=find_device(name)) for name in ("t4", "l4")}
    assert plans["t4"].dtype == "float16"
    assert plans["l4"].dtype == "bfloat16"


def test_a_model_that_does_not_fit_is_refused_with_what_to_do():
    small = replace(find_device("t4"), memory_gib=4.0)
    with pytest.raises(UserError, match=r"too little for one pack.*FINTUNE_MODEL"):
        make_plan(p100(), shape=QWEN_7B, counts=PLAIN, device=small)


def test_an_unknown_device_is_named_with_those_that_exist():
    with pytest.raises(UserError, match=r"'p99'.*p100, t4"):
        find_device("p99")


def test_two_t4_are_one_process_each():
    card = Card(name="Tesla T4", capability=(7, 5), memory_bytes=15_828_320_256)
    machine = Machine(kind="cuda", cards=(card, card), dtype="float16", dtype_reason="", cpu_cores=4)
    device = device_of(machine)
    assert (device.name, device.cards) == ("t4x2", 2)
    assert make_plan(p100(), shape=QWEN_3B, counts=PLAIN, device=device).processes == 2
    assert device_of(machine, processes=1).cards == 1


def test_an_unknown_card_is_planned_as_its_nearest_relative_and_says_so():
    card = Card(name="NVIDIA GeForce RTX 3090", capability=(8, 6), memory_bytes=25_000_000_000)
    machine = Machine(kind="cuda", cards=(card,), dtype="bfloat16", dtype_reason="", cpu_cores=8)
    device = device_of(machine)
    assert "is not known" in device.assumption
    assert device.memory_gib == pytest.approx(23.28, abs=0.01)
