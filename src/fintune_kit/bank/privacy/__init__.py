"""What identifies somebody in a bank line becomes a placeholder, merchants stay; what is written is searched again."""
