"""Writes Ollama's Modelfile for a GGUF file: the same prompt as in training, and greedy answers as in the evaluation.

ollama create my-finance-model -f Modelfile
"""

import re
from pathlib import Path
from typing import Any

_SYSTEM = re.compile(r"<\|im_start\|>system\n(?P<text>.*?)<\|im_end\|>\n", re.DOTALL)
_ANSWER = "<|im_start|>assistant\n"
_TEMPLATE = """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{- range .Messages }}{{- if ne .Role "system" }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}{{- end }}<|im_start|>assistant
"""


def write_modelfile(folder: Path, *, file: str, tokenizer: Any) -> None:
    """Writes `Modelfile` for a GGUF file in the same folder.

    The default system message (Qwen2.5) and the empty think block (Qwen3) come from the tokenizer's own template.
    """
    messages = [{"role": "user", "content": "?"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    system = _SYSTEM.search(prompt)
    head = prompt.rpartition(_ANSWER)[2]
    lines = [
        f"FROM ./{file}",
        f'TEMPLATE """{_TEMPLATE}{head}"""',
        *([f'SYSTEM """{system["text"]}"""'] if system else []),
        'PARAMETER stop "<|im_end|>"',
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1.0",
    ]
    (folder / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
