"""Step 2: the rates that the planner needs: products, copies, dequantization, launches, attention, the optimizer.

Each figure is the median of several repeats between two waits for the card, after a warm-up.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from benchmarks.card.loop import make_optimizer, wait
from benchmarks.card.world import Result, Setting, quantization, run_step


def measure(setting: Setting) -> Result:
    import torch

    small = setting.rehearse
    positions, hidden, ffn = (64, 64, 128) if small else (2048, 2048, 11008)
    found: Result = {"products_tflops": {}, "attention_milliseconds": {}}
    for dtype in ("float32",) if small else ("float16", "bfloat16", "float32"):
        left = torch.randn(positions, hidden, device=setting.device, dtype=getattr(torch, dtype))
        right = torch.randn(hidden, ffn, device=setting.device, dtype=getattr(torch, dtype))
        taken = seconds_of(lambda left=left, right=right: left @ right, setting.device)
        found["products_tflops"][dtype] = 2 * positions * hidden * ffn / taken / 1e12
    found["copy_gb_a_second"] = copies(setting, values=2**14 if small else 2**28)
    found["dequantization_gb_a_second"] = dequantization(setting, rows=hidden, columns=ffn)
    found["launch_microseconds"] = launch(setting)
    for keys in (64,) if small else (256, 512, 1024, 2048):
        found["attention_milliseconds"] |= attention(setting, keys=keys)
    found["optimizer_milliseconds"] = 1000 * optimizer_step(setting)
    return found


def seconds_of(work: Callable[[], Any], device: str, *, repeats: int = 7, inner: int = 5) -> float:
    for _ in range(3):
        work()
    taken = []
    for _ in range(repeats):
        wait(device)
        began = time.perf_counter()
        for _ in range(inner):
            work()
        wait(device)
        taken.append((time.perf_counter() - began) / inner)
    return statistics.median(taken)


def copies(setting: Setting, *, values: int) -> float:
    """Bytes read and written a second."""
    import torch

    source = torch.randn(values, device=setting.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source), setting.device) / 1e9


def dequantization(setting: Setting, *, rows: int, columns: int) -> float | None:
    """Bytes read and written a second where NF4 is unpacked; None without bitsandbytes."""
    if quantization() != "nf4":
        return None
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = torch.randn(columns, rows, device=setting.device, dtype=torch.float16)
    packed, state = quantize_4bit(weight, quant_type="nf4")
    moved = packed.nbytes + state.absmax.nbytes + weight.nbytes
    return moved / seconds_of(lambda: dequantize_4bit(packed, state), setting.device) / 1e9


def launch(setting: Setting) -> float:
    """The host's time to start a kernel that does next to nothing."""
    import torch

    value = torch.zeros(1, device=setting.device)
    count = 200

    def many() -> None:
        for _ in range(count):
            value.add_(1)

    return 1e6 * seconds_of(many, setting.device, inner=1) / count


def attention(setting: Setting, *, keys: int) -> dict[str, float | str]:
    """Forward and backward of a layer's chunks of 256 queries with a mask, by backend, or why it cannot."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    dtype = torch.float32 if setting.rehearse else torch.float16
    chunks, queries, heads, kv_heads, size = (1, 16, 4, 2, 16) if setting.rehearse else (8, 256, 16, 2, 128)
    batch, shared = chunks * kv_heads, heads // kv_heads
    make = {"device": setting.device, "dtype": dtype}
    query = torch.randn(batch, shared, queries, size, **make, requires_grad=True)
    key, value = (torch.randn(batch, 1, keys, size, **make, requires_grad=True) for _ in range(2))
    mask = torch.zeros(batch, 1, queries, keys, **make)
    mask[..., : keys // 2].masked_fill_(torch.rand(queries, keys // 2, device=setting.device) < 0.5, -torch.inf)
    found: dict[str, float | str] = {}
    backends = {"as chosen": None, "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}
    for name, backend in ({"as chosen": None} if setting.rehearse else backends).items():

        def both() -> None:
            expanded = (part.expand(-1, shared, -1, -1) for part in (key, value))
            scaled_dot_product_attention(query, *expanded, attn_mask=mask).sum().backward()

        try:
            with sdpa_kernel(backend) if backend is not None else nullcontext():
                found[f"{name}, {keys} keys"] = 1000 * seconds_of(both, setting.device)
        except RuntimeError as error:
            found[f"{name}, {keys} keys"] = str(error).splitlines()[0]
    return found


def optimizer_step(setting: Setting) -> float:
    """One step on adapters of the real size: 119.7 million values in 504 matrices."""
    import torch

    count, size = (4, 1024) if setting.rehearse else (504, 237_568)
    adapter = [torch.nn.Parameter(torch.randn(size, device=setting.device)) for _ in range(count)]
    optimizer = make_optimizer(adapter)
    for parameter in adapter:
        parameter.grad = torch.randn_like(parameter)
    return seconds_of(optimizer.step, setting.device, inner=1)


def line(found: Result) -> str:
    products = ", ".join(f"{dtype} {rate:.3g}" for dtype, rate in found["products_tflops"].items())
    return (
        f"products {products} TFLOP/s; copies {found['copy_gb_a_second']:.3g} GB/s; launch "
        f"{found['launch_microseconds']:.3g} us; optimizer {found['optimizer_milliseconds']:.3g} ms"
    )


if __name__ == "__main__":
    run_step("kernels", measure, line)
