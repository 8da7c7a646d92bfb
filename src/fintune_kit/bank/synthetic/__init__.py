"""Statements of made-up people: who pays whom, when and how much, and how their bank writes it."""
