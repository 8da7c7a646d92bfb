"""Step 4: our steps as a T4 would run them: six by its plan, the profile of one pack, memory beside the plan's."""

from benchmarks.card.loop import Loop, Way, busy_and_wall
from benchmarks.card.world import Result, Setting, make_random_base, quantization, read_packs, run_step


def measure(setting: Setting) -> Result:
    from dataclasses import replace

    from fintune_kit.plan.counts import typical_counts
    from fintune_kit.plan.engines import find_device
    from fintune_kit.plan.plan import make_plan
    from fintune_kit.plan.shapes import SHAPES
    from fintune_kit.recipes import finance
    from fintune_kit.train.machine.other_card import behave_as

    recipe = replace(finance(), train=replace(finance().train, quantization=quantization()))
    device = find_device("t4")
    counts = typical_counts(recipe)
    plan = make_plan(recipe, shape=SHAPES[setting.config.removesuffix("-Instruct")], counts=counts, device=device)
    dtype = "float32" if setting.rehearse else plan.dtype
    base = make_random_base(setting, dtype=dtype)
    if not setting.rehearse:
        behave_as(device)
    way = Way(dtype=dtype, micro_batch=plan.micro_batch, blocks=plan.recompute.blocks, dense_weights=plan.dense_weights)
    packs = read_packs(setting, count=24)
    loop = Loop(setting, way, base=base)
    steps = loop.run(packs, steps=6)
    return {
        "plan": plan.describe(),
        "planned_gib": plan.peak_gib,
        "planned_seconds_a_pack": [3600 * hours / counts.packs for hours in plan.hours],
        "steps": steps,
        "one_pack": busy_and_wall(loop, packs),
    }


def line(found: Result) -> str:
    steps, one = found["steps"], found["one_pack"]
    low, high = found["planned_seconds_a_pack"]
    return (
        f"{steps['quantization']}: {steps['seconds_a_pack']:.3g} s a pack (planned for a T4: {low:.2f} to {high:.2f}); "
        f"card busy {one['busy_seconds']:.3g} of {one['wall_seconds']:.3g} s, {one['kernels']} kernels; peak "
        f"{steps['peak_gib']} GiB ({found['planned_gib']:.2f} planned, context included)"
    )


if __name__ == "__main__":
    run_step("ours_as_t4", measure, line)
