from fintune_kit.plan.counts import PackCounts, typical_counts
from fintune_kit.recipes import p100


def test_counts_are_read_from_the_manifest_of_the_packs():
    """1,000 packs of 2,048 positions that hold 3,481,600 tokens stand for 1.7 ordinary sequences each."""
    train = {
        "examples": 25_000,
        "packs": 1_000,
        "supervised_tokens": 400_000,
        "head_positions": 250_000,
        "plain_tokens": 3_481_600,
        "written_tokens": 2_040_000,
    }
    found = PackCounts.of_manifest({"max_length": 2048, "counts": {"train": train, "validation": {}}})
    assert found == PackCounts(
        packs=1_000, head_positions=250_000, examples_per_pack=25.0, plain_sequences_per_pack=1.7
    )


def test_packs_that_are_not_quite_full_count_as_ordinary_ones():
    train = {"examples": 80, "packs": 10, "supervised_tokens": 99, "plain_tokens": 20_000}
    found = PackCounts.of_manifest({"max_length": 2048, "counts": {"train": train}})
    assert found.plain_sequences_per_pack == 1.0


def test_in_packs_of_earlier_versions_each_supervised_token_has_a_position_of_its_own():
    train = {"examples": 80, "packs": 10, "supervised_tokens": 99, "plain_tokens": 20_000}
    assert PackCounts.of_manifest({"max_length": 2048, "counts": {"train": train}}).head_positions == 99


def test_before_there_are_packs_their_counts_are_a_range():
    low, high = typical_counts(p100()).known_to
    assert low < 1 < high
