"""Examples become packs here: rows of positions in which a shared prefix is written once."""
