"""The card that training runs on: made to behave as a smaller one, and made to prove that packs are exact on it."""
