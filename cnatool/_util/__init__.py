"""What any room may use: observers, messages, names, threads, files, memory."""
