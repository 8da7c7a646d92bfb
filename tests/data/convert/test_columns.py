"""Every layout that is promised becomes the same messages, and what fits none or several says so."""

import math
from collections import Counter
from typing import Any

import pytest

from fintune_kit.data.convert.cells import RowError
from fintune_kit.data.convert.columns import ColumnLayout, check_mapping, map_row, recognise
from fintune_kit.errors import UserError

QUESTION_AND_ANSWER = [("user", "What is an ETF?"), ("assistant", "A fund.")]


def mapped(row: dict[str, Any], mapping: dict[str, str] | None = None, **options: Any) -> Any:
    layout = recognise(row, mapping)
    assert isinstance(layout, ColumnLayout), layout
    return map_row(layout, row, **options)


def turns(row: dict[str, Any], mapping: dict[str, str] | None = None, **options: Any) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in mapped(row, mapping, **options).messages]


@pytest.mark.parametrize(
    "row",
    [
        {"user_prompt": "What is an ETF?", "answer": "A fund.", "inputs": "What is an ETF? A"},
        {"instruction": "What is an ETF?", "input": "", "output": "A fund."},
        {"instruction": "What is an ETF?", "input": "", "output": "A fund.", "text": "### Instruction: ..."},
        {"instruction": "What is an ETF?", "output": "A fund."},
        {"instruction": "What is an ETF?", "response": "A fund.", "context": None},
        {"input": "What is an ETF?", "response": "A fund."},
        {"prompt": "What is an ETF?", "completion": "A fund."},
        {"prompt": [{"role": "user", "content": "What is an ETF?"}],
         "completion": [{"role": "assistant", "content": "A fund."}]},
        {"prompt": "What is an ETF?", "response": "A fund."},
        {"question": "What is an ETF?", "answer": "A fund."},
        {"query": "What is an ETF?", "answer": "A fund."},
        {"conversations": [{"from": "human", "value": "What is an ETF?"}, {"from": "gpt", "value": "A fund."}]},
        {"messages": [{"role": "user", "content": "What is an ETF?"}, {"role": "assistant", "content": "A fund."}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is an ETF?"}]},
                      {"role": "assistant", "content": "A fund."}]},
        {"messages": '[{"role": "user", "content": "What is an ETF?"}, {"role": "assistant", "content": "A fund."}]'},
        {"text": "<|im_start|>user\nWhat is an ETF?<|im_end|>\n<|im_start|>assistant\nA fund.<|im_end|>\n"},
        {"text": "What is an ETF?", "label": "A fund."},
        {"sentence": "What is an ETF?", "label": "A fund."},
        {"Question": "What is an ETF?", "ANSWER ": "A fund."},
        {"question": "What is an ETF?", "query": None, "answer": "A fund.", "messages": math.nan},
        {"instruction": "What is an ETF?", "input": "No Input.", "output": "A fund."},
        {"conversation": [{"from": "Human", "value": "What is an ETF?"}, {"from": "AI", "value": "A fund."}]},
        {"dialog": ["What is an ETF?", "A fund."]},
        {"messages": [{"role": None, "from": "human", "content": None, "value": "What is an ETF?"},
                      {"from": "gpt", "value": "A fund.", "role": None}]},
        {"messages": "[{'role': 'user', 'content': 'What is an ETF?'}, {'role': 'assistant', 'content': 'A fund.'}]"},
        {"messages": "[{'role': 'user', 'content': 'What is an ETF?'}\n {'role': 'assistant', 'content': 'A fund.'}]"},
        {"text": "### Human: What is an ETF?### Assistant: A fund."},
        {"text": "### Instruction:\nWhat is an ETF?\n\n### Input:\nNo input\n\n### Response:\nA fund."},
        {"text": "<s>[INST] What is an ETF? [/INST] A fund.</s>"},
        {"text": "<|user|>\nWhat is an ETF?</s>\n<|assistant|>\nA fund.</s>"},
        {"text": "<start_of_turn>user\nWhat is an ETF?<end_of_turn>\n<start_of_turn>model\nA fund.<end_of_turn>"},
        {"text": "What is an ETF?", "label": 2, "label_text": "A fund."},
    ],
    ids=lambda row: "/".join(row),
)  # fmt: skip
def test_a_layout_becomes_the_same_two_messages(row: dict[str, Any]):
    assert turns(row) == QUESTION_AND_ANSWER


def test_sujets_nine_columns():
    row = {
        "Unnamed: 0": 7,
        "inputs": "Be brief. What is an ETF? Answer:",
        "answer": "A fund.",
        "system_prompt": "Be brief.",
        "user_prompt": "What is an ETF?",
        "task_type": "qa",
        "dataset": "fiqa",
        "index_level": math.nan,
        "conversation_id": math.nan,
    }
    assert turns(row) == [("system", "Be brief."), *QUESTION_AND_ANSWER]
    assert (mapped(row).task_type, mapped(row).origin, mapped(row).conversation) == ("qa", "fiqa", None)
    assert mapped({**row, "conversation_id": 12.0}).conversation == "12"


def test_a_history_is_parsed_only_where_the_task_says_that_there_is_one():
    row = {"user_prompt": "User: a\nAssistant: b\nUser: c", "answer": "d", "task_type": "qa_conversation"}
    assert turns(row) == [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert mapped(row).history == "labelled turns"
    assert turns({**row, "task_type": "qa"})[0] == ("user", "User: a\nAssistant: b\nUser: c")


def test_a_context_follows_its_question():
    row = {"question": "How much?", "context": "It cost 5.", "answer": "5"}
    assert turns(row)[0] == ("user", "How much?\n\nIt cost 5.")
    assert mapped(row).task_type == "qa_with_context"


def test_the_default_system_prompt_is_added_only_where_there_is_none():
    row = {"question": "a", "answer": "b"}
    assert turns(row)[0] == ("user", "a")
    assert turns(row, system_prompt="Be kind.")[0] == ("system", "Be kind.")
    assert turns({"instruction": "a", "output": "b", "system": "Own."}, system_prompt="Be kind.")[0] == (
        "system",
        "Own.",
    )


def test_two_layouts_that_fit_and_none_are_told_apart():
    assert recognise({"question": 1, "query": 1, "answer": 1}) == "fit question/answer and query/answer"
    assert recognise({"foo": 1, "bar": 1}) == "fit no known layout"


def test_a_mapping_overrides_what_is_recognised():
    row = {"question": "x", "query": "What is an ETF?", "answer": "A fund.", "kind": "qa2"}
    assert turns(row, {"user": "query", "assistant": "answer"}) == QUESTION_AND_ANSWER
    plain = {"question": "a", "answer": "b", "kind": "tax", "thread": 4}
    extras = mapped(plain, {"task_type": "kind", "conversation_id": "thread"})
    assert (extras.task_type, extras.conversation) == ("tax", "4")


def test_a_mapping_to_an_unknown_role_is_a_mistake():
    with pytest.raises(UserError, match="--map names the role 'teacher'; expected one of user"):
        check_mapping({"teacher": "x"})


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"question": "a", "answer": None}, "missing_or_empty"),
        ({"question": "a", "answer": math.nan}, "missing_or_empty"),
        ({"question": " ", "answer": "b"}, "missing_or_empty"),
        ({"question": "a", "answer": ["b"]}, "not_text"),
        ({"text": "a", "label": 2}, "not_text"),
        ({"messages": "hello"}, "not_text"),
        ({"messages": []}, "not_text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "not_text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "roles"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [1]}]}, "roles"),
        ({"text": "stray <|im_start|>user\nx<|im_end|>"}, "roles"),
    ],
)
def test_a_row_that_does_not_fit_names_its_rule(row: dict[str, Any], rule: str):
    with pytest.raises(RowError) as found:
        mapped(row)
    assert found.value.rule == rule


def test_numbers_and_truth_values_are_written_out():
    assert turns({"question": 7, "answer": True}) == [("user", "7"), ("assistant", "true")]


def test_a_row_of_any_layout_may_name_its_own_task_and_conversation():
    row = {
        "messages": [{"role": "user", "content": "Categorize: RENT"}, {"role": "assistant", "content": "Housing"}],
        "task_type": "transaction_categorization",
        "conversation_id": 7,
    }
    mapped = map_row(recognise(row), row)
    assert (mapped.task_type, mapped.conversation) == ("transaction_categorization", "7")


def test_the_layout_that_reads_more_of_the_columns_is_taken():
    row = {"instruction": "Answer briefly.", "input": "What is an ETF?", "response": "A fund."}
    assert recognise(row).name == "instruction/response"
    assert turns(row) == [("user", "Answer briefly.\n\nWhat is an ETF?"), ("assistant", "A fund.")]


def test_a_layout_names_the_columns_that_it_reads():
    row = {"Instruction": "a", "output": "b", "source": "c", "task_type": "tax"}
    assert set(recognise(row).roles.values()) == {"Instruction", "output", "task_type"}


@pytest.mark.parametrize(
    "history",
    [
        [["What is a fund?", "A pool."], ["Of what?", "Of money."]],
        '[["What is a fund?", "A pool."], ["Of what?", "Of money."]]',
        [
            {"role": "user", "content": "What is a fund?"},
            {"role": "assistant", "content": "A pool."},
            {"role": "user", "content": "Of what?"},
            {"role": "assistant", "content": "Of money."},
        ],
    ],
    ids=["pairs", "text", "turns"],
)
def test_an_alpaca_history_is_read(history: Any):
    row = {"instruction": "What is an ETF?", "output": "A fund.", "history": history}
    assert turns(row) == [
        ("user", "What is a fund?"), ("assistant", "A pool."), ("user", "Of what?"), ("assistant", "Of money."),
        *QUESTION_AND_ANSWER,
    ]  # fmt: skip
    assert turns({**row, "history": []}) == QUESTION_AND_ANSWER


def test_the_text_before_the_first_mark_is_the_system_prompt():
    row = {"text": "Below is an instruction.\n\n### Instruction:\nWhat?\n\n### Input:\nFive.\n\n### Response:\nA fund."}
    assert turns(row) == [("system", "Below is an instruction."), ("user", "What?\n\nFive."), ("assistant", "A fund.")]


@pytest.mark.parametrize("label", [1, 1.0, "1", "1.0", "-1"])
def test_a_number_without_a_name_is_not_a_label(label: Any):
    with pytest.raises(RowError, match="is a number without a name"):
        mapped({"text": "Shares slump", "label": label})


def test_fields_of_turns_that_are_not_read_are_counted():
    unused: Counter[str] = Counter()
    row = {
        "messages": [
            {"role": "user", "content": "What is an ETF?", "name": None},
            {"role": "assistant", "content": "A fund.", "reasoning_content": "Let me think.", "tool_calls": []},
        ]
    }
    assert turns(row, unused=unused) == QUESTION_AND_ANSWER
    assert unused == {"reasoning_content": 1}


@pytest.mark.parametrize("answers", [["12 %", "12"], {"text": ["12 %", "12"], "answer_start": [7, 7]}, "12 %"])
def test_of_several_spellings_of_an_answer_the_first_is_read(answers: Any):
    row = {"context": "Sales rose 12 %.", "question": "By how much?", "answers": answers}
    assert turns(row) == [("user", "By how much?\n\nSales rose 12 %."), ("assistant", "12 %")]


@pytest.mark.parametrize("answers", [[], {"text": [], "answer_start": []}])
def test_a_question_that_has_no_answer_is_refused(answers: Any):
    with pytest.raises(RowError) as error:
        mapped({"context": "Sales rose.", "question": "By how much?", "answers": answers})
    assert error.value.rule == "missing_or_empty"


def test_an_answer_that_is_a_list_is_not_several_answers():
    with pytest.raises(RowError) as error:
        mapped({"question": "Which?", "answer": ["one", "two"]})
    assert error.value.rule == "not_text"
