"""The command line, one file for each verb. A verb reads its flags, calls a function of the library, and prints."""
