"""What the peers run: programs of their own, in environments of their own. They import nothing of this project."""
