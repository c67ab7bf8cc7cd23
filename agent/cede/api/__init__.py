"""The agent's HTTP interface on unix sockets, and its client."""
