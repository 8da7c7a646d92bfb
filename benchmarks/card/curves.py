"""Step 9: the losses of stock TRL and of ours on the very same examples, step by step, dropout off."""

from benchmarks.card.stock import devices, run
from benchmarks.card.world import Result, Setting, Skipped, need, run_step


def measure(setting: Setting) -> Result:
    need("trl", "datasets")
    if not setting.rehearse:
        need("bitsandbytes")
    device = devices(setting)[0]
    steps = 2 if setting.rehearse else 6
    found = {side: run(f"curve-{side}", setting, device=device, steps=steps) for side in ("stock", "ours")}
    if "failed" in found["stock"]:
        raise Skipped(f"stock TRL did not run: {found['stock']['failed']}")
    losses = {side: one["losses"] for side, one in found.items()}
    pairs = zip(losses["stock"], losses["ours"], strict=True)
    return {"losses": losses, "largest_difference": max(abs(a - b) / abs(a) for a, b in pairs)}


def line(found: Result) -> str:
    count = len(found["losses"]["ours"])
    return f"{count} steps on the same examples: losses differ by {found['largest_difference']:.1e} at most"


if __name__ == "__main__":
    run_step("curves", measure, line)
