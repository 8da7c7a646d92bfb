"""Step 3: does this card compute what the mathematics says? One pack in its own precision beside float32 and alone.

half beside float32    loss, and the cosine of the adapter's gradient
1e5 planted            a residual channel beyond float16's 65,504: loss and gradient stay finite
"""

from pathlib import Path
from typing import Any

from benchmarks.card.loop import Loop, Way
from benchmarks.card.world import Columns, Result, Setting, make_random_base, read_packs, run_step


def measure(setting: Setting) -> Result:
    packs = read_packs(setting, count=1)
    base = make_random_base(setting, dtype="float32")
    blocks = 0 if setting.rehearse else 36
    found: Result = {}
    exact = loss_and_gradient(setting, base, packs, dtype="float32", blocks=blocks)
    for dtype in ("bfloat16",) if setting.rehearse else ("float16", "bfloat16"):
        loss, gradient = loss_and_gradient(setting, base, packs, dtype=dtype, blocks=blocks)
        planted, slope = loss_and_gradient(setting, base, packs, dtype=dtype, blocks=blocks, planted=1e5)
        found[dtype] = {
            "loss_relative": abs(loss - exact[0]) / abs(exact[0]),
            "gradient_cosine": cosine(gradient, exact[1]),
            "finite_with_1e5_planted": bool(slope.isfinite().all()) and planted == planted,
        }
    return {"loss": exact[0], "of_dtype": found}


def loss_and_gradient(
    setting: Setting, base: Path, packs: Columns, *, dtype: str, blocks: int, planted: float = 0.0
) -> tuple[float, Any]:
    """The summed loss of the pack and the adapter's gradient, as one float32 vector on the CPU.

    Args:
        planted: a value for one channel of the residual stream.
    """
    import torch

    from fintune_kit.train.batch import lay_out

    loop = Loop(setting, Way(dtype=dtype, micro_batch=1, blocks=blocks), base=base, dropout=0.0)
    torch.manual_seed(0)
    for parameter in loop.adapter:  # B starts at zero, and A would have no gradient
        if parameter.abs().max() == 0:
            parameter.data = 0.02 * torch.randn(parameter.shape, device="cpu").to(parameter)
    if planted:
        # In the residual stream, which float16 runs keep in float32; the table itself could not hold it.
        embedding = loop.plain_model.get_input_embeddings()
        embedding.register_forward_hook(lambda _m, _i, out: plant(out, planted))
    batch = lay_out(packs).to(setting.device)
    loss = loop.model(micro_batch=batch).loss
    tokens = max(1, len(batch.targets))
    scale = 2.0**10 if dtype == "float16" else 1.0
    (loss / tokens * scale).backward()
    gradient = torch.cat([parameter.grad.flatten().float().cpu() for parameter in loop.adapter]) / scale
    value = float(loss.detach()) / tokens
    del loop, loss
    if setting.device != "cpu":
        torch.cuda.empty_cache()
    return value, gradient


def plant(states: Any, value: float) -> Any:
    states = states.clone()
    states[..., 3] = value
    return states


def cosine(one: Any, other: Any) -> float:
    return float((one.double() @ other.double()) / (one.double().norm() * other.double().norm()))


def line(found: Result) -> str:
    return "; ".join(
        f"{dtype}: loss off by {one['loss_relative']:.1e}, gradient cosine {one['gradient_cosine']:.6f}, "
        f"{'finite' if one['finite_with_1e5_planted'] else 'NOT FINITE'} with 1e5 planted"
        for dtype, one in found["of_dtype"].items()
    )


if __name__ == "__main__":
    run_step("exactness", measure, line)
