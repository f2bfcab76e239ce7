"""Rows into arrays: idioms that several subjects share."""
