"""Choice: which N of the conversations that pass are kept (`scoring`, `selection`), and which validate (`split`)."""
