"""Stage 1: rows of any finance dataset become conversations, and every row that does not has its reason on disk.

sources -> readers -> columns (conversation) -> repair -> quality (neighbours, finance, contamination) -> selection -> stage
"""
