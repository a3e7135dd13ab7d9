"""Reading of contract.yaml: files of strangers, YAML with lines, and the loader that names every fault."""
