"""Programs of the peers. They run in separate environments and import nothing of this project."""
