"""The study's preset from end to end, on what stands in for the hub: no account, random weights."""
