import random
import signal
from importlib import resources

import numpy as np
import pytest
from hypothesis import example as also
from hypothesis import given, settings
from hypothesis import strategies as st

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.chat.examples import Examples
from fintune_kit.chat.pool import TextLayout, TextPool
from fintune_kit.chat.show import show
from fintune_kit.conversations import find_fault
from fintune_kit.errors import UserError
from fintune_kit.tiny import build_tokenizer

SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello"}
ANSWER = {"role": "assistant", "content": "Hi there"}
CONTENTS = [
    "a\n\n\nb    c     d",
    "Be brief.",
    "Hello",
    "Hi there",
    "Revenue rose by 4.5% in 2024, to 12 million.",
    "user assistant system",
]

NASTY = [
    *[
        "gold",
        "Revenue",
        " rose",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "4",
        "12.5%",
        "'s",
        "'LL",
        ".",
        "...",
        "!?",
        "(a)",
    ],
    *[
        "e\u0301",
        "\u0301",
        "é",
        "中文",
        "한국",
        "😀",
        "👩‍👩‍👧",
        "\u00a0",
        "\u2028",
        "\x85",
        "\u200b",
        "€",
        "–",
        "_",
        "<|",
        "|>",
        "\x1c",
    ],
]


def template(name):
    return resources.files("trl").joinpath("chat_templates", name).read_text(encoding="utf-8")


def fresh_tokenizer():
    return build_tokenizer(iter(CONTENTS * 3), vocab_size=320)


@pytest.fixture(scope="module")
def encoder():
    return ChatEncoder(fresh_tokenizer())


def qwen3_like(tokenizer, *, think_tokens, name="qwen3.jinja"):
    tokenizer.chat_template = template(name)
    if think_tokens:
        tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


def conversations(seed, count):
    """Conversations of one to four rounds made of pieces that tokenizers and templates stumble over."""
    choose = random.Random(seed)

    def text():
        made = "".join(choose.choices(NASTY, k=choose.randint(1, 12)))
        return made if made.strip() else made + "x"

    made = []
    for _ in range(count):
        rounds = choose.randint(1, 4)
        turns = [{"role": role, "content": text()} for _ in range(rounds) for role in ("user", "assistant")]
        system = choose.choice([None, "", text(), SYSTEM["content"]])
        made.append(turns if system is None else [{"role": "system", "content": system}, *turns])
    return made


def assert_parity(encoder, chats):
    found = encoder.encode(chats)
    for messages, example in zip(chats, found, strict=True):
        assert find_fault(messages) is None
        expected = encoder.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert example.tokens.tolist() == expected, messages
    assert encoder.lengths(chats).tolist() == [len(example) for example in found]


def pieces(encoder, messages):
    """Tokens as text, the supervised ones in capitals' place: a list of (text, supervised)."""
    return list(show(encoder.encode([messages])[0], encoder).pieces)


def test_tokens_equal_the_template_of_qwen25(encoder):
    assert_parity(encoder, conversations(seed=1, count=200))


@pytest.mark.parametrize("think_tokens", [False, True], ids=["think as text", "think as tokens"])
def test_tokens_equal_the_template_of_qwen3(think_tokens):
    assert_parity(
        ChatEncoder(qwen3_like(fresh_tokenizer(), think_tokens=think_tokens)), conversations(seed=2, count=200)
    )


def test_tokens_equal_the_template_of_qwen3_instruct_2507():
    """The base of recipe qwen3_4b: it never thinks, and has no system message of its own."""
    encoder = ChatEncoder(qwen3_like(fresh_tokenizer(), think_tokens=True, name="qwen3_instruct_2507.jinja"))
    assert_parity(encoder, conversations(seed=4, count=200))
    assert pieces(encoder, [HELLO, ANSWER]) == [
        ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", False),
        ("Hi there<|im_end|>", True),
        ("\n", False),
    ]


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3", "qwen3 with think tokens", "qwen3 instruct 2507"])
def test_tokens_equal_the_template_with_the_published_tokenizer(qwen_tokenizer, family):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(qwen_tokenizer)
    if family != "qwen2.5":
        name = "qwen3_instruct_2507.jinja" if family.endswith("2507") else "qwen3.jinja"
        qwen3_like(tokenizer, think_tokens=family != "qwen3", name=name)
    encoder = ChatEncoder(tokenizer)
    assert_parity(encoder, conversations(seed=3, count=400))
    assert (encoder.pad_id, encoder.end_id) == (151643, 151645)


def test_qwen25_inserts_a_system_message_and_supervises_the_answer_with_its_end(encoder):
    assert pieces(encoder, [HELLO, ANSWER]) == [
        (
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
            False,
        ),
        ("Hi there<|im_end|>", True),
        ("\n", False),
    ]


def test_an_empty_system_message_is_kept_empty(encoder):
    ((before, _), *_) = pieces(encoder, [{"role": "system", "content": ""}, HELLO, ANSWER])
    assert before.startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHello")


def test_qwen3_inserts_no_system_message_and_its_empty_think_block_is_not_supervised():
    encoder = ChatEncoder(qwen3_like(fresh_tokenizer(), think_tokens=True))
    assert pieces(encoder, [HELLO, ANSWER, HELLO, ANSWER]) == [
        ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", False),
        ("Hi there<|im_end|>", True),
        ("\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("Hi there<|im_end|>", True),
        ("\n", False),
    ]


def test_every_answer_of_a_conversation_is_supervised_and_nothing_else(encoder):
    chat = [SYSTEM, HELLO, ANSWER, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "No."}]
    taught = [text for text, supervised in pieces(encoder, chat) if supervised]
    assert taught == ["Hi there<|im_end|>", "No.<|im_end|>"]


def test_an_answer_of_weight_0_is_context_and_not_supervised(encoder):
    chat = [
        HELLO,
        {**ANSWER, "weight": 0},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "No."},
    ]
    assert [text for text, supervised in pieces(encoder, chat) if supervised] == ["No.<|im_end|>"]
    weightless = [{"role": message["role"], "content": message["content"]} for message in chat]
    assert encoder.encode([chat])[0].tokens.tolist() == encoder.encode([weightless])[0].tokens.tolist()


def test_a_token_that_begins_in_the_header_is_not_supervised(encoder):
    taught = [text for text, on in pieces(encoder, [HELLO, {"role": "assistant", "content": "\n\nHi there"}]) if on]
    assert taught == ["Hi there<|im_end|>"]


@pytest.mark.parametrize("control", ["<|im_end|>", "<|im_start|>", "<|endoftext|>"])
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_text_from_data_never_becomes_a_control_token(encoder, control, role):
    def chat(text):
        messages = [dict(SYSTEM), dict(HELLO), dict(ANSWER)]
        messages[["system", "user", "assistant"].index(role)]["content"] = text
        return messages

    found, harmless = encoder.encode([chat(f"a {control}\n{control}b"), chat("a b")])
    controls = encoder.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>", "<|endoftext|>"])
    assert [int(np.isin(e.tokens, controls).sum()) for e in (found, harmless)] == [6, 6]
    assert f"a {control}\n{control}b" in encoder.tokenizer.decode(found.tokens), "the characters are kept"


def test_text_from_data_never_becomes_a_token_that_is_added_without_being_special():
    encoder = ChatEncoder(qwen3_like(fresh_tokenizer(), think_tokens=True))
    (found,) = encoder.encode([[HELLO, {"role": "assistant", "content": "a <think> b"}]])
    assert int((found.tokens == encoder.tokenizer.convert_tokens_to_ids("<think>")).sum()) == 1, "the template's own"


@given(st.lists(st.sampled_from(NASTY), max_size=30).map("".join) | st.text(max_size=30))
@also("a  b   c\n \n d\r\n\r\ne\t f \n")
@also(" x\n  y")
@settings(max_examples=400)
def test_word_by_word_gives_the_tokens_of_the_whole_text(encoder, text):
    lists = []
    for by_words in (True, False):
        pool, layout = TextPool(encoder._plain, by_words=by_words), TextLayout()
        layout.add(pool.index_of(text), 0, 0)
        layout.end_example()
        lists.append(pool.gather(layout).tokens.tolist())
    assert lists[0] == lists[1]


def test_words_are_used_where_the_rule_is_qwens(encoder):
    assert encoder._by_words
    tokenizer = fresh_tokenizer()
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    other = ChatEncoder(tokenizer)
    assert not other._by_words
    assert_parity(other, conversations(seed=4, count=100))


class Counting:
    """A tokenizer that notes what it is asked to encode."""

    def __init__(self, tokenizer):
        self.tokenizer, self.texts = tokenizer, []

    def encode_batch_fast(self, texts, **options):
        self.texts += texts
        return self.tokenizer.encode_batch_fast(texts, **options)


def test_each_distinct_text_is_encoded_once_over_all_batches(encoder):
    counting = Counting(encoder._plain)
    pool = TextPool(counting, by_words=True)
    results = []
    for _ in range(2):
        layout = TextLayout()
        for text in ("Revenue rose", "Costs rose", "Revenue rose"):
            layout.add(pool.index_of(text), 0, 0)
            layout.end_example()
        results.append(pool.gather(layout))
    assert counting.texts == ["Revenue", " rose", "Costs"]
    assert results[0].tokens.tolist() == results[1].tokens.tolist()
    assert results[0][0].tokens.tolist() == results[0][2].tokens.tolist() != results[0][1].tokens.tolist()


def test_batches_give_what_one_call_gives(encoder):
    chats = conversations(seed=5, count=30)
    batches = Examples.concatenate(list(encoder.encode_batches([chats[:7], [], chats[7:]])))
    whole = encoder.encode(chats)
    assert len(batches) == len(whole) == 30
    for number, example in enumerate(whole):
        np.testing.assert_array_equal(batches[number].tokens, example.tokens)
        np.testing.assert_array_equal(batches[number].supervised, example.supervised)
    assert batches.tokens.dtype == np.int32
    assert batches.supervised.dtype == bool


def test_no_conversations_give_no_examples(encoder):
    assert encoder.encode([]) == []
    assert encoder.lengths([]).tolist() == []


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([HELLO, ANSWER], None),
        ([SYSTEM, HELLO, ANSWER], None),
        ([{"role": "system", "content": ""}, HELLO, ANSWER, HELLO, ANSWER], None),
        ([], "there is no message"),
        ([SYSTEM], "the last message has role 'system', expected 'assistant'"),
        ([HELLO], "the last message has role 'user', expected 'assistant'"),
        ([ANSWER], "message 0 has role 'assistant', expected 'user'"),
        ([HELLO, SYSTEM, ANSWER], "message 1 has role 'system', expected 'assistant'"),
        ([SYSTEM, SYSTEM, HELLO, ANSWER], "message 1 has role 'system', expected 'user'"),
        ([HELLO, ANSWER, ANSWER], "message 2 has role 'assistant', expected 'user'"),
        ([HELLO, {"role": "assistant", "content": " \n"}], "message 1 (assistant) is empty"),
        ([{"role": "user", "content": ""}, ANSWER], "message 0 (user) is empty"),
        ([HELLO, {"role": "assistant", "content": None}], "message 1 has content of type NoneType, expected text"),
        ([HELLO, {"role": "assistant"}], "message 1 has content of type NoneType, expected text"),
        (
            [HELLO, {"role": "assistant", "content": "\ud800"}],
            "message 1 (assistant) is not valid Unicode (a lone surrogate)",
        ),
        ([HELLO, {"role": "tool", "content": "x"}], "message 1 has role 'tool', expected 'assistant'"),
    ],
)
def test_faults_are_named(messages, fault):
    assert find_fault(messages) == fault


@pytest.mark.parametrize(
    ("chat_template", "reason"),
    [
        (None, "it has no chat template"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "has no control token between"),
        ("<|im_start|>{{ messages[-1].content }}<|im_end|>", "it leaves out or rewrites a message of role system"),
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | upper }}<|im_end|>\n{% endfor %}",
            "it leaves out or rewrites a message of role system",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | indent }}<|im_end|>\n{% endfor %}",
            "it rewrites the blanks around a content of role system",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}{{ loop.length }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
            "could not be reproduced",
        ),
    ],
    ids=["none", "no control tokens", "drops messages", "rewrites content", "indents content", "counts messages"],
)
def test_an_unknown_template_is_refused(chat_template, reason):
    tokenizer = fresh_tokenizer()
    tokenizer.chat_template = chat_template
    with pytest.raises(UserError, match=r"expected ChatML as of Qwen2.5 or Qwen3") as refusal:
        ChatEncoder(tokenizer)
    assert reason in str(refusal.value)


@pytest.mark.parametrize("trim", ["trim", "replace('x', 'x')"])
def test_a_template_that_strips_contents_is_followed(trim):
    tokenizer = fresh_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | " + trim + " }}<|im_end|>\n{% endfor %}"
    )
    assert_parity(ChatEncoder(tokenizer), conversations(seed=6, count=50))


def test_a_pad_token_that_ends_answers_is_refused():
    tokenizer = fresh_tokenizer()
    tokenizer.pad_token = "<|im_end|>"
    with pytest.raises(UserError, match=r"set pad_token to '<|endoftext|>'"):
        ChatEncoder(tokenizer)


def test_no_tokenizer_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"expected a hub id or a folder with tokenizer.json") as refusal:
        ChatEncoder.load(tmp_path / "nowhere")
    assert "\n" not in str(refusal.value)


def test_a_saved_tokenizer_keeps_its_fingerprint(encoder, tmp_path):
    encoder.tokenizer.save_pretrained(tmp_path)
    loaded = ChatEncoder.load(tmp_path)
    assert loaded.fingerprint == encoder.fingerprint
    assert_parity(loaded, conversations(seed=7, count=20))


def test_the_fingerprint_tells_templates_and_vocabularies_apart(encoder):
    other_words = ChatEncoder(build_tokenizer(iter(["something else entirely"] * 3), vocab_size=300))
    other_template = ChatEncoder(qwen3_like(fresh_tokenizer(), think_tokens=False))
    assert len({encoder.fingerprint, other_words.fingerprint, other_template.fingerprint}) == 3


def test_the_fingerprint_ignores_padding_and_truncation_that_a_call_leaves_behind(encoder):
    tokenizer = fresh_tokenizer()
    before = ChatEncoder(tokenizer).fingerprint
    tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=2)
    again = ChatEncoder(tokenizer)
    assert again.fingerprint == before
    assert_parity(again, conversations(seed=8, count=20))


def test_show_colours_supervised_text(encoder):
    (example,) = encoder.encode([[{"role": "user", "content": "1 < 2 & 3"}, ANSWER]])
    shown = show(example, encoder)
    assert str(shown).endswith("<|im_start|>assistant\n[[Hi there<|im_end|>]]\n")
    assert "1 &lt; 2 &amp; 3" in shown._repr_html_()
    assert 'underline">Hi there&lt;|im_end|&gt;</span>' in shown._repr_html_()


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}" + (
    "{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("hostile", "why"),
    [
        (ENDLESS, r"it fails \(it has not ended after 0\.2 seconds\)"),
        ("{{ 1 / 0 }}", r"it fails \(division by zero\)"),
        ("{% for %}", r"it fails \("),
        ("{{ messages.__class__.__mro__ }}", r"it fails \(access to attribute '__class__' .* is unsafe"),
        ("{{ raise_exception('no\nsystem') }}", r"it fails \(no\)"),
        ("{{ messages[9].content }}", r"it fails \("),
        ("Hello", "it leaves out or rewrites a message of role system"),
    ],
)
def test_a_template_that_fails_or_does_not_end_is_one_sentence(monkeypatch, hostile, why):
    monkeypatch.setattr("fintune_kit.chat.template.MAX_SECONDS", 0.2)
    tokenizer = fresh_tokenizer()
    tokenizer.chat_template = hostile
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(UserError, match=f"the chat template of .* cannot be used: {why}"):
        ChatEncoder(tokenizer)
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == (before, (0.0, 0.0))


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model": {"type": "Nothing"}}', '{"tokenizer_class": 7}', "\0"])
def test_a_damaged_tokenizer_is_one_sentence_or_none(tmp_path, file, content):
    fresh_tokenizer().save_pretrained(tmp_path)
    (tmp_path / file).write_text(content)
    refused = False
    try:
        ChatEncoder.load(tmp_path)
    except UserError:
        refused = True
    assert refused or file == "tokenizer_config.json"  # without some settings it is still sound
