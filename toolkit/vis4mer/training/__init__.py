"""From a data set to a trained head: `vis4mer.extract`, `vis4mer.train` and `vis4mer.evaluate`.

Listed examples (`data`) become cached encoder tokens (`tokens`), on which a head is trained (`fit`) and judged
(`evaluation`). The modules here are the three functions, their settings, and what all stages share.
"""
