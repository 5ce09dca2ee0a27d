"""Generator of the sample movies: somebody leaves a cottage, and much later somebody comes home.

A movie is decided before it is drawn: `scenes` describes scripts, `story` and `questions` write them, `film` renders
them, and the other modules draw what is in them.
"""
