"""The policy's files -> a Policy: parse, validate, build, merge, watch."""
