"""Reading: a source that the user names (a file, a folder, a hub dataset) becomes rows with one value a column.

A row that cannot be read is a row too. It has a fault and the line where it stands, so no row is lost in silence.
"""
