"""What people and scripts ask: commands and what they show."""
