"""One file for each system that is measured: how it is started, where it is asked, which processes are its."""
