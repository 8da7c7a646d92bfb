from dataclasses import replace

import pytest

from fintune_kit.errors import UserError
from fintune_kit.plan.cards import candidates, layout_of
from fintune_kit.plan.devices import GIB
from fintune_kit.plan.engines import engine_of, find_device
from fintune_kit.plan.layouts import DENSE_SHARE, MEMORY_SHARE, Workload, fastest_layout
from fintune_kit.plan.memory import Recompute
from fintune_kit.plan.shapes import SHAPES
from fintune_kit.recipes import p100

QWEN_3B, QWEN_7B = SHAPES["Qwen2.5-3B"], SHAPES["Qwen2.5-7B"]


def workload(*, shape=QWEN_3B, packs_per_process=80):
    return Workload(
        recipe=p100(), shape=shape, packs=3200, head_positions=1_400_000, packs_per_process=packs_per_process
    )


def layout(device, **changes):
    return fastest_layout(workload(**changes), device=device, engine=engine_of(device))


def test_a_3b_fits_a_t4_with_4_bit_weights_and_no_block_recomputed():
    found = layout(find_device("t4"))
    assert found.recompute == Recompute()
    assert not found.dense_weights
    assert sum(found.memory.values()) <= MEMORY_SHARE * 14.7 * GIB


def test_a_run_is_shorter_where_the_head_scores_fewer_positions():
    card = find_device("h100")
    many, few = (
        fastest_layout(replace(workload(), head_positions=count), device=card, engine=engine_of(card)).middle
        for count in (1_400_000, 140_000)
    )
    assert few < 0.99 * many


def test_a_large_card_unpacks_weights_once_and_recomputes_nothing():
    found = layout(find_device("a100"))
    assert found.recompute == Recompute()
    assert found.dense_weights


def test_a_large_card_takes_several_packs_at_once_because_the_host_starts_kernels_too_slowly_for_one():
    assert layout(find_device("h100")).micro_batch >= 4


def test_the_7b_fits_a_t4_by_repeating_blocks():
    found = layout(find_device("t4"), shape=QWEN_7B)
    assert 0 < found.recompute.blocks <= 28
    assert found.micro_batch == 1


def test_the_recipes_accumulation_is_kept_where_it_is_no_slower():
    found = layout(find_device("h200"), packs_per_process=16)
    assert 16 // found.micro_batch == p100().train.accumulation


def test_a_cpu_takes_one_pack_at_a_time():
    assert layout(replace(find_device("cpu"), memory_gib=400.0)).micro_batch == 1


@pytest.mark.parametrize("name", ["t4", "l4", "h100"])
def test_no_other_layout_that_fits_is_clearly_faster(name):
    """Against all of them, one by one."""
    device, all_work = find_device(name), workload()
    fitting = [
        candidate.middle
        for size in all_work.micro_batches
        for dense, share in ((False, MEMORY_SHARE), (True, DENSE_SHARE))
        for candidate in candidates(all_work, device, micro_batch=size, dense=dense)
        if sum(candidate.memory.values()) <= share * device.memory_gib * GIB
    ]
    assert len(fitting) > 20
    assert layout(device).middle == pytest.approx(min(fitting), rel=0.03)


def test_a_14b_is_shared_out_among_two_t4_and_a_7b_is_not():
    """A 7B fits each of them, and whole weights need no messages."""
    pair, shape = find_device("t4x2"), SHAPES["Qwen2.5-14B"]
    found = layout(pair, shape=shape, packs_per_process=40)
    assert found.split_weights
    assert sum(found.memory.values()) <= MEMORY_SHARE * 14.7 * GIB
    assert found.memory["weights"] == pytest.approx(shape.linear_parameters * 0.5625 / 2, rel=1e-6)
    assert not layout(pair, shape=QWEN_7B, packs_per_process=40).split_weights
    with pytest.raises(UserError, match="too little for one pack"):
        layout(find_device("t4"), shape=shape)


def test_what_is_gathered_takes_time():
    """Half of 7.4 GB comes from the other card, forward and backward, in each of 1,600 rounds, at 5 to 10 GB/s."""
    pair, shape = find_device("t4x2"), SHAPES["Qwen2.5-14B"]
    whole, shared = (
        layout_of(workload(shape=shape, packs_per_process=40), pair, micro_batch=1, blocks=0, split=split)
        for split in (False, True)
    )
    gathered = 1600 * 2 * shape.linear_parameters * 0.5625 / 2 / 1e9
    assert shared.seconds[0] - whole.seconds[0] == pytest.approx(gathered / 10)
    assert shared.seconds[1] - whole.seconds[1] == pytest.approx(gathered / 5)
