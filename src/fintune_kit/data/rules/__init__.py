"""Rules: which conversations must not be learned. Each rule gives the indices that break it, and what it found there.

`quality` judges a conversation alone. `duplicates` compares conversations, with the help of `prompts`, `neighbours`
and `near_duplicates`. `finance` asks what a question is about, `contamination` whether a text is kept for evaluation.
`words` divides texts into words, and `terms` lists the words that these rules know.
"""
