"""Stage 1: rows of any finance dataset become conversations, and every row that does not has its reason on disk.

sources, readers -> columns, turns, conversation -> repair -> quality, duplicates, finance, contamination -> selection
`stage.prepare_conversations` is all of it; `intake` and `report` are its first and last part.
"""
