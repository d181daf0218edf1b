"""The sources of networks, one library each."""
