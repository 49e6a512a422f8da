"""`isthmus.Recommender` compared with other recommenders on the same users."""
