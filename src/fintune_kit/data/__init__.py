"""Stage 1: the rows of any dataset become conversations, and each row that does not has its reason on disk.

read/       files and hub datasets    -> rows
convert/    rows                      -> conversations: messages, repaired, whose roles alternate
rules/      conversations             -> which of them must not be learned, and why
choose/     the conversations left    -> the best of them, and which of these are for validation
stage.py    the order of these four, and what is written
"""
