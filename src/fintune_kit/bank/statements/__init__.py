"""Readers of what banks export, one file a format: transactions, and a reason for every line that is not one."""
