"""Tests of data sets of other tools."""
