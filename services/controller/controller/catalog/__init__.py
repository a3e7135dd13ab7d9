"""The catalog of models to serve: built from model folders and ServedModel documents."""
