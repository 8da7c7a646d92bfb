"""Step 8: Unsloth's own loader and packing on the same examples, where it is installed. It has never run.

Its wheels need Triton and xformers, which the bundle has no room for: on a bare machine this step is skipped.
"""

import statistics
import tempfile
import time
from typing import Any

from benchmarks.card.world import Result, Setting, make_random_base, need, peak_gib, run_step

STEPS = 4
ROWS_A_STEP = 4


def measure(setting: Setting) -> Result:
    need("unsloth", "trl", "datasets", "bitsandbytes")
    from unsloth import FastLanguageModel  # isort: skip - before the libraries that it changes
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from fintune_kit.recipes import PROJECTIONS

    class Watch(TrainerCallback):
        """Seconds of each step."""

        seconds: list[float] = []  # noqa: RUF012 - of the one run

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            if "loss" in logs:
                self.seconds.append(time.perf_counter() - self.began)

    base = make_random_base(setting, dtype="bfloat16")
    model, tokenizer = FastLanguageModel.from_pretrained(str(base), max_seq_length=2048, load_in_4bit=True)
    model = FastLanguageModel.get_peft_model(
        model, r=64, lora_alpha=128, lora_dropout=0.05, target_modules=list(PROJECTIONS)
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            packing=True,
            max_length=2048,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=ROWS_A_STEP,
            max_steps=STEPS,
            optim="paged_adamw_8bit",
            logging_steps=1,
            report_to="none",
        )
        rows = Dataset.from_parquet(str(setting.bundle / "examples.parquet"))  # type: ignore[operator]
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[Watch()]
        )
        packed = trainer.train_dataset
        trainer.train()
    a_row = sum(len(lengths) for lengths in packed["seq_lengths"]) / len(packed)
    typical = statistics.median(Watch.seconds[1:])
    return {"examples_per_second": ROWS_A_STEP * a_row / typical, "seconds_a_step": typical, "peak_gib": peak_gib()}


def line(found: Result) -> str:
    return f"{found['examples_per_second']:.3g} examples a second, peak {found['peak_gib']} GiB"


if __name__ == "__main__":
    run_step("unsloth", measure, line)
