"""What is there to be served: model folders, ServedModel documents, and what follows from both."""
