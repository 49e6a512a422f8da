"""How well `isthmus.Recommender` recommends, beside others, on the same users."""
