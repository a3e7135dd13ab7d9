"""Systems that are measured, one file each: how it is started, its address, and its processes."""
