"""A CT volume as a job: slice by slice, with a running summary. README.md has the commands."""
