"""From a CSV of movies or a benchmark's split files to listed examples, and to the movies that a run uses."""
