"""Stage 1: the rows of any dataset become conversations, and each row that does not has its reason on disk.

read/       files and hub datasets    -> rows
convert/    rows                      -> conversations: messages, repaired, whose roles alternate
rules/      conversations             -> marks on those that must not be learned, with the reason
choose/     the conversations left    -> a choice of them, divided into training and validation
batches.py  read to rules, where one row is enough: a function on batches, for processes, `datasets` and Ray
stage.py    calls these four in order, and writes the results
"""
