"""The card that training runs on: it can behave like a smaller card, and it is tested for exact packs."""
