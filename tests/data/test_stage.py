"""The stage as a user meets it: files in, a folder out, and an account of every row."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import find_fault, read_conversations
from fintune_kit.data.report import ten_refused
from fintune_kit.data.rules.words import words_of
from fintune_kit.data.stage import Settings, prepare, prepare_conversations, recipe_sources
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.recipes import p100, smoke
from fintune_kit.workspace import Workspace, check_files, read_manifest

TOPICS = ["dividend", "mortgage", "bond", "tax", "pension", "loan", "budget", "stock", "insurance", "inflation"]


def convert(
    sources: list[str] | list[Path],
    out: Path,
    *,
    encoder: ChatEncoder | None = None,
    excluded: Any = (),
    **settings: Any,
) -> dict[str, Any]:
    given = {"examples": 1000, "validation_share": 0.1, "seed": 7, "max_length": 2048, **settings}
    return prepare_conversations(
        sources=[str(source) for source in sources],
        out=out,
        settings=Settings(**given),
        encoder=encoder,
        excluded=excluded,
        announce=str,
    )


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def finance_rows(count: int) -> list[dict[str, str]]:
    return [
        {"instruction": f"What is the {TOPICS[n % 10]} of case {n * 7919 % 1000:03}?", "output": f"It is {n} per cent."}
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "conversations"
    convert(["sample"], out, examples=400, validation_share=0.2)
    return out


def test_rows_in_are_rows_kept_and_rows_refused(sample: Path):
    report = json.loads((sample / "report.json").read_text())
    kept, refused = rows_of(sample, "train") + rows_of(sample, "validation"), rows_of(sample, "rejected")
    assert report["rows_read"] == 563 == len(kept) + len(refused)
    assert len(kept) == 400
    assert len({row["row_id"] for row in kept + refused}) == 563
    assert report["funnel"][-1]["left"] == 400
    assert sum(step["refused"] for step in report["funnel"]) == len(refused)
    for table in ("by_task_type", "by_source", "by_origin"):
        assert sum(entry["read"] for entry in report[table].values()) == 563
        assert sum(entry["kept"] for entry in report[table].values()) == 400


def test_the_planted_defects_of_the_sample_are_refused_by_the_rule_that_names_them(sample: Path):
    rules = {json.loads(row["row"])["Unnamed: 0"]: row["rule"] for row in rows_of(sample, "rejected")}
    planted = {
        "missing_or_empty": {127, 348, 456},
        "exact_duplicate": {287, 78, 550, 559},
        "near_duplicate": {69, 436, 469, 555},
        "conflicting_answers": {151, 246, 196, 433, 215, 429},
        "answer_equals_prompt": {81, 212},
        "refusal": {39, 204},
        "cut_off": {424, 532},
        "not_finance": {6, 12, 99, 114, 273, 286, 318, 364, 396, 431, 442, 557},
    }
    for rule, numbers in planted.items():
        assert {int(number) for number, found in rules.items() if found == rule} == numbers, rule


def test_the_over_long_row_is_refused_with_its_length(tmp_path: Path, qwen_tokenizer: Path):
    convert(["sample"], tmp_path / "out", encoder=ChatEncoder.load(qwen_tokenizer))
    (long,) = [row for row in rows_of(tmp_path / "out", "rejected") if row["rule"] == "over_length"]
    assert long["row_id"] == "sample#8"
    assert long["detail"].endswith("tokens, expected at most 2,048")


def test_what_is_kept_is_sound_and_repaired(sample: Path):
    kept = rows_of(sample, "train") + rows_of(sample, "validation")
    assert [find_fault(row["messages"]) for row in kept] == [None] * 400
    text = "\n".join(message["content"] for row in kept for message in row["messages"])
    assert "&amp;" not in text
    assert "\u200b" not in text
    assert any(len(row["messages"]) > 3 for row in kept), "no history was parsed"


def test_no_conversation_and_no_twin_stands_on_both_sides(sample: Path):
    sides = [rows_of(sample, name) for name in ("train", "validation")]
    assert min(map(len, sides)) >= 60
    for column in ("conversation_id", "row_id"):
        assert not {row[column] for row in sides[0]} & {row[column] for row in sides[1]}
    keys = [set(words_of([row["messages"][-2]["content"] for row in side]).keys().tolist()) for side in sides]
    assert not keys[0] & keys[1]


def test_the_folder_is_a_finished_stage(sample: Path):
    manifest = read_manifest(sample, stage="conversations")
    check_files(sample, manifest, stage="conversations")
    assert manifest["counts"]["rows_read"] == 563
    assert list(manifest["inputs"]) == ["sample"]


def test_the_same_inputs_and_seed_give_the_same_bytes_and_another_seed_does_not(tmp_path: Path):
    source = written(tmp_path / "rows.jsonl", finance_rows(200))
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        convert([source], tmp_path / name, examples=100, seed=seed)
    for file in ("train.parquet", "validation.parquet", "rejected.parquet", "report.json", "manifest.json"):
        one, again = (tmp_path / name / file for name in ("one", "again"))
        assert one.read_bytes() == again.read_bytes(), file
    assert (tmp_path / "one/train.parquet").read_bytes() != (tmp_path / "other/train.parquet").read_bytes()


def test_excluded_texts_are_not_learned(tmp_path: Path):
    rows = finance_rows(50)
    held = written(tmp_path / "held.jsonl", [{"text": rows[3]["instruction"]}])
    report = convert([written(tmp_path / "rows.jsonl", rows)], tmp_path / "out", excluded=[held])
    assert report["contamination"]["excluded"] == {"held.jsonl": {"texts": 1, "texts_found": 1, "rows_refused": 1}}
    kept = rows_of(tmp_path / "out", "train") + rows_of(tmp_path / "out", "validation")
    assert rows[3]["instruction"] not in {row["messages"][0]["content"] for row in kept}


def test_several_sources_and_layouts_are_announced_and_one_damaged_file_costs_itself(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    written(folder / "a.jsonl", [*finance_rows(5), {"foo": 1}])
    (folder / "b.csv").write_text("question,answer\nWhat is a bond?,A loan.\n")
    (folder / "c.json").write_text("broken")
    said: list[str] = []
    prepare_conversations(
        sources=[str(folder)],
        out=tmp_path / "out",
        settings=Settings(examples=9, validation_share=0.1, seed=1, max_length=99, finance_only=False),
        encoder=None,
        announce=said.append,
    )
    assert said[:2] == ["set/a.jsonl: read as Alpaca: 5 of 6 rows", "set/b.csv: read as question/answer: 1 of 1 rows"]
    assert said[2].startswith("set/c.json: not read:")
    (unmapped,) = rows_of(tmp_path / "out", "rejected")
    assert (unmapped["rule"], unmapped["detail"]) == ("unmapped", "line 6: the columns fit no known layout")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"foo": "What?", "bar": "A fund."}\n', r"'foo', 'bar' fit no known layout; expected .* --map user=foo"),
        ('{"foo": 1, "bar": 2}\n', r"fit no known layout; expected .*: add a column of questions"),
        ('{"question": 1, "query": 1, "answer": 1}\n', "fit question/answer and query/answer"),
        ("", "is empty; expected rows"),
        ('{"question": "a", "answer": ""}\n', "none of the 1 rows .* became a conversation"),
    ],
)
def test_a_source_without_a_conversation_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, content: str, message: str
):
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        convert([tmp_path / "rows.jsonl"], tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("out*"))


def test_what_is_not_used_is_announced_and_reported(tmp_path: Path):
    rows = [{**row, "source": "web", "empty": None} for row in finance_rows(4)]
    said: list[str] = []
    prepare_conversations(
        sources=[str(written(tmp_path / "rows.jsonl", rows))],
        out=tmp_path / "out",
        settings=Settings(examples=9, validation_share=0.1, seed=1, max_length=99),
        encoder=None,
        announce=said.append,
    )
    assert said == ["rows.jsonl: read as Alpaca: 4 of 4 rows; not used: column 'source'"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["files"][0]["unused_columns"] == {"source": 4}


def test_a_file_that_is_no_data_beside_the_data_does_no_harm(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    written(folder / "train.jsonl", finance_rows(5))
    (folder / "metadata.json").write_text('{"name": "finance-qa", "version": "1.0"}')
    (folder / "dataset_infos.json").write_text('{"default": {"splits": {"train": 5}}}')
    report = convert([folder], tmp_path / "out")
    assert (report["rows_kept"], report["rows_refused"]) == (5, 1)
    faults = {file["name"]: file["fault"] for file in report["files"]}
    assert faults["set/train.jsonl"] is None
    assert "'name', 'version' fit no known layout" in faults["set/metadata.json"]
    assert "expected a list of objects" in faults["set/dataset_infos.json"]


def test_a_context_turn_stays_context_on_disk(tmp_path: Path):
    turns = [
        {"role": "user", "content": "What is a bond?"},
        {"role": "assistant", "content": "A loan.", "weight": 0},
        {"role": "user", "content": "To whom?"},
        {"role": "assistant", "content": "To a state."},
    ]
    convert([written(tmp_path / "rows.jsonl", [{"messages": turns}, *finance_rows(3)])], tmp_path / "out")
    kept = [row for split in ("train", "validation") for row in read_conversations(tmp_path / "out", split)]
    assert turns in [row.messages for row in kept]
    assert [row.messages for row in kept if any("weight" in message for message in row.messages)] == [turns]


POEMS = [{"instruction": f"Write a poem about river number {n}.", "output": f"Water {n}."} for n in range(9)]


def test_a_users_own_rows_on_other_subjects_are_kept_unless_finance_only_is_asked_for(tmp_path: Path):
    source = written(tmp_path / "rows.jsonl", POEMS)
    assert convert([source], tmp_path / "out")["rows_kept"] == 9
    with pytest.raises(UserError, match=r"the rule not_finance refused 9 .* give --data\.no-finance-only"):
        convert([source], tmp_path / "all", finance_only="all")


@pytest.mark.parametrize(("asked", "recipe_says", "scope"), [
    (None, True, "mixed"), (None, False, "none"), (True, False, "all"), (False, True, "none"),
])  # fmt: skip
def test_finance_only_is_the_recipes_unless_it_is_given(
    tmp_path: Path, asked: bool | None, recipe_says: bool, scope: str
):
    recipe = replace(smoke(), data=replace(smoke().data, finance_only=recipe_says))
    source = str(written(tmp_path / "rows.jsonl", finance_rows(9)))
    report = prepare(recipe, Workspace(tmp_path), sources=[source], finance_only=asked, announce=str)
    assert report["settings"]["finance_only"] == scope


def test_the_report_shows_what_a_user_looks_for(sample: Path):
    report = json.loads((sample / "report.json").read_text())
    refused = {step["rule"]: step["refused"] for step in report["funnel"] if step["refused"]}
    assert {rule: len(rows) for rule, rows in report["rule_examples"].items()} == {
        rule: min(3, count) for rule, count in refused.items()
    }
    newswire = report["by_origin"]["fintune-kit/sample-newswire"]
    assert newswire["share_kept"] == round(newswire["kept"] / newswire["read"], 4)
    assert len(report["rows_to_look_at"]) == 10
    shown = report["rows_to_look_at"][0]
    assert shown["row"]["user_prompt"] in shown["messages"][-2]["content"]
    assert {row["split"] for row in report["rows_to_look_at"]} <= {"train", "validation"}
    assert report["tokens"] is None, "lengths are measured with an encoder only"


def test_token_lengths_are_those_of_the_encoder(tmp_path: Path, qwen_tokenizer: Path):
    encoder = ChatEncoder.load(qwen_tokenizer)
    report = convert([written(tmp_path / "rows.jsonl", finance_rows(30))], tmp_path / "out", encoder=encoder)
    lengths = encoder.lengths([row.messages for row in read_conversations(tmp_path / "out", "train")])
    assert report["tokens"]["measured"] == len(lengths) == 27
    assert report["tokens"]["p100"] == max(lengths)


def test_ten_refused_rows_are_of_ten_rules_where_there_are_ten(sample: Path):
    shown = ten_refused(sample)
    rules = {row["rule"] for row in rows_of(sample, "rejected")}
    assert len(shown) == 10
    assert {row["rule"] for row in shown} == rules
    assert len({row["row_id"] for row in shown}) == 10


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_refused_rows_are_the_same_however_many_are_written_at_once(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
):
    monkeypatch.setattr("fintune_kit.data.stage.MAX_REFUSALS_AT_ONCE", part)
    convert(["sample"], tmp_path / "out", examples=400, validation_share=0.2)
    file = pq.ParquetFile(tmp_path / "out" / "rejected.parquet")
    assert file.num_row_groups == -(-163 // part), "the rows were not written in parts"
    assert file.read().to_pylist() == rows_of(sample, "rejected")


def test_where_no_row_is_refused_the_file_of_refused_rows_has_its_columns(tmp_path: Path):
    report = convert([written(tmp_path / "rows.jsonl", finance_rows(5))], tmp_path / "out")
    assert report["rows_refused"] == 0
    table = pq.read_table(tmp_path / "out" / "rejected.parquet")
    assert (table.num_rows, table.column_names) == (0, ["row_id", "source", "row", "rule", "detail"])
    assert ten_refused(tmp_path / "out") == []


def test_a_missing_source_is_a_missing_input(tmp_path: Path):
    with pytest.raises(MissingInputError, match="was not found"):
        convert([tmp_path / "no.parquet"], tmp_path / "out")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.just("\ud800")
    | st.just("x" * 5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
TURN = st.fixed_dictionaries({}, optional={k: JSON | st.sampled_from(["user", "gpt", "system"]) for k in
                                           ("role", "from", "content", "value")})  # fmt: skip
COLUMNS = ("user_prompt", "answer", "system_prompt", "task_type", "dataset", "conversation_id", "inputs")
SUJET = st.fixed_dictionaries(
    dict.fromkeys(COLUMNS[:2], JSON),
    optional={name: JSON | st.just("qa_conversation") for name in COLUMNS[2:]},
)
ANY_ROW = st.one_of(
    SUJET,
    st.fixed_dictionaries({"instruction": JSON, "output": JSON}, optional={"input": JSON, "system": JSON}),
    st.fixed_dictionaries({"messages": st.lists(TURN, max_size=4) | JSON}),
    st.fixed_dictionaries({"text": JSON | st.just("<|im_start|>user\nx<|im_end|>")}, optional={"label": JSON}),
    st.dictionaries(st.text(max_size=8), JSON, max_size=4),
    JSON,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ANY_ROW, max_size=8), tail=st.binary(max_size=30))
def test_any_json_value_in_any_column_is_kept_or_refused(tmp_path: Path, rows: list[Any], tail: bytes):
    lines = [json.dumps(row) for row in (*finance_rows(3), *rows)]
    (tmp_path / "fuzz.jsonl").write_bytes("\n".join(lines).encode() + b"\n" + tail)
    report = convert([tmp_path / "fuzz.jsonl"], tmp_path / "out", finance_only=False)
    kept = rows_of(tmp_path / "out", "train") + rows_of(tmp_path / "out", "validation")
    refused = rows_of(tmp_path / "out", "rejected")
    assert report["rows_read"] == len(kept) + len(refused) >= 3 + len(rows)
    assert [find_fault(row["messages"]) for row in kept] == [None] * len(kept)
    assert Counter(row["rule"] for row in refused) == {
        step["rule"]: step["refused"] for step in report["funnel"] if step["refused"]
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300),
    name=st.sampled_from(["f.csv", "f.tsv", "f.json", "f.jsonl", "f.parquet", "f.csv.gz"]),
)
def test_any_bytes_in_any_format_never_crash_the_stage(tmp_path: Path, content: bytes, name: str):
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    written(folder / "a.jsonl", finance_rows(3))
    (folder / name).write_bytes(b"question,answer\n" * name.startswith("f.c") + content)
    try:
        report = convert([folder], tmp_path / "out")
    except UserError as error:
        assert "fit" in str(error)  # noqa: PT017 - any other error is a crash
    else:
        assert report["rows_read"] == report["rows_kept"] + report["rows_refused"]
    (folder / name).unlink()


def test_a_recipe_fills_what_is_not_given(tmp_path: Path):
    recipe, workspace = replace(smoke(), data=replace(smoke().data, transactions=0)), Workspace(tmp_path)
    report = prepare(recipe, workspace, announce=str)
    assert report == json.loads((workspace.existing("conversations") / "report.json").read_text())
    assert {name: report["settings"][name] for name in ("examples", "seed", "max_length")} == {
        "examples": 640,
        "seed": recipe.seed,
        "max_length": 512,
    }
    source = written(tmp_path / "rows.jsonl", finance_rows(20))
    own = prepare(recipe, workspace, sources=[str(source)], out=tmp_path / "own", examples=7, seed=3, announce=str)
    assert (own["rows_read"], own["rows_kept"], own["settings"]["seed"]) == (20, 7, 3)
    assert (tmp_path / "own" / "train.parquet").is_file()


def test_a_recipe_without_transactions_writes_nothing(tmp_path: Path):
    assert recipe_sources(p100(), Workspace(tmp_path)) == ("sujet-ai/Sujet-Finance-Instruct-177k",)
    assert not list(tmp_path.iterdir())


def test_transactions_are_finished_stages_that_say_what_wrote_them(tmp_path: Path):
    workspace = Workspace(tmp_path)
    sources = recipe_sources(smoke(), workspace)
    assert sources == ("sample", str(tmp_path / "transactions" / "train.jsonl"))
    for stage in ("statements", "transactions"):
        folder = workspace.existing(stage)
        manifest = read_manifest(folder, stage=stage)
        check_files(folder, manifest, stage=stage)
        assert "notebooks/01_data.ipynb" in manifest["written_by"]
        assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert read_manifest(tmp_path / "statements", stage="statements")["counts"]["transactions"] == 100


def test_the_same_recipe_writes_the_same_bytes_over_what_is_there(tmp_path: Path):
    recipe = replace(smoke(), data=replace(smoke().data, transactions=40))
    for root in ("a", "b", "b"):
        recipe_sources(recipe, Workspace(tmp_path / root))
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 6
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
