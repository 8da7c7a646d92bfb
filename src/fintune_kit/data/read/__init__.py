"""Reading: what the user names as a source (a file, a folder, a hub dataset) becomes rows, one value a column.

A row that cannot be read is a row too, with its fault and where it stands, so no row is lost in silence.
"""
