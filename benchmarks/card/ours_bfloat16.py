"""Step 6: our steps in this card's own precision at micro-batch 1, 2 and 4, weights unpacked once."""

from benchmarks.card.loop import Loop, Way
from benchmarks.card.world import Result, Setting, make_random_base, read_packs, run_step


def measure(setting: Setting) -> Result:
    import gc

    import torch

    dtype = "float32" if setting.rehearse else "bfloat16"
    base = make_random_base(setting, dtype=dtype)
    packs = read_packs(setting, count=16)
    found: Result = {}
    for size in (1, 2, 4):
        if setting.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        way = Way(dtype=dtype, micro_batch=size, blocks=0, dense_weights=True)
        found[str(size)] = Loop(setting, way, base=base).run(packs, steps=3 if setting.rehearse else 6)
        gc.collect()
        if setting.device != "cpu":
            torch.cuda.empty_cache()
    return {"of_micro_batch": found}


def line(found: Result) -> str:
    return "; ".join(
        f"micro-batch {size}: {one['positions_a_second']:,.0f} positions a second, peak {one['peak_gib']} GiB"
        for size, one in found["of_micro_batch"].items()
    )


if __name__ == "__main__":
    run_step("ours_bfloat16", measure, line)
