"""Where the questions of an evaluation come from. Every module here returns `tasks.Task` values.

validation    the conversations that were kept out of training
named         tasks that the user names: a benchmark, a file, the bank transactions
benchmarks    the finance benchmarks with a name, and their published definition
general       general knowledge and arithmetic, to see what was forgotten
published     scores that others report on the same questions
"""
