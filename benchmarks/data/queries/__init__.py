"""Readers of data sets of queries, one file each: they give the lines of the suite's own file of queries."""
