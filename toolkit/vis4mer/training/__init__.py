"""Extraction of tokens, training and evaluation; `vis4mer.extract`, `vis4mer.train` and `vis4mer.evaluate`."""
