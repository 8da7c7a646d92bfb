"""Stage 3: an adapter and its log from packs, the same on any machine, resumable at any moment."""
