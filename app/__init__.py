"""The recipe chatbot: a page and a command that answer from the adapter of any revision."""
