"""The values that everything else speaks in, frozen and made of plain data."""
