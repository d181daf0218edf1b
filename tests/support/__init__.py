"""Networks and data that tests make for themselves."""
