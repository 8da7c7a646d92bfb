from dataclasses import replace

import pytest

from fintune_kit.plan.cards import candidates
from fintune_kit.plan.devices import GIB
from fintune_kit.plan.engines import engine_of, find_device
from fintune_kit.plan.layouts import MEMORY_SHARE, Workload, fastest_layout
from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.shapes import SHAPES
from fintune_kit.recipes import p100

QWEN_3B, QWEN_7B = SHAPES["Qwen2.5-3B"], SHAPES["Qwen2.5-7B"]


def workload(*, shape=QWEN_3B, packs_per_process=80):
    return Workload(
        recipe=p100(), shape=shape, packs=3200, supervised_tokens=1_400_000, packs_per_process=packs_per_process
    )


def layout(device, **changes):
    return fastest_layout(workload(**changes), device=device, engine=engine_of(device))


def test_a_16_gib_card_recomputes_cheap_parts_and_repeats_few_blocks_if_any():
    """All that the 3B would keep, 15 GiB a pack, does not fit a T4; without the cheap parts it does."""
    found = layout(find_device("t4"))
    assert found.recompute.cheap_parts
    assert found.recompute.blocks <= 6
    assert sum(found.memory.values()) <= MEMORY_SHARE * 14.7 * GIB


def test_a_large_card_recomputes_nothing():
    assert layout(find_device("h200")).recompute == Recompute()


def test_the_7b_fits_a_t4_by_repeating_blocks():
    found = layout(find_device("t4"), shape=QWEN_7B)
    assert 0 < found.recompute.blocks <= 28
    assert found.micro_batch == 1


def test_the_recipes_accumulation_is_kept_where_it_is_no_slower():
    found = layout(find_device("h200"), packs_per_process=16)
    assert 16 // found.micro_batch == p100().train.accumulation


def test_a_cpu_takes_one_pack_at_a_time():
    assert layout(replace(find_device("cpu"), memory_gib=400.0)).micro_batch == 1


def test_no_other_layout_that_fits_has_clearly_less_work():
    """Against all of them, one by one."""
    device, all_work = find_device("t4"), workload()
    room = MEMORY_SHARE * device.memory_gib * GIB
    fitting = [
        candidate.work
        for size in all_work.micro_batches
        for candidate in candidates(all_work, device, micro_batch=size)
        if sum(candidate.memory.values()) <= room
    ]
    assert len(fitting) > 20
    assert layout(device).work == pytest.approx(min(fitting), rel=0.03)
