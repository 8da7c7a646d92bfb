"""Talks to Kaggle: every call of this package to Kaggle is made here, and every answer is checked here.

client      the calls, by name: push a kernel, ask for its state, list its files
door        each call goes through it: a timeout, no printing, an error that is a sentence
replies     reads Kaggle's answers, and knows the remedy for each known refusal
download    fetches a large file, and continues after an interruption
"""
