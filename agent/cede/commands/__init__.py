"""What each command does and prints: the same for the command line in its own process and for the agent."""
