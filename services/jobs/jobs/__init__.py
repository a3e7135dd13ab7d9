"""Jobs and batches: rows by the million, or one slow answer, in parts that are committed one by one."""
