"""The measures: functions on NumPy arrays, no files, no frameworks."""
