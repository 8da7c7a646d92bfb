"""Bank statements: read, made private, labelled by merchant, and turned into conversations about categories.

a bank's file -> statements/ -> privacy/ -> conversations         transactions -> merchants -> labels
synthetic/ makes statements of nobody, with labels, from the taxonomy's merchants
"""
