"""Conversion: a row of columns becomes a conversation, or a refusal that says what was found in the row.

    {"instruction": "What is an ETF?", "output": "A fund."}
    -> [{"role": "user", "content": "What is an ETF?"}, {"role": "assistant", "content": "A fund."}]

`columns` knows which column plays which role, `turns` and `history` read lists of turns and texts that hold a history,
`repair` undoes damage to text, and `rows` does all of this for a file.
"""
