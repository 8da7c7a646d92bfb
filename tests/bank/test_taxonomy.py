"""The categories and merchants that statements are made of."""

import itertools

from fintune_kit.bank.taxonomy import REGIONS, load_taxonomy, local_merchant

ALL = [merchant for c in load_taxonomy().categories for g in c.groups for merchant in g.merchants]


def test_the_categories_that_sample_rows_use_are_all_there() -> None:
    names = load_taxonomy().names
    assert len(names) == 20
    assert set(names) >= {
        "Food & Dining", "Groceries", "Transport", "Housing & Utilities", "Shopping", "Health", "Income",
        "Subscriptions", "Travel", "Fees & Cash",
    }  # fmt: skip


def test_each_category_says_what_it_is_and_what_it_is_not() -> None:
    for category in load_taxonomy().categories:
        assert len(category.definition) > 40, category.name
        assert len(category.hard_cases) >= 3, category.name


def test_no_merchant_is_on_both_sides_not_even_as_a_part_of_another() -> None:
    train = [merchant.name for merchant in ALL if merchant.split == "train"]
    unseen_names = [merchant.name for merchant in ALL if merchant.split == "unseen"]
    assert len(unseen_names) > 200, "too few unseen merchants to tell anything"
    for seen, unseen in itertools.product(train, unseen_names):
        assert f" {seen} " not in f" {unseen} ", (seen, unseen)


def test_every_region_has_unseen_merchants_in_every_category() -> None:
    for category, region in itertools.product(load_taxonomy().names, REGIONS):
        unseen = [m for m in ALL if m.category == category and m.split == "unseen" and region in m.regions]
        assert len(unseen) >= 2, (category, region)


def test_a_small_business_is_unseen_by_its_first_word() -> None:
    taxonomy = load_taxonomy()
    assert local_merchant(word="RAVEN", noun="DINER", category="Food & Dining", taxonomy=taxonomy).split == "unseen"
    assert local_merchant(word="HARBOR", noun="DINER", category="Food & Dining", taxonomy=taxonomy).split == "train"
    assert not set(taxonomy.local_words["train"]) & set(taxonomy.local_words["unseen"])


def test_other_tools_labels_are_understood_and_unknown_ones_are_not_guessed() -> None:
    taxonomy = load_taxonomy()
    assert taxonomy.category_of("Coffee Shops ") == "Food & Dining"
    assert taxonomy.category_of("income") == "Income"
    assert taxonomy.category_of("Things of Aunt Mary") is None
