"""The sources of an evaluation's questions. Each of them makes `tasks.Task` values.

validation    the validation split of the conversations
named         tasks that the user names: a benchmark, a file, the bank transactions
benchmarks    the known finance benchmarks, as published
general       general knowledge and arithmetic, to see whether the adapter has forgotten something
published     scores that others report on the same questions
"""
