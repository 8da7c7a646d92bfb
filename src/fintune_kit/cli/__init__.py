"""The command line, one file a verb: each reads its flags, calls what the notebooks call, and prints the result."""
