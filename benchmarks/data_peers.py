"""The same faulty rows in TRL, axolotl and LLaMA-Factory, each with its own converter, beside ours.

    pip install --no-deps --target PEERS axolotl==0.19.0 llamafactory==0.9.5
    pip install --target PEERS colorama            (and whatever else an import then names)
    PYTHONPATH=PEERS python benchmarks/data_peers.py --out results/data-peers

Each row is converted alone. `refused`: the converter leaves it out or empties it; `crashed`: it raises, and a run ends
there; `altered`: it goes on, but not with the row's own turns; `accepted`: it goes on as it stands. A converter that
cannot be imported is named with the reason. Rules beyond conversion (duplicates, contamination) have no counterpart.
"""

import argparse
import copy
import importlib.metadata
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from fintune_kit.conversations import find_fault
from fintune_kit.data.convert.columns import ColumnLayout, map_row, recognise
from fintune_kit.data.convert.repair import repair
from fintune_kit.data.convert.turns import RowError

Turns = list[tuple[Any, Any]]
Converter = Callable[[dict[str, Any]], Turns | None]

ANSWER_END = "<|im_end|>"
QUESTION, ANSWER = {"from": "human", "value": "What is an ETF?"}, {"from": "gpt", "value": "A fund."}
ROWS: dict[str, list[Any] | Any] = {
    "a sound row": [QUESTION, ANSWER],
    "an empty answer": [QUESTION, {"from": "gpt", "value": ""}],
    "an answer of blanks": [QUESTION, {"from": "gpt", "value": "  \n"}],
    "an answer that is null": [QUESTION, {"from": "gpt", "value": None}],
    "an answer that is a number": [QUESTION, {"from": "gpt", "value": 42}],
    "an unknown role": [QUESTION, {"from": "narrator", "value": "A fund."}],
    "another alias of a role (assistant)": [QUESTION, {"from": "assistant", "value": "A fund."}],
    "two users in a row": [QUESTION, QUESTION, ANSWER],
    "a question without an answer": [QUESTION, ANSWER, QUESTION],
    "the assistant begins": [ANSWER, QUESTION, ANSWER],
    "a system turn in the middle": [QUESTION, ANSWER, {"from": "system", "value": "Be brief."}, QUESTION, ANSWER],
    "no turns": [],
    "a text instead of turns": "What is an ETF? A fund.",
    "a turn without content": [QUESTION, {"from": "gpt"}],
    "mojibake": [QUESTION, {"from": "gpt", "value": "It costs Â£5 â€“ cheap."}],
    "an HTML entity": [QUESTION, {"from": "gpt", "value": "S&amp;P 500 funds are common."}],
    "a control token in the text": [QUESTION, {"from": "gpt", "value": "A fund.<|im_end|>\n<|im_start|>user\nHi"}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="results, without suffix: .json and .md are written")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    results: dict[str, Any] = {}
    for name, load in {"fintune-kit": ours, "trl": trl, "axolotl": axolotl, "llamafactory": llamafactory}.items():
        try:
            convert = load()
        except Exception as error:
            results[name] = {"not installed here": f"{type(error).__name__}: {error}"[:200]}
            continue
        results[name] = {
            "version": importlib.metadata.version(name),
            "rows": {kind: judge(convert, turns) for kind, turns in ROWS.items()},
        }
    for kind, found in results["fintune-kit"]["rows"].items():
        results["fintune-kit"]["rows"][kind] = "repaired" if found == "altered" else found
    text = as_table(results)
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def judge(convert: Converter, turns: Any) -> str:
    try:
        found = convert({"conversations": copy.deepcopy(turns)})
    except RowError as error:
        return f"refused ({error.rule})"
    except Exception as error:
        return f"crashed ({type(error).__name__})"
    if not found:
        return "refused"
    roles = {"human": "user", "gpt": "assistant"}
    own = [
        (roles.get(turn.get("from"), turn.get("from")), turn.get("value")) for turn in turns if isinstance(turn, dict)
    ]
    return "accepted" if found == own else "altered"


def ours() -> Converter:
    def convert(row: dict[str, Any]) -> Turns:
        layout = recognise(row)
        assert isinstance(layout, ColumnLayout)
        messages = map_row(layout, row).messages
        if fault := find_fault(messages):
            raise RowError("missing_or_empty" if fault.endswith("is empty") else "roles", fault)
        return [(message["role"], repair(message["content"]).text) for message in messages]

    return convert


def trl() -> Converter:
    """`SFTTrainer` maps a dataset with this function before it applies the chat template.

    It keeps `human` and `gpt` as roles, which no template knows, so its rows are given as `user` and `assistant`.
    """
    from trl.data_utils import maybe_convert_to_chatml

    def convert(row: dict[str, Any]) -> Turns:
        for turn in row["conversations"] if isinstance(row["conversations"], list) else ():
            turn["from"] = {"human": "user", "gpt": "assistant"}.get(turn["from"], turn["from"])
        return [(turn.get("role"), turn.get("content")) for turn in maybe_convert_to_chatml(row)["messages"]]

    return convert


def axolotl() -> Converter:
    """`type: chat_template` with the fields of ShareGPT, as its documentation sets them."""
    from axolotl.prompt_strategies.chat_template import ChatTemplatePrompter, ChatTemplateStrategy

    tokenizer = SimpleNamespace(encode=lambda *_, **__: [0])
    tokenizer.eos_token = ANSWER_END  # all of it that the strategy looks at
    template = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    prompter = ChatTemplatePrompter(
        tokenizer,
        chat_template=template,
        message_property_mappings={"role": "from", "content": "value"},
        field_messages="conversations",
    )
    strategy = ChatTemplateStrategy(prompter, tokenizer, train_on_inputs=False, sequence_len=2048)

    def convert(row: dict[str, Any]) -> Turns:
        return [(turn.get("role"), turn.get("content")) for turn in strategy.get_conversation_thread(row)]

    return convert


def llamafactory() -> Converter:
    """`formatting: sharegpt` with its default tags; a row that it empties is dropped by its preprocessing."""
    import llamafactory

    package = ModuleType("llamafactory.data")  # its own __init__ imports audio and video, which converting needs not
    package.__path__ = [str(Path(llamafactory.__file__).parent / "data")]
    sys.modules.setdefault("llamafactory.data", package)
    from llamafactory.data.converter import SharegptDatasetConverter
    from llamafactory.data.parser import DatasetAttr

    attributes = DatasetAttr("file", "rows", formatting="sharegpt")
    converter = SharegptDatasetConverter(attributes, None)

    def convert(row: dict[str, Any]) -> Turns | None:
        found = converter(row)
        if not found["_prompt"] or not found["_response"]:
            return None
        system = [("system", found["_system"])] if found["_system"] else []
        return system + [(turn["role"], turn["content"]) for turn in found["_prompt"] + found["_response"]]

    return convert


def as_table(results: dict[str, Any]) -> str:
    names = list(results)
    shown = [f"{name} {results[name].get('version', '(not here)')}" for name in names]
    lines = [f"| row (ShareGPT) | {' | '.join(shown)} |", "|---" * (len(names) + 1) + "|"]
    for kind in ROWS:
        cells = [results[name].get("rows", {}).get(kind, "-") for name in names]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    missing = [f"{name}: {r['not installed here']}" for name, r in results.items() if "not installed here" in r]
    return "\n".join([*lines, "", *missing]).rstrip()


if __name__ == "__main__":
    main()
