"""What identifies somebody in a bank line becomes a placeholder, merchants stay, and what is written is searched again."""
