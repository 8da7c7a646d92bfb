from dataclasses import replace

import pytest

from fintune_kit.plan.cost import DEVICES, GIB, Recompute, memory_by_part, operations
from fintune_kit.plan.fit import HEAD_CHUNK, MARGIN, fastest_way, keys_per_query
from fintune_kit.recipes import p100
from tests.plan.test_plan import QWEN_3B, QWEN_7B


def way(device, *, shape=QWEN_3B, packs_per_process=80, recipe=None):
    return fastest_way(
        recipe or p100(),
        shape=shape,
        device=device,
        half=device.kind != "cpu",
        packs=3200,
        supervised=1_400_000,
        packs_per_process=packs_per_process,
    )


def test_a_16_gib_card_recomputes_cheap_parts_and_repeats_few_blocks_if_any():
    """All that the 3B would keep, 15 GiB a pack, does not fit a T4; without the cheap parts it does."""
    found = way(DEVICES["t4"])
    assert found.recompute.cheap_parts
    assert found.recompute.blocks <= 6
    assert sum(found.memory.values()) <= MARGIN * 14.7 * GIB


def test_a_large_card_recomputes_nothing():
    assert way(DEVICES["h200"]).recompute == Recompute()


def test_the_7b_fits_a_t4_by_repeating_blocks():
    found = way(DEVICES["t4"], shape=QWEN_7B)
    assert 0 < found.recompute.blocks <= 28
    assert found.micro_batch == 1


def test_the_recipes_accumulation_is_kept_where_it_is_no_slower():
    found = way(DEVICES["h200"], packs_per_process=16)
    assert 16 // found.micro_batch == p100().train.accumulation


def test_a_cpu_takes_one_pack_at_a_time():
    assert way(replace(DEVICES["cpu"], memory_gib=400.0)).micro_batch == 1


def test_no_other_way_that_fits_has_clearly_less_work():
    """Against all of them, computed here one by one."""
    device, lora, length = DEVICES["t4"], p100().lora, 2048
    least = float("inf")
    for micro_batch in (1, 2, 4, 5, 8, 10, 16, 20, 40, 80):
        keys = keys_per_query(device, micro_batch=micro_batch, max_length=length, head_dim=128)
        for recompute in [Recompute(), *(Recompute(cheap_parts=True, blocks=n) for n in range(37))]:
            memory = memory_by_part(
                QWEN_3B,
                lora=lora,
                max_length=length,
                micro_batch=micro_batch,
                recompute=recompute,
                half=True,
                quantized=True,
                head_chunk=HEAD_CHUNK,
                keys=keys,
                supervised_share=1_400_000 / (3200 * length),
            )
            if sum(memory.values()) <= MARGIN * device.memory_gib * GIB:
                work = operations(
                    QWEN_3B,
                    lora=lora,
                    positions=3200 * length,
                    supervised=1_400_000,
                    keys=keys,
                    recompute=recompute,
                    micro_batches=3200 // micro_batch,
                )
                least = min(least, work)
    assert way(device).work == pytest.approx(least, rel=0.03)
