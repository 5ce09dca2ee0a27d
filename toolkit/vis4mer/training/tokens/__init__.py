"""From listed examples to cached encoder tokens, and to the windows of tokens that a head takes."""
