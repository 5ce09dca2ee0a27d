"""The Cottage: procedural little movies in which somebody leaves home, and much later somebody comes home."""
