"""The check before training passes on a right model, and catches each of the faults that are planted in turn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fintune_kit.chat.examples import IGNORE
from fintune_kit.errors import UserError
from fintune_kit.train import attention, batch, loss
from fintune_kit.train.blocks import linear, packed
from fintune_kit.train.machine import self_check
from fintune_kit.train.machine.self_check import compare, make_sure_of_packs, supervised_paths
from tests.train.machine.conftest import EXAMPLES, LENGTH


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_right_model_passes_in_every_precision(reader, pack, dtype):
    found = compare(reader(getattr(torch, dtype)), pack, dtype=dtype, device="cpu")
    assert found.holds, found.describe()


def test_the_model_is_as_before_and_the_random_numbers_too(reader, pack):
    model = reader().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    make_sure_of_packs(model, pack, dtype="float32", device="cpu")
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_examples_are_taken_out_of_the_pack_as_they_were(pack):
    found = [pack["input_ids"][path].tolist() for path in supervised_paths(pack)]
    assert len(found) == self_check.EXAMPLES
    assert all(tokens in [example for example, _ in EXAMPLES] for tokens in found)
    assert sum(tokens[:3] == [5, 6, 7] for tokens in found) >= 2, "a shared prefix must be among them"


def columns_changed(change):
    """A fault in the columns on their way to the card."""

    def plant(monkeypatch):
        original = self_check.lay_out

        def laid(columns):
            copies = {name: column.copy() for name, column in columns.items()}
            change(copies)
            return original(copies)

        monkeypatch.setattr(self_check, "lay_out", laid)

    return plant


def batch_changed(change):
    """A fault in the laid-out micro-batch."""

    def plant(monkeypatch):
        original = self_check.lay_out
        monkeypatch.setattr(self_check, "lay_out", lambda columns: change(original(columns)))

    return plant


def everything_is_seen(c):
    c["subtree_end"][:] = LENGTH


def one_token_too_much_is_seen(c):
    c["subtree_end"][:] = np.minimum(c["subtree_end"] + 1, LENGTH)


def two_tokens_too_few_are_seen(c):
    """One too few would be the last one, from which nothing is predicted."""
    c["subtree_end"][:] = np.maximum(c["subtree_end"] - 2, np.arange(LENGTH) + 1)


def positions_run_on(c):
    c["position_ids"][:] = np.arange(LENGTH)


def branches_begin_at_zero(c):
    falls = np.flatnonzero(np.diff(c["position_ids"][0]) < 0) + 1
    for first, last in zip(falls, [*falls[1:], LENGTH], strict=True):
        c["position_ids"][0, first:last] -= c["position_ids"][0, first]


def labels_one_early(c):
    c["shift_labels"][:] = np.roll(c["shift_labels"], -1)


def labels_not_shifted(c):
    c["shift_labels"][:] = np.where(c["shift_labels"] == IGNORE, IGNORE, c["input_ids"])


def the_question_is_supervised(c):
    c["shift_labels"][0, 1] = 7


def the_future_is_seen(monkeypatch):
    original = attention._inputs_of
    monkeypatch.setattr(
        attention,
        "_inputs_of",
        lambda group, **kw: original(replace(group, key_positions=group.key_positions - 1), **kw),
    )


def ancestors_are_lost(monkeypatch):
    original = batch._chunks_of

    def own_keys_only(ends, *, size):
        return [replace(c, keys=c.keys[c.keys >= c.first]) for c in original(ends, size=size)]

    monkeypatch.setattr(batch, "_chunks_of", own_keys_only)


def what_only_fills_up_is_seen(found):
    return replace(
        found,
        groups=tuple(replace(g, key_ends=torch.where(g.key_ends == 0, LENGTH, g.key_ends)) for g in found.groups),
    )


def key_heads_are_mixed_up(monkeypatch):
    original = attention._key_indices
    monkeypatch.setattr(attention, "_key_indices", lambda group, *, kv_heads: original(group, kv_heads=kv_heads) ^ 1)


def rotation_goes_backwards(monkeypatch):
    original = packed.rotate
    monkeypatch.setattr(packed, "rotate", lambda x, cos, sin, *, back=False: original(x, cos, sin, back=not back))


def rotation_is_not_undone(monkeypatch):
    original = packed.rotate
    monkeypatch.setattr(packed, "rotate", lambda x, cos, sin, *, back=False: x if back else original(x, cos, sin))


def copies_of_the_adapter_are_old(monkeypatch):
    monkeypatch.setattr(packed, "refresh_copies", lambda _groups: None)


def keys_of_another_place_are_read(monkeypatch):
    original = attention.TreeAttention.of.__func__

    def of(cls, groups, **kw):
        tree = original(cls, groups, **kw)
        return replace(tree, key_indices=tree.key_indices.roll(2))

    monkeypatch.setattr(attention.TreeAttention, "of", classmethod(of))


def norms_are_rounded(monkeypatch):
    original = packed.Norm.again
    monkeypatch.setattr(
        packed.Norm, "again", lambda self, x, reciprocal: original(self, x, reciprocal.bfloat16().to(reciprocal))
    )


def the_residual_stream_is_rounded(monkeypatch):
    original = packed.PackedBlock.__call__
    monkeypatch.setattr(
        packed.PackedBlock, "__call__", lambda self, x, *rest: original(self, x.bfloat16().to(x), *rest)
    )


def head_changed(change):
    """A fault in the loss of the head's chunks."""

    def plant(monkeypatch):
        original = loss.summed_cross_entropy

        def changed(hidden, head, labels, *, weights, chunk):
            return change(
                lambda h, t: original(h, head, t, weights=weights[: len(t)], chunk=chunk), hidden, labels, chunk
            )

        monkeypatch.setattr(loss, "summed_cross_entropy", changed)

    return plant


def the_last_chunk_is_left_out(head, hidden, labels, chunk):
    return head(hidden[: len(labels) // chunk * chunk], labels[: len(labels) // chunk * chunk])


def chunks_overlap(head, hidden, labels, chunk):
    return head(hidden, labels) + head(hidden[:1], labels[:1])


def hidden_states_are_rounded(head, hidden, labels, chunk):
    return head(hidden.bfloat16().to(hidden), labels)


def the_gradient_is_doubled(head, hidden, labels, chunk):
    exact = head(hidden, labels)
    return 2 * exact - exact.detach()


def the_scale_is_forgotten(monkeypatch):
    monkeypatch.setattr(linear.LinearGroup, "_scaled", lambda _self, narrow, **_: narrow)


def dropout_is_left_on(monkeypatch):
    monkeypatch.setattr(linear.LinearGroup, "read", lambda _self, x, **_: linear.Input(x * (x > -1), None))


FAULTS = {
    "mask: everything is seen": columns_changed(everything_is_seen),
    "mask: one token too much": columns_changed(one_token_too_much_is_seen),
    "mask: two tokens too few": columns_changed(two_tokens_too_few_are_seen),
    "mask: the future is seen": the_future_is_seen,
    "mask: ancestors are lost": ancestors_are_lost,
    "mask: filled-up keys are seen": batch_changed(what_only_fills_up_is_seen),
    "mask: key heads are mixed up": key_heads_are_mixed_up,
    "positions run on": columns_changed(positions_run_on),
    "positions: branches begin at zero": columns_changed(branches_begin_at_zero),
    "positions: not in the layout's order": batch_changed(lambda b: replace(b, position_ids=b.position_ids.roll(8))),
    "positions: rotated backwards": rotation_goes_backwards,
    "positions: rotation not undone": rotation_is_not_undone,
    "labels one early": columns_changed(labels_one_early),
    "labels not shifted": columns_changed(labels_not_shifted),
    "labels: a question is supervised": columns_changed(the_question_is_supervised),
    "labels: one is lost": batch_changed(
        lambda b: replace(b, supervised=b.supervised[1:], targets=b.targets[1:], weights=b.weights[1:])
    ),
    "labels: shared ones count once": batch_changed(lambda b: replace(b, weights=torch.ones_like(b.weights))),
    "labels: targets of a neighbour": batch_changed(lambda b: replace(b, targets=b.targets.roll(1))),
    "cache: old copies of the adapter": copies_of_the_adapter_are_old,
    "cache: keys of another place": keys_of_another_place_are_read,
    "dtype: norms in bfloat16": norms_are_rounded,
    "dtype: residual stream in bfloat16": the_residual_stream_is_rounded,
    "dtype: hidden states in bfloat16": head_changed(hidden_states_are_rounded),
    "head: the last chunk is left out": head_changed(the_last_chunk_is_left_out),
    "head: chunks overlap": head_changed(chunks_overlap),
    "head: the gradient is doubled": head_changed(the_gradient_is_doubled),
    "adapter: its scale is forgotten": the_scale_is_forgotten,
    "adapter: some inputs are dropped": dropout_is_left_on,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(reader, pack, monkeypatch, fault):
    assert compare(reader(), pack, dtype="float32", device="cpu").holds
    FAULTS[fault](monkeypatch)
    found = compare(reader(), pack, dtype="float32", device="cpu")
    assert not found.holds, found.describe()


@pytest.mark.parametrize("kind", ["lora_A", "lora_B"])
@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_gradients_that_cannot_be_compared_are_never_held_equal(reader, pack, monkeypatch, kind, value):
    model = reader()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = self_check._taken_gradient

    def spoiled(parameter):
        gradient = taken(parameter)
        return torch.full_like(gradient, value) if kind in names[id(parameter)] else gradient

    monkeypatch.setattr(self_check, "_taken_gradient", spoiled)
    found = compare(model, pack, dtype="float32", device="cpu")
    assert not found.holds, found.describe()


def test_where_our_blocks_are_wrong_pefts_own_layers_take_over(reader, pack, monkeypatch, caplog):
    model = reader()
    monkeypatch.setattr("torch.backends.cuda.enable_flash_sdp", lambda _on: None)
    monkeypatch.setattr("torch.backends.cuda.enable_mem_efficient_sdp", lambda _on: None)
    the_scale_is_forgotten(monkeypatch)
    found = make_sure_of_packs(model, pack, dtype="float32", device="cpu")
    assert found.holds
    assert "PEFT's own layers" in caplog.text
    assert all(block.parts is None for block in model.get_base_model().packed_blocks)


def test_where_the_packs_themselves_are_wrong_the_run_is_refused(reader, pack, monkeypatch):
    monkeypatch.setattr("torch.backends.cuda.enable_flash_sdp", lambda _on: None)
    monkeypatch.setattr("torch.backends.cuda.enable_mem_efficient_sdp", lambda _on: None)
    columns_changed(everything_is_seen)(monkeypatch)
    with pytest.raises(UserError, match=r"off from its examples alone.*--no-share-prefixes"):
        make_sure_of_packs(reader(), pack, dtype="float32", device="cpu")


def test_a_pack_without_answers_is_named(pack):
    empty = {**pack, "shift_labels": np.full(LENGTH, IGNORE)}
    with pytest.raises(UserError, match="supervises nothing"):
        supervised_paths(empty)
