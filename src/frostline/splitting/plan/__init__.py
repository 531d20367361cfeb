"""From recordings to a plan: two batch sizes and two modes become a frontier, a recipe and a head."""
