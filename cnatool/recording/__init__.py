"""The writing API: stores from any framework."""
