"""The loss of exactness if float16 products are added up in float16, not float32, for the products of Qwen2.5-3B.

    python benchmarks/half_accumulation.py

Emulated in numpy, term by term in the order of the inputs, as a P100's units add: `TrainRecipe.half_accumulation` lets
them. Inputs are standard normal, weights of standard deviation 0.02, both rounded to float16; errors are relative to
float64 sums of the same rounded numbers.
"""

import numpy as np

OUTPUTS, ROWS = 256, 16
INPUTS = {"q, k, v, o, gate, up": 2048, "down": 11_008}


def errors(inputs: int, *, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Root-mean-square and largest error of each accumulator, relative to the results' root mean square."""
    draw = np.random.default_rng(seed)
    hidden = draw.standard_normal((ROWS, inputs)).astype(np.float16)
    weights = (0.02 * draw.standard_normal((inputs, OUTPUTS))).astype(np.float16)
    exact = hidden.astype(np.float64) @ weights.astype(np.float64)
    size = np.sqrt(np.mean(exact**2))
    found = {}
    for name, kind in (("float32", np.float32), ("float16", np.float16)):
        total = np.zeros((ROWS, OUTPUTS), kind)
        for position in range(inputs):  # a fused multiply-add rounds once, the product itself is exact in float32
            product = hidden[:, position, None].astype(np.float32) * weights[position].astype(np.float32)
            total = (total.astype(np.float32) + product).astype(kind)
        error = np.abs(total.astype(np.float16).astype(np.float64) - exact) / size
        found[name] = (float(np.sqrt(np.mean(error**2))), float(error.max()))
    return found


def main() -> None:
    print("| product | inputs | accumulator | error, r.m.s. | largest |\n|---|---|---|---|---|")
    for name, inputs in INPUTS.items():
        for accumulator, (typical, largest) in errors(inputs).items():
            print(f"| {name} | {inputs:,} | {accumulator} | {typical:.1e} | {largest:.1e} |")


if __name__ == "__main__":
    main()
