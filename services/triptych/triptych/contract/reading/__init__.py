"""Reading of contract.yaml: untrusted files, YAML with lines, and the loader that names every fault."""
