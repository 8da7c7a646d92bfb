"""All work on single rows, as one function on a batch of rows: mapping, repair, and the rules that compare no rows.

Stage 1 calls `convert_and_judge` for one batch after another, in several processes if it is told to. `convert_table`
does the same from table to table. So `datasets` can run it in several processes, and Ray Data on several machines.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from itertools import islice
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

import pyarrow as pa

from fintune_kit.conversations import Conversation
from fintune_kit.data.convert.batches import Batch, Converted, convert_batch
from fintune_kit.data.convert.columns import check_mapping
from fintune_kit.data.corpus import Findings, row_json
from fintune_kit.data.read.class_labels import names_in_metadata, with_names
from fintune_kit.data.read.lines import Row
from fintune_kit.data.read.table_rows import python_rows
from fintune_kit.data.rules import quality
from fintune_kit.errors import UserError

ROW_RULES: dict[str, Callable[[Conversation], str | None]] = {
    "missing_or_empty": quality.missing_or_empty,
    "answer_equals_prompt": quality.answer_equals_prompt,
    "refusal": quality.refusal,
}
"""The rules that look at one conversation only, in their order."""
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int32())])
TABLE = pa.schema([("messages", pa.list_(_MESSAGE))] + [
    (name, pa.string()) for name in ("task_type", "source", "origin", "conversation_id", "row_id", "rule", "detail")
])  # fmt: skip
"""The columns that `convert_table` gives."""


def convert_and_judge(
    batch: Batch, *, mapping: Mapping[str, str] | None = None, system_prompt: str | None = None
) -> Converted:
    """The conversations of a batch with the findings of `ROW_RULES`; arguments as for `convert_batch`."""
    converted = convert_batch(batch, mapping=mapping, system_prompt=system_prompt)
    conversations = converted.corpus.conversations
    for rule, judge in ROW_RULES.items():
        found = {index: judge(conversation) for index, conversation in enumerate(conversations)}
        converted.corpus.row_findings[rule] = {index: said for index, said in found.items() if said is not None}
    return converted


@contextmanager
def batch_converter(
    processes: int, *, mapping: Mapping[str, str] | None, system_prompt: str | None
) -> Iterator[Callable[[Iterable[Batch]], Iterator[Converted]]]:
    """A function that converts batches in so many processes, and gives the results in the order of the batches.

    Raises:
        UserError: `processes` is below 1, or one of the processes was ended from outside.
    """
    if processes < 1:
        raise UserError(f"processes is {processes}; expected 1 or more: leave it out to take one")
    convert = partial(convert_and_judge, mapping=mapping, system_prompt=system_prompt)
    if processes == 1:
        yield partial(map, convert)
        return
    spawn = get_context("spawn")  # a fork would copy held locks
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_obey_parent) as pool:
        try:
            yield partial(_in_order, pool, convert, ahead=2 * processes)
        except BrokenProcessPool as error:
            raise UserError(
                f"one of {processes} processes that convert rows was ended, expected all to finish: memory may have "
                f"run out, so take fewer processes"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _obey_parent() -> None:
    """Lets a process of the pool end when its parent is killed, and leaves Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "this is not a process of a pool"
    parent.join()
    os._exit(1)


def _in_order(
    pool: ProcessPoolExecutor, convert: Callable[[Batch], Converted], batches: Iterable[Batch], *, ahead: int
) -> Iterator[Converted]:
    """As `map`. No more than `ahead` batches wait, so the rows of a large file are never all in memory."""
    remaining = iter(batches)
    waiting: deque[Future[Converted]] = deque(pool.submit(convert, batch) for batch in islice(remaining, ahead))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(convert, batch) for batch in islice(remaining, 1))


def convert_table(
    table: pa.Table,
    *,
    source: str = "table",
    mapping: Mapping[str, str] | None = None,
    system_prompt: str | None = None,
) -> pa.Table:
    """Rows in any known layout become conversations: a row for each row, in the same order.

        question         answer                 messages                              row_id      rule
        "What is EBIT?"  "Earnings ..."     ->  [{user, What ...}, {assistant, ...}]  "table#5f"
        "What is EBIT?"  "I cannot answer"  ->  [{user, What ...}, {assistant, ...}]  "table#91"  "refusal"
        "What is EBIT?"  null               ->  null                                  "table#03"  "missing_or_empty"

    Each row is treated alone, so any division of a dataset into batches gives the same rows, in any process:

        dataset.with_format("arrow").map(convert_table, batched=True, num_proc=8, remove_columns=dataset.column_names)
        ray_dataset.map_batches(convert_table, batch_format="pyarrow")

    The rows without a `rule`, written as Parquet, are a source of stage 1, which applies the other rules.

    Args:
        table: a column for each part of a row, as `convert.columns` lists them. A column `row_id` names the rows;
            without one, a hash of the row does.
        source: the name of the dataset.
        mapping: role to column, for columns that are not recognised.
        system_prompt: added where a row has none.

    Returns:
        The columns of `TABLE`. `rule` and `detail` say why a row must not be learned, and are null where it may be.

    Raises:
        UserError: `mapping` names an unknown role.
    """
    check_mapping(mapping)
    names = names_in_metadata(table.schema.metadata)
    rows = [with_names(values, names) for values in python_rows(table)]
    ids = [str(row.pop("row_id")) if row.get("row_id") is not None else f"{source}#{_hash(row)}" for row in rows]
    batch = Batch(file=source, source=source, rows=[Row(i, row) for i, row in zip(ids, rows, strict=True)], row_ids=ids)
    by_id = _table_rows(convert_and_judge(batch, mapping=mapping, system_prompt=system_prompt))
    return pa.Table.from_pylist([by_id[row_id] for row_id in ids], schema=TABLE)


def _hash(row: Mapping[str, Any]) -> str:
    return blake2b(row_json(row).encode(), digest_size=16).hexdigest()


def _table_rows(converted: Converted) -> dict[str, dict[str, Any]]:
    """The rows of `convert_table` by row id. Rows that are equal have one hash, and one result."""
    corpus = converted.corpus
    first: Findings = {}
    rule_of: dict[int, str] = {}
    for rule, findings in corpus.row_findings.items():
        rule_of = dict.fromkeys(findings, rule) | rule_of
        first = findings | first
    rows = {
        refusal.row_id: {name: getattr(refusal, name) for name in TABLE.names if hasattr(refusal, name)}
        for refusal in corpus.unconverted
    }
    for index, (conversation, origin) in enumerate(zip(corpus.conversations, corpus.origins, strict=True)):
        own = {name: getattr(conversation, name) for name in TABLE.names if hasattr(conversation, name)}
        judged = {"origin": origin, "rule": rule_of.get(index), "detail": first.get(index)}
        rows[conversation.row_id] = own | judged
    return rows
